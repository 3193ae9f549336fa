//! Cross-origin requests: what a browser is told in advance and with each answer, errors too.

use annulus_tests::client::{Call, Reply, S3};
use annulus_tests::cluster::shared;

use crate::new_bucket;

const RULES: &str = "<CORSConfiguration>\
    <CORSRule><ID>pages</ID><AllowedOrigin>https://*.example.org</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
    <AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>\
    <ExposeHeader>x-amz-request-id</ExposeHeader><MaxAgeSeconds>300</MaxAgeSeconds></CORSRule>\
    <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>HEAD</AllowedMethod></CORSRule></CORSConfiguration>";

const VARY: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

fn rule(inner: &str) -> String {
    format!("<CORSConfiguration><CORSRule>{inner}</CORSRule></CORSConfiguration>")
}

/// Asks as a browser does before it sends a request of its page.
async fn preflight(target: &str, headers: &[(&'static str, &str)]) -> Reply {
    let cluster = shared().await;
    let anonymous = cluster.anonymous();
    let call = headers.iter().fold(anonymous.get(target), |call, (name, value)| call.header(name, value));
    let mut request = call.prepare();
    *request.method_mut() = http::Method::OPTIONS;
    let wire = annulus_tests::wire::Wire::open(cluster.addr(0), &request, 0).await;
    wire.answer().await.expect("a preflight is answered")
}

fn allowed(reply: &Reply) -> (Option<&str>, Option<&str>) {
    (reply.header("access-control-allow-origin"), reply.header("access-control-allow-methods"))
}

fn from_page<'a>(call: Call<'a>, origin: &str) -> Call<'a> {
    call.header("origin", origin)
}

/// A bucket with rules and an object `k`.
async fn bucket_with_rules(s3: &S3) -> String {
    let bucket = new_bucket(s3).await;
    s3.put(&format!("{bucket}?cors")).body(RULES).ok().await;
    s3.put(&format!("{bucket}/k")).body("hello").ok().await;
    bucket
}

#[tokio::test]
async fn rules_are_given_back_as_they_were_set() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}?cors");
    s3.get(&target).refused(404, "NoSuchCORSConfiguration").await;
    s3.put(&target).body(RULES).ok().await;
    let rules = s3.get(&target).ok().await;
    assert_eq!(rules.elements("AllowedOrigin"), ["https://*.example.org", "*"]);
    assert_eq!(rules.elements("AllowedMethod"), ["GET", "PUT", "HEAD"]);
    assert_eq!(rules.elements("ExposeHeader"), ["ETag", "x-amz-request-id"]);
    assert_eq!(rules.elements("AllowedHeader"), ["x-amz-*"]);
    assert_eq!(
        (rules.elements("ID"), rules.elements("MaxAgeSeconds")),
        (vec!["pages".to_owned()], vec!["300".to_owned()])
    );
    shared().await.alt().get(&target).refused(403, "AccessDenied").await;
    for _ in 0..2 {
        assert_eq!(s3.delete(&target).ok().await.status, 204);
        s3.get(&target).refused(404, "NoSuchCORSConfiguration").await;
    }
}

#[tokio::test]
async fn rules_that_make_no_sense_are_refused_and_the_old_ones_stay() {
    let s3 = shared().await.s3(0);
    let target = format!("{}?cors", new_bucket(&s3).await);
    s3.put(&target).body(RULES).ok().await;
    let get = "<AllowedMethod>GET</AllowedMethod>";
    let any = "<AllowedOrigin>*</AllowedOrigin>";
    let many =
        format!("<CORSConfiguration>{}</CORSConfiguration>", format!("<CORSRule>{get}{any}</CORSRule>").repeat(101));
    let long = rule(&format!("{get}{any}<AllowedHeader>{}</AllowedHeader>", "x".repeat(64 << 10)));
    for (body, code) in [
        (rule(&format!("{any}<AllowedMethod>PATCH</AllowedMethod>")), "InvalidRequest"),
        (rule(&format!("{get}<AllowedOrigin>http://*.*.org</AllowedOrigin>")), "InvalidRequest"),
        (rule(&format!("{get}{any}<AllowedHeader>*-*</AllowedHeader>")), "InvalidRequest"),
        (rule(&format!("{get}{any}<ExposeHeader>*</ExposeHeader>")), "InvalidRequest"),
        (rule(get), "MalformedXML"),
        (rule(any), "MalformedXML"),
        (rule(&format!("{get}{any}<Color>red</Color>")), "MalformedXML"),
        ("<CORSConfiguration></CORSConfiguration>".to_owned(), "MalformedXML"),
        (many, "MalformedXML"),
        (long, "MaxMessageLengthExceeded"),
        ("".to_owned(), "MissingRequestBodyError"),
    ] {
        s3.put(&target).body(body).refused(400, code).await;
    }
    assert_eq!(s3.get(&target).ok().await.elements("AllowedMethod").len(), 3);
}

