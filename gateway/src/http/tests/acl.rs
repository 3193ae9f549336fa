//! Access control lists as clients meet them: what is shown is what holds.

use http::{Method, StatusCode};

use super::{ALICE, BOB, Call, Gateway, Reply, call, gateway, put};

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

/// Makes a bucket or an object, or changes its list.
async fn with_acl(gateway: &Gateway, path: &str, acl: &str) {
    let is_object = path.matches('/').count() > 1 && !path.ends_with("?acl");
    let body = if is_object { "hello" } else { "" };
    let reply = call(Method::PUT, path).header("x-amz-acl", acl).body(body).to(gateway).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
}

/// The requester's key, and nobody's.
const BY: [Option<&str>; 2] = [Some("BOB"), None];

async fn by(by: Option<&'static str>, method: Method, path: &str, gateway: &Gateway) -> Reply {
    call(method, path).by(by).to(gateway).await
}

fn anonymous<'a>(method: Method, path: &'a str) -> Call<'a> {
    call(method, path).by(None)
}

#[tokio::test]
async fn a_bucket_that_everybody_may_read_is_listed_and_no_more() {
    let gateway = gateway().await;
    put(&gateway, "/bucket/k", "x").await;
    with_acl(&gateway, "/bucket?acl", "public-read").await;
    assert!(call(Method::GET, "/bucket?acl").to(&gateway).await.text().contains(ALL_USERS));
    for caller in BY {
        for path in ["/bucket", "/bucket?list-type=2", "/bucket?versions", "/bucket?uploads"] {
            assert_eq!(by(caller, Method::GET, path, &gateway).await.status, StatusCode::OK, "{path}");
        }
        assert_eq!(by(caller, Method::HEAD, "/bucket", &gateway).await.status, StatusCode::OK);
        assert_eq!(by(caller, Method::GET, "/bucket/none", &gateway).await.code(), (404, "NoSuchKey"));
        for path in ["/bucket/k", "/bucket?acl", "/bucket?location", "/bucket/k?acl", "/bucket/k?tagging"] {
            assert_eq!(by(caller, Method::GET, path, &gateway).await.code(), (403, "AccessDenied"), "{path}");
        }
        for path in ["/bucket", "/bucket/k"] {
            assert_eq!(by(caller, Method::DELETE, path, &gateway).await.code(), (403, "AccessDenied"), "{path}");
        }
        assert_eq!(by(caller, Method::PUT, "/bucket/k", &gateway).await.code(), (403, "AccessDenied"));
    }
    with_acl(&gateway, "/bucket?acl", "authenticated-read").await;
    assert_eq!(by(Some("BOB"), Method::GET, "/bucket", &gateway).await.status, StatusCode::OK);
    assert_eq!(by(None, Method::GET, "/bucket", &gateway).await.code(), (403, "AccessDenied"));
    with_acl(&gateway, "/bucket?acl", "private").await;
    assert_eq!(by(Some("BOB"), Method::GET, "/bucket", &gateway).await.code(), (403, "AccessDenied"));
    assert_eq!(by(Some("BOB"), Method::GET, "/bucket/none", &gateway).await.code(), (403, "AccessDenied"));
}

