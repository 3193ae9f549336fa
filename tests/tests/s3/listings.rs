//! Listings: what they say of each object, and that they are complete at once, whichever gateway is asked.
//!
//! Which entries there are, page by page, is `listing_model`'s.

use annulus_tests::cluster::shared;

use crate::{etag, new_bucket};

#[tokio::test]
async fn a_listing_says_what_each_object_is() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/a")).body("hello").ok().await;
    let listed = s3.get(&format!("{bucket}?list-type=2&fetch-owner=true")).ok().await;
    assert_eq!(listed.element("ETag").map(|tag| format!("\"{}\"", tag.trim_matches('"'))), Some(etag(b"hello")));
    assert_eq!(listed.element("Size").as_deref(), Some("5"));
    assert_eq!(listed.element("StorageClass").as_deref(), Some("STANDARD"));
    assert_eq!(listed.element("KeyCount").as_deref(), Some("1"));
    assert!(listed.text().contains("<Owner>"), "{}", listed.text());
    let versions = s3.get(&format!("{bucket}?versions")).ok().await;
    assert_eq!(versions.element("VersionId").as_deref(), Some("null"));
    assert_eq!(versions.element("IsLatest").as_deref(), Some("true"));
}

#[tokio::test]
async fn a_listing_changes_with_every_put_and_delete_at_both_gateways() {
    let cluster = shared().await;
    let gateways = [cluster.s3(0), cluster.s3(1)];
    let bucket = new_bucket(&gateways[0]).await;
    for number in 0..10 {
        gateways[number % 2].put(&format!("{bucket}/{number}")).body("x").ok().await;
        let listed = gateways[(number + 1) % 2].get(&format!("{bucket}?list-type=2")).ok().await;
        assert_eq!(listed.elements("Key").len(), number + 1);
    }
    for number in 0..10 {
        gateways[number % 2].delete(&format!("{bucket}/{number}")).ok().await;
        let listed = gateways[(number + 1) % 2].get(&bucket).ok().await;
        assert_eq!(listed.elements("Key").len(), 9 - number);
    }
}

#[tokio::test]
async fn arguments_without_sense_are_refused() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/a")).body("x").ok().await;
    for query in ["max-keys=-1", "max-keys=many", "encoding-type=base64", "list-type=2&continuation-token=nonsense"] {
        s3.get(&format!("{bucket}?{query}")).refused(400, "InvalidArgument").await;
    }
    let none = s3.get(&format!("{bucket}?list-type=2&max-keys=0")).ok().await;
    assert!(none.elements("Key").is_empty() && none.element("IsTruncated").as_deref() == Some("false"));
}
