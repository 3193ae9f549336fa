//! What each S3 operation is to a policy and to an access control list. See "Required permissions for Amazon S3 API
//! operations" and "Mapping of ACL permissions and access policy permissions" in the S3 user guide.
//!
//! # How an operation is added
//!
//! All operations that S3 has are in [`rule`] already, those too that are not built: one that is new to S3 gets its line
//! there. Where [`Judged::Before`] is said, nothing more is to do: the request is refused before its body is read. With
//! [`Judged::Found`] the operation itself finds what it is about and asks: `find_object` does both for objects, and
//! [`super::Access::check`] with a [`super::Resource`] does it for anything else. An action that goes with others when the
//! request has certain headers gets its line in [`accompanying`].

use annulus_common::acl::Permission;
use http::HeaderMap;

/// What a policy calls what is done, and what an access control list calls it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Action {
    /// Its name in policies.
    pub name: &'static str,
    /// Its name where a version is named.
    pub of_version: &'static str,
    /// What must be granted on the bucket, or on the object, where a policy does not allow it. Nothing that can be granted
    /// does: the owner alone may.
    pub granted_by: Option<Permission>,
}

/// When an operation is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judged {
    /// Before its body is read: on the service or on the bucket, or on a key by the bucket's list and policy.
    Before,
    /// The same, and only for those who sign: AWS lets nobody begin an upload who does not.
    BeforeSigned,
    /// By the operation, which finds the object or the upload, with its owner, list and tags.
    Found,
    /// By the operation, and only for those who sign: their XML, which says what it is about, is taken into memory.
    FoundSigned,
}

/// What an operation does, and when it is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rule {
    pub(super) action: Action,
    pub(super) judged: Judged,
}

const fn action(name: &'static str, of_version: &'static str, granted_by: Option<Permission>) -> Action {
    Action { name, of_version, granted_by }
}

/// `s3:GetObject`: also who copies an object must have it, on the source.
pub const GET_OBJECT: Action = action("s3:GetObject", "s3:GetObjectVersion", Some(Permission::Read));
/// `s3:GetObjectAttributes`, which S3 asks for beside [`GET_OBJECT`].
pub const GET_OBJECT_ATTRIBUTES: Action =
    action("s3:GetObjectAttributes", "s3:GetObjectVersionAttributes", Some(Permission::Read));
/// `s3:GetObjectAcl`
pub const GET_OBJECT_ACL: Action = action("s3:GetObjectAcl", "s3:GetObjectVersionAcl", Some(Permission::ReadAcl));
/// `s3:PutObjectAcl`
pub const PUT_OBJECT_ACL: Action = action("s3:PutObjectAcl", "s3:PutObjectVersionAcl", Some(Permission::WriteAcl));
/// `s3:GetObjectTagging`. No list grants tags to those who may only read.
pub const GET_OBJECT_TAGGING: Action =
    action("s3:GetObjectTagging", "s3:GetObjectVersionTagging", Some(Permission::FullControl));
/// `s3:PutObjectTagging`
pub const PUT_OBJECT_TAGGING: Action =
    action("s3:PutObjectTagging", "s3:PutObjectVersionTagging", Some(Permission::FullControl));
/// `s3:DeleteObjectTagging`
pub const DELETE_OBJECT_TAGGING: Action =
    action("s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging", Some(Permission::FullControl));
/// `s3:GetObjectRetention`
pub const GET_OBJECT_RETENTION: Action = action("s3:GetObjectRetention", "s3:GetObjectRetention", None);
/// `s3:PutObjectRetention`
pub const PUT_OBJECT_RETENTION: Action = action("s3:PutObjectRetention", "s3:PutObjectRetention", None);
/// `s3:GetObjectLegalHold`
pub const GET_OBJECT_LEGAL_HOLD: Action = action("s3:GetObjectLegalHold", "s3:GetObjectLegalHold", None);
/// `s3:PutObjectLegalHold`
pub const PUT_OBJECT_LEGAL_HOLD: Action = action("s3:PutObjectLegalHold", "s3:PutObjectLegalHold", None);
/// `s3:BypassGovernanceRetention`: who asks to bypass must have it beside what it does.
pub const BYPASS_GOVERNANCE_RETENTION: Action =
    action("s3:BypassGovernanceRetention", "s3:BypassGovernanceRetention", None);
