//! Policies of users, groups, roles and sessions, and what roles trust, as they are kept: the text that was sent, and what it
//! means, read once. Only the text is stored and sent, as it is with a bucket's policy.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::document::{Owner, Policy};
use super::error::PolicyError;
use super::{Question, Verdict};

/// A policy that is about whom it belongs to.
pub type IdentityPolicy = KeptPolicy<false>;

/// What a role trusts: who may assume it.
pub type TrustPolicy = KeptPolicy<true>;

/// A policy as it is kept; `TRUST` where it is a role's, about others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptPolicy<const TRUST: bool> {
    text: String,
    policy: Policy,
}

impl<const TRUST: bool> KeptPolicy<TRUST> {
    const OWNER: Owner<'static> = if TRUST { Owner::Trust } else { Owner::User };

    /// The policy that `text` writes.
    pub fn parse(text: String) -> Result<Self, PolicyError> {
        let policy = Policy::parse(text.trim_start(), Self::OWNER)?;
        let mut names = HashSet::new();
        let repeated =
            policy.statements.iter().filter_map(|statement| statement.sid.as_deref()).any(|sid| !names.insert(sid));
        if repeated { Err(PolicyError::Sid) } else { Ok(Self { text, policy }) }
    }

    /// As it was sent.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What counts against the limits of policies: characters that are no white space.
    pub fn chars(&self) -> usize {
        self.text.chars().filter(|char| !char.is_whitespace()).count()
    }

    /// What it says about a request, or about somebody who would assume the role.
    pub fn judge(&self, question: &Question<'_>) -> Verdict {
        self.policy.judge(question)
    }
}

impl TrustPolicy {
    /// Whether it allows something to the one who asks by its own name, not as everybody or as one of an account.
    pub fn allows_by_name(&self, question: &Question<'_>) -> bool {
        let by_name = self.policy.statements.iter().filter(|statement| !statement.is_about_everybody());
        by_name.map(|statement| statement.judge(question)).max() >= Some(Verdict::Allow)
    }
}

impl<const TRUST: bool> Serialize for KeptPolicy<TRUST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de, const TRUST: bool> Deserialize<'de> for KeptPolicy<TRUST> {
    /// The text was judged when it was set. Should this version not understand it all the same, it forbids everything: a map
    /// that cannot be read would stop the cluster, and a policy that is skipped might have forbidden something.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let policy = Policy::parse(text.trim_start(), Self::OWNER).unwrap_or_else(|_| Policy::forbidding());
        Ok(Self { text, policy })
    }
}

#[cfg(test)]
mod tests {
    use super::{IdentityPolicy, TrustPolicy};
    use crate::ids::UserId;
    use crate::policy::{Context, PolicyError, Principal, Question, Verdict};

    const ALLOW: &str =
        r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iam:Get*", "Resource": "*"}}"#;

    #[test]
    fn an_identitys_policy_is_about_whom_it_belongs_to() {
        let policy = IdentityPolicy::parse(ALLOW.to_owned()).expect("a policy");
        assert_eq!(policy.text(), ALLOW);
        assert_eq!(policy.chars(), ALLOW.chars().filter(|char| *char != ' ').count());
        let (principal, context) = (Principal::Anonymous, Context::default());
        let asked = |action| {
            policy.judge(&Question {
                principal: &principal,
                action,
                resource: "arn:aws:iam::1:user/x",
                context: &context,
            })
        };
        assert_eq!(asked("iam:GetUser"), Verdict::Allow);
        assert_eq!(asked("iam:DeleteUser"), Verdict::Silent);
        let principal = ALLOW.replace("\"Action\"", "\"Principal\": \"*\", \"Action\"");
        assert_eq!(IdentityPolicy::parse(principal), Err(PolicyError::Principal("\"*\"".to_owned())));
        let twice = r#"{"Effect": "Allow", "Action": "*", "Resource": "*", "Sid": "a"}"#;
        let twice = format!(r#"{{"Version": "2012-10-17", "Statement": [{twice}, {twice}]}}"#);
        assert_eq!(IdentityPolicy::parse(twice), Err(PolicyError::Sid));
    }

    #[test]
    fn trust_is_about_who_may_assume_a_role() {
        let account = UserId([1; 32]);
        let trust = |principal: &str, more: &str| {
            let statement =
                format!(r#"{{"Effect": "Allow", "Principal": {principal}, "Action": "sts:AssumeRole"{more}}}"#);
            TrustPolicy::parse(format!(r#"{{"Version": "2012-10-17", "Statement": [{statement}]}}"#))
        };
        let of_account = trust(&format!(r#"{{"AWS": "{}"}}"#, account.number()), "").expect("a trust policy");
        let principal = Principal::Account { id: account, name: "alice".to_owned() };
        let context = Context::default();
        let question = Question {
            principal: &principal,
            action: "sts:AssumeRole",
            resource: "arn:aws:iam::1:role/r",
            context: &context,
        };
        assert_eq!(of_account.judge(&question), Verdict::AllowAccount);
        for (principal, by_name) in [
            ("\"*\"", false),
            (r#"{"AWS": ["*", "arn:aws:iam:::user/alice"]}"#, false),
            (r#"{"AWS": "arn:aws:iam:::user/alice"}"#, true),
        ] {
            let policy = trust(principal, "").expect("a trust policy");
            assert_eq!((policy.judge(&question), policy.allows_by_name(&question)), (Verdict::Allow, by_name));
        }
        assert!(!of_account.allows_by_name(&question), "the account says who");
        assert_eq!(trust("\"*\"", r#", "Resource": "*""#), Err(PolicyError::Resource("*".to_owned())));
        assert_eq!(trust("\"nobody\"", ""), Err(PolicyError::Principal("\"nobody\"".to_owned())));
        let action = r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}}"#;
        assert_eq!(TrustPolicy::parse(action.to_owned()), Err(PolicyError::Action("s3:GetObject".to_owned())));
    }
}
