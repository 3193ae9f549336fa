//! Managed policies: the account's own and AWS's.

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_common::iam::{
    AwsPolicy, Holder, IamChange, IamRefusal, Kind, ManagedPolicy, PolicyVersion, TAGS_MAX, of_account,
};

use super::call::{Call, no_such_action};
use super::error::IamError;
use super::params::LONG_NAME_CHARS_MAX;
use super::xml::Xml;

/// When AWS made its policies, Unix milliseconds.
pub(super) const AWS_CREATED_MS: u64 = 1_423_161_600_000;

/// What attachments can be asked for by; policies are attached to no policy.
const ENTITY_FILTERS: &[&str] = &["User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"];

impl Call<'_> {
    pub(super) async fn managed(&self, action: &str) -> Result<Xml, IamError> {
        match action {
            "CreatePolicy" => self.create_policy().await,
            "ListPolicies" => self.list_policies(),
            _ => {
                let arn = self.params.policy_arn()?;
                self.permit(action, arn)?;
                match action {
                    "GetPolicy" => self.get_policy(arn),
                    "DeletePolicy" => {
                        let of = Holder::new(Kind::Policy, &self.own_policy(arn)?.profile.name);
                        self.change(IamChange::Delete(of)).await.map(|()| Xml::new())
                    }
                    "ListEntitiesForPolicy" => self.list_entities(arn),
                    _ => Err(no_such_action(action)),
                }
            }
        }
    }

    /// A policy of the account's.
    pub(super) fn own_policy(&self, arn: &str) -> Result<&Arc<ManagedPolicy>, IamError> {
        self.known().policy(self.account, arn).ok_or_else(|| no_such_policy(arn))
    }

    async fn create_policy(&self) -> Result<Xml, IamError> {
        let profile = self.new_profile(Kind::Policy, self.params.name("PolicyName", LONG_NAME_CHARS_MAX)?)?;
        self.permit("CreatePolicy", &profile.arn(self.account, Kind::Policy))?;
        let version = PolicyVersion { created_ms: self.now_ms, policy: self.managed_document()? };
        let policy = ManagedPolicy {
            profile,
            description: self.params.description()?.map(str::to_owned),
            versions: [(1, version)].into(),
            default_version: 1,
            next_version: 2,
            updated_ms: self.now_ms,
            tags: self.params.tags(TAGS_MAX)?,
        };
        self.change(IamChange::CreatePolicy(policy.clone())).await?;
        let xml = self.policy_xml(&policy);
        Ok(Xml::new().inside("Policy", if policy.tags.is_empty() { xml } else { xml.tags(&policy.tags) }))
    }

    fn get_policy(&self, arn: &str) -> Result<Xml, IamError> {
        if let Some(aws) = AwsPolicy::of_arn(arn) {
            return Ok(Xml::new().inside("Policy", self.aws_xml(aws).text("Description", aws.description)));
        }
        let policy = self.own_policy(arn)?;
        let xml = self.policy_xml(policy).text_if("Description", policy.description.as_ref());
        Ok(Xml::new().inside("Policy", xml.tags(&policy.tags)))
    }

    fn list_policies(&self) -> Result<Xml, IamError> {
        self.permit("ListPolicies", &self.everything(Kind::Policy))?;
        let scope = self.params.one_of("Scope", &["All", "AWS", "Local"])?;
        let (own, aws) = (scope != Some("AWS"), scope != Some("Local"));
        let (prefix, only_attached) = (self.params.path_prefix()?, self.params.flag("OnlyAttached")?);
        let mut listed = BTreeMap::new();
        for policy in of_account(&self.known().policies, self.account).map(|(_, policy)| policy).filter(|_| own) {
            if policy.profile.path.starts_with(prefix) {
                listed.insert(policy.profile.arn(self.account, Kind::Policy), self.policy_xml(policy));
            }
        }
        for policy in AwsPolicy::all().iter().filter(|_| aws && prefix == "/") {
            listed.insert(policy.arn(), self.aws_xml(policy));
        }
        listed.retain(|arn, _| !only_attached || self.known().attachments(self.account, arn) > 0);
        let page = self.params.page(listed.into_iter())?;
        Ok(Xml::new().list("Policies", page.items).more(page.marker))
    }

    fn list_entities(&self, arn: &str) -> Result<Xml, IamError> {
        if AwsPolicy::of_arn(arn).is_none() {
            self.own_policy(arn)?;
        }
        let (iam, account) = (self.known(), self.account);
        let of_kind = self.params.one_of("EntityFilter", ENTITY_FILTERS)?;
        let is_asked = |kind: Kind| of_kind.is_none_or(|filter| filter == kind.named());
        let usage = self.params.one_of("PolicyUsageFilter", &["PermissionsPolicy", "PermissionsBoundary"])?;
        let prefix = self.params.path_prefix()?;
        let users = of_account(&iam.users, account).map(|(_, user)| (Kind::User, &user.profile, &user.policies));
        let groups = of_account(&iam.groups, account).map(|(_, group)| (Kind::Group, &group.profile, &group.policies));
        let roles = of_account(&iam.roles, account).map(|(_, role)| (Kind::Role, &role.profile, &role.policies));
        let attached = users.chain(groups).chain(roles).filter(|(.., policies)| policies.attached.contains(arn));
        // Nobody here has a permissions boundary.
        let attached = attached.filter(|_| usage != Some("PermissionsBoundary"));
        let asked = attached.filter(|(kind, profile, _)| is_asked(*kind) && profile.path.starts_with(prefix));
        let keyed = asked.map(|(kind, profile, _)| (profile.arn(account, kind), (kind, profile)));
        let page = self.params.page(keyed.collect::<BTreeMap<_, _>>().into_iter())?;
        let of_kind = |wanted: Kind| {
            let of_kind = page.items.iter().filter(move |(kind, _)| *kind == wanted);
            of_kind.map(move |(_, profile)| {
                Xml::new()
                    .text(&format!("{}Name", wanted.named()), &profile.name)
                    .text(&format!("{}Id", wanted.named()), &profile.id)
            })
        };
        Ok(Xml::new()
            .list("PolicyGroups", of_kind(Kind::Group))
            .list("PolicyUsers", of_kind(Kind::User))
            .list("PolicyRoles", of_kind(Kind::Role))
            .more(page.marker.clone()))
    }

    fn policy_xml(&self, policy: &ManagedPolicy) -> Xml {
        let profile = &policy.profile;
        let arn = profile.arn(self.account, Kind::Policy);
        Xml::new()
            .text("PolicyName", &profile.name)
            .text("PolicyId", &profile.id)
            .text("Path", &profile.path)
            .text("DefaultVersionId", format!("v{}", policy.default_version))
            .text("AttachmentCount", self.known().attachments(self.account, &arn))
            .text("Arn", arn)
            .text("PermissionsBoundaryUsageCount", 0)
            .text("IsAttachable", true)
            .time("CreateDate", profile.created_ms)
            .time("UpdateDate", policy.updated_ms)
    }

    fn aws_xml(&self, policy: &AwsPolicy) -> Xml {
        let arn = policy.arn();
        Xml::new()
            .text("PolicyName", policy.name)
            .text("PolicyId", policy.id)
            .text("Path", "/")
            .text("DefaultVersionId", "v1")
            .text("AttachmentCount", self.known().attachments(self.account, &arn))
            .text("Arn", arn)
            .text("PermissionsBoundaryUsageCount", 0)
            .text("IsAttachable", true)
            .time("CreateDate", AWS_CREATED_MS)
            .time("UpdateDate", AWS_CREATED_MS)
    }
}

/// There is no such policy.
pub(super) fn no_such_policy(arn: &str) -> IamError {
    IamRefusal::NoSuchEntity(format!("Policy {arn} was not found.")).into()
}