/// `s3:ListTagsForResource`, of S3 Control
pub const LIST_TAGS_FOR_RESOURCE: Action = action("s3:ListTagsForResource", "s3:ListTagsForResource", None);
/// `s3:TagResource`, of S3 Control; who makes a bucket with tags must have it too.
pub const TAG_RESOURCE: Action = action("s3:TagResource", "s3:TagResource", None);
/// `s3:UntagResource`, of S3 Control
pub const UNTAG_RESOURCE: Action = action("s3:UntagResource", "s3:UntagResource", None);
/// `s3:PutObject`: a key of the bucket, whatever is there.
pub const PUT_OBJECT: Action = action("s3:PutObject", "s3:PutObject", Some(Permission::Write));
/// `s3:DeleteObject`: the same.
pub const DELETE_OBJECT: Action = action("s3:DeleteObject", "s3:DeleteObjectVersion", Some(Permission::Write));
/// `s3:AbortMultipartUpload`
pub const ABORT_UPLOAD: Action = action("s3:AbortMultipartUpload", "s3:AbortMultipartUpload", None);
/// `s3:ListMultipartUploadParts`
pub const LIST_PARTS: Action = action("s3:ListMultipartUploadParts", "s3:ListMultipartUploadParts", None);
/// `s3:ListBucket`: who has it is told that an object does not exist.
pub const LIST_BUCKET: Action = action("s3:ListBucket", "s3:ListBucket", Some(Permission::Read));
/// `s3:PutBucketPolicy`
pub const PUT_BUCKET_POLICY: Action = action("s3:PutBucketPolicy", "s3:PutBucketPolicy", None);

/// `s3:PutBucketOwnershipControls`
const PUT_BUCKET_OWNERSHIP_CONTROLS: &str = "s3:PutBucketOwnershipControls";

/// Whether the owner of a bucket may do it to what others have put there: S3 says so of tags.
pub(super) fn is_bucket_owners(action: Action) -> bool {
    [GET_OBJECT_TAGGING, PUT_OBJECT_TAGGING, DELETE_OBJECT_TAGGING].contains(&action)
}

/// Whether a list that grants it counts. WRITE on a bucket deletes a version for good only if it is granted to the account that
/// owns the bucket: see "Mapping of ACL permissions and access policy permissions" in the S3 user guide.
pub(super) fn is_for_lists(action: Action, of_version: bool, by_bucket_owner: bool) -> bool {
    action != DELETE_OBJECT || !of_version || by_bucket_owner
}

/// What the operation of that name does; `None` for those that S3 does not document permissions of.
pub(super) fn rule(operation: &str) -> Option<Rule> {
    object_rule(operation).or_else(|| bucket_rule(operation)).or_else(|| configuration_rule(operation))
}

