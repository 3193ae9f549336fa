//! HeadObject.

use http::StatusCode;
use s3s::dto::{HeadObjectInput, HeadObjectOutput, Timestamp};
use s3s::{S3Request, S3Response, S3Result};

use super::headers::http_date;
use super::read::{fill, find, read_of};
use super::{Gateway, with_headers};
use crate::request::StatusOverride;

pub(super) async fn head_object(
    gateway: &Gateway,
    req: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let found = find(gateway, read_of!(req)).await?;
    let input = req.input;
    let mut output = HeadObjectOutput { version_id: found.version_id.clone(), ..Default::default() };
    fill!(output, input.checksum_mode.as_ref(), &found.version, &found.selection);
    output.expiration = found.expiration(&input.key, input.version_id.as_deref());
    let partial = output.content_range.is_some();
    override_headers(&mut output, input);
    let mut response = with_headers(output, found.headers());
    if partial {
        // s3s has one status for each operation.
        response.extensions.insert(StatusOverride(StatusCode::PARTIAL_CONTENT));
    }
    Ok(response)
}

/// `response-*`: what s3s does for GetObject.
fn override_headers(output: &mut HeadObjectOutput, input: HeadObjectInput) {
    let expires = input.response_expires.as_ref().map(expires_text);
    output.cache_control = input.response_cache_control.or(output.cache_control.take());
    output.content_disposition = input.response_content_disposition.or(output.content_disposition.take());
    output.content_encoding = input.response_content_encoding.or(output.content_encoding.take());
    output.content_language = input.response_content_language.or(output.content_language.take());
    output.content_type = input.response_content_type.or(output.content_type.take());
    output.expires = expires.or(output.expires.take());
}

fn expires_text(expires: &Timestamp) -> String {
    let seconds = super::condition::unix_seconds(expires);
    http_date(u64::try_from(seconds).unwrap_or(0) * 1000)
}
