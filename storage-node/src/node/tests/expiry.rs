//! Rounds of the lifecycle on a node, by clocks that somebody sets.

use annulus_common::clock::Clock;
use annulus_common::lifecycle::{Expiration, Filter, Lifecycle, Rule};
use annulus_common::map::{Bucket, BucketConfig};

use super::room::{at_leader, put};
use super::*;
use crate::cluster::ask::Asking;
use crate::lifecycle::{Interruption, LifecycleSeams, Rounds};

const DAY_MS: u64 = 86_400_000;

/// A clock that is set to another time when it was looked at a few times.
struct SetMeanwhile {
    before_ms: u64,
    after_ms: u64,
    looks_left: AtomicU64,
}

impl Clock for SetMeanwhile {
    fn now_ms(&self) -> u64 {
        let left = self.looks_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() { self.before_ms } else { self.after_ms }
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(1)
    }
}

async fn expiring_bucket(site: &Site) -> Bucket {
    let rule = Rule {
        id: "r".to_owned(),
        enabled: true,
        filter: Filter::default(),
        expiration: Some(Expiration::Days(1)),
        noncurrent: None,
        abort_upload_days: None,
    };
    let lifecycle = Some(Arc::new(Lifecycle { rules: vec![rule] }));
    let config = Box::new(BucketConfig { lifecycle, ..BucketConfig::default() });
    let watch = site.watch().await;
    let owner = *watch.latest().users.keys().next().unwrap();
    let change = MapChange::CreateBucket { name: "photos".to_owned(), owner, config };
    let entry = MapEntry { request: RequestId(rand::random()), time_ms: 1, change };
    soon(watch.change(entry, PATIENCE)).await.unwrap().unwrap();
    watch.current().unwrap().buckets["photos"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_amid_a_round_expires_nothing() {
    let (site, _disks, nodes) = form(1).await;
    let bucket = expiring_bucket(&site).await;
    let shard = ShardId(0);
    let written = at_leader(&site, &nodes[0], &put(bucket.id, shard, "k"), (bucket.id, shard)).await;
    assert!(matches!(written, Ok(MetaReply::Written { .. })), "{written:?}");
    let server = nodes[0].shared.server().unwrap();
    let partition = map_of(&nodes[0]).partition_of_shard(bucket.id, shard);
    let is_there = async || {
        let path = KeyPath { bucket: bucket.id, shard, key: "k".to_owned() };
        match ask_shard(&site, &nodes[0], Query::Object { path, version: None }, (bucket.id, shard)).await {
            QueryReply::Object(found) => found.is_some(),
            other => panic!("{other:?}"),
        }
    };
    let now_ms = site.clock.now_ms();
    let round = async |looks_left, after_ms| {
        let clock = SetMeanwhile { before_ms: now_ms, after_ms, looks_left: AtomicU64::new(looks_left) };
        let seams = LifecycleSeams {
            node: server.node,
            asking: Arc::new(Asking::new(site.client())),
            kv: Arc::clone(&server.kv),
            raft: server.raft.clone(),
            map: server.map.clone(),
            clock: Arc::new(clock),
            calendar: Calendar::Days,
            fatal: Arc::new(|reason| panic!("{reason}")),
        };
        Rounds::new(seams).round(partition).await
    };
    for looks in 1..6 {
        let ended = round(looks, now_ms + 100 * DAY_MS).await;
        assert!(matches!(ended, Ok(()) | Err(Interruption::Time)), "{ended:?}");
        assert!(is_there().await, "after {looks} looks at the clock");
    }
    round(0, now_ms + 100 * DAY_MS).await.unwrap();
    assert!(!is_there().await, "the time has come");
}
