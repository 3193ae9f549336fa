//! GetBucketLifecycleConfiguration, PutBucketLifecycleConfiguration, DeleteBucketLifecycle. A document with a mistake is refused
//! whole, and one that moves objects to another storage class too: there is only one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use annulus_common::lifecycle::{
    Expiration, Filter, FilterForm, Lifecycle, NEWER_VERSIONS_MAX, NoncurrentExpiration, RULE_ID_CHARS_MAX, RULES_MAX,
    Rule,
};
use annulus_common::map::BucketChange;
use annulus_common::map::change::DOCUMENT_BYTES_MAX;
use http::StatusCode;
use s3s::dto::{
    AbortIncompleteMultipartUpload, DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput, ExpirationStatus,
    GetBucketLifecycleConfigurationInput, GetBucketLifecycleConfigurationOutput, LifecycleExpiration, LifecycleRule,
    LifecycleRuleAndOperator, LifecycleRuleFilter, NoncurrentVersionExpiration, PutBucketLifecycleConfigurationInput,
    PutBucketLifecycleConfigurationOutput, Tag, Timestamp, TransitionDefaultMinimumObjectSize,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::body::too_long;
use super::error::{invalid_value, s3_error, with_status};
use super::headers::timestamp;
use super::{Gateway, dto_size};

/// The longest prefix: as long as a key.
const PREFIX_BYTES_MAX: usize = 1_024;

/// Nothing below 128 KiB is moved to another class, as nothing is moved at all.
const LEAST_SIZE: &str = TransitionDefaultMinimumObjectSize::ALL_STORAGE_CLASSES_128K;

const DAY_MS: i128 = 24 * 3_600 * 1_000;

pub(super) async fn get_bucket_lifecycle_configuration(
    gateway: &Gateway,
    req: S3Request<GetBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let lifecycle = bucket.config.lifecycle.as_ref().ok_or_else(|| {
        with_status(
            S3ErrorCode::Custom("NoSuchLifecycleConfiguration".into()),
            StatusCode::NOT_FOUND,
            "The lifecycle configuration does not exist",
        )
    })?;
    let rules = lifecycle.rules.iter().map(dto_rule).collect();
    let least = TransitionDefaultMinimumObjectSize::from_static(LEAST_SIZE);
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
        rules: Some(rules),
        transition_default_minimum_object_size: Some(least),
    }))
}

pub(super) async fn put_bucket_lifecycle_configuration(
    gateway: &Gateway,
    req: S3Request<PutBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
    let input = req.input;
    let least = check_least_size(input.transition_default_minimum_object_size)?;
    let document = input.lifecycle_configuration.ok_or_else(|| s3_error!(MalformedXML))?;
    let lifecycle = lifecycle_of(document.rules)?;
    gateway.configure(&input.bucket, BucketChange::Lifecycle(Some(Arc::new(lifecycle)))).await?;
    Ok(S3Response::new(PutBucketLifecycleConfigurationOutput { transition_default_minimum_object_size: Some(least) }))
}

/// The size below which nothing is moved: S3's default, which is answered whoever asks, as clients compare it.
fn check_least_size(asked: Option<TransitionDefaultMinimumObjectSize>) -> S3Result<TransitionDefaultMinimumObjectSize> {
    match asked.as_ref().map_or(LEAST_SIZE, TransitionDefaultMinimumObjectSize::as_str) {
        LEAST_SIZE => Ok(TransitionDefaultMinimumObjectSize::from_static(LEAST_SIZE)),
        TransitionDefaultMinimumObjectSize::VARIES_BY_STORAGE_CLASS => {
            Err(s3_error!(NotImplemented, "Transitions are not implemented: all storage classes store alike"))
        }
        other => Err(s3_error!(InvalidRequest, "Invalid TransitionDefaultMinimumObjectSize found: {other}")),
    }
}

pub(super) async fn delete_bucket_lifecycle(
    gateway: &Gateway,
    req: S3Request<DeleteBucketLifecycleInput>,
) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
    gateway.configure(&req.input.bucket, BucketChange::Lifecycle(None)).await?;
    Ok(S3Response::new(DeleteBucketLifecycleOutput::default()))
}

