//! Checksums: what a client says of its bytes is compared before anything is stored, kept, and told again.

use annulus_common::checksum::{ChecksumAlgorithm, ChecksumValue};
use annulus_tests::client::S3;
use annulus_tests::cluster::shared;
use aws_sigv4::http_request::SignableBody;
use sha2::{Digest, Sha256};

use crate::{CHUNK_BYTES, assert_absent, content, new_bucket};

/// The check values of "123456789", from the catalogue of CRCs and from sha1sum and sha256sum.
const KNOWN: &[(&str, &str)] = &[
    ("x-amz-checksum-crc32", "y/Q5Jg=="),
    ("x-amz-checksum-crc32c", "4waSgw=="),
    ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
    ("x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
    ("x-amz-checksum-sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
];

const DIGITS: &str = "123456789";

/// The MD5 of "123456789", as md5sum says.
const DIGITS_MD5: &str = "JfnnlDI7RTiF9RgfG2JNCw==";

#[tokio::test]
async fn each_algorithm_is_compared_stored_and_told() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    for (header, value) in KNOWN {
        let put = s3.put(&target).header(header, value).body(DIGITS).ok().await;
        assert_eq!(put.header(header), Some(*value));
        for read in [s3.get(&target), s3.head(&target)] {
            let told = read.header("x-amz-checksum-mode", "ENABLED").ok().await;
            assert_eq!(told.header(header), Some(*value));
            assert_eq!(told.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
        }
        let attributes =
            s3.get(&format!("{target}?attributes")).header("x-amz-object-attributes", "Checksum").ok().await;
        assert!(attributes.text().contains(value), "{}", attributes.text());
    }
}

#[tokio::test]
async fn a_wrong_checksum_is_refused_and_nothing_is_stored() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    for (header, value) in KNOWN {
        for body in ["12345678", "1234567890", ""] {
            s3.put(&target).header(header, value).body(body).refused(400, "BadDigest").await;
        }
        // A number of parts is of what has parts.
        for malformed in ["", "bad", "####", "AAAA", &format!("{value}-1")] {
            let put = s3.put(&target).header(header, malformed).body(DIGITS).send().await;
            assert_eq!(put.status, 400, "{header}: {malformed}: {}", put.text());
        }
    }
    assert_absent(&s3, &target).await;
}

#[tokio::test]
async fn a_wrong_checksum_of_a_large_body_is_noticed_too() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let body = content(CHUNK_BYTES + 100, 5);
    for algorithm in ChecksumAlgorithm::ALL {
        let put = |value: String| s3.put(&target).header(algorithm.header_name(), &value).body(body.clone());
        let wrong = ChecksumValue::of(algorithm, b"something else").to_string();
        put(wrong).refused(400, "BadDigest").await;
        assert_absent(&s3, &target).await;
        put(ChecksumValue::of(algorithm, &body).to_string()).ok().await;
        assert!(s3.get(&target).ok().await.body == body);
        s3.delete(&target).ok().await;
    }
}

#[tokio::test]
async fn two_checksums_are_one_too_many() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let put = KNOWN[..2].iter().fold(s3.put(&target), |put, (header, value)| put.header(header, value));
    put.body(DIGITS).refused(400, "InvalidRequest").await;
    assert_absent(&s3, &target).await;
}

#[tokio::test]
async fn content_md5_is_compared() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let put = |md5: &str, body: &'static str| s3.put(&target).header("content-md5", md5).body(body);
    put(DIGITS_MD5, "12345678").refused(400, "BadDigest").await;
    for malformed in ["", "no md5", "JfnnlDI7RTiF9RgfG2JN", "25f9e794323b453885f5181f1b624d0b"] {
        put(malformed, DIGITS).refused(400, "InvalidDigest").await;
    }
    assert_absent(&s3, &target).await;
    put(DIGITS_MD5, DIGITS).ok().await;
}

#[tokio::test]
async fn a_body_that_is_not_what_was_signed_is_refused() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    for size in [10, 100_000] {
        let body = content(size, 9);
        let signed = SignableBody::Precomputed("0".repeat(64));
        let put = s3.put(&target).signed_body(signed).body(body);
        put.refused(400, "XAmzContentSHA256Mismatch").await;
        assert_absent(&s3, &target).await;
    }
}

