//! What can be wrong with a form, and what S3 calls it. See "Error responses" in the S3 API reference.

use http::{Response, StatusCode};

use super::super::error_details::bytes_of;
use super::super::errors::error_response_with;
use super::super::reply::Content;
use super::policy::PolicyError;
use crate::auth::form_signature::{FormSignature, FormSignatureError};
use crate::object::KEY_BYTES_MAX;

/// Why a form is refused before anything is put.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum FormError {
    /// No bucket can be called so.
    #[error("no bucket can be called so")]
    InvalidBucketName,
    /// The body is no form, or says the same field twice.
    #[error("the form is malformed")]
    Malformed,
    /// The fields before the file are too many or too large.
    #[error("the fields are too large")]
    FieldsTooLarge,
    /// The fields came too slowly.
    #[error("the fields came too slowly")]
    TimedOut,
    /// The client went away.
    #[error("the form is truncated")]
    Truncated,
    /// A field that is needed is not there before the file.
    #[error("the field {0} is missing")]
    Missing(&'static str),
    /// There is no file.
    #[error("there is no file")]
    NoFile,
    /// The key is empty.
    #[error("the key is empty")]
    EmptyKey,
    /// The key has more bytes than a key may have: so many.
    #[error("the key has {0} bytes")]
    KeyTooLong(usize),
    /// A field's value cannot be what it is for.
    #[error("the field {name} is invalid")]
    InvalidField {
        /// The field.
        name: String,
        /// What it holds, as far as that is told.
        value: String,
    },
    /// A field asks for something that is not built.
    #[error("the field {0} asks for something that is not built")]
    NotBuilt(String),
    /// A header of the form's own head asks for something that is not built.
    #[error("the header {0} asks for something that is not built")]
    HeaderNotBuilt(String),
    /// The form expects another owner of the bucket than its head does.
    #[error("two owners are expected")]
    OtherOwner,
    /// The tags are no XML that says tags.
    #[error("the tags are malformed")]
    MalformedTagging,
    /// The policy is none.
    #[error("invalid policy: {0}")]
    InvalidPolicy(String),
    /// The policy does not allow what the form asks.
    #[error("denied by the policy: {0}")]
    Denied(String),
    /// The signature cannot be judged, or is nobody's.
    #[error(transparent)]
    Signature(FormSignatureError),
    /// The signature does not match the policy.
    #[error("the signature does not match")]
    Mismatch {
        /// Whose it is said to be.
        access_key: String,
        /// What was to be signed: the policy as it came.
        policy: String,
        /// What came as its signature.
        signature: String,
    },
    /// Nobody can be recognised now.
    #[error("the cluster map cannot be reached")]
    Unavailable,
    /// A bug.
    #[error("internal error")]
    Internal,
}

impl From<PolicyError> for FormError {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Invalid(reason) => Self::InvalidPolicy(reason),
            PolicyError::Denied(reason) => Self::Denied(reason),
        }
    }
}

impl FormError {
    /// The error as S3 writes it.
    pub(super) fn response(&self) -> Response<Content> {
        let (status, code) = self.code();
        let details = self.details();
        let details: Vec<(&str, &str)> = details.iter().map(|(name, text)| (*name, text.as_str())).collect();
        error_response_with(status, code, &self.message(), &details)
    }

