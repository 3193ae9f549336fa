//! What conditions of policies can ask about a request, read from its head. See "Actions, resources, and condition keys for
//! Amazon S3" in the service authorization reference and "AWS global condition context keys" in the IAM user guide.
//!
//! What only an operation can know (the tags of the object that it finds, those in a body) it adds itself.

use annulus_common::object::{Retention, UserId};
use annulus_common::policy::{Context, Principal};
use annulus_common::tags::Tags;
use annulus_common::website::Protocol;
use http::{HeaderMap, Uri};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Caller, Carried, Signature, copy_source};
use crate::query;
use crate::request::Peer;

/// Headers of every request whose values are keys.
const HEADERS: &[(&str, &str)] =
    &[("x-amz-content-sha256", "s3:x-amz-content-sha256"), ("referer", "aws:Referer"), ("user-agent", "aws:UserAgent")];

/// What makes an object. Parts of uploads, too: what their headers say was decided when the upload began, and policies about
/// `s3:PutObject` ask them all the same.
const MAKING: &[&str] =
    &["CompleteMultipartUpload", "CopyObject", "CreateMultipartUpload", "PutObject", "UploadPart", "UploadPartCopy"];

/// The same, and what sets an access control list.
const WITH_ACL: &[&str] = &[
    "CompleteMultipartUpload",
    "CopyObject",
    "CreateBucket",
    "CreateMultipartUpload",
    "PutBucketAcl",
    "PutObject",
    "PutObjectAcl",
    "UploadPart",
    "UploadPartCopy",
];

/// Headers whose values are keys of S3's, with the operations that obey them. Of any other operation they are no facts:
/// whoever sends them would meet a condition and do nothing for it.
const HEADERS_OF_OPERATIONS: &[(&str, &str, &[&str])] = &[
    ("x-amz-acl", "s3:x-amz-acl", WITH_ACL),
    ("x-amz-grant-full-control", "s3:x-amz-grant-full-control", WITH_ACL),
    ("x-amz-grant-read", "s3:x-amz-grant-read", WITH_ACL),
    ("x-amz-grant-read-acp", "s3:x-amz-grant-read-acp", WITH_ACL),
    ("x-amz-grant-write", "s3:x-amz-grant-write", WITH_ACL),
    ("x-amz-grant-write-acp", "s3:x-amz-grant-write-acp", WITH_ACL),
    ("x-amz-metadata-directive", "s3:x-amz-metadata-directive", &["CopyObject"]),
    ("x-amz-object-ownership", "s3:x-amz-object-ownership", &["CreateBucket"]),
    ("x-amz-server-side-encryption", "s3:x-amz-server-side-encryption", MAKING),
    ("x-amz-server-side-encryption-aws-kms-key-id", "s3:x-amz-server-side-encryption-aws-kms-key-id", MAKING),
    ("x-amz-server-side-encryption-customer-algorithm", "s3:x-amz-server-side-encryption-customer-algorithm", MAKING),
    ("x-amz-storage-class", "s3:x-amz-storage-class", MAKING),
    ("x-amz-website-redirect-location", "s3:x-amz-website-redirect-location", MAKING),
    ("x-amz-object-lock-mode", "s3:object-lock-mode", MAKING),
    ("x-amz-object-lock-retain-until-date", "s3:object-lock-retain-until-date", MAKING),
    ("x-amz-object-lock-legal-hold", "s3:object-lock-legal-hold", MAKING),
];

/// What makes an object at once, under the conditions of its headers; RenameObject puts one at another key.
const CREATING: &[&str] = &["CompleteMultipartUpload", "CopyObject", "PutObject", "RenameObject"];

/// Parameters of listings.
const LISTING: &[(&str, &str)] = &[("prefix", "s3:prefix"), ("delimiter", "s3:delimiter"), ("max-keys", "s3:max-keys")];

