//! GetBucketEncryption, PutBucketEncryption, DeleteBucketEncryption: how objects are encrypted whose request does not say.

use std::sync::Arc;

use annulus_common::encryption::{BucketEncryption, DefaultEncryption};
use annulus_common::map::BucketChange;
use http::StatusCode;
use s3s::dto::{
    BlockedEncryptionTypes, DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput, EncryptionType,
    GetBucketEncryptionInput, GetBucketEncryptionOutput, PutBucketEncryptionInput, PutBucketEncryptionOutput,
    ServerSideEncryption, ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::Gateway;
use super::encryption::{AES256, AWS_KMS};
use super::error::{invalid_argument, s3_error, with_status};

pub(super) async fn get_bucket_encryption(
    gateway: &Gateway,
    req: S3Request<GetBucketEncryptionInput>,
) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let config = bucket.config.encryption.as_ref().ok_or_else(|| {
        with_status(
            S3ErrorCode::Custom("ServerSideEncryptionConfigurationNotFoundError".into()),
            StatusCode::NOT_FOUND,
            "The server side encryption configuration was not found",
        )
    })?;
    let rules = vec![rule_of(config)];
    Ok(S3Response::new(GetBucketEncryptionOutput {
        server_side_encryption_configuration: Some(ServerSideEncryptionConfiguration { rules }),
    }))
}

pub(super) async fn put_bucket_encryption(
    gateway: &Gateway,
    req: S3Request<PutBucketEncryptionInput>,
) -> S3Result<S3Response<PutBucketEncryptionOutput>> {
    let input = req.input;
    let config = config_of(&input.server_side_encryption_configuration)?;
    gateway.configure(&input.bucket, BucketChange::Encryption(Some(Arc::new(config)))).await?;
    Ok(S3Response::new(PutBucketEncryptionOutput::default()))
}

pub(super) async fn delete_bucket_encryption(
    gateway: &Gateway,
    req: S3Request<DeleteBucketEncryptionInput>,
) -> S3Result<S3Response<DeleteBucketEncryptionOutput>> {
    gateway.configure(&req.input.bucket, BucketChange::Encryption(None)).await?;
    Ok(S3Response::new(DeleteBucketEncryptionOutput::default()))
}

fn config_of(document: &ServerSideEncryptionConfiguration) -> S3Result<BucketEncryption> {
    let [rule] = document.rules.as_slice() else { return Err(s3_error!(MalformedXML)) };
    let config = BucketEncryption {
        default: rule.apply_server_side_encryption_by_default.as_ref().map(default_of).transpose()?,
        bucket_key: rule.bucket_key_enabled,
        blocks_customer_keys: rule.blocked_encryption_types.as_ref().map_or(Ok(false), blocks_customer_keys)?,
    };
    if config.default.is_none() && rule.bucket_key_enabled.is_none() && rule.blocked_encryption_types.is_none() {
        return Err(s3_error!(MalformedXML));
    }
    Ok(config)
}

fn default_of(default: &ServerSideEncryptionByDefault) -> S3Result<DefaultEncryption> {
    let key = default.kms_master_key_id.clone().filter(|key| !key.is_empty());
    match (default.sse_algorithm.as_str(), key) {
        (AES256, None) => Ok(DefaultEncryption::S3),
        (AES256, Some(_)) => Err(invalid_argument(
            "ApplyServerSideEncryptionByDefault",
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms",
        )),
        (AWS_KMS, key) => Ok(DefaultEncryption::Kms(key)),
        ("aws:kms:dsse" | "aws:fsx", _) => Err(s3_error!(NotImplemented, "This encryption method is not implemented")),
        _ => Err(s3_error!(MalformedXML)),
    }
}

/// Only SSE-C can be blocked; `NONE` blocks nothing.
fn blocks_customer_keys(blocked: &BlockedEncryptionTypes) -> S3Result<bool> {
    let types = blocked.encryption_type.as_deref().unwrap_or_default();
    match types.iter().map(EncryptionType::as_str).collect::<Vec<_>>().as_slice() {
        ["SSE-C"] => Ok(true),
        ["NONE"] | [] => Ok(false),
        _ => Err(s3_error!(MalformedXML)),
    }
}

fn rule_of(config: &BucketEncryption) -> ServerSideEncryptionRule {
    let default = config.default.as_ref().map(|default| match default {
        DefaultEncryption::S3 => ServerSideEncryptionByDefault {
            kms_master_key_id: None,
            sse_algorithm: ServerSideEncryption::from_static(AES256),
        },
        DefaultEncryption::Kms(key) => ServerSideEncryptionByDefault {
            kms_master_key_id: key.clone(),
            sse_algorithm: ServerSideEncryption::from_static(AWS_KMS),
        },
    });
    ServerSideEncryptionRule {
        apply_server_side_encryption_by_default: default,
        blocked_encryption_types: config
            .blocks_customer_keys
            .then(|| BlockedEncryptionTypes { encryption_type: Some(vec![EncryptionType::from_static("SSE-C")]) }),
        bucket_key_enabled: Some(config.bucket_key.unwrap_or(false)),
    }
}
