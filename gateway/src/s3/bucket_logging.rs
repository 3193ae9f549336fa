//! GetBucketLogging, PutBucketLogging: where the records of a bucket's requests go.
//!
//! As on AWS the target must let the service write when it is named. Unlike there it may be another account's bucket, if its policy
//! says whose logs it takes.

use std::sync::Arc;

use annulus_common::acl::{GRANTS_MAX, Grant, Permission};
use annulus_common::logging::{BucketLogging, LogDate, LogKeyFormat, PREFIX_BYTES_MAX};
use annulus_common::map::{Bucket, BucketChange, ClusterMap};
use s3s::dto::{
    self, GetBucketLoggingInput, GetBucketLoggingOutput, LoggingEnabled, PutBucketLoggingInput, PutBucketLoggingOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::{detailed, invalid_value, s3_error};
use super::{Gateway, grants};
use crate::auth::{LogTarget, may_deliver_logs};

pub(super) async fn get_bucket_logging(
    gateway: &Gateway,
    req: S3Request<GetBucketLoggingInput>,
) -> S3Result<S3Response<GetBucketLoggingOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let map = gateway.accounts.map().await?;
    let logging_enabled = bucket.config.logging.as_deref().map(|logging| dto_logging(&map, logging));
    Ok(S3Response::new(GetBucketLoggingOutput { logging_enabled }))
}

pub(super) async fn put_bucket_logging(
    gateway: &Gateway,
    req: S3Request<PutBucketLoggingInput>,
) -> S3Result<S3Response<PutBucketLoggingOutput>> {
    let input = req.input;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let logging = match input.bucket_logging_status.logging_enabled {
        Some(asked) => {
            let map = gateway.accounts.map().await?;
            let logging = logging(&map, asked)?;
            check_target(&map, (&input.bucket, &bucket), &logging)?;
            Some(Arc::new(logging))
        }
        None => None,
    };
    let change = BucketChange::Logging(logging);
    gateway.objects.configure_bucket(&input.bucket, &bucket, change).await.map_err(s3_error)?;
    Ok(S3Response::new(PutBucketLoggingOutput::default()))
}

fn logging(map: &ClusterMap, asked: LoggingEnabled) -> S3Result<BucketLogging> {
    if asked.target_prefix.len() > PREFIX_BYTES_MAX {
        let message = format!("The TargetPrefix can be at most {PREFIX_BYTES_MAX} bytes long");
        return Err(invalid_value("TargetPrefix", &asked.target_prefix, message));
    }
    let listed = asked.target_grants.unwrap_or_default();
    if listed.len() > GRANTS_MAX {
        return Err(s3_error!(MalformedXML));
    }
    Ok(BucketLogging {
        target_bucket: asked.target_bucket,
        target_prefix: asked.target_prefix,
        grants: listed.iter().map(|listed| grant(map, listed)).collect::<S3Result<_>>()?,
        key_format: asked.target_object_key_format.map_or(Ok(LogKeyFormat::default()), key_format)?,
    })
}

fn grant(map: &ClusterMap, listed: &dto::TargetGrant) -> S3Result<Grant> {
    let grantee = listed.grantee.as_ref().ok_or_else(|| s3_error!(MalformedXML))?;
    let permission = match listed.permission.as_ref().map(|permission| permission.as_str()) {
        Some(dto::BucketLogsPermission::FULL_CONTROL) => Permission::FullControl,
        Some(dto::BucketLogsPermission::READ) => Permission::Read,
        Some(dto::BucketLogsPermission::WRITE) => Permission::Write,
        _ => return Err(s3_error!(MalformedXML)),
    };
    Ok(Grant { grantee: grants::grantee(map, grantee)?, permission })
}

fn key_format(asked: dto::TargetObjectKeyFormat) -> S3Result<LogKeyFormat> {
    match (asked.simple_prefix, asked.partitioned_prefix) {
        (Some(_), None) => Ok(LogKeyFormat::Simple),
        (None, Some(partitioned)) => {
            let date = match partitioned.partition_date_source {
                Some(date) => LogDate::named(date.as_str()).ok_or_else(|| s3_error!(MalformedXML))?,
                None => LogDate::default(),
            };
            Ok(LogKeyFormat::Partitioned(date))
        }
        _ => Err(s3_error!(MalformedXML)),
    }
}

/// Whether records of the source can be written to the target, as far as that can be told now.
fn check_target(map: &ClusterMap, (name, source): (&str, &Bucket), logging: &BucketLogging) -> S3Result {
    let target = map.buckets.get(&logging.target_bucket);
    let unfit = |message: &'static str| {
        detailed(s3_error!(InvalidTargetBucketForLogging, "{message}"), &[("TargetBucket", &logging.target_bucket)])
    };
    let target = target.ok_or_else(|| unfit("The target bucket for logging does not exist"))?;
    let log_target = LogTarget { name: &logging.target_bucket, bucket: target, prefix: &logging.target_prefix };
    if !may_deliver_logs((name, source.owner), log_target, None) {
        return Err(s3_error!(
            AccessDenied,
            "The target bucket must let logging.s3.amazonaws.com put objects by its policy, or grant WRITE and READ_ACP to the log-delivery group; one of another account, by a policy that asks for aws:SourceAccount or aws:SourceArn"
        ));
    }
    if target.config.requester_pays {
        return Err(unfit("The target bucket for logging can not be a Requester Pays bucket"));
    }
    if target.config.object_lock.is_some_and(|lock| lock.default.is_some()) {
        return Err(unfit("The target bucket for logging can not have a default retention"));
    }
    if target.ignores_acls() && !logging.grants.is_empty() {
        return Err(grants::not_supported());
    }
    let is_public = logging.grants.iter().any(|grant| grant.grantee.is_public());
    grants::check_public(is_public, target)
}

fn dto_logging(map: &ClusterMap, logging: &BucketLogging) -> LoggingEnabled {
    let listed: Vec<_> = logging.grants.iter().map(|grant| dto_target_grant(map, grant)).collect();
    let (simple_prefix, partitioned_prefix) = match logging.key_format {
        LogKeyFormat::Simple => (Some(dto::SimplePrefix {}), None),
        LogKeyFormat::Partitioned(date) => {
            let partition_date_source = Some(dto::PartitionDateSource::from_static(date.name()));
            (None, Some(dto::PartitionedPrefix { partition_date_source }))
        }
    };
    LoggingEnabled {
        target_bucket: logging.target_bucket.clone(),
        target_prefix: logging.target_prefix.clone(),
        target_grants: (!listed.is_empty()).then_some(listed),
        target_object_key_format: Some(dto::TargetObjectKeyFormat { partitioned_prefix, simple_prefix }),
    }
}

fn dto_target_grant(map: &ClusterMap, grant: &Grant) -> dto::TargetGrant {
    let dto::Grant { grantee, permission } = grants::dto_grant(map, grant);
    let permission = permission.map(|permission| dto::BucketLogsPermission::from(permission.as_str().to_owned()));
    dto::TargetGrant { grantee, permission }
}
