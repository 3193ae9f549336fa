//! What each operation needs, by S3's name of it. See "Mapping of ACL permissions and access policy permissions" in the S3
//! user guide. What is not named needs the bucket's owner.

use annulus_common::acl::Permission;
use annulus_common::map::Bucket;
use annulus_common::object::UserId;

/// What an operation needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Needed {
    /// An account, whichever.
    Account,
    /// A permission on the bucket.
    OnBucket(Permission),
    /// The same, and an account: AWS lets nobody begin an upload who does not sign, and the XML of many deletions is taken
    /// into memory only for those whose name is known.
    OnBucketSigned(Permission),
    /// A permission on the object, or to have begun the upload: decided by the operation, which finds it.
    OnObject,
    /// To own the bucket.
    Ownership,
}

/// What the operation of that name needs.
pub(super) fn needed(operation: &str) -> Needed {
    match operation {
        "ListBuckets" | "CreateBucket" => Needed::Account,
        "HeadBucket" | "ListObjects" | "ListObjectsV2" | "ListObjectVersions" | "ListMultipartUploads" => {
            Needed::OnBucket(Permission::Read)
        }
        "PutObject" | "CopyObject" | "DeleteObject" => Needed::OnBucket(Permission::Write),
        "DeleteObjects" | "CreateMultipartUpload" | "UploadPart" | "UploadPartCopy" | "CompleteMultipartUpload" => {
            Needed::OnBucketSigned(Permission::Write)
        }
        "GetBucketAcl" => Needed::OnBucket(Permission::ReadAcl),
        "PutBucketAcl" => Needed::OnBucketSigned(Permission::WriteAcl),
        "GetObject"
        | "HeadObject"
        | "GetObjectAttributes"
        | "GetObjectTagging"
        | "GetObjectAcl"
        | "PutObjectAcl"
        | "GetObjectTorrent"
        | "ListParts"
        | "AbortMultipartUpload" => Needed::OnObject,
        _ => Needed::Ownership,
    }
}

impl Needed {
    /// Whether `caller` has it, where the operation's bucket is `bucket`.
    pub(super) fn is_met(self, bucket: Option<&Bucket>, caller: UserId) -> bool {
        let signed = caller != UserId::ANONYMOUS;
        let permits =
            |permission| bucket.is_some_and(|bucket| bucket.config.acl.permits(permission, bucket.owner, caller));
        match self {
            Self::Account => signed,
            Self::OnBucket(permission) => permits(permission),
            Self::OnBucketSigned(permission) => signed && permits(permission),
            Self::OnObject => bucket.is_some(),
            Self::Ownership => bucket.is_some_and(|bucket| bucket.owner == caller),
        }
    }
}

#[cfg(test)]
mod tests {
    use annulus_common::acl::BucketAcl;
    use annulus_common::ids::{BucketId, RequestId};
    use annulus_common::map::{Bucket, BucketConfig, BucketState};
    use annulus_common::object::UserId;

    use super::needed;

    const OWNER: UserId = UserId([1; 32]);
    const OTHER: UserId = UserId([2; 32]);

    fn may(operation: &str, acl: BucketAcl, caller: UserId) -> bool {
        let (id, request, state) = (BucketId(1), RequestId([0; 16]), BucketState::Active);
        let bucket =
            Bucket { id, owner: OWNER, created_ms: 0, shards: 16, request, state, config: BucketConfig { acl } };
        needed(operation).is_met(Some(&bucket), caller)
    }

    #[test]
    fn a_private_bucket_is_its_owners_alone() {
        for operation in ["ListObjects", "HeadBucket", "PutObject", "DeleteBucket", "GetBucketAcl", "NoSuchOperation"] {
            assert!(may(operation, BucketAcl::Private, OWNER), "{operation}");
            assert!(!may(operation, BucketAcl::Private, OTHER), "{operation}");
            assert!(!may(operation, BucketAcl::Private, UserId::ANONYMOUS), "{operation}");
        }
    }

    #[test]
    fn an_open_bucket_is_open_for_what_its_list_says() {
        assert!(may("ListObjectsV2", BucketAcl::PublicRead, UserId::ANONYMOUS));
        assert!(!may("PutObject", BucketAcl::PublicRead, UserId::ANONYMOUS));
        assert!(may("HeadBucket", BucketAcl::AuthenticatedRead, OTHER));
        assert!(!may("HeadBucket", BucketAcl::AuthenticatedRead, UserId::ANONYMOUS));
        assert!(may("PutObject", BucketAcl::PublicReadWrite, UserId::ANONYMOUS));
        assert!(may("CreateMultipartUpload", BucketAcl::PublicReadWrite, OTHER));
        assert!(!may("CreateMultipartUpload", BucketAcl::PublicReadWrite, UserId::ANONYMOUS));
        assert!(!may("DeleteObjects", BucketAcl::PublicReadWrite, UserId::ANONYMOUS));
        for operation in ["DeleteBucket", "GetBucketLocation", "PutBucketAcl", "GetBucketAcl", "PutBucketPolicy"] {
            assert!(!may(operation, BucketAcl::PublicReadWrite, OTHER), "{operation}");
        }
    }

    #[test]
    fn nobody_makes_or_lists_buckets_without_a_name() {
        for operation in ["CreateBucket", "ListBuckets"] {
            assert!(needed(operation).is_met(None, OTHER));
            assert!(!needed(operation).is_met(None, UserId::ANONYMOUS));
        }
        assert!(!needed("WriteGetObjectResponse").is_met(None, OWNER));
    }
}
