//! Policies: who may do what with which resources, under which conditions, as AWS writes it. Pure: what is asked comes in,
//! a verdict goes out; nothing here reads a request, a clock or a map.
//!
//! See "IAM JSON policy reference" in the IAM user guide, and "Bucket policies for Amazon S3" in the S3 user guide.

mod actions;
mod bound;
mod bucket;
mod condition;
mod context;
mod document;
mod error;
mod identity;
mod json;
mod keys;
mod pattern;
mod principal;
mod public;
mod statement;
#[cfg(test)]
mod tests;
mod value;

pub use bound::{Ids, Whom};
pub use bucket::{BucketPolicy, PublicAccessBlock};
pub use context::Context;
pub use document::{Owner, POLICY_BYTES_MAX, POLICY_TEXT_BYTES_MAX, Policy};
pub use error::PolicyError;
pub use identity::{IdentityPolicy, KeptPolicy, TrustPolicy};
pub use principal::{Principal, account_arn};

/// What policies say about a request. The order is that of strength.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Nothing.
    Silent,
    /// It is allowed to the account; whom in it, the account's own policies say.
    AllowAccount,
    /// It is allowed to the one who asks.
    Allow,
    /// It is allowed to this very session, whatever the policies say that it was opened with.
    AllowSession,
    /// It is forbidden, whatever else allows it.
    Deny,
}

impl Verdict {
    /// Whether it is allowed, to the one who asks or to the account.
    pub fn allows(self) -> bool {
        matches!(self, Self::AllowAccount | Self::Allow | Self::AllowSession)
    }
}

/// What policies are asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// What is to be done: `s3:GetObject`.
    pub action: &'a str,
    /// To what: `arn:aws:s3:::bucket/key`.
    pub resource: &'a str,
    /// What conditions can ask.
    pub context: &'a Context,
}
