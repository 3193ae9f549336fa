//! Every listing against a model, on random histories of random keys: objects, versions with their delete markers, and
//! uploads; any prefix, delimiter, marker and size of a page; keys of everything that UTF-8 can say.
//!
//! A failure shows the smallest walk that still fails, and the seed of the history that it fails on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use annulus_tests::client::{Reply, S3, encode};
use annulus_tests::cluster::shared;
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::new_bucket;

/// Buckets with histories of their own.
const HISTORIES: u64 = 3;

/// Walks through each of them.
const WALKS: u32 = 60;

/// Keys that a history is about, and what happens to them.
const KEYS: usize = 25;
const EVENTS: usize = 60;

/// What keys are made of. XML carries some of these only encoded, and some of them not at all.
const PIECES: &[&str] = &[
    "a",
    "b",
    "ab",
    "/",
    "/",
    "//",
    "-",
    ".",
    "..",
    " ",
    "+",
    "%",
    "%2F",
    "%ff",
    "&",
    "&amp;",
    "<",
    ">",
    "\"",
    "'",
    "\\",
    "?",
    "#",
    "=",
    "é",
    "e\u{301}",
    "🦀",
    "\u{e000}",
    "\u{10ffff}",
    "\u{fffe}",
    "\u{1}",
    "\u{1f}",
    "\u{7f}",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\u{85}",
];

/// One entry of a listing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Entry {
    /// A common prefix.
    Prefix(String),
    /// An object, a version or an upload: its key, and its id where it has one.
    Item { key: String, id: String, kind: Kind },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    /// An object, or an upload.
    Plain,
    /// A version, and whether it is the newest.
    Version { latest: bool },
    /// A delete marker, and whether it is the newest.
    Marker { latest: bool },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Api {
    V1,
    V2,
    Versions,
    Uploads,
}

/// How a listing is asked for.
#[derive(Debug)]
struct Walk {
    api: Api,
    prefix: Text,
    delimiter: Text,
    after: Text,
    /// Whether the marker also names a version, or an upload.
    after_id: Option<Index>,
    page_size: usize,
    encoded: bool,
    gateway: usize,
}

/// A text that has to do with the keys: a piece of one of them, or all of it, or nothing.
#[derive(Clone, Debug)]
struct Text {
    key: Index,
    /// Where it begins; at the beginning of the key where there is none.
    from: Option<Index>,
    characters: usize,
}

impl Text {
    fn of(&self, keys: &[String]) -> String {
        let characters: Vec<char> = self.key.get(keys).chars().collect();
        let from = self.from.map_or(0, |from| from.index(characters.len()));
        characters[from..].iter().take(self.characters).collect()
    }
}

/// Any piece of a key.
fn pieces(characters: Range<usize>) -> impl Strategy<Value = Text> {
    (any::<Index>(), any::<Index>(), characters).prop_map(|(key, from, characters)| Text {
        key,
        from: Some(from),
        characters,
    })
}

/// What a key begins with: nothing, a little, or all of it.
fn beginnings() -> impl Strategy<Value = Text> {
    (any::<Index>(), prop_oneof![Just(0), 1..5_usize, Just(usize::MAX)]).prop_map(|(key, characters)| Text {
        key,
        from: None,
        characters,
    })
}

fn walks() -> impl Strategy<Value = Walk> {
    let apis = select(vec![Api::V1, Api::V2, Api::Versions, Api::Versions, Api::Uploads]);
    let sizes = select(vec![1_000, 50, 7, 3, 2, 1]);
    let ids = proptest::option::weighted(0.3, any::<Index>());
    let delimiters = prop_oneof![pieces(0..1), pieces(1..2), pieces(1..6)];
    (apis, beginnings(), delimiters, beginnings(), ids, sizes, any::<bool>(), 0..2_usize).prop_map(
        |(api, prefix, delimiter, after, after_id, page_size, encoded, gateway)| Walk {
            api,
            prefix,
            delimiter,
            after,
            after_id,
            page_size,
            encoded,
            gateway,
        },
    )
}

/// What is in the bucket, in the order of listings.
#[derive(Default)]
struct History {
    keys: Vec<String>,
    /// Of each key its versions, the newest first: id and whether it is a delete marker.
    versions: BTreeMap<String, Vec<(String, bool)>>,
    /// Of each key its uploads, the oldest first.
    uploads: BTreeMap<String, Vec<String>>,
}

impl History {
    /// Puts, deletes, removals of versions, and uploads, at random.
    async fn make(bucket: &str, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let gateways = [shared().await.s3(0), shared().await.s3(1)];
        let keys: std::collections::BTreeSet<String> = (0..KEYS).map(|_| random_key(&mut random)).collect();
        let mut history = Self { keys: keys.into_iter().collect(), ..Self::default() };
        let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        gateways[0].put(&format!("{bucket}?versioning")).body(enabled).ok().await;
        for event in 0..EVENTS {
            let key = history.keys.choose(&mut random).expect("there are keys").clone();
            history.happen(&gateways[event % 2], bucket, &key, &mut random).await;
        }
        history
    }

