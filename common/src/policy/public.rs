//! Whether a policy is public. See "The meaning of 'public'" in "Blocking public access to your Amazon S3 storage" in the S3
//! user guide: what is allowed to everybody is public, unless a condition holds it to fixed values of something that tells
//! callers apart.

use super::condition::{Condition, Test, Which};
use super::statement::Statement;

/// Keys that tell callers apart.
const TELLING: &[&str] = &[
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:PrincipalOrgID",
    "aws:SourceAccount",
    "aws:SourceArn",
    "aws:SourceOwner",
    "aws:SourceVpc",
    "aws:SourceVpce",
    "aws:userid",
    "s3:DataAccessPointAccount",
    "s3:DataAccessPointArn",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
];

/// Whether the statement makes something public.
pub(super) fn is_public(statement: &Statement) -> bool {
    statement.allows && statement.is_about_everybody() && !statement.conditions.iter().any(is_telling)
}

/// Whether a condition holds callers to fixed values. What a request without the key passes holds nobody.
fn is_telling(condition: &Condition) -> bool {
    if condition.negated || condition.if_exists || condition.which == Which::All {
        return false;
    }
    let is = |key: &str| condition.key.eq_ignore_ascii_case(key);
    match &condition.test {
        Test::Address(networks) => is("aws:SourceIp") && networks.iter().all(|network| !network.is_broad()),
        Test::Text { wanted, wildcards, .. } => {
            TELLING.iter().any(|key| is(key)) && wanted.iter().all(|wanted| wanted.is_fixed(*wildcards))
        }
        Test::Arn(wanted) => TELLING.iter().any(|key| is(key)) && wanted.iter().all(|wanted| wanted.is_fixed(true)),
        _ => false,
    }
}
