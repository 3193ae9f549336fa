//! Access control lists: who is granted what on a bucket or an object. What a list allows is derived from the grants that it
//! shows, so what is shown and what is enforced cannot differ. No HTTP, no storage.
//!
//! A list that one of S3's canned ones stands for is kept as its number: that is one byte in the records of nearly all
//! objects. Other grants are kept as they were given.
//!
//! See "Access control list (ACL) overview" in the Amazon S3 user guide.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::UserId;

/// Grants of one list, as S3 says.
pub const GRANTS_MAX: usize = 100;

/// Who is granted something.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Grantee {
    /// One account.
    User(UserId),
    /// Everybody, signed or not.
    AllUsers,
    /// Everybody who signs.
    AuthenticatedUsers,
    /// Who delivers access logs: no account is in it.
    LogDelivery,
}

/// What is granted.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Permission {
    /// Of a bucket: to list it. Of an object: to read it.
    Read,
    /// Of a bucket: to make, replace and delete objects. Of an object it means nothing.
    Write,
    /// To read the list itself.
    ReadAcl,
    /// To change the list itself.
    WriteAcl,
    /// All of them.
    FullControl,
}

/// One line of an access control list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// To whom.
    pub grantee: Grantee,
    /// What.
    pub permission: Permission,
}

/// The list of a bucket.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum BucketAcl {
    /// The owner's alone.
    #[default]
    Private,
    /// Everybody may list it.
    PublicRead,
    /// Everybody may list it and write to it.
    PublicReadWrite,
    /// Every account may list it.
    AuthenticatedRead,
    /// Access logs may be delivered to it.
    LogDeliveryWrite,
    /// These, which no canned list stands for.
    Grants(Arc<[Grant]>),
}

/// The list of an object.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum ObjectAcl {
    /// The owner's alone.
    #[default]
    Private,
    /// Everybody may read it.
    PublicRead,
    /// The same; the other grant is kept because S3 shows it.
    PublicReadWrite,
    /// Every account may read it.
    AuthenticatedRead,
    /// The owner of the bucket may read it.
    BucketOwnerRead,
    /// The owner of the bucket may do everything that its owner may.
    BucketOwnerFullControl,
    /// These, which no canned list stands for.
    Grants(Arc<[Grant]>),
}

impl Grantee {
    /// Whether `user` is meant.
    pub fn includes(self, user: UserId) -> bool {
        match self {
            Self::User(grantee) => grantee == user,
            Self::AllUsers => true,
            Self::AuthenticatedUsers => user != UserId::ANONYMOUS,
            Self::LogDelivery => false,
        }
    }

    /// Whether accounts are meant that the owner does not know: what S3's public access block calls public.
    pub fn is_public(self) -> bool {
        matches!(self, Self::AllUsers | Self::AuthenticatedUsers)
    }
}

impl BucketAcl {
    /// The canned ones.
    pub const CANNED: [Self; 5] =
        [Self::Private, Self::PublicRead, Self::PublicReadWrite, Self::AuthenticatedRead, Self::LogDeliveryWrite];

