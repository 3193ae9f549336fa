//! What a request is about, with what decides who may: whose it is, and whose list says so.

use annulus_common::acl::{Grant, Permission, permits};
use annulus_common::map::Bucket;
use annulus_common::object::{ObjectVersion, UserId};
use annulus_common::policy::PublicAccessBlock;

/// What an action is done to.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    pub(super) name: &'a str,
    pub(super) bucket: &'a Bucket,
    pub(super) key: Option<&'a str>,
    pub(super) subject: Subject<'a>,
    /// Whether a version of the key was named: it may be another action then.
    pub(super) of_version: bool,
}

/// Whose list is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    /// The bucket's.
    Bucket,
    /// The object's, which has an owner of its own.
    Object(&'a ObjectVersion),
    /// An upload has no list: the one who began it may, and whom the bucket's policy allows.
    Upload(UserId),
    /// An object that is being made: its list will be its owner's to change.
    Made(UserId),
}

impl<'a> Resource<'a> {
    /// A bucket, under its name.
    pub fn bucket(name: &'a str, bucket: &'a Bucket) -> Self {
        Self { name, bucket, key: None, subject: Subject::Bucket, of_version: false }
    }

    /// A key of a bucket, whatever is there: the bucket's list decides.
    pub fn key(name: &'a str, bucket: &'a Bucket, key: &'a str) -> Self {
        Self { key: Some(key), ..Self::bucket(name, bucket) }
    }

    /// An object that was found: its own list decides.
    pub fn object(name: &'a str, bucket: &'a Bucket, key: &'a str, found: &'a ObjectVersion) -> Self {
        Self { subject: Subject::Object(found), ..Self::key(name, bucket, key) }
    }

    /// An upload that `initiator` began.
    pub fn upload(name: &'a str, bucket: &'a Bucket, key: &'a str, initiator: UserId) -> Self {
        Self { subject: Subject::Upload(initiator), ..Self::key(name, bucket, key) }
    }

    /// An object that is being made, and will be `owner`'s.
    pub fn made(name: &'a str, bucket: &'a Bucket, key: &'a str, owner: UserId) -> Self {
        Self { subject: Subject::Made(owner), ..Self::key(name, bucket, key) }
    }

    /// The same, where the request names a version or does not.
    pub fn of_version(self, of_version: bool) -> Self {
        Self { of_version, ..self }
    }

    /// Its name in policies.
    pub(super) fn arn(&self) -> String {
        match self.key {
            Some(key) => format!("arn:aws:s3:::{}/{key}", self.name),
            None => bucket_arn(self.name),
        }
    }

    /// Who owns it.
    pub(super) fn owner(&self) -> UserId {
        match self.subject {
            Subject::Object(found) => self.bucket.object_owner(found.object.owner),
            Subject::Bucket | Subject::Upload(_) | Subject::Made(_) => self.bucket.owner,
        }
    }

    /// Whether its list grants `permission` to `caller`.
    pub(super) fn grants(&self, permission: Option<Permission>, caller: UserId) -> bool {
        let in_list = |grants: &[Grant]| permission.is_some_and(|permission| permits(grants, permission, caller));
        let (owner, bucket_owner, ignores) = (self.owner(), self.bucket.owner, self.block().ignore_public_acls);
        match self.subject {
            Subject::Bucket if ignores => in_list(&self.bucket.acl().without_public(owner).grants(owner)),
            Subject::Bucket => in_list(&self.bucket.acl().grants(owner)),
            Subject::Object(found) => {
                let acl = self.bucket.object_acl(&found.object.attributes.acl);
                if ignores {
                    in_list(&acl.without_public(owner, bucket_owner).grants(owner, bucket_owner))
                } else {
                    in_list(&acl.grants(owner, bucket_owner))
                }
            }
            Subject::Upload(initiator) => initiator == caller,
            Subject::Made(owner) => permission.is_some() && owner == caller,
        }
    }

    /// Whether a public policy of the bucket opens nothing to other accounts.
    pub(super) fn restricts_public(&self) -> bool {
        self.block().restrict_public_buckets
    }

    /// What conditions can ask of it.
    pub(super) fn facts(&self) -> Vec<(String, String)> {
        let account = self.bucket.owner.number().to_string();
        let mut facts =
            vec![("aws:ResourceAccount".to_owned(), account.clone()), ("s3:ResourceAccount".to_owned(), account)];
        if let Subject::Object(found) = self.subject {
            let tags = found.object.attributes.tags.iter();
            facts.extend(tags.map(|(key, value)| (format!("s3:ExistingObjectTag/{key}"), value.clone())));
        }
        facts
    }

    fn block(&self) -> PublicAccessBlock {
        self.bucket.config.public_access_block.unwrap_or_default()
    }
}

/// A bucket's name in policies, whether there is such a bucket or not.
pub(crate) fn bucket_arn(name: &str) -> String {
    format!("arn:aws:s3:::{name}")
}
