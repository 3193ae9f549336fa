//! The query keys that make another operation out of a request, and which of them each operation that is built takes.
//!
//! s3s routes a request with a key that it does not expect to the plain operation: `DELETE /b?notification` would delete
//! the bucket. So whatever names an operation and is not taken by the one at hand is refused. Other keys mean nothing to
//! S3 and are ignored, as S3 does.

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

/// The sub-resource keys that an operation takes, by its S3 name; nothing for an operation that is not built.
pub(super) fn taken_by(operation: &str) -> Option<&'static [&'static str]> {
    Some(match operation {
        "CreateBucket" | "HeadBucket" | "ListBuckets" | "DeleteBucket" => &[],
        "ListObjects" | "ListObjectsV2" | "PutObject" | "CopyObject" => &[],
        "GetObject" | "HeadObject" => &["partNumber", "versionId"],
        "DeleteObject" => &["versionId"],
        "DeleteObjects" => &["delete"],
        "GetObjectAttributes" => &["attributes", "versionId"],
        "ListObjectVersions" => &["versions"],
        "CreateMultipartUpload" | "ListMultipartUploads" => &["uploads"],
        "UploadPart" | "UploadPartCopy" => &["partNumber", "uploadId"],
        "CompleteMultipartUpload" | "AbortMultipartUpload" | "ListParts" => &["uploadId"],
        "GetBucketAccelerateConfiguration" => &["accelerate"],
        "GetBucketAcl" => &["acl"],
        "GetBucketCors" => &["cors"],
        "GetBucketEncryption" => &["encryption"],
        "GetBucketLifecycleConfiguration" => &["lifecycle"],
        "GetBucketLocation" => &["location"],
        "GetBucketLogging" => &["logging"],
        "GetBucketNotificationConfiguration" => &["notification"],
        "GetBucketOwnershipControls" => &["ownershipControls"],
        "GetBucketPolicy" => &["policy"],
        "GetBucketPolicyStatus" => &["policyStatus"],
        "GetBucketReplication" => &["replication"],
        "GetBucketRequestPayment" => &["requestPayment"],
        "GetBucketTagging" => &["tagging"],
        "GetBucketVersioning" => &["versioning"],
        "GetBucketWebsite" => &["website"],
        "GetObjectAcl" => &["acl", "versionId"],
        "GetObjectLockConfiguration" => &["object-lock"],
        "GetObjectTagging" => &["tagging", "versionId"],
        "GetPublicAccessBlock" => &["publicAccessBlock"],
        _ => return None,
    })
}

/// Whether every sub-resource key of `query` is among those `taken`.
pub(super) fn check(query: Option<&str>, taken: &[&str]) -> Result<(), Misplaced> {
    for pair in query.unwrap_or_default().split('&') {
        let key = pair.split_once('=').map_or(pair, |(key, _)| key);
        let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy();
        let Some(known) = SUBRESOURCES.iter().find(|known| **known == key) else { continue };
        if !taken.contains(known) {
            return Err(if ARGUMENTS.contains(known) { Misplaced::Argument(known) } else { Misplaced::Operation });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Misplaced, check, taken_by};

    fn check_operation(operation: &str, query: &str) -> Result<(), Misplaced> {
        check(Some(query), taken_by(operation).expect("the operation is built"))
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
        assert_eq!(taken_by("PutBucketPolicy"), None);
        assert_eq!(taken_by("PostObject"), None);
    }
}
