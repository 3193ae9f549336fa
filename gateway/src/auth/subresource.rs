//! The query keys that make another operation out of a request, and which of them each operation that is built takes.
//!
//! s3s routes a request with a key that it does not expect to the plain operation: `DELETE /b?notification` would delete
//! the bucket. So whatever names an operation and is not taken by the one at hand is refused. Other keys mean nothing to
//! S3 and are ignored, as S3 does.

use crate::query;

/// Keys that S3 gives a meaning beyond a plain operation's parameters.
const SUBRESOURCES: &[&str] = &[
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "annotation",
    "annotations",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "events",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metadataAnnotationTable",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// Keys that are arguments rather than operations: out of place they are the client's mistake.
const ARGUMENTS: &[&str] = &["partNumber", "uploadId", "versionId"];

/// What is wrong with a request's query keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Misplaced {
    /// The key asks for an operation that is not built.
    Operation,
    /// The key is an argument that this operation does not take.
    Argument(&'static str),
}

/// An operation that is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Built {
    /// S3's name for it.
    pub(super) operation: &'static str,
    /// The sub-resource keys that it takes.
    pub(super) taken: &'static [&'static str],
}

/// The operations that are built, by S3's names, and the sub-resource keys that each takes.
pub(super) const BUILT: &[Built] = &[
    Built { operation: "CreateBucket", taken: &[] },
    Built { operation: "HeadBucket", taken: &[] },
    Built { operation: "ListBuckets", taken: &[] },
    Built { operation: "DeleteBucket", taken: &[] },
    Built { operation: "ListObjects", taken: &[] },
    Built { operation: "ListObjectsV2", taken: &[] },
    Built { operation: "PutObject", taken: &[] },
    Built { operation: "CopyObject", taken: &[] },
    Built { operation: "RenameObject", taken: &["renameObject"] },
    Built { operation: "GetObject", taken: &["partNumber", "versionId"] },
    Built { operation: "HeadObject", taken: &["partNumber", "versionId"] },
    Built { operation: "DeleteObject", taken: &["versionId"] },
    Built { operation: "DeleteObjects", taken: &["delete"] },
    Built { operation: "GetObjectAttributes", taken: &["attributes", "versionId"] },
    Built { operation: "ListObjectVersions", taken: &["versions"] },
    Built { operation: "CreateMultipartUpload", taken: &["uploads"] },
    Built { operation: "ListMultipartUploads", taken: &["uploads"] },
    Built { operation: "UploadPart", taken: &["partNumber", "uploadId"] },
    Built { operation: "UploadPartCopy", taken: &["partNumber", "uploadId"] },
    Built { operation: "CompleteMultipartUpload", taken: &["uploadId"] },
    Built { operation: "AbortMultipartUpload", taken: &["uploadId"] },
    Built { operation: "ListParts", taken: &["uploadId"] },
    Built { operation: "GetBucketAccelerateConfiguration", taken: &["accelerate"] },
    Built { operation: "PutBucketAccelerateConfiguration", taken: &["accelerate"] },
    Built { operation: "GetBucketAcl", taken: &["acl"] },
    Built { operation: "GetBucketCors", taken: &["cors"] },
    Built { operation: "GetBucketEncryption", taken: &["encryption"] },
    Built { operation: "PutBucketEncryption", taken: &["encryption"] },
    Built { operation: "DeleteBucketEncryption", taken: &["encryption"] },
    Built { operation: "GetBucketLifecycleConfiguration", taken: &["lifecycle"] },
    Built { operation: "PutBucketLifecycleConfiguration", taken: &["lifecycle"] },
    Built { operation: "DeleteBucketLifecycle", taken: &["lifecycle"] },
    Built { operation: "GetBucketLocation", taken: &["location"] },
    Built { operation: "GetBucketLogging", taken: &["logging"] },
    Built { operation: "GetBucketNotificationConfiguration", taken: &["notification"] },
    Built { operation: "PutBucketNotificationConfiguration", taken: &["notification"] },
    Built { operation: "GetBucketOwnershipControls", taken: &["ownershipControls"] },
    Built { operation: "GetBucketPolicy", taken: &["policy"] },
    Built { operation: "GetBucketPolicyStatus", taken: &["policyStatus"] },
    Built { operation: "GetBucketReplication", taken: &["replication"] },
    Built { operation: "GetBucketRequestPayment", taken: &["requestPayment"] },
    Built { operation: "GetBucketTagging", taken: &["tagging"] },
    Built { operation: "GetBucketVersioning", taken: &["versioning"] },
    Built { operation: "GetBucketWebsite", taken: &["website"] },
    Built { operation: "GetObjectAcl", taken: &["acl", "versionId"] },
    Built { operation: "GetObjectLockConfiguration", taken: &["object-lock"] },
    Built { operation: "GetObjectTagging", taken: &["tagging", "versionId"] },
    Built { operation: "GetObjectTorrent", taken: &["torrent"] },
    Built { operation: "GetPublicAccessBlock", taken: &["publicAccessBlock"] },
    Built { operation: "DeleteBucketPolicy", taken: &["policy"] },
    Built { operation: "DeletePublicAccessBlock", taken: &["publicAccessBlock"] },
    Built { operation: "DeleteBucketCors", taken: &["cors"] },
    Built { operation: "DeleteBucketWebsite", taken: &["website"] },
    Built { operation: "PutBucketWebsite", taken: &["website"] },
    Built { operation: "DeleteBucketOwnershipControls", taken: &["ownershipControls"] },
    Built { operation: "PutBucketAcl", taken: &["acl"] },
    Built { operation: "GetBucketAnalyticsConfiguration", taken: &["analytics"] },
    Built { operation: "GetBucketIntelligentTieringConfiguration", taken: &["intelligent-tiering"] },
    Built { operation: "GetBucketInventoryConfiguration", taken: &["inventory"] },
    Built { operation: "GetBucketMetricsConfiguration", taken: &["metrics"] },
    Built { operation: "ListBucketAnalyticsConfigurations", taken: &["analytics"] },
    Built { operation: "ListBucketIntelligentTieringConfigurations", taken: &["intelligent-tiering"] },
    Built { operation: "ListBucketInventoryConfigurations", taken: &["inventory"] },
    Built { operation: "ListBucketMetricsConfigurations", taken: &["metrics"] },
    Built { operation: "PutBucketRequestPayment", taken: &["requestPayment"] },
    Built { operation: "PutBucketTagging", taken: &["tagging"] },
    Built { operation: "DeleteBucketTagging", taken: &["tagging"] },
    Built { operation: "PutObjectTagging", taken: &["tagging", "versionId"] },
    Built { operation: "DeleteObjectTagging", taken: &["tagging", "versionId"] },
    Built { operation: "PutBucketVersioning", taken: &["versioning"] },
    Built { operation: "PutBucketPolicy", taken: &["policy"] },
    Built { operation: "PutPublicAccessBlock", taken: &["publicAccessBlock"] },
    Built { operation: "PutObjectLockConfiguration", taken: &["object-lock"] },
    Built { operation: "GetObjectRetention", taken: &["retention", "versionId"] },
    Built { operation: "PutObjectRetention", taken: &["retention", "versionId"] },
    Built { operation: "GetObjectLegalHold", taken: &["legal-hold", "versionId"] },
    Built { operation: "PutObjectLegalHold", taken: &["legal-hold", "versionId"] },
    Built { operation: "PutBucketCors", taken: &["cors"] },
    Built { operation: "PutBucketLogging", taken: &["logging"] },
    Built { operation: "PutBucketOwnershipControls", taken: &["ownershipControls"] },
    Built { operation: "PutObjectAcl", taken: &["acl", "versionId"] },
];

