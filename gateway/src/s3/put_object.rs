//! PutObject: of a whole object; what adds to one is `append_object`'s.

use s3s::dto::{PutObjectInput, PutObjectOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::checksum::{dto_type, expected, set_checksum};
use super::encryption::customer_of;
use super::error::s3_error;
use super::find_object::{Place, check_compares};
use super::{
    Gateway, access, append_object, attributes, body, condition, dto_etag, dto_size, encryption, expiry, headers, lock,
    telling, version, with_headers,
};
use crate::object::{BODY_BYTES_MAX, PutObject};

pub(super) async fn put_object(
    gateway: &Gateway,
    req: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    body::check_length(&req.extensions)?;
    match req.input.write_offset_bytes {
        Some(offset) => append_object::append_object(gateway, req, offset).await,
        None => put_whole(gateway, req).await,
    }
}

/// Makes or replaces an object.
pub(super) async fn put_whole(
    gateway: &Gateway,
    req: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let access = access(&req.extensions)?;
    let digest = expected(&req.headers, req.trailing_headers)?;
    let conditions = condition::of_write(&req.headers)?;
    let input = req.input;
    let headers = headers::of_request(&req.headers, input.metadata)?;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let (owner, attributes) = attributes::of_request(gateway, &req.headers, &bucket, access.user()).await?;
    check_compares(gateway, access, Place::current(&input.bucket, &input.key), &conditions).await?;
    lock::check_digest(&req.headers, &bucket, &attributes)?;
    let encrypt = encryption::of_write(gateway, &req.headers, &bucket)?;
    let customer = customer_of(encrypt.as_ref()).cloned();
    let held_back_max = body::held_back_max(&req.headers);
    let content_length = input.content_length.and_then(|length| u64::try_from(length).ok());
    let tags = attributes.tags.clone();
    let objects = gateway.telling(&req.extensions, &bucket, telling::of_put(&req.extensions));
    let put = PutObject {
        bucket: &bucket,
        key: &input.key,
        owner,
        headers,
        attributes,
        conditions,
        content_length,
        held_back_max,
        bytes_max: BODY_BYTES_MAX,
        digest,
        encrypt,
    };
    let written = objects.put(put, body::stream(input.body)).await.map_err(s3_error)?;
    let mut output = PutObjectOutput {
        e_tag: Some(dto_etag(&written.etag)),
        version_id: version::of_write(written.version),
        expiration: expiry::of_facts(&bucket, &input.key, written.modified_ms, written.size, &tags),
        size: input.write_offset_bytes.map(|_| dto_size(written.size)),
        ..Default::default()
    };
    if let Some(checksum) = &written.checksum {
        set_checksum!(output, checksum.algorithm(), checksum.to_string());
        output.checksum_type = Some(dto_type(checksum.checksum_type()));
    }
    let headers = encryption::answer_written(written.encryption.as_ref(), customer.as_ref());
    Ok(with_headers(output, headers))
}
