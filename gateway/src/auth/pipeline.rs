//! The way every request goes to its decision: who asks and what is known of the request on one side, what is asked for on
//! the other, and [`decide`] between them.
//!
//! Policies of users, groups and roles join as [`Rights::identity`], those of sessions as [`Rights::session`]: whoever finds
//! out who asks ([`super::caller`]) gathers them, and the same engine judges them here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use annulus_common::object::UserId;
use annulus_common::policy::{Context, IdentityPolicy, Principal, Question, Verdict};
use s3s::{S3Result, s3_error};
use tracing::debug;

use super::Caller;
use super::action::{Action, LIST_BUCKET, is_bucket_owners, is_for_lists};
use super::decide::{Grounds, decide};
use super::resource::Resource;

/// What the account that owns a bucket may always do, so that a policy that forbids too much can be mended: see
/// "PutBucketPolicy" in the S3 API reference.
const MENDING: [&str; 3] = ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"];

/// How events name somebody who did not sign.
pub(crate) const ANONYMOUS: &str = "Anonymous";

/// Who asks, with all that the conditions of policies can know of the request. Every S3 operation finds it in the request's
/// extensions.
#[derive(Clone, Debug)]
pub struct Access {
    request: Arc<Asking>,
}

#[derive(Debug)]
struct Asking {
    caller: Caller,
    user: UserId,
    action: Action,
    context: Context,
    /// Whether something was allowed by an access control list alone.
    needed_list: AtomicBool,
}

/// What policies of the caller's own account say about the one who asks.
#[derive(Clone, Default, Debug)]
pub(super) struct Rights {
    /// Those of a user with its groups, or of a role. An account itself has none and needs none.
    pub(super) identity: Option<Vec<Arc<IdentityPolicy>>>,
    /// Those that a session was opened with, which may do nothing beyond them.
    pub(super) session: Option<Vec<Arc<IdentityPolicy>>>,
}

impl Access {
    /// What is known of a request before its operation looks at anything.
    pub(crate) fn new(caller: Caller, action: Action, context: Context) -> Self {
        let user = caller.principal.account().unwrap_or(UserId::ANONYMOUS);
        Self { request: Arc::new(Asking { caller, user, action, context, needed_list: AtomicBool::new(false) }) }
    }

    /// The account that asks, or [`UserId::ANONYMOUS`].
    pub fn user(&self) -> UserId {
        self.request.user
    }

    /// What the operation does.
    pub fn action(&self) -> Action {
        self.request.action
    }

    /// Who asks, as access logs name it: an account by its canonical id, whoever belongs to one by its ARN, nobody not at all.
    pub(crate) fn requester(&self) -> Option<String> {
        match &self.request.caller.principal {
            Principal::Anonymous => None,
            Principal::Account { id, .. } => Some(id.to_string()),
            Principal::Role { session, .. } => Some(session.clone()),
            principal @ (Principal::User { .. } | Principal::Service(_)) => principal.arn(),
        }
    }

    /// Who asks, as events name it: `AWS:` and the id of a user or a session, or the number of an account.
    pub(crate) fn principal_id(&self) -> String {
        match &self.request.caller.principal {
            Principal::Anonymous => ANONYMOUS.to_owned(),
            Principal::Account { id, .. } => format!("AWS:{}", id.number()),
            Principal::User { id, .. } | Principal::Role { id, .. } => format!("AWS:{id}"),
            Principal::Service(name) => (*name).to_owned(),
        }
    }

    /// Whether something was allowed so far only because an access control list grants it.
    pub(crate) fn needed_list(&self) -> bool {
        self.request.needed_list.load(Ordering::Relaxed)
    }

    /// Refuses what may not be done.
    pub fn check(&self, action: Action, resource: &Resource<'_>) -> S3Result {
        if self.may(action, resource) { Ok(()) } else { Err(s3_error!(AccessDenied)) }
    }

    /// Whether it may be done.
    pub fn may(&self, action: Action, resource: &Resource<'_>) -> bool {
        self.may_in(action, resource, &self.request.context)
    }

    /// The same, where the operation knows more of the request than its head says, such as `s3:RequestObjectTag/team`.
    pub fn may_with(&self, action: Action, resource: &Resource<'_>, more: Vec<(String, String)>) -> bool {
        self.may_in(action, resource, &self.request.context.with(more))
    }

