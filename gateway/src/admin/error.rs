//! Why an admin call is refused, with its status: the one table.

use annulus_common::map::change::MapRefusal;
use http::{Response, StatusCode};

use super::model::Problem;
use crate::auth::MapUnreachable;
use crate::auth::sigv4::SignatureError;
use crate::client::ClientError;
use crate::http::HandlerBody;
use crate::object::ObjectError;

/// A refusal.
#[derive(Debug)]
pub(super) struct AdminProblem {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl AdminProblem {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn response(self) -> Response<HandlerBody> {
        let problem = Problem { code: self.code.to_owned(), message: self.message };
        super::respond(self.status, serde_json::to_vec(&problem).unwrap_or_default().into())
    }
}

impl From<SignatureError> for AdminProblem {
    fn from(error: SignatureError) -> Self {
        Self::new(error.status(), error.code(), error.to_string())
    }
}

impl From<MapUnreachable> for AdminProblem {
    fn from(error: MapUnreachable) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string())
    }
}

impl From<ClientError> for AdminProblem {
    fn from(error: ClientError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string())
    }
}

impl From<MapRefusal> for AdminProblem {
    fn from(refusal: MapRefusal) -> Self {
        let (status, code) = match &refusal {
            MapRefusal::NoSuchBucket => (StatusCode::NOT_FOUND, "NoSuchBucket"),
            MapRefusal::NoSuchUser => (StatusCode::NOT_FOUND, "NoSuchUser"),
            MapRefusal::NoSuchKey => (StatusCode::NOT_FOUND, "NoSuchKey"),
            MapRefusal::InvalidBucketState => (StatusCode::CONFLICT, "InvalidBucketState"),
            MapRefusal::BucketExists(_) => (StatusCode::CONFLICT, "BucketExists"),
            MapRefusal::BucketBusy(_) => (StatusCode::CONFLICT, "BucketBusy"),
            MapRefusal::UserExists => (StatusCode::CONFLICT, "UserExists"),
            MapRefusal::UserOwnsBuckets => (StatusCode::CONFLICT, "UserOwnsBuckets"),
            MapRefusal::LastAdmin => (StatusCode::CONFLICT, "LastAdmin"),
            MapRefusal::KeyExists => (StatusCode::CONFLICT, "KeyExists"),
            MapRefusal::TooManyKeys(_) => (StatusCode::CONFLICT, "TooManyKeys"),
            MapRefusal::TooLarge(_) => (StatusCode::CONFLICT, "LimitExceeded"),
            MapRefusal::Iam(_) => (StatusCode::CONFLICT, "Iam"),
            MapRefusal::TooManyBuckets => (StatusCode::CONFLICT, "TooManyBuckets"),
            MapRefusal::NoSuchKmsKey => (StatusCode::NOT_FOUND, "NoSuchKmsKey"),
            MapRefusal::KmsKeyExists => (StatusCode::CONFLICT, "KmsKeyExists"),
            MapRefusal::TooManyKmsKeys => (StatusCode::CONFLICT, "TooManyKmsKeys"),
            MapRefusal::KmsKeyChanged => (StatusCode::CONFLICT, "KmsKeyChanged"),
            MapRefusal::NodeNameTaken { .. } => (StatusCode::CONFLICT, "NodeNameTaken"),
            MapRefusal::NoSuchNode(_) => (StatusCode::NOT_FOUND, "NoSuchNode"),
            MapRefusal::NodeRemoved(_) => (StatusCode::GONE, "NodeRemoved"),
            MapRefusal::NodeDead(_) => (StatusCode::CONFLICT, "NodeDead"),
            MapRefusal::LayoutChanged(_) => (StatusCode::CONFLICT, "LayoutChanged"),
            MapRefusal::TooFewNodes { .. } => (StatusCode::CONFLICT, "TooFewNodes"),
            MapRefusal::NodeHoldsData(_) => (StatusCode::CONFLICT, "NodeHoldsData"),
            MapRefusal::LastReplica(_) => (StatusCode::CONFLICT, "LastReplica"),
            MapRefusal::NoPlacement(_) => (StatusCode::CONFLICT, "NoPlacement"),
        };
        Self::new(status, code, refusal.to_string())
    }
}

impl From<ObjectError> for AdminProblem {
    fn from(error: ObjectError) -> Self {
        let (status, code) = match &error {
            ObjectError::NoSuchBucket => (StatusCode::NOT_FOUND, "NoSuchBucket"),
            ObjectError::BucketExists(_) => (StatusCode::CONFLICT, "BucketExists"),
            ObjectError::BucketNotEmpty => (StatusCode::CONFLICT, "BucketNotEmpty"),
            ObjectError::TooManyBuckets => (StatusCode::CONFLICT, "TooManyBuckets"),
            ObjectError::TooMuchConfigured(_) => (StatusCode::CONFLICT, "LimitExceeded"),
            ObjectError::Conflict => (StatusCode::CONFLICT, "OperationAborted"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        };
        Self::new(status, code, error.to_string())
    }
}
