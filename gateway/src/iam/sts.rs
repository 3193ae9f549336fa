//! Sessions: of the caller itself, or of a role that it assumes.

use std::ops::RangeInclusive;
use std::sync::Arc;

use annulus_common::iam::{IamRefusal, Kind, Role};
use annulus_common::ids::AccountNumber;
use annulus_common::object::UserId;
use annulus_common::policy::{IdentityPolicy, Principal, Question, Verdict};

use super::Service;
use super::call::Call;
use super::document::identity_policy;
use super::error::IamError;
use super::facts;
use super::params::{ARN_CHARS, too_many};
use super::xml::Xml;
use crate::auth::{Session, SessionOf, session_arn};

/// How long sessions of roles may be, where the role does not say less, and are, where nobody says.
const ROLE_SECONDS: RangeInclusive<u32> = 900..=43_200;
const ROLE_SECONDS_DEFAULT: u32 = 3_600;

/// How long a session of a role may be that another role's session opened ("role chaining"), and one of the account itself.
const CHAINED_SECONDS_MAX: u32 = 3_600;

/// The same of users' own.
const OWN_SECONDS: RangeInclusive<u32> = 900..=129_600;
const OWN_SECONDS_DEFAULT: u32 = 43_200;

/// The largest policy that a session may be opened with, and how many managed ones. AWS packs them and refuses what is too large
/// then (`PackedPolicyTooLarge`); here a session is as large as they are.
const SESSION_POLICY_CHARS: RangeInclusive<usize> = 1..=2_048;
const SESSION_POLICIES_MAX: usize = 10;

/// What the name of a session is made of beside letters, digits and underscores, as AWS writes it.
const SESSION_NAME_CHARS: RangeInclusive<usize> = 2..=64;
const SESSION_NAME: (&str, &[u8]) = ("[\\w+=,.@-]*", b"+=,.@-");

/// The same of what a role may want to be told.
const EXTERNAL_ID_CHARS: RangeInclusive<usize> = 2..=1_224;
const EXTERNAL_ID: (&str, &[u8]) = ("[\\w+=,.@:\\/-]*", b"+=,.@:/-");