fn lifecycle_of(rules: Vec<LifecycleRule>) -> S3Result<Lifecycle> {
    if rules.is_empty() || rules.len() > RULES_MAX {
        return Err(s3_error!(MalformedXML));
    }
    let rules: Vec<Rule> = rules.into_iter().map(rule_of).collect::<S3Result<_>>()?;
    let mut ids = BTreeSet::new();
    if let Some(twice) = rules.iter().find(|rule| !ids.insert(rule.id.as_str())) {
        let message = "Rule ID must be unique. Found same ID for more than one rule";
        return Err(invalid_value("ID", &twice.id, message));
    }
    let lifecycle = Lifecycle { rules };
    let stored = postcard::to_allocvec(&lifecycle).map_err(|error| s3_error!(error, InternalError))?;
    if stored.len() > DOCUMENT_BYTES_MAX {
        return Err(too_long(DOCUMENT_BYTES_MAX as u64));
    }
    Ok(lifecycle)
}

fn rule_of(rule: LifecycleRule) -> S3Result<Rule> {
    let moves = refuse_mistaken_transitions(&rule)?;
    let id = rule.id.filter(|id| !id.is_empty()).unwrap_or_else(|| hex::encode(rand::random::<[u8; 16]>()));
    if id.chars().count() > RULE_ID_CHARS_MAX {
        let message = format!("ID length should not exceed allowed limit of {RULE_ID_CHARS_MAX}");
        return Err(invalid_value("ID", &id, message));
    }
    let enabled = match rule.status.as_str() {
        ExpirationStatus::ENABLED => true,
        ExpirationStatus::DISABLED => false,
        _ => return Err(s3_error!(MalformedXML)),
    };
    let rule = Rule {
        id,
        enabled,
        filter: filter_of(rule.prefix, rule.filter)?,
        expiration: rule.expiration.map(|expiration| expiration_of(&expiration)).transpose()?.flatten(),
        noncurrent: rule.noncurrent_version_expiration.map(|noncurrent| noncurrent_of(&noncurrent)).transpose()?,
        abort_upload_days: rule.abort_incomplete_multipart_upload.map(|abort| abort_days(&abort)).transpose()?,
    };
    if moves {
        return Err(s3_error!(NotImplemented, "Transitions are not implemented: all storage classes store alike"));
    }
    check_actions(&rule)?;
    Ok(rule)
}

/// Whether the rule has transitions. Their mistakes are told as mistakes: no other server would take such a document either.
fn refuse_mistaken_transitions(rule: &LifecycleRule) -> S3Result<bool> {
    let moves = rule.transitions.as_deref().unwrap_or_default();
    let noncurrent = rule.noncurrent_version_transitions.as_deref().unwrap_or_default();
    for to in moves {
        if to.storage_class.is_none() || to.days.is_some() == to.date.is_some() {
            return Err(s3_error!(MalformedXML));
        }
        to.date.as_ref().map(midnight).transpose()?;
        if let Some(days) = to.days.filter(|days| *days < 0) {
            let message = "'Days' for Transition action must be nonnegative";
            return Err(invalid_value("Days", &days.to_string(), message));
        }
    }
    if noncurrent.iter().any(|to| to.storage_class.is_none() || to.noncurrent_days.is_none()) {
        return Err(s3_error!(MalformedXML));
    }
    Ok(!moves.is_empty() || !noncurrent.is_empty())
}

fn check_actions(rule: &Rule) -> S3Result {
    if rule.expiration.is_none() && rule.noncurrent.is_none() && rule.abort_upload_days.is_none() {
        return Err(s3_error!(InvalidRequest, "At least one action needs to be specified in a rule"));
    }
    if rule.filter.needs_object() {
        if rule.abort_upload_days.is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "AbortIncompleteMultipartUpload cannot be specified with Tags or sizes"
            ));
        }
        if rule.expiration == Some(Expiration::DeleteMarker) {
            return Err(s3_error!(InvalidRequest, "ExpiredObjectDeleteMarker cannot be specified with Tags or sizes"));
        }
    }
    Ok(())
}

