//! PutObject with `x-amz-write-offset-bytes`: adds to an object, or makes one where there is none. See "Appending data to
//! objects in directory buckets" in the Amazon S3 user guide; here every bucket takes it that never kept versions.

use annulus_common::condition::ETagCondition;
use annulus_common::encryption::EncryptionMode;
use annulus_common::map::Bucket;
use annulus_common::notification::Means;
use annulus_common::object::{ObjectVersion, Versioning};
use http::header::IF_NONE_MATCH;
use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::dto::{PutObjectInput, PutObjectOutput};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::checksum::{dto_type, expected, set_checksum};
use super::encryption::customer_of;
use super::error::{s3_error, with_status};
use super::find_object::{Place, check_compares};
use super::put_object::put_whole;
use super::{Gateway, access, body, condition, dto_etag, dto_size, encryption, expiry, headers, with_headers};
use crate::object::{AppendObject, Encrypt, ObjectError};

/// Headers that say what an object is to be: of one that is there they change nothing.
const SETTLED: &[&str] = &[
    "x-amz-meta-",
    "x-amz-tagging",
    "x-amz-acl",
    "x-amz-grant-",
    "x-amz-object-lock-",
    "x-amz-website-redirect-location",
];

pub(super) async fn append_object(
    gateway: &Gateway,
    req: S3Request<PutObjectInput>,
    offset: i64,
) -> S3Result<S3Response<PutObjectOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    if bucket.config.versioning != Versioning::Unversioned {
        return Err(s3_error!(InvalidRequest, "Data can only be appended in buckets without versioning."));
    }
    let offset = u64::try_from(offset).map_err(|_| s3_error(ObjectError::InvalidWriteOffset))?;
    match gateway.objects.get(&bucket, &req.input.key, None).await {
        Ok(found) => add(gateway, req, &bucket, &found, offset).await,
        Err(ObjectError::NoSuchKey) if offset == 0 => begin(gateway, req).await,
        Err(ObjectError::NoSuchKey) => Err(s3_error(ObjectError::InvalidWriteOffset)),
        Err(error) => Err(s3_error(error)),
    }
}

/// Makes the object. If somebody else is faster, there is something to add to, and it is not empty: so whatever object the
/// request rules out, here it must meet none.
async fn begin(gateway: &Gateway, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
    let conditions = condition::of_write(&req.headers)?;
    let place = Place::current(&req.input.bucket, &req.input.key);
    check_compares(gateway, access(&req.extensions)?, place, &conditions).await?;
    let asked = conditions.if_none_match == Some(ETagCondition::Any);
    req.headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
    put_whole(gateway, req).await.map_err(|error| match error.code() {
        S3ErrorCode::PreconditionFailed if !asked => s3_error(ObjectError::InvalidWriteOffset),
        _ => error,
    })
}

async fn add(
    gateway: &Gateway,
    req: S3Request<PutObjectInput>,
    bucket: &Bucket,
    found: &ObjectVersion,
    offset: u64,
) -> S3Result<S3Response<PutObjectOutput>> {
    check_settled(&req.headers, found)?;
    let encrypt = match encryption::is_asked(&req.headers) {
        true => encryption::of_write(gateway, &req.headers, bucket)?,
        false => None,
    };
    check_mode(encrypt.as_ref(), found)?;
    let customer = customer_of(encrypt.as_ref());
    let conditions = condition::of_write(&req.headers)?;
    let place = Place::current(&req.input.bucket, &req.input.key);
    check_compares(gateway, access(&req.extensions)?, place, &conditions).await?;
    let digest = expected(&req.headers, req.trailing_headers)?;
    let content_length = req.input.content_length.and_then(|length| u64::try_from(length).ok());
    let held_back_max = body::held_back_max(&req.headers);
    let key = &req.input.key;
    let append =
        AppendObject { bucket, key, found, offset, conditions, content_length, held_back_max, digest, customer };
    let objects = gateway.telling(&req.extensions, bucket, Means::Put);
    let written = objects.append(append, body::stream(req.input.body)).await.map_err(s3_error)?;
    let tags = &found.object.attributes.tags;
    let mut output = PutObjectOutput {
        e_tag: Some(dto_etag(&written.etag)),
        expiration: expiry::of_facts(bucket, key, written.modified_ms, written.size, tags),
        size: Some(dto_size(written.size)),
        ..Default::default()
    };
    if let Some(checksum) = &written.checksum {
        set_checksum!(output, checksum.algorithm(), checksum.to_string());
        output.checksum_type = Some(dto_type(checksum.checksum_type()));
    }
    Ok(with_headers(output, encryption::answer_written(written.encryption.as_ref(), customer)))
}

/// What the object is was said when it was made.
fn check_settled(headers: &HeaderMap, found: &ObjectVersion) -> S3Result {
    let says = |name: &str| SETTLED.iter().any(|settled| name.starts_with(settled));
    if headers.keys().any(|name| says(name.as_str())) {
        return Err(s3_error!(
            InvalidRequest,
            "Cannot specify both a write offset value and user-defined object metadata for existing objects."
        ));
    }
    let class = headers::storage_class(headers)?;
    if headers.contains_key("x-amz-storage-class") && class != found.object.headers.storage_class {
        return Err(s3_error!(InvalidRequest, "The storage class is not that of the existing object."));
    }
    Ok(())
}

/// How the object is encrypted was said, too; saying the same again does no harm.
fn check_mode(asked: Option<&Encrypt>, found: &ObjectVersion) -> S3Result {
    let mode = found.object.encryption.as_ref().map(|encryption| &encryption.mode);
    let fits = match (asked, mode) {
        (None, _)
        | (Some(Encrypt::Customer(_)), Some(EncryptionMode::Customer))
        | (Some(Encrypt::S3), Some(EncryptionMode::S3)) => true,
        (Some(Encrypt::Kms(asked)), Some(EncryptionMode::Kms(used))) => {
            asked.key == used.key && (asked.context.is_none() || asked.context == used.context)
        }
        (Some(_), _) => false,
    };
    if fits {
        return Ok(());
    }
    Err(with_status(
        S3ErrorCode::Custom("EncryptionTypeMismatch".into()),
        StatusCode::BAD_REQUEST,
        "The existing object was created with a different encryption type.",
    ))
}
