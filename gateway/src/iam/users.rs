//! Users.

use std::collections::BTreeSet;

use annulus_common::iam::{Holder, IamChange, Kind, Policies, TAGS_MAX, User};
use annulus_common::object::UserId;
use annulus_common::policy::Principal;

use super::call::{Call, no_such_action};
use super::error::IamError;
use super::params::NAME_CHARS_MAX;
use super::xml::Xml;

impl Call<'_> {
    pub(super) async fn users(&self, action: &str) -> Result<Xml, IamError> {
        match action {
            "CreateUser" => self.create_user().await,
            "GetUser" => self.get_user(),
            "ListUsers" => self.list_users(),
            "UpdateUser" => self.rename(action, Kind::User, "NewUserName", NAME_CHARS_MAX).await,
            "DeleteUser" => {
                let user = self.holder(Kind::User)?;
                self.permit_of(action, &user)?;
                self.change(IamChange::Delete(user)).await.map(|()| Xml::new())
            }
            _ => Err(no_such_action(action)),
        }
    }

    async fn create_user(&self) -> Result<Xml, IamError> {
        let profile = self.new_profile(Kind::User, self.params.name("UserName", NAME_CHARS_MAX)?)?;
        self.permit("CreateUser", &profile.arn(self.account, Kind::User))?;
        let tags = self.params.tags(TAGS_MAX)?;
        let user = User { profile, policies: Policies::default(), groups: BTreeSet::new(), tags };
        self.change(IamChange::CreateUser(user.clone())).await?;
        Ok(Xml::new().inside("User", tagged_user(self.account, &user)))
    }

    /// Without a name it is about the caller.
    fn get_user(&self) -> Result<Xml, IamError> {
        let name = match (self.params.name_if("UserName", NAME_CHARS_MAX)?, &self.caller.principal) {
            (Some(name), _) => name,
            (None, Principal::User { name, .. }) => name,
            (None, Principal::Account { .. }) => return self.get_account(),
            (None, _) => return Err(must_name_user()),
        };
        let of = Holder::new(Kind::User, name);
        self.permit_of("GetUser", &of)?;
        let user = self.known().user(self.account, name).ok_or_else(|| of.missing())?;
        Ok(Xml::new().inside("User", tagged_user(self.account, user)))
    }

    /// The account itself, which has no name.
    fn get_account(&self) -> Result<Xml, IamError> {
        let account = self.map.users.get(&self.account).ok_or(IamError::Unavailable)?;
        let xml = Xml::new()
            .text("UserId", self.account.number())
            .text("Arn", self.caller.principal.arn().unwrap_or_default())
            .time("CreateDate", account.created_ms);
        Ok(Xml::new().inside("User", xml))
    }

    fn list_users(&self) -> Result<Xml, IamError> {
        self.permit("ListUsers", &self.everything(Kind::User))?;
        let page = self.page_of(&self.known().users, |user| &user.profile)?;
        let users = page.items.iter().map(|user| user_xml(self.account, user));
        Ok(Xml::new().list("Users", users).more(page.marker))
    }

    /// The ARN of all of a kind.
    pub(super) fn everything(&self, kind: Kind) -> String {
        format!("arn:aws:iam::{}:{}/", self.account.number(), kind.in_arns())
    }
}

impl Xml {
    /// Whether there are more pages, and where the next one begins.
    pub(super) fn more(self, marker: Option<String>) -> Self {
        self.text("IsTruncated", marker.is_some()).text_if("Marker", marker)
    }
}

/// A session of a role is no user.
pub(super) fn must_name_user() -> IamError {
    IamError::Validation("Must specify userName when calling with non-User credentials".to_owned())
}

/// A user as lists show it.
pub(super) fn user_xml(account: UserId, user: &User) -> Xml {
    let profile = &user.profile;
    Xml::new()
        .text("Path", &profile.path)
        .text("UserName", &profile.name)
        .text("UserId", &profile.id)
        .text("Arn", profile.arn(account, Kind::User))
        .time("CreateDate", profile.created_ms)
}

fn tagged_user(account: UserId, user: &User) -> Xml {
    let xml = user_xml(account, user);
    if user.tags.is_empty() { xml } else { xml.tags(&user.tags) }
}
