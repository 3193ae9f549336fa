//! Whole policies: their grammar, what they say about requests, and whether they are public.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    BucketPolicy, Context, Ids, Owner, POLICY_BYTES_MAX, POLICY_TEXT_BYTES_MAX, Policy, PolicyError, Principal,
    Question, Verdict,
};
use crate::ids::UserId;

const ALICE: UserId = UserId([1; 32]);

fn alice() -> Principal {
    Principal::Account { id: ALICE }
}

/// A policy of one statement that allows everybody to read, with these elements instead of its own. `null` takes one away.
fn with(changes: Value) -> Value {
    let mut statement = json!({
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"
    });
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => statement.as_object_mut().expect("an object").remove(name),
            value => statement.as_object_mut().expect("an object").insert(name.clone(), value.clone()),
        };
    }
    json!({"Version": "2012-10-17", "Statement": statement})
}

fn parse(document: &Value) -> Result<Policy, PolicyError> {
    Policy::parse(&document.to_string(), Owner::Bucket(Some("bucket")))
}

fn verdict(document: &Value, principal: &Principal, action: &str, resource: &str, context: &Context) -> Verdict {
    let mut policy = parse(document).expect("a policy");
    policy.bind(&[("arn:aws:iam:::user/alice".to_owned(), ALICE.to_string())].into());
    policy.judge(&Question { principal, action, resource, context })
}

/// What the policy says when alice reads a key.
fn on_read(document: &Value, context: &Context) -> Verdict {
    verdict(document, &alice(), "s3:GetObject", "arn:aws:s3:::bucket/k", context)
}

#[test]
fn a_statement_is_about_what_all_its_parts_are_about() {
    let none = Context::default();
    let plain = with(json!({}));
    assert_eq!(on_read(&plain, &none), Verdict::Allow);
    for (action, resource) in [
        ("s3:PutObject", "arn:aws:s3:::bucket/k"),
        ("s3:GetObjectVersion", "arn:aws:s3:::bucket/k"),
        ("s3:GetObject", "arn:aws:s3:::bucket"),
        ("s3:GetObject", "arn:aws:s3:::buckets/k"),
    ] {
        assert_eq!(verdict(&plain, &alice(), action, resource, &none), Verdict::Silent, "{action} {resource}");
    }
    assert_eq!(on_read(&with(json!({"Principal": {"AWS": ALICE.to_string()}})), &none), Verdict::AllowAccount);
    assert_eq!(on_read(&with(json!({"Principal": {"AWS": "arn:aws:iam:::user/bob"}})), &none), Verdict::Silent);
    assert_eq!(on_read(&with(json!({"Action": ["s3:Put*", "S3:GETOBJ?CT"]})), &none), Verdict::Allow);
    assert_eq!(on_read(&with(json!({"Action": "*"})), &none), Verdict::Allow);
    assert_eq!(on_read(&with(json!({"Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::*/k"]})), &none), Verdict::Allow);
}

#[test]
fn opposites_are_about_the_rest() {
    let none = Context::default();
    let not_action = with(json!({"Action": null, "NotAction": "s3:Put*"}));
    assert_eq!(on_read(&not_action, &none), Verdict::Allow);
    assert_eq!(verdict(&not_action, &alice(), "s3:PutObject", "arn:aws:s3:::bucket/k", &none), Verdict::Silent);
    let not_resource = with(json!({"Resource": null, "NotResource": "arn:aws:s3:::bucket/k*"}));
    assert_eq!(on_read(&not_resource, &none), Verdict::Silent);
    assert_eq!(verdict(&not_resource, &alice(), "s3:GetObject", "arn:aws:s3:::bucket/x", &none), Verdict::Allow);
    let but = |name: &str| {
        with(
            json!({"Effect": "Deny", "Principal": null, "NotPrincipal": {"AWS": format!("arn:aws:iam:::user/{name}")}}),
        )
    };
    assert_eq!(on_read(&but("bob"), &none), Verdict::Deny);
    assert_eq!(on_read(&but("alice"), &none), Verdict::Silent);
}

