//! The account as a whole, and what users could have elsewhere and never have here: tools ask for it before they remove one.

use annulus_common::iam::{
    ATTACHED_MAX, GROUPS_MAX, IamRefusal, Kind, POLICIES_MAX, POLICY_VERSIONS_MAX, ROLES_MAX, USER_GROUPS_MAX,
    USER_KEYS_MAX, USERS_MAX, of_account,
};

use super::call::{Call, no_such_action};
use super::error::IamError;
use super::xml::Xml;

/// Lists that are always empty, and what they are called in answers.
const EMPTY: &[(&str, &str)] = &[
    ("ListMFADevices", "MFADevices"),
    ("ListSSHPublicKeys", "SSHPublicKeys"),
    ("ListSigningCertificates", "Certificates"),
    ("ListServiceSpecificCredentials", "ServiceSpecificCredentials"),
];

impl Call<'_> {
    pub(super) fn account(&self, action: &str) -> Result<Xml, IamError> {
        if let Some((_, name)) = EMPTY.iter().find(|(known, _)| *known == action) {
            let of = self.holder(Kind::User)?;
            self.permit_of(action, &of)?;
            self.policies_of(&of)?;
            return self.empty_list(name);
        }
        match action {
            "GetAccountSummary" => self.summary(),
            "ListAccountAliases" => {
                self.permit(action, "*")?;
                self.empty_list("AccountAliases")
            }
            // Nobody is known by another provider.
            "ListOpenIDConnectProviders" => {
                self.permit(action, "*")?;
                Ok(Xml::new().list("OpenIDConnectProviderList", []))
            }
            "ListVirtualMFADevices" => {
                self.permit(action, "*")?;
                self.empty_list("VirtualMFADevices")
            }
            // Nobody has a password: there is no console to sign in to with one.
            "GetLoginProfile" | "DeleteLoginProfile" => {
                let of = self.holder(Kind::User)?;
                self.permit_of(action, &of)?;
                let message = format!("Login Profile for User {} cannot be found.", of.name);
                Err(IamRefusal::NoSuchEntity(message).into())
            }
            _ => Err(no_such_action(action)),
        }
    }

    /// A list of what there never is. Whoever asks for a page of it asks for one that could be.
    pub(super) fn empty_list(&self, name: &str) -> Result<Xml, IamError> {
        let page = self.params.page(std::iter::empty::<(String, Xml)>())?;
        Ok(Xml::new().list(name, page.items).more(page.marker))
    }

    fn summary(&self) -> Result<Xml, IamError> {
        self.permit("GetAccountSummary", "*")?;
        let (iam, account) = (self.known(), self.account);
        let entries = [
            ("Users", of_account(&iam.users, account).count()),
            ("UsersQuota", USERS_MAX),
            ("Groups", of_account(&iam.groups, account).count()),
            ("GroupsQuota", GROUPS_MAX),
            ("Roles", of_account(&iam.roles, account).count()),
            ("RolesQuota", ROLES_MAX),
            ("Policies", of_account(&iam.policies, account).count()),
            ("PoliciesQuota", POLICIES_MAX),
            ("VersionsPerPolicyQuota", POLICY_VERSIONS_MAX),
            ("AccessKeysPerUserQuota", USER_KEYS_MAX),
            ("GroupsPerUserQuota", USER_GROUPS_MAX),
            ("AttachedPoliciesPerUserQuota", ATTACHED_MAX),
            ("AttachedPoliciesPerGroupQuota", ATTACHED_MAX),
            ("AttachedPoliciesPerRoleQuota", ATTACHED_MAX),
            ("AccountMFAEnabled", 0),
            ("MFADevices", 0),
        ];
        let entries = entries.into_iter().fold(Xml::new(), |map, (key, value)| {
            map.inside("entry", Xml::new().text("key", key).text("value", value))
        });
        Ok(Xml::new().inside("SummaryMap", entries))
    }
}
