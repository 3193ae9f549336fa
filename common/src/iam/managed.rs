//! The managed policies of AWS's own that are here too, by the names and with the meaning that AWS gives them as far as there is
//! something to allow: S3 and IAM. See "AWS managed policies" in the IAM user guide.

use std::sync::{Arc, LazyLock};

use crate::policy::IdentityPolicy;

/// What all their ARNs begin with.
const ARN_PREFIX: &str = "arn:aws:iam::aws:policy/";

/// A policy of AWS's.
#[derive(Debug)]
pub struct AwsPolicy {
    /// Its name.
    pub name: &'static str,
    /// Its id, as AWS has it.
    pub id: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// What it says.
    pub policy: Arc<IdentityPolicy>,
}

static POLICIES: LazyLock<Vec<AwsPolicy>> = LazyLock::new(|| {
    vec![
        of(
            "AdministratorAccess",
            "ANPAIWMBCKSKIEE64ZLYK",
            "Provides full access to AWS services and resources.",
            r#""Action": "*""#,
        ),
        of(
            "AmazonS3FullAccess",
            "ANPAIFIR6V6BVTRAHWINE",
            "Provides full access to all buckets.",
            r#""Action": "s3:*""#,
        ),
        of(
            "AmazonS3ReadOnlyAccess",
            "ANPAIZTJ4DXE7G6AGAE6M",
            "Provides read only access to all buckets.",
            r#""Action": ["s3:Get*", "s3:List*", "s3:Describe*"]"#,
        ),
        of("IAMFullAccess", "ANPAI7XKCFMBPM3QQRRVQ", "Provides full access to IAM.", r#""Action": "iam:*""#),
        of(
            "IAMReadOnlyAccess",
            "ANPAJKSO7NDY4T57MWDSQ",
            "Provides read only access to IAM.",
            r#""Action": ["iam:GenerateCredentialReport", "iam:Get*", "iam:List*", "iam:Simulate*"]"#,
        ),
    ]
});

fn of(name: &'static str, id: &'static str, description: &'static str, action: &str) -> AwsPolicy {
    let text =
        format!(r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", {action}, "Resource": "*"}}]}}"#);
    let policy = IdentityPolicy::parse(text).expect("the policies of this table are valid");
    AwsPolicy { name, id, description, policy: Arc::new(policy) }
}

impl AwsPolicy {
    /// All of them, by name.
    pub fn all() -> &'static [AwsPolicy] {
        &POLICIES
    }

    /// The one of that ARN.
    pub fn of_arn(arn: &str) -> Option<&'static AwsPolicy> {
        let name = arn.strip_prefix(ARN_PREFIX)?;
        POLICIES.iter().find(|policy| policy.name == name)
    }

    /// Its ARN.
    pub fn arn(&self) -> String {
        format!("{ARN_PREFIX}{}", self.name)
    }
}
