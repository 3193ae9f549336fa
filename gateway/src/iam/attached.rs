//! Managed policies of users, groups and roles.

use annulus_common::iam::{IamChange, Kind};

use super::call::{Call, no_such_action};
use super::error::IamError;
use super::xml::Xml;

/// What the actions are called.
const ACTIONS: &[(&str, Kind, Does)] = &[
    ("AttachUserPolicy", Kind::User, Does::Attach(true)),
    ("AttachGroupPolicy", Kind::Group, Does::Attach(true)),
    ("AttachRolePolicy", Kind::Role, Does::Attach(true)),
    ("DetachUserPolicy", Kind::User, Does::Attach(false)),
    ("DetachGroupPolicy", Kind::Group, Does::Attach(false)),
    ("DetachRolePolicy", Kind::Role, Does::Attach(false)),
    ("ListAttachedUserPolicies", Kind::User, Does::List),
    ("ListAttachedGroupPolicies", Kind::Group, Does::List),
    ("ListAttachedRolePolicies", Kind::Role, Does::List),
];

#[derive(Clone, Copy)]
enum Does {
    Attach(bool),
    List,
}

impl Call<'_> {
    pub(super) async fn attached(&self, action: &str) -> Result<Xml, IamError> {
        let found = ACTIONS.iter().find(|(name, ..)| *name == action);
        let &(_, kind, does) = found.ok_or_else(|| no_such_action(action))?;
        let of = self.holder(kind)?;
        self.permit_of(action, &of)?;
        if let Does::Attach(attached) = does {
            let arn = self.params.policy_arn()?.to_owned();
            return self.change(IamChange::Attach { of, arn, attached }).await.map(|()| Xml::new());
        }
        let prefix = self.params.path_prefix()?;
        let attached = self.policies_of(&of)?.attached.iter().filter(|arn| path_of(arn).starts_with(prefix));
        let page = self.params.page(attached.map(|arn| (arn.clone(), arn)))?;
        let policies = page.items.iter().map(|arn| {
            let name = arn.rsplit('/').next().unwrap_or_default();
            Xml::new().text("PolicyName", name).text("PolicyArn", arn)
        });
        Ok(Xml::new().list("AttachedPolicies", policies).more(page.marker))
    }
}

/// The path in the ARN of a policy: from the first slash to the last.
fn path_of(arn: &str) -> &str {
    let (first, last) = (arn.find('/').unwrap_or(0), arn.rfind('/').unwrap_or(0));
    &arn[first..=last]
}
