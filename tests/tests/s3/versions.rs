//! Versions: what a bucket that keeps them does on puts, deletes, reads and listings, through either gateway.

use annulus_tests::client::{Reply, S3, encode};
use annulus_tests::cluster::shared;

use crate::{assert_absent, content, new_bucket};

/// Sets a bucket's versioning.
async fn set_versioning(s3: &S3, bucket: &str, status: &str) {
    let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
    s3.put(&format!("{bucket}?versioning")).body(body).ok().await;
}

async fn versioned_bucket(s3: &S3) -> String {
    let bucket = new_bucket(s3).await;
    set_versioning(s3, &bucket, "Enabled").await;
    bucket
}

fn version_of(reply: &Reply) -> String {
    reply.header("x-amz-version-id").expect("the answer names a version").to_owned()
}

#[tokio::test]
async fn every_version_is_kept_and_found() {
    let cluster = shared().await;
    let gateways = [cluster.s3(0), cluster.s3(1)];
    let bucket = versioned_bucket(&gateways[0]).await;
    let target = format!("{bucket}/k");
    let mut versions = Vec::new();
    // Inline, empty, in chunks; each written through one gateway and read through the other.
    for (round, size) in [10, 0, 50_000, 4 << 20, 7].into_iter().enumerate() {
        let body = content(size, round as u64);
        let put = gateways[round % 2].put(&target).body(body.clone()).ok().await;
        versions.push((version_of(&put), body));
    }
    for (version, body) in &versions {
        let got = gateways[1].get(&format!("{target}?versionId={version}")).ok().await;
        assert!(got.body == *body);
        assert_eq!(got.header("x-amz-version-id"), Some(version.as_str()));
        let head = gateways[0].head(&format!("{target}?versionId={version}")).ok().await;
        assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()));
    }
    let (newest, body) = versions.last().expect("five were written");
    let current = gateways[0].get(&target).ok().await;
    assert!(current.body == *body);
    assert_eq!(current.header("x-amz-version-id"), Some(newest.as_str()));
    let listed = gateways[1].get(&format!("{bucket}?versions")).ok().await;
    let newest_first: Vec<&str> = versions.iter().rev().map(|(version, _)| version.as_str()).collect();
    assert_eq!(listed.elements("VersionId"), newest_first);
    assert_eq!(listed.elements("IsLatest"), ["true", "false", "false", "false", "false"]);
    gateways[0].delete(&bucket).refused(409, "BucketNotEmpty").await;
    // Each is removed for good, the newest first: the next one is there then.
    for (place, (version, _)) in versions.iter().enumerate().rev() {
        let deleted = gateways[0].delete(&format!("{target}?versionId={version}")).ok().await;
        assert_eq!(deleted.header("x-amz-version-id"), Some(version.as_str()));
        assert_eq!(deleted.header("x-amz-delete-marker"), None);
        match place.checked_sub(1).map(|next| &versions[next]) {
            Some((_, body)) => assert!(gateways[1].get(&target).ok().await.body == *body),
            None => assert_absent(&gateways[1], &target).await,
        }
        gateways[1].get(&format!("{target}?versionId={version}")).refused(404, "NoSuchVersion").await;
    }
    gateways[0].delete(&bucket).ok().await;
}