    /// Refuses what may not be done, where the operation knows more.
    pub fn check_with(&self, action: Action, resource: &Resource<'_>, more: Vec<(String, String)>) -> S3Result {
        if self.may_with(action, resource, more) { Ok(()) } else { Err(s3_error!(AccessDenied)) }
    }

    /// Whether one who asks for a key may learn that it is not there: who may list it may.
    pub fn may_know_of(&self, resource: &Resource<'_>) -> bool {
        let prefix = ("s3:prefix".to_owned(), resource.key.unwrap_or_default().to_owned());
        self.may_with(LIST_BUCKET, &Resource::bucket(resource.name, resource.bucket), vec![prefix])
    }

    /// Whether the one who asks owns the bucket, where that is enough.
    fn is_by_place(&self, action: Action, resource: &Resource<'_>) -> bool {
        is_bucket_owners(action) && self.user() == resource.bucket.owner
    }

    /// Refuses what the caller's own account has not given it: what is about no bucket of another's.
    pub(crate) fn check_in_account(&self, action: &str, arn: &str, more: Vec<(String, String)>) -> S3Result {
        let (request, context) = (&*self.request, self.request.context.with(more));
        let question = Question { principal: &request.caller.principal, action, resource: arn, context: &context };
        if request.caller.rights.allow(&question) { Ok(()) } else { Err(s3_error!(AccessDenied)) }
    }

    fn may_in(&self, action: Action, resource: &Resource<'_>, context: &Context) -> bool {
        let name = if resource.of_version { action.of_version } else { action.name };
        let mut grounds = self.without_policies(action, name, resource);
        self.add_policies(&mut grounds, name, resource, context);
        let may = decide(&grounds);
        if may && grounds.granted && !decide(&Grounds { granted: self.is_by_place(action, resource), ..grounds }) {
            self.request.needed_list.store(true, Ordering::Relaxed);
        }
        if !may {
            debug!(action = name, bucket = resource.name, key = resource.key, caller = %self.user(), "not allowed");
        }
        may
    }

    fn without_policies(&self, action: Action, name: &str, resource: &Resource<'_>) -> Grounds {
        let by_place = self.is_by_place(action, resource);
        let by_list = is_for_lists(action, resource.of_version, self.user() == resource.bucket.owner)
            && resource.grants(action.granted_by, self.user());
        Grounds {
            caller: self.request.caller.principal.account(),
            bucket_owner: resource.bucket.owner,
            owner: resource.owner(),
            bucket_policy: Verdict::Silent,
            restricted: false,
            mendable: MENDING.contains(&name),
            granted: by_place || by_list,
            identity: None,
            session: None,
        }
    }

    /// What is known of the request is gathered and asked only where there is a policy to ask.
    fn add_policies(&self, grounds: &mut Grounds, action: &str, resource: &Resource<'_>, context: &Context) {
        let (request, bucket_policy) = (&*self.request, resource.bucket.config.policy.as_deref());
        let rights = &request.caller.rights;
        if bucket_policy.is_none() && !rights.are_bounded() {
            return;
        }
        let (arn, context) = (resource.arn(), context.with(resource.facts()));
        let question = Question { principal: &request.caller.principal, action, resource: &arn, context: &context };
        if let Some(policy) = bucket_policy {
            grounds.bucket_policy = policy.judge(&question);
            grounds.restricted = policy.is_public() && resource.restricts_public();
        }
        grounds.identity = Rights::judge(rights.identity.as_deref(), &question);
        grounds.session = Rights::judge(rights.session.as_deref(), &question);
    }
}

impl Rights {
    fn are_bounded(&self) -> bool {
        self.identity.is_some() || self.session.is_some()
    }

    /// Whether the account lets the one who asks do something in it.
    pub(super) fn allow(&self, question: &Question<'_>) -> bool {
        let given = |policies: &Option<Vec<Arc<IdentityPolicy>>>| {
            Self::judge(policies.as_deref(), question).is_none_or(Verdict::allows)
        };
        given(&self.identity) && given(&self.session)
    }

    /// The strongest that one of the policies says; nothing where there are none to ask.
    pub(super) fn judge(policies: Option<&[Arc<IdentityPolicy>]>, question: &Question<'_>) -> Option<Verdict> {
        let judged = policies?.iter().map(|policy| policy.judge(question));
        Some(judged.max().unwrap_or(Verdict::Silent))
    }
}
