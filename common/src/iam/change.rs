//! What can change of an account's identities, why it cannot, and which records a change touches. Carried out in `edit` and
//! `attach`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{EntityKey, FoldedName, Group, Iam, ManagedPolicy, PolicyVersion, Role, User, of_account};
use crate::ids::UserId;
use crate::map::AccessKey;
use crate::policy::{IdentityPolicy, TrustPolicy};

/// Kinds of identities.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// A user.
    User,
    /// A group.
    Group,
    /// A role.
    Role,
    /// A managed policy.
    Policy,
}

/// Who has policies or tags, or what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// A user, a group, a role or a managed policy.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// What can change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum IamChange {
    /// Makes a user.
    CreateUser(User),
    /// Makes a group.
    CreateGroup(Group),
    /// Makes a role.
    CreateRole(Role),
    /// Makes a managed policy.
    CreatePolicy(ManagedPolicy),
    /// Gives a user or a group another name or path.
    Rename {
        /// Which.
        of: Holder,
        /// From now on.
        name: Option<String>,
        /// From now on.
        path: Option<String>,
    },
    /// Removes what has nothing any more.
    Delete(Holder),
    /// Sets or removes a policy of a user's, group's or role's own.
    PutInline {
        /// Whose.
        of: Holder,
        /// The policy's name.
        name: String,
        /// What it says; nothing removes it.
        policy: Option<Arc<IdentityPolicy>>,
    },
    /// Attaches a managed policy, or detaches it.
    Attach {
        /// To or from whom.
        of: Holder,
        /// The policy.
        arn: String,
        /// Whether it is attached from now on.
        attached: bool,
    },
    /// Puts a user into a group, or takes it out.
    Join {
        /// Who.
        user: String,
        /// Where.
        group: String,
        /// Whether it is in it from now on.
        member: bool,
    },
    /// Changes a role.
    UpdateRole {
        /// Which.
        name: String,
        /// Who may assume it.
        trust: Option<Arc<TrustPolicy>>,
        /// What people say it is for.
        description: Option<String>,
        /// How long a session may be.
        session_seconds_max: Option<u32>,
    },
    /// Gives a managed policy a new version.
    CreateVersion {
        /// Which policy.
        policy: String,
        /// The number that it was promised: the policy's next.
        number: u32,
        /// The version.
        version: PolicyVersion,
        /// Whether it is in force from now on.
        default: bool,
    },
    /// Removes a version that is not in force.
    DeleteVersion {
        /// Of which policy.
        policy: String,
        /// Its number.
        number: u32,
    },
    /// Lets another version be in force.
    SetDefaultVersion {
        /// Of which policy.
        policy: String,
        /// Its number.
        number: u32,
    },
    /// Sets and removes tags.
    Tag {
        /// Of what.
        of: Holder,
        /// Set.
        set: Vec<(String, String)>,
        /// Removed.
        removed: Vec<String>,
    },
    /// Lets an access key sign, or not.
    ActivateKey {
        /// Its public id.
        id: String,
        /// Whether it signs.
        active: bool,
    },
}

/// Why not, in AWS's words. Nothing happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum IamRefusal {
    /// What is named is not there.
    #[error("{0}")]
    NoSuchEntity(String),
    /// What is to be made is there.
    #[error("{0}")]
    EntityAlreadyExists(String),
    /// What is to be removed is in use.
    #[error("{0}")]
    DeleteConflict(String),
    /// There are as many as there may be.
    #[error("{0}")]
    LimitExceeded(String),
    /// Somebody else changed it meanwhile.
    #[error("The request was rejected because multiple requests to change this object were submitted simultaneously.")]
    ConcurrentModification,
}

/// A record of the map that holds an identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Of which kind.
    pub kind: Kind,
    /// Whose, and which.
    pub key: EntityKey,
}

impl Kind {
    /// In ARNs.
    pub fn in_arns(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Role => "role",
            Self::Policy => "policy",
        }
    }

    /// In messages and names of parameters.
    pub fn named(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Group => "Group",
            Self::Role => "Role",
            Self::Policy => "Policy",
        }
    }
}

impl Holder {
    /// The identity of that kind and name.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// It is not there.
    pub fn missing(&self) -> IamRefusal {
        let Self { kind, name } = self;
        match kind {
            Kind::Policy => IamRefusal::NoSuchEntity(format!("Policy {name} does not exist or is not attachable.")),
            _ => IamRefusal::NoSuchEntity(format!("The {} with name {name} cannot be found.", kind.in_arns())),
        }
    }

    fn record(&self, account: UserId) -> Record {
        Record { kind: self.kind, key: EntityKey::new(account, &self.name) }
    }
}

