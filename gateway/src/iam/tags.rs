//! Tags of users, roles and policies.

use annulus_common::iam::{Holder, IamChange, Kind, TAGS_MAX};
use annulus_common::tags::Tags;

use super::call::{Call, no_such_action};
use super::error::IamError;
use super::xml::Xml;

impl Call<'_> {
    pub(super) async fn tags(&self, action: &str) -> Result<Xml, IamError> {
        let of = match action.trim_start_matches("List").trim_start_matches("Untag").trim_start_matches("Tag") {
            "User" | "UserTags" => self.tagged(Kind::User, action)?,
            "Role" | "RoleTags" => self.tagged(Kind::Role, action)?,
            "Policy" | "PolicyTags" => self.tagged_policy(action)?,
            _ => return Err(no_such_action(action)),
        };
        if action.starts_with("List") {
            let page = self.params.page(self.tags_of(&of)?.iter().map(|(key, value)| (key.clone(), (key, value))))?;
            let tags: Tags = page.items.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            return Ok(Xml::new().tags(&tags).more(page.marker));
        }
        let (set, removed) = match action.starts_with("Untag") {
            true => (Vec::new(), self.params.list("TagKeys")?.into_iter().map(str::to_owned).collect()),
            false => (self.params.tags(TAGS_MAX)?.into_iter().collect(), Vec::new()),
        };
        if set.is_empty() && removed.is_empty() {
            self.params.required(if action.starts_with("Untag") { "TagKeys" } else { "Tags" })?;
        }
        self.change(IamChange::Tag { of, set, removed }).await.map(|()| Xml::new())
    }

    fn tagged(&self, kind: Kind, action: &str) -> Result<Holder, IamError> {
        let of = self.holder(kind)?;
        self.permit_of(action, &of)?;
        Ok(of)
    }

    fn tagged_policy(&self, action: &str) -> Result<Holder, IamError> {
        let arn = self.params.policy_arn()?;
        self.permit(action, arn)?;
        Ok(Holder::new(Kind::Policy, &self.own_policy(arn)?.profile.name))
    }

    pub(super) fn tags_of(&self, of: &Holder) -> Result<&Tags, IamError> {
        let (iam, account, name) = (self.known(), self.account, of.name.as_str());
        let tags = match of.kind {
            Kind::User => iam.user(account, name).map(|user| &user.tags),
            Kind::Role => iam.role(account, name).map(|role| &role.tags),
            Kind::Policy => {
                iam.policies.get(&annulus_common::iam::EntityKey::new(account, name)).map(|policy| &policy.tags)
            }
            Kind::Group => None,
        };
        tags.ok_or_else(|| of.missing().into())
    }
}