/// A request's head.
pub(super) struct Head<'a> {
    pub(super) operation: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) uri: &'a Uri,
    pub(super) peer: Option<Peer>,
    pub(super) signature: Option<&'a Signature>,
    pub(super) region: &'a str,
    pub(super) now_ms: u64,
}

/// All that the head says.
pub(super) fn facts(caller: &Caller, head: &Head<'_>) -> Context {
    let mut context = Context::default();
    add_caller(&mut context, caller);
    add_circumstances(&mut context, head);
    add_headers(&mut context, head);
    add_conditions(&mut context, head);
    add_query(&mut context, head);
    add_source(&mut context, head);
    if MAKING.contains(&head.operation) {
        add_tags(&mut context, head.headers);
        add_retention(&mut context, head);
    }
    context
}

fn add_headers(context: &mut Context, head: &Head<'_>) {
    let of_operation = HEADERS_OF_OPERATIONS.iter().filter(|(.., operations)| operations.contains(&head.operation));
    let all = HEADERS.iter().copied().chain(of_operation.map(|(header, key, _)| (*header, *key)));
    for (header, key) in all {
        for value in head.headers.get_all(header) {
            context.add(key, String::from_utf8_lossy(value.as_bytes()));
        }
    }
}

/// Conditions of writes, where they are conditions: an empty list of entity tags is none, and that there be no such object is
/// said by `*` alone. See "Enforce conditional writes on Amazon S3 buckets" in the S3 user guide.
fn add_conditions(context: &mut Context, head: &Head<'_>) {
    let creates = CREATING.contains(&head.operation);
    let text = |name| head.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    if creates || head.operation == "DeleteObject" {
        for value in text(http::header::IF_MATCH).filter(|value| names_tags(value)) {
            context.add("s3:if-match", value);
        }
    }
    if creates && text(http::header::IF_NONE_MATCH).any(|value| value.trim() == "*") {
        context.add("s3:if-none-match", "*");
    }
    if creates {
        context.add("s3:ObjectCreationOperation", "true");
    } else if MAKING.contains(&head.operation) {
        context.add("s3:ObjectCreationOperation", "false");
    }
}

/// Whether the text of a header names an entity tag, or any.
fn names_tags(text: &str) -> bool {
    text.chars().any(|character| character != ',' && !character.is_whitespace())
}

fn add_caller(context: &mut Context, caller: &Caller) {
    let principal = &caller.principal;
    let (kind, user) = match principal {
        Principal::Anonymous => ("Anonymous", "anonymous".to_owned()),
        Principal::Account { id, .. } => ("Account", id.number().to_string()),
        Principal::User { id, .. } => ("User", id.clone()),
        Principal::Role { id, .. } => ("AssumedRole", id.clone()),
        Principal::Service(_) => ("Service", String::new()),
    };
    if let Principal::User { name, .. } = principal {
        context.add("aws:username", name.as_str());
    }
    for (key, value) in &caller.tags {
        context.add(format!("aws:PrincipalTag/{key}"), value.as_str());
    }
    if let Some(session) = &caller.session {
        context.add("aws:TokenIssueTime", time_text(session.issued_ms));
    }
    context.add("aws:PrincipalType", kind);
    let is_service = matches!(principal, Principal::Service(_));
    context.add("aws:PrincipalIsAWSService", is_service.to_string());
    if !is_service {
        context.add("aws:userid", user);
    }
    if let Some(account) = principal.account().filter(|account| *account != UserId::ANONYMOUS) {
        context.add("aws:PrincipalAccount", account.number().to_string());
    }
    if let Some(arn) = principal.arn() {
        context.add("aws:PrincipalArn", arn);
    }
}