/// Documents take another way than objects.
#[tokio::test]
async fn the_digest_of_a_small_body_is_told_to_who_got_it_wrong() {
    const TAGS: &[u8] = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let object = content(20_000, 9);
    for (target, body, told) in [
        (format!("{bucket}/k"), object, true),
        (format!("{bucket}?tagging"), bytes::Bytes::from_static(TAGS), true),
        (format!("{bucket}/k"), content(100_000, 9), false),
    ] {
        let digest = hex::encode(Sha256::digest(&body));
        let put = s3.put(&target).signed_body(SignableBody::Precomputed("0".repeat(64))).body(body);
        let refused = put.refused(400, "XAmzContentSHA256Mismatch").await;
        assert_eq!(refused.element("ClientComputedContentSHA256"), Some("0".repeat(64)), "{target}");
        assert_eq!(refused.element("S3ComputedContentSHA256"), told.then_some(digest), "{target}");
    }
}

/// A body in frames with its checksum behind it, as SDKs send it.
fn framed(body: &[u8], frame_bytes: usize, trailer: &str) -> Vec<u8> {
    let mut framed = Vec::new();
    for frame in body.chunks(frame_bytes) {
        framed.extend_from_slice(format!("{:x}\r\n", frame.len()).as_bytes());
        framed.extend_from_slice(frame);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(format!("0\r\n{trailer}\r\n\r\n").as_bytes());
    framed
}

fn framed_put<'a>(s3: &'a S3, target: &str, header: &str, length: usize) -> annulus_tests::client::Call<'a> {
    s3.put(target)
        .header("content-encoding", "aws-chunked")
        .header("x-amz-trailer", header)
        .header("x-amz-decoded-content-length", &length.to_string())
        .signed_body(SignableBody::StreamingUnsignedPayloadTrailer)
}

#[tokio::test]
async fn a_checksum_may_follow_the_body() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    for (header, value) in KNOWN {
        let right = framed(DIGITS.as_bytes(), 4, &format!("{header}:{value}"));
        framed_put(&s3, &target, header, DIGITS.len()).body(right).ok().await;
        let got = s3.get(&target).header("x-amz-checksum-mode", "ENABLED").ok().await;
        assert_eq!((got.text().as_str(), got.header(header)), (DIGITS, Some(*value)));
        assert_eq!(got.header("content-encoding"), None, "frames are the way, not the thing");
        s3.delete(&target).ok().await;
    }
    let body = content(CHUNK_BYTES + 70_000, 6);
    let value = ChecksumValue::of(ChecksumAlgorithm::Crc64Nvme, &body);
    let right = framed(&body, 64 << 10, &format!("x-amz-checksum-crc64nvme:{value}"));
    framed_put(&s3, &target, "x-amz-checksum-crc64nvme", body.len()).body(right).ok().await;
    assert!(s3.get(&target).ok().await.body == body);
}

#[tokio::test]
async fn a_wrong_or_missing_trailer_stores_nothing() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    for (header, value) in KNOWN {
        let put = |body: Vec<u8>| framed_put(&s3, &target, header, DIGITS.len()).body(body);
        let other_bytes = framed(b"987654321", 4, &format!("{header}:{value}"));
        put(other_bytes).refused(400, "BadDigest").await;
        for trailer in ["", "x-amz-checksum-crc32c-not:AAAA", &format!("{header}:nonsense")] {
            let put = put(framed(DIGITS.as_bytes(), 9, trailer)).send().await;
            assert_eq!(put.status, 400, "{trailer:?}: {}", put.text());
        }
        let mut cut = framed(DIGITS.as_bytes(), 4, &format!("{header}:{value}"));
        cut.truncate(10);
        let put = put(cut).send().await;
        assert_eq!((put.status.as_u16(), put.code().as_deref()), (400, Some("IncompleteBody")));
    }
    assert_absent(&s3, &target).await;
}