#[tokio::test]
async fn a_delete_marker_hides_what_is_kept() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let bucket = versioned_bucket(&here).await;
    let target = format!("{bucket}/k");
    let object = version_of(&here.put(&target).body("kept").ok().await);
    let deleted = here.delete(&target).ok().await;
    assert_eq!(deleted.header("x-amz-delete-marker"), Some("true"));
    let marker = version_of(&deleted);
    // The key is not there, and says why.
    for reply in [there.head(&target).send().await, there.get(&target).refused(404, "NoSuchKey").await] {
        assert_eq!(reply.status, 404);
        assert_eq!(reply.header("x-amz-delete-marker"), Some("true"));
        assert_eq!(reply.header("x-amz-version-id"), Some(marker.as_str()));
    }
    // The marker itself can only be deleted.
    let of_marker = format!("{target}?versionId={marker}");
    for reply in [there.head(&of_marker).send().await, there.get(&of_marker).refused(405, "MethodNotAllowed").await] {
        assert_eq!(reply.status, 405);
        assert_eq!(reply.header("x-amz-delete-marker"), Some("true"));
        assert_eq!(reply.header("allow"), Some("DELETE"));
        assert!(reply.header("last-modified").is_some());
    }
    here.get(&format!("{target}?acl&versionId={marker}")).refused(405, "MethodNotAllowed").await;
    let copy = here.put(&format!("{bucket}/copy"));
    copy.header("x-amz-copy-source", &of_marker).refused(400, "InvalidRequest").await;
    here.put(&format!("{bucket}/copy")).header("x-amz-copy-source", &target).refused(404, "NoSuchKey").await;
    assert!(there.get(&format!("{bucket}?list-type=2")).ok().await.elements("Key").is_empty());
    assert_eq!(there.get(&format!("{target}?versionId={object}")).ok().await.text(), "kept");
    // A delete of a deleted key adds a marker; each is removed by its id.
    let second = version_of(&there.delete(&target).ok().await);
    let listed = here.get(&format!("{bucket}?versions")).ok().await;
    assert_eq!(listed.elements("DeleteMarker").len(), 2);
    for marker in [second, marker] {
        assert_absent(&here, &target).await;
        let removed = here.delete(&format!("{target}?versionId={marker}")).ok().await;
        assert_eq!(removed.header("x-amz-delete-marker"), Some("true"));
        assert_eq!(removed.header("x-amz-version-id"), Some(marker.as_str()));
    }
    assert_eq!(there.get(&target).ok().await.text(), "kept");
}

#[tokio::test]
async fn suspended_versioning_keeps_old_versions_and_replaces_the_null_version() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/k");
    assert_eq!(s3.put(&target).body("null").ok().await.header("x-amz-version-id"), None);
    set_versioning(&s3, &bucket, "Enabled").await;
    assert_eq!(version_of(&s3.get(&target).ok().await), "null");
    let kept = version_of(&s3.put(&target).body("kept").ok().await);
    assert_eq!(s3.get(&format!("{target}?versionId=null")).ok().await.text(), "null");
    set_versioning(&s3, &bucket, "Suspended").await;
    let status = s3.get(&format!("{bucket}?versioning")).ok().await.element("Status");
    assert_eq!(status.as_deref(), Some("Suspended"));
    assert_eq!(s3.put(&target).body("another null").ok().await.header("x-amz-version-id"), None);
    let listed = s3.get(&format!("{bucket}?versions")).ok().await;
    assert_eq!(listed.elements("VersionId"), ["null", kept.as_str()]);
    let deleted = s3.delete(&target).ok().await;
    assert_eq!((version_of(&deleted).as_str(), deleted.header("x-amz-delete-marker")), ("null", Some("true")));
    s3.get(&format!("{target}?versionId=null")).refused(405, "MethodNotAllowed").await;
    assert_eq!(s3.get(&format!("{target}?versionId={kept}")).ok().await.text(), "kept");
    s3.delete(&format!("{target}?versionId=null")).ok().await;
    assert_eq!(s3.get(&target).ok().await.text(), "kept");
}

#[tokio::test]
async fn one_request_deletes_versions_and_keys() {
    let s3 = shared().await.s3(0);
    let bucket = versioned_bucket(&s3).await;
    let first = version_of(&s3.put(&format!("{bucket}/a")).body("1").ok().await);
    let second = version_of(&s3.put(&format!("{bucket}/a")).body("2").ok().await);
    s3.put(&format!("{bucket}/b")).body("3").ok().await;
    let object = |key: &str, version: Option<&str>| {
        let version = version.map(|version| format!("<VersionId>{version}</VersionId>")).unwrap_or_default();
        format!("<Object><Key>{key}</Key>{version}</Object>")
    };
    let delete = |objects: &[String]| {
        s3.post(&format!("{bucket}?delete")).body(format!("<Delete>{}</Delete>", objects.concat()))
    };
    let asked =
        [object("a", Some(&first)), object("a", Some(&second)), object("b", None), object("a", Some("nonsense"))];
    let reply = delete(&asked).ok().await;
    assert_eq!(reply.elements("Deleted").len(), 3);
    assert_eq!(reply.element("Code").as_deref(), Some("InvalidArgument"));
    assert_eq!(reply.elements("DeleteMarker"), ["true"]);
    let marker = reply.element("DeleteMarkerVersionId").expect("b is deleted by a marker");
    let listed = s3.get(&format!("{bucket}?versions")).ok().await;
    assert!(listed.elements("VersionId").contains(&marker));
    assert_eq!(listed.elements("Key"), ["b", "b"]);
    let reply = delete(&[object("b", Some(&marker))]).ok().await;
    assert_eq!(reply.element("DeleteMarkerVersionId"), Some(marker));
    assert_eq!(s3.get(&format!("{bucket}/b")).ok().await.text(), "3");
}