/// Operations on a key.
fn object_rule(operation: &str) -> Option<Rule> {
    let (action, judged) = match operation {
        "GetObject" | "HeadObject" | "SelectObjectContent" => (GET_OBJECT, Judged::Found),
        "GetObjectAttributes" => (GET_OBJECT_ATTRIBUTES, Judged::Found),
        "GetObjectAcl" => (GET_OBJECT_ACL, Judged::Found),
        "PutObjectAcl" => (PUT_OBJECT_ACL, Judged::Found),
        "GetObjectTagging" => (GET_OBJECT_TAGGING, Judged::Found),
        "PutObjectTagging" => (PUT_OBJECT_TAGGING, Judged::Found),
        "DeleteObjectTagging" => (DELETE_OBJECT_TAGGING, Judged::Found),
        "GetObjectRetention" => (GET_OBJECT_RETENTION, Judged::Found),
        "PutObjectRetention" => (PUT_OBJECT_RETENTION, Judged::Found),
        "GetObjectLegalHold" => (GET_OBJECT_LEGAL_HOLD, Judged::Found),
        "PutObjectLegalHold" => (PUT_OBJECT_LEGAL_HOLD, Judged::Found),
        "GetObjectTorrent" => {
            (action("s3:GetObjectTorrent", "s3:GetObjectVersionTorrent", Some(Permission::Read)), Judged::Found)
        }
        "RestoreObject" => (action("s3:RestoreObject", "s3:RestoreObject", None), Judged::Found),
        "PutObject" | "CopyObject" | "RenameObject" => (PUT_OBJECT, Judged::Before),
        "CreateMultipartUpload" | "UploadPart" | "UploadPartCopy" | "CompleteMultipartUpload" => {
            (PUT_OBJECT, Judged::BeforeSigned)
        }
        "ListParts" => (LIST_PARTS, Judged::Found),
        "AbortMultipartUpload" => (ABORT_UPLOAD, Judged::Found),
        "DeleteObject" => (DELETE_OBJECT, Judged::Before),
        "DeleteObjects" => (DELETE_OBJECT, Judged::FoundSigned),
        _ => return None,
    };
    Some(Rule { action, judged })
}

/// Operations on the service and on a bucket that access control lists know.
fn bucket_rule(operation: &str) -> Option<Rule> {
    let plain = |name, granted_by| action(name, name, granted_by);
    let (action, judged) = match operation {
        "ListBuckets" => (plain("s3:ListAllMyBuckets", None), Judged::BeforeSigned),
        "CreateBucket" => (plain("s3:CreateBucket", None), Judged::FoundSigned),
        "HeadBucket" | "ListObjects" | "ListObjectsV2" => (LIST_BUCKET, Judged::Before),
        "ListObjectVersions" => (plain("s3:ListBucketVersions", Some(Permission::Read)), Judged::Before),
        "ListMultipartUploads" => (plain("s3:ListBucketMultipartUploads", Some(Permission::Read)), Judged::Before),
        "GetBucketAcl" => (plain("s3:GetBucketAcl", Some(Permission::ReadAcl)), Judged::Before),
        "PutBucketAcl" => (plain("s3:PutBucketAcl", Some(Permission::WriteAcl)), Judged::BeforeSigned),
        _ => return None,
    };
    Some(Rule { action, judged })
}

