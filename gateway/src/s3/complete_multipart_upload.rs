//! CompleteMultipartUpload.
//!
//! Once begun it runs to its end, even when the client leaves. A slow one is answered 200 at once and keeps the connection
//! alive with white space until its outcome is known, as S3 does; a fast one, and so nearly every refusal, gets its status.

use std::time::Duration;

use annulus_common::checksum::{ChecksumAlgorithm, ChecksumType};
use annulus_common::condition::Conditions;
use annulus_common::ids::UploadId;
use annulus_common::map::Bucket;
use annulus_common::notification::Means;
use annulus_common::protocol::metadata::PARTS_MAX;
use http::{Extensions, HeaderMap};
use s3s::dto::{CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedMultipartUpload, CompletedPart};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::checksum::{checksum_type, dto_type, given_of_parts, set_checksum, value_of};
use super::error::s3_error;
use super::find_object::{Place, check_compares, check_upload};
use super::listing::xml_text;
use super::upload_part::{part_number, upload_id};
use super::{Gateway, access, condition, dto_etag, encryption, expiry, version, with_headers};
use crate::kms::CustomerKey;
use crate::object::{
    ChecksumValue, CompletePart, CompleteUpload, ObjectError, Objects, PromisedChecksum, UploadPath, Written,
};
use crate::request::{NamedByHost, origin};

/// How long the client waits for a status. Idle connections are cut by proxies after 30 s and more.
const STATUS_WAIT: Duration = Duration::from_secs(10);

pub(super) async fn complete_multipart_upload(
    gateway: &Gateway,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let access = access(&req.extensions)?;
    let input = req.input;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let upload = upload_id(&input.upload_id)?;
    let path = UploadPath { bucket: &bucket, key: &input.key, upload };
    match check_upload(gateway, access.user(), path).await {
        // One that was completed before is answered as it was then, to who lists the same parts. Others are told that it is gone.
        Err(error) if *error.code() == S3ErrorCode::NoSuchUpload => {}
        checked => checked?,
    }
    check_encryption(gateway, &req.headers, path).await?;
    let conditions = condition::of_write(&req.headers)?;
    check_compares(gateway, access, Place::current(&input.bucket, &input.key), &conditions).await?;
    let completion = Completion {
        objects: gateway.telling(&req.extensions, &bucket, Means::CompleteUpload),
        bucket,
        upload,
        parts: parts(input.multipart_upload)?,
        conditions,
        checksum: given_of_parts(&req.headers)?,
        checksum_type: input.checksum_type.as_ref().map(|kind| checksum_type(kind.as_str())).transpose()?,
        size: input.mpu_object_size.map(size).transpose()?,
        location: location(&req.headers, &req.extensions, (&input.bucket, &input.key)),
        bucket_name: input.bucket,
        key: input.key,
        customer: encryption::customer_key(gateway, &req.headers, &encryption::OBJECT)?,
    };
    let mut running = tokio::spawn(completion.run());
    match tokio::time::timeout(STATUS_WAIT, &mut running).await {
        Ok(ended) => {
            let (output, headers) = ended.map_err(|error| s3_error!(error, InternalError))??;
            Ok(with_headers(output, headers))
        }
        Err(_) => Ok(S3Response::new(CompleteMultipartUploadOutput {
            future: Some(Box::pin(async move {
                let (output, _) = running.await.map_err(|error| s3_error!(error, InternalError))??;
                Ok(output)
            })),
            ..Default::default()
        })),
    }
}

/// How the object is encrypted was said when the upload began. Who says it again must mean the same.
async fn check_encryption(gateway: &Gateway, headers: &HeaderMap, path: UploadPath<'_>) -> S3Result {
    if encryption::is_repeated(headers, None) {
        return Ok(());
    }
    let begun = match gateway.objects.list_parts(path, 0, 0).await {
        Ok(page) => page.upload.encryption.map(|encryption| encryption.mode),
        // One that was completed before is answered as it was then.
        Err(ObjectError::NoSuchUpload) => return Ok(()),
        Err(error) => return Err(s3_error(error)),
    };
    match encryption::is_repeated(headers, begun.as_ref()) {
        true => Ok(()),
        false => Err(s3_error!(InvalidRequest, "The multipart upload was not begun with this encryption.")),
    }
}