#[tokio::test]
async fn conditions_ask_for_the_version_that_is_there() {
    let s3 = shared().await.s3(0);
    let bucket = versioned_bucket(&s3).await;
    let target = format!("{bucket}/k");
    let old = s3.put(&target).header("if-none-match", "*").body("old").ok().await;
    let new = s3.put(&target).body("new").ok().await;
    let tag = |reply: &Reply| reply.header("etag").expect("a tag").to_owned();
    s3.put(&target).header("if-none-match", "*").body("x").refused(412, "PreconditionFailed").await;
    s3.put(&target).header("if-match", &tag(&old)).body("x").refused(412, "PreconditionFailed").await;
    s3.put(&target).header("if-match", &tag(&new)).body("newer").ok().await;
    s3.delete(&target).ok().await;
    s3.put(&target).header("if-match", "*").body("x").refused(404, "NoSuchKey").await;
    s3.put(&target).header("if-none-match", "*").body("again").ok().await;
    assert_eq!(s3.get(&target).ok().await.text(), "again");
}

#[tokio::test]
async fn copies_and_uploads_make_versions_and_old_versions_are_copied() {
    let s3 = shared().await.s3(0);
    let bucket = versioned_bucket(&s3).await;
    let target = format!("{bucket}/k");
    let old = version_of(&s3.put(&target).body("old").ok().await);
    s3.put(&target).body("new").ok().await;
    // An old version that is copied over the newest is brought back.
    let source = format!("{target}?versionId={old}");
    let copied = s3.put(&target).header("x-amz-copy-source", &source).ok().await;
    assert_eq!(copied.header("x-amz-copy-source-version-id"), Some(old.as_str()));
    assert_ne!(version_of(&copied), old);
    assert_eq!(s3.get(&target).ok().await.text(), "old");
    let upload = s3.post(&format!("{target}?uploads")).ok().await.element("UploadId").expect("an id");
    let part = s3.put(&format!("{target}?partNumber=1&uploadId={upload}")).body("part").ok().await;
    let tag = part.header("etag").expect("a tag");
    let body = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    let done = s3.post(&format!("{target}?uploadId={upload}")).body(body.clone()).ok().await;
    let version = version_of(&done);
    assert_eq!(s3.get(&format!("{target}?versionId={version}")).ok().await.text(), "part");
    // Completed again it is the same version, and no other.
    let again = s3.post(&format!("{target}?uploadId={upload}")).body(body).ok().await;
    assert_eq!(version_of(&again), version);
    assert_eq!(s3.get(&format!("{bucket}?versions")).ok().await.elements("VersionId").len(), 4);
}

#[tokio::test]
async fn attributes_belong_to_a_version() {
    let s3 = shared().await.s3(0);
    let bucket = versioned_bucket(&s3).await;
    let target = format!("{bucket}/k");
    let old = version_of(&s3.put(&target).body("old").ok().await);
    s3.put(&target).body("new").ok().await;
    s3.put(&format!("{target}?acl&versionId={old}")).header("x-amz-acl", "public-read").ok().await;
    let of_old = s3.get(&format!("{target}?acl&versionId={old}")).ok().await;
    assert_eq!(of_old.elements("Permission").len(), 2);
    assert_eq!(s3.get(&format!("{target}?acl")).ok().await.elements("Permission"), ["FULL_CONTROL"]);
    let anybody = shared().await.anonymous();
    assert_eq!(anybody.get(&format!("{target}?versionId={old}")).ok().await.text(), "old");
    anybody.get(&target).refused(403, "AccessDenied").await;
    let attributes = s3.get(&format!("{target}?attributes&versionId={old}"));
    let attributes = attributes.header("x-amz-object-attributes", "ObjectSize").ok().await;
    assert_eq!(attributes.element("ObjectSize").as_deref(), Some("3"));
    assert_eq!(version_of(&attributes), old);
}

