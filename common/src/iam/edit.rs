//! Makes, renames, changes and removes identities.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    EntityKey, FoldedName, GROUPS_MAX, Group, Holder, Iam, IamRefusal, Kind, ManagedPolicy, POLICIES_MAX,
    POLICY_VERSIONS_MAX, PolicyVersion, Profile, ROLES_MAX, Role, TAGS_MAX, USERS_MAX, User, of_account,
};
use crate::ids::UserId;
use crate::map::AccessKey;
use crate::policy::TrustPolicy;
use crate::tags::Tags;

impl Iam {
    pub(super) fn create_user(&mut self, account: UserId, user: &User) -> Result<(), IamRefusal> {
        create(&mut self.users, account, (&user.profile, user), (Kind::User, USERS_MAX))
    }

    pub(super) fn create_group(&mut self, account: UserId, group: &Group) -> Result<(), IamRefusal> {
        create(&mut self.groups, account, (&group.profile, group), (Kind::Group, GROUPS_MAX))
    }

    pub(super) fn create_role(&mut self, account: UserId, role: &Role) -> Result<(), IamRefusal> {
        create(&mut self.roles, account, (&role.profile, role), (Kind::Role, ROLES_MAX))
    }

    pub(super) fn create_policy(&mut self, account: UserId, policy: &ManagedPolicy) -> Result<(), IamRefusal> {
        create(&mut self.policies, account, (&policy.profile, policy), (Kind::Policy, POLICIES_MAX))
    }

    /// The user's keys follow its name.
    pub(super) fn rename_user(
        &mut self,
        account: UserId,
        user: &str,
        name: Option<&str>,
        path: Option<&str>,
        keys: &mut BTreeMap<String, AccessKey>,
    ) -> Result<(), IamRefusal> {
        let profile = |user: &mut User, to: &Profile| user.profile = to.clone();
        let now = rename(
            &mut self.users,
            account,
            Holder::new(Kind::User, user),
            (name, path),
            |user| &user.profile,
            profile,
        )?;
        let before = FoldedName::of(user);
        let theirs = keys.values_mut().filter(|key| key.user == account && key.iam_user.as_ref() == Some(&before));
        theirs.for_each(|key| key.iam_user = Some(now.clone()));
        Ok(())
    }

    /// The group's users stay in it.
    pub(super) fn rename_group(
        &mut self,
        account: UserId,
        group: &str,
        name: Option<&str>,
        path: Option<&str>,
    ) -> Result<(), IamRefusal> {
        let profile = |group: &mut Group, to: &Profile| group.profile = to.clone();
        let of = Holder::new(Kind::Group, group);
        let now = rename(&mut self.groups, account, of, (name, path), |group| &group.profile, profile)?;
        let before = FoldedName::of(group);
        for (key, user) in &mut self.users {
            if key.account == account && user.groups.contains(&before) {
                let groups = &mut Arc::make_mut(user).groups;
                groups.remove(&before);
                groups.insert(now.clone());
            }
        }
        Ok(())
    }

    pub(super) fn delete(
        &mut self,
        account: UserId,
        what: &Holder,
        keys: &BTreeMap<String, AccessKey>,
    ) -> Result<(), IamRefusal> {
        let key = EntityKey::new(account, &what.name);
        self.check_unused(account, what, &key, keys)?;
        let removed = match what.kind {
            Kind::User => self.users.remove(&key).is_some(),
            Kind::Group => self.groups.remove(&key).is_some(),
            Kind::Role => self.roles.remove(&key).is_some(),
            Kind::Policy => self.policies.remove(&key).is_some(),
        };
        if removed { Ok(()) } else { Err(what.missing()) }
    }