    /// S3's name for it, if it is a canned one.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Private => Some("private"),
            Self::PublicRead => Some("public-read"),
            Self::PublicReadWrite => Some("public-read-write"),
            Self::AuthenticatedRead => Some("authenticated-read"),
            Self::LogDeliveryWrite => Some("log-delivery-write"),
            Self::Grants(_) => None,
        }
    }

    /// The canned list of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::CANNED.into_iter().find(|acl| acl.name() == Some(name))
    }

    /// What it grants, in a bucket of `owner`.
    pub fn grants(&self, owner: UserId) -> Cow<'_, [Grant]> {
        let others: &[(Grantee, Permission)] = match self {
            Self::Grants(grants) => return Cow::Borrowed(grants),
            Self::Private => &[],
            Self::PublicRead => &[(Grantee::AllUsers, Permission::Read)],
            Self::PublicReadWrite => &[(Grantee::AllUsers, Permission::Read), (Grantee::AllUsers, Permission::Write)],
            Self::AuthenticatedRead => &[(Grantee::AuthenticatedUsers, Permission::Read)],
            Self::LogDeliveryWrite => {
                &[(Grantee::LogDelivery, Permission::Write), (Grantee::LogDelivery, Permission::ReadAcl)]
            }
        };
        Cow::Owned(with_owner(owner, others))
    }

    /// The list of these grants, for a bucket of `owner`.
    pub fn of_grants(grants: Vec<Grant>, owner: UserId) -> Self {
        let canned = Self::CANNED.into_iter().find(|acl| same(&acl.grants(owner), &grants));
        canned.unwrap_or_else(|| Self::Grants(grants.into()))
    }

    /// Whether `caller` may do that with a bucket of `owner`.
    pub fn permits(&self, permission: Permission, owner: UserId, caller: UserId) -> bool {
        owner == caller || permits(&self.grants(owner), permission, caller)
    }

    /// Whether it grants anything to accounts that the owner does not know.
    pub fn is_public(&self) -> bool {
        is_public(&self.grants(UserId::ANONYMOUS))
    }

    /// The same list without such grants.
    pub fn without_public(&self, owner: UserId) -> Self {
        if self.is_public() { Self::of_grants(without_public(&self.grants(owner)), owner) } else { self.clone() }
    }
}

impl ObjectAcl {
    /// The canned ones.
    pub const CANNED: [Self; 6] = [
        Self::Private,
        Self::PublicRead,
        Self::PublicReadWrite,
        Self::AuthenticatedRead,
        Self::BucketOwnerRead,
        Self::BucketOwnerFullControl,
    ];

    /// S3's name for it, if it is a canned one.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Private => Some("private"),
            Self::PublicRead => Some("public-read"),
            Self::PublicReadWrite => Some("public-read-write"),
            Self::AuthenticatedRead => Some("authenticated-read"),
            Self::BucketOwnerRead => Some("bucket-owner-read"),
            Self::BucketOwnerFullControl => Some("bucket-owner-full-control"),
            Self::Grants(_) => None,
        }
    }

    /// The canned list of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::CANNED.into_iter().find(|acl| acl.name() == Some(name))
    }

    /// What it grants, for an object of `owner` in a bucket of `bucket_owner`.
    pub fn grants(&self, owner: UserId, bucket_owner: UserId) -> Cow<'_, [Grant]> {
        let bucket_owners = Grantee::User(bucket_owner);
        let others: &[(Grantee, Permission)] = match self {
            Self::Grants(grants) => return Cow::Borrowed(grants),
            Self::BucketOwnerRead | Self::BucketOwnerFullControl if owner == bucket_owner => &[],
            Self::Private => &[],
            Self::PublicRead => &[(Grantee::AllUsers, Permission::Read)],
            Self::PublicReadWrite => &[(Grantee::AllUsers, Permission::Read), (Grantee::AllUsers, Permission::Write)],
            Self::AuthenticatedRead => &[(Grantee::AuthenticatedUsers, Permission::Read)],
            Self::BucketOwnerRead => &[(bucket_owners, Permission::Read)],
            Self::BucketOwnerFullControl => &[(bucket_owners, Permission::FullControl)],
        };
        Cow::Owned(with_owner(owner, others))
    }

    /// The list of these grants, for an object of `owner` in a bucket of `bucket_owner`.
    pub fn of_grants(grants: Vec<Grant>, owner: UserId, bucket_owner: UserId) -> Self {
        let canned = Self::CANNED.into_iter().find(|acl| same(&acl.grants(owner, bucket_owner), &grants));
        canned.unwrap_or_else(|| Self::Grants(grants.into()))
    }

    /// Whether `caller` may do that with an object of `owner` in a bucket of `bucket_owner`.
    pub fn permits(&self, permission: Permission, owner: UserId, bucket_owner: UserId, caller: UserId) -> bool {
        owner == caller || permits(&self.grants(owner, bucket_owner), permission, caller)
    }

    /// Whether it grants anything to accounts that the owner does not know.
    pub fn is_public(&self) -> bool {
        is_public(&self.grants(UserId::ANONYMOUS, UserId::ANONYMOUS))
    }

    /// The same list without such grants.
    pub fn without_public(&self, owner: UserId, bucket_owner: UserId) -> Self {
        if !self.is_public() {
            return self.clone();
        }
        Self::of_grants(without_public(&self.grants(owner, bucket_owner)), owner, bucket_owner)
    }
}

