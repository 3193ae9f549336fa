//! Accounts and their access keys.

use annulus_common::map::change::MapChange;
use annulus_common::map::{AccessKey, ClusterMap, User};
use annulus_common::object::UserId;
use http::StatusCode;

use super::Admin;
use super::error::AdminProblem;
use super::model::{KeyReport, NewKey, NewUser, UserReport};
use crate::iam::random::{access_key_id, secret_key};

/// Names are for people and for paths of this API.
const NAME_CHARS_MAX: usize = 64;

pub(super) fn list_users(map: &ClusterMap) -> Vec<UserReport> {
    map.users.iter().map(|(id, user)| report(*id, user)).collect()
}

pub(super) fn list_keys(map: &ClusterMap) -> Vec<KeyReport> {
    map.keys
        .iter()
        .map(|(id, key)| KeyReport {
            access_key: id.clone(),
            secret_key: None,
            user: holder_of(map, key),
            created_ms: key.created_ms,
        })
        .collect()
}

/// An account's name, and behind a slash that of the user in it whose key it is.
fn holder_of(map: &ClusterMap, key: &AccessKey) -> String {
    let account = map.users.get(&key.user).map_or("", |user| user.name.as_str());
    match key.iam_user.as_ref().and_then(|name| map.iam.user(key.user, name.as_str())) {
        Some(user) => format!("{account}/{}", user.profile.name),
        None => account.to_owned(),
    }
}

impl Admin {
    pub(super) async fn create_user(&self, new: NewUser) -> Result<UserReport, AdminProblem> {
        check_name(&new.name)?;
        let id = UserId(rand::random());
        let user = User {
            display_name: new.display_name.unwrap_or_else(|| new.name.clone()),
            name: new.name,
            email: new.email.filter(|email| !email.is_empty()),
            admin: new.admin,
            quota: None,
            created_ms: self.clock.now_ms(),
        };
        self.change(MapChange::CreateUser { id, user: user.clone() }).await?;
        Ok(report(id, &user))
    }

    pub(super) async fn delete_user(&self, map: &ClusterMap, name: &str) -> Result<(), AdminProblem> {
        let id = find_user(map, name)?;
        self.change(MapChange::DeleteUser { id }).await
    }

    pub(super) async fn create_key(&self, map: &ClusterMap, new: NewKey) -> Result<KeyReport, AdminProblem> {
        let user = find_user(map, &new.user)?;
        let (id, secret) = (access_key_id(), secret_key());
        let created_ms = self.clock.now_ms();
        let key = AccessKey::of_account(user, secret.clone(), created_ms);
        self.change(MapChange::CreateKey { id: id.clone(), key }).await?;
        Ok(KeyReport { access_key: id, secret_key: Some(secret), user: new.user, created_ms })
    }

    pub(super) async fn delete_key(&self, id: &str) -> Result<(), AdminProblem> {
        self.change(MapChange::DeleteKey { id: id.to_owned() }).await
    }

    async fn change(&self, change: MapChange) -> Result<(), AdminProblem> {
        self.objects.client().change_map(change).await??;
        Ok(())
    }
}

pub(super) fn find_user(map: &ClusterMap, name: &str) -> Result<UserId, AdminProblem> {
    let found = map.user_named(name).map(|(id, _)| id);
    found.ok_or_else(|| AdminProblem::new(StatusCode::NOT_FOUND, "NoSuchUser", format!("there is no user {name}")))
}

fn check_name(name: &str) -> Result<(), AdminProblem> {
    let fits = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte));
    if fits {
        return Ok(());
    }
    let rule = "a user's name has 1 to 64 letters, digits or any of + = , . @ _ -";
    Err(AdminProblem::new(StatusCode::BAD_REQUEST, "InvalidName", rule))
}

fn report(id: UserId, user: &User) -> UserReport {
    UserReport {
        id: id.to_string(),
        name: user.name.clone(),
        display_name: user.display_name.clone(),
        email: user.email.clone(),
        admin: user.admin,
        created_ms: user.created_ms,
    }
}
