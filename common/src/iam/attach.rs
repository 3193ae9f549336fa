//! Gives users, groups and roles policies, and users groups.

use std::sync::Arc;

use super::edit::quota;
use super::{ATTACHED_MAX, EntityKey, FoldedName, Holder, Iam, IamRefusal, Kind, Policies, USER_GROUPS_MAX};
use crate::ids::UserId;
use crate::policy::IdentityPolicy;

/// How many characters all inline policies together may have, without white space.
const fn inline_chars_max(kind: Kind) -> usize {
    match kind {
        Kind::User => 2_048,
        Kind::Group => 5_120,
        Kind::Role | Kind::Policy => 10_240,
    }
}

impl Iam {
    /// What a user, a group or a role is given; nothing for what can be given nothing.
    pub fn policies_of(&self, account: UserId, of: &Holder) -> Result<Option<&Policies>, IamRefusal> {
        let key = EntityKey::new(account, &of.name);
        let found = match of.kind {
            Kind::User => self.users.get(&key).map(|user| Some(&user.policies)),
            Kind::Group => self.groups.get(&key).map(|group| Some(&group.policies)),
            Kind::Role => self.roles.get(&key).map(|role| Some(&role.policies)),
            Kind::Policy => self.policies.get(&key).map(|_| None),
        };
        found.ok_or_else(|| of.missing())
    }

    fn policies_to_change(&mut self, account: UserId, of: &Holder) -> Result<&mut Policies, IamRefusal> {
        let key = EntityKey::new(account, &of.name);
        let found = match of.kind {
            Kind::User => self.users.get_mut(&key).map(|user| &mut Arc::make_mut(user).policies),
            Kind::Group => self.groups.get_mut(&key).map(|group| &mut Arc::make_mut(group).policies),
            Kind::Role => self.roles.get_mut(&key).map(|role| &mut Arc::make_mut(role).policies),
            Kind::Policy => None,
        };
        found.ok_or_else(|| of.missing())
    }

    pub(super) fn put_inline(
        &mut self,
        account: UserId,
        of: &Holder,
        name: &str,
        policy: Option<&Arc<IdentityPolicy>>,
    ) -> Result<(), IamRefusal> {
        let most = inline_chars_max(of.kind);
        let inline = &mut self.policies_to_change(account, of)?.inline;
        let Some(policy) = policy else {
            let missing = || IamRefusal::NoSuchEntity(format!("The policy with name {name} cannot be found."));
            return inline.remove(name).map(drop).ok_or_else(missing);
        };
        let others = inline.iter().filter(|(other, _)| *other != name).map(|(_, other)| other.chars()).sum::<usize>();
        if others + policy.chars() > most {
            let message = format!("Maximum policy size of {most} bytes exceeded for {} {}", of.kind.in_arns(), of.name);
            return Err(IamRefusal::LimitExceeded(message));
        }
        inline.insert(name.to_owned(), policy.clone());
        Ok(())
    }

    pub(super) fn attach(&mut self, account: UserId, of: &Holder, arn: &str, attached: bool) -> Result<(), IamRefusal> {
        let is_there = self.policy_in_force(account, arn).is_some();
        let policies = &mut self.policies_to_change(account, of)?.attached;
        if !attached {
            let missing = || IamRefusal::NoSuchEntity(format!("Policy {arn} was not found."));
            return policies.remove(arn).then_some(()).ok_or_else(missing);
        }
        if !is_there {
            return Err(Holder::new(Kind::Policy, arn).missing());
        }
        if !policies.contains(arn) && policies.len() >= ATTACHED_MAX {
            return Err(quota(&format!("PoliciesPer{}", of.kind.named()), ATTACHED_MAX));
        }
        policies.insert(arn.to_owned());
        Ok(())
    }

    pub(super) fn join(&mut self, account: UserId, user: &str, group: &str, member: bool) -> Result<(), IamRefusal> {
        self.group(account, group).ok_or_else(|| Holder::new(Kind::Group, group).missing())?;
        let missing = || Holder::new(Kind::User, user).missing();
        let user = self.users.get_mut(&EntityKey::new(account, user)).ok_or_else(missing)?;
        let group = FoldedName::of(group);
        let groups = &mut Arc::make_mut(user).groups;
        if !member {
            groups.remove(&group);
        } else if !groups.contains(&group) && groups.len() >= USER_GROUPS_MAX {
            return Err(quota("GroupsPerUser", USER_GROUPS_MAX));
        } else {
            groups.insert(group);
        }
        Ok(())
    }
}