/// The owner comes last: the order means nothing, but some clients look for it there.
fn with_owner(owner: UserId, others: &[(Grantee, Permission)]) -> Vec<Grant> {
    let others = others.iter().map(|(grantee, permission)| Grant { grantee: *grantee, permission: *permission });
    others.chain([Grant { grantee: Grantee::User(owner), permission: Permission::FullControl }]).collect()
}

/// Whether these grants let `caller` do that.
pub fn permits(grants: &[Grant], permission: Permission, caller: UserId) -> bool {
    let covers = |granted: Permission| granted == permission || granted == Permission::FullControl;
    grants.iter().any(|grant| covers(grant.permission) && grant.grantee.includes(caller))
}

fn same(one: &[Grant], other: &[Grant]) -> bool {
    one.iter().all(|grant| other.contains(grant)) && other.iter().all(|grant| one.contains(grant))
}

fn is_public(grants: &[Grant]) -> bool {
    grants.iter().any(|grant| grant.grantee.is_public())
}

fn without_public(grants: &[Grant]) -> Vec<Grant> {
    grants.iter().copied().filter(|grant| !grant.grantee.is_public()).collect()
}

#[cfg(test)]
mod tests {
    use super::{BucketAcl, Grant, Grantee, ObjectAcl, Permission};
    use crate::ids::UserId;

    const OWNER: UserId = UserId([1; 32]);
    const BUCKETS: UserId = UserId([2; 32]);
    const OTHER: UserId = UserId([3; 32]);
    const ALL: [Permission; 5] =
        [Permission::Read, Permission::Write, Permission::ReadAcl, Permission::WriteAcl, Permission::FullControl];

    fn of_bucket(acl: &BucketAcl, caller: UserId) -> Vec<Permission> {
        ALL.into_iter().filter(|permission| acl.permits(*permission, OWNER, caller)).collect()
    }

    fn of_object(acl: &ObjectAcl, caller: UserId) -> Vec<Permission> {
        ALL.into_iter().filter(|permission| acl.permits(*permission, OWNER, BUCKETS, caller)).collect()
    }

    fn to(user: UserId, permission: Permission) -> Grant {
        Grant { grantee: Grantee::User(user), permission }
    }

    #[test]
    fn the_owner_may_do_everything() {
        assert!(BucketAcl::CANNED.iter().all(|acl| of_bucket(acl, OWNER) == ALL));
        assert!(ObjectAcl::CANNED.iter().all(|acl| of_object(acl, OWNER) == ALL));
        assert_eq!(of_bucket(&BucketAcl::of_grants(vec![], OWNER), OWNER), ALL, "even of a list that grants nothing");
    }

    #[test]
    fn a_bucket_is_opened_to_whom_its_list_says() {
        let read_write = vec![Permission::Read, Permission::Write];
        for (acl, account, anybody) in [
            (BucketAcl::Private, vec![], vec![]),
            (BucketAcl::PublicRead, vec![Permission::Read], vec![Permission::Read]),
            (BucketAcl::PublicReadWrite, read_write.clone(), read_write),
            (BucketAcl::AuthenticatedRead, vec![Permission::Read], vec![]),
            (BucketAcl::LogDeliveryWrite, vec![], vec![]),
        ] {
            assert_eq!(of_bucket(&acl, OTHER), account, "{acl:?}");
            assert_eq!(of_bucket(&acl, UserId::ANONYMOUS), anybody, "{acl:?}");
        }
    }

