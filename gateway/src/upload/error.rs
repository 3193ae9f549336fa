//! Why a file was not taken or given, with the one table to statuses and words. Answers are JSON, as the route's always were.

use annulus_common::checksum::ChecksumValue;
use http::header::{ALLOW, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::auth::MapUnreachable;
use crate::auth::promise::Broken;
use crate::auth::sigv4::SignatureError;
use crate::http::{ErrorCode, HandlerBody, respond};
use crate::object::{BodyError, ObjectError};

/// Why.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("credentials are needed: sign the request, or bring the upload token")]
    AccessDenied,
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("sign forms with x-amz-content-sha256: UNSIGNED-PAYLOAD")]
    SignedForm,
    #[error("POST a multipart/form-data body to /upload, or GET /upload/NAME")]
    MethodNotAllowed,
    #[error("{0} asks for something that is not done here: use S3")]
    NotBuilt(String),
    #[error("the body is not multipart/form-data")]
    NotAForm,
    #[error("the form is malformed or incomplete")]
    BadForm,
    #[error("no part of the form begins within {0} bytes")]
    LongHead(usize),
    #[error("the form holds no file: send one with -F 'file=@path'")]
    NoFile,
    #[error("more than {0} files in one request")]
    TooManyFiles(usize),
    #[error("the file's name is empty, too long, or no name")]
    BadName,
    #[error("no such file")]
    NoSuchFile,
    #[error("the range is not within the {0} bytes of the file")]
    BadRange(u64),
    #[error(transparent)]
    Object(ObjectError),
    #[error(transparent)]
    Map(#[from] MapUnreachable),
}

impl From<Broken> for UploadError {
    fn from(broken: Broken) -> Self {
        Self::NotBuilt(broken.header())
    }
}

impl From<ObjectError> for UploadError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NoSuchKey | ObjectError::Deleted(_) | ObjectError::NoSuchBucket => UploadError::NoSuchFile,
            ObjectError::Body(BodyError::Truncated | BodyError::Malformed | BodyError::Disconnected) => {
                UploadError::BadForm
            }
            other => UploadError::Object(other),
        }
    }
}

impl UploadError {
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::AccessDenied => (StatusCode::UNAUTHORIZED, "AccessDenied"),
            Self::Signature(error) => (error.status(), error.code()),
            Self::SignedForm | Self::NotAForm | Self::BadForm | Self::LongHead(_) | Self::NoFile | Self::BadName => {
                (StatusCode::BAD_REQUEST, "InvalidRequest")
            }
            Self::NotBuilt(_) => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
            Self::TooManyFiles(_) => (StatusCode::PAYLOAD_TOO_LARGE, "TooManyFiles"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::NoSuchFile => (StatusCode::NOT_FOUND, "NoSuchFile"),
            Self::BadRange(_) => (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"),
            Self::Object(ObjectError::QuotaExceeded) => (StatusCode::FORBIDDEN, "QuotaExceeded"),
            Self::Object(ObjectError::Full) => (StatusCode::INSUFFICIENT_STORAGE, "NoSpaceLeft"),
            Self::Object(ObjectError::EntityTooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, "EntityTooLarge"),
            Self::Object(ObjectError::KeyRequired) => (StatusCode::BAD_REQUEST, "KeyRequired"),
            Self::Object(ObjectError::Internal(_)) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Self::Object(ObjectError::Body(BodyError::TimedOut)) => (StatusCode::REQUEST_TIMEOUT, "RequestTimeout"),
            Self::Object(ObjectError::Overloaded) => (StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
            Self::Object(_) | Self::Map(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        }
    }
}

/// A file that is stored.
#[derive(Debug, Serialize)]
pub(super) struct StoredFile {
    pub(super) key: String,
    pub(super) bucket: String,
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) checksum: Option<StoredChecksum>,
    pub(super) url: String,
}

/// The checksum of a stored file, as S3 writes it.
#[derive(Debug, Serialize)]
pub(super) struct StoredChecksum {
    pub(super) algorithm: String,
    pub(super) value: String,
}

impl From<ChecksumValue> for StoredChecksum {
    fn from(value: ChecksumValue) -> Self {
        Self { algorithm: value.algorithm().to_string(), value: value.to_string() }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    files: &'a [StoredFile],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

#[derive(Serialize)]
struct Problem {
    code: &'static str,
    message: String,
}

/// What was stored.
pub(super) fn stored(files: &[StoredFile]) -> Response<HandlerBody> {
    json(StatusCode::OK, &Answer { files, error: None })
}

/// What went wrong, and the files of the same request that were stored before it did.
pub(super) fn response(error: &UploadError, files: &[StoredFile]) -> Response<HandlerBody> {
    let (status, code) = error.code();
    let mut response = json(status, &Answer { files, error: Some(Problem { code, message: error.to_string() }) });
    response.extensions_mut().insert(ErrorCode(code));
    match error {
        UploadError::AccessDenied => {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        UploadError::MethodNotAllowed => {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, GET, HEAD"));
        }
        _ => {}
    }
    response
}

fn json(status: StatusCode, answer: &Answer<'_>) -> Response<HandlerBody> {
    respond(status, "application/json", serde_json::to_vec(answer).unwrap_or_default())
}
