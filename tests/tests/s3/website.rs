//! Buckets as static websites: pages, indexes, redirects and errors, as browsers meet them.

use annulus_tests::client::{Reply, S3};
use annulus_tests::cluster::{WEBSITE_DOMAIN, shared};
use annulus_tests::wire::Wire;
use http::Method;

use crate::fresh_name;

const PUBLIC: (&str, &str) = ("x-amz-acl", "public-read");

fn configuration(more: &str) -> String {
    format!(
        "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument>{more}</WebsiteConfiguration>"
    )
}

fn rules(rules: &str) -> String {
    configuration(&format!("<RoutingRules>{rules}</RoutingRules>"))
}

/// A bucket that is a website, with an index, a folder and a page that is nobody's to see.
async fn site(s3: &S3, configuration: &str) -> String {
    let name = fresh_name("site");
    s3.put(&format!("/{name}")).ok().await;
    s3.put(&format!("/{name}?website")).body(configuration.to_owned()).ok().await;
    for (key, body) in [("index.html", "<h1>home</h1>"), ("docs/index.html", "docs"), ("a%20b.html", "page")] {
        let put = s3.put(&format!("/{name}/{key}")).header(PUBLIC.0, PUBLIC.1).header("content-type", "text/html");
        put.body(body).ok().await;
    }
    s3.put(&format!("/{name}/secret.html")).body("secret").ok().await;
    name
}