    #[test]
    fn an_object_is_not_its_buckets_owners() {
        assert!(of_object(&ObjectAcl::Private, BUCKETS).is_empty());
        assert_eq!(of_object(&ObjectAcl::BucketOwnerRead, BUCKETS), [Permission::Read]);
        assert_eq!(of_object(&ObjectAcl::BucketOwnerFullControl, BUCKETS), ALL);
        assert!(of_object(&ObjectAcl::BucketOwnerFullControl, OTHER).is_empty());
        assert_eq!(of_object(&ObjectAcl::PublicRead, UserId::ANONYMOUS), [Permission::Read]);
        assert!(of_object(&ObjectAcl::AuthenticatedRead, UserId::ANONYMOUS).is_empty());
    }

    #[test]
    fn each_permission_is_given_to_whom_it_is_granted_and_full_control_is_all_of_them() {
        for permission in ALL {
            let granted = if permission == Permission::FullControl { ALL.to_vec() } else { vec![permission] };
            let bucket = BucketAcl::of_grants(vec![to(OTHER, permission)], OWNER);
            let object = ObjectAcl::of_grants(vec![to(OTHER, permission)], OWNER, BUCKETS);
            assert_eq!(of_bucket(&bucket, OTHER), granted);
            assert_eq!(of_object(&object, OTHER), granted);
            assert!(of_bucket(&bucket, BUCKETS).is_empty() && of_object(&object, BUCKETS).is_empty());
        }
    }

    #[test]
    fn a_list_is_known_by_its_name_and_by_its_grants() {
        for acl in BucketAcl::CANNED {
            assert_eq!(acl.name().and_then(BucketAcl::named).as_ref(), Some(&acl));
            let backwards: Vec<Grant> = acl.grants(OWNER).iter().rev().copied().collect();
            assert_eq!(BucketAcl::of_grants(backwards, OWNER), acl);
        }
        for acl in ObjectAcl::CANNED {
            assert_eq!(acl.name().and_then(ObjectAcl::named).as_ref(), Some(&acl));
            assert_eq!(ObjectAcl::of_grants(acl.grants(OWNER, BUCKETS).into_owned(), OWNER, BUCKETS), acl);
        }
        assert_eq!(BucketAcl::named("everyone"), None);
    }

    #[test]
    fn other_grants_are_kept_as_they_were_given() {
        for grants in [vec![], vec![to(OTHER, Permission::Read)], vec![to(OWNER, Permission::Write)]] {
            let bucket = BucketAcl::of_grants(grants.clone(), OWNER);
            assert_eq!((bucket.name(), bucket.grants(OWNER).into_owned()), (None, grants.clone()));
            let object = ObjectAcl::of_grants(grants.clone(), OWNER, BUCKETS);
            assert_eq!((object.name(), object.grants(OWNER, BUCKETS).into_owned()), (None, grants));
        }
    }

    #[test]
    fn public_is_what_strangers_may() {
        let everybody = Grant { grantee: Grantee::AllUsers, permission: Permission::ReadAcl };
        let acl = BucketAcl::of_grants(vec![to(OTHER, Permission::Read), everybody], OWNER);
        assert!(acl.is_public());
        assert_eq!(acl.without_public(OWNER).grants(OWNER)[..], [to(OTHER, Permission::Read)]);
        assert_eq!(ObjectAcl::PublicReadWrite.without_public(OWNER, BUCKETS), ObjectAcl::Private);
        assert!(ObjectAcl::AuthenticatedRead.is_public() && BucketAcl::PublicRead.is_public());
        assert!(!ObjectAcl::BucketOwnerRead.is_public() && !BucketAcl::LogDeliveryWrite.is_public());
    }

    #[test]
    fn a_canned_list_is_one_byte() {
        for acl in ObjectAcl::CANNED {
            assert_eq!(postcard::to_stdvec(&acl).expect("it encodes").len(), 1);
        }
        let grants = ObjectAcl::of_grants(vec![to(OTHER, Permission::Read)], OWNER, BUCKETS);
        let bytes = postcard::to_stdvec(&grants).expect("it encodes");
        assert_eq!(bytes.len(), 1 + 1 + 34);
        assert_eq!(postcard::from_bytes::<ObjectAcl>(&bytes).expect("it decodes"), grants);
    }
}