    /// What is in use stays: AWS makes clients take it apart first.
    fn check_unused(
        &self,
        account: UserId,
        what: &Holder,
        key: &EntityKey,
        keys: &BTreeMap<String, AccessKey>,
    ) -> Result<(), IamRefusal> {
        let must = |what: &str| Err(IamRefusal::DeleteConflict(format!("Cannot delete entity, must {what} first.")));
        let policies = self.policies_of(account, what)?;
        if policies.is_some_and(|policies| !policies.attached.is_empty()) {
            return must("detach all policies");
        }
        if policies.is_some_and(|policies| !policies.inline.is_empty()) {
            return must("delete policies");
        }
        match what.kind {
            Kind::User if keys.values().any(|held| held.is_of(account, &key.name)) => must("delete access keys"),
            Kind::User if self.users.get(key).is_some_and(|user| !user.groups.is_empty()) => {
                must("remove user from all groups")
            }
            Kind::Group if self.members(account, &key.name).next().is_some() => must("remove users from group"),
            Kind::Policy => self.check_policy_unused(account, key),
            _ => Ok(()),
        }
    }

    fn check_policy_unused(&self, account: UserId, key: &EntityKey) -> Result<(), IamRefusal> {
        let Some(policy) = self.policies.get(key) else { return Ok(()) };
        if self.attachments(account, &policy.profile.arn(account, Kind::Policy)) > 0 {
            let message = "Cannot delete a policy attached to entities.";
            return Err(IamRefusal::DeleteConflict(message.to_owned()));
        }
        if policy.versions.len() > 1 {
            let message = "This policy has more than one version. Before you delete a policy, you must delete the policy's \
                           versions. The default version is deleted with the policy.";
            return Err(IamRefusal::DeleteConflict(message.to_owned()));
        }
        Ok(())
    }

    /// To how many users, groups and roles a managed policy is attached.
    pub fn attachments(&self, account: UserId, arn: &str) -> usize {
        let users = of_account(&self.users, account).map(|(_, user)| &user.policies);
        let groups = of_account(&self.groups, account).map(|(_, group)| &group.policies);
        let roles = of_account(&self.roles, account).map(|(_, role)| &role.policies);
        users.chain(groups).chain(roles).filter(|policies| policies.attached.contains(arn)).count()
    }

    pub(super) fn update_role(
        &mut self,
        account: UserId,
        name: &str,
        trust: Option<&Arc<TrustPolicy>>,
        description: Option<&str>,
        session_seconds_max: Option<u32>,
    ) -> Result<(), IamRefusal> {
        let missing = || Holder::new(Kind::Role, name).missing();
        let role = Arc::make_mut(self.roles.get_mut(&EntityKey::new(account, name)).ok_or_else(missing)?);
        if let Some(trust) = trust {
            role.trust = trust.clone();
        }
        if let Some(description) = description {
            role.description = Some(description.to_owned());
        }
        role.session_seconds_max = session_seconds_max.unwrap_or(role.session_seconds_max);
        Ok(())
    }

    pub(super) fn create_version(
        &mut self,
        account: UserId,
        name: &str,
        number: u32,
        version: &PolicyVersion,
        default: bool,
    ) -> Result<(), IamRefusal> {
        let policy = self.policy_to_change(account, name)?;
        if policy.versions.get(&number) == Some(version) {
            return Ok(());
        }
        if policy.next_version != number {
            return Err(IamRefusal::ConcurrentModification);
        }
        if policy.versions.len() >= POLICY_VERSIONS_MAX {
            let message = format!(
                "A managed policy can have up to {POLICY_VERSIONS_MAX} versions. Before you create a new version, you must delete \
                 an existing version."
            );
            return Err(IamRefusal::LimitExceeded(message));
        }
        policy.versions.insert(number, version.clone());
        policy.next_version = number + 1;
        policy.updated_ms = version.created_ms;
        if default {
            policy.default_version = number;
        }
        Ok(())
    }

    pub(super) fn delete_version(
        &mut self,
        account: UserId,
        time_ms: u64,
        name: &str,
        number: u32,
    ) -> Result<(), IamRefusal> {
        let policy = self.policy_to_change(account, name)?;
        if policy.default_version == number {
            let message = "Cannot delete the default version of a policy.";
            return Err(IamRefusal::DeleteConflict(message.to_owned()));
        }
        policy.versions.remove(&number).ok_or_else(|| no_such_version(number))?;
        policy.updated_ms = time_ms;
        Ok(())
    }

