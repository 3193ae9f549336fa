//! Listings against a model: the sorted set of all keys, cut by hand.

use std::collections::BTreeSet;

use annulus_common::ids::{RequestId, UploadId};
use annulus_common::map::ClusterMap;
use annulus_common::object::{
    Data, ETag, NewObject, ObjectAttributes, ObjectHeaders, ObjectVersion, Version, VersionId,
};
use annulus_common::protocol::metadata::Entry;
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use super::Bench;
use crate::client::testing::{OWNER, queries};
use crate::object::{CreateUpload, ListObjects, ListUploads};

impl Bench {
    fn shelve(&self, key: &str) {
        let path = ClusterMap::key_path(&self.bucket, key);
        let object = NewObject {
            owner: OWNER,
            size: 0,
            etag: ETag { md5: [0; 16], parts: None },
            checksum: None,
            headers: ObjectHeaders::default(),
            attributes: ObjectAttributes::default(),
            encryption: None,
            data: Data::Inline(bytes::Bytes::new()),
        };
        let version = ObjectVersion {
            version: VersionId::Null,
            sequence: 1,
            modified_ms: 0,
            request: RequestId([0; 16]),
            upload: None,
            object,
        };
        let held = vec![Version::Object(Box::new(version))];
        self.cluster.state.lock().metadata.versions.insert(((path.bucket, path.shard), path.key), held);
    }

    /// All pages from `after` on.
    async fn list_all(&self, prefix: &str, delimiter: Option<&str>, after: Option<&str>, max_keys: u32) -> Vec<String> {
        let mut names = Vec::new();
        let mut after = after.map(str::to_owned);
        loop {
            let list = ListObjects { bucket: &self.bucket, prefix, delimiter, after: after.as_deref(), max_keys };
            let page = self.objects.list(list).await.unwrap();
            assert!(page.entries.len() <= max_keys as usize);
            assert!(page.next.is_none() || page.entries.len() == max_keys as usize, "a page that goes on is full");
            names.extend(page.entries.iter().map(|entry| match entry {
                Entry::Item(item) => item.key.clone(),
                Entry::Prefix(prefix) => prefix.clone(),
            }));
            match page.next {
                Some(next) => after = Some(next),
                None => return names,
            }
        }
    }
}

/// What S3 says a listing is.
fn model(keys: &BTreeSet<String>, prefix: &str, delimiter: Option<&str>, after: Option<&str>) -> Vec<String> {
    let name = |key: &str| {
        let rest = &key[prefix.len()..];
        let end = delimiter.and_then(|delimiter| Some(rest.find(delimiter)? + delimiter.len()));
        key[..end.map_or(key.len(), |end| prefix.len() + end)].to_owned()
    };
    let passed = after.filter(|after| after.starts_with(prefix)).map(&name);
    let held =
        keys.iter().filter(|key| key.starts_with(prefix)).filter(|key| after.is_none_or(|after| key.as_str() > after));
    let names: BTreeSet<String> = held.map(|key| name(key)).collect();
    names.into_iter().filter(|name| Some(name) != passed.as_ref()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_listing_is_the_sorted_set(
        keys in proptest::collection::btree_set("[ab/\u{e9}\u{10ffff}]{1,4}", 0..60),
        prefix in "[ab/]{0,2}",
        delimiter in proptest::option::of("[/b]{1,2}"),
        after in proptest::option::of("[ab/]{1,4}"),
        max_keys in 1..12u32,
        page_max in proptest::option::of(1..5usize),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new().await;
            keys.iter().for_each(|key| bench.shelve(key));
            bench.cluster.state.lock().metadata.page_max = page_max;
            let listed = bench.list_all(&prefix, delimiter.as_deref(), after.as_deref(), max_keys).await;
            prop_assert_eq!(listed, model(&keys, &prefix, delimiter.as_deref(), after.as_deref()));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_page_asks_each_node_once() {
    let bench = Bench::new().await;
    (0..3_000).for_each(|number| bench.shelve(&format!("k{number:05}")));
    let list = ListObjects { bucket: &bench.bucket, prefix: "", delimiter: None, after: None, max_keys: 1_000 };
    let page = bench.objects.list(list).await.unwrap();
    assert_eq!((page.entries.len(), page.next.as_deref()), (1_000, Some("k00999")));
    assert!(bench.cluster.requests(|request| queries(request, |_| true)) <= 6);
}

#[tokio::test]
async fn an_empty_page_is_not_truncated() {
    let bench = Bench::new().await;
    bench.shelve("k");
    let list = ListObjects { bucket: &bench.bucket, prefix: "", delimiter: None, after: None, max_keys: 0 };
    let page = bench.objects.list(list).await.unwrap();
    assert!(page.entries.is_empty() && page.next.is_none());
    assert_eq!(bench.list_all("", None, Some("zzz"), 10).await, Vec::<String>::new());
    assert_eq!(bench.list_all("", Some(""), None, 10).await, ["k"]);
}

#[tokio::test]
async fn prefixes_that_all_shards_have_come_once() {
    let bench = Bench::new().await;
    for directory in 0..300 {
        (0..20).for_each(|file| bench.shelve(&format!("d{directory:03}/{file}")));
    }
    let listed = bench.list_all("", Some("/"), None, 1_000).await;
    assert_eq!(listed, (0..300).map(|directory| format!("d{directory:03}/")).collect::<Vec<_>>());
    assert_eq!(bench.list_all("", Some("/"), Some("d100/7"), 1_000).await.len(), 199);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn uploads_are_listed_by_key_then_id(
        keys in proptest::collection::vec("[ab/]{1,3}", 0..40),
        delimiter in proptest::option::of("/"),
        max_uploads in 1..7u32,
        page_max in proptest::option::of(1..5usize),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new().await;
            let mut expected: BTreeSet<(String, Option<UploadId>)> = BTreeSet::new();
            for key in &keys {
                let create =
                    CreateUpload { bucket: &bench.bucket, key, initiator: OWNER, owner: OWNER, headers: ObjectHeaders::default(), attributes: ObjectAttributes::default(), checksum: None, encrypt: None };
                let upload = bench.objects.create_upload(create).await.unwrap();
                match delimiter.as_ref().and_then(|_| key.find('/')) {
                    Some(at) => expected.insert((key[..=at].to_owned(), None)),
                    None => expected.insert((key.clone(), Some(upload.id))),
                };
            }
            bench.cluster.state.lock().metadata.page_max = page_max;
            let mut listed = Vec::new();
            let mut after: Option<(String, Option<UploadId>)> = None;
            loop {
                let page = bench.objects.list_uploads(ListUploads {
                    bucket: &bench.bucket,
                    prefix: "",
                    delimiter: delimiter.as_deref(),
                    after_key: after.as_ref().map(|(key, _)| key.as_str()),
                    after_upload: after.as_ref().and_then(|(_, upload)| *upload),
                    max_uploads,
                }).await.unwrap();
                prop_assert!(page.entries.len() <= max_uploads as usize);
                listed.extend(page.entries.into_iter().map(|entry| match entry {
                    Entry::Item(upload) => (upload.key, Some(upload.id)),
                    Entry::Prefix(prefix) => (prefix, None),
                }));
                if page.next.is_none() {
                    break;
                }
                after = page.next;
            }
            prop_assert_eq!(listed, expected.into_iter().collect::<Vec<_>>());
            Ok(())
        })?;
    }
}
