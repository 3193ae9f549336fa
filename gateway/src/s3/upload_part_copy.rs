//! UploadPartCopy.

use s3s::dto::{CopyPartResult, UploadPartCopyInput, UploadPartCopyOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::checksum::set_checksum;
use super::copy_object::source_of;
use super::error::s3_error;
use super::find_object::{check_upload, find_source};
use super::headers::timestamp;
use super::range::of_copy_source;
use super::upload_part::{part_number, upload_id};
use super::{Gateway, access, condition, dto_etag, encryption, version, with_headers};
use crate::object::{CopyPart, UploadPath};

pub(super) async fn upload_part_copy(
    gateway: &Gateway,
    req: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let access = access(&req.extensions)?;
    let input = req.input;
    let number = part_number(input.part_number)?;
    let place = source_of(&input.copy_source)?;
    let conditions = condition::of_source(
        &req.headers,
        "x-amz-copy-source",
        input.copy_source_if_modified_since.as_ref(),
        input.copy_source_if_unmodified_since.as_ref(),
        gateway.objects.now_ms(),
    )?;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let path = UploadPath { bucket: &bucket, key: &input.key, upload: upload_id(&input.upload_id)? };
    check_upload(gateway, access.user(), path).await?;
    let customer = encryption::customer_key(gateway, &req.headers, &encryption::OBJECT)?;
    let source_customer = encryption::customer_key(gateway, &req.headers, &encryption::COPY_SOURCE)?;
    let (held_by, source) = find_source(gateway, access, place).await?;
    condition::judge_source(&conditions, &source, "x-amz-copy-source")?;
    let range =
        input.copy_source_range.as_deref().map(|range| of_copy_source(range, source.object.size)).transpose()?;
    let source_key = gateway.objects.unlock(&held_by, &source, source_customer.as_ref()).await.map_err(s3_error)?;
    let said = encryption::of_part(&req.headers, customer.as_ref())?;
    let copy = CopyPart { path, number, source: &source, source_key: &source_key, range, encryption: said };
    let written = gateway.objects.copy_part(copy).await.map_err(s3_error)?;
    let mut result = CopyPartResult {
        e_tag: Some(dto_etag(&written.etag)),
        last_modified: Some(timestamp(written.modified_ms)),
        ..Default::default()
    };
    if let Some(checksum) = &written.checksum {
        set_checksum!(result, checksum.algorithm(), checksum.to_string());
    }
    let output = UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: version::of_read(&held_by, source.version, place.version_id),
        ..Default::default()
    };
    Ok(with_headers(output, encryption::answer(written.encryption.as_ref(), customer.as_ref())))
}