impl Call<'_> {
    pub(super) fn sts(&self, action: &str) -> Result<Xml, IamError> {
        match action {
            "GetCallerIdentity" => Ok(self.caller_identity()),
            "GetSessionToken" => self.session_token(),
            "AssumeRole" => self.assume_role(),
            _ => Err(Service::Sts.no_such_action(action)),
        }
    }

    /// Everybody may know who they are.
    fn caller_identity(&self) -> Xml {
        let (arn, id) = match &self.caller.principal {
            Principal::User { arn, id, .. } => (arn.clone(), id.clone()),
            Principal::Role { session, id, .. } => (session.clone(), id.clone()),
            other => (other.arn().unwrap_or_default(), self.account.number().to_string()),
        };
        Xml::new().text("Arn", arn).text("UserId", id).text("Account", self.account.number())
    }

    /// A session that may do what the caller may.
    fn session_token(&self) -> Result<Xml, IamError> {
        let of = match &self.caller.principal {
            _ if self.caller.session.is_some() => return Err(self.denied("sts:GetSessionToken", "*")),
            Principal::Account { .. } => SessionOf::Account,
            Principal::User { name, id, .. } => SessionOf::User { name: name.clone(), id: id.clone() },
            _ => return Err(self.denied("sts:GetSessionToken", "*")),
        };
        let asked = self.params.number("DurationSeconds", OWN_SECONDS)?.unwrap_or(OWN_SECONDS_DEFAULT);
        let seconds = if of == SessionOf::Account { asked.min(CHAINED_SECONDS_MAX) } else { asked };
        let session = self.session(self.account, of, seconds);
        Ok(Xml::new().inside("Credentials", self.credentials(&session)?))
    }

    fn assume_role(&self) -> Result<Xml, IamError> {
        let arn = self.params.text("RoleArn", ARN_CHARS)?;
        let name = self.params.words("RoleSessionName", SESSION_NAME_CHARS, SESSION_NAME)?;
        if self.params.get("ExternalId").is_some() {
            self.params.words("ExternalId", EXTERNAL_ID_CHARS, EXTERNAL_ID)?;
        }
        if !is_arn(arn) {
            return Err(IamError::Validation(format!("{arn} is invalid")));
        }
        // Whether there is such a role is told to nobody who may not assume it.
        let denied = || self.denied("sts:AssumeRole", arn);
        let (account, role) = self.role_of_arn(arn).ok_or_else(denied)?;
        if !self.may_assume(account, arn, role, name) {
            return Err(denied());
        }
        let seconds = self.role_seconds(role)?;
        let of =
            SessionOf::Role { name: role.profile.name.clone(), id: role.profile.id.clone(), session: name.to_owned() };
        let (policy, policy_arns) = (self.session_policy()?, self.session_policy_arns(account)?);
        // See "AssumeRole" in the STS API reference: "You cannot call AssumeRole by using AWS account root user credentials".
        if matches!(self.caller.principal, Principal::Account { .. }) {
            return Err(IamError::RootAssumes);
        }
        let session = Session { policy, policy_arns, ..self.session(account, of, seconds) };
        let assumed = Xml::new()
            .text("AssumedRoleId", format!("{}:{name}", role.profile.id))
            .text("Arn", session_arn(account, &role.profile.name, name));
        Ok(Xml::new().inside("Credentials", self.credentials(&session)?).inside("AssumedRoleUser", assumed))
    }

    fn role_of_arn(&self, arn: &str) -> Option<(UserId, &Arc<Role>)> {
        let (number, rest) = arn.strip_prefix("arn:aws:iam::")?.split_once(':')?;
        let number = AccountNumber::parse(number)?;
        let account = *self.map.users.keys().find(|account| account.number() == number)?;
        let role = self.known().role(account, rest.rsplit('/').next()?)?;
        (role.profile.arn(account, Kind::Role) == arn).then_some((account, role))
    }

    /// A role that trusts the caller itself is enough, unless the caller's own policies forbid it; where it trusts an account,
    /// that account's policies say who in it. Where it trusts everybody, other accounts say so too.
    fn may_assume(&self, account: UserId, arn: &str, role: &Role, session: &str) -> bool {
        let mut more = vec![("sts:RoleSessionName".to_owned(), session.to_owned())];
        more.extend(self.params.get("ExternalId").map(|id| ("sts:ExternalId".to_owned(), id.to_owned())));
        let context = self.context.with(more.into_iter().chain(facts::of_tagged(Some(&role.tags))));
        let question =
            Question { principal: &self.caller.principal, action: "sts:AssumeRole", resource: arn, context: &context };
        let own = self.caller.judge(&question);
        match role.trust.judge(&question) {
            Verdict::Deny | Verdict::Silent => false,
            Verdict::AllowAccount => own.is_none_or(Verdict::allows),
            Verdict::Allow if account != self.account && !role.trust.allows_by_name(&question) => {
                own.is_none_or(Verdict::allows)
            }
            // Only who is named as that very session goes beyond what it was opened with.
            Verdict::Allow => own != Some(Verdict::Deny) && self.caller.session_allows(&question),
            Verdict::AllowSession => own != Some(Verdict::Deny),
        }
    }

    fn role_seconds(&self, role: &Role) -> Result<u32, IamError> {
        let asked = self.params.number("DurationSeconds", ROLE_SECONDS)?.unwrap_or(ROLE_SECONDS_DEFAULT);
        let message = match self.caller.session {
            Some(_) if !self.has_session_of_own() && asked > CHAINED_SECONDS_MAX => {
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
            }
            _ if asked > role.session_seconds_max => {
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            }
            _ => return Ok(asked),
        };
        Err(IamError::Validation(message.to_owned()))
    }

    fn session_policy(&self) -> Result<Option<IdentityPolicy>, IamError> {
        if self.params.get("Policy").is_none() {
            return Ok(None);
        }
        identity_policy(self.params.text("Policy", SESSION_POLICY_CHARS)?).map(Some)
    }

    fn session_policy_arns(&self, account: UserId) -> Result<Vec<String>, IamError> {
        let arns: Vec<String> = self.params.list_of("PolicyArns", "arn")?.into_iter().map(str::to_owned).collect();
        if arns.len() > SESSION_POLICIES_MAX {
            return Err(too_many("PolicyArns", SESSION_POLICIES_MAX));
        }
        if let Some(missing) = arns.iter().find(|arn| self.known().policy_in_force(account, arn).is_none()) {
            return Err(IamRefusal::NoSuchEntity(format!("Policy {missing} was not found.")).into());
        }
        Ok(arns)
    }

    fn session(&self, account: UserId, of: SessionOf, seconds: u32) -> Session {
        let (issued_ms, expires_ms) = (self.now_ms, self.now_ms + u64::from(seconds) * 1000);
        Session { account, of, policy: None, policy_arns: Vec::new(), issued_ms, expires_ms }
    }

    fn credentials(&self, session: &Session) -> Result<Xml, IamError> {
        let credentials = self.api.accounts.sessions().open(session)?;
        Ok(Xml::new()
            .text("AccessKeyId", credentials.access_key)
            .text("SecretAccessKey", credentials.secret_key)
            .text("SessionToken", credentials.token)
            .time("Expiration", session.expires_ms))
    }
}

/// Whether it is an ARN at all: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
fn is_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, service, _, _, resource] = parts[..] else { return false };
    arn == "arn" && !partition.is_empty() && !service.is_empty() && !resource.is_empty()
}

#[cfg(test)]
mod tests {
    use super::is_arn;

    #[test]
    fn arns_have_six_parts() {
        assert!(is_arn("arn:aws:iam::111122223333:role/x"));
        for wrong in [
            "nothing-valid-in-here",
            "arn::b:::something/test-role",
            "arn:a::::something/test-role",
            "arn:a:::something/test-role",
            "arn:a:a::aaaaaaaaaa:",
        ] {
            assert!(!is_arn(wrong), "{wrong}");
        }
    }
}