    /// The error of a policy that has another signature.
    pub(super) fn mismatch(signature: &FormSignature<'_>, policy: &str) -> Self {
        let (access_key, signature) = match signature {
            FormSignature::V2 { access_key, signature } => (*access_key, *signature),
            FormSignature::V4 { credential, signature, .. } => {
                (credential.split('/').next().unwrap_or_default(), *signature)
            }
        };
        Self::Mismatch { access_key: access_key.to_owned(), policy: policy.to_owned(), signature: signature.to_owned() }
    }

    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidBucketName => (StatusCode::BAD_REQUEST, "InvalidBucketName"),
            Self::Malformed => (StatusCode::BAD_REQUEST, "MalformedPOSTRequest"),
            Self::FieldsTooLarge => (StatusCode::BAD_REQUEST, "MaxPostPreDataLengthExceededError"),
            Self::TimedOut => (StatusCode::BAD_REQUEST, "RequestTimeout"),
            Self::Truncated => (StatusCode::BAD_REQUEST, "IncompleteBody"),
            Self::KeyTooLong(_) => (StatusCode::BAD_REQUEST, "KeyTooLongError"),
            Self::Missing(_) | Self::NoFile | Self::EmptyKey | Self::InvalidField { .. } => {
                (StatusCode::BAD_REQUEST, "InvalidArgument")
            }
            Self::Signature(FormSignatureError::Malformed(_)) => (StatusCode::BAD_REQUEST, "InvalidArgument"),
            Self::MalformedTagging => (StatusCode::BAD_REQUEST, "MalformedXML"),
            Self::NotBuilt(_) | Self::HeaderNotBuilt(_) => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
            Self::InvalidPolicy(_) => (StatusCode::BAD_REQUEST, "InvalidPolicyDocument"),
            Self::Denied(_) | Self::OtherOwner => (StatusCode::FORBIDDEN, "AccessDenied"),
            Self::Signature(FormSignatureError::UnknownKey) => (StatusCode::FORBIDDEN, "InvalidAccessKeyId"),
            Self::Signature(FormSignatureError::Mismatch) | Self::Mismatch { .. } => {
                (StatusCode::FORBIDDEN, "SignatureDoesNotMatch")
            }
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::InvalidBucketName => "The specified bucket is not valid.".to_owned(),
            Self::Malformed => "The body of your POST request is not well-formed multipart/form-data.".to_owned(),
            Self::FieldsTooLarge => {
                "Your POST request fields preceding the upload file were too large.".to_owned()
            }
            Self::TimedOut => {
                "Your socket connection to the server was not read from or written to within the timeout period."
                    .to_owned()
            }
            Self::Truncated => {
                "You did not provide the number of bytes specified by the Content-Length HTTP header".to_owned()
            }
            Self::Missing(name) => format!(
                "Bucket POST must contain a field named '{}'.  If it is specified, please check the order of the fields.",
                if *name == "awsaccesskeyid" { "AWSAccessKeyId" } else { name }
            ),
            Self::NoFile => "POST requires exactly one file upload per request.".to_owned(),
            Self::EmptyKey => "User key must have a length greater than 0.".to_owned(),
            Self::KeyTooLong(_) => "Your key is too long".to_owned(),
            Self::InvalidField { name, .. } => format!("The value of the form field {name} is not valid."),
            Self::Signature(FormSignatureError::Malformed("x-amz-credential")) => {
                "The Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".".to_owned()
            }
            Self::Signature(FormSignatureError::Malformed(name)) => {
                format!("The value of the form field {name} is not valid.")
            }
            Self::MalformedTagging => {
                "The XML you provided was not well-formed or did not validate against our published schema".to_owned()
            }
            Self::NotBuilt(name) => {
                format!("The form field {name} implies functionality that is not implemented")
            }
            Self::HeaderNotBuilt(_) => {
                "A header you provided implies functionality that is not implemented".to_owned()
            }
            Self::InvalidPolicy(reason) => format!("Invalid Policy: {reason}"),
            Self::OtherOwner => "Access Denied".to_owned(),
            Self::Denied(reason) => format!("Invalid according to Policy: {reason}"),
            Self::Signature(FormSignatureError::UnknownKey) => {
                "The AWS Access Key Id you provided does not exist in our records.".to_owned()
            }
            Self::Signature(FormSignatureError::Mismatch) | Self::Mismatch { .. } => {
                "The request signature we calculated does not match the signature you provided. Check your key and signing method."
                    .to_owned()
            }
            Self::Unavailable => "Please reduce your request rate.".to_owned(),
            Self::Internal => "We encountered an internal error. Please try again.".to_owned(),
        }
    }

    /// What S3 says beside the message: the argument that is wrong, or what was to be signed.
    fn details(&self) -> Vec<(&'static str, String)> {
        let (name, value) = match self {
            Self::Missing("awsaccesskeyid") => ("AWSAccessKeyId", ""),
            Self::Missing(name) | Self::Signature(FormSignatureError::Malformed(name)) => (*name, ""),
            Self::NoFile => ("file", "0"),
            Self::EmptyKey => ("key", ""),
            Self::InvalidField { name, value } => (name.as_str(), value.as_str()),
            Self::KeyTooLong(size) => {
                return vec![("Size", size.to_string()), ("MaxSizeAllowed", KEY_BYTES_MAX.to_string())];
            }
            Self::HeaderNotBuilt(name) => return vec![("Header", name.clone())],
            Self::Mismatch { access_key, policy, signature } => {
                return vec![
                    ("AWSAccessKeyId", access_key.clone()),
                    ("StringToSign", policy.clone()),
                    ("SignatureProvided", signature.clone()),
                    ("StringToSignBytes", bytes_of(policy)),
                ];
            }
            _ => return Vec::new(),
        };
        vec![("ArgumentName", name.to_owned()), ("ArgumentValue", value.to_owned())]
    }
}
