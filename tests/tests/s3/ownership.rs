//! Object ownership: whose the objects of a bucket are, and whether access control lists mean anything in it.

use annulus_tests::client::S3;
use annulus_tests::cluster::shared;

use crate::acls::{grant, id_of, is_allowed, pair, policy, shown};
use crate::{assert_absent, fresh_name};

fn controls(ownership: &str) -> String {
    format!("<OwnershipControls><Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule></OwnershipControls>")
}

/// A bucket that everybody may write to.
async fn open_bucket(s3: &S3) -> String {
    let bucket = format!("/{}", fresh_name("owned"));
    s3.put(&bucket).header("x-amz-acl", "public-read-write").ok().await;
    bucket
}

/// Whose an object is, as its list says.
async fn owner_of(s3: &S3, target: &str) -> String {
    let text = s3.get(&format!("{target}?acl")).ok().await.text();
    let owner = text.split_once("<Owner>").expect("a list has an owner").1;
    owner.split_once("<ID>").and_then(|(_, id)| id.split_once("</ID>")).expect("an owner has an id").0.to_owned()
}

#[tokio::test]
async fn the_setting_is_what_was_set() {
    let s3 = shared().await.s3(0);
    let bucket = format!("/{}", fresh_name("owned"));
    s3.put(&bucket).header("x-amz-object-ownership", "BucketOwnerPreferred").ok().await;
    let target = format!("{bucket}?ownershipControls");
    assert_eq!(s3.get(&target).ok().await.element("ObjectOwnership").as_deref(), Some("BucketOwnerPreferred"));
    for ownership in ["ObjectWriter", "BucketOwnerEnforced"] {
        s3.put(&target).body(controls(ownership)).ok().await;
        assert_eq!(s3.get(&target).ok().await.element("ObjectOwnership").as_deref(), Some(ownership));
    }
    for body in [controls("Nobody"), controls("ObjectWriter").replace("Rule", "Law"), "<OwnershipControls/>".to_owned()]
    {
        s3.put(&target).body(body).refused(400, "MalformedXML").await;
    }
    assert_eq!(s3.get(&target).ok().await.element("ObjectOwnership").as_deref(), Some("BucketOwnerEnforced"));
    for _ in 0..2 {
        assert_eq!(s3.delete(&target).ok().await.status, 204);
        s3.get(&target).refused(404, "OwnershipControlsNotFoundError").await;
    }
    let name = format!("/{}", fresh_name("never"));
    s3.put(&name).header("x-amz-object-ownership", "Nobody").refused(400, "InvalidArgument").await;
    let open = s3.put(&name).header("x-amz-object-ownership", "BucketOwnerEnforced").header("x-amz-acl", "public-read");
    open.refused(400, "InvalidBucketAclWithObjectOwnership").await;
    assert_absent(&s3, &name).await;
    shared().await.alt().put(&target).body(controls("ObjectWriter")).refused(403, "AccessDenied").await;
}

#[tokio::test]
async fn where_the_owner_is_enforced_lists_mean_nothing_until_it_is_lifted() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let (owner_id, other_id) = (id_of(&owner).await, id_of(&other).await);
    let bucket = open_bucket(&owner).await;
    let theirs = format!("{bucket}/theirs");
    other.put(&theirs).header("x-amz-acl", "public-read").body("theirs").ok().await;
    let target = format!("{bucket}?ownershipControls");
    owner.put(&target).body(controls("BucketOwnerEnforced")).refused(400, "InvalidBucketAclWithObjectOwnership").await;
    owner.put(&format!("{bucket}?acl")).header("x-amz-acl", "private").ok().await;
    owner.put(&target).body(controls("BucketOwnerEnforced")).ok().await;

    assert_eq!(owner_of(&owner, &theirs).await, owner_id, "objects that were there are the bucket's owner's too");
    assert_eq!(shown(&owner, &theirs).await, [pair(&owner_id, "FULL_CONTROL")]);
    assert_eq!(owner.get(&theirs).ok().await.text(), "theirs");
    let listed = owner.get(&bucket).ok().await.text();
    assert!(listed.contains(&owner_id) && !listed.contains(&other_id), "{listed}");
    for nobody in [&other, &cluster.anonymous()] {
        assert!(!is_allowed(nobody.get(&theirs)).await, "its list grants nothing now");
        assert!(!is_allowed(nobody.get(&bucket)).await);
    }
    for list in [format!("{bucket}?acl"), format!("{theirs}?acl")] {
        for acl in ["private", "public-read", "bucket-owner-full-control"] {
            owner.put(&list).header("x-amz-acl", acl).refused(400, "AccessControlListNotSupported").await;
        }
        let body = policy(&owner_id, &[grant(&other_id, "READ")]);
        owner.put(&list).body(body).refused(400, "AccessControlListNotSupported").await;
    }
    let new = format!("{bucket}/new");
    for (name, value) in [("x-amz-acl", "private".to_owned()), ("x-amz-grant-read", format!("id={other_id}"))] {
        let code = "AccessControlListNotSupported";
        owner.put(&new).header(name, &value).body("x").refused(400, code).await;
        owner.post(&format!("{new}?uploads")).header(name, &value).refused(400, code).await;
        owner.put(&new).header("x-amz-copy-source", &theirs).header(name, &value).refused(400, code).await;
    }
    let full = format!("id={owner_id}");
    for (name, value) in [("x-amz-acl", "bucket-owner-full-control"), ("x-amz-grant-full-control", full.as_str())] {
        owner.put(&new).header(name, value).body("x").ok().await;
    }

    assert_eq!(owner.delete(&target).ok().await.status, 204);
    assert_eq!(owner_of(&other, &theirs).await, other_id, "what lists said holds again");
    assert_eq!(cluster.anonymous().get(&theirs).ok().await.text(), "theirs");
    assert_eq!(owner_of(&owner, &new).await, owner_id);
}

#[tokio::test]
async fn where_the_owner_is_preferred_an_object_is_given_by_its_list() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let (owner_id, other_id) = (id_of(&owner).await, id_of(&other).await);
    let bucket = open_bucket(&owner).await;
    owner.put(&format!("{bucket}?ownershipControls")).body(controls("BucketOwnerPreferred")).ok().await;
    let full = "bucket-owner-full-control";
    other.put(&format!("{bucket}/kept")).body("x").ok().await;
    assert_eq!(owner_of(&other, &format!("{bucket}/kept")).await, other_id);
    other.put(&format!("{bucket}/given")).header("x-amz-acl", full).body("x").ok().await;
    assert_eq!(owner_of(&owner, &format!("{bucket}/given")).await, owner_id);
    assert!(!is_allowed(other.get(&format!("{bucket}/given"))).await, "who gives keeps nothing");
    let begun = other.post(&format!("{bucket}/parts?uploads")).header("x-amz-acl", full).ok().await;
    let upload = begun.element("UploadId").expect("an upload has an id");
    let parts = format!("{bucket}/parts?uploadId={upload}");
    let listed = other.get(&parts).ok().await.text();
    for (element, id) in [("Initiator", &other_id), ("Owner", &owner_id)] {
        let inner = listed.split_once(&format!("<{element}>")).expect("it is shown").1;
        let inner = inner.split_once(&format!("</{element}>")).expect("it ends").0;
        assert!(inner.contains(id.as_str()), "{element}: {listed}");
    }
    let part = other.put(&format!("{parts}&partNumber=1")).body("x").ok().await;
    let complete = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag").expect("a part has an entity tag")
    );
    other.post(&parts).body(complete).ok().await;
    assert_eq!(owner_of(&owner, &format!("{bucket}/parts")).await, owner_id);
}
