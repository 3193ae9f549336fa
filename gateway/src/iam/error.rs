//! Why a call is refused, as IAM and STS say it: the one table.

use annulus_common::iam::IamRefusal;
use annulus_common::map::change::MapRefusal;
use http::StatusCode;

use crate::auth::sigv4::SignatureError;
use crate::auth::{NoRandomness, Unrecognised};
use crate::client::ClientError;
use crate::http::error_xml;

/// A refusal.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum IamError {
    /// There is no such action, or none is named.
    #[error("Could not find operation {0}")]
    InvalidAction(String),
    /// A parameter is missing, or is not what it may be.
    #[error("{0}")]
    Validation(String),
    /// A parameter makes no sense where it is.
    #[error("{0}")]
    InvalidInput(String),
    /// What a parameter asks for is not built.
    #[error("The parameter {0} implies functionality that is not implemented.")]
    NotImplemented(String),
    /// A document is no policy.
    #[error("{0}")]
    MalformedPolicy(String),
    /// The caller may not.
    #[error("User: {caller} is not authorized to perform: {action} on resource: {resource}")]
    AccessDenied {
        /// Who.
        caller: String,
        /// What.
        action: String,
        /// With what.
        resource: String,
    },
    /// An account itself asks for a role.
    #[error("Roles may not be assumed by root accounts.")]
    RootAssumes,
    /// The signature does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Nobody stands behind the key.
    #[error(transparent)]
    Unrecognised(#[from] Unrecognised),
    /// The identities do not allow it.
    #[error(transparent)]
    Refused(#[from] IamRefusal),
    /// The cluster cannot change now.
    #[error("The request processing has failed because the service is not available. Please try again.")]
    Unavailable,
}

impl IamError {
    fn code(&self) -> &'static str {
        match self {
            Self::InvalidAction(_) => "InvalidAction",
            Self::Validation(_) => "ValidationError",
            Self::InvalidInput(_) => "InvalidInput",
            Self::NotImplemented(_) => "NotImplemented",
            Self::MalformedPolicy(_) => "MalformedPolicyDocument",
            Self::AccessDenied { .. } | Self::RootAssumes => "AccessDenied",
            Self::Signature(error) => match error {
                SignatureError::Missing => "MissingAuthenticationToken",
                SignatureError::Malformed => "IncompleteSignature",
                SignatureError::UnknownKey => "InvalidClientTokenId",
                _ => "SignatureDoesNotMatch",
            },
            Self::Unrecognised(Unrecognised::Expired) => "ExpiredToken",
            Self::Unrecognised(Unrecognised::Key | Unrecognised::Token) => "InvalidClientTokenId",
            Self::Refused(refusal) => match refusal {
                IamRefusal::NoSuchEntity(_) => "NoSuchEntity",
                IamRefusal::EntityAlreadyExists(_) => "EntityAlreadyExists",
                IamRefusal::DeleteConflict(_) => "DeleteConflict",
                IamRefusal::LimitExceeded(_) => "LimitExceeded",
                IamRefusal::ConcurrentModification => "ConcurrentModification",
            },
            Self::Unavailable => "ServiceUnavailable",
        }
    }

    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        match self.code() {
            "NoSuchEntity" => StatusCode::NOT_FOUND,
            "EntityAlreadyExists" | "DeleteConflict" | "LimitExceeded" | "ConcurrentModification" => {
                StatusCode::CONFLICT
            }
            "AccessDenied"
            | "MissingAuthenticationToken"
            | "InvalidClientTokenId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken" => StatusCode::FORBIDDEN,
            "NotImplemented" => StatusCode::NOT_IMPLEMENTED,
            "ServiceUnavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer's body.
    pub(super) fn xml(&self, namespace: &str, request_id: &str) -> String {
        let kind = if self.status().is_server_error() { "Receiver" } else { "Sender" };
        error_xml(namespace, Some(kind), (self.code(), &self.to_string()), request_id)
    }
}

impl From<MapRefusal> for IamError {
    fn from(refusal: MapRefusal) -> Self {
        match refusal {
            MapRefusal::Iam(refusal) => Self::Refused(refusal),
            MapRefusal::TooManyKeys(most) => {
                let message = format!("Cannot exceed quota for AccessKeysPerUser: {most}");
                Self::Refused(IamRefusal::LimitExceeded(message))
            }
            MapRefusal::TooLarge(limit) => Self::Refused(IamRefusal::LimitExceeded(limit.to_string())),
            refusal @ MapRefusal::LastAdmin => Self::Refused(IamRefusal::DeleteConflict(refusal.to_string())),
            MapRefusal::NoSuchKey => {
                Self::Refused(IamRefusal::NoSuchEntity("The Access Key cannot be found.".to_owned()))
            }
            _ => Self::Unavailable,
        }
    }
}

impl From<ClientError> for IamError {
    fn from(_: ClientError) -> Self {
        Self::Unavailable
    }
}

impl From<NoRandomness> for IamError {
    fn from(_: NoRandomness) -> Self {
        Self::Unavailable
    }
}