    pub(super) fn set_default_version(
        &mut self,
        account: UserId,
        time_ms: u64,
        name: &str,
        number: u32,
    ) -> Result<(), IamRefusal> {
        let policy = self.policy_to_change(account, name)?;
        if !policy.versions.contains_key(&number) {
            return Err(no_such_version(number));
        }
        policy.default_version = number;
        policy.updated_ms = time_ms;
        Ok(())
    }

    pub(super) fn tag(
        &mut self,
        account: UserId,
        of: &Holder,
        set: &[(String, String)],
        removed: &[String],
    ) -> Result<(), IamRefusal> {
        let tags = self.tags_to_change(account, of)?;
        let mut changed = tags.clone();
        changed.retain(|key, _| !removed.contains(key));
        changed.extend(set.iter().cloned());
        if changed.len() > TAGS_MAX {
            return Err(quota("TagsPerResource", TAGS_MAX));
        }
        *tags = changed;
        Ok(())
    }

    fn tags_to_change(&mut self, account: UserId, of: &Holder) -> Result<&mut Tags, IamRefusal> {
        let key = EntityKey::new(account, &of.name);
        let tags = match of.kind {
            Kind::User => self.users.get_mut(&key).map(|user| &mut Arc::make_mut(user).tags),
            Kind::Role => self.roles.get_mut(&key).map(|role| &mut Arc::make_mut(role).tags),
            Kind::Policy => self.policies.get_mut(&key).map(|policy| &mut Arc::make_mut(policy).tags),
            Kind::Group => None,
        };
        tags.ok_or_else(|| of.missing())
    }

    fn policy_to_change(&mut self, account: UserId, name: &str) -> Result<&mut ManagedPolicy, IamRefusal> {
        let found = self.policies.get_mut(&EntityKey::new(account, name)).map(Arc::make_mut);
        found.ok_or_else(|| Holder::new(Kind::Policy, name).missing())
    }
}

/// There is no version of that number.
pub(super) fn no_such_version(number: u32) -> IamRefusal {
    IamRefusal::NoSuchEntity(format!("Policy version v{number} does not exist."))
}

/// There are as many as there may be.
pub(super) fn quota(what: &str, most: usize) -> IamRefusal {
    IamRefusal::LimitExceeded(format!("Cannot exceed quota for {what}: {most}"))
}

fn exists(kind: Kind, name: &str) -> IamRefusal {
    IamRefusal::EntityAlreadyExists(format!("{} with name {name} already exists.", kind.named()))
}

fn create<T: Clone + PartialEq>(
    all: &mut BTreeMap<EntityKey, Arc<T>>,
    account: UserId,
    (profile, made): (&Profile, &T),
    (kind, most): (Kind, usize),
) -> Result<(), IamRefusal> {
    let key = EntityKey::new(account, &profile.name);
    match all.get(&key) {
        Some(there) if **there == *made => return Ok(()),
        Some(_) => return Err(exists(kind, &profile.name)),
        None => {}
    }
    if of_account(all, account).count() >= most {
        return Err(quota(&format!("{}sPerAccount", kind.named()), most));
    }
    all.insert(key, Arc::new(made.clone()));
    Ok(())
}

/// Gives something another name or path: the name that it has then.
fn rename<T: Clone>(
    all: &mut BTreeMap<EntityKey, Arc<T>>,
    account: UserId,
    of: Holder,
    (name, path): (Option<&str>, Option<&str>),
    profile_of: impl Fn(&T) -> &Profile,
    set: impl Fn(&mut T, &Profile),
) -> Result<FoldedName, IamRefusal> {
    let before = EntityKey::new(account, &of.name);
    let found = all.get(&before).ok_or_else(|| of.missing())?;
    let mut profile = profile_of(found).clone();
    profile.name = name.unwrap_or(&profile.name).to_owned();
    profile.path = path.unwrap_or(&profile.path).to_owned();
    let now = EntityKey::new(account, &profile.name);
    if now != before && all.contains_key(&now) {
        return Err(exists(of.kind, &profile.name));
    }
    if let Some(mut renamed) = all.remove(&before) {
        set(Arc::make_mut(&mut renamed), &profile);
        all.insert(now.clone(), renamed);
    }
    Ok(now.name)
}