impl Iam {
    /// Carries out a change, or refuses it and stays as it was. Access keys follow the names of their users.
    pub fn apply(
        &mut self,
        account: UserId,
        time_ms: u64,
        change: &IamChange,
        keys: &mut BTreeMap<String, AccessKey>,
    ) -> Result<(), IamRefusal> {
        match change {
            IamChange::CreateUser(user) => self.create_user(account, user),
            IamChange::CreateGroup(group) => self.create_group(account, group),
            IamChange::CreateRole(role) => self.create_role(account, role),
            IamChange::CreatePolicy(policy) => self.create_policy(account, policy),
            IamChange::Rename { of, name, path } if of.kind == Kind::User => {
                self.rename_user(account, &of.name, name.as_deref(), path.as_deref(), keys)
            }
            IamChange::Rename { of, name, path } => {
                self.rename_group(account, &of.name, name.as_deref(), path.as_deref())
            }
            IamChange::Delete(what) => self.delete(account, what, keys),
            IamChange::PutInline { of, name, policy } => self.put_inline(account, of, name, policy.as_ref()),
            IamChange::Attach { of, arn, attached } => self.attach(account, of, arn, *attached),
            IamChange::Join { user, group, member } => self.join(account, user, group, *member),
            IamChange::UpdateRole { name, trust, description, session_seconds_max } => {
                self.update_role(account, name, trust.as_ref(), description.as_deref(), *session_seconds_max)
            }
            IamChange::CreateVersion { policy, number, version, default } => {
                self.create_version(account, policy, *number, version, *default)
            }
            IamChange::DeleteVersion { policy, number } => self.delete_version(account, time_ms, policy, *number),
            IamChange::SetDefaultVersion { policy, number } => {
                self.set_default_version(account, time_ms, policy, *number)
            }
            IamChange::Tag { of, set, removed } => self.tag(account, of, set, removed),
            IamChange::ActivateKey { id, active } => {
                let key = keys.get_mut(id).filter(|key| key.user == account).ok_or_else(|| no_such_key(id))?;
                key.active = *active;
                Ok(())
            }
        }
    }

    /// The records that `change` touches, which has not been carried out yet, and whether access keys are among them.
    pub fn touched(&self, account: UserId, change: &IamChange) -> Vec<Record> {
        let one = |kind, name: &str| vec![Holder::new(kind, name).record(account)];
        match change {
            IamChange::CreateUser(user) => one(Kind::User, &user.profile.name),
            IamChange::CreateGroup(group) => one(Kind::Group, &group.profile.name),
            IamChange::CreateRole(role) => one(Kind::Role, &role.profile.name),
            IamChange::CreatePolicy(policy) => one(Kind::Policy, &policy.profile.name),
            IamChange::Rename { of, name, .. } => self.touched_by_renaming(account, of, name.as_deref()),
            IamChange::Delete(of)
            | IamChange::PutInline { of, .. }
            | IamChange::Attach { of, .. }
            | IamChange::Tag { of, .. } => vec![of.record(account)],
            IamChange::Join { user, .. } => one(Kind::User, user),
            IamChange::UpdateRole { name, .. } => one(Kind::Role, name),
            IamChange::CreateVersion { policy, .. }
            | IamChange::DeleteVersion { policy, .. }
            | IamChange::SetDefaultVersion { policy, .. } => one(Kind::Policy, policy),
            IamChange::ActivateKey { .. } => Vec::new(),
        }
    }

    /// All records of an account.
    pub fn records_of(&self, account: UserId) -> Vec<Record> {
        self.records().into_iter().filter(|record| record.key.account == account).collect()
    }

    /// All records.
    pub fn records(&self) -> Vec<Record> {
        fn of<T>(kind: Kind, all: &BTreeMap<EntityKey, T>) -> impl Iterator<Item = Record> {
            all.keys().map(move |key| Record { kind, key: key.clone() })
        }
        let (users, groups) = (of(Kind::User, &self.users), of(Kind::Group, &self.groups));
        users.chain(groups).chain(of(Kind::Role, &self.roles)).chain(of(Kind::Policy, &self.policies)).collect()
    }

    /// Removes everything of an account.
    pub fn forget(&mut self, account: UserId) {
        self.users.retain(|key, _| key.account != account);
        self.groups.retain(|key, _| key.account != account);
        self.roles.retain(|key, _| key.account != account);
        self.policies.retain(|key, _| key.account != account);
    }

    fn touched_by_renaming(&self, account: UserId, of: &Holder, name: Option<&str>) -> Vec<Record> {
        let mut touched = vec![of.record(account)];
        touched.extend(name.map(|name| Holder::new(of.kind, name).record(account)));
        if of.kind == Kind::Group {
            let group = FoldedName::of(&of.name);
            let members = of_account(&self.users, account).filter(|(_, user)| user.groups.contains(&group));
            touched.extend(
                members.map(|(name, _)| Record { kind: Kind::User, key: EntityKey { account, name: name.clone() } }),
            );
        }
        touched
    }
}

/// There is no such key.
pub(super) fn no_such_key(id: &str) -> IamRefusal {
    IamRefusal::NoSuchEntity(format!("The Access Key with id {id} cannot be found."))
}
