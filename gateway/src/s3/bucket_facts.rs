//! Reads of configurations that no bucket can have yet. What S3 answers for a bucket without one is the truth, so it is
//! answered; setting one is answered 501.
//!
//! The bucket exists and is the caller's: the access check has seen to that.

use http::StatusCode;
use s3s::dto::{
    GetBucketAnalyticsConfigurationInput, GetBucketAnalyticsConfigurationOutput,
    GetBucketIntelligentTieringConfigurationInput, GetBucketIntelligentTieringConfigurationOutput,
    GetBucketInventoryConfigurationInput, GetBucketInventoryConfigurationOutput, GetBucketMetricsConfigurationInput,
    GetBucketMetricsConfigurationOutput, GetBucketReplicationInput, GetBucketReplicationOutput,
    ListBucketAnalyticsConfigurationsInput, ListBucketAnalyticsConfigurationsOutput,
    ListBucketIntelligentTieringConfigurationsInput, ListBucketIntelligentTieringConfigurationsOutput,
    ListBucketInventoryConfigurationsInput, ListBucketInventoryConfigurationsOutput,
    ListBucketMetricsConfigurationsInput, ListBucketMetricsConfigurationsOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::Gateway;
use super::error::with_status;
use super::listing::{foreign_token, non_empty};

/// Operations whose true answer is that there is none.
macro_rules! absent {
    ($($operation:ident($input:ident) -> $output:ident: $code:literal, $message:literal;)*) => {
        $(pub(super) async fn $operation(_: &Gateway, _: S3Request<$input>) -> S3Result<S3Response<$output>> {
            Err(none($code, $message))
        })*
    };
}

absent! {
    get_bucket_analytics_configuration(GetBucketAnalyticsConfigurationInput) -> GetBucketAnalyticsConfigurationOutput:
        "NoSuchConfiguration", "The specified configuration does not exist.";
    get_bucket_intelligent_tiering_configuration(GetBucketIntelligentTieringConfigurationInput) -> GetBucketIntelligentTieringConfigurationOutput:
        "NoSuchConfiguration", "The specified configuration does not exist.";
    get_bucket_inventory_configuration(GetBucketInventoryConfigurationInput) -> GetBucketInventoryConfigurationOutput:
        "NoSuchConfiguration", "The specified configuration does not exist.";
    get_bucket_metrics_configuration(GetBucketMetricsConfigurationInput) -> GetBucketMetricsConfigurationOutput:
        "NoSuchConfiguration", "The specified configuration does not exist.";
    get_bucket_replication(GetBucketReplicationInput) -> GetBucketReplicationOutput:
        "ReplicationConfigurationNotFoundError", "The replication configuration was not found";
}

/// Listings of configurations of which there are none. No page of them has ever said where the next one goes on.
macro_rules! none_listed {
    ($($operation:ident($input:ident) -> $output:ident;)*) => {
        $(pub(super) async fn $operation(_: &Gateway, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
            if non_empty(req.input.continuation_token.as_ref()).is_some() {
                return Err(foreign_token());
            }
            Ok(S3Response::new($output { is_truncated: Some(false), ..Default::default() }))
        })*
    };
}

none_listed! {
    list_bucket_analytics_configurations(ListBucketAnalyticsConfigurationsInput) -> ListBucketAnalyticsConfigurationsOutput;
    list_bucket_intelligent_tiering_configurations(ListBucketIntelligentTieringConfigurationsInput) -> ListBucketIntelligentTieringConfigurationsOutput;
    list_bucket_inventory_configurations(ListBucketInventoryConfigurationsInput) -> ListBucketInventoryConfigurationsOutput;
    list_bucket_metrics_configurations(ListBucketMetricsConfigurationsInput) -> ListBucketMetricsConfigurationsOutput;
}

pub(super) fn none(code: &'static str, message: &'static str) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
    with_status(code, StatusCode::NOT_FOUND, message)
}
