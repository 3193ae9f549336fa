//! Access keys of users, and of the account itself where no user is named.

use annulus_common::iam::{FoldedName, Holder, IamChange, IamRefusal, Kind};
use annulus_common::map::AccessKey;
use annulus_common::map::change::MapChange;
use annulus_common::policy::Principal;

use super::call::{Call, no_such_action};
use super::error::IamError;
use super::params::NAME_CHARS_MAX;
use super::random::{access_key_id, secret_key};
use super::users::must_name_user;
use super::xml::Xml;

/// Whose keys: a user with its name as it is written, or the account itself.
struct Owner {
    user: Option<(FoldedName, String)>,
}

impl Call<'_> {
    pub(super) async fn keys(&self, action: &str) -> Result<Xml, IamError> {
        if action == "GetAccessKeyLastUsed" {
            return self.key_last_used();
        }
        let owner = self.key_owner(action)?;
        match action {
            "CreateAccessKey" => self.create_key(owner).await,
            "ListAccessKeys" => self.list_keys(&owner),
            "UpdateAccessKey" => {
                let id = self.key_of(&owner)?.to_owned();
                self.params.required("Status")?;
                let active = self.params.one_of("Status", &["Active", "Inactive"])? == Some("Active");
                self.change(IamChange::ActivateKey { id, active }).await.map(|()| Xml::new())
            }
            "DeleteAccessKey" => {
                let id = self.key_of(&owner)?.to_owned();
                self.change_map(MapChange::DeleteKey { id }).await.map(|()| Xml::new())
            }
            _ => Err(no_such_action(action)),
        }
    }

    fn key_owner(&self, action: &str) -> Result<Owner, IamError> {
        let name = match (self.params.name_if("UserName", NAME_CHARS_MAX)?, &self.caller.principal) {
            (Some(name), _) => name,
            (None, Principal::User { name, .. }) => name,
            (None, Principal::Account { .. }) => return Ok(Owner { user: None }),
            (None, _) => return Err(must_name_user()),
        };
        let of = Holder::new(Kind::User, name);
        self.permit_of(action, &of)?;
        let user = self.known().user(self.account, name).ok_or_else(|| of.missing())?;
        Ok(Owner { user: Some((FoldedName::of(name), user.profile.name.clone())) })
    }

    async fn create_key(&self, owner: Owner) -> Result<Xml, IamError> {
        let (id, secret) = (access_key_id(), secret_key());
        let (iam_user, name) = owner.user.unzip();
        let key = AccessKey { iam_user, ..AccessKey::of_account(self.account, secret.clone(), self.now_ms) };
        self.change_map(MapChange::CreateKey { id: id.clone(), key }).await?;
        let xml = Xml::new()
            .text_if("UserName", name)
            .text("AccessKeyId", id)
            .text("Status", "Active")
            .text("SecretAccessKey", secret)
            .time("CreateDate", self.now_ms);
        Ok(Xml::new().inside("AccessKey", xml))
    }

    fn list_keys(&self, owner: &Owner) -> Result<Xml, IamError> {
        let theirs = self.map.keys.iter().filter(|(_, key)| self.is_owners(owner, key));
        let page = self.params.page(theirs.map(|(id, key)| (id.clone(), (id, key))))?;
        let keys = page.items.iter().map(|(id, key)| {
            let status = if key.active { "Active" } else { "Inactive" };
            Xml::new()
                .text_if("UserName", owner.user.as_ref().map(|(_, name)| name))
                .text("AccessKeyId", id)
                .text("Status", status)
                .time("CreateDate", key.created_ms)
        });
        Ok(Xml::new().list("AccessKeyMetadata", keys).more(page.marker))
    }

    /// No use of a key is recorded: as AWS answers for a key that was never used.
    fn key_last_used(&self) -> Result<Xml, IamError> {
        self.permit("GetAccessKeyLastUsed", "*")?;
        let id = self.params.required("AccessKeyId")?;
        let key = self.map.keys.get(id).filter(|key| key.user == self.account).ok_or_else(|| no_such_key(id))?;
        let user = key.iam_user.as_ref().and_then(|name| self.known().user(self.account, name.as_str()));
        let never = Xml::new().text("ServiceName", "N/A").text("Region", "N/A");
        let name = user.map(|user| user.profile.name.clone());
        Ok(Xml::new().text_if("UserName", name).inside("AccessKeyLastUsed", never))
    }

    /// The key that is named, which must be the owner's.
    fn key_of(&self, owner: &Owner) -> Result<&str, IamError> {
        let id = self.params.required("AccessKeyId")?;
        let found = self.map.keys.get(id).filter(|key| self.is_owners(owner, key));
        found.map(|_| id).ok_or_else(|| no_such_key(id))
    }

    fn is_owners(&self, owner: &Owner, key: &AccessKey) -> bool {
        key.user == self.account && key.iam_user.as_ref() == owner.user.as_ref().map(|(folded, _)| folded)
    }
}

fn no_such_key(id: &str) -> IamError {
    IamRefusal::NoSuchEntity(format!("The Access Key with id {id} cannot be found.")).into()
}