#[tokio::test]
async fn what_others_write_is_theirs() {
    let gateway = gateway().await;
    with_acl(&gateway, "/open", "public-read-write").await;
    let bobs = call(Method::PUT, "/open/bobs").by(Some("BOB")).body("bob").to(&gateway).await;
    assert_eq!(bobs.status, StatusCode::OK, "{}", bobs.text());
    assert_eq!(anonymous(Method::PUT, "/open/nobodys").body("any").to(&gateway).await.status, StatusCode::OK);
    assert_eq!(call(Method::GET, "/open/bobs").to(&gateway).await.code(), (403, "AccessDenied"));
    assert_eq!(by(Some("BOB"), Method::GET, "/open/bobs", &gateway).await.text(), "bob");
    let list = call(Method::GET, "/open").to(&gateway).await;
    assert!(list.text().contains(&format!("<ID>{}</ID>", BOB.1)), "{}", list.text());
    assert!(list.text().contains("<ID>65a011a29cdf8ec533ec3d1ccaae921c</ID>"), "{}", list.text());
    let given = call(Method::PUT, "/open/given").by(Some("BOB")).header("x-amz-acl", "bucket-owner-full-control");
    assert_eq!(given.body("gift").to(&gateway).await.status, StatusCode::OK);
    assert_eq!(call(Method::GET, "/open/given").to(&gateway).await.text(), "gift");
    let copied = call(Method::PUT, "/open/copy").header("x-amz-copy-source", "open/bobs").to(&gateway).await;
    assert_eq!(copied.code(), (403, "AccessDenied"));
    for key in ["bobs", "nobodys", "given"] {
        let path = format!("/open/{key}");
        assert_eq!(call(Method::DELETE, &path).to(&gateway).await.status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn an_upload_is_its_initiators_and_the_buckets_owners() {
    let gateway = gateway().await;
    with_acl(&gateway, "/open", "public-read-write").await;
    assert_eq!(by(None, Method::POST, "/open/k?uploads", &gateway).await.code(), (403, "AccessDenied"));
    let begin = || call(Method::POST, "/open/k?uploads");
    let alices = begin().to(&gateway).await.element("UploadId").to_owned();
    let bobs = begin().by(Some("BOB")).to(&gateway).await.element("UploadId").to_owned();
    let list = call(Method::GET, "/open?uploads").to(&gateway).await;
    for owner in [ALICE.1, BOB.1] {
        assert!(list.text().contains(&format!("<ID>{owner}</ID></Initiator>")), "{}", list.text());
    }
    let alices = format!("/open/k?uploadId={alices}");
    for (method, path) in [
        (Method::PUT, format!("{alices}&partNumber=1")),
        (Method::GET, alices.clone()),
        (Method::DELETE, alices.clone()),
    ] {
        assert_eq!(by(Some("BOB"), method, &path, &gateway).await.code(), (403, "AccessDenied"), "{path}");
    }
    let bobs = format!("/open/k?uploadId={bobs}");
    let part = call(Method::PUT, &format!("{bobs}&partNumber=1")).by(Some("BOB")).body("x").to(&gateway).await;
    assert_eq!(part.status, StatusCode::OK, "{}", part.text());
    assert_eq!(by(Some("BOB"), Method::GET, &bobs, &gateway).await.status, StatusCode::OK);
    assert_eq!(call(Method::DELETE, &bobs).to(&gateway).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_object_is_open_to_whom_its_list_says() {
    let gateway = gateway().await;
    with_acl(&gateway, "/bucket/k", "public-read").await;
    for caller in BY {
        assert_eq!(by(caller, Method::GET, "/bucket/k", &gateway).await.text(), "hello");
        assert_eq!(by(caller, Method::HEAD, "/bucket/k", &gateway).await.status, StatusCode::OK);
        assert_eq!(by(caller, Method::PUT, "/bucket/k?acl", &gateway).await.code(), (403, "AccessDenied"));
    }
    let overridden = by(None, Method::GET, "/bucket/k?response-content-type=x", &gateway).await;
    assert_eq!(overridden.code(), (400, "InvalidRequest"));
    with_acl(&gateway, "/bucket/k?acl", "authenticated-read").await;
    assert_eq!(by(Some("BOB"), Method::GET, "/bucket/k", &gateway).await.text(), "hello");
    assert_eq!(by(None, Method::GET, "/bucket/k", &gateway).await.code(), (403, "AccessDenied"));
    let copy = |acl| call(Method::PUT, "/bucket/copy").header("x-amz-copy-source", "bucket/k").header("x-amz-acl", acl);
    assert_eq!(copy("private").to(&gateway).await.status, StatusCode::OK);
    assert_eq!(by(Some("BOB"), Method::GET, "/bucket/copy", &gateway).await.code(), (403, "AccessDenied"));
    assert_eq!(copy("public-read").to(&gateway).await.status, StatusCode::OK);
    assert_eq!(by(None, Method::GET, "/bucket/copy", &gateway).await.text(), "hello");
    put(&gateway, "/bucket/k", "again").await;
    assert_eq!(by(Some("BOB"), Method::GET, "/bucket/k", &gateway).await.code(), (403, "AccessDenied"));
}

#[tokio::test]
async fn a_body_in_chunks_that_nobody_signed_is_refused() {
    let gateway = gateway().await;
    with_acl(&gateway, "/open", "public-read-write").await;
    let framed =
        anonymous(Method::PUT, "/open/k").header("content-encoding", "aws-chunked").body("5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(framed.to(&gateway).await.code(), (501, "NotImplemented"));
    let many = anonymous(Method::POST, "/open?delete").body("<Delete><Object><Key>k</Key></Object></Delete>");
    assert_eq!(many.to(&gateway).await.code(), (403, "AccessDenied"));
}
