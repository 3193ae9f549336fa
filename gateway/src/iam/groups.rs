//! Groups, and who is in them.

use annulus_common::iam::{FoldedName, Group, IamChange, Kind, Policies};

use super::call::{Call, no_such_action};
use super::error::IamError;
use super::params::{LONG_NAME_CHARS_MAX, NAME_CHARS_MAX};
use super::users::user_xml;
use super::xml::Xml;

impl Call<'_> {
    pub(super) async fn groups(&self, action: &str) -> Result<Xml, IamError> {
        match action {
            "CreateGroup" => self.create_group().await,
            "GetGroup" => self.get_group(),
            "ListGroups" => self.list_groups(),
            "ListGroupsForUser" => self.list_groups_for_user(),
            "UpdateGroup" => self.rename(action, Kind::Group, "NewGroupName", LONG_NAME_CHARS_MAX).await,
            "DeleteGroup" => {
                let group = self.holder(Kind::Group)?;
                self.permit_of(action, &group)?;
                self.change(IamChange::Delete(group)).await.map(|()| Xml::new())
            }
            "AddUserToGroup" => self.join(action, true).await,
            "RemoveUserFromGroup" => self.join(action, false).await,
            _ => Err(no_such_action(action)),
        }
    }

    async fn create_group(&self) -> Result<Xml, IamError> {
        let profile = self.new_profile(Kind::Group, self.params.name("GroupName", LONG_NAME_CHARS_MAX)?)?;
        self.permit("CreateGroup", &profile.arn(self.account, Kind::Group))?;
        let group = Group { profile, policies: Policies::default() };
        self.change(IamChange::CreateGroup(group.clone())).await?;
        Ok(Xml::new().inside("Group", self.group_xml(&group)))
    }

    fn get_group(&self) -> Result<Xml, IamError> {
        let of = self.holder(Kind::Group)?;
        self.permit_of("GetGroup", &of)?;
        let group = self.known().group(self.account, &of.name).ok_or_else(|| of.missing())?;
        let folded = FoldedName::of(&of.name);
        let members = self.known().members(self.account, &folded);
        let page = self.params.page(members.map(|user| (user.profile.name.to_ascii_lowercase(), user)))?;
        let users = page.items.iter().map(|user| user_xml(self.account, user));
        Ok(Xml::new().inside("Group", self.group_xml(group)).list("Users", users).more(page.marker))
    }

    fn list_groups(&self) -> Result<Xml, IamError> {
        self.permit("ListGroups", &self.everything(Kind::Group))?;
        let page = self.page_of(&self.known().groups, |group| &group.profile)?;
        let groups = page.items.iter().map(|group| self.group_xml(group));
        Ok(Xml::new().list("Groups", groups).more(page.marker))
    }

    fn list_groups_for_user(&self) -> Result<Xml, IamError> {
        let of = self.holder(Kind::User)?;
        self.permit_of("ListGroupsForUser", &of)?;
        let user = self.known().user(self.account, &of.name).ok_or_else(|| of.missing())?;
        let groups = user.groups.iter().filter_map(|name| self.known().group(self.account, name.as_str()));
        let page = self.params.page(groups.map(|group| (group.profile.name.to_ascii_lowercase(), group)))?;
        let groups = page.items.iter().map(|group| self.group_xml(group));
        Ok(Xml::new().list("Groups", groups).more(page.marker))
    }

    async fn join(&self, action: &str, member: bool) -> Result<Xml, IamError> {
        let group = self.holder(Kind::Group)?;
        self.permit_of(action, &group)?;
        let user = self.params.name("UserName", NAME_CHARS_MAX)?.to_owned();
        self.change(IamChange::Join { user, group: group.name, member }).await.map(|()| Xml::new())
    }

    fn group_xml(&self, group: &Group) -> Xml {
        let profile = &group.profile;
        Xml::new()
            .text("Path", &profile.path)
            .text("GroupName", &profile.name)
            .text("GroupId", &profile.id)
            .text("Arn", profile.arn(self.account, Kind::Group))
            .time("CreateDate", profile.created_ms)
    }
}
