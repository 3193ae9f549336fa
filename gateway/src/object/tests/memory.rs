//! Objects in little memory: what is large is slower then, and the same; what does not fit waits, and is told to come back.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::object::ObjectVersion;
use annulus_common::protocol::Request;
use annulus_common::telemetry::Metrics;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};

use super::{Bench, BodyError, BodyStream, body_of, bytes_of};
use crate::budget::MemoryBudget;
use crate::client::testing::OWNER;
use crate::object::{CopyObject, Encrypt, ObjectError, PutObject, ReadStream};

const MIB: u64 = 1 << 20;
const LARGE: usize = 13 * MIB as usize + 7;

/// A bench whose objects' bytes have so much memory, half of which may be ahead of need, for requests with little patience.
async fn bench(bodies: u64) -> (Bench, Arc<MemoryBudget>) {
    bench_with_wait(bodies, Duration::from_millis(50)).await
}

async fn bench_with_wait(bodies: u64, wait: Duration) -> (Bench, Arc<MemoryBudget>) {
    let budget = MemoryBudget::with_wait(bodies / 3 * 4, wait, Metrics::new());
    (Bench::with_budget(budget.clone()).await, budget)
}

impl Bench {
    async fn put_large(&self, key: &str, encrypt: Option<Encrypt>) -> ObjectVersion {
        let put = PutObject { content_length: Some(LARGE as u64), encrypt, ..self.put(key) };
        self.objects.put(put, body_of(&bytes_of(LARGE))).await.unwrap();
        self.get(key).await.unwrap()
    }

    async fn begin_reading(&self, version: &ObjectVersion) -> Result<ReadStream, ObjectError> {
        let key = self.objects.unlock(&self.bucket, version, None).await?;
        self.objects.read(version, 0..version.object.size, &key).await
    }

    fn chunk_reads(&self) -> usize {
        self.cluster.requests(|request| matches!(request, Request::GetChunk { .. }))
    }
}

#[tokio::test]
async fn chunks_are_read_whole_where_there_is_memory_and_in_pieces_where_there_is_none() {
    for encrypt in [None, Some(Encrypt::S3)] {
        let (bench, budget) = bench(48 * MIB).await;
        let least = if encrypt.is_some() { 3 * MIB / 4 + 1_000 } else { MIB / 2 + 1_000 };
        let version = bench.put_large("k", encrypt).await;
        bench.cluster.wait_until(|_| budget.held() == 0).await;

        let before = bench.chunk_reads();
        assert!(bench.read(&version, 0..LARGE as u64).await.unwrap() == bytes_of(LARGE));
        assert_eq!(bench.chunk_reads() - before, 4);

        let others = budget.body(48 * MIB - least).await.unwrap();
        let before = bench.chunk_reads();
        assert!(bench.read(&version, 0..LARGE as u64).await.unwrap() == bytes_of(LARGE));
        assert!(bench.chunk_reads() - before > 50, "pieces of 256 KiB");
        for range in [1..2, 300_000..5_000_000, LARGE as u64 - 1..LARGE as u64] {
            let read = bench.read(&version, range.clone()).await.unwrap();
            assert!(read == bytes_of(LARGE)[range.start as usize..range.end as usize], "{range:?}");
        }
        drop(others);
        assert_eq!(budget.held(), 0);
    }
}

#[tokio::test]
async fn a_read_that_begins_in_pieces_goes_on_in_chunks() {
    let (bench, budget) = bench(48 * MIB).await;
    let version = bench.put_large("k", None).await;
    bench.cluster.wait_until(|_| budget.held() == 0).await;
    let others = budget.body(47 * MIB).await.unwrap();
    let before = bench.chunk_reads();
    let mut stream = bench.begin_reading(&version).await.unwrap();
    let mut read = stream.next().await.unwrap().unwrap().to_vec();
    drop(others);
    while let Some(frame) = stream.next().await {
        read.extend_from_slice(&frame.unwrap());
    }
    assert!(read == bytes_of(LARGE));
    assert!(bench.chunk_reads() - before <= 6, "{}", bench.chunk_reads() - before);
}