#[tokio::test]
async fn a_browser_is_told_in_advance() {
    let s3 = shared().await.s3(0);
    let bucket = bucket_with_rules(&s3).await;
    let page = "https://a.example.org";
    for target in [bucket.clone(), format!("{bucket}/k"), format!("{bucket}/never-there?X-Amz-Signature=0")] {
        let headers = [
            ("origin", page),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "X-Amz-Date, x-amz-acl"),
        ];
        let reply = preflight(&target, &headers).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, ""), "{target}");
        assert_eq!(allowed(&reply), (Some(page), Some("GET, PUT")));
        assert_eq!(reply.header("access-control-allow-headers"), Some("x-amz-date, x-amz-acl"));
        assert_eq!(reply.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(reply.header("access-control-expose-headers"), Some("ETag, x-amz-request-id"));
        assert_eq!(reply.header("access-control-max-age"), Some("300"));
        assert_eq!(reply.header("vary"), Some(VARY));
    }
    let open = preflight(&bucket, &[("origin", "http://b"), ("access-control-request-method", "HEAD")]).await;
    assert_eq!((open.status.as_u16(), allowed(&open)), (200, (Some("*"), Some("HEAD"))));
    assert_eq!(open.header("access-control-allow-credentials"), None);
}

#[tokio::test]
async fn a_browser_is_told_what_is_not_allowed() {
    let s3 = shared().await.s3(0);
    let bucket = bucket_with_rules(&s3).await;
    let (page, key) = ("https://a.example.org", format!("{bucket}/k"));
    let method = "access-control-request-method";
    for (headers, status, code) in [
        (vec![], 400, "BadRequest"),
        (vec![("origin", page)], 400, "BadRequest"),
        (vec![(method, "GET")], 400, "BadRequest"),
        (vec![("origin", page), (method, "PATCH")], 400, "BadRequest"),
        (vec![("origin", page), (method, "DELETE")], 403, "AccessForbidden"),
        (vec![("origin", "https://example.com"), (method, "GET")], 403, "AccessForbidden"),
        (
            vec![("origin", page), (method, "GET"), ("access-control-request-headers", "x-other")],
            403,
            "AccessForbidden",
        ),
    ] {
        let reply = preflight(&key, &headers).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (status, Some(code)), "{headers:?}");
        assert_eq!(allowed(&reply), (None, None), "{headers:?}");
        if status == 403 {
            assert_eq!(reply.element("ResourceType").as_deref(), Some("OBJECT"), "{}", reply.text());
            assert!(reply.text().contains("<Method>") && reply.text().contains("<RequestId>"), "{}", reply.text());
        }
    }
    let plain = new_bucket(&s3).await;
    for target in [plain.as_str(), "/no-such-bucket-anywhere", "/"] {
        let reply = preflight(target, &[("origin", page), (method, "GET")]).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (403, Some("AccessForbidden")), "{target}");
        assert_eq!(reply.element("ResourceType").as_deref(), Some("BUCKET"));
    }
}

#[tokio::test]
async fn answers_say_what_a_page_may_see_and_so_do_errors() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = bucket_with_rules(&s3).await;
    let (page, key) = ("https://a.example.org", format!("{bucket}/k"));
    let missing = format!("{bucket}/never-there");
    for (call, status) in [
        (s3.get(&key), 200),
        (s3.put(&key).body("again"), 200),
        (s3.get(&missing), 404),
        (s3.get(&key).header("if-none-match", "*"), 304),
        (cluster.anonymous().get(&key), 403),
        (cluster.anonymous().put(&key).body("x"), 403),
        (s3.put(&format!("{bucket}?replication")).body("<ReplicationConfiguration></ReplicationConfiguration>"), 501),
    ] {
        let reply = from_page(call, page).send().await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
        assert_eq!(allowed(&reply), (Some(page), Some("GET, PUT")));
        assert_eq!(reply.header("access-control-expose-headers"), Some("ETag, x-amz-request-id"));
        assert_eq!(reply.header("vary"), Some(VARY));
    }
    for (call, origin) in [(s3.get(&key), "https://example.com"), (s3.delete(&missing), page)] {
        let reply = from_page(call, origin).ok().await;
        assert_eq!((allowed(&reply), reply.header("vary")), ((None, None), Some(VARY)));
    }
    let unnamed = s3.get(&key).ok().await;
    assert_eq!((allowed(&unnamed), unnamed.header("vary")), ((None, None), Some(VARY)), "a cache must know");
    let head = from_page(s3.head(&key), "http://b").ok().await;
    assert_eq!(allowed(&head), (Some("*"), Some("HEAD")));
    let plain = new_bucket(&s3).await;
    let reply = from_page(s3.get(&plain), page).ok().await;
    assert_eq!((allowed(&reply), reply.header("vary")), ((None, None), None), "a bucket without rules says nothing");
}

#[tokio::test]
async fn a_slash_that_is_encoded_hides_no_bucket() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = bucket_with_rules(&s3).await;
    s3.put(&format!("{bucket}/k")).header("x-amz-acl", "public-read").body("hello").ok().await;
    let anonymous = cluster.anonymous();
    for slash in ["/", "%2F", "%2f"] {
        let reply = from_page(anonymous.get(&format!("{bucket}{slash}k")), "https://www.example.org").ok().await;
        assert_eq!((reply.text().as_str(), allowed(&reply).0), ("hello", Some("https://www.example.org")), "{slash}");
    }
}
