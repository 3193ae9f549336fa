//! Roles, and who may assume them.

use annulus_common::iam::{IamChange, Kind, Policies, Role, TAGS_MAX};

use super::call::{Call, no_such_action};
use super::document::encoded;
use super::error::IamError;
use super::params::NAME_CHARS_MAX;
use super::xml::Xml;

/// How long a session of a role may be, where nobody says.
const SESSION_SECONDS_DEFAULT: u32 = 3_600;

/// How long a role may let its sessions be.
const SESSION_SECONDS_MAX: std::ops::RangeInclusive<u32> = 3_600..=43_200;

impl Call<'_> {
    pub(super) async fn roles(&self, action: &str) -> Result<Xml, IamError> {
        match action {
            "CreateRole" => return self.create_role().await,
            "ListRoles" => return self.list_roles(),
            _ => {}
        }
        let of = self.holder(Kind::Role)?;
        self.permit_of(action, &of)?;
        let name = of.name.clone();
        let found = || self.known().role(self.account, &of.name).ok_or_else(|| of.missing());
        match action {
            "GetRole" => Ok(Xml::new().inside("Role", self.whole_role(found()?))),
            "DeleteRole" => self.change(IamChange::Delete(of)).await.map(|()| Xml::new()),
            "UpdateRole" | "UpdateRoleDescription" => {
                let mut role = Role::clone(found()?);
                let description = self.params.description()?.map(str::to_owned);
                let session_seconds_max = self.params.number("MaxSessionDuration", SESSION_SECONDS_MAX)?;
                role.description = description.clone().or(role.description);
                self.change(IamChange::UpdateRole { name, trust: None, description, session_seconds_max }).await?;
                // The older of the two answers with the role.
                let says_role = action == "UpdateRoleDescription";
                Ok(if says_role { Xml::new().inside("Role", self.whole_role(&role)) } else { Xml::new() })
            }
            "UpdateAssumeRolePolicy" => {
                let trust = Some(self.trust_document("PolicyDocument")?);
                let change = IamChange::UpdateRole { name, trust, description: None, session_seconds_max: None };
                self.change(change).await.map(|()| Xml::new())
            }
            // Machines that would be given roles are not here.
            "ListInstanceProfilesForRole" => {
                found()?;
                self.empty_list("InstanceProfiles")
            }
            _ => Err(no_such_action(action)),
        }
    }

    async fn create_role(&self) -> Result<Xml, IamError> {
        let profile = self.new_profile(Kind::Role, self.params.name("RoleName", NAME_CHARS_MAX)?)?;
        self.permit("CreateRole", &profile.arn(self.account, Kind::Role))?;
        let session_seconds_max = self.params.number("MaxSessionDuration", SESSION_SECONDS_MAX)?;
        let role = Role {
            profile,
            trust: self.trust_document("AssumeRolePolicyDocument")?,
            policies: Policies::default(),
            description: self.params.description()?.map(str::to_owned),
            session_seconds_max: session_seconds_max.unwrap_or(SESSION_SECONDS_DEFAULT),
            tags: self.params.tags(TAGS_MAX)?,
        };
        self.change(IamChange::CreateRole(role.clone())).await?;
        Ok(Xml::new().inside("Role", self.whole_role(&role)))
    }

    fn list_roles(&self) -> Result<Xml, IamError> {
        self.permit("ListRoles", &self.everything(Kind::Role))?;
        let page = self.page_of(&self.known().roles, |role| &role.profile)?;
        let roles = page.items.iter().map(|role| self.role_xml(role));
        Ok(Xml::new().list("Roles", roles).more(page.marker))
    }

    fn whole_role(&self, role: &Role) -> Xml {
        let xml = self.role_xml(role);
        if role.tags.is_empty() { xml } else { xml.tags(&role.tags) }
    }

    fn role_xml(&self, role: &Role) -> Xml {
        let profile = &role.profile;
        let trust = role.trust.shown(|arn, id| self.map.name_now(arn, id));
        Xml::new()
            .text("Path", &profile.path)
            .text("RoleName", &profile.name)
            .text("RoleId", &profile.id)
            .text("Arn", profile.arn(self.account, Kind::Role))
            .time("CreateDate", profile.created_ms)
            .text("AssumeRolePolicyDocument", encoded(&trust))
            .text_if("Description", role.description.as_ref())
            .text("MaxSessionDuration", role.session_seconds_max)
    }
}
