//! Identities of accounts: users, groups, roles and managed policies, as AWS's IAM has them. They lie in the cluster map; what
//! is here is their model and its changes, pure. Who asks for a change and how is the gateway's.
//!
//! Names keep their case and are compared without it, so every name is found by its folded form. See "IAM and AWS STS quotas"
//! in the IAM user guide for the limits.

mod attach;
mod change;
mod edit;
mod managed;
mod names;
mod rights;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::UserId;
use crate::policy::{IdentityPolicy, TrustPolicy};
use crate::tags::Tags;

pub use change::{Holder, IamChange, IamRefusal, Kind, Record};
pub use managed::AwsPolicy;
pub use names::{FoldedName, arn, is_name, is_path};

/// Users of one account.
pub const USERS_MAX: usize = 5_000;
/// Groups of one account.
pub const GROUPS_MAX: usize = 300;
/// Roles of one account.
pub const ROLES_MAX: usize = 1_000;
/// Managed policies of one account.
pub const POLICIES_MAX: usize = 1_500;
/// Versions of one managed policy.
pub const POLICY_VERSIONS_MAX: usize = 5;
/// Access keys of one user.
pub const USER_KEYS_MAX: usize = 2;
/// Groups that one user may be in.
pub const USER_GROUPS_MAX: usize = 10;
/// Managed policies attached to one user, group or role.
pub const ATTACHED_MAX: usize = 10;
/// Tags of one user, role or policy.
pub const TAGS_MAX: usize = 50;
/// The largest managed policy, in characters that are no white space.
pub const MANAGED_POLICY_CHARS_MAX: usize = 6_144;
/// The largest trust policy, in characters that are no white space.
pub const TRUST_POLICY_CHARS_MAX: usize = 2_048;
/// How much larger than that a policy may be with its white space: it is kept as it was sent.
pub const WHITE_SPACE_FACTOR: usize = 2;

/// Everything of all accounts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Iam {
    /// Users.
    pub users: BTreeMap<EntityKey, Arc<User>>,
    /// Groups.
    pub groups: BTreeMap<EntityKey, Arc<Group>>,
    /// Roles.
    pub roles: BTreeMap<EntityKey, Arc<Role>>,
    /// Managed policies.
    pub policies: BTreeMap<EntityKey, Arc<ManagedPolicy>>,
}

/// Finds a user, a group, a role or a policy among its kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct EntityKey {
    /// Whose it is.
    pub account: UserId,
    /// Its name.
    pub name: FoldedName,
}

/// What all of them have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Profile {
    /// Never given to another: `AIDA...` and so on.
    pub id: String,
    /// As it was given.
    pub name: String,
    /// Begins and ends with a slash.
    pub path: String,
    /// Unix milliseconds.
    pub created_ms: u64,
}

/// A user of an account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct User {
    /// Who it is.
    pub profile: Profile,
    /// What it may do.
    pub policies: Policies,
    /// The groups that it is in.
    pub groups: BTreeSet<FoldedName>,
    /// Its tags.
    pub tags: Tags,
}

/// A group of users.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Which it is.
    pub profile: Profile,
    /// What its users may do.
    pub policies: Policies,
}

/// A role, which somebody assumes for a while.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Role {
    /// Which it is.
    pub profile: Profile,
    /// Who may assume it.
    pub trust: Arc<TrustPolicy>,
    /// What those may do then.
    pub policies: Policies,
    /// What people say it is for.
    pub description: Option<String>,
    /// How long a session may be.
    pub session_seconds_max: u32,
    /// Its tags.
    pub tags: Tags,
}

/// A policy that can be attached to many.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ManagedPolicy {
    /// Which it is.
    pub profile: Profile,
    /// What people say it is for.
    pub description: Option<String>,
    /// Its versions by number. A number is not used again.
    pub versions: BTreeMap<u32, PolicyVersion>,
    /// The version that is in force.
    pub default_version: u32,
    /// The number that the next version gets.
    pub next_version: u32,
    /// When its versions changed, Unix milliseconds.
    pub updated_ms: u64,
    /// Its tags.
    pub tags: Tags,
}

/// A version of a managed policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyVersion {
    /// Unix milliseconds.
    pub created_ms: u64,
    /// What it says.
    pub policy: Arc<IdentityPolicy>,
}

/// What a user, a group or a role is given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Policies {
    /// Policies of its own, by name.
    pub inline: BTreeMap<String, Arc<IdentityPolicy>>,
    /// Managed policies, by ARN.
    pub attached: BTreeSet<String>,
}

impl EntityKey {
    /// The key of what has that name in the account.
    pub fn new(account: UserId, name: &str) -> Self {
        Self { account, name: FoldedName::of(name) }
    }
}

impl Iam {
    /// The user of that name.
    pub fn user(&self, account: UserId, name: &str) -> Option<&Arc<User>> {
        self.users.get(&EntityKey::new(account, name))
    }

    /// The group of that name.
    pub fn group(&self, account: UserId, name: &str) -> Option<&Arc<Group>> {
        self.groups.get(&EntityKey::new(account, name))
    }

    /// The role of that name.
    pub fn role(&self, account: UserId, name: &str) -> Option<&Arc<Role>> {
        self.roles.get(&EntityKey::new(account, name))
    }

    /// The account's managed policy of that ARN.
    pub fn policy(&self, account: UserId, policy_arn: &str) -> Option<&Arc<ManagedPolicy>> {
        let name = policy_arn.rsplit('/').next().unwrap_or_default();
        let found = self.policies.get(&EntityKey::new(account, name))?;
        (found.profile.arn(account, Kind::Policy) == policy_arn).then_some(found)
    }

    /// The users of a group.
    pub fn members<'a>(&'a self, account: UserId, group: &'a FoldedName) -> impl Iterator<Item = &'a Arc<User>> + 'a {
        of_account(&self.users, account).map(|(_, user)| user).filter(move |user| user.groups.contains(group))
    }
}

/// What an account has of a kind, in the order of names.
pub fn of_account<T>(
    all: &BTreeMap<EntityKey, Arc<T>>,
    account: UserId,
) -> impl Iterator<Item = (&FoldedName, &Arc<T>)> {
    let first = EntityKey { account, name: FoldedName::FIRST };
    let from_first = all.range((Bound::Included(first), Bound::Unbounded));
    from_first.take_while(move |(key, _)| key.account == account).map(|(key, found)| (&key.name, found))
}

impl Profile {
    /// `arn:aws:iam::ACCOUNT:user/PATH/NAME`
    pub fn arn(&self, account: UserId, kind: Kind) -> String {
        arn(account, kind, &self.path, &self.name)
    }
}

impl ManagedPolicy {
    /// What is in force.
    pub fn in_force(&self) -> Option<&Arc<IdentityPolicy>> {
        self.versions.get(&self.default_version).map(|version| &version.policy)
    }
}

impl Policies {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.inline.is_empty() && self.attached.is_empty()
    }
}