/// Operations on what is configured of a bucket: the owner's, or whose a policy makes them.
fn configuration_rule(operation: &str) -> Option<Rule> {
    let name = match operation {
        "DeleteBucket" => "s3:DeleteBucket",
        "GetBucketLocation" => "s3:GetBucketLocation",
        "GetBucketPolicy" => "s3:GetBucketPolicy",
        "PutBucketPolicy" => PUT_BUCKET_POLICY.name,
        "DeleteBucketPolicy" => "s3:DeleteBucketPolicy",
        "GetBucketPolicyStatus" => "s3:GetBucketPolicyStatus",
        "GetPublicAccessBlock" => "s3:GetBucketPublicAccessBlock",
        "PutPublicAccessBlock" | "DeletePublicAccessBlock" => "s3:PutBucketPublicAccessBlock",
        "GetBucketOwnershipControls" => "s3:GetBucketOwnershipControls",
        "PutBucketOwnershipControls" | "DeleteBucketOwnershipControls" => PUT_BUCKET_OWNERSHIP_CONTROLS,
        "GetBucketCors" => "s3:GetBucketCORS",
        "PutBucketCors" | "DeleteBucketCors" => "s3:PutBucketCORS",
        "GetBucketWebsite" => "s3:GetBucketWebsite",
        "PutBucketWebsite" => "s3:PutBucketWebsite",
        "DeleteBucketWebsite" => "s3:DeleteBucketWebsite",
        "GetBucketTagging" => "s3:GetBucketTagging",
        "PutBucketTagging" | "DeleteBucketTagging" => "s3:PutBucketTagging",
        "GetBucketVersioning" => "s3:GetBucketVersioning",
        "PutBucketVersioning" => "s3:PutBucketVersioning",
        "GetObjectLockConfiguration" => "s3:GetBucketObjectLockConfiguration",
        "PutObjectLockConfiguration" => "s3:PutBucketObjectLockConfiguration",
        "GetBucketEncryption" => "s3:GetEncryptionConfiguration",
        "PutBucketEncryption" | "DeleteBucketEncryption" => "s3:PutEncryptionConfiguration",
        "GetBucketLifecycleConfiguration" => "s3:GetLifecycleConfiguration",
        "PutBucketLifecycleConfiguration" | "DeleteBucketLifecycle" => "s3:PutLifecycleConfiguration",
        "GetBucketLogging" => "s3:GetBucketLogging",
        "PutBucketLogging" => "s3:PutBucketLogging",
        "GetBucketNotificationConfiguration" => "s3:GetBucketNotification",
        "PutBucketNotificationConfiguration" => "s3:PutBucketNotification",
        "GetBucketReplication" => "s3:GetReplicationConfiguration",
        "PutBucketReplication" | "DeleteBucketReplication" => "s3:PutReplicationConfiguration",
        "GetBucketRequestPayment" => "s3:GetBucketRequestPayment",
        "PutBucketRequestPayment" => "s3:PutBucketRequestPayment",
        "GetBucketAccelerateConfiguration" => "s3:GetAccelerateConfiguration",
        "PutBucketAccelerateConfiguration" => "s3:PutAccelerateConfiguration",
        "GetBucketAnalyticsConfiguration" | "ListBucketAnalyticsConfigurations" => "s3:GetAnalyticsConfiguration",
        "PutBucketAnalyticsConfiguration" | "DeleteBucketAnalyticsConfiguration" => "s3:PutAnalyticsConfiguration",
        "GetBucketInventoryConfiguration" | "ListBucketInventoryConfigurations" => "s3:GetInventoryConfiguration",
        "PutBucketInventoryConfiguration" | "DeleteBucketInventoryConfiguration" => "s3:PutInventoryConfiguration",
        "GetBucketMetricsConfiguration" | "ListBucketMetricsConfigurations" => "s3:GetMetricsConfiguration",
        "PutBucketMetricsConfiguration" | "DeleteBucketMetricsConfiguration" => "s3:PutMetricsConfiguration",
        "GetBucketIntelligentTieringConfiguration" | "ListBucketIntelligentTieringConfigurations" => {
            "s3:GetIntelligentTieringConfiguration"
        }
        "PutBucketIntelligentTieringConfiguration" | "DeleteBucketIntelligentTieringConfiguration" => {
            "s3:PutIntelligentTieringConfiguration"
        }
        _ => return None,
    };
    // Conditions can ask what its document says.
    let judged = if operation == "PutBucketOwnershipControls" { Judged::FoundSigned } else { Judged::Before };
    Some(Rule { action: action(name, name, None), judged })
}