#[tokio::test]
async fn pages_of_versions_go_on_amid_a_key() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let bucket = versioned_bucket(&here).await;
    let mut expected = Vec::new();
    for key in ["a", "a b", "dir/x", "dir/y", "\u{e9}+%"] {
        let target = format!("{bucket}/{}", encode(key));
        let mut versions = Vec::new();
        for round in 0..4 {
            versions.push((key.to_owned(), version_of(&here.put(&target).body(format!("{round}")).ok().await)));
        }
        versions.push((key.to_owned(), version_of(&here.delete(&target).ok().await)));
        expected.extend(versions.into_iter().rev());
    }
    for max_keys in [1, 3, 25] {
        let mut seen = Vec::new();
        let mut markers = String::new();
        loop {
            let page = there.get(&format!("{bucket}?versions&max-keys={max_keys}{markers}")).ok().await;
            let text = page.text();
            // In the order of the list: markers come after versions in an answer, so they are told apart by key here.
            let mut entries: Vec<(String, String)> =
                page.elements("Key").into_iter().zip(page.elements("VersionId")).collect();
            entries.sort_by_key(|entry| expected.iter().position(|expected| expected == entry));
            seen.extend(entries);
            match (page.element("NextKeyMarker"), page.element("NextVersionIdMarker")) {
                (Some(key), Some(version)) => {
                    markers = format!("&key-marker={}&version-id-marker={version}", encode(&key));
                }
                _ => {
                    assert!(text.contains("<IsTruncated>false</IsTruncated>"));
                    break;
                }
            }
        }
        assert_eq!(seen, expected, "{max_keys} at a time");
    }
    let folded = there.get(&format!("{bucket}?versions&delimiter=/&prefix=d")).ok().await;
    assert!(folded.text().contains("<CommonPrefixes><Prefix>dir/</Prefix></CommonPrefixes>"));
    assert!(folded.elements("VersionId").is_empty());
    here.get(&format!("{bucket}?versions&version-id-marker=null")).refused(400, "InvalidArgument").await;
    here.get(&format!("{bucket}?versions&key-marker=a&version-id-marker=x")).refused(400, "InvalidArgument").await;
}

#[tokio::test]
async fn wrong_version_ids_and_wrong_configurations_are_refused() {
    let s3 = shared().await.s3(0);
    let bucket = versioned_bucket(&s3).await;
    let target = format!("{bucket}/k");
    s3.put(&target).body("x").ok().await;
    for id in ["", "x", "3HL4kqtJlcpXroDTDmJ-rmSpXd3dIbrHY"] {
        s3.get(&format!("{target}?versionId={id}")).refused(400, "InvalidArgument").await;
        s3.delete(&format!("{target}?versionId={id}")).refused(400, "InvalidArgument").await;
    }
    let unknown = "0123456789abcdef0123456789abcdef";
    s3.get(&format!("{target}?versionId={unknown}")).refused(404, "NoSuchVersion").await;
    s3.get(&format!("{target}?versionId=null")).refused(404, "NoSuchVersion").await;
    s3.delete(&format!("{target}?versionId={unknown}")).ok().await;
    s3.put(&format!("{target}?versionId={unknown}")).body("x").refused(400, "InvalidArgument").await;
    let configure = |inner: &str| {
        let body = format!("<VersioningConfiguration>{inner}</VersioningConfiguration>");
        s3.put(&format!("{bucket}?versioning")).body(body)
    };
    configure("<Status>enabled</Status>").refused(400, "MalformedXML").await;
    configure("").refused(400, "IllegalVersioningConfigurationException").await;
    configure("<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>").refused(501, "NotImplemented").await;
    s3.put(&format!("{bucket}?versioning")).body("nonsense").refused(400, "MalformedXML").await;
    assert_eq!(s3.get(&format!("{bucket}?versioning")).ok().await.element("Status").as_deref(), Some("Enabled"));
    let other = shared().await.alt();
    other.get(&format!("{bucket}?versioning")).refused(403, "AccessDenied").await;
    other.put(&format!("{bucket}?versioning")).body("").refused(403, "AccessDenied").await;
}
