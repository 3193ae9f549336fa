//! Ranges: every way to ask for some of an object's bytes, against a model.

use std::ops::Range;

use annulus_tests::cluster::shared;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{CHUNK_BYTES, INLINE_BYTES_MAX, content, new_bucket};

/// What S3 answers to a `Range` header.
#[derive(Debug, PartialEq)]
enum Answer {
    Whole,
    Part(Range<usize>),
    Unsatisfiable,
}

/// RFC 9110 section 14.1.2. What makes no sense is ignored, and so are several ranges.
fn model(header: &str, size: usize) -> Answer {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|ends| ends.split_once('-')) else {
        return Answer::Whole;
    };
    match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) if first > last => Answer::Whole,
        (Ok(first), _) if first >= size => Answer::Unsatisfiable,
        (Ok(first), Ok(last)) => Answer::Part(first..(last + 1).min(size)),
        (Ok(first), Err(_)) if last.is_empty() => Answer::Part(first..size),
        (Err(_), Ok(0)) if first.is_empty() => Answer::Unsatisfiable,
        (Err(_), Ok(_)) if first.is_empty() && size == 0 => Answer::Unsatisfiable,
        (Err(_), Ok(length)) if first.is_empty() => Answer::Part(size.saturating_sub(length)..size),
        _ => Answer::Whole,
    }
}

async fn check(size: usize, headers: &[String]) {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let (target, body) = (format!("{}/k", new_bucket(&s3).await), content(size, 7));
    s3.put(&target).body(body.clone()).ok().await;
    for header in headers {
        let got = s3.get(&target).header("range", header).send().await;
        let head = s3.head(&target).header("range", header).send().await;
        assert_eq!(head.status, got.status, "HEAD of {header} of {size} bytes");
        match model(header, size) {
            Answer::Whole => {
                assert_eq!(got.status, 200, "{header} of {size} bytes");
                assert!(got.body == body, "{header} of {size} bytes");
            }
            Answer::Part(range) => {
                assert_eq!(got.status, 206, "{header} of {size} bytes: {}", got.text());
                assert!(got.body == body[range.clone()], "{header} of {size} bytes");
                let told = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                assert_eq!(got.header("content-range"), Some(told.as_str()));
                assert_eq!(head.header("content-range"), Some(told.as_str()));
                assert_eq!(head.header("content-length"), Some(range.len().to_string().as_str()));
            }
            Answer::Unsatisfiable => {
                assert_eq!(
                    (got.status.as_u16(), got.code().as_deref()),
                    (416, Some("InvalidRange")),
                    "{header} of {size}"
                );
                assert_eq!(got.header("content-range"), Some(format!("bytes */{size}").as_str()));
            }
        }
    }
}

#[tokio::test]
async fn ranges_of_small_objects() {
    for size in [0, 1, 10, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1] {
        let mut headers: Vec<String> = Vec::new();
        for at in [0, 1, 5, 9, 10, size.saturating_sub(1), size, size + 1, 1 << 40] {
            headers.push(format!("bytes={at}-"));
            headers.push(format!("bytes=-{at}"));
            headers.push(format!("bytes=0-{at}"));
            headers.push(format!("bytes={at}-{at}"));
            headers.push(format!("bytes={at}-{}", at + 3));
        }
        check(size, &headers).await;
    }
}

#[tokio::test]
async fn ranges_without_sense_are_ignored() {
    let headers = ["bytes=5-3", "bytes=0-1,3-4", "bytes=", "bytes=-", "bytes=a-b", "lines=0-1", "bytes", "bytes=1-2-3"];
    check(20, &headers.map(str::to_owned)).await;
}

#[tokio::test]
async fn ranges_across_chunks() {
    let size = 2 * CHUNK_BYTES + 1_000;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut headers = Vec::new();
    for edge in [CHUNK_BYTES, 2 * CHUNK_BYTES, size, 256 << 10] {
        headers.push(format!("bytes={}-{}", edge - 1, edge));
        headers.push(format!("bytes={}-{}", edge - 1, edge - 1));
        headers.push(format!("bytes={}-{}", edge.saturating_sub(300_000), edge + 10));
    }
    headers.push(format!("bytes={}-{}", CHUNK_BYTES - 1, 2 * CHUNK_BYTES));
    for _ in 0..20 {
        let first = random.random_range(0..size);
        let length = random.random_range(1..200_000);
        headers.push(format!("bytes={first}-{}", first + length));
        headers.push(format!("bytes=-{length}"));
    }
    check(size, &headers).await;
}

/// A download that goes on where another one ended takes the rest of the same object, or all of the new one.
#[tokio::test]
async fn a_range_may_be_of_a_known_object_alone() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    s3.put(&target).body("0123456789").ok().await;
    let told = s3.head(&target).ok().await;
    let told = |name: &str| told.header(name).expect("a validator").to_owned();
    let (etag, modified) = (told("etag"), told("last-modified"));
    let weak = format!("W/{etag}");
    let bare = etag.trim_matches('"');
    for (known, is_same) in [
        (etag.as_str(), true),
        (&modified, true),
        (&weak, false),
        (bare, false),
        ("*", false),
        ("\"0123\"", false),
        ("Sat, 29 Oct 1994 19:43:31 GMT", false),
        ("yesterday", false),
    ] {
        let get = |range: &str| s3.get(&target).header("range", range).header("if-range", known);
        let got = get("bytes=4-5").ok().await;
        let expected = if is_same { (206, "45") } else { (200, "0123456789") };
        assert_eq!((got.status.as_u16(), got.text().as_str()), expected, "{known}");
        let head = s3.head(&target).header("range", "bytes=4-5").header("if-range", known).ok().await;
        assert_eq!(head.status, got.status, "{known}");
        let behind = get("bytes=10-").send().await;
        assert_eq!(behind.status, if is_same { 416 } else { 200 }, "{known}: an object that shrank");
    }
    s3.get(&target).header("if-range", "\"0123\"").ok().await;
    let both = s3.get(&format!("{target}?partNumber=1")).header("range", "bytes=0-1").header("if-range", "\"0123\"");
    both.refused(400, "InvalidRequest").await;
}
