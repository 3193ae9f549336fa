//! Access control lists: S3's canned ones, which are the only ones that there are. What one allows is derived from the
//! grants that it stands for, so what is shown and what is enforced cannot differ. No HTTP, no storage.
//!
//! See "Access control list (ACL) overview" in the Amazon S3 user guide.

use serde::{Deserialize, Serialize};

use crate::ids::UserId;

/// Who is granted something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grantee {
    /// One account.
    User(UserId),
    /// Everybody, signed or not.
    AllUsers,
    /// Everybody who signs.
    AuthenticatedUsers,
}

/// What is granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// To whom.
    pub grantee: Grantee,
    /// What.
    pub permission: Permission,
}

/// The list of a bucket.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
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
}

/// The list of an object.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
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
}

impl Grantee {
    /// Whether `user` is meant.
    pub fn includes(self, user: UserId) -> bool {
        match self {
            Self::User(grantee) => grantee == user,
            Self::AllUsers => true,
            Self::AuthenticatedUsers => user != UserId::ANONYMOUS,
        }
    }
}

impl BucketAcl {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Private, Self::PublicRead, Self::PublicReadWrite, Self::AuthenticatedRead];

    /// S3's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PublicRead => "public-read",
            Self::PublicReadWrite => "public-read-write",
            Self::AuthenticatedRead => "authenticated-read",
        }
    }

    /// The list of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|acl| acl.name() == name)
    }

    /// What it grants, in a bucket of `owner`.
    pub fn grants(self, owner: UserId) -> Vec<Grant> {
        let others: &[(Grantee, Permission)] = match self {
            Self::Private => &[],
            Self::PublicRead => &[(Grantee::AllUsers, Permission::Read)],
            Self::PublicReadWrite => &[(Grantee::AllUsers, Permission::Read), (Grantee::AllUsers, Permission::Write)],
            Self::AuthenticatedRead => &[(Grantee::AuthenticatedUsers, Permission::Read)],
        };
        with_owner(owner, others)
    }

    /// The list that stands for these grants, in any order, if there is one.
    pub fn of_grants(grants: &[Grant], owner: UserId) -> Option<Self> {
        Self::ALL.into_iter().find(|acl| same(&acl.grants(owner), grants))
    }

    /// Whether `caller` may do that with a bucket of `owner`.
    pub fn permits(self, permission: Permission, owner: UserId, caller: UserId) -> bool {
        owner == caller || permits(&self.grants(owner), permission, caller)
    }
}

impl ObjectAcl {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Private,
        Self::PublicRead,
        Self::PublicReadWrite,
        Self::AuthenticatedRead,
        Self::BucketOwnerRead,
        Self::BucketOwnerFullControl,
    ];

    /// S3's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PublicRead => "public-read",
            Self::PublicReadWrite => "public-read-write",
            Self::AuthenticatedRead => "authenticated-read",
            Self::BucketOwnerRead => "bucket-owner-read",
            Self::BucketOwnerFullControl => "bucket-owner-full-control",
        }
    }

    /// The list of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|acl| acl.name() == name)
    }

    /// What it grants, for an object of `owner` in a bucket of `bucket_owner`.
    pub fn grants(self, owner: UserId, bucket_owner: UserId) -> Vec<Grant> {
        let bucket_owners = Grantee::User(bucket_owner);
        let others: &[(Grantee, Permission)] = match self {
            Self::BucketOwnerRead | Self::BucketOwnerFullControl if owner == bucket_owner => &[],
            Self::Private => &[],
            Self::PublicRead => &[(Grantee::AllUsers, Permission::Read)],
            Self::PublicReadWrite => &[(Grantee::AllUsers, Permission::Read), (Grantee::AllUsers, Permission::Write)],
            Self::AuthenticatedRead => &[(Grantee::AuthenticatedUsers, Permission::Read)],
            Self::BucketOwnerRead => &[(bucket_owners, Permission::Read)],
            Self::BucketOwnerFullControl => &[(bucket_owners, Permission::FullControl)],
        };
        with_owner(owner, others)
    }

    /// The list that stands for these grants, in any order, if there is one.
    pub fn of_grants(grants: &[Grant], owner: UserId, bucket_owner: UserId) -> Option<Self> {
        Self::ALL.into_iter().find(|acl| same(&acl.grants(owner, bucket_owner), grants))
    }

    /// Whether `caller` may do that with an object of `owner` in a bucket of `bucket_owner`.
    pub fn permits(self, permission: Permission, owner: UserId, bucket_owner: UserId, caller: UserId) -> bool {
        owner == caller || permits(&self.grants(owner, bucket_owner), permission, caller)
    }
}

