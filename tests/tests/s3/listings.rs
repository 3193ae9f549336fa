//! Listings: complete, in the order of the keys' bytes, page by page, whatever the prefix, the delimiter and the size of a page.
//!
//! What is checked is every page of a random walk against a model; what is not is how long it takes.

use std::collections::BTreeMap;

use annulus_tests::client::{Reply, S3, encode};
use annulus_tests::cluster::shared;
use percent_encoding::percent_decode_str;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::{etag, new_bucket};

const KEYS: usize = 120;

const WALKS: usize = 60;

/// What keys are made of.
const PIECES: &[&str] = &["a", "b", "ab", "/", "/", "//", "é", " ", "+", "%", "&", "🦀", "z", "-", "..", "\u{e000}"];

#[derive(Clone, Copy, Debug)]
enum Api {
    V1,
    V2,
    Versions,
}

#[derive(Debug)]
struct Walk<'a> {
    api: Api,
    prefix: &'a str,
    delimiter: &'a str,
    after: &'a str,
    page_size: usize,
    encoded: bool,
}

/// Keys, and what they begin with up to the delimiter, in order: `true` for a common prefix.
fn model(keys: &[String], walk: &Walk<'_>) -> Vec<(String, bool)> {
    let mut entries = BTreeMap::new();
    for key in keys {
        let Some(rest) = key.strip_prefix(walk.prefix) else { continue };
        let cut = if walk.delimiter.is_empty() { None } else { rest.find(walk.delimiter) };
        let (entry, common) = match cut {
            Some(at) => (&key[..walk.prefix.len() + at + walk.delimiter.len()], true),
            None => (key.as_str(), false),
        };
        // A page goes on behind its last entry: behind all that a common prefix stands for.
        if entry > walk.after && !(common && walk.after.starts_with(entry)) {
            entries.insert(entry.to_owned(), common);
        }
    }
    entries.into_iter().collect()
}

#[tokio::test]
async fn every_walk_sees_what_the_model_sees() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let bucket = new_bucket(&s3).await;
    let keys = put_random_keys(&s3, &bucket, &mut random).await;
    let prefixes = ["", "", "a", "/", "b/", "é", "none", "ab", "%", " "];
    let delimiters = ["", "/", "/", "a", "//", "é", "%"];
    for walk in 0..WALKS {
        let after = if random.random_bool(0.3) { keys.choose(&mut random).expect("there are keys") } else { "" };
        let walk = Walk {
            api: [Api::V1, Api::V2, Api::Versions][walk % 3],
            prefix: prefixes.choose(&mut random).expect("it is not empty"),
            delimiter: delimiters.choose(&mut random).expect("it is not empty"),
            after,
            page_size: *[1, 2, 3, 7, 50, 1_000].choose(&mut random).expect("it is not empty"),
            encoded: random.random_bool(0.5),
        };
        let seen = pages(&cluster.s3(random.random_range(0..2)), &bucket, &walk).await;
        assert_eq!(seen, model(&keys, &walk), "seed {seed}: {walk:?}");
    }
}

async fn put_random_keys(s3: &S3, bucket: &str, random: &mut StdRng) -> Vec<String> {
    let mut keys: Vec<String> = (0..KEYS)
        .map(|_| (0..random.random_range(1..6)).map(|_| *PIECES.choose(random).expect("there are pieces")).collect())
        .collect();
    keys.sort();
    keys.dedup();
    for keys in keys.chunks(16) {
        let puts = keys.iter().map(|key| s3.put(&format!("{bucket}/{}", encode(key))).body(key.clone()).ok());
        futures::future::join_all(puts).await;
    }
    keys
}

/// All entries of a walk. Every page is as full as it may be, and no page says that it is the last when it is not.
async fn pages(s3: &S3, bucket: &str, walk: &Walk<'_>) -> Vec<(String, bool)> {
    let mut seen = Vec::new();
    let mut from = match walk.api {
        _ if walk.after.is_empty() => String::new(),
        Api::V1 => format!("&marker={}", encode(walk.after)),
        Api::V2 => format!("&start-after={}", encode(walk.after)),
        Api::Versions => format!("&key-marker={}", encode(walk.after)),
    };
    loop {
        let what = match walk.api {
            Api::V1 => "",
            Api::V2 => "list-type=2&",
            Api::Versions => "versions&",
        };
        let encoding = if walk.encoded { "&encoding-type=url" } else { "" };
        let (prefix, delimiter, page_size) = (encode(walk.prefix), encode(walk.delimiter), walk.page_size);
        let query = format!("{what}prefix={prefix}&delimiter={delimiter}&max-keys={page_size}{encoding}{from}");
        let page = s3.get(&format!("{bucket}?{query}")).ok().await;
        let entries = entries(&page, walk);
        let truncated = page.element("IsTruncated").as_deref() == Some("true");
        assert!(entries.len() == page_size || !truncated, "a page that is not the last is full: {walk:?}");
        assert!(entries.len() <= page_size, "{walk:?}");
        seen.extend(entries);
        if !truncated {
            return seen;
        }
        from = next(&page, walk, &seen);
    }
}

fn entries(page: &Reply, walk: &Walk<'_>) -> Vec<(String, bool)> {
    let decode = |text: String| if walk.encoded { decoded(&text) } else { text };
    let keys = page.elements("Key").into_iter().map(|key| (decode(key), false));
    let common = page.elements("CommonPrefixes").into_iter().map(|inner| {
        let prefix = inner.strip_prefix("<Prefix>").and_then(|inner| inner.strip_suffix("</Prefix>"));
        (decode(prefix.expect("a common prefix holds a prefix").to_owned()), true)
    });
    let mut entries: Vec<(String, bool)> = keys.chain(common).collect();
    entries.sort();
    entries
}

/// How to ask for the page after this one.
fn next(page: &Reply, walk: &Walk<'_>, seen: &[(String, bool)]) -> String {
    let told = |name: &str| page.element(name).map(|text| if walk.encoded { decoded(&text) } else { text });
    let last = || seen.last().expect("a page that is not the last holds something").0.clone();
    match walk.api {
        Api::V1 => format!("&marker={}", encode(told("NextMarker").unwrap_or_else(last))),
        Api::V2 => {
            let token = page.element("NextContinuationToken").expect("a page that is not the last has a token");
            format!("&continuation-token={}", encode(token))
        }
        Api::Versions => {
            let key = told("NextKeyMarker").expect("a page that is not the last says where it ends");
            let version = page.element("NextVersionIdMarker").map(|id| format!("&version-id-marker={id}"));
            format!("&key-marker={}{}", encode(key), version.unwrap_or_default())
        }
    }
}

fn decoded(text: &str) -> String {
    // S3 writes a space as a plus sign or as %20.
    percent_decode_str(&text.replace('+', "%20")).decode_utf8().expect("keys are text").into_owned()
}

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
