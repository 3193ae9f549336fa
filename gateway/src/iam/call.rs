//! A call whose signature holds: who asks, for what, and whether they may.

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_common::iam::{EntityKey, Holder, Iam, IamChange, Kind, Profile, arn, of_account};
use annulus_common::map::ClusterMap;
use annulus_common::map::change::MapChange;
use annulus_common::object::UserId;
use annulus_common::policy::Context;
use annulus_common::tags::Tags;

use super::error::IamError;
use super::params::{LONG_NAME_CHARS_MAX, NAME_CHARS_MAX, Page, Params};
use super::random::entity_id;
use super::xml::Xml;
use super::{IamApi, Service, facts};
use crate::auth::{Caller, SessionOf};

/// A call.
pub(super) struct Call<'a> {
    pub(super) api: &'a IamApi,
    pub(super) map: Arc<ClusterMap>,
    pub(super) caller: Caller,
    /// The account that the caller is, or is in.
    pub(super) account: UserId,
    /// What conditions of policies can ask.
    pub(super) context: Context,
    pub(super) params: Params,
    pub(super) now_ms: u64,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        api: &'a IamApi,
        map: Arc<ClusterMap>,
        caller: Caller,
        context: Context,
        params: Params,
        now_ms: u64,
    ) -> Self {
        let account = caller.principal.account().unwrap_or(UserId::ANONYMOUS);
        Self { api, map, caller, account, context, params, now_ms }
    }

    pub(super) fn known(&self) -> &Iam {
        &self.map.iam
    }

    /// Whether the caller has a session that it opened for itself.
    pub(super) fn has_session_of_own(&self) -> bool {
        let session = self.caller.session.as_ref();
        session.is_some_and(|session| !matches!(session.of, SessionOf::Role { .. }))
    }

    /// Refuses what the caller's policies do not allow. An account itself may do everything in it.
    pub(super) fn permit(&self, action: &str, resource: &str) -> Result<(), IamError> {
        let policy = self.known().policy(self.account, resource);
        self.permit_tagged(action, resource, policy.map(|policy| &policy.tags))
    }

    /// The same, about something that has a name.
    pub(super) fn permit_of(&self, action: &str, of: &Holder) -> Result<(), IamError> {
        self.permit_tagged(action, &self.arn_of(of), self.tags_of(of).ok())
    }

    /// The same, about a user or a group that is to have another name or path: as what it is, and as what it will be. See
    /// "UpdateUser" in the IAM API reference.
    fn permit_rename(&self, action: &str, of: &Holder, name: Option<&str>, path: Option<&str>) -> Result<(), IamError> {
        self.permit_of(action, of)?;
        let there = self.profile_of(of);
        let path = path.or(there.map(|profile| profile.path.as_str())).unwrap_or("/");
        let name = name.or(there.map(|profile| profile.name.as_str())).unwrap_or(&of.name);
        self.permit_tagged(action, &arn(self.account, of.kind, path, name), self.tags_of(of).ok())
    }

    fn permit_tagged(&self, action: &str, resource: &str, tags: Option<&Tags>) -> Result<(), IamError> {
        let context = self.context.with(facts::of_call(action, &self.params).into_iter().chain(facts::of_tagged(tags)));
        let action = format!("iam:{action}");
        if self.caller.may(&action, resource, &context) { Ok(()) } else { Err(self.denied(&action, resource)) }
    }

    /// The caller may not.
    pub(super) fn denied(&self, action: &str, resource: &str) -> IamError {
        IamError::AccessDenied { caller: self.caller.arn(), action: action.to_owned(), resource: resource.to_owned() }
    }

    /// The ARN of what has that name; what is not there is taken to be at `/`.
    pub(super) fn arn_of(&self, of: &Holder) -> String {
        let profile = self.profile_of(of);
        profile.map_or_else(|| arn(self.account, of.kind, "/", &of.name), |profile| profile.arn(self.account, of.kind))
    }

    fn profile_of(&self, of: &Holder) -> Option<&Profile> {
        let (iam, account, name) = (self.known(), self.account, of.name.as_str());
        match of.kind {
            Kind::User => iam.user(account, name).map(|user| &user.profile),
            Kind::Group => iam.group(account, name).map(|group| &group.profile),
            Kind::Role => iam.role(account, name).map(|role| &role.profile),
            Kind::Policy => None,
        }
    }

    /// What the parameter `UserName`, `GroupName` or `RoleName` names.
    pub(super) fn holder(&self, kind: Kind) -> Result<Holder, IamError> {
        let chars_max = if kind == Kind::Group { LONG_NAME_CHARS_MAX } else { NAME_CHARS_MAX };
        Ok(Holder::new(kind, self.params.name(&format!("{}Name", kind.named()), chars_max)?))
    }

    /// The profile of something new.
    pub(super) fn new_profile(&self, kind: Kind, name: &str) -> Result<Profile, IamError> {
        let path = self.params.path_if("Path")?.unwrap_or("/");
        Ok(Profile { id: entity_id(kind), name: name.to_owned(), path: path.to_owned(), created_ms: self.now_ms })
    }

    /// Changes what the account has. It is in force everywhere when this returns.
    pub(super) async fn change(&self, change: IamChange) -> Result<(), IamError> {
        self.change_map(MapChange::Iam { account: self.account, change }).await
    }

    /// Gives a user or a group another name, or another path.
    pub(super) async fn rename(
        &self,
        action: &str,
        kind: Kind,
        new_name: &str,
        chars_max: usize,
    ) -> Result<Xml, IamError> {
        let of = self.holder(kind)?;
        let name = self.params.name_if(new_name, chars_max)?.map(str::to_owned);
        let path = self.params.path_if("NewPath")?.map(str::to_owned);
        self.permit_rename(action, &of, name.as_deref(), path.as_deref())?;
        self.change(IamChange::Rename { of, name, path }).await.map(|()| Xml::new())
    }

    /// What is asked for of all that the account has of a kind: a page of those under a path.
    pub(super) fn page_of<'m, T>(
        &self,
        all: &'m BTreeMap<EntityKey, Arc<T>>,
        profile_of: impl Fn(&T) -> &Profile,
    ) -> Result<Page<&'m Arc<T>>, IamError> {
        let prefix = self.params.path_prefix()?;
        let under = of_account(all, self.account).filter(|(_, found)| profile_of(found).path.starts_with(prefix));
        self.params.page(under.map(|(name, found)| (name.as_str().to_owned(), found)))
    }

    pub(super) async fn change_map(&self, change: MapChange) -> Result<(), IamError> {
        self.api.client.change_map(change).await??;
        Ok(())
    }
}

/// There is no such action of IAM.
pub(super) fn no_such_action(action: &str) -> IamError {
    Service::Iam.no_such_action(action)
}