fn add_circumstances(context: &mut Context, head: &Head<'_>) {
    if let Some(peer) = head.peer {
        context.add("aws:SourceIp", peer.ip.to_string());
    }
    let is_secure = head.peer.is_some_and(|peer| peer.protocol == Protocol::Https);
    context.add("aws:SecureTransport", is_secure.to_string());
    context.add("aws:RequestedRegion", head.region);
    let seconds = head.now_ms / 1000;
    context.add("aws:EpochTime", seconds.to_string());
    context.add("aws:CurrentTime", time_text(head.now_ms));
    if let Some(signature) = head.signature {
        let version_2 = signature.carried == Carried::Form { version_2: true };
        context.add("s3:signatureversion", if version_2 { "AWS" } else { "AWS4-HMAC-SHA256" });
        let kind = match signature.carried {
            Carried::Header => "REST-HEADER",
            Carried::Url { .. } => "REST-QUERY-STRING",
            Carried::Form { .. } => "POST",
        };
        context.add("s3:authType", kind);
        if let Carried::Url { signed_ms } = signature.carried {
            context.add("s3:signatureAge", head.now_ms.saturating_sub(signed_ms).to_string());
        }
    }
}

/// A time as conditions compare it, in whole seconds.
fn time_text(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

fn add_query(context: &mut Context, head: &Head<'_>) {
    let is_listing = head.operation.starts_with("ListObject") || head.operation == "ListMultipartUploads";
    for (name, value) in query::pairs(head.uri.query()) {
        if name == "versionId" {
            context.add("s3:VersionId", value);
        } else if let Some((_, key)) = LISTING.iter().find(|(parameter, _)| is_listing && *parameter == name) {
            context.add(*key, value);
        }
    }
}

/// The source of a copy as `bucket/key`, as the operation reads it, however the client wrote it: decoded, without a slash in
/// front, and without a version.
fn add_source(context: &mut Context, head: &Head<'_>) {
    if !matches!(head.operation, "CopyObject" | "UploadPartCopy") {
        return;
    }
    if let Some(source) = copy_source::named(head.headers) {
        context.add("s3:x-amz-copy-source", format!("{}/{}", source.bucket, source.key));
    }
}

/// `x-amz-tagging`, which is a query.
fn add_tags(context: &mut Context, headers: &HeaderMap) {
    let Some(tags) = headers.get("x-amz-tagging").and_then(|tags| tags.to_str().ok()) else { return };
    for (key, value) in query::pairs(Some(tags)) {
        tag_facts(&key, &value).into_iter().for_each(|(name, value)| context.add(name, value));
    }
}

/// What conditions can ask of the tags that a body says.
pub(crate) fn of_tags(tags: &Tags) -> Vec<(String, String)> {
    tags.iter().flat_map(|(key, value)| tag_facts(key, value)).collect()
}

/// What conditions can ask of the tags that a bucket is given.
pub(crate) fn of_bucket_tags(tags: &Tags) -> Vec<(String, String)> {
    let facts = |(key, value): (&String, &String)| {
        [(format!("aws:RequestTag/{key}"), value.clone()), ("aws:TagKeys".to_owned(), key.clone())]
    };
    tags.iter().flat_map(facts).collect()
}

fn tag_facts(key: &str, value: &str) -> [(String, String); 2] {
    [(format!("s3:RequestObjectTag/{key}"), value.to_owned()), ("s3:RequestObjectTagKeys".to_owned(), key.to_owned())]
}

fn add_retention(context: &mut Context, head: &Head<'_>) {
    let until = head.headers.get("x-amz-object-lock-retain-until-date").and_then(|until| until.to_str().ok());
    let Some(until) = until.and_then(|until| OffsetDateTime::parse(until, &Rfc3339).ok()) else { return };
    context.add("s3:object-lock-remaining-retention-days", remaining_days(until.unix_timestamp(), head.now_ms));
}

/// What conditions can ask of the retention that a body says.
pub(crate) fn of_retention(retention: Retention, now_ms: u64) -> Vec<(String, String)> {
    let until_seconds = i64::try_from(retention.until_ms / 1000).unwrap_or(i64::MAX);
    let facts = [
        ("s3:object-lock-mode", retention.mode.name().to_owned()),
        ("s3:object-lock-retain-until-date", time_text(retention.until_ms)),
        ("s3:object-lock-remaining-retention-days", remaining_days(until_seconds, now_ms)),
    ];
    facts.map(|(key, value)| (key.to_owned(), value)).into()
}

/// Whole days.
fn remaining_days(until_seconds: i64, now_ms: u64) -> String {
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    (until_seconds.saturating_sub(now).max(0) / (24 * 3600)).to_string()
}

#[cfg(test)]
mod tests {
    use annulus_common::object::UserId;
    use annulus_common::policy::{Context, Principal};
    use annulus_common::website::Protocol;
    use http::{HeaderMap, HeaderName, HeaderValue, Uri};

    use super::{Head, facts};
    use crate::auth::{Caller, Carried, Signature};
    use crate::request::Peer;

    fn of(operation: &str, uri: &str, headers: &[(&'static str, &'static str)]) -> Context {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let uri: Uri = uri.parse().expect("a URI");
        let signature = Signature {
            access_key: "KEY".to_owned(),
            token: None,
            carried: Carried::Url { signed_ms: 1_000_000_000_000 },
        };
        let caller = Caller::unbounded(Principal::Account { id: UserId([1; 32]) });
        let head = Head {
            operation,
            headers: &map,
            uri: &uri,
            peer: Some(Peer { ip: "10.1.2.3".parse().expect("an address"), protocol: Protocol::Https }),
            signature: Some(&signature),
            region: "us-east-1",
            now_ms: 1_000_000_060_000,
        };
        facts(&caller, &head)
    }

    fn one(context: &Context, key: &str) -> Option<String> {
        let mut values = context.values(key);
        let value = values.next().map(str::to_owned);
        assert_eq!(values.next(), None, "{key}");
        value
    }

    #[test]
    fn circumstances_are_there_for_every_request() {
        let context = of("GetObject", "/b/k", &[("referer", "http://example.com/"), ("user-agent", "curl")]);
        for (key, value) in [
            ("aws:SourceIp", "10.1.2.3"),
            ("aws:SecureTransport", "true"),
            ("aws:CurrentTime", "2001-09-09T01:47:40Z"),
            ("aws:EpochTime", "1000000060"),
            ("aws:Referer", "http://example.com/"),
            ("aws:UserAgent", "curl"),
            ("aws:PrincipalType", "Account"),
            ("s3:authType", "REST-QUERY-STRING"),
            ("s3:signatureAge", "60000"),
            ("s3:signatureversion", "AWS4-HMAC-SHA256"),
        ] {
            assert_eq!(one(&context, key).as_deref(), Some(value), "{key}");
        }
        let arn = format!("arn:aws:iam::{}:root", UserId([1; 32]).number());
        assert_eq!(one(&context, "aws:PrincipalArn"), Some(arn));
    }

    #[test]
    fn parameters_count_where_they_mean_something() {
        let listing = of("ListObjectsV2", "/b?list-type=2&prefix=a%2Fb+c&max-keys=7&delimiter=", &[]);
        assert_eq!(one(&listing, "s3:prefix").as_deref(), Some("a/b c"));
        assert_eq!(one(&listing, "s3:max-keys").as_deref(), Some("7"));
        assert_eq!(one(&listing, "s3:delimiter").as_deref(), Some(""));
        let read = of("GetObject", "/b/k?prefix=a&versionId=null", &[]);
        assert_eq!(one(&read, "s3:prefix"), None, "a read has no prefix, whatever its URL says");
        assert_eq!(one(&read, "s3:VersionId").as_deref(), Some("null"));
    }

    #[test]
    fn a_source_has_one_form() {
        for source in ["/bucket/public/a%20b", "bucket/public/a b?versionId=1", "%62ucket/public/a%20b"] {
            let context = of("CopyObject", "/b/k", &[("x-amz-copy-source", source)]);
            assert_eq!(one(&context, "s3:x-amz-copy-source").as_deref(), Some("bucket/public/a b"));
        }
        // What stands behind a question mark is the key's, unless it is a version.
        let context = of("CopyObject", "/b/k", &[("x-amz-copy-source", "bucket/public?/../secret?versionId=1")]);
        assert_eq!(one(&context, "s3:x-amz-copy-source").as_deref(), Some("bucket/public?/../secret"));
    }

    #[test]
    fn tags_and_locks_are_taken_from_their_headers() {
        let context = of(
            "PutObject",
            "/b/k",
            &[
                ("x-amz-tagging", "security=public&x%2Fy=a+b"),
                ("x-amz-object-lock-retain-until-date", "2001-09-12T01:47:41Z"),
                ("if-none-match", "*"),
            ],
        );
        assert_eq!(one(&context, "s3:RequestObjectTag/security").as_deref(), Some("public"));
        assert_eq!(one(&context, "s3:RequestObjectTag/x/y").as_deref(), Some("a b"));
        assert_eq!(context.values("s3:RequestObjectTagKeys").collect::<Vec<_>>(), ["security", "x/y"]);
        assert_eq!(one(&context, "s3:object-lock-remaining-retention-days").as_deref(), Some("3"));
        assert_eq!(one(&context, "s3:if-none-match").as_deref(), Some("*"));
        assert_eq!(one(&context, "s3:ObjectCreationOperation").as_deref(), Some("true"));
        for (operation, creates) in [
            ("CopyObject", Some("true")),
            ("CompleteMultipartUpload", Some("true")),
            ("RenameObject", Some("true")),
            ("CreateMultipartUpload", Some("false")),
            ("UploadPart", Some("false")),
            ("DeleteObject", None),
        ] {
            let context = of(operation, "/b/k", &[]);
            assert_eq!(one(&context, "s3:ObjectCreationOperation").as_deref(), creates, "{operation}");
        }
    }

    #[test]
    fn a_header_is_a_fact_of_what_obeys_it() {
        let said = |operation, header, value, key| {
            let context = of(operation, "/b/k", &[(header, value)]);
            context.values(key).next().map(str::to_owned)
        };
        for (operation, header, value, key, is_fact) in [
            ("PutObject", "if-none-match", "*", "s3:if-none-match", true),
            ("PutObject", "if-none-match", "\"x\"", "s3:if-none-match", false),
            ("CreateMultipartUpload", "if-none-match", "*", "s3:if-none-match", false),
            ("PutObject", "if-match", "\"x\"", "s3:if-match", true),
            ("PutObject", "if-match", "", "s3:if-match", false),
            ("PutObject", "if-match", " , ", "s3:if-match", false),
            ("PutObject", "if-match", "\"\"", "s3:if-match", true),
            ("DeleteObject", "if-match", "*", "s3:if-match", true),
            ("DeleteObjects", "if-match", "x", "s3:if-match", false),
            ("UploadPart", "if-match", "x", "s3:if-match", false),
            ("PutObject", "x-amz-server-side-encryption", "AES256", "s3:x-amz-server-side-encryption", true),
            ("RenameObject", "x-amz-server-side-encryption", "AES256", "s3:x-amz-server-side-encryption", false),
            ("RenameObject", "x-amz-copy-source", "b/k", "s3:x-amz-copy-source", false),
            ("PutObjectRetention", "x-amz-object-lock-mode", "GOVERNANCE", "s3:object-lock-mode", false),
            ("PutObjectTagging", "x-amz-tagging", "a=b", "s3:RequestObjectTagKeys", false),
            ("PutBucketOwnershipControls", "x-amz-object-ownership", "x", "s3:x-amz-object-ownership", false),
            ("CreateBucket", "x-amz-object-ownership", "x", "s3:x-amz-object-ownership", true),
            ("GetObject", "referer", "x", "aws:Referer", true),
        ] {
            assert_eq!(said(operation, header, value, key).is_some(), is_fact, "{operation} {header}: {value}");
        }
    }
}
