//! Why a call of S3 Control is refused, with the one table to codes and statuses.

use annulus_common::map::size::SizeLimit;
use annulus_common::tags::TagError;
use http::StatusCode;

use super::xml::NAMESPACE;
use crate::auth::Unrecognised;
use crate::auth::sigv4::SignatureError;
use crate::http::error_xml;
use crate::object::ObjectError;

/// A refusal.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// The operation, or what it is about, is not built.
    #[error("A parameter you provided implies functionality that is not implemented.")]
    NotBuilt,
    /// There is no operation of that method.
    #[error("The specified method is not allowed against this resource.")]
    MethodNotAllowed,
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// The body is not what it should be.
    #[error("The XML you provided was not well-formed or did not validate against our published schema")]
    MalformedXml,
    /// These can be no tags of a bucket.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// The caller may not. Terraform's provider looks for these words before it asks S3 itself instead.
    #[error("User: {caller} is not authorized to perform: {action} on resource: {resource}")]
    AccessDenied {
        /// Who.
        caller: String,
        /// What.
        action: &'static str,
        /// With what.
        resource: String,
    },
    /// The signature does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Nobody stands behind the key.
    #[error(transparent)]
    Unrecognised(#[from] Unrecognised),
    /// There is as much configured, by the account or by all, as may be.
    #[error(transparent)]
    TooMuchConfigured(SizeLimit),
    /// There is no such bucket.
    #[error("The specified bucket does not exist")]
    NoSuchBucket,
    /// The cluster cannot change now.
    #[error("Service is unable to handle request.")]
    Unavailable,
}

impl ControlError {
    fn table(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotBuilt => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, "InvalidRequest"),
            Self::MalformedXml => (StatusCode::BAD_REQUEST, "MalformedXML"),
            Self::Tag(_) => (StatusCode::BAD_REQUEST, "InvalidTag"),
            Self::AccessDenied { .. } => (StatusCode::FORBIDDEN, "AccessDenied"),
            Self::Signature(error) => (error.status(), error.code()),
            Self::Unrecognised(Unrecognised::Key) => (StatusCode::FORBIDDEN, "InvalidAccessKeyId"),
            Self::Unrecognised(Unrecognised::Token) => (StatusCode::BAD_REQUEST, "InvalidToken"),
            Self::Unrecognised(Unrecognised::Expired) => (StatusCode::BAD_REQUEST, "ExpiredToken"),
            Self::TooMuchConfigured(_) => (StatusCode::BAD_REQUEST, "TooManyConfigurations"),
            Self::NoSuchBucket => (StatusCode::NOT_FOUND, "NoSuchBucket"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        }
    }

    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        self.table().0
    }

    /// The answer's body.
    pub(super) fn xml(&self, request_id: &str) -> String {
        error_xml(NAMESPACE, None, (self.table().1, &self.to_string()), request_id)
    }
}

impl From<ObjectError> for ControlError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NoSuchBucket => Self::NoSuchBucket,
            ObjectError::TooMuchConfigured(limit) => Self::TooMuchConfigured(limit),
            // Others have set tags meanwhile.
            ObjectError::InvalidBucketState => TagError::TooMany(annulus_common::tags::BUCKET_TAGS_MAX).into(),
            _ => Self::Unavailable,
        }
    }
}