    async fn happen(&mut self, s3: &S3, bucket: &str, key: &str, random: &mut StdRng) {
        let target = format!("{bucket}/{}", encode(key));
        let id = |reply: &Reply| reply.header("x-amz-version-id").expect("a version has an id").to_owned();
        let versions = self.versions.entry(key.to_owned()).or_default();
        match random.random_range(0..10) {
            0..5 => versions.insert(0, (id(&s3.put(&target).body("x").ok().await), false)),
            5..7 => versions.insert(0, (id(&s3.delete(&target).ok().await), true)),
            7 if !versions.is_empty() => {
                let (id, _) = versions.remove(random.random_range(0..versions.len()));
                s3.delete(&format!("{target}?versionId={id}")).ok().await;
            }
            _ => {
                let begun = s3.post(&format!("{target}?uploads")).ok().await;
                // Uploads come in the order of the milliseconds they were begun in; those of one have no order to expect.
                tokio::time::sleep(Duration::from_millis(2)).await;
                let id = begun.element("UploadId").expect("an upload has an id");
                self.uploads.entry(key.to_owned()).or_default().push(id);
            }
        }
    }

    /// All items of that kind of listing, in order.
    fn items(&self, api: Api) -> Vec<Entry> {
        let item = |key: &String, id: &str, kind| Entry::Item { key: key.clone(), id: id.to_owned(), kind };
        match api {
            Api::V1 | Api::V2 => {
                let current = self.versions.iter().filter(|(_, versions)| matches!(versions.first(), Some((_, false))));
                current.map(|(key, _)| item(key, "", Kind::Plain)).collect()
            }
            Api::Versions => {
                let kind = |place: usize, is_marker: bool| match is_marker {
                    true => Kind::Marker { latest: place == 0 },
                    false => Kind::Version { latest: place == 0 },
                };
                let of_key = |(key, versions): (&String, &Vec<(String, bool)>)| -> Vec<Entry> {
                    let versions = versions.iter().enumerate();
                    versions.map(|(place, (id, is_marker))| item(key, id, kind(place, *is_marker))).collect()
                };
                self.versions.iter().flat_map(of_key).collect()
            }
            Api::Uploads => {
                let of_key = |(key, uploads): (&String, &Vec<String>)| -> Vec<Entry> {
                    uploads.iter().map(|id| item(key, id, Kind::Plain)).collect()
                };
                self.uploads.iter().flat_map(of_key).collect()
            }
        }
    }

    fn ids(&self, api: Api, key: &str) -> Vec<String> {
        match api {
            Api::V1 | Api::V2 => Vec::new(),
            Api::Versions => self.versions.get(key).into_iter().flatten().map(|(id, _)| id.clone()).collect(),
            Api::Uploads => self.uploads.get(key).into_iter().flatten().cloned().collect(),
        }
    }
}

fn random_key(random: &mut StdRng) -> String {
    (0..random.random_range(1..6)).map(|_| *PIECES.choose(random).expect("there are pieces")).collect()
}

/// A walk's texts.
#[derive(Debug)]
struct Asked {
    prefix: String,
    delimiter: String,
    after: String,
    after_id: Option<String>,
}

impl Asked {
    fn of(walk: &Walk, history: &History) -> Self {
        let after = walk.after.of(&history.keys);
        let ids = history.ids(walk.api, &after);
        let after_id = walk.after_id.filter(|_| !ids.is_empty()).map(|index| index.get(&ids).clone());
        Self { prefix: walk.prefix.of(&history.keys), delimiter: walk.delimiter.of(&history.keys), after, after_id }
    }

    /// What a listing of these items shows: keys with the prefix, those with the delimiter behind it as one common prefix,
    /// from behind the marker on.
    fn expected(&self, items: Vec<Entry>) -> Vec<Entry> {
        let mut shown: Vec<Entry> = Vec::new();
        let mut is_behind = self.after.is_empty();
        for item in items {
            let Entry::Item { key, id, .. } = &item else { unreachable!("a history has no prefixes") };
            let was_behind = is_behind || *key > self.after;
            is_behind |= *key == self.after && self.after_id.as_ref() == Some(id);
            let is_behind = was_behind;
            let Some(rest) = key.strip_prefix(&self.prefix) else { continue };
            let cut = if self.delimiter.is_empty() { None } else { rest.find(&self.delimiter) };
            let entry = match cut {
                Some(at) => Entry::Prefix(key[..self.prefix.len() + at + self.delimiter.len()].to_owned()),
                None => item.clone(),
            };
            // All that a common prefix stands for is behind it, or nothing.
            let passed = matches!(&entry, Entry::Prefix(prefix) if self.after.starts_with(prefix.as_str()));
            if is_behind && !passed && shown.last() != Some(&entry) {
                shown.push(entry);
            }
        }
        shown
    }
}

