//! The keys that conditions can ask for, and which of S3's actions have them. A key that does not exist, or that a
//! statement's actions never have, is a mistake that would make a condition hold always or never: S3 refuses the policy.
//!
//! See "Condition keys for Amazon S3" in the service authorization reference and "AWS global condition context keys" in the
//! IAM user guide.

use super::pattern::matches;

/// Keys that every action has, or could have. Those of other services and of organisations are known and never there.
const GLOBAL: &[&str] = &[
    "aws:CalledVia",
    "aws:CalledViaFirst",
    "aws:CalledViaLast",
    "aws:CurrentTime",
    "aws:EpochTime",
    "aws:FederatedProvider",
    "aws:MultiFactorAuthAge",
    "aws:MultiFactorAuthPresent",
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:PrincipalIsAWSService",
    "aws:PrincipalOrgID",
    "aws:PrincipalOrgPaths",
    "aws:PrincipalServiceName",
    "aws:PrincipalServiceNamesList",
    "aws:PrincipalType",
    "aws:Referer",
    "aws:RequestedRegion",
    "aws:ResourceAccount",
    "aws:ResourceOrgID",
    "aws:ResourceOrgPaths",
    "aws:SecureTransport",
    "aws:SourceAccount",
    "aws:SourceArn",
    "aws:SourceIdentity",
    "aws:SourceIp",
    "aws:SourceOrgID",
    "aws:SourceOrgPaths",
    "aws:SourceOwner",
    "aws:SourceVpc",
    "aws:SourceVpcArn",
    "aws:SourceVpce",
    "aws:TagKeys",
    "aws:TokenIssueTime",
    "aws:UserAgent",
    "aws:ViaAWSService",
    "aws:VpcSourceIp",
    "aws:VpceAccount",
    "aws:VpceOrgID",
    "aws:VpceOrgPaths",
    "aws:userid",
    "aws:username",
    "s3:AccessGrantsInstanceArn",
    "s3:AccessPointNetworkOrigin",
    "s3:DataAccessPointAccount",
    "s3:DataAccessPointArn",
    "s3:ResourceAccount",
    "s3:TlsVersion",
    "s3:authType",
    "s3:signatureAge",
    "s3:signatureversion",
    "s3:x-amz-content-sha256",
];

/// Beginnings of keys that end in the key of a tag.
const GLOBAL_TAGS: &[&str] =
    &["aws:PrincipalTag/", "aws:RequestTag/", "aws:ResourceTag/", "s3:AccessPointTag/", "s3:BucketTag/"];

/// Actions whose requests may name an access control list.
const WITH_ACL: &[&str] = &["CreateBucket", "PutBucketAcl", "PutObject", "PutObjectAcl", "PutObjectVersionAcl"];
/// Actions that make an object.
const MAKING: &[&str] = &["PutObject"];
/// Actions that list.
const LISTING: &[&str] = &["ListBucket", "ListBucketVersions"];
/// Actions that set a retention.
const RETAINING: &[&str] = &["BypassGovernanceRetention", "PutObject", "PutObjectRetention"];
/// Actions that set a legal hold.
const HOLDING: &[&str] = &["PutObject", "PutObjectLegalHold"];

/// S3's keys that only some actions have.
const OF_ACTIONS: &[(&str, &[&str])] = &[
    ("s3:InventoryAccessibleOptionalFields", &["PutInventoryConfiguration"]),
    ("s3:LocationConstraint", &["CreateBucket"]),
    ("s3:ObjectCreationOperation", MAKING),
    ("s3:RequestObjectTagKeys", &["PutObject", "PutObjectTagging", "PutObjectVersionTagging", "ReplicateTags"]),
    ("s3:VersionId", &["*Version*", "*Retention", "*LegalHold"]),
    ("s3:delimiter", LISTING),
    ("s3:if-match", &["PutObject", "DeleteObject"]),
    ("s3:if-none-match", &["PutObject", "DeleteObject"]),
    ("s3:max-keys", LISTING),
    ("s3:object-lock-legal-hold", HOLDING),
    ("s3:object-lock-mode", RETAINING),
    ("s3:object-lock-remaining-retention-days", &["BypassGovernanceRetention", "PutObject", "*Retention"]),
    ("s3:object-lock-retain-until-date", RETAINING),
    ("s3:prefix", LISTING),
    ("s3:x-amz-acl", WITH_ACL),
    ("s3:x-amz-copy-source", MAKING),
    ("s3:x-amz-grant-full-control", WITH_ACL),
    ("s3:x-amz-grant-read", WITH_ACL),
    ("s3:x-amz-grant-read-acp", WITH_ACL),
    ("s3:x-amz-grant-write", WITH_ACL),
    ("s3:x-amz-grant-write-acp", WITH_ACL),
    ("s3:x-amz-metadata-directive", MAKING),
    ("s3:x-amz-object-ownership", &["CreateBucket", "PutBucketOwnershipControls"]),
    ("s3:x-amz-server-side-encryption", &["PutObject", "ReplicateObject"]),
    ("s3:x-amz-server-side-encryption-aws-kms-key-id", &["PutObject", "ReplicateObject"]),
    ("s3:x-amz-server-side-encryption-customer-algorithm", MAKING),
    ("s3:x-amz-storage-class", MAKING),
    ("s3:x-amz-website-redirect-location", MAKING),
];

