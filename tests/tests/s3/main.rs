//! What Annulus promises to S3 clients, tried through HTTP on a cluster of three nodes and two gateways in this process.
//!
//! Each module is a chapter of the product's description. Every test makes buckets of its own in the shared cluster.

mod access_logs;
mod accounts;
mod acls;
mod admin;
mod appends;
mod authorisation;
mod bodies;
mod buckets;
mod checksums;
mod command_line;
mod conditions;
mod control;
mod copies;
mod cors;
mod crowds;
mod deletes;
mod disturbances;
mod documented;
mod encryption;
mod forms;
mod iam;
mod keys;
mod lifecycle;
mod limits;
mod listing_model;
mod listings;
mod locks;
mod map_size;
mod multipart;
mod notifications;
mod objects;
mod operations;
mod ownership;
mod policies;
mod presigned;
mod promises;
mod proxies;
mod quotas;
mod races;
mod ranges;
mod refusals;
mod refusals_beside;
mod refusals_documents;
mod refusals_each;
mod renames;
mod requester_pays;
mod requests;
mod sessions;
mod signatures;
mod supported;
mod tagging;
mod unbuilt;
mod uploads;
mod usage;
mod versions;
mod virtual_hosts;
mod webhooks;
mod website;
mod xml_bodies;

use std::sync::atomic::{AtomicU32, Ordering};

use annulus_tests::client::S3;
use bytes::Bytes;

/// The largest object that lies inside its metadata.
const INLINE_BYTES_MAX: usize = 16 << 10;

/// The largest piece that an object is cut into.
const CHUNK_BYTES: usize = 4 << 20;

/// The smallest part that is not the last.
const PART_BYTES_MIN: usize = 5 << 20;

/// A name that no other test has.
fn fresh_name(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A new bucket of the client's account, as a path: `/NAME`.
async fn new_bucket(s3: &S3) -> String {
    let bucket = format!("/{}", fresh_name("bucket"));
    s3.put(&bucket).ok().await;
    bucket
}

/// Bytes that look random and are the same for the same seed, and nowhere alike.
fn content(bytes: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        // Marsaglia's xorshift, its output scrambled by a multiplication.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        content.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    content.truncate(bytes);
    content.into()
}

/// An object's entity tag as S3 makes it of bytes that were put whole.
fn etag(bytes: &[u8]) -> String {
    use md5::Digest;
    format!("\"{}\"", hex::encode(md5::Md5::digest(bytes)))
}

/// Asserts that nothing is there.
async fn assert_absent(s3: &S3, target: &str) {
    assert_eq!(s3.head(target).send().await.status, 404, "{target} is not there");
}