#[test]
fn every_walk_shows_what_the_model_shows() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for _ in 0..HISTORIES {
        let seed = rand::random();
        println!("history {seed}");
        let (bucket, history) = runtime.block_on(async {
            let bucket = new_bucket(&shared().await.s3(0)).await;
            let history = History::make(&bucket, seed).await;
            (bucket, history)
        });
        let config = Config { cases: WALKS, failure_persistence: None, ..Config::default() };
        let walked = TestRunner::new(config)
            .run(&walks(), |walk| runtime.block_on(check(&bucket, &history, &walk)).map_err(TestCaseError::fail));
        walked.unwrap_or_else(|failure| panic!("history {seed}: {failure}"));
    }
}

/// Every page of the walk is the next of what the model shows, as full as it may be.
async fn check(bucket: &str, history: &History, walk: &Walk) -> Result<(), String> {
    let asked = Asked::of(walk, history);
    let expected = asked.expected(history.items(walk.api));
    let s3 = shared().await.s3(walk.gateway);
    let mut rest = expected.as_slice();
    let mut from = first_marker(walk.api, &asked);
    loop {
        let page = s3.get(&format!("{bucket}?{}{from}", query(walk, &asked))).ok().await;
        let (entries, names) = (entries(&page, walk.api), Names::of(&page));
        let next = rest.len().min(walk.page_size);
        let (here, later) = rest.split_at(next);
        let context = || format!("{asked:?}\n{}", page.text());
        for kind in [is_prefix, is_version, is_marker] as [fn(&Entry) -> bool; 3] {
            let of_kind = |entries: &[Entry]| entries.iter().filter(|entry| kind(entry)).cloned().collect::<Vec<_>>();
            if of_kind(&entries) != of_kind(here) {
                return Err(format!("{:?} instead of {:?}\n{}", of_kind(&entries), of_kind(here), context()));
            }
        }
        let truncated = page.element("IsTruncated").as_deref() == Some("true");
        if truncated == later.is_empty() {
            return Err(format!("is truncated: {truncated}, {} entries later\n{}", later.len(), context()));
        }
        if names.told(&page, "Prefix") != asked.prefix {
            return Err(format!("the prefix is not what was asked for\n{}", context()));
        }
        if !truncated {
            return Ok(());
        }
        rest = later;
        from = next_marker(walk.api, &page, &names, here);
    }
}

fn is_prefix(entry: &Entry) -> bool {
    matches!(entry, Entry::Prefix(_))
}

fn is_marker(entry: &Entry) -> bool {
    matches!(entry, Entry::Item { kind: Kind::Marker { .. }, .. })
}

fn is_version(entry: &Entry) -> bool {
    !is_prefix(entry) && !is_marker(entry)
}

fn query(walk: &Walk, asked: &Asked) -> String {
    let (what, size) = match walk.api {
        Api::V1 => ("", "max-keys"),
        Api::V2 => ("list-type=2&", "max-keys"),
        Api::Versions => ("versions&", "max-keys"),
        Api::Uploads => ("uploads&", "max-uploads"),
    };
    let encoding = if walk.encoded { "&encoding-type=url" } else { "" };
    let (prefix, delimiter, page_size) = (encode(&asked.prefix), encode(&asked.delimiter), walk.page_size);
    format!("{what}prefix={prefix}&delimiter={delimiter}&{size}={page_size}{encoding}")
}

fn first_marker(api: Api, asked: &Asked) -> String {
    let (name, id_name) = match api {
        Api::V1 => ("marker", ""),
        Api::V2 => ("start-after", ""),
        Api::Versions => ("key-marker", "version-id-marker"),
        Api::Uploads => ("key-marker", "upload-id-marker"),
    };
    let id = asked.after_id.as_ref().map(|id| format!("&{id_name}={}", encode(id)));
    match asked.after.as_str() {
        "" => String::new(),
        after => format!("&{name}={}{}", encode(after), id.unwrap_or_default()),
    }
}