/// The operation of that name, if it is built.
pub(super) fn built(operation: &str) -> Option<Built> {
    BUILT.iter().copied().find(|built| built.operation == operation)
}

/// Whether every sub-resource key of `query` is among those `taken`.
pub(super) fn check(query: Option<&str>, taken: &[&str]) -> Result<(), Misplaced> {
    for (key, _) in query::pairs(query) {
        let Some(known) = SUBRESOURCES.iter().find(|known| **known == key) else { continue };
        if !taken.contains(known) {
            return Err(if ARGUMENTS.contains(known) { Misplaced::Argument(known) } else { Misplaced::Operation });
        }
    }
    Ok(())
}

/// Whether `query` asks for no operation beside the plain one.
pub(crate) fn is_plain(query: Option<&str>) -> bool {
    check(query, &[]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{Misplaced, built, check};

    fn check_operation(operation: &str, query: &str) -> Result<(), Misplaced> {
        check(Some(query), built(operation).expect("the operation is built").taken)
    }

    #[test]
    fn a_plain_operation_takes_no_subresource() {
        assert_eq!(check_operation("DeleteBucket", "notification"), Err(Misplaced::Operation));
        assert_eq!(check_operation("DeleteBucket", "notific%61tion="), Err(Misplaced::Operation));
        assert_eq!(check_operation("PutObject", "uploadId=x"), Err(Misplaced::Argument("uploadId")));
        assert_eq!(check_operation("PutObject", "x=1&tagging"), Err(Misplaced::Operation));
    }

    #[test]
    fn its_own_keys_and_those_without_meaning_pass() {
        assert_eq!(check_operation("UploadPart", "partNumber=1&uploadId=x"), Ok(()));
        assert_eq!(check_operation("ListObjectsV2", "list-type=2&prefix=acl&x-id=ListObjectsV2"), Ok(()));
        assert_eq!(check_operation("ListBuckets", "usage"), Ok(()));
        assert_eq!(check(None, &[]), Ok(()));
    }

    #[test]
    fn what_is_not_built_has_no_keys() {
        assert_eq!(built("PutBucketReplication"), None);
        assert_eq!(built("PostObject"), None);
    }
}
