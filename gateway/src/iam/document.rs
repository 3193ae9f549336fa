//! Policies as parameters and as parts of answers, where they are percent-encoded.

use std::sync::Arc;

use annulus_common::iam::{IamRefusal, MANAGED_POLICY_CHARS_MAX, TRUST_POLICY_CHARS_MAX, WHITE_SPACE_FACTOR};
use annulus_common::policy::{IdentityPolicy, PolicyError, TrustPolicy};
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
        check_size("PolicySize", text.len(), chars_max)?;
        let policy = identity_policy(text)?;
        check_chars("PolicySize", policy.chars(), chars_max)?;
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
        check_size("ACLSizePerRole", text.len(), TRUST_POLICY_CHARS_MAX)?;
        let policy = TrustPolicy::parse(text.to_owned()).and_then(|policy| policy.about(|arn| self.map.whom(arn)));
        let policy = policy.map_err(|error| malformed(&error, true))?;
        check_chars("ACLSizePerRole", policy.chars(), TRUST_POLICY_CHARS_MAX)?;
        Ok(Arc::new(policy))
    }
}

/// What a user, a group, a role or a session may do.
pub(super) fn identity_policy(text: &str) -> Result<IdentityPolicy, IamError> {
    IdentityPolicy::parse(text.to_owned()).map_err(|error| malformed(&error, false))
}

fn check_size(quota: &str, bytes: usize, chars_max: usize) -> Result<(), IamError> {
    let most = WHITE_SPACE_FACTOR * chars_max;
    if bytes <= most { Ok(()) } else { Err(too_large(quota, chars_max)) }
}

fn check_chars(quota: &str, chars: usize, most: usize) -> Result<(), IamError> {
    if chars <= most { Ok(()) } else { Err(too_large(quota, most)) }
}

fn too_large(quota: &str, most: usize) -> IamError {
    IamRefusal::LimitExceeded(format!("Cannot exceed quota for {quota}: {most}")).into()
}

/// IAM has words of its own for what S3 says of a bucket's policy.
fn malformed(error: &PolicyError, of_trust: bool) -> IamError {
    let words = match error {
        PolicyError::NotJson | PolicyError::InvalidJson => "This policy contains invalid Json".to_owned(),
        PolicyError::Principal(_) if !of_trust => "Policy document should not specify a principal.".to_owned(),
        PolicyError::Principal(who) => format!("Invalid principal in policy: {}", who.replace(" : ", ":")),
        PolicyError::Action(_) if of_trust => "AssumeRole policy may only specify STS AssumeRole actions.".to_owned(),
        PolicyError::Action(_) => {
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.".to_owned()
        }
        PolicyError::Resource(_) if of_trust => "Has prohibited field Resource".to_owned(),
        PolicyError::Resource(what) => format!("Resource {what} must be in ARN format or \"*\"."),
        PolicyError::Missing("Action") => "Policy statement must contain actions.".to_owned(),
        PolicyError::Missing("Resource") => "Policy statement must contain resources.".to_owned(),
        PolicyError::Sid => "Statement IDs (SID) in a single policy must be unique.".to_owned(),
        PolicyError::TooLarge => error.to_string(),
        _ => "Syntax errors in policy.".to_owned(),
    };
    IamError::MalformedPolicy(words)
}

#[cfg(test)]
mod tests {
    use annulus_common::policy::TrustPolicy;

    use super::{identity_policy, malformed};

    #[test]
    fn documents_are_refused_in_the_words_of_iam() {
        let statement = |more: &str| format!(r#"{{"Statement": {{"Effect": "Allow"{more}}}}}"#);
        let of_user = |more: &str| identity_policy(&statement(more)).unwrap_err().to_string();
        let of_trust = |more: &str| {
            let error = TrustPolicy::parse(statement(more)).unwrap_err();
            malformed(&error, true).to_string()
        };
        assert_eq!(of_user(r#", "Action": "s3:*", "Resource": "b""#), "Resource b must be in ARN format or \"*\".");
        assert_eq!(
            of_user(r#", "Action": "s3:*", "Resource": "*", "Principal": "*""#),
            "Policy document should not specify a principal."
        );
        assert_eq!(of_user(r#", "Resource": "*""#), "Policy statement must contain actions.");
        assert_eq!(of_user(r#", "Colour": "red""#), "Syntax errors in policy.");
        assert_eq!(identity_policy("{").unwrap_err().to_string(), "This policy contains invalid Json");
        assert_eq!(
            of_trust(r#", "Principal": "*", "Action": "s3:*""#),
            "AssumeRole policy may only specify STS AssumeRole actions."
        );
        assert_eq!(
            of_trust(r#", "Principal": "*", "Action": "sts:AssumeRole", "Resource": "*""#),
            "Has prohibited field Resource"
        );
        assert_eq!(
            of_trust(r#", "Principal": {"AWS": "alice"}, "Action": "sts:AssumeRole""#),
            "Invalid principal in policy: \"AWS\":\"alice\""
        );
    }
}