/// How to ask for the next page: as it says, or, in the first version without a delimiter, behind its last key.
fn next_marker(api: Api, page: &Reply, names: &Names, shown: &[Entry]) -> String {
    let id = |element: &str, name: &str| {
        page.element(element).filter(|id| !id.is_empty()).map(|id| format!("&{name}={id}")).unwrap_or_default()
    };
    let key = |element: &str| page.element(element).map(|name| names.decode(&name));
    match api {
        Api::V1 => {
            let last = || match shown.last().expect("a page that is not the last shows something") {
                Entry::Prefix(prefix) => prefix.clone(),
                Entry::Item { key, .. } => key.clone(),
            };
            format!("&marker={}", encode(key("NextMarker").unwrap_or_else(last)))
        }
        Api::V2 => {
            format!("&continuation-token={}", page.element("NextContinuationToken").expect("there is a next page"))
        }
        Api::Versions => {
            let next = key("NextKeyMarker").expect("there is a next page");
            format!("&key-marker={}{}", encode(next), id("NextVersionIdMarker", "version-id-marker"))
        }
        Api::Uploads => {
            let next = key("NextKeyMarker").expect("there is a next page");
            format!("&key-marker={}{}", encode(next), id("NextUploadIdMarker", "upload-id-marker"))
        }
    }
}

/// How a page writes names: as it says itself, for it encodes unasked what XML cannot carry.
struct Names {
    encoded: bool,
}

impl Names {
    fn of(page: &Reply) -> Self {
        Self { encoded: page.element("EncodingType").as_deref() == Some("url") }
    }

    fn decode(&self, name: &str) -> String {
        if !self.encoded {
            return name.to_owned();
        }
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "an encoded name is plain ASCII: {name:?}");
        percent_decode_str(&name.replace('+', "%20")).decode_utf8().expect("keys are UTF-8").into_owned()
    }

    /// What the page says of the request. The first version's prefix is encoded only where a reader could not tell.
    fn told(&self, page: &Reply, name: &str) -> String {
        let head = page.text().split("<CommonPrefixes>").map(without_common_prefix).collect::<String>();
        let text = Reply { body: head.into(), ..page.clone() }.element(name).unwrap_or_default();
        if self.encoded { percent_decode_str(&text).decode_utf8().expect("UTF-8").into_owned() } else { text }
    }
}

/// What follows a common prefix, which holds an element of the same name as the page does.
fn without_common_prefix(text: &str) -> &str {
    text.split_once("</CommonPrefixes>").map_or(text, |(_, rest)| rest)
}

/// A page's entries, kind by kind.
fn entries(page: &Reply, api: Api) -> Vec<Entry> {
    let names = Names::of(page);
    let text = page.text();
    let blocks = |name: &str| -> Vec<Reply> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let inner = text.split(&open).skip(1).filter_map(|rest| rest.split_once(&close).map(|(inner, _)| inner));
        inner.map(|inner| Reply { body: inner.to_owned().into(), ..page.clone() }).collect()
    };
    let item = |block: &Reply, id: &str, kind: Kind| Entry::Item {
        key: names.decode(&block.element("Key").expect("an item has a key")),
        id: block.element(id).unwrap_or_default(),
        kind,
    };
    let latest = |block: &Reply| block.element("IsLatest").as_deref() == Some("true");
    let prefixes = blocks("CommonPrefixes").into_iter();
    let prefixes =
        prefixes.map(|block| Entry::Prefix(names.decode(&block.element("Prefix").expect("it has a prefix"))));
    let items: Vec<Entry> = match api {
        Api::V1 | Api::V2 => blocks("Contents").iter().map(|block| item(block, "none", Kind::Plain)).collect(),
        Api::Uploads => blocks("Upload").iter().map(|block| item(block, "UploadId", Kind::Plain)).collect(),
        Api::Versions => {
            let versions = blocks("Version");
            let versions = versions.iter().map(|v| item(v, "VersionId", Kind::Version { latest: latest(v) }));
            let markers = blocks("DeleteMarker");
            let markers = markers.iter().map(|m| item(m, "VersionId", Kind::Marker { latest: latest(m) }));
            versions.chain(markers).collect()
        }
    };
    prefixes.chain(items).collect()
}

/// A key, a prefix and a marker are UTF-8: what is not, surrogates written as such among it, is refused and stores nothing.
#[tokio::test]
async fn what_is_not_utf_8_is_refused() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    for wrong in ["%ff", "a%80", "%ED%A0%80", "%ed%b0%80b", "%C0%AF", "%F4%90%80%80"] {
        s3.put(&format!("{bucket}/{wrong}")).body("x").refused(400, "InvalidURI").await;
        s3.get(&format!("{bucket}/{wrong}")).refused(400, "InvalidURI").await;
        s3.delete(&format!("{bucket}/{wrong}")).refused(400, "InvalidURI").await;
        for argument in ["prefix", "delimiter", "marker"] {
            s3.get(&format!("{bucket}?{argument}={wrong}")).refused(400, "InvalidURI").await;
        }
    }
    assert!(s3.get(&bucket).ok().await.elements("Key").is_empty());
}