/// A completion that needs nobody to wait for it.
struct Completion {
    objects: Objects,
    bucket: Bucket,
    bucket_name: String,
    key: String,
    upload: UploadId,
    parts: Vec<CompletePart>,
    conditions: Conditions,
    checksum: Option<PromisedChecksum>,
    checksum_type: Option<ChecksumType>,
    size: Option<u64>,
    location: String,
    customer: Option<CustomerKey>,
}

impl Completion {
    /// The answer, and its headers for who has not been answered yet.
    async fn run(self) -> S3Result<(CompleteMultipartUploadOutput, HeaderMap)> {
        let complete = CompleteUpload {
            path: UploadPath { bucket: &self.bucket, key: &self.key, upload: self.upload },
            parts: self.parts,
            conditions: self.conditions,
            checksum: self.checksum,
            checksum_type: self.checksum_type,
            size: self.size,
            customer: self.customer.as_ref(),
        };
        let written = self.objects.complete_upload(complete).await.map_err(s3_error)?;
        let headers = encryption::answer(written.encryption.as_ref(), self.customer.as_ref());
        let expiration = expiration(&self.objects, &self.bucket, &self.key).await;
        let output = output(&written, self.bucket_name, &self.key, self.location);
        Ok((CompleteMultipartUploadOutput { expiration, ..output }, headers))
    }
}

/// When the object expires. What it is is asked for where the bucket has a lifecycle: rules may be about its tags.
async fn expiration(objects: &Objects, bucket: &Bucket, key: &str) -> Option<String> {
    bucket.config.lifecycle.as_ref()?;
    // The object is there whatever this header says.
    let version = objects.get(bucket, key, None).await.ok()?;
    expiry::of_object(bucket, key, &version)
}

fn output(written: &Written, bucket: String, key: &str, location: String) -> CompleteMultipartUploadOutput {
    let mut output = CompleteMultipartUploadOutput {
        bucket: Some(bucket),
        e_tag: Some(dto_etag(&written.etag)),
        key: Some(xml_text(key)),
        location: Some(location),
        version_id: version::of_write(written.version),
        ..Default::default()
    };
    if let Some(checksum) = &written.checksum {
        set_checksum!(output, checksum.algorithm(), checksum.to_string());
        output.checksum_type = Some(dto_type(checksum.checksum_type()));
    }
    output
}

fn parts(listed: Option<CompletedMultipartUpload>) -> S3Result<Vec<CompletePart>> {
    let parts = listed.and_then(|listed| listed.parts).unwrap_or_default();
    if parts.is_empty() || parts.len() > usize::from(PARTS_MAX) {
        return Err(s3_error!(MalformedXML));
    }
    let mut chosen: Vec<CompletePart> = Vec::with_capacity(parts.len());
    for part in parts {
        let part = self::part(part)?;
        // A client that sent a part twice may list it twice, as S3 lets it: what it sent last counts.
        match chosen.last_mut() {
            Some(last) if last.number == part.number => *last = part,
            _ => chosen.push(part),
        }
    }
    Ok(chosen)
}

fn part(part: CompletedPart) -> S3Result<CompletePart> {
    let number = part_number(part.part_number.ok_or_else(|| s3_error!(MalformedXML))?)?;
    let etag = part.e_tag.as_ref().ok_or_else(|| s3_error!(MalformedXML))?.value().to_owned();
    Ok(CompletePart { number, etag, checksum: part_checksum(part)? })
}

