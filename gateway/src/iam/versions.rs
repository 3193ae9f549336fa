//! Versions of managed policies.

use annulus_common::iam::{AwsPolicy, IamChange, IamRefusal, PolicyVersion};

use super::call::{Call, no_such_action};
use super::document::encoded;
use super::error::IamError;
use super::managed::AWS_CREATED_MS;
use super::params::mismatch;
use super::xml::Xml;

impl Call<'_> {
    pub(super) async fn versions(&self, action: &str) -> Result<Xml, IamError> {
        let arn = self.params.policy_arn()?;
        self.permit(action, arn)?;
        match action {
            "CreatePolicyVersion" => self.create_policy_version(arn).await,
            "GetPolicyVersion" => self.get_policy_version(arn),
            "ListPolicyVersions" => self.list_policy_versions(arn),
            "DeletePolicyVersion" => {
                let (policy, number) = (self.own_policy(arn)?.profile.name.clone(), self.version_number()?);
                self.change(IamChange::DeleteVersion { policy, number }).await.map(|()| Xml::new())
            }
            "SetDefaultPolicyVersion" => {
                let (policy, number) = (self.own_policy(arn)?.profile.name.clone(), self.version_number()?);
                self.change(IamChange::SetDefaultVersion { policy, number }).await.map(|()| Xml::new())
            }
            _ => Err(no_such_action(action)),
        }
    }

    async fn create_policy_version(&self, arn: &str) -> Result<Xml, IamError> {
        let found = self.own_policy(arn)?;
        let (policy, number) = (found.profile.name.clone(), found.next_version);
        let version = PolicyVersion { created_ms: self.now_ms, policy: self.managed_document()? };
        let default = self.params.flag("SetAsDefault")?;
        self.change(IamChange::CreateVersion { policy, number, version: version.clone(), default }).await?;
        Ok(Xml::new().inside("PolicyVersion", version_xml(number, &version, default)))
    }

    fn get_policy_version(&self, arn: &str) -> Result<Xml, IamError> {
        let number = self.version_number()?;
        let (version, default) = match AwsPolicy::of_arn(arn) {
            Some(aws) if number == 1 => (aws_version(aws), true),
            Some(_) => return Err(no_such_version(number)),
            None => {
                let policy = self.own_policy(arn)?;
                let version = policy.versions.get(&number).ok_or_else(|| no_such_version(number))?;
                (version.clone(), policy.default_version == number)
            }
        };
        let xml = version_xml(number, &version, default).text("Document", encoded(version.policy.text()));
        Ok(Xml::new().inside("PolicyVersion", xml))
    }

    /// The newest first, so a page goes by how much older than all others a version may be.
    fn list_policy_versions(&self, arn: &str) -> Result<Xml, IamError> {
        let versions = match AwsPolicy::of_arn(arn) {
            Some(aws) => vec![(1, version_xml(1, &aws_version(aws), true))],
            None => {
                let policy = self.own_policy(arn)?;
                let newest_first = policy.versions.iter().rev();
                let is_default = |number| policy.default_version == number;
                let xml = |(number, version): (&u32, &PolicyVersion)| {
                    (*number, version_xml(*number, version, is_default(*number)))
                };
                newest_first.map(xml).collect()
            }
        };
        let keyed = versions.into_iter().map(|(number, xml)| (format!("{:010}", u32::MAX - number), xml));
        let page = self.params.page(keyed)?;
        Ok(Xml::new().list("Versions", page.items).more(page.marker))
    }

    /// `v3`
    fn version_number(&self) -> Result<u32, IamError> {
        let id = self.params.required("VersionId")?;
        let number = id.strip_prefix('v').and_then(|number| number.parse().ok());
        number.ok_or_else(|| mismatch("VersionId", id, "v[1-9][0-9]*(\\.[A-Za-z0-9-]*)?"))
    }
}

fn aws_version(aws: &AwsPolicy) -> PolicyVersion {
    PolicyVersion { created_ms: AWS_CREATED_MS, policy: aws.policy.clone() }
}

fn version_xml(number: u32, version: &PolicyVersion, default: bool) -> Xml {
    Xml::new()
        .text("VersionId", format!("v{number}"))
        .text("IsDefaultVersion", default)
        .time("CreateDate", version.created_ms)
}

fn no_such_version(number: u32) -> IamError {
    IamRefusal::NoSuchEntity(format!("Policy version v{number} does not exist.")).into()
}
