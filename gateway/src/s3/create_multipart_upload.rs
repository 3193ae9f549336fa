//! CreateMultipartUpload.

use annulus_common::checksum::{ChecksumAlgorithm, ChecksumType};
use s3s::dto::{CreateMultipartUploadInput, CreateMultipartUploadOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::checksum::{algorithm, checksum_type, dto_algorithm, dto_type};
use super::error::s3_error;
use super::listing::xml_text;
use super::{Gateway, attributes, caller, encryption, expiry, headers, with_headers};
use crate::object::CreateUpload;

pub(super) async fn create_multipart_upload(
    gateway: &Gateway,
    req: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let caller = caller(&req.extensions)?;
    let input = req.input;
    let name = input.checksum_algorithm.as_ref().map(|name| name.as_str());
    let kind = input.checksum_type.as_ref().map(|kind| kind.as_str());
    let checksum = checksum(name, kind)?;
    let headers = headers::of_request(&req.headers, input.metadata)?;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let (owner, attributes) = attributes::of_request(gateway, &req.headers, &bucket, caller).await?;
    let encrypt = encryption::of_write(gateway, &req.headers, &bucket)?;
    let customer = encryption::customer_of(encrypt.as_ref()).cloned();
    let create = CreateUpload {
        bucket: &bucket,
        key: &input.key,
        initiator: caller,
        owner,
        headers,
        attributes,
        checksum,
        encrypt,
    };
    let upload = gateway.objects.create_upload(create).await.map_err(s3_error)?;
    let mode = upload.encryption.as_ref().map(|encryption| &encryption.mode);
    let headers = encryption::answer_written(mode, customer.as_ref());
    let (abort_date, abort_rule_id) = expiry::of_upload(&bucket, &input.key, &upload).unzip();
    let output = CreateMultipartUploadOutput {
        abort_date,
        abort_rule_id,
        bucket: Some(input.bucket),
        // What the client did not ask for it is not told: SDKs would send it with every part.
        checksum_algorithm: checksum.map(|(algorithm, _)| dto_algorithm(algorithm)),
        checksum_type: checksum.map(|(_, kind)| dto_type(kind)),
        key: Some(xml_text(&input.key)),
        upload_id: Some(upload.id.to_string()),
        ..Default::default()
    };
    Ok(with_headers(output, headers))
}

fn checksum(name: Option<&str>, kind: Option<&str>) -> S3Result<Option<(ChecksumAlgorithm, ChecksumType)>> {
    let kind = kind.map(checksum_type).transpose()?;
    match (name.map(algorithm).transpose()?, kind) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(s3_error!(
            InvalidRequest,
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
        )),
        (Some(algorithm), kind) => Ok(Some((algorithm, kind.unwrap_or(algorithm.default_multipart_type())))),
    }
}

#[cfg(test)]
mod tests {
    use annulus_common::checksum::{ChecksumAlgorithm, ChecksumType};

    use super::checksum;

    #[test]
    fn the_type_follows_the_algorithm() {
        assert_eq!(checksum(None, None).expect("valid"), None);
        let default = checksum(Some("SHA256"), None).expect("valid");
        assert_eq!(default, Some((ChecksumAlgorithm::Sha256, ChecksumType::Composite)));
        let named = checksum(Some("CRC32"), Some("FULL_OBJECT")).expect("valid");
        assert_eq!(named, Some((ChecksumAlgorithm::Crc32, ChecksumType::FullObject)));
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        assert!(checksum(Some("MD4"), None).is_err());
        assert!(checksum(Some("CRC32"), Some("HALF")).is_err());
        assert!(checksum(None, Some("COMPOSITE")).is_err());
    }
}