/// What else a request does that makes an object, by its headers.
///
/// Its writer could do as much right afterwards where the object becomes the writer's own: access control lists and tags
/// are judged as on an object of the writer's. Locks are the bucket owner's to give.
pub(super) fn accompanying(operation: &str, headers: &HeaderMap) -> Vec<Action> {
    if !matches!(operation, "PutObject" | "CopyObject" | "CreateMultipartUpload") {
        return Vec::new();
    }
    let has = |wanted: fn(&str) -> bool| headers.keys().any(|name| wanted(name.as_str()));
    let mut actions = Vec::new();
    if has(|name| name == "x-amz-acl" || name.starts_with("x-amz-grant-")) {
        actions.push(PUT_OBJECT_ACL);
    }
    if has(|name| name == "x-amz-tagging") {
        actions.push(PUT_OBJECT_TAGGING);
    }
    if has(|name| matches!(name, "x-amz-object-lock-mode" | "x-amz-object-lock-retain-until-date")) {
        actions.push(PUT_OBJECT_RETENTION);
    }
    if has(|name| name == "x-amz-object-lock-legal-hold") {
        actions.push(PUT_OBJECT_LEGAL_HOLD);
    }
    actions
}

/// What else a request does that makes a bucket, by its headers. See "CreateBucket" in the S3 API reference.
pub(super) fn accompanying_creation(headers: &HeaderMap) -> Vec<&'static str> {
    let mut actions = Vec::new();
    if headers.keys().any(|name| name == "x-amz-acl" || name.as_str().starts_with("x-amz-grant-")) {
        actions.push("s3:PutBucketAcl");
    }
    if headers.contains_key("x-amz-object-ownership") {
        actions.push(PUT_BUCKET_OWNERSHIP_CONTROLS);
    }
    let locks = headers.get("x-amz-bucket-object-lock-enabled");
    if locks.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"false")) {
        actions.extend(["s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning"]);
    }
    actions
}

#[cfg(test)]
mod tests {
    use annulus_common::acl::Permission;
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Judged, accompanying, rule};

    #[test]
    fn every_operation_has_its_action_and_what_grants_it() {
        for (operation, name, granted_by, judged) in [
            ("GetObject", "s3:GetObject", Some(Permission::Read), Judged::Found),
            ("HeadBucket", "s3:ListBucket", Some(Permission::Read), Judged::Before),
            ("PutObject", "s3:PutObject", Some(Permission::Write), Judged::Before),
            ("UploadPart", "s3:PutObject", Some(Permission::Write), Judged::BeforeSigned),
            ("DeleteObjects", "s3:DeleteObject", Some(Permission::Write), Judged::FoundSigned),
            ("DeletePublicAccessBlock", "s3:PutBucketPublicAccessBlock", None, Judged::Before),
            ("DeleteBucketCors", "s3:PutBucketCORS", None, Judged::Before),
        ] {
            let rule = rule(operation).expect("the operation is known");
            assert_eq!(
                (rule.action.name, rule.action.granted_by, rule.judged),
                (name, granted_by, judged),
                "{operation}"
            );
        }
        assert_eq!(rule("DeleteObject").map(|rule| rule.action.of_version), Some("s3:DeleteObjectVersion"));
        assert_eq!(rule("WriteGetObjectResponse"), None);
    }

    #[test]
    fn all_that_is_built_can_be_judged() {
        for built in crate::auth::subresource::BUILT {
            assert!(rule(built.operation).is_some(), "{}", built.operation);
        }
    }

    #[test]
    fn headers_ask_for_more() {
        let with = |operation, name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
            accompanying(operation, &headers).iter().map(|action| action.name).collect::<Vec<_>>()
        };
        assert_eq!(with("PutObject", "x-amz-acl"), ["s3:PutObjectAcl"]);
        assert_eq!(with("CopyObject", "x-amz-grant-read"), ["s3:PutObjectAcl"]);
        assert_eq!(with("CreateMultipartUpload", "x-amz-tagging"), ["s3:PutObjectTagging"]);
        assert_eq!(with("PutObject", "x-amz-object-lock-mode"), ["s3:PutObjectRetention"]);
        assert_eq!(with("PutObject", "x-amz-object-lock-legal-hold"), ["s3:PutObjectLegalHold"]);
        assert!(with("PutObject", "content-type").is_empty());
        assert!(with("PutBucketAcl", "x-amz-acl").is_empty());
    }
}
