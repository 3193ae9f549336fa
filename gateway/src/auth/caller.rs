//! Who stands behind an access key: an account itself, a user of it, or a session; with the policies that hold for it.

use std::sync::Arc;

use annulus_common::iam::{Kind, Role, User};
use annulus_common::map::ClusterMap;
use annulus_common::object::UserId;
use annulus_common::policy::{Context, IdentityPolicy, Principal, Question, Verdict};
use annulus_common::tags::Tags;
use http::request::Parts;
use s3s::{S3Error, s3_error};

use super::facts::{self, Head};
use super::pipeline::Rights;
use super::sessions::{Session, SessionOf, Sessions};
use crate::request::Peer;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// By the names that policies know.
    pub(crate) principal: Principal,
    /// What policies of its account say about it.
    pub(super) rights: Rights,
    /// Its tags.
    pub(super) tags: Tags,
    /// The session that it has, if it came with temporary credentials.
    pub(crate) session: Option<Arc<Session>>,
}

/// Why nobody stands behind an access key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Unrecognised {
    /// There is no such key, or it does not sign.
    #[error("The AWS Access Key Id you provided does not exist in our records.")]
    Key,
    /// The token is not this key's, or whoever had the session is gone.
    #[error("The provided token is malformed or otherwise invalid.")]
    Token,
    /// The session is over.
    #[error("The provided token has expired.")]
    Expired,
}

impl Caller {
    /// Somebody without policies: an account itself, a service, or nobody.
    pub(crate) fn unbounded(principal: Principal) -> Self {
        Self { principal, rights: Rights::default(), tags: Tags::new(), session: None }
    }

    /// Who signed with that key and came with that token.
    pub(crate) fn identify(
        map: &ClusterMap,
        sessions: &Sessions,
        now_ms: u64,
        access_key: &str,
        token: Option<&str>,
    ) -> Result<Self, Unrecognised> {
        let Some(key) = map.active_key(access_key) else {
            let token = token.filter(|_| Sessions::is_temporary(access_key)).ok_or(Unrecognised::Key)?;
            let session = sessions.read(access_key, token).ok_or(Unrecognised::Token)?;
            return Self::of_session(map, session, now_ms);
        };
        if token.is_some() {
            return Err(Unrecognised::Token);
        }
        match &key.iam_user {
            None => Self::of_account(map, key.user).ok_or(Unrecognised::Key),
            Some(name) => {
                let user = map.iam.user(key.user, name.as_str()).ok_or(Unrecognised::Key)?;
                Ok(Self::of_user(map, key.user, user))
            }
        }
    }

    /// Its ARN, as errors name it; nobody has none.
    pub(crate) fn arn(&self) -> String {
        match &self.principal {
            Principal::Role { session, .. } => session.clone(),
            other => other.arn().unwrap_or_default(),
        }
    }

    /// Whether the caller's account lets it do something in it, such as `iam:CreateUser`.
    pub(crate) fn may(&self, action: &str, resource: &str, context: &Context) -> bool {
        self.rights.allow(&Question { principal: &self.principal, action, resource, context })
    }

    /// What the caller's own policies say, and those of its session; an account itself has none.
    pub(crate) fn judge(&self, question: &Question<'_>) -> Option<Verdict> {
        let identity = Rights::judge(self.rights.identity.as_deref(), question);
        let session = Rights::judge(self.rights.session.as_deref(), question);
        match (identity, session) {
            (Some(Verdict::Deny), _) | (_, Some(Verdict::Deny)) => Some(Verdict::Deny),
            // It may do nothing that one of them does not allow.
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Whether the policies that its session was opened with allow it; without any there is nothing to go beyond.
    pub(crate) fn session_allows(&self, question: &Question<'_>) -> bool {
        Rights::judge(self.rights.session.as_deref(), question).is_none_or(Verdict::allows)
    }

    /// What conditions can ask of a request that is not S3's.
    pub(crate) fn context(&self, request: &Parts, region: &str, now_ms: u64) -> Context {
        let peer = request.extensions.get::<Peer>().copied();
        let (headers, uri) = (&request.headers, &request.uri);
        facts::facts(self, &Head { operation: "", headers, uri, peer, signature: None, region, now_ms })
    }

    fn of_session(map: &ClusterMap, session: Session, now_ms: u64) -> Result<Self, Unrecognised> {
        if session.expires_ms <= now_ms {
            return Err(Unrecognised::Expired);
        }
        let account = session.account;
        let caller = match &session.of {
            SessionOf::Account => Self::of_account(map, account),
            SessionOf::User { name, id } => {
                let user = map.iam.user(account, name).filter(|user| user.profile.id == *id);
                user.map(|user| Self::of_user(map, account, user))
            }
            SessionOf::Role { name, id, session } => {
                let role = map.iam.role(account, name).filter(|role| role.profile.id == *id);
                role.map(|role| Self::of_role(map, account, role, session))
            }
        };
        let mut caller = caller.ok_or(Unrecognised::Token)?;
        caller.rights.session = session_policies(map, &session);
        caller.session = Some(Arc::new(session));
        Ok(caller)
    }

    fn of_account(map: &ClusterMap, id: UserId) -> Option<Self> {
        map.users.contains_key(&id).then(|| Self::unbounded(Principal::Account { id }))
    }

    fn of_user(map: &ClusterMap, account: UserId, user: &User) -> Self {
        let profile = &user.profile;
        let principal = Principal::User {
            account,
            arn: profile.arn(account, Kind::User),
            id: profile.id.clone(),
            name: profile.name.clone(),
        };
        let rights = Rights { identity: Some(map.iam.policies_of_user(account, user)), session: None };
        Self { principal, rights, tags: user.tags.clone(), session: None }
    }

    fn of_role(map: &ClusterMap, account: UserId, role: &Role, session: &str) -> Self {
        let profile = &role.profile;
        let principal = Principal::Role {
            account,
            arn: profile.arn(account, Kind::Role),
            session: session_arn(account, &profile.name, session),
            id: format!("{}:{session}", profile.id),
        };
        let rights = Rights { identity: Some(map.iam.policies_of_role(account, role)), session: None };
        Self { principal, rights, tags: role.tags.clone(), session: None }
    }
}

/// `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION`
pub(crate) fn session_arn(account: UserId, role: &str, session: &str) -> String {
    format!("arn:aws:sts::{}:assumed-role/{role}/{session}", account.number())
}

/// A managed policy that is gone allows nothing.
fn session_policies(map: &ClusterMap, session: &Session) -> Option<Vec<Arc<IdentityPolicy>>> {
    if session.policy.is_none() && session.policy_arns.is_empty() {
        return None;
    }
    let managed = session.policy_arns.iter().filter_map(|arn| map.iam.policy_in_force(session.account, arn)).cloned();
    Some(session.policy.iter().cloned().map(Arc::new).chain(managed).collect())
}

impl From<Unrecognised> for S3Error {
    fn from(unrecognised: Unrecognised) -> Self {
        match unrecognised {
            Unrecognised::Key => s3_error!(InvalidAccessKeyId),
            Unrecognised::Token => s3_error!(InvalidToken),
            Unrecognised::Expired => s3_error!(ExpiredToken),
        }
    }
}
