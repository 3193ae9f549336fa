//! Policies as parameters and as parts of answers, where they are percent-encoded.

use std::sync::Arc;

use annulus_common::iam::{IamRefusal, MANAGED_POLICY_CHARS_MAX, TRUST_POLICY_CHARS_MAX, WHITE_SPACE_FACTOR};
use annulus_common::policy::{IdentityPolicy, TrustPolicy};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::call::Call;
use super::error::IamError;

/// What RFC 3986 leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The most that any policy may have: that of a role's own.
const POLICY_CHARS_MAX: usize = 10_240;

/// A document in an answer.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

impl Call<'_> {
    /// The parameter `PolicyDocument`.
    pub(super) fn policy_document(&self, chars_max: usize) -> Result<Arc<IdentityPolicy>, IamError> {
        let text = self.params.required("PolicyDocument")?;
        check_size(text.len(), chars_max)?;
        let policy = IdentityPolicy::parse(text.to_owned())?;
        check_chars(policy.chars(), chars_max)?;
        Ok(Arc::new(policy))
    }

    /// The same for a managed policy.
    pub(super) fn managed_document(&self) -> Result<Arc<IdentityPolicy>, IamError> {
        self.policy_document(MANAGED_POLICY_CHARS_MAX)
    }

    /// The same for a policy of a user's, group's or role's own; its limit depends on what is there.
    pub(super) fn inline_document(&self) -> Result<Arc<IdentityPolicy>, IamError> {
        self.policy_document(POLICY_CHARS_MAX)
    }

    /// What a role trusts.
    pub(super) fn trust_document(&self, parameter: &str) -> Result<Arc<TrustPolicy>, IamError> {
        let text = self.params.required(parameter)?;
        check_size(text.len(), TRUST_POLICY_CHARS_MAX)?;
        let policy = TrustPolicy::parse(text.to_owned())?;
        check_chars(policy.chars(), TRUST_POLICY_CHARS_MAX)?;
        Ok(Arc::new(policy))
    }
}

fn check_size(bytes: usize, chars_max: usize) -> Result<(), IamError> {
    check_chars(bytes, WHITE_SPACE_FACTOR * chars_max)
}

fn check_chars(chars: usize, most: usize) -> Result<(), IamError> {
    let message = || format!("Cannot exceed quota for PolicySize: {most}");
    if chars <= most { Ok(()) } else { Err(IamRefusal::LimitExceeded(message()).into()) }
}
