//! Whether the service that delivers access logs may write to a bucket: it is no account, and is let in by the bucket's policy,
//! which names it, or by the bucket's list, which grants to its group.
//!
//! AWS delivers within an account alone. Here a policy may take the logs of another account's buckets, if it asks whose they are:
//! what lets the service in whoever sends it was not made for others.
//!
//! See "Permissions for log delivery" in the S3 user guide.

use annulus_common::acl::{Grant, Grantee, Permission};
use annulus_common::map::Bucket;
use annulus_common::object::UserId;
use annulus_common::policy::{Context, Principal, Question, Verdict};

use super::action::PUT_OBJECT;

/// What policies call the service.
const SERVICE: &str = "logging.s3.amazonaws.com";

/// What policies ask about whose logs they are.
const OF_SOURCE: [&str; 2] = ["aws:SourceAccount", "aws:SourceArn"];

/// Where logs go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogTarget<'a> {
    pub(crate) name: &'a str,
    pub(crate) bucket: &'a Bucket,
    pub(crate) prefix: &'a str,
}

/// Whether logs of the source, a bucket of that name and owner, may be written to the target: under the prefix, and where it
/// is known under `key`.
///
/// Policies are asked about the prefix as if it were a key, too. S3's examples allow `bucket/prefix*`, which both fit; those
/// who write the prefix alone mean what is below it.
pub(crate) fn may_deliver_logs((source, owner): (&str, UserId), target: LogTarget<'_>, key: Option<&str>) -> bool {
    let (context, is_own) = (context(source, owner, target.bucket), owner == target.bucket.owner);
    let places = [Some(target.prefix), key].into_iter().flatten();
    let resources: Vec<String> = places.map(|place| format!("arn:aws:s3:::{}/{place}", target.name)).collect();
    let questions = || {
        let (principal, action) = (&Principal::Service(SERVICE), PUT_OBJECT.name);
        resources.iter().map(|resource| Question { principal, action, resource, context: &context })
    };
    let policy = target.bucket.config.policy.as_deref();
    let judged = policy.and_then(|policy| questions().map(|question| policy.judge(&question)).max());
    match (judged.unwrap_or(Verdict::Silent), policy) {
        (Verdict::Deny, _) => false,
        (Verdict::Silent, _) => is_own && is_granted(target.bucket),
        (_, Some(policy)) if !is_own => questions().any(|question| policy.allows_by_key(&question, &OF_SOURCE)),
        _ => is_own,
    }
}

/// S3 asks for both grants.
fn is_granted(target: &Bucket) -> bool {
    let grants = target.acl().grants(target.owner);
    let has = |permission| {
        let covers = |grant: &Grant| grant.permission == permission || grant.permission == Permission::FullControl;
        grants.iter().any(|grant| grant.grantee == Grantee::LogDelivery && covers(grant))
    };
    has(Permission::Write) && has(Permission::ReadAcl)
}

