//! ListParts.

use annulus_common::checksum::ChecksumAlgorithm;
use annulus_common::object::{ETag, UploadedPart};
use s3s::dto::{self, ListPartsInput, ListPartsOutput, StorageClass};
use s3s::{S3Request, S3Response, S3Result};

use super::checksum::{dto_algorithm, dto_type, set_checksum, value_text};
use super::error::{invalid_argument, s3_error};
use super::find_object::{Place, find_upload};
use super::headers::{STANDARD, timestamp};
use super::listing::{page_size, xml_text};
use super::{Gateway, access, dto_etag, dto_size, encryption, expiry, initiator, owner};

pub(super) async fn list_parts(
    gateway: &Gateway,
    req: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let access = access(&req.extensions)?;
    let customer = encryption::customer_key(gateway, &req.headers, &encryption::OBJECT)?;
    let input = req.input;
    let max_parts = page_size(input.max_parts, "max-parts")?;
    let marker = input.part_number_marker.unwrap_or(0);
    if marker < 0 {
        let message = "Argument part-number-marker must be an integer between 0 and 2147483647";
        return Err(invalid_argument("part-number-marker", message));
    }
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let after = u16::try_from(marker).unwrap_or(u16::MAX);
    let limit = u16::try_from(max_parts).unwrap_or(u16::MAX);
    let place = Place::current(&input.bucket, &input.key);
    let (_, page) = find_upload(gateway, access, (&bucket, place), &input.upload_id, (after, limit)).await?;
    // What is listed lies in clear: a key is not needed, and must be the upload's where it is sent.
    gateway.objects.check_upload_key(&bucket, &page.upload, customer.as_ref()).await.map_err(s3_error)?;
    let map = gateway.accounts.map().await?;
    let algorithm = page.upload.checksum.map(|(algorithm, _)| algorithm);
    let last = page.parts.last().map_or(marker, |last| i32::from(last.part.number));
    let (abort_date, abort_rule_id) = expiry::of_upload(&bucket, &input.key, &page.upload).unzip();
    let class = page.upload.headers.storage_class.unwrap_or_else(|| STANDARD.to_owned());
    Ok(S3Response::new(ListPartsOutput {
        abort_date,
        abort_rule_id,
        bucket: Some(input.bucket),
        checksum_algorithm: algorithm.map(dto_algorithm),
        checksum_type: page.upload.checksum.map(|(_, kind)| dto_type(kind)),
        initiator: Some(initiator(&map, page.upload.initiator)),
        is_truncated: Some(page.truncated),
        key: Some(xml_text(&input.key)),
        max_parts: Some(max_parts),
        next_part_number_marker: Some(last),
        owner: Some(owner(&map, page.upload.owner)),
        part_number_marker: Some(marker),
        parts: Some(page.parts.iter().map(|part| dto_part(part, algorithm)).collect()),
        storage_class: Some(StorageClass::from(class)),
        upload_id: Some(input.upload_id),
        ..Default::default()
    }))
}

fn dto_part(uploaded: &UploadedPart, algorithm: Option<ChecksumAlgorithm>) -> dto::Part {
    let part = &uploaded.part;
    let mut output = dto::Part {
        e_tag: Some(dto_etag(&ETag { md5: part.md5, parts: None })),
        last_modified: Some(timestamp(uploaded.modified_ms)),
        part_number: Some(i32::from(part.number)),
        size: Some(dto_size(part.length)),
        ..Default::default()
    };
    if let (Some(algorithm), Some(value)) = (algorithm, &part.checksum) {
        set_checksum!(output, algorithm, value_text(value));
    }
    output
}
