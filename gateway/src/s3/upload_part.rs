//! UploadPart.

use annulus_common::ids::UploadId;
use s3s::dto::{UploadPartInput, UploadPartOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::checksum::{expected, set_checksum};
use super::error::{part_error, part_number_out_of_range, s3_error};
use super::find_object::check_upload;
use super::{Gateway, body, caller, dto_etag, encryption, with_headers};
use crate::object::{PutPart, UploadPath};

pub(super) async fn upload_part(
    gateway: &Gateway,
    req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let caller = caller(&req.extensions)?;
    body::check_length(&req.extensions)?;
    let digest = expected(&req.headers, req.trailing_headers)?;
    let input = req.input;
    let number = part_number(input.part_number)?;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let path = UploadPath { bucket: &bucket, key: &input.key, upload: upload_id(&input.upload_id)? };
    check_upload(gateway, caller, path).await?;
    let content_length = input.content_length.and_then(|length| u64::try_from(length).ok());
    let customer = encryption::customer_key(gateway, &req.headers, &encryption::OBJECT)?;
    let said = encryption::of_part(&req.headers, customer.as_ref())?;
    let held_back_max = body::held_back_max(&req.headers);
    let put = PutPart { path, number, content_length, held_back_max, digest, encryption: said };
    let written = gateway.objects.put_part(put, body::stream(input.body)).await.map_err(part_error)?;
    let mut output = UploadPartOutput { e_tag: Some(dto_etag(&written.etag)), ..Default::default() };
    if let Some(checksum) = &written.checksum {
        set_checksum!(output, checksum.algorithm(), checksum.to_string());
    }
    Ok(with_headers(output, encryption::answer(written.encryption.as_ref(), customer.as_ref())))
}

/// `uploadId`. What is no id of ours names no upload.
pub(super) fn upload_id(text: &str) -> S3Result<UploadId> {
    UploadId::parse(text).ok_or_else(|| s3_error!(NoSuchUpload))
}

/// `partNumber`, 1 to 10,000.
pub(super) fn part_number(number: i32) -> S3Result<u16> {
    match u16::try_from(number) {
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err(part_number_out_of_range()),
    }
}

#[cfg(test)]
mod tests {
    use super::{part_number, upload_id};

    #[test]
    fn part_numbers_are_bounded() {
        assert_eq!(part_number(1).expect("valid"), 1);
        assert_eq!(part_number(10_000).expect("valid"), 10_000);
        for number in [0, -1, 10_001, i32::MAX] {
            assert!(part_number(number).is_err());
        }
    }

    #[test]
    fn an_id_of_another_form_names_no_upload() {
        assert_eq!(upload_id("abc1234def").expect_err("no upload").code().as_str(), "NoSuchUpload");
        assert!(upload_id(&"0f".repeat(16)).is_ok());
    }
}
