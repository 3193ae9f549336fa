//! Whom the names in policies mean: users and roles of the accounts that are here, sessions of those roles, and accounts by
//! their names. What policies make of that is [`crate::policy`]'s.

use super::ClusterMap;
use crate::iam::{Kind, of_account};
use crate::ids::{AccountNumber, UserId};
use crate::policy::Whom;

/// An ARN of those that policies name people by.
struct Named<'a> {
    /// Nothing, where the name after it is an account's.
    account: &'a str,
    kind: &'a str,
    /// The path and the name, or a role's name and a session's.
    name: &'a str,
}

impl ClusterMap {
    /// Who has that ARN. Accounts of other clusters are elsewhere, and so are the names that they might have.
    pub fn whom(&self, arn: &str) -> Whom {
        let Some(Named { account, kind, name }) = Named::parse(arn) else { return Whom::Elsewhere };
        if account.is_empty() {
            let named = self.users.iter().find(|(_, user)| user.name == name);
            return named.map_or(Whom::Elsewhere, |(id, _)| Whom::Somebody(id.to_string()));
        }
        let Some(account) = self.account(account) else { return Whom::Elsewhere };
        let last = name.rsplit('/').next().unwrap_or_default();
        let id = match kind {
            "user" => {
                let user = self.iam.user(account, last).map(|user| &user.profile);
                user.filter(|user| user.arn(account, Kind::User) == arn).map(|user| user.id.clone())
            }
            "role" => {
                let role = self.iam.role(account, last).map(|role| &role.profile);
                role.filter(|role| role.arn(account, Kind::Role) == arn).map(|role| role.id.clone())
            }
            "assumed-role" => name.split_once('/').and_then(|(name, session)| {
                let role = self.iam.role(account, name).map(|role| &role.profile);
                role.filter(|role| role.name == name).map(|role| format!("{}:{session}", role.id))
            }),
            // Users of other identity providers never come here.
            _ => return Whom::Elsewhere,
        };
        id.map_or(Whom::Nobody, Whom::Somebody)
    }

    /// The name that somebody has now who had that ARN: a user may have another one; who is gone has none but the id.
    pub fn name_now(&self, arn: &str, id: &str) -> String {
        if self.whom(arn) == Whom::Somebody(id.to_owned()) {
            return arn.to_owned();
        }
        let account = Named::parse(arn).and_then(|named| self.account(named.account));
        let renamed = account.and_then(|account| {
            let user = of_account(&self.iam.users, account).find(|(_, user)| user.profile.id == id);
            user.map(|(_, user)| user.profile.arn(account, Kind::User))
        });
        renamed.unwrap_or_else(|| id.to_owned())
    }

    fn account(&self, number: &str) -> Option<UserId> {
        let number = AccountNumber::parse(number)?;
        self.users.keys().find(|account| account.number() == number).copied()
    }
}

impl<'a> Named<'a> {
    fn parse(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':').skip(4);
        let account = parts.next()?;
        let (kind, name) = parts.next()?.split_once('/')?;
        Some(Self { account, kind, name })
    }
}