fn filter_of(prefix: Option<String>, filter: Option<LifecycleRuleFilter>) -> S3Result<Filter> {
    let filter = match (prefix, filter) {
        (Some(prefix), None) => Filter { form: FilterForm::Legacy, prefix: Some(prefix), ..Filter::default() },
        (None, Some(filter)) => all_of(filter)?,
        (Some(_), Some(_)) | (None, None) => return Err(s3_error!(MalformedXML)),
    };
    if filter.prefix.as_ref().is_some_and(|prefix| prefix.len() > PREFIX_BYTES_MAX) {
        return Err(s3_error!(InvalidRequest, "The maximum size of a prefix is {PREFIX_BYTES_MAX}."));
    }
    match (filter.size_greater, filter.size_less) {
        (Some(greater), Some(less)) if less <= greater => Err(s3_error!(
            InvalidRequest,
            "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'."
        )),
        _ => Ok(filter),
    }
}

/// Conditions beside an `And`, and several without one, all have to hold.
fn all_of(filter: LifecycleRuleFilter) -> S3Result<Filter> {
    let form = if filter.and.is_some() { FilterForm::And } else { FilterForm::One };
    let and = filter.and.unwrap_or_default();
    let mut prefixes = [filter.prefix, and.prefix].into_iter().flatten();
    // Of two prefixes that both hold, the longer one says it all.
    let prefix = match (prefixes.next(), prefixes.next()) {
        (Some(one), Some(other)) if one.starts_with(&other) => Some(one),
        (Some(one), Some(other)) if other.starts_with(&one) => Some(other),
        (Some(_), Some(_)) => return Err(s3_error!(MalformedXML)),
        (prefix, _) => prefix,
    };
    let mut tags = BTreeMap::new();
    for tag in filter.tag.into_iter().chain(and.tags.unwrap_or_default()) {
        let name = tag.key.ok_or_else(|| s3_error!(MalformedXML))?;
        if tags.insert(name, tag.value.unwrap_or_default()).is_some() {
            return Err(s3_error!(InvalidRequest, "Duplicate Tag Keys are not allowed."));
        }
    }
    let greater = [filter.object_size_greater_than, and.object_size_greater_than].into_iter().flatten().max();
    let less = [filter.object_size_less_than, and.object_size_less_than].into_iter().flatten().min();
    let bytes = |name: &'static str| {
        let negative =
            move |bound: i64| invalid_value(name, &bound.to_string(), format!("'{name}' must be nonnegative"));
        move |bound: i64| u64::try_from(bound).map_err(|_| negative(bound))
    };
    Ok(Filter {
        form,
        prefix,
        tags,
        size_greater: greater.map(bytes("ObjectSizeGreaterThan")).transpose()?,
        size_less: less.map(bytes("ObjectSizeLessThan")).transpose()?,
    })
}

/// Exactly one way to expire. `ExpiredObjectDeleteMarker` that is false asks for nothing.
fn expiration_of(expiration: &LifecycleExpiration) -> S3Result<Option<Expiration>> {
    let marker = expiration.expired_object_delete_marker.unwrap_or(false);
    match (expiration.days, expiration.date.as_ref(), marker) {
        (Some(days), None, false) => positive("Days", "Expiration", days).map(|days| Some(Expiration::Days(days))),
        (None, Some(date), false) => midnight(date).map(|at_ms| Some(Expiration::Date(at_ms))),
        (None, None, true) => Ok(Some(Expiration::DeleteMarker)),
        (None, None, false) if expiration.expired_object_delete_marker.is_some() => Ok(None),
        _ => Err(s3_error!(MalformedXML)),
    }
}

fn midnight(date: &Timestamp) -> S3Result<u64> {
    let at_ms = OffsetDateTime::from(date.clone()).unix_timestamp_nanos() / 1_000_000;
    match u64::try_from(at_ms) {
        Ok(ms) if at_ms % DAY_MS == 0 => Ok(ms),
        _ => Err(invalid_value("Date", &text_of(date), "'Date' must be at midnight GMT")),
    }
}

