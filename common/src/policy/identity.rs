//! Policies of users, groups, roles and sessions, and what roles trust, as they are kept: the text that was sent, and what it
//! means, read once. Only the text is stored and sent, and whom a role trusts, as it is with a bucket's policy.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bound::{Ids, Whom, bind, shown};
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
    /// Whom it names, where it is a role's.
    ids: Ids,
    policy: Policy,
}

impl<const TRUST: bool> KeptPolicy<TRUST> {
    const OWNER: Owner<'static> = if TRUST { Owner::Trust } else { Owner::User };

    /// The policy that `text` writes. Of users and roles it is about nobody yet.
    pub fn parse(text: String) -> Result<Self, PolicyError> {
        let policy = Policy::parse(text.trim_start(), Self::OWNER)?;
        let mut names = HashSet::new();
        let repeated =
            policy.statements.iter().filter_map(|statement| statement.sid.as_deref()).any(|sid| !names.insert(sid));
        if repeated { Err(PolicyError::Sid) } else { Ok(Self { text, ids: Ids::new(), policy }) }
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
    /// The same policy, about those who have the names in it, as `whom` knows them.
    pub fn about(mut self, whom: impl Fn(&str) -> Whom) -> Result<Self, PolicyError> {
        self.ids = bind(&mut self.policy, whom)?;
        Ok(self)
    }

    /// As it was sent, but for those who are called otherwise now: `name_of` says how, by the old name and the id.
    pub fn shown(&self, name_of: impl Fn(&str, &str) -> String) -> String {
        shown(&self.text, &self.ids, name_of)
    }

    /// Whether it allows something to the one who asks by its own name, not as everybody or as one of an account.
    pub fn allows_by_name(&self, question: &Question<'_>) -> bool {
        let by_name = self.policy.statements.iter().filter(|statement| !statement.is_about_everybody());
        by_name.map(|statement| statement.judge(question)).max() >= Some(Verdict::Allow)
    }
}

impl<const TRUST: bool> Serialize for KeptPolicy<TRUST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if TRUST { (&self.text, &self.ids).serialize(serializer) } else { self.text.serialize(serializer) }
    }
}

impl<'de, const TRUST: bool> Deserialize<'de> for KeptPolicy<TRUST> {
    /// The text was judged when it was set. Should this version not understand it all the same, it forbids everything: a map
    /// that cannot be read would stop the cluster, and a policy that is skipped might have forbidden something.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (text, ids) = match TRUST {
            true => <(String, Ids)>::deserialize(deserializer)?,
            false => (String::deserialize(deserializer)?, Ids::new()),
        };
        let mut policy = Policy::parse(text.trim_start(), Self::OWNER).unwrap_or_else(|_| Policy::forbidding());
        policy.bind(&ids);
        Ok(Self { text, ids, policy })
    }
}

#[cfg(test)]
mod tests {
    use super::{IdentityPolicy, TrustPolicy};
    use crate::ids::UserId;
    use crate::policy::{Context, PolicyError, Principal, Question, Verdict, Whom};

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
        let principal = Principal::Account { id: account };
        let context = Context::default();
        let question = Question {
            principal: &principal,
            action: "sts:AssumeRole",
            resource: "arn:aws:iam::1:role/r",
            context: &context,
        };
        assert_eq!(of_account.judge(&question), Verdict::AllowAccount);
        assert_eq!(trust("\"*\"", "").expect("a trust policy").judge(&question), Verdict::Allow);
        let alice = |arn: &str| match arn {
            "arn:aws:iam:::user/alice" => Whom::Somebody(account.to_string()),
            _ => Whom::Nobody,
        };
        for (principal, by_name) in [
            ("\"*\"", false),
            (r#"{"AWS": ["*", "arn:aws:iam:::user/alice"]}"#, false),
            (r#"{"AWS": "arn:aws:iam:::user/alice"}"#, true),
        ] {
            let policy = trust(principal, "").and_then(|policy| policy.about(alice)).expect("a trust policy");
            assert_eq!((policy.judge(&question), policy.allows_by_name(&question)), (Verdict::Allow, by_name));
            let stored = postcard::to_allocvec(&policy).expect("bytes");
            assert_eq!(postcard::from_bytes::<TrustPolicy>(&stored).expect("a policy"), policy);
        }
        let bob = trust(r#"{"AWS": "arn:aws:iam:::user/bob"}"#, "").expect("a trust policy").about(alice);
        assert_eq!(bob, Err(PolicyError::Principal("\"AWS\" : \"arn:aws:iam:::user/bob\"".to_owned())));
        assert!(!of_account.allows_by_name(&question), "the account says who");
        assert_eq!(trust("\"*\"", r#", "Resource": "*""#), Err(PolicyError::Resource("*".to_owned())));
        assert_eq!(trust("\"nobody\"", ""), Err(PolicyError::Principal("\"nobody\"".to_owned())));
        let action = r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}}"#;
        assert_eq!(TrustPolicy::parse(action.to_owned()), Err(PolicyError::Action("s3:GetObject".to_owned())));
    }
}
