//! Policies of a user's, a group's or a role's own.

use annulus_common::iam::{Holder, IamChange, IamRefusal, Kind, Policies};

use super::call::{Call, no_such_action};
use super::document::encoded;
use super::error::IamError;
use super::params::LONG_NAME_CHARS_MAX;
use super::xml::Xml;

impl Call<'_> {
    pub(super) async fn inline(&self, kind: Kind, action: &str) -> Result<Xml, IamError> {
        let of = self.holder(kind)?;
        self.permit_of(action, &of)?;
        if action.starts_with("List") {
            let names = self.policies_of(&of)?.inline.keys();
            let page = self.params.page(names.map(|name| (name.clone(), name)))?;
            return Ok(Xml::new().texts("PolicyNames", page.items).more(page.marker));
        }
        let name = self.params.name("PolicyName", LONG_NAME_CHARS_MAX)?.to_owned();
        match action.get(..3) {
            Some("Get") => self.get_inline(&of, &name),
            Some("Put") => {
                let policy = Some(self.inline_document()?);
                self.change(IamChange::PutInline { of, name, policy }).await.map(|()| Xml::new())
            }
            Some("Del") => self.change(IamChange::PutInline { of, name, policy: None }).await.map(|()| Xml::new()),
            _ => Err(no_such_action(action)),
        }
    }

    fn get_inline(&self, of: &Holder, name: &str) -> Result<Xml, IamError> {
        let missing = || IamRefusal::NoSuchEntity(format!("The policy with name {name} cannot be found."));
        let policy = self.policies_of(of)?.inline.get(name).ok_or_else(missing)?;
        Ok(Xml::new()
            .text(&format!("{}Name", of.kind.named()), &of.name)
            .text("PolicyName", name)
            .text("PolicyDocument", encoded(policy.text())))
    }

    pub(super) fn policies_of(&self, of: &Holder) -> Result<&Policies, IamError> {
        self.known().policies_of(self.account, of)?.ok_or_else(|| of.missing().into())
    }
}