fn noncurrent_of(noncurrent: &NoncurrentVersionExpiration) -> S3Result<NoncurrentExpiration> {
    let days = noncurrent.noncurrent_days.ok_or_else(|| s3_error!(MalformedXML))?;
    let newer = noncurrent.newer_noncurrent_versions.map(|newer| match u32::try_from(newer) {
        Ok(newer @ 1..=NEWER_VERSIONS_MAX) => Ok(newer),
        _ => {
            let message = format!("'NewerNoncurrentVersions' must be an integer between 1 and {NEWER_VERSIONS_MAX}");
            Err(invalid_value("NewerNoncurrentVersions", &newer.to_string(), message))
        }
    });
    let days = positive("NoncurrentDays", "NoncurrentVersionExpiration", days)?;
    Ok(NoncurrentExpiration { days, newer: newer.transpose()? })
}

fn abort_days(abort: &AbortIncompleteMultipartUpload) -> S3Result<u32> {
    let days = abort.days_after_initiation.ok_or_else(|| s3_error!(MalformedXML))?;
    positive("DaysAfterInitiation", "AbortIncompleteMultipartUpload", days)
}

/// Days that the element `name` of an action gives.
fn positive(name: &str, action: &str, days: i32) -> S3Result<u32> {
    match u32::try_from(days) {
        Ok(days) if days > 0 => Ok(days),
        _ => {
            let message = format!("'{name}' for {action} action must be a positive integer");
            Err(invalid_value(name, &days.to_string(), message))
        }
    }
}

/// A date as documents write it.
fn text_of(date: &Timestamp) -> String {
    OffsetDateTime::from(date.clone()).format(&Rfc3339).unwrap_or_default()
}

fn dto_rule(rule: &Rule) -> LifecycleRule {
    let status = if rule.enabled { ExpirationStatus::ENABLED } else { ExpirationStatus::DISABLED };
    let days = |days: u32| i32::try_from(days).unwrap_or(i32::MAX);
    let is_legacy = rule.filter.form == FilterForm::Legacy;
    LifecycleRule {
        abort_incomplete_multipart_upload: rule
            .abort_upload_days
            .map(|after| AbortIncompleteMultipartUpload { days_after_initiation: Some(days(after)) }),
        expiration: rule.expiration.map(|expiration| match expiration {
            Expiration::Days(after) => LifecycleExpiration { days: Some(days(after)), ..Default::default() },
            Expiration::Date(at_ms) => LifecycleExpiration { date: Some(timestamp(at_ms)), ..Default::default() },
            Expiration::DeleteMarker => {
                LifecycleExpiration { expired_object_delete_marker: Some(true), ..Default::default() }
            }
        }),
        filter: (!is_legacy).then(|| dto_filter(&rule.filter)),
        id: Some(rule.id.clone()),
        noncurrent_version_expiration: rule.noncurrent.map(|noncurrent| NoncurrentVersionExpiration {
            newer_noncurrent_versions: noncurrent.newer.map(days),
            noncurrent_days: Some(days(noncurrent.days)),
        }),
        noncurrent_version_transitions: None,
        prefix: rule.filter.prefix.clone().filter(|_| is_legacy),
        status: ExpirationStatus::from_static(status),
        transitions: None,
    }
}

fn dto_filter(filter: &Filter) -> LifecycleRuleFilter {
    let mut tags = filter.tags.iter().map(|(key, value)| Tag { key: Some(key.clone()), value: Some(value.clone()) });
    let (greater, less) = (filter.size_greater.map(dto_size), filter.size_less.map(dto_size));
    let prefix = filter.prefix.clone();
    if filter.form == FilterForm::And {
        let tags: Vec<Tag> = tags.collect();
        let and = LifecycleRuleAndOperator {
            object_size_greater_than: greater,
            object_size_less_than: less,
            prefix,
            tags: (!tags.is_empty()).then_some(tags),
        };
        return LifecycleRuleFilter { and: Some(and), ..Default::default() };
    }
    LifecycleRuleFilter {
        and: None,
        object_size_greater_than: greater,
        object_size_less_than: less,
        prefix,
        tag: tags.next(),
    }
}
