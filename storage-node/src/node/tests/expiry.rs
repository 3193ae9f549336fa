//! Rounds of the lifecycle on a node, by clocks that somebody sets.

use annulus_common::clock::Clock;
use annulus_common::lifecycle::{Expiration, Filter, Lifecycle, Rule};
use annulus_common::map::{Bucket, BucketChange, BucketConfig};

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

/// Rules after which objects expire, and uploads end, after so many days.
fn rules(days: u32) -> Arc<Lifecycle> {
    let rule = Rule {
        id: "r".to_owned(),
        enabled: true,
        filter: Filter::default(),
        expiration: Some(Expiration::Days(days)),
        noncurrent: None,
        abort_upload_days: Some(days),
    };
    Arc::new(Lifecycle { rules: vec![rule] })
}

async fn expiring_bucket(site: &Site) -> Bucket {
    let config = Box::new(BucketConfig { lifecycle: Some(rules(1)), ..BucketConfig::default() });
    let watch = site.watch().await;
    let owner = *watch.latest().users.keys().next().unwrap();
    let change = MapChange::CreateBucket { name: "photos".to_owned(), owner, config };
    let entry = MapEntry { request: RequestId(rand::random()), time_ms: 1, change };
    soon(watch.change(entry, PATIENCE)).await.unwrap().unwrap();
    watch.current().unwrap().buckets["photos"].clone()
}

fn rounds(site: &Site, node: &StorageNode, clock: SharedClock) -> Rounds {
    let server = node.shared.server().unwrap();
    Rounds::new(LifecycleSeams {
        node: server.node,
        asking: Arc::new(Asking::new(site.client())),
        kv: Arc::clone(&server.kv),
        raft: server.raft.clone(),
        map: server.map.clone(),
        clock,
        calendar: Calendar::Days,
        fatal: Arc::new(|reason| panic!("{reason}")),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_amid_a_round_expires_nothing() {
    let (site, _disks, nodes) = form(1).await;
    let bucket = expiring_bucket(&site).await;
    let shard = ShardId(0);
    let written = at_leader(&site, &nodes[0], &put(bucket.id, shard, "k"), (bucket.id, shard)).await;
    assert!(matches!(written, Ok(MetaReply::Written { .. })), "{written:?}");
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
        rounds(&site, &nodes[0], Arc::new(clock)).round(partition).await
    };
    for looks in 1..6 {
        let ended = round(looks, now_ms + 100 * DAY_MS).await;
        assert!(matches!(ended, Ok(()) | Err(Interruption::Time)), "{ended:?}");
        assert!(is_there().await, "after {looks} looks at the clock");
    }
    round(0, now_ms + 100 * DAY_MS).await.unwrap();
    assert!(!is_there().await, "the time has come");
}

/// A clock at which something happens when it is looked at for that time.
struct Happening<F: Fn() + Send + Sync> {
    now_ms: u64,
    looks_left: AtomicU64,
    happens: F,
}

impl<F: Fn() + Send + Sync + 'static> Clock for Happening<F> {
    fn now_ms(&self) -> u64 {
        if self.looks_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            (self.happens)();
        }
        self.now_ms
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(1)
    }
}

fn replace_rules(site: &Site, bucket: BucketId, days: u32) {
    let change = BucketChange::Lifecycle(Some(rules(days)));
    let change = MapChange::ConfigureBucket { name: "photos".to_owned(), id: bucket, change };
    let entry = MapEntry { request: RequestId(rand::random()), time_ms: 1, change };
    let changed = async { soon(site.watch().await.change(entry, PATIENCE)).await.unwrap().unwrap() };
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(changed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_are_replaced_amid_a_round_delete_nothing_more() {
    let (site, _disks, nodes) = form(1).await;
    let site = Arc::new(site);
    let bucket = expiring_bucket(&site).await;
    let shard = ShardId(0);
    let place = (bucket.id, shard);
    let partition = map_of(&nodes[0]).partition_of_shard(bucket.id, shard);
    let upload = Upload {
        id: UploadId([7; 16]),
        initiator: bucket.owner,
        owner: bucket.owner,
        initiated_ms: site.clock.now_ms(),
        headers: ObjectHeaders::default(),
        attributes: ObjectAttributes::default(),
        checksum: None,
        encryption: None,
    };
    let path = |key: &str| KeyPath { bucket: bucket.id, shard, key: key.to_owned() };
    let begin = Command::CreateUpload { path: path("parts"), upload };
    assert!(matches!(at_leader(&site, &nodes[0], &begin, place).await, Ok(MetaReply::Done)));
    let days_on = site.clock.now_ms() + 100 * DAY_MS;
    let round = async |look, to_days| {
        let happens = {
            let site = Arc::clone(&site);
            move || replace_rules(&site, bucket.id, to_days)
        };
        let clock = Happening { now_ms: days_on, looks_left: AtomicU64::new(look), happens };
        rounds(&site, &nodes[0], Arc::new(clock)).round(partition).await.unwrap();
    };
    let left = async || {
        let object = ask_shard(&site, &nodes[0], Query::Object { path: path("k"), version: None }, place).await;
        let query = Query::Upload { path: path("parts"), upload: UploadId([7; 16]) };
        let upload = ask_shard(&site, &nodes[0], query, place).await;
        (matches!(object, QueryReply::Object(Some(_))), matches!(upload, QueryReply::Upload(Some(_))))
    };
    // By the third look both kinds of scan have begun by the old rules: there is no object that could be due before it.
    round(3, 365).await;
    assert_eq!(left().await, (false, true), "the upload is not due by the rules of now");
    at_leader(&site, &nodes[0], &put(bucket.id, shard, "k"), place).await.unwrap();
    for look in 1..=2 {
        replace_rules(&site, bucket.id, 1);
        round(look, 365).await;
        assert_eq!(left().await, (true, true), "replaced at look {look}");
    }
    replace_rules(&site, bucket.id, 1);
    round(1, 50).await;
    assert_eq!(left().await, (false, false), "what is due by the new rules goes in the same round");
}
