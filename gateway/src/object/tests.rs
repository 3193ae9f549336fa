//! The operations against a cluster in memory: what S3 promises, seen from above the seam.

mod bucket;
mod encryption;
mod list;
mod memory;
mod multipart;
mod renames;
mod versions;
mod whole;

use std::sync::Arc;

use annulus_common::checksum::ChecksumAlgorithm;
use annulus_common::condition::Conditions;
use annulus_common::map::{Bucket, BucketChange, BucketConfig};
use annulus_common::object::{ObjectAttributes, ObjectHeaders, ObjectVersion, VersionId, Versioning};
use annulus_common::protocol::metadata::Deletion;
use annulus_common::telemetry::Metrics;
use bytes::Bytes;
use futures::StreamExt;

use super::{
    BODY_BYTES_MAX, BodyError, BodyStream, ChecksumRequest, ChecksumValue, DeleteObjects, Deleted, Expected,
    ObjectError, Objects, PutObject, Written,
};
use crate::budget::MemoryBudget;
use crate::client::testing::{FakeCluster, OWNER, TestClock};
use crate::kms::{LocalKeys, MasterKey, MasterKeys, SecretKey};

/// A cluster of three nodes with one bucket.
struct Bench {
    cluster: Arc<FakeCluster>,
    clock: Arc<TestClock>,
    objects: Objects,
    bucket: Bucket,
}

/// As much as no test needs.
const MEMORY_BYTES: u64 = 1 << 30;

impl Bench {
    async fn new() -> Self {
        Self::with_budget(MemoryBudget::new(MEMORY_BYTES, Metrics::new())).await
    }

    async fn with_budget(budget: Arc<MemoryBudget>) -> Self {
        let cluster = FakeCluster::new(3, 3);
        let clock = TestClock::shared();
        let client = cluster.client_with(clock.clone()).await;
        let keys = MasterKeys::new(MasterKey::new(SecretKey::new([1; 32])), Vec::new());
        let keys = Arc::new(LocalKeys::new(client.clone(), keys, clock.clone()));
        let objects = Objects::new(client, keys, clock.clone(), budget);
        let bucket = objects.create_bucket("b", OWNER, BucketConfig::default()).await.unwrap();
        Self { cluster, clock, objects, bucket }
    }

    fn put<'a>(&'a self, key: &'a str) -> PutObject<'a> {
        PutObject {
            bucket: &self.bucket,
            key,
            owner: OWNER,
            headers: ObjectHeaders::default(),
            attributes: ObjectAttributes::default(),
            conditions: Conditions::default(),
            content_length: None,
            held_back_max: 0,
            bytes_max: BODY_BYTES_MAX,
            digest: Expected::default(),
            encrypt: None,
        }
    }

    async fn put_bytes(&self, key: &str, bytes: &[u8]) -> Result<Written, ObjectError> {
        self.objects.put(self.put(key), body_of(bytes)).await
    }

    async fn get(&self, key: &str) -> Result<ObjectVersion, ObjectError> {
        self.objects.get(&self.bucket, key, None).await
    }

    fn deletions(&self, deletions: impl Into<Vec<Deletion>>) -> DeleteObjects<'_> {
        DeleteObjects { bucket: &self.bucket, owner: OWNER, deletions: deletions.into() }
    }

    async fn delete(&self, deletion: Deletion) -> Result<Deleted, ObjectError> {
        self.objects.delete(self.deletions([deletion])).await
    }

    /// The bench, its bucket being so.
    async fn with_versioning(mut self, versioning: Versioning) -> Self {
        let change = BucketChange::Versioning(versioning);
        self.objects.configure_bucket("b", &self.bucket, change).await.unwrap();
        self.bucket = self.objects.bucket("b").await.unwrap();
        self
    }

    async fn read(&self, version: &ObjectVersion, range: std::ops::Range<u64>) -> Result<Vec<u8>, ObjectError> {
        let key = self.objects.unlock(&self.bucket, version, None).await?;
        let mut stream = self.objects.read(version, range, &key).await?;
        let mut bytes = Vec::new();
        while let Some(frame) = stream.next().await {
            bytes.extend_from_slice(&frame?);
        }
        Ok(bytes)
    }

    async fn exists(&self, key: &str) -> bool {
        self.get(key).await.is_ok()
    }
}

fn deletion(key: &str, version: Option<VersionId>) -> Deletion {
    Deletion {
        key: key.to_owned(),
        version,
        conditions: Conditions::default(),
        bypass_governance: false,
        sequence: None,
    }
}

/// Bytes in which every place differs from its neighbours and every 4 MiB from the next.
fn bytes_of(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A body in frames as a network cuts them.
fn body_of(bytes: &[u8]) -> BodyStream {
    let frames: Vec<_> = bytes.chunks(100_003).map(|frame| Ok(Bytes::copy_from_slice(frame))).collect();
    Box::pin(futures::stream::iter(frames))
}

/// A body that breaks off.
fn broken_body(bytes: &[u8], error: BodyError) -> BodyStream {
    Box::pin(body_of(bytes).chain(futures::stream::iter([Err(error)])))
}

fn checksum_of(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> ChecksumValue {
    ChecksumValue::of(algorithm, bytes)
}

fn expecting(checksum: ChecksumRequest) -> Expected {
    Expected { md5: None, checksum }
}

/// What every operation must be, so that a request's task may move between threads.
#[tokio::test]
async fn the_futures_of_operations_are_send() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let bench = Bench::new().await;
    send(bench.objects.put(bench.put("k"), body_of(b"x"))).await.unwrap();
    send(bench.objects.delete_many(bench.deletions([deletion("k", None)]))).await;
    send(bench.objects.delete_bucket("b")).await.unwrap();
}
