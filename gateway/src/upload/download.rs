//! Files go out: whole, or the one range that the client asks for.

use annulus_common::map::Bucket;
use annulus_common::object::ObjectVersion;
use futures::TryStreamExt;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, LAST_MODIFIED, RANGE,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::Upload;
use super::error::UploadError;
use crate::auth::action::GET_OBJECT;
use crate::auth::{Access, Resource};
use crate::http::{HandlerBody, whole};
use crate::s3::{ByteRange, condition, select_range};

impl Upload {
    pub(super) async fn download(
        &self,
        head: &Parts,
        bucket: &Bucket,
        key: &str,
        access: &Access,
    ) -> Result<Response<HandlerBody>, UploadError> {
        let version = self.objects.get(bucket, key, None).await?;
        // Others may have written to the bucket, if its list lets them: what they wrote is theirs.
        if !access.may(GET_OBJECT, &Resource::object(&self.config.bucket, bucket, key, &version)) {
            return Err(UploadError::AccessDenied);
        }
        let unlocked = self.objects.unlock(bucket, &version, None).await?;
        let size = version.object.size;
        let range = head.headers.get(RANGE).filter(|_| condition::range_applies(&head.headers, &version));
        let asked = range.and_then(|value| value.to_str().ok());
        let (status, range) = match select_range(asked, size) {
            ByteRange::Whole => (StatusCode::OK, 0..size),
            ByteRange::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            ByteRange::Unsatisfiable => return Err(UploadError::BadRange(size)),
        };
        let body = if head.method == Method::HEAD {
            whole("")
        } else {
            let stream = self.objects.read(&version, range.clone(), &unlocked).await?;
            StreamBody::new(stream.map_ok(Frame::data).map_err(Into::into)).boxed_unsync()
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        describe(&mut response, &version);
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        if status == StatusCode::PARTIAL_CONTENT {
            let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            headers.extend(HeaderValue::from_str(&text).ok().map(|value| (CONTENT_RANGE, value)));
        }
        Ok(response)
    }
}

fn describe(response: &mut Response<HandlerBody>, version: &ObjectVersion) {
    let content_type = version.object.headers.content_type.as_deref().unwrap_or("application/octet-stream");
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_millis(version.modified_ms);
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let texts = [
        (CONTENT_TYPE, content_type.to_owned()),
        (ETAG, format!("\"{}\"", version.object.etag)),
        (LAST_MODIFIED, httpdate::fmt_http_date(modified)),
    ];
    for (name, text) in texts {
        headers.extend(HeaderValue::from_str(&text).ok().map(|value| (name, value)));
    }
}
