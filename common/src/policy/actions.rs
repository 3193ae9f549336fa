//! The actions of Amazon S3 that a bucket's policy can name: see "Actions, resources, and condition keys for Amazon S3" in
//! the service authorization reference. A policy that names another is refused.

use super::pattern::matches;

/// All of them, without their `s3:`.
const ACTIONS: &[&str] = &[
    "AbortMultipartUpload",
    "BypassGovernanceRetention",
    "CreateBucket",
    "CreateBucketMetadataTableConfiguration",
    "DeleteBucket",
    "DeleteBucketMetadataTableConfiguration",
    "DeleteBucketPolicy",
    "DeleteBucketWebsite",
    "DeleteObject",
    "DeleteObjectTagging",
    "DeleteObjectVersion",
    "DeleteObjectVersionTagging",
    "GetAccelerateConfiguration",
    "GetAnalyticsConfiguration",
    "GetBucketAcl",
    "GetBucketCORS",
    "GetBucketLocation",
    "GetBucketLogging",
    "GetBucketMetadataTableConfiguration",
    "GetBucketNotification",
    "GetBucketObjectLockConfiguration",
    "GetBucketOwnershipControls",
    "GetBucketPolicy",
    "GetBucketPolicyStatus",
    "GetBucketPublicAccessBlock",
    "GetBucketRequestPayment",
    "GetBucketTagging",
    "GetBucketVersioning",
    "GetBucketWebsite",
    "GetEncryptionConfiguration",
    "GetIntelligentTieringConfiguration",
    "GetInventoryConfiguration",
    "GetLifecycleConfiguration",
    "GetMetricsConfiguration",
    "GetObject",
    "GetObjectAcl",
    "GetObjectAttributes",
    "GetObjectLegalHold",
    "GetObjectRetention",
    "GetObjectTagging",
    "GetObjectTorrent",
    "GetObjectVersion",
    "GetObjectVersionAcl",
    "GetObjectVersionAttributes",
    "GetObjectVersionForReplication",
    "GetObjectVersionTagging",
    "GetObjectVersionTorrent",
    "GetReplicationConfiguration",
    "InitiateReplication",
    "ListAllMyBuckets",
    "ListBucket",
    "ListBucketMultipartUploads",
    "ListBucketVersions",
    "ListMultipartUploadParts",
    "ListTagsForResource",
    "ObjectOwnerOverrideToBucketOwner",
    "PutAccelerateConfiguration",
    "PutAnalyticsConfiguration",
    "PutBucketAcl",
    "PutBucketCORS",
    "PutBucketLogging",
    "PutBucketNotification",
    "PutBucketObjectLockConfiguration",
    "PutBucketOwnershipControls",
    "PutBucketPolicy",
    "PutBucketPublicAccessBlock",
    "PutBucketRequestPayment",
    "PutBucketTagging",
    "PutBucketVersioning",
    "PutBucketWebsite",
    "PutEncryptionConfiguration",
    "PutIntelligentTieringConfiguration",
    "PutInventoryConfiguration",
    "PutLifecycleConfiguration",
    "PutMetricsConfiguration",
    "PutObject",
    "PutObjectAcl",
    "PutObjectLegalHold",
    "PutObjectRetention",
    "PutObjectTagging",
    "PutObjectVersionAcl",
    "PutObjectVersionTagging",
    "PutReplicationConfiguration",
    "ReplicateDelete",
    "ReplicateObject",
    "ReplicateTags",
    "RestoreObject",
    "TagResource",
    "UntagResource",
    "UpdateBucketMetadataInventoryTableConfiguration",
    "UpdateBucketMetadataJournalTableConfiguration",
];

/// The actions that `pattern` means: none when it is no pattern of S3's.
pub(super) fn meant_by(pattern: &str) -> impl Iterator<Item = &'static str> + '_ {
    let names = if pattern == "*" { Some("*") } else { of_s3(pattern) };
    ACTIONS.iter().copied().filter(move |action| names.is_some_and(|names| matches(names, action, true)))
}

/// The pattern behind `s3:`.
fn of_s3(pattern: &str) -> Option<&str> {
    let (service, names) = pattern.split_once(':')?;
    service.eq_ignore_ascii_case("s3").then_some(names)
}

#[cfg(test)]
mod tests {
    use super::meant_by;

    #[test]
    fn patterns_mean_the_actions_that_they_match() {
        assert_eq!(meant_by("s3:GetObject").collect::<Vec<_>>(), ["GetObject"]);
        assert_eq!(meant_by("S3:getobject").collect::<Vec<_>>(), ["GetObject"]);
        assert_eq!(meant_by("s3:*ObjectAcl").collect::<Vec<_>>(), ["GetObjectAcl", "PutObjectAcl"]);
        assert_eq!(meant_by("*").count(), meant_by("s3:*").count());
        for none in ["s3:GetObjects", "ec2:*", "s3", "", "s3:"] {
            assert_eq!(meant_by(none).next(), None, "{none}");
        }
    }
}
