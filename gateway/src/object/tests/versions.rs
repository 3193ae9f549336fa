//! Versions, seen from above the seam: what a versioned bucket keeps, and what its listings say.

use annulus_common::object::{ListedItem, VersionId, Versioning};
use annulus_common::protocol::metadata::Entry;

use super::{Bench, deletion};
use crate::object::{Deleted, ListVersions, ObjectError};

impl Bench {
    /// Key and version of every version, a common prefix without one, in pages of that size.
    async fn versions(&self, delimiter: Option<&str>, max_keys: u32) -> Vec<(String, Option<VersionId>)> {
        let (mut listed, mut after): (Vec<_>, Option<(String, Option<VersionId>)>) = (Vec::new(), None);
        loop {
            let list = ListVersions {
                bucket: &self.bucket,
                prefix: "",
                delimiter,
                after_key: after.as_ref().map(|(key, _)| key.as_str()),
                after_version: after.as_ref().and_then(|(_, version)| *version),
                max_keys,
            };
            let page = self.objects.list_versions(list).await.unwrap();
            assert!(page.entries.len() <= max_keys as usize);
            listed.extend(page.entries.into_iter().map(|entry| match entry {
                Entry::Item(version) => (version.item.key().to_owned(), Some(version.item.version())),
                Entry::Prefix(prefix) => (prefix, None),
            }));
            match page.next {
                Some(next) => after = Some(next),
                None => return listed,
            }
        }
    }
}

#[tokio::test]
async fn a_versioned_bucket_keeps_what_is_replaced_and_deleted() {
    let bench = Bench::new().await.with_versioning(Versioning::Enabled).await;
    let first = bench.put_bytes("k", b"first").await.unwrap();
    let second = bench.put_bytes("k", b"second").await.unwrap();
    let Deleted::Marked(marker) = bench.delete(deletion("k", None)).await.unwrap() else { panic!("nothing is kept") };
    assert!(matches!(bench.get("k").await, Err(ObjectError::Deleted(found)) if found.version == marker));
    for (written, bytes) in [(&first, &b"first"[..]), (&second, b"second")] {
        let found = bench.objects.get(&bench.bucket, "k", Some(written.version)).await.unwrap();
        assert_eq!(bench.read(&found, 0..bytes.len() as u64).await.unwrap(), bytes);
    }
    let found = bench.objects.get(&bench.bucket, "k", Some(marker)).await;
    assert!(matches!(found, Err(ObjectError::IsDeleteMarker(_))));
    let unknown = bench.objects.get(&bench.bucket, "k", Some(VersionId::Id([7; 16]))).await;
    assert!(matches!(unknown, Err(ObjectError::NoSuchVersion)));
    let all = [marker, second.version, first.version].map(|version| ("k".to_owned(), Some(version)));
    for max_keys in [1, 2, 1_000] {
        assert_eq!(bench.versions(None, max_keys).await, all);
    }
    assert_eq!(bench.delete(deletion("k", Some(marker))).await.unwrap(), Deleted::MarkerGone);
    assert_eq!(bench.get("k").await.unwrap().version, second.version);
    assert!(matches!(bench.objects.delete_bucket("b").await, Err(ObjectError::BucketNotEmpty)));
}

#[tokio::test]
async fn suspended_versioning_replaces_the_null_version_alone() {
    let bench = Bench::new().await;
    bench.put_bytes("k", b"before").await.unwrap();
    let bench = bench.with_versioning(Versioning::Enabled).await;
    let kept = bench.put_bytes("k", b"kept").await.unwrap();
    let bench = bench.with_versioning(Versioning::Suspended).await;
    assert_eq!(bench.put_bytes("k", b"after").await.unwrap().version, VersionId::Null);
    let all = [VersionId::Null, kept.version].map(|version| ("k".to_owned(), Some(version)));
    assert_eq!(bench.versions(None, 1).await, all);
    assert_eq!(bench.delete(deletion("k", None)).await.unwrap(), Deleted::Marked(VersionId::Null));
    assert_eq!(bench.versions(None, 1_000).await, all);
    assert_eq!(bench.delete(deletion("k", Some(VersionId::Null))).await.unwrap(), Deleted::MarkerGone);
    assert_eq!(bench.get("k").await.unwrap().version, kept.version);
}

/// A page may end amid a key whose shard has more of it than a page, and a marker may be gone when the next page is asked for.
#[tokio::test]
async fn versions_of_many_shards_are_merged_by_key() {
    let bench = Bench::new().await.with_versioning(Versioning::Enabled).await;
    let mut expected = Vec::new();
    for number in 0..30 {
        let key = format!("k{number:02}");
        let mut versions = Vec::new();
        for _ in 0..number % 4 + 1 {
            versions.push((key.clone(), Some(bench.put_bytes(&key, b"x").await.unwrap().version)));
        }
        expected.extend(versions.into_iter().rev());
    }
    for max_keys in [1, 3, 7, 1_000] {
        assert_eq!(bench.versions(None, max_keys).await, expected);
    }
    assert_eq!(bench.versions(Some("k0"), 1).await[0], ("k0".to_owned(), None));
    bench.cluster.state.lock().metadata.page_max = Some(2);
    assert_eq!(bench.versions(None, 5).await, expected);
    let gone = ListVersions {
        bucket: &bench.bucket,
        prefix: "",
        delimiter: None,
        after_key: Some("k29"),
        after_version: Some(VersionId::Null),
        max_keys: 10,
    };
    let page = bench.objects.list_versions(gone).await.unwrap();
    let latest = |entry: &Entry<_>| matches!(entry, Entry::Item(version) if is_latest(version));
    assert_eq!(page.entries.iter().map(latest).collect::<Vec<_>>(), [true, false]);
}

fn is_latest(version: &annulus_common::object::ListedVersion) -> bool {
    version.is_latest && matches!(version.item, ListedItem::Object(_))
}

#[tokio::test]
async fn one_request_deletes_versions_of_one_key_in_order() {
    let bench = Bench::new().await.with_versioning(Versioning::Enabled).await;
    let first = bench.put_bytes("k", b"first").await.unwrap();
    let second = bench.put_bytes("k", b"second").await.unwrap();
    let asked = [deletion("k", None), deletion("k", Some(first.version)), deletion("k", Some(second.version))];
    let outcomes = bench.objects.delete_many(bench.deletions(asked)).await;
    let outcomes: Vec<Deleted> = outcomes.into_iter().map(Result::unwrap).collect();
    let [Deleted::Marked(marker), Deleted::Gone, Deleted::Gone] = outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(bench.versions(None, 10).await, [("k".to_owned(), Some(marker))]);
}