/// Asks for a page of a bucket's website.
async fn visit(method: Method, bucket: &str, path: &str, headers: &[(&'static str, &str)]) -> Reply {
    let cluster = shared().await;
    let anonymous = cluster.anonymous();
    let call = headers.iter().fold(anonymous.get(path), |call, (name, value)| call.header(name, value));
    let mut request = call.prepare();
    *request.method_mut() = method;
    let host = format!("{bucket}.{WEBSITE_DOMAIN}").parse().expect("a host is a header's value");
    request.headers_mut().insert(http::header::HOST, host);
    let wire = Wire::open(cluster.addr(0), &request, 0).await;
    wire.answer().await.expect("a website answers")
}

async fn get(bucket: &str, path: &str) -> Reply {
    visit(Method::GET, bucket, path, &[]).await
}

/// The status and where it sends the browser.
fn sent(reply: &Reply) -> (u16, Option<&str>) {
    (reply.status.as_u16(), reply.header("location"))
}

#[tokio::test]
async fn the_configuration_is_given_back_as_it_was_set() {
    let s3 = shared().await.s3(0);
    let bucket = format!("/{}", fresh_name("site"));
    s3.put(&bucket).ok().await;
    let target = format!("{bucket}?website");
    s3.get(&target).refused(404, "NoSuchWebsiteConfiguration").await;
    let rule = "<RoutingRule><Condition><KeyPrefixEquals>a/</KeyPrefixEquals><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>\
        </Condition><Redirect><Protocol>https</Protocol><HostName>example.org</HostName><ReplaceKeyPrefixWith>b/</ReplaceKeyPrefixWith>\
        <HttpRedirectCode>302</HttpRedirectCode></Redirect></RoutingRule>";
    let error = "<ErrorDocument><Key>error.html</Key></ErrorDocument>";
    s3.put(&target).body(configuration(&format!("{error}<RoutingRules>{rule}</RoutingRules>"))).ok().await;
    let given = s3.get(&target).ok().await;
    for (element, value) in [
        ("Suffix", "index.html"),
        ("Key", "error.html"),
        ("KeyPrefixEquals", "a/"),
        ("HttpErrorCodeReturnedEquals", "404"),
        ("Protocol", "https"),
        ("HostName", "example.org"),
        ("ReplaceKeyPrefixWith", "b/"),
        ("HttpRedirectCode", "302"),
    ] {
        assert_eq!(given.element(element).as_deref(), Some(value), "{}", given.text());
    }
    shared().await.alt().get(&target).refused(403, "AccessDenied").await;
    for _ in 0..2 {
        assert_eq!(s3.delete(&target).ok().await.status, 204);
        s3.get(&target).refused(404, "NoSuchWebsiteConfiguration").await;
    }
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_refused_and_the_old_one_stays() {
    let s3 = shared().await.s3(0);
    let bucket = format!("/{}", fresh_name("site"));
    s3.put(&bucket).ok().await;
    let target = format!("{bucket}?website");
    s3.put(&target).body(configuration("")).ok().await;
    let redirect = "<Redirect><HostName>a</HostName></Redirect>";
    let rule = |inner: &str| rules(&format!("<RoutingRule>{inner}</RoutingRule>"));
    let all = "<RedirectAllRequestsTo><HostName>a</HostName></RedirectAllRequestsTo>";
    for (body, code) in [
        ("<WebsiteConfiguration></WebsiteConfiguration>".to_owned(), "InvalidArgument"),
        (configuration("").replace("index.html", "a/index.html"), "InvalidArgument"),
        (configuration("").replace("index.html", ""), "InvalidArgument"),
        (configuration(all), "InvalidArgument"),
        (configuration("<ErrorDocument><Key></Key></ErrorDocument>"), "InvalidArgument"),
        (rule(&format!("<Condition></Condition>{redirect}")), "InvalidRequest"),
        (rule("<Redirect></Redirect>"), "MalformedXML"),
        (rule("<Redirect><Protocol>ftp</Protocol></Redirect>"), "InvalidRequest"),
        (rule("<Redirect><HttpRedirectCode>300</HttpRedirectCode></Redirect>"), "InvalidRequest"),
        (rule("<Redirect><HttpRedirectCode>200</HttpRedirectCode></Redirect>"), "InvalidRequest"),
        (
            rule(&format!(
                "<Condition><HttpErrorCodeReturnedEquals>200</HttpErrorCodeReturnedEquals></Condition>{redirect}"
            )),
            "InvalidRequest",
        ),
        (
            rule(
                "<Redirect><ReplaceKeyWith>a</ReplaceKeyWith><ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith></Redirect>",
            ),
            "InvalidRequest",
        ),
        (rules(&format!("<RoutingRule>{redirect}</RoutingRule>").repeat(51)), "InvalidRequest"),
        (configuration("").replace("Suffix", "Prefix"), "MalformedXML"),
    ] {
        s3.put(&target).body(body.clone()).refused(400, code).await;
    }
    assert_eq!(s3.get(&target).ok().await.element("Suffix").as_deref(), Some("index.html"));
}

#[tokio::test]
async fn pages_are_served_to_everybody_who_may_see_them() {
    let s3 = shared().await.s3(0);
    let bucket = site(&s3, &configuration("")).await;
    let home = get(&bucket, "/").await;
    assert_eq!((home.status.as_u16(), home.text().as_str()), (200, "<h1>home</h1>"));
    assert_eq!(home.header("content-type"), Some("text/html"));
    assert!(home.header("etag").is_some() && home.header("x-amz-request-id").is_some());
    assert_eq!(get(&bucket, "/docs/").await.text(), "docs");
    assert_eq!(get(&bucket, "/a%20b.html?v=2&acl").await.text(), "page", "a query means nothing");
    let head = visit(Method::HEAD, &bucket, "/", &[]).await;
    assert_eq!((head.status.as_u16(), head.header("content-length"), head.body.len()), (200, Some("13"), 0));
    let part = visit(Method::GET, &bucket, "/", &[("range", "bytes=4-7")]).await;
    assert_eq!((part.status.as_u16(), part.text().as_str()), (206, "home"));
    let etag = home.header("etag").expect("it was there");
    assert_eq!(visit(Method::GET, &bucket, "/", &[("if-none-match", etag)]).await.status, 304);
    for path in ["/docs", "/docs?x"] {
        assert_eq!(sent(&get(&bucket, path).await), (302, Some("/docs/")));
    }
}

#[tokio::test]
async fn errors_are_pages_too() {
    let s3 = shared().await.s3(0);
    let bucket = site(&s3, &configuration("")).await;
    let nobody = get(&bucket, "/never-there.html").await;
    assert_eq!(nobody.status, 403, "who may not list is not told what is there");
    s3.put(&format!("/{bucket}?acl")).header(PUBLIC.0, PUBLIC.1).ok().await;
    let missing = get(&bucket, "/never-there.html").await;
    assert_eq!((missing.status.as_u16(), missing.header("content-type")), (404, Some("text/html; charset=utf-8")));
    assert_eq!(missing.header("x-amz-error-code"), Some("NoSuchKey"));
    for expected in
        ["<h1>404 Not Found</h1>", "<li>Code: NoSuchKey</li>", "<li>Key: never-there.html</li>", "RequestId: "]
    {
        assert!(missing.text().contains(expected), "{expected}: {}", missing.text());
    }
    let secret = get(&bucket, "/secret.html").await;
    assert_eq!((secret.status.as_u16(), secret.header("x-amz-error-code")), (403, Some("AccessDenied")));
    let head = visit(Method::HEAD, &bucket, "/never-there.html", &[]).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (404, 0));
    assert_eq!(head.header("x-amz-error-code"), Some("NoSuchKey"));
    for method in [Method::PUT, Method::POST, Method::DELETE] {
        let refused = visit(method, &bucket, "/index.html", &[]).await;
        assert_eq!((refused.status.as_u16(), refused.header("x-amz-error-code")), (405, Some("MethodNotAllowed")));
    }
    let nowhere = get("no-such-bucket-anywhere", "/").await;
    assert_eq!((nowhere.status.as_u16(), nowhere.header("x-amz-error-code")), (404, Some("NoSuchBucket")));
    s3.delete(&format!("/{bucket}?website")).ok().await;
    let none = get(&bucket, "/").await;
    assert_eq!((none.status.as_u16(), none.header("x-amz-error-code")), (404, Some("NoSuchWebsiteConfiguration")));
}

#[tokio::test]
async fn a_website_may_have_its_own_page_for_errors() {
    let s3 = shared().await.s3(0);
    let bucket = site(&s3, &configuration("<ErrorDocument><Key>errors/oops.html</Key></ErrorDocument>")).await;
    s3.put(&format!("/{bucket}?acl")).header(PUBLIC.0, PUBLIC.1).ok().await;
    let without = get(&bucket, "/never-there.html").await;
    assert_eq!(without.status, 404);
    assert!(without.text().contains("Retrieve a Custom Error Document"), "{}", without.text());
    let oops = s3.put(&format!("/{bucket}/errors/oops.html")).header(PUBLIC.0, PUBLIC.1);
    oops.header("content-type", "text/x-oops").body("oops").ok().await;
    for (path, status, code) in [("/never-there.html", 404, "NoSuchKey"), ("/secret.html", 403, "AccessDenied")] {
        let reply = visit(Method::GET, &bucket, path, &[("range", "bytes=0-0")]).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (status, "oops"), "{path}");
        assert_eq!(reply.header("content-type"), Some("text/x-oops"));
        assert_eq!(reply.header("x-amz-error-code"), Some(code));
    }
}

#[tokio::test]
async fn browsers_are_sent_where_objects_and_rules_say() {
    let s3 = shared().await.s3(0);
    let bucket = site(
        &s3,
        &rules(
            "<RoutingRule><Condition><KeyPrefixEquals>old/</KeyPrefixEquals></Condition>\
             <Redirect><ReplaceKeyPrefixWith>new/</ReplaceKeyPrefixWith></Redirect></RoutingRule>\
             <RoutingRule><Condition><KeyPrefixEquals>app/</KeyPrefixEquals><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>\
             </Condition><Redirect><Protocol>https</Protocol><HostName>example.org</HostName><ReplaceKeyWith>app.html</ReplaceKeyWith>\
             <HttpRedirectCode>307</HttpRedirectCode></Redirect></RoutingRule>",
        ),
    )
    .await;
    s3.put(&format!("/{bucket}?acl")).header(PUBLIC.0, PUBLIC.1).ok().await;
    let here = format!("http://{bucket}.{WEBSITE_DOMAIN}");
    let moved = get(&bucket, "/old/a%20b?x=1").await;
    assert_eq!(sent(&moved), (301, Some(format!("{here}/new/a%20b?x=1").as_str())));
    assert_eq!(sent(&get(&bucket, "/app/deep/link").await), (307, Some("https://example.org/app.html")));
    assert_eq!(sent(&get(&bucket, "/other").await), (404, None));
    for target in ["/elsewhere.html", "https://example.org/x"] {
        let put = s3.put(&format!("/{bucket}/moved")).header(PUBLIC.0, PUBLIC.1);
        put.header("x-amz-website-redirect-location", target).ok().await;
        assert_eq!(sent(&get(&bucket, "/moved").await), (301, Some(target)));
    }
    let all = "<WebsiteConfiguration><RedirectAllRequestsTo><HostName>example.org</HostName><Protocol>https</Protocol>\
               </RedirectAllRequestsTo></WebsiteConfiguration>";
    s3.put(&format!("/{bucket}?website")).body(all).ok().await;
    assert_eq!(sent(&get(&bucket, "/a/b?c=d").await), (301, Some("https://example.org/a/b?c=d")));
}

#[tokio::test]
async fn pages_of_other_origins_may_ask_as_the_buckets_rules_say() {
    let s3 = shared().await.s3(0);
    let bucket = site(&s3, &configuration("")).await;
    let cors = "<CORSConfiguration><CORSRule><AllowedOrigin>http://a</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";
    s3.put(&format!("/{bucket}?cors")).body(cors).ok().await;
    let page = visit(Method::GET, &bucket, "/", &[("origin", "http://a")]).await;
    assert_eq!(page.header("access-control-allow-origin"), Some("http://a"));
    let asked = [("origin", "http://a"), ("access-control-request-method", "GET")];
    let preflight = visit(Method::OPTIONS, &bucket, "/", &asked).await;
    assert_eq!((preflight.status.as_u16(), preflight.header("access-control-allow-origin")), (200, Some("http://a")));
}

#[tokio::test]
async fn a_page_goes_on_where_it_was_cut_off_if_it_is_the_same() {
    let s3 = shared().await.s3(0);
    let site = site(&s3, &configuration("")).await;
    let etag = get(&site, "/index.html").await.header("etag").expect("a page has a tag").to_owned();
    for (known, status) in [(etag.as_str(), 206), ("\"0123\"", 200)] {
        let headers = [("range", "bytes=4-"), ("if-range", known)];
        assert_eq!(visit(Method::GET, &site, "/index.html", &headers).await.status, status, "{known}");
    }
}
