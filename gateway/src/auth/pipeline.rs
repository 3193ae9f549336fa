//! The way every request goes to its decision: who asks and what is known of the request on one side, what is asked for on
//! the other, and [`decide`] between them.
//!
//! Policies of users, groups and roles join as [`Grounds::identity`], those of sessions as [`Grounds::session`].

use std::sync::Arc;

use annulus_common::object::UserId;
use annulus_common::policy::{Context, Principal, Question, Verdict};
use s3s::{S3Result, s3_error};
use tracing::debug;

use super::action::{Action, LIST_BUCKET, is_bucket_owners};
use super::decide::{Grounds, decide};
use super::resource::Resource;

/// Who asks, with all that the conditions of policies can know of the request. Every S3 operation finds it in the request's
/// extensions.
#[derive(Clone, Debug)]
pub struct Access {
    request: Arc<Asking>,
}

#[derive(Debug)]
struct Asking {
    principal: Principal,
    user: UserId,
    action: Action,
    context: Context,
}

impl Access {
    /// What is known of a request before its operation looks at anything.
    pub(super) fn new(principal: Principal, action: Action, context: Context) -> Self {
        let user = principal.account().unwrap_or(UserId::ANONYMOUS);
        Self { request: Arc::new(Asking { principal, user, action, context }) }
    }

    /// The account that asks, or [`UserId::ANONYMOUS`].
    pub fn user(&self) -> UserId {
        self.request.user
    }

    /// What the operation does.
    pub fn action(&self) -> Action {
        self.request.action
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

    /// Whether one who asks for a key may learn that it is not there: who may list it may.
    pub fn may_know_of(&self, resource: &Resource<'_>) -> bool {
        let prefix = ("s3:prefix".to_owned(), resource.key.unwrap_or_default().to_owned());
        self.may_with(LIST_BUCKET, &Resource::bucket(resource.name, resource.bucket), vec![prefix])
    }

    fn may_in(&self, action: Action, resource: &Resource<'_>, context: &Context) -> bool {
        let name = if resource.of_version { action.of_version } else { action.name };
        let arn = resource.arn();
        let question = Question { principal: &self.request.principal, action: name, resource: &arn, context };
        let may = decide(&self.grounds(action, resource));
        if !may {
            debug!(action = question.action, resource = question.resource, caller = %self.user(), "not allowed");
        }
        may
    }

    fn grounds(&self, action: Action, resource: &Resource<'_>) -> Grounds {
        let by_place = is_bucket_owners(action) && self.user() == resource.bucket.owner;
        Grounds {
            caller: self.request.principal.account(),
            bucket_owner: resource.bucket.owner,
            owner: resource.owner(),
            bucket_policy: Verdict::Silent,
            restricted: false,
            mendable: false,
            granted: by_place || resource.grants(action.granted_by, self.user()),
            identity: None,
            session: None,
        }
    }
}
