//! Buckets, and the fences of those that are being deleted.

use std::time::Duration;

use annulus_common::ids::{RequestId, ShardId};
use annulus_common::map::change::{MapChange, MapEntry};
use annulus_common::map::{BucketConfig, BucketState};
use annulus_common::object::UserId;
use annulus_common::protocol::metadata::Command;

use super::Bench;
use crate::client::testing::{Fault, OWNER, mutates};
use crate::object::ObjectError;

const TOKEN: RequestId = RequestId([5; 16]);

impl Bench {
    /// Somebody begins to delete the bucket, fences every shard, and says no more.
    async fn abandon_deletion(&self) {
        let begin = MapChange::BeginDeleteBucket { name: "b".into() };
        self.objects.client().change_map_as(TOKEN, begin).await.unwrap().unwrap();
        let mut state = self.cluster.state.lock();
        for shard in 0..self.bucket.shards {
            state.metadata.fences.insert((self.bucket.id, ShardId(shard)), TOKEN);
        }
    }

    async fn change(&self, change: MapChange) {
        self.objects.client().change_map(change).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn buckets_come_and_go() {
    let bench = Bench::new().await;
    assert_eq!(bench.objects.bucket("b").await.unwrap(), bench.bucket);
    assert!(matches!(bench.objects.bucket("c").await, Err(ObjectError::NoSuchBucket)));
    let other = UserId([8; 32]);
    let outcome = bench.objects.create_bucket("b", other, BucketConfig::default()).await;
    assert!(matches!(outcome, Err(ObjectError::BucketExists(bucket)) if bucket.owner == OWNER));
    bench.objects.create_bucket("a", OWNER, BucketConfig::default()).await.unwrap();
    bench.objects.create_bucket("z", other, BucketConfig::default()).await.unwrap();
    let names = |buckets: Vec<(String, _)>| buckets.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(bench.objects.list_buckets(OWNER).await.unwrap()), ["a", "b"]);
    bench.objects.delete_bucket("b").await.unwrap();
    assert!(matches!(bench.objects.bucket("b").await, Err(ObjectError::NoSuchBucket)));
    assert!(matches!(bench.objects.delete_bucket("b").await, Err(ObjectError::NoSuchBucket)));
    // A write that comes late never lands in the bucket's successor.
    let successor = bench.objects.create_bucket("b", OWNER, BucketConfig::default()).await.unwrap();
    assert_ne!(successor.id, bench.bucket.id);
    assert!(matches!(bench.put_bytes("k", b"late").await, Err(ObjectError::NoSuchBucket)));
}

#[tokio::test]
async fn a_bucket_with_an_object_stays_and_serves() {
    let bench = Bench::new().await;
    bench.put_bytes("k", b"x").await.unwrap();
    assert!(matches!(bench.objects.delete_bucket("b").await, Err(ObjectError::BucketNotEmpty)));
    assert_eq!(bench.objects.bucket("b").await.unwrap().state, BucketState::Active);
    assert!(bench.cluster.state.lock().metadata.fences.is_empty());
    bench.put_bytes("l", b"x").await.unwrap();
}

#[tokio::test]
async fn a_write_waits_for_a_deletion_that_fails() {
    let bench = Bench::new().await;
    bench.abandon_deletion().await;
    let abort = async {
        bench.cluster.wait_until(|state| state.log.iter().filter(|(_, r)| mutates(r, is_put)).count() >= 2).await;
        bench.change(MapChange::AbortDeleteBucket { name: "b".into(), token: TOKEN }).await;
    };
    let (put, ()) = tokio::join!(bench.put_bytes("k", b"x"), abort);
    put.unwrap();
}

#[tokio::test]
async fn a_write_that_waits_for_a_deletion_learns_that_the_bucket_is_gone() {
    let bench = Bench::new().await;
    bench.abandon_deletion().await;
    let finish = async {
        bench.cluster.wait_until(|state| state.log.iter().filter(|(_, r)| mutates(r, is_put)).count() >= 2).await;
        bench.change(MapChange::FinishDeleteBucket { name: "b".into(), token: TOKEN }).await;
    };
    let (put, ()) = tokio::join!(bench.put_bytes("k", b"x"), finish);
    assert!(matches!(put, Err(ObjectError::NoSuchBucket)));
}

#[tokio::test]
async fn a_write_waits_only_so_long() {
    let bench = Bench::new().await;
    bench.abandon_deletion().await;
    let advance = async {
        bench.cluster.wait_until(|state| state.log.iter().filter(|(_, r)| mutates(r, is_put)).count() >= 2).await;
        bench.clock.advance(Duration::from_secs(6));
    };
    let (put, ()) = tokio::join!(bench.put_bytes("k", b"x"), advance);
    assert!(matches!(put, Err(ObjectError::Conflict)), "{put:?}");
}

#[tokio::test]
async fn an_abandoned_deletion_is_ended_by_the_next_write() {
    let bench = Bench::new().await;
    bench.abandon_deletion().await;
    bench.clock.advance(Duration::from_secs(31));
    bench.put_bytes("k", b"x").await.unwrap();
    assert_eq!(bench.objects.bucket("b").await.unwrap().state, BucketState::Active);
}

#[tokio::test]
async fn a_forgotten_fence_is_lifted_by_the_next_write() {
    let bench = Bench::new().await;
    bench.abandon_deletion().await;
    bench.change(MapChange::AbortDeleteBucket { name: "b".into(), token: TOKEN }).await;
    bench.put_bytes("k", b"x").await.unwrap();
}

#[tokio::test]
async fn two_deletions_do_not_mix() {
    let bench = Bench::new().await;
    bench.abandon_deletion().await;
    assert!(matches!(bench.objects.delete_bucket("b").await, Err(ObjectError::Conflict)));
    bench.clock.advance(Duration::from_secs(31));
    bench.objects.delete_bucket("b").await.unwrap();
}

#[tokio::test]
async fn the_map_refuses_an_attempt_that_was_aborted() {
    let bench = Bench::new().await;
    let entry = |request, change| MapEntry { request, time_ms: 0, change };
    let mut map = bench.cluster.state.lock().map.clone();
    map.apply(&entry(TOKEN, MapChange::BeginDeleteBucket { name: "b".into() })).unwrap();
    map.apply(&entry(RequestId([6; 16]), MapChange::AbortDeleteBucket { name: "b".into(), token: TOKEN })).unwrap();
    let finish = MapChange::FinishDeleteBucket { name: "b".into(), token: TOKEN };
    assert!(map.apply(&entry(RequestId([7; 16]), finish)).is_err());
}

#[tokio::test]
async fn without_a_lease_nothing_is_looked_up() {
    let bench = Bench::new().await;
    for node in 1..=3 {
        bench.cluster.fail(node, Fault::Down);
    }
    bench.clock.advance(Duration::from_secs(3));
    assert!(matches!(bench.objects.bucket("b").await, Err(ObjectError::Unavailable(_))));
}

fn is_put(command: &Command) -> bool {
    matches!(command, Command::Put { .. })
}
