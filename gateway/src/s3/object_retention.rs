//! GetObjectRetention and PutObjectRetention.

use annulus_common::object::{AttributeChange, Retention, RetentionMode};
use s3s::dto::{
    Date, GetObjectRetentionInput, GetObjectRetentionOutput, ObjectLockRetention, ObjectLockRetentionMode,
    PutObjectRetentionInput, PutObjectRetentionOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::delete_object::bypasses;
use super::error::s3_error;
use super::find_object::{Place, find_object, find_unmarked};
use super::headers::timestamp;
use super::{Gateway, access, lock};
use crate::auth::facts_of_retention;

pub(super) async fn get_object_retention(
    gateway: &Gateway,
    req: S3Request<GetObjectRetentionInput>,
) -> S3Result<S3Response<GetObjectRetentionOutput>> {
    let (access, input) = (access(&req.extensions)?, &req.input);
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    let (bucket, found) = find_object(gateway, access, place, access.action()).await?;
    lock::check_bucket(&bucket)?;
    let retention = found.object.attributes.retention.ok_or_else(lock::none)?;
    let retention = ObjectLockRetention {
        mode: Some(ObjectLockRetentionMode::from_static(retention.mode.name())),
        retain_until_date: Some(Date::from(timestamp(retention.until_ms))),
    };
    Ok(S3Response::new(GetObjectRetentionOutput { retention: Some(retention) }))
}

pub(super) async fn put_object_retention(
    gateway: &Gateway,
    req: S3Request<PutObjectRetentionInput>,
) -> S3Result<S3Response<PutObjectRetentionOutput>> {
    let access = access(&req.extensions)?;
    lock::check_document_digest(&req.headers)?;
    let input = req.input;
    let now_ms = gateway.objects.now_ms();
    let retention = asked(input.retention.as_ref(), now_ms)?;
    // Policies may have conditions on the retention that is to be.
    let facts = retention.map(|retention| facts_of_retention(retention, now_ms)).unwrap_or_default();
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    let (bucket, found) = find_unmarked(gateway, access, place, facts.clone()).await?;
    lock::check_bucket(&bucket)?;
    let asks = input.bypass_governance_retention;
    let bypass_governance = bypasses(access, (place.bucket, &bucket, place.key), asks, facts);
    let change = AttributeChange::Retention { retention, bypass_governance };
    gateway.objects.set_attributes(&bucket, place.key, &found, change).await.map_err(s3_error)?;
    Ok(S3Response::new(PutObjectRetentionOutput::default()))
}

/// A mode and a day; neither, to remove what is there.
fn asked(retention: Option<&ObjectLockRetention>, now_ms: u64) -> S3Result<Option<Retention>> {
    let retention = retention.ok_or_else(|| s3_error!(MalformedXML))?;
    match (&retention.mode, &retention.retain_until_date) {
        (None, None) => Ok(None),
        (Some(mode), Some(until)) => {
            let mode = RetentionMode::named(mode.as_str()).ok_or_else(|| s3_error!(MalformedXML))?;
            Ok(Some(Retention { mode, until_ms: lock::future(until, now_ms, "RetainUntilDate")? }))
        }
        _ => Err(s3_error!(MalformedXML)),
    }
}