fn part_checksum(part: CompletedPart) -> S3Result<Option<ChecksumValue>> {
    let named = [
        (ChecksumAlgorithm::Crc32, part.checksum_crc32),
        (ChecksumAlgorithm::Crc32c, part.checksum_crc32c),
        (ChecksumAlgorithm::Crc64Nvme, part.checksum_crc64nvme),
        (ChecksumAlgorithm::Sha1, part.checksum_sha1),
        (ChecksumAlgorithm::Sha256, part.checksum_sha256),
    ];
    let mut found = named.into_iter().filter_map(|(algorithm, text)| Some((algorithm, text?)));
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(s3_error!(InvalidRequest, "A part is listed with one checksum at most.")),
        (Some((algorithm, text)), None) => value_of(algorithm, &text).map(Some),
        (None, _) => Ok(None),
    }
}

/// `x-amz-mp-object-size`.
fn size(size: i64) -> S3Result<u64> {
    let negative = |_| s3_error!(InvalidRequest, "Value for x-amz-mp-object-size header is less than zero: '{size}'");
    u64::try_from(size).map_err(negative)
}

/// Where the object will be, addressed as the request is.
fn location(headers: &HeaderMap, extensions: &Extensions, (bucket, key): (&str, &str)) -> String {
    let origin = origin(headers, extensions).unwrap_or_default();
    let key = super::listing::Names::Encoded.write(key);
    match extensions.get::<NamedByHost>() {
        Some(NamedByHost) => format!("{origin}/{key}"),
        None => format!("{origin}/{bucket}/{key}"),
    }
}

#[cfg(test)]
mod tests {
    use s3s::dto::{CompletedMultipartUpload, CompletedPart, ETag};

    use super::parts;

    fn listed(part: CompletedPart) -> Option<CompletedMultipartUpload> {
        Some(CompletedMultipartUpload { parts: Some(vec![part]) })
    }

    fn code(listed: Option<CompletedMultipartUpload>) -> String {
        parts(listed).map_or_else(|error| error.code().as_str().to_owned(), |_| "ok".to_owned())
    }

    #[test]
    fn a_part_has_a_number_and_a_tag() {
        let part = CompletedPart { part_number: Some(1), e_tag: Some(ETag::Strong("a".into())), ..Default::default() };
        assert_eq!(code(listed(part.clone())), "ok");
        assert_eq!(code(listed(CompletedPart { e_tag: None, ..part.clone() })), "MalformedXML");
        assert_eq!(code(listed(CompletedPart { part_number: None, ..part.clone() })), "MalformedXML");
        assert_eq!(code(listed(CompletedPart { part_number: Some(0), ..part })), "InvalidArgument");
    }

    #[test]
    fn a_part_has_one_checksum_at_most() {
        let part = CompletedPart { part_number: Some(1), e_tag: Some(ETag::Strong("a".into())), ..Default::default() };
        let one = CompletedPart { checksum_crc32: Some("y/Q5Jg==".into()), ..part };
        let two = CompletedPart { checksum_crc32c: Some("y/Q5Jg==".into()), ..one.clone() };
        assert_eq!((code(listed(one)), code(listed(two))), ("ok".to_owned(), "InvalidRequest".to_owned()));
    }

    #[test]
    fn of_a_part_that_is_listed_twice_the_last_counts() {
        let part = |number, etag: &str| {
            let etag = Some(ETag::Strong(etag.to_owned()));
            CompletedPart { part_number: Some(number), e_tag: etag, ..Default::default() }
        };
        let listed = [part(1, "a"), part(1, "b"), part(2, "c"), part(1, "d")];
        let chosen = parts(Some(CompletedMultipartUpload { parts: Some(listed.to_vec()) })).expect("valid");
        let chosen: Vec<_> = chosen.iter().map(|part| (part.number, part.etag.as_str())).collect();
        assert_eq!(chosen, [(1, "b"), (2, "c"), (1, "d")]);
    }

    #[test]
    fn no_parts_are_no_object() {
        assert_eq!(code(None), "MalformedXML");
        assert_eq!(code(Some(CompletedMultipartUpload { parts: Some(Vec::new()) })), "MalformedXML");
    }
}