#[test]
fn a_statement_that_forbids_is_stronger() {
    let statements = json!([
        {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::bucket/*"},
        {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/secret/*"}
    ]);
    let policy = json!({"Id": "x", "Statement": statements});
    let none = Context::default();
    assert_eq!(on_read(&policy, &none), Verdict::Allow);
    let secret = "arn:aws:s3:::bucket/secret/k";
    assert_eq!(verdict(&policy, &Principal::Anonymous, "s3:GetObject", secret, &none), Verdict::Deny);
    assert_eq!(verdict(&policy, &Principal::Anonymous, "s3:PutObject", secret, &none), Verdict::Allow);
}

#[test]
fn all_conditions_must_hold() {
    let policy = with(json!({"Condition": {
        "StringLike": {"aws:Referer": ["http://example.com/*", "http://example.org/*"]},
        "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}
    }}));
    let request = |referer: &'static str, address: &'static str| {
        let mut context = Context::default();
        context.add("aws:Referer", referer);
        context.add("aws:SourceIp", address);
        context
    };
    assert_eq!(on_read(&policy, &request("http://example.org/x", "10.1.2.3")), Verdict::Allow);
    assert_eq!(on_read(&policy, &request("http://example.org/x", "11.1.2.3")), Verdict::Silent);
    assert_eq!(on_read(&policy, &request("http://example.net/x", "10.1.2.3")), Verdict::Silent);
    assert_eq!(on_read(&policy, &Context::default()), Verdict::Silent);
}

#[test]
fn variables_belong_to_the_newer_language() {
    let mut policy = with(json!({"Resource": "arn:aws:s3:::bucket/${aws:username}/*"}));
    let mut context = Context::default();
    context.add("aws:username", "alice");
    let of = |policy: &Value, key: &str| {
        verdict(policy, &alice(), "s3:GetObject", &format!("arn:aws:s3:::bucket/{key}"), &context)
    };
    assert_eq!(of(&policy, "alice/k"), Verdict::Allow);
    assert_eq!(of(&policy, "bob/k"), Verdict::Silent);
    policy["Version"] = json!("2008-10-17");
    assert_eq!(of(&policy, "alice/k"), Verdict::Silent);
    assert_eq!(of(&policy, "${aws:username}/k"), Verdict::Allow);
}

#[test]
fn a_mistake_makes_it_no_policy() {
    let missing = PolicyError::Missing;
    for (document, expected) in [
        (json!({}), missing("Statement")),
        (json!({"Statement": []}), PolicyError::Empty),
        (json!({"Statement": "x"}), PolicyError::Syntax),
        (json!({"Version": "2012-10-18", "Statement": []}), PolicyError::Version),
        (json!({"Version": 1, "Statement": []}), PolicyError::Version),
        (json!({"Id": 1, "Statement": []}), PolicyError::Syntax),
        (json!({"Statements": []}), PolicyError::Unknown("Statements".to_owned())),
        (with(json!({"Effect": null})), missing("Effect")),
        (with(json!({"Effect": "allow"})), PolicyError::Effect("allow".to_owned())),
        (with(json!({"Principal": null})), missing("Principal")),
        (with(json!({"Principal": {"AWS": "x"}})), PolicyError::Principal("\"AWS\" : \"x\"".to_owned())),
        (with(json!({"NotPrincipal": "*"})), PolicyError::Syntax),
        (with(json!({"Principal": null, "NotPrincipal": {"AWS": "*"}})), PolicyError::AllowNotPrincipal),
        (with(json!({"Action": null})), missing("Action")),
        (with(json!({"Action": []})), missing("Action")),
        (with(json!({"Action": "s3:GetObjects"})), PolicyError::Action("s3:GetObjects".to_owned())),
        (with(json!({"Action": ["s3:*", "ec2:*"]})), PolicyError::Action("ec2:*".to_owned())),
        (with(json!({"NotAction": "s3:GetObject"})), PolicyError::Syntax),
        (with(json!({"Resource": null})), missing("Resource")),
        (with(json!({"Resource": "*"})), PolicyError::Resource("*".to_owned())),
        (with(json!({"Resource": "arn:aws:s3:::other/*"})), PolicyError::Resource("arn:aws:s3:::other/*".to_owned())),
        (with(json!({"Resource": ["arn:aws:s3:::bucket/*", "bucket"]})), PolicyError::Resource("bucket".to_owned())),
        (with(json!({"Resource": "arn:aws:s3:::bucket/${aws"})), PolicyError::Syntax),
        (with(json!({"Sid": 1})), PolicyError::Syntax),
        (with(json!({"Resources": "x"})), PolicyError::Unknown("Resources".to_owned())),
        (with(json!({"Condition": []})), PolicyError::Syntax),
        (with(json!({"Condition": {"StringEquals": "x"}})), PolicyError::Syntax),
        (with(json!({"Condition": {"Equals": {"aws:Referer": "x"}}})), PolicyError::Operator("Equals".to_owned())),
        (
            with(json!({"Condition": {"StringEquals": {"aws:Referrer": "x"}}})),
            PolicyError::Key("aws:Referrer".to_owned()),
        ),
        (with(json!({"Condition": {"StringEquals": {"s3:prefix": "x"}}})), PolicyError::KeyOfOtherActions),
    ] {
        assert_eq!(parse(&document), Err(expected), "{document}");
    }
    let text = |text: &str| Policy::parse(text, Owner::Bucket(Some("bucket")));
    for not_json in ["", " {}", "[]", "policy"] {
        assert_eq!(text(not_json), Err(PolicyError::NotJson), "{not_json}");
    }
    assert_eq!(text("{"), Err(PolicyError::InvalidJson));
    assert_eq!(text(r#"{"Statement": [], "Statement": []}"#), Err(PolicyError::InvalidJson));
}

#[test]
fn a_key_must_be_one_of_all_named_actions() {
    let tag = |actions: Value| {
        let condition = json!({"StringEquals": {"s3:ExistingObjectTag/a": "b"}});
        parse(&with(json!({"Action": actions, "Condition": condition}))).map(drop)
    };
    assert_eq!(tag(json!(["s3:GetObject", "s3:PutObjectTagging"])), Ok(()));
    assert_eq!(tag(json!(["s3:GetObject", "s3:PutObject"])), Err(PolicyError::KeyOfOtherActions));
    assert_eq!(tag(json!("s3:DeleteObject")), Err(PolicyError::KeyOfOtherActions));
    assert_eq!(tag(json!("s3:*")), Ok(()), "a wildcard means some that have it");
}

#[test]
fn white_space_does_not_count_but_is_bounded() {
    let sized = |bytes: usize, padding: usize| {
        let empty = with(json!({"Sid": ""})).to_string();
        let policy = with(json!({"Sid": "s".repeat(bytes - empty.len())})).to_string();
        Policy::parse(&policy.replacen('{', &format!("{{{}", " ".repeat(padding)), 1), Owner::Bucket(Some("bucket")))
    };
    assert!(sized(POLICY_BYTES_MAX, 0).is_ok());
    assert!(sized(POLICY_BYTES_MAX, POLICY_TEXT_BYTES_MAX - POLICY_BYTES_MAX).is_ok());
    assert_eq!(sized(POLICY_BYTES_MAX + 1, 0), Err(PolicyError::TooLarge));
    assert_eq!(sized(POLICY_BYTES_MAX, POLICY_TEXT_BYTES_MAX), Err(PolicyError::TooLarge));
}

#[test]
fn a_users_policy_is_about_the_user() {
    let user = |document: Value| Policy::parse(&document.to_string(), Owner::User);
    let statement = json!({"Effect": "Allow", "Action": ["s3:*", "iam:GetUser"], "Resource": "*"});
    let policy = user(json!({"Version": "2012-10-17", "Statement": statement})).expect("a policy");
    let context = Context::default();
    let question =
        Question { principal: &alice(), action: "s3:GetObject", resource: "arn:aws:s3:::any/k", context: &context };
    assert_eq!(policy.judge(&question), Verdict::Allow);
    assert_eq!(policy.judge(&Question { action: "iam:DeleteUser", ..question }), Verdict::Silent);
    assert_eq!(user(with(json!({}))), Err(PolicyError::Principal("\"*\"".to_owned())));
    let bucket = user(with(json!({"Principal": null, "Resource": "bucket"})));
    assert_eq!(bucket, Err(PolicyError::Resource("bucket".to_owned())));
    let read = user(with(json!({"Principal": null, "Action": "read"})));
    assert_eq!(read, Err(PolicyError::Action("read".to_owned())));
}

#[test]
fn what_everybody_may_is_public_unless_something_tells_them_apart() {
    let public = |changes: Value| parse(&with(changes)).expect("a policy").is_public();
    assert!(public(json!({})));
    assert!(public(json!({"Principal": {"AWS": ["*", ALICE.to_string()]}})));
    assert!(!public(json!({"Principal": {"AWS": "arn:aws:iam::s3tenant1:root"}})));
    assert!(!public(json!({"Principal": {"Service": "logging.s3.amazonaws.com"}})));
    assert!(!public(json!({"Effect": "Deny"})));
    for (condition, expected) in [
        (json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/32"}}), false),
        (json!({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "2001:db8::/32"]}}), false),
        (json!({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "0.0.0.0/1"]}}), true),
        (json!({"IpAddressIfExists": {"aws:SourceIp": "10.0.0.0/8"}}), true),
        (json!({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), true),
        (json!({"StringEquals": {"aws:SourceVpc": "vpc-1"}}), false),
        (json!({"StringLike": {"aws:SourceVpc": "vpc-1"}}), false),
        (json!({"StringLike": {"aws:SourceVpc": "vpc-*"}}), true),
        (json!({"StringEquals": {"aws:SourceVpc": "${aws:username}"}}), true),
        (json!({"ForAllValues:StringEquals": {"aws:SourceVpc": "vpc-1"}}), true),
        (json!({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::source"}}), false),
        (json!({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::*"}}), true),
        (json!({"StringEquals": {"aws:Referer": "http://example.com/"}}), true),
        (json!({"Bool": {"aws:SecureTransport": true}}), true),
    ] {
        assert_eq!(public(json!({"Condition": condition})), expected, "{condition}");
    }
}

#[test]
fn a_buckets_policy_is_kept_as_it_was_sent() {
    let text = format!("{{ {}", &with(json!({})).to_string()[1..]);
    let policy = BucketPolicy::parse(text.clone(), "bucket").expect("a policy");
    assert_eq!(policy.shown(|arn, _| arn.to_owned()), text);
    let stored = postcard::to_allocvec(&policy).expect("bytes");
    assert_eq!(postcard::from_bytes::<BucketPolicy>(&stored).expect("a policy"), policy);
    assert!(BucketPolicy::parse(text, "other").is_err());
}

#[test]
fn a_policy_that_is_not_understood_forbids_everything() {
    let stored = postcard::to_allocvec(&("{\"Version\": \"2099-01-01\"}", Ids::new())).expect("bytes");
    let policy: BucketPolicy = postcard::from_bytes(&stored).expect("a policy");
    let context = Context::default();
    for principal in [alice(), Principal::Anonymous] {
        let resource = "arn:aws:s3:::bucket/k";
        let question = Question { principal: &principal, action: "s3:GetObject", resource, context: &context };
        assert_eq!(policy.judge(&question), Verdict::Deny);
    }
    assert!(!policy.is_public());
}

/// JSON that looks like a policy.
fn documents() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "Version",
        "2012-10-17",
        "Statement",
        "Effect",
        "Allow",
        "Deny",
        "Principal",
        "NotPrincipal",
        "AWS",
        "*",
        "Action",
        "s3:GetObject",
        "s3:*",
        "NotAction",
        "Resource",
        "arn:aws:s3:::bucket/*",
        "NotResource",
        "Condition",
        "StringLike",
        "IpAddress",
        "aws:SourceIp",
        "10.0.0.0/8",
        "s3:prefix",
        "${aws:username}",
        "Null",
        "true",
    ]);
    let leaf = prop_oneof![word.clone().prop_map(Value::from), any::<bool>().prop_map(Value::from), Just(Value::Null)];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(word.clone(), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_a_policy_or_an_error(text in ".{0,200}") {
        let _ = Policy::parse(&text, Owner::Bucket(Some("bucket")));
        let _ = Policy::parse(&format!("{{{text}"), Owner::User);
    }

    #[test]
    fn any_json_is_a_policy_that_always_says_the_same_or_an_error(
        statement in documents(),
        key in "[a-z/*]{0,6}",
    ) {
        let document = json!({"Version": "2012-10-17", "Statement": statement});
        if let Ok(policy) = parse(&document) {
            let mut context = Context::default();
            context.add("aws:SourceIp", "10.1.2.3");
            let resource = format!("arn:aws:s3:::bucket/{key}");
            let (principal, action) = (alice(), "s3:GetObject");
            let question = Question { principal: &principal, action, resource: &resource, context: &context };
            prop_assert_eq!(policy.judge(&question), parse(&document).expect("the same").judge(&question));
        }
    }
}