#[tokio::test]
async fn slow_readers_hold_no_more_than_there_is_and_all_get_through() {
    let (bench, budget) = bench(12 * MIB).await;
    let version = bench.put_large("k", None).await;
    bench.cluster.wait_until(|_| budget.held() == 0).await;
    let mut readers = Vec::new();
    while let Ok(mut stream) = bench.begin_reading(&version).await {
        let first = stream.next().await.unwrap().unwrap();
        readers.push((stream, vec![first]));
        assert!(budget.held() <= 12 * MIB);
    }
    // Each has its half MiB; those that came first have what may be ahead, besides.
    assert!(readers.len() >= 12, "{}", readers.len());
    assert!(matches!(bench.begin_reading(&version).await, Err(ObjectError::Overloaded)));
    let all = readers.into_iter().map(|(mut stream, mut frames)| async move {
        while let Some(frame) = stream.next().await {
            frames.push(frame.unwrap());
        }
        frames.concat()
    });
    assert!(futures::future::join_all(all).await.iter().all(|read| *read == bytes_of(LARGE)));
    bench.cluster.wait_until(|_| budget.held() == 0).await;
}

/// A body of which nothing comes before it is let go.
fn stalled() -> (BodyStream, tokio::sync::oneshot::Sender<()>) {
    let (go, gone) = tokio::sync::oneshot::channel();
    let body = async move {
        let _ = gone.await;
        Ok::<_, BodyError>(Bytes::from(bytes_of(LARGE)))
    };
    (Box::pin(futures::stream::once(Box::pin(body))), go)
}

#[tokio::test]
async fn uploads_get_through_with_a_chunk_at_a_time() {
    for (encrypt, least) in [(None, 4 * MIB), (Some(Encrypt::S3), 8 * MIB)] {
        let (bench, budget) = bench(48 * MIB).await;
        let others = budget.body(48 * MIB - least).await.unwrap();
        let version = bench.put_large("k", encrypt).await;
        assert_eq!(version.object.size, LARGE as u64);
        drop(others);
        bench.cluster.wait_until(|_| budget.held() == 0).await;
        assert!(bench.read(&version, 0..LARGE as u64).await.unwrap() == bytes_of(LARGE));
    }
}

#[tokio::test]
async fn uploads_that_find_no_memory_are_told_so_and_small_ones_find_some() {
    let (bench, budget) = bench(12 * MIB).await;
    let put = || PutObject { content_length: Some(LARGE as u64), ..bench.put("large") };
    let (bodies, lets_go): (Vec<_>, Vec<_>) = (0..3).map(|_| stalled()).unzip();
    let mut uploads = futures::future::join_all(bodies.into_iter().map(|body| bench.objects.put(put(), body)));
    assert!((&mut uploads).now_or_never().is_none(), "their clients keep them waiting");
    assert_eq!(budget.held(), 12 * MIB);
    let refused = bench.objects.put(put(), body_of(&bytes_of(LARGE))).await;
    assert!(matches!(refused, Err(ObjectError::Overloaded)));
    let small = bytes_of(60_000);
    let small_put = PutObject { content_length: Some(60_000), ..bench.put("small") };
    bench.objects.put(small_put, body_of(&small)).await.unwrap();
    let version = bench.get("small").await.unwrap();
    assert!(bench.read(&version, 0..60_000).await.unwrap() == small);
    lets_go.into_iter().for_each(|go| go.send(()).unwrap());
    assert!(uploads.await.into_iter().all(|put| put.is_ok()));
    bench.cluster.wait_until(|_| budget.held() == 0).await;
    assert!(bench.objects.put(put(), body_of(&bytes_of(LARGE))).await.is_ok());
}

#[tokio::test]
async fn copies_that_come_together_do_not_wait_for_each_others_memory() {
    // If each first took what it needs to read, none could write.
    let (bench, budget) = bench_with_wait(5 * MIB, Duration::from_secs(60)).await;
    let version = bench.put_large("k", None).await;
    bench.cluster.wait_until(|_| budget.held() == 0).await;
    let key = bench.objects.unlock(&bench.bucket, &version, None).await.unwrap();
    let copy = |to| CopyObject {
        source: &version,
        source_key: &key,
        bucket: &bench.bucket,
        key: to,
        owner: OWNER,
        headers: None,
        attributes: Default::default(),
        conditions: Default::default(),
        checksum: None,
        encrypt: None,
        request: None,
    };
    let copies = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|to| bench.objects.copy(copy(to)));
    assert!(futures::future::join_all(copies).await.into_iter().all(|copied| copied.is_ok()));
    let copied = bench.get("b").await.unwrap();
    assert!(bench.read(&copied, 0..LARGE as u64).await.unwrap() == bytes_of(LARGE));
}