fn context(source: &str, owner: UserId, target: &Bucket) -> Context {
    let mut context = Context::default();
    context.add("aws:SourceArn", format!("arn:aws:s3:::{source}"));
    // Policies that were made for AWS have the account's number; others what listings show, the canonical id.
    for (key, account) in [("aws:SourceAccount", owner), ("aws:ResourceAccount", target.owner)] {
        context.add(key, account.number().to_string());
        context.add(key, account.to_string());
    }
    context.add("aws:PrincipalType", "Service");
    context.add("aws:PrincipalIsAWSService", "true");
    context.add("aws:PrincipalServiceName", SERVICE);
    // It does not come over a connection that anybody could listen to.
    context.add("aws:SecureTransport", "true");
    context
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use annulus_common::acl::{BucketAcl, Grant, Grantee, Permission};
    use annulus_common::ids::{BucketId, RequestId};
    use annulus_common::map::{Bucket, BucketConfig, BucketState};
    use annulus_common::object::UserId;
    use annulus_common::ownership::ObjectOwnership;
    use annulus_common::policy::BucketPolicy;
    use serde_json::{Value, json};

    use super::{LogTarget, may_deliver_logs};

    const SOURCE: UserId = UserId([1; 32]);
    const TARGET: UserId = UserId([2; 32]);

    fn target(config: BucketConfig) -> Bucket {
        Bucket {
            id: BucketId(1),
            owner: TARGET,
            created_ms: 0,
            shards: 1,
            request: RequestId([0; 16]),
            state: BucketState::Active,
            config,
        }
    }

    fn may_of(source: UserId, bucket: &Bucket) -> bool {
        let target = LogTarget { name: "logs", bucket, prefix: "of/" };
        let may = may_deliver_logs(("photos", source), target, Some("of/2026-01-01"));
        assert_eq!(may, may_deliver_logs(("photos", source), target, None), "it was allowed when it was configured");
        may
    }

    /// Logs of another account's bucket.
    fn may(bucket: &Bucket) -> bool {
        may_of(SOURCE, bucket)
    }

    fn by_policy(resource: &str, principal: Value, condition: Value) -> bool {
        let text = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal,
            "Action": "s3:PutObject", "Resource": resource, "Condition": condition}]});
        let policy = BucketPolicy::parse(text.to_string(), "logs").expect("it is a policy");
        may(&target(BucketConfig { policy: Some(Arc::new(policy)), ..BucketConfig::default() }))
    }

    #[test]
    fn a_policy_lets_the_service_in() {
        let service = json!({"Service": "logging.s3.amazonaws.com"});
        let of_account = |account: String| json!({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::photos"}, "StringEquals": {"aws:SourceAccount": account}});
        let source = of_account(SOURCE.number().to_string());
        assert!(by_policy("arn:aws:s3:::logs/of/*", service.clone(), of_account(SOURCE.to_string())));
        for resource in
            ["arn:aws:s3:::logs/of/*", "arn:aws:s3:::logs/of*", "arn:aws:s3:::logs/*", "arn:aws:s3:::logs/of/"]
        {
            assert!(by_policy(resource, service.clone(), source.clone()), "{resource}");
        }
        assert!(!by_policy("arn:aws:s3:::logs/other/*", service.clone(), source.clone()));
        assert!(!by_policy("arn:aws:s3:::logs/*", json!({"AWS": "*"}), source));
        let elsewhere = json!({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::videos"}});
        assert!(!by_policy("arn:aws:s3:::logs/*", service.clone(), elsewhere));
        for another in [TARGET.number().to_string(), TARGET.to_string()] {
            assert!(!by_policy("arn:aws:s3:::logs/*", service.clone(), of_account(another)));
        }
        let but_source = json!({"StringNotEquals": {"aws:SourceAccount": SOURCE.number().to_string()}});
        assert!(!by_policy("arn:aws:s3:::logs/*", service, but_source));
    }

    #[test]
    fn what_does_not_ask_whose_logs_they_are_is_for_the_owners_own() {
        let statement = |condition: Value| {
            json!({"Effect": "Allow", "Principal": {"Service": "logging.s3.amazonaws.com"}, "Action": "s3:PutObject",
                "Resource": "arn:aws:s3:::logs/*", "Condition": condition})
        };
        let with = |statements: &[Value]| {
            let text = json!({"Version": "2012-10-17", "Statement": statements});
            let policy = BucketPolicy::parse(text.to_string(), "logs").expect("it is a policy");
            target(BucketConfig { policy: Some(Arc::new(policy)), ..BucketConfig::default() })
        };
        let anybody = statement(json!({}));
        let secure = statement(json!({"Bool": {"aws:SecureTransport": "true"}}));
        for own_alone in [with(std::slice::from_ref(&anybody)), with(&[secure])] {
            assert!(may_of(TARGET, &own_alone));
            assert!(!may_of(SOURCE, &own_alone));
        }
        let named = statement(json!({"StringLike": {"aws:SourceAccount": "*"}}));
        assert!(may(&with(&[anybody.clone(), named])), "it says that it means everybody");
        let others = statement(json!({"StringEquals": {"aws:SourceAccount": UserId([3; 32]).number().to_string()}}));
        assert!(!may(&with(&[anybody, others])));
    }

    #[test]
    fn a_list_lets_its_group_in_where_lists_mean_something() {
        let with = |acl| target(BucketConfig { acl, ..BucketConfig::default() });
        let may = |bucket: &Bucket| may_of(TARGET, bucket);
        assert!(may(&with(BucketAcl::LogDeliveryWrite)));
        assert!(!may_of(SOURCE, &with(BucketAcl::LogDeliveryWrite)), "it cannot say whose");
        assert!(!may(&with(BucketAcl::PublicReadWrite)));
        let only = Grant { grantee: Grantee::LogDelivery, permission: Permission::Write };
        assert!(!may(&with(BucketAcl::of_grants(vec![only], TARGET))));
        let enforced = Some(ObjectOwnership::BucketOwnerEnforced);
        let acl = BucketAcl::LogDeliveryWrite;
        assert!(!may(&target(BucketConfig { acl, ownership: enforced, ..BucketConfig::default() })));
    }
}