/// The same, of keys that end in the key of a tag. S3 knows an object's tags where it has read the object.
const TAGS_OF_ACTIONS: &[(&str, &[&str])] = &[
    (
        "s3:ExistingObjectTag/",
        &[
            "*Object*Tagging",
            "*Object*Acl",
            "GetObject",
            "GetObjectAttributes",
            "GetObjectTorrent",
            "GetObjectVersion",
            "GetObjectVersionAttributes",
            "GetObjectVersionForReplication",
            "GetObjectVersionTorrent",
            "RestoreObject",
        ],
    ),
    ("s3:RequestObjectTag/", &["PutObject", "PutObjectTagging", "PutObjectVersionTagging", "ReplicateTags"]),
];

/// Which actions have a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Has {
    /// All.
    All,
    /// Those of S3's that match one of these.
    Some(&'static [&'static str]),
}

impl Has {
    /// Whether S3's action of that name has it.
    pub(super) fn includes(self, action: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(actions) => actions.iter().any(|pattern| matches(pattern, action, false)),
        }
    }
}

/// Which actions have the key; `None` when there is no such key.
pub(super) fn who_has(key: &str) -> Option<Has> {
    let is = |known: &str| known.eq_ignore_ascii_case(key);
    let begins = |start: &str| {
        key.len() > start.len() && key.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
    };
    if GLOBAL.iter().any(|known| is(known)) || GLOBAL_TAGS.iter().any(|start| begins(start)) {
        return Some(Has::All);
    }
    let exact = OF_ACTIONS.iter().find(|(known, _)| is(known));
    exact.or_else(|| TAGS_OF_ACTIONS.iter().find(|(start, _)| begins(start))).map(|(_, actions)| Has::Some(actions))
}

#[cfg(test)]
mod tests {
    use super::{Has, OF_ACTIONS, TAGS_OF_ACTIONS, who_has};
    use crate::policy::actions::meant_by;

    #[test]
    fn keys_are_known_whatever_their_case() {
        assert_eq!(who_has("AWS:SourceIP"), Some(Has::All));
        assert_eq!(who_has("aws:PrincipalTag/team"), Some(Has::All));
        assert!(who_has("s3:PREFIX").expect("known").includes("ListBucket"));
        for unknown in ["aws:SourceIP2", "s3:nosuchkey", "s3:ExistingObjectTag/", "s3:ExistingObjectTag", "prefix", ""]
        {
            assert_eq!(who_has(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_key_belongs_to_its_actions() {
        let has = |key, action| who_has(key).expect("known").includes(action);
        assert!(has("s3:ExistingObjectTag/a", "GetObject"));
        assert!(has("s3:ExistingObjectTag/a", "DeleteObjectVersionTagging"));
        assert!(has("s3:ExistingObjectTag/a", "PutObjectVersionAcl"));
        for action in ["PutObject", "DeleteObject", "PutObjectRetention", "GetObjectLegalHold"] {
            assert!(!has("s3:ExistingObjectTag/a", action), "{action}");
        }
        assert!(!has("s3:RequestObjectTag/a", "PutObjectAcl"));
        assert!(!has("s3:prefix", "GetObject"));
        assert!(has("s3:VersionId", "DeleteObjectVersion"));
        assert!(!has("s3:VersionId", "DeleteObject"));
    }

    #[test]
    fn all_actions_that_have_a_key_exist() {
        for (key, actions) in OF_ACTIONS.iter().chain(TAGS_OF_ACTIONS) {
            for action in *actions {
                assert!(meant_by(&format!("s3:{action}")).next().is_some(), "{key} {action}");
            }
        }
    }
}
