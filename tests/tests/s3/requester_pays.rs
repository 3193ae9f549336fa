//! Requester pays: who is not the owner says that they pay, or gets nothing.

use std::time::{Duration, SystemTime};

use annulus_tests::cluster::shared;
use http::Method;

use crate::new_bucket;

fn document(payer: &str) -> String {
    format!("<RequestPaymentConfiguration><Payer>{payer}</Payer></RequestPaymentConfiguration>")
}

#[tokio::test]
async fn who_asks_pays_where_the_owner_says_so() {
    let cluster = shared().await;
    let (s3, alt, anybody) = (cluster.s3(0), cluster.alt(), cluster.anonymous());
    let bucket = new_bucket(&s3).await;
    let (target, payment) = (format!("{bucket}/k"), format!("{bucket}?requestPayment"));
    s3.put(&target).header("x-amz-acl", "public-read").body("hello").ok().await;
    assert_eq!(s3.get(&payment).ok().await.element("Payer").as_deref(), Some("BucketOwner"));
    s3.put(&payment).body(document("Nobody")).refused(400, "MalformedXML").await;
    alt.put(&payment).body(document("Requester")).refused(403, "AccessDenied").await;
    s3.put(&payment).body(document("Requester")).ok().await;
    assert_eq!(cluster.s3(1).get(&payment).ok().await.element("Payer").as_deref(), Some("Requester"));

    assert_eq!(s3.get(&target).ok().await.header("x-amz-request-charged"), None, "the owner pays for itself");
    alt.get(&target).refused(403, "AccessDenied").await;
    anybody.get(&target).header("x-amz-request-payer", "requester").refused(403, "AccessDenied").await;
    let paid = alt.get(&target).header("x-amz-request-payer", "requester").ok().await;
    assert_eq!((paid.text().as_str(), paid.header("x-amz-request-charged")), ("hello", Some("requester")));
    let presigned = format!("{target}?x-amz-request-payer=requester");
    let url = alt.presign(&Method::GET, &presigned, SystemTime::now(), Duration::from_secs(60));
    anybody.get(&url).ok().await;

    let copy = format!("{}/copy", new_bucket(&alt).await);
    alt.put(&copy).header("x-amz-copy-source", &target).refused(403, "AccessDenied").await;
    alt.put(&copy).header("x-amz-copy-source", &target).header("x-amz-request-payer", "requester").ok().await;

    s3.put(&payment).body(document("BucketOwner")).ok().await;
    assert_eq!(alt.get(&target).ok().await.text(), "hello");
}