/// The owner comes last: the order means nothing, but some clients look for it there.
fn with_owner(owner: UserId, others: &[(Grantee, Permission)]) -> Vec<Grant> {
    let others = others.iter().map(|(grantee, permission)| Grant { grantee: *grantee, permission: *permission });
    others.chain([Grant { grantee: Grantee::User(owner), permission: Permission::FullControl }]).collect()
}

fn permits(grants: &[Grant], permission: Permission, caller: UserId) -> bool {
    let covers = |granted: Permission| granted == permission || granted == Permission::FullControl;
    grants.iter().any(|grant| covers(grant.permission) && grant.grantee.includes(caller))
}

fn same(one: &[Grant], other: &[Grant]) -> bool {
    one.iter().all(|grant| other.contains(grant)) && other.iter().all(|grant| one.contains(grant))
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

    fn of_bucket(acl: BucketAcl, caller: UserId) -> Vec<Permission> {
        ALL.into_iter().filter(|permission| acl.permits(*permission, OWNER, caller)).collect()
    }

    fn of_object(acl: ObjectAcl, caller: UserId) -> Vec<Permission> {
        ALL.into_iter().filter(|permission| acl.permits(*permission, OWNER, BUCKETS, caller)).collect()
    }

    #[test]
    fn the_owner_may_do_everything() {
        assert!(BucketAcl::ALL.into_iter().all(|acl| of_bucket(acl, OWNER) == ALL));
        assert!(ObjectAcl::ALL.into_iter().all(|acl| of_object(acl, OWNER) == ALL));
    }

    #[test]
    fn a_bucket_is_opened_to_whom_its_list_says() {
        let read_write = vec![Permission::Read, Permission::Write];
        for (acl, account, anybody) in [
            (BucketAcl::Private, vec![], vec![]),
            (BucketAcl::PublicRead, vec![Permission::Read], vec![Permission::Read]),
            (BucketAcl::PublicReadWrite, read_write.clone(), read_write),
            (BucketAcl::AuthenticatedRead, vec![Permission::Read], vec![]),
        ] {
            assert_eq!(of_bucket(acl, OTHER), account, "{acl:?}");
            assert_eq!(of_bucket(acl, UserId::ANONYMOUS), anybody, "{acl:?}");
        }
    }

    #[test]
    fn an_object_is_not_its_buckets_owners() {
        assert!(of_object(ObjectAcl::Private, BUCKETS).is_empty());
        assert_eq!(of_object(ObjectAcl::BucketOwnerRead, BUCKETS), [Permission::Read]);
        assert_eq!(of_object(ObjectAcl::BucketOwnerFullControl, BUCKETS), ALL);
        assert!(of_object(ObjectAcl::BucketOwnerFullControl, OTHER).is_empty());
        assert_eq!(of_object(ObjectAcl::PublicRead, UserId::ANONYMOUS), [Permission::Read]);
        assert!(of_object(ObjectAcl::AuthenticatedRead, UserId::ANONYMOUS).is_empty());
    }

    #[test]
    fn a_list_is_known_by_its_name_and_by_its_grants() {
        for acl in BucketAcl::ALL {
            assert_eq!(BucketAcl::named(acl.name()), Some(acl));
            let backwards: Vec<Grant> = acl.grants(OWNER).into_iter().rev().collect();
            assert_eq!(BucketAcl::of_grants(&backwards, OWNER), Some(acl));
        }
        for acl in ObjectAcl::ALL {
            assert_eq!(ObjectAcl::named(acl.name()), Some(acl));
            assert_eq!(ObjectAcl::of_grants(&acl.grants(OWNER, BUCKETS), OWNER, BUCKETS), Some(acl));
        }
        assert_eq!(BucketAcl::named("everyone"), None);
    }

    #[test]
    fn other_grants_are_no_list() {
        let grant = Grant { grantee: Grantee::User(OTHER), permission: Permission::Read };
        assert_eq!(BucketAcl::of_grants(&[grant], OWNER), None);
        assert_eq!(BucketAcl::of_grants(&[], OWNER), None);
        assert_eq!(ObjectAcl::of_grants(&[grant], OWNER, BUCKETS), None);
    }
}
