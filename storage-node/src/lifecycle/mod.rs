//! The lifecycle of buckets, carried out: what has expired is deleted, uploads that nobody completes are aborted.
//!
//! Each partition's leader goes through the keys of its shards once a day, page by page and no faster than its bound, and
//! proposes to delete what is due by the bucket's rules. What it read may be old by then, so each deletion names the version
//! by its place in the log, and `apply` lets it take nothing else: what was written meanwhile, or is locked, stays.
//!
//! A clock that is wrong would expire what is not due, for good. So nothing is done before most of the partition's nodes agree
//! about the time. They are asked anew for each shard, and what was agreed on counts until its end, carried on by the
//! monotonic clock: whoever sets the clock meanwhile ends the round, and no version is met by another date.
//!
//! Rules that are replaced while a shard is gone through count from then on: what the old ones found is left, but for one command
//! that may be under way, and the shard is gone through again by the new ones.
//!
//! The uploads of deleted buckets, which nobody could abort any more, go the same way, a page of them with each look.
//!
//! Nothing is remembered on disk: a new leader begins the day's round anew, and meets less to do. Which rules mean what is
//! `annulus_common::lifecycle`'s.

mod scan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::{Clock, SharedClock};
use annulus_common::ids::{BucketId, NodeId, PartitionId, RequestId, ShardId};
use annulus_common::lifecycle::{Calendar, Lifecycle};
use annulus_common::map::watch::MapWatch;
use annulus_common::map::{Bucket, BucketState, ClusterMap};
use annulus_common::notification::Notice;
use annulus_common::protocol::metadata::{Command, DeleteOutcome, Deletion, MetaReply, Mutation};
use annulus_common::task::{Fatal, spawn_or_end};
use futures::future::join_all;
use tokio::task::JoinHandle;

use self::scan::{Page, Scan, uploads_page, versions_page};
use crate::cluster::ask::Asking;
use crate::kv::{Kv, KvError};
use crate::metadata;
use crate::raft::{RaftError, RaftNode};

/// Versions and uploads that a node looks at in a second: a shard of a million keys takes a minute or two.
const LOOKED_AT_PER_SECOND: u32 = 10_000;

/// Deletions in one command: with the longest keys some 110 KiB, far below what an entry may have.
const DELETIONS_PER_COMMAND_MAX: usize = 100;

/// Uploads of deleted buckets that one look at a partition aborts, one command each: clients of other buckets write beside.
const ABANDONED_PER_LOOK_MAX: usize = 500;

/// How often a shard is begun anew in a round because its rules were replaced: who replaces them again and again holds up the other
/// buckets of the partition no longer than that, and waits for the next day.
const SCANS_OF_SHARD_MAX: usize = 4;

/// The longest pause before it is looked again whether a new day has begun.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How far apart clocks may be that agree: days are counted, and what asking takes is in it.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);

/// What the worker works with.
pub struct LifecycleSeams {
    /// This node.
    pub node: NodeId,
    /// The way to the others.
    pub asking: Arc<Asking>,
    /// The database of the metadata.
    pub kv: Arc<dyn Kv>,
    /// The groups of this node.
    pub raft: RaftNode,
    /// The buckets and their rules.
    pub map: MapWatch,
    /// The time.
    pub clock: SharedClock,
    /// What a day is.
    pub calendar: Calendar,
    /// Called when the node must not go on.
    pub fatal: Fatal,
}

/// The worker. Dropping it stops it at once; that is safe at any moment.
pub struct LifecycleWorker {
    running: JoinHandle<()>,
}

impl LifecycleWorker {
    /// Starts it. To be called inside a runtime.
    pub fn start(seams: LifecycleSeams) -> Self {
        let fatal = Arc::clone(&seams.fatal);
        Self { running: spawn_or_end(&fatal, "lifecycle", Rounds::new(seams).run()) }
    }
}

impl Drop for LifecycleWorker {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Why a partition's round is broken off. The next turn begins it anew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interruption {
    #[error(transparent)]
    Raft(#[from] RaftError),
    #[error(transparent)]
    Storage(#[from] KvError),
    #[error("the copy of the cluster map is too old")]
    NoMap,
    #[error("the answer is not one to the question")]
    Unexpected,
    #[error(
        "most of the partition's nodes do not answer or have another time than this one, or its clock was set meanwhile"
    )]
    Time,
}

pub(crate) struct Rounds {
    seams: LifecycleSeams,
    /// Of each partition that this node leads: the day of the last round.
    done: BTreeMap<PartitionId, u64>,
}

impl Rounds {
    pub(crate) fn new(seams: LifecycleSeams) -> Self {
        Self { seams, done: BTreeMap::new() }
    }

    async fn run(mut self) {
        let pause = PAUSE_MAX.min(Duration::from_millis(self.seams.calendar.scan_ms()));
        loop {
            self.turn().await;
            tokio::time::sleep(pause).await;
        }
    }

    async fn turn(&mut self) {
        let led = self.seams.raft.led_partitions();
        self.done.retain(|partition, _| led.contains(partition));
        for partition in led {
            if let Err(error) = self.abandoned(partition).await {
                tracing::debug!(partition = partition.0, %error, "uploads of deleted buckets are left to the next look");
            }
            let day = self.seams.clock.now_ms() / self.seams.calendar.scan_ms();
            if self.done.get(&partition) == Some(&day) {
                continue;
            }
            match self.round(partition).await {
                Ok(()) => {
                    self.done.insert(partition, day);
                }
                Err(error @ Interruption::Time) => {
                    tracing::warn!(partition = partition.0, %error, "lifecycle rules are not carried out");
                    // The other partitions' nodes will say the same, mostly.
                    return;
                }
                Err(error) => tracing::debug!(partition = partition.0, %error, "a lifecycle round is broken off"),
            }
        }
    }

    /// Aborts uploads of buckets that are deleted. Ids are never used again, so one below the next that is not in the map was
    /// deleted for good, however old the map is.
    async fn abandoned(&self, partition: PartitionId) -> Result<(), Interruption> {
        let map = self.map()?;
        let kv = Arc::clone(&self.seams.kv);
        let known: BTreeSet<BucketId> = map.buckets.values().map(|bucket| bucket.id).collect();
        let is_gone = move |bucket: BucketId| bucket < map.next_bucket && !known.contains(&bucket);
        let read = move || metadata::abandoned_uploads(&*kv.snapshot(), partition, is_gone, ABANDONED_PER_LOOK_MAX);
        let abandoned = on_disk(read).await?;
        if !abandoned.is_empty() {
            tracing::info!(partition = partition.0, uploads = abandoned.len(), "aborting uploads of deleted buckets");
        }
        for (path, upload) in abandoned {
            // For ever: no date decides about it.
            let time_ms = self.seams.clock.now_ms();
            self.propose(partition, Command::AbortUpload { path, upload }, None, time_ms).await?;
        }
        Ok(())
    }

    /// Goes once through what the partition has of buckets with rules.
    pub(crate) async fn round(&self, partition: PartitionId) -> Result<(), Interruption> {
        let map = self.map()?;
        let with_rules = map.buckets.iter().filter(|(_, bucket)| rules_of(bucket).is_some());
        let shards = with_rules.flat_map(|(name, bucket)| {
            let place = move |shard| Place { partition, name, bucket: bucket.id, shard: ShardId(shard) };
            (0..bucket.shards).map(place)
        });
        for place in shards.filter(|place| map.partition_of_shard(place.bucket, place.shard) == partition) {
            self.shard(&place).await?;
        }
        Ok(())
    }

    /// Goes through a shard by the rules that its bucket has now, and again if they are replaced meanwhile.
    async fn shard(&self, place: &Place<'_>) -> Result<(), Interruption> {
        for _ in 0..SCANS_OF_SHARD_MAX {
            let map = self.map()?;
            let Some(rules) = place.bucket_in(&map).and_then(rules_of) else { return Ok(()) };
            let time = self.agree_on_time(&map, place.partition).await?;
            let scan = || -> Result<Scan, Interruption> {
                let now_ms = time.now_ms(&*self.seams.clock)?;
                Ok(Scan::new(Arc::clone(rules), self.seams.calendar, now_ms))
            };
            let by = Grounds { place, rules, time };
            let ended = match self.versions(by, scan()?).await? {
                Ended::AtTheEnd => self.uploads(by, scan()?).await?,
                replaced => replaced,
            };
            match ended {
                Ended::AtTheEnd => return Ok(()),
                Ended::RulesReplaced => tracing::debug!(bucket = place.name, "rules were replaced amid a scan by them"),
            }
        }
        Ok(())
    }

    async fn agree_on_time(&self, map: &ClusterMap, partition: PartitionId) -> Result<AgreedTime, Interruption> {
        let replicas = map.replicas(partition);
        let others = replicas.iter().filter(|node| **node != self.seams.node);
        let asked = others.map(|node| self.seams.asking.progress(map, *node, Vec::new()));
        let clocks: Vec<u64> = join_all(asked).await.into_iter().flatten().map(|progress| progress.clock_ms).collect();
        let time = AgreedTime { ms: self.seams.clock.now_ms(), at: self.seams.clock.monotonic() };
        if is_time_of_most(time.ms, &clocks, replicas.len()) { Ok(time) } else { Err(Interruption::Time) }
    }

    fn map(&self) -> Result<Arc<ClusterMap>, Interruption> {
        self.seams.map.current().ok_or(Interruption::NoMap)
    }

    async fn versions(&self, by: Grounds<'_>, mut scan: Scan) -> Result<Ended, Interruption> {
        let mut from = None;
        loop {
            let (kv, at) = (Arc::clone(&self.seams.kv), by.place.shard_at());
            let read = move || versions_page(&*kv.snapshot(), at, scan, from);
            let Page { scan: scanned, due, next, looked_at } = on_disk(read).await?.ok_or(Interruption::Unexpected)?;
            if self.delete(by, due).await? == Ended::RulesReplaced {
                return Ok(Ended::RulesReplaced);
            }
            if next.is_none() {
                return Ok(Ended::AtTheEnd);
            }
            (scan, from) = (scanned, next);
            tokio::time::sleep(Duration::from_secs(1) * looked_at / LOOKED_AT_PER_SECOND).await;
        }
    }

    async fn uploads(&self, by: Grounds<'_>, mut scan: Scan) -> Result<Ended, Interruption> {
        let mut from = None;
        loop {
            let (kv, at) = (Arc::clone(&self.seams.kv), by.place.shard_at());
            let read = move || uploads_page(&*kv.snapshot(), at, scan, from);
            let Page { scan: scanned, due, next, looked_at } = on_disk(read).await?.ok_or(Interruption::Unexpected)?;
            for (path, upload) in due {
                let map = self.map()?;
                let Some(bucket) = by.bucket_in(&map) else { return Ok(Ended::RulesReplaced) };
                tracing::debug!(bucket = by.place.name, %upload, "an upload has expired");
                let notice = bucket.config.expiry_notice([path.key.as_str()].into_iter());
                let (command, time_ms) = (Command::AbortUpload { path, upload }, by.time.now_ms(&*self.seams.clock)?);
                self.propose(by.place.partition, command, notice, time_ms).await?;
            }
            if next.is_none() {
                return Ok(Ended::AtTheEnd);
            }
            (scan, from) = (scanned, next);
            tokio::time::sleep(Duration::from_secs(1) * looked_at / LOOKED_AT_PER_SECOND).await;
        }
    }

    /// Deletes what is due, as long as the bucket still is the one whose rules say so.
    async fn delete(&self, by: Grounds<'_>, due: Vec<Deletion>) -> Result<Ended, Interruption> {
        let (place, mut rest) = (by.place, due.as_slice());
        while !rest.is_empty() {
            let deletions = &rest[..rest.len().min(DELETIONS_PER_COMMAND_MAX)];
            let map = self.map()?;
            let Some(bucket) = by.bucket_in(&map) else { return Ok(Ended::RulesReplaced) };
            let command = Command::Delete {
                bucket: place.bucket,
                shard: place.shard,
                versioning: bucket.config.versioning,
                owner: bucket.owner,
                deletions: deletions.to_vec(),
            };
            let notice = bucket.config.expiry_notice(deletions.iter().map(|deletion| deletion.key.as_str()));
            let time_ms = by.time.now_ms(&*self.seams.clock)?;
            let mut ended = deletions.len();
            if let MetaReply::Deleted(outcomes) = self.propose(place.partition, command, notice, time_ms).await? {
                // What is put off comes with the next command.
                ended = outcomes.iter().take_while(|outcome| **outcome != DeleteOutcome::NotYet).count();
                let kept = |outcome: &&DeleteOutcome| {
                    matches!(
                        outcome,
                        DeleteOutcome::Locked | DeleteOutcome::PreconditionFailed | DeleteOutcome::NoSuchKey
                    )
                };
                let kept = outcomes.iter().filter(kept).count();
                tracing::debug!(bucket = place.name, expired = ended - kept, kept, "versions have expired");
            }
            rest = rest.get(ended..).filter(|_| ended > 0).ok_or(Interruption::Unexpected)?;
        }
        Ok(Ended::AtTheEnd)
    }

    async fn propose(
        &self,
        partition: PartitionId,
        command: Command,
        notice: Option<Box<Notice>>,
        time_ms: u64,
    ) -> Result<MetaReply, Interruption> {
        // It is proposed once, and names what it removes by the entry that wrote it.
        let mutation = Mutation { request: RequestId::generate(time_ms), since: None, time_ms, command, notice };
        let reply = self.seams.raft.propose(partition.into(), metadata::encode_command(&mutation)).await?;
        metadata::decode_reply(&reply).map(|applied| applied.reply).map_err(|_| Interruption::Unexpected)
    }
}

/// The time that most nodes agreed about.
#[derive(Clone, Copy)]
struct AgreedTime {
    ms: u64,
    /// By the monotonic clock.
    at: Duration,
}

impl AgreedTime {
    /// What it is by now, as long as the clock says so, too: locks are judged by it, and what is deleted carries it.
    fn now_ms(self, clock: &dyn Clock) -> Result<u64, Interruption> {
        let passed = clock.monotonic().saturating_sub(self.at);
        let now_ms = self.ms.saturating_add(passed.as_millis() as u64);
        if are_near(now_ms, clock.now_ms()) { Ok(now_ms) } else { Err(Interruption::Time) }
    }
}

fn are_near(one_ms: u64, other_ms: u64) -> bool {
    u128::from(one_ms.abs_diff(other_ms)) <= CLOCKS_APART_MAX.as_millis()
}

/// Whether this clock and those of others that are near it are most of so many.
fn is_time_of_most(now_ms: u64, others_ms: &[u64], all: usize) -> bool {
    let near = others_ms.iter().filter(|other| are_near(**other, now_ms));
    1 + near.count() > all / 2
}

/// A shard of a bucket.
struct Place<'a> {
    partition: PartitionId,
    name: &'a str,
    bucket: BucketId,
    shard: ShardId,
}

impl Place<'_> {
    fn shard_at(&self) -> scan::ShardAt {
        scan::ShardAt { partition: self.partition, bucket: self.bucket, shard: self.shard }
    }

    /// The bucket, if it still is the same one.
    fn bucket_in<'a>(&self, map: &'a ClusterMap) -> Option<&'a Bucket> {
        map.buckets.get(self.name).filter(|bucket| bucket.id == self.bucket)
    }
}

/// What a scan is judged by.
#[derive(Clone, Copy)]
struct Grounds<'a> {
    place: &'a Place<'a>,
    rules: &'a Arc<Lifecycle>,
    time: AgreedTime,
}

impl Grounds<'_> {
    /// The bucket, as long as its rules are still these.
    fn bucket_in<'a>(&self, map: &'a ClusterMap) -> Option<&'a Bucket> {
        self.place.bucket_in(map).filter(|bucket| rules_of(bucket) == Some(self.rules))
    }
}

/// How a scan of a shard ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Nothing is left of what it looks for.
    AtTheEnd,
    /// The bucket has other rules by now, or none, or is gone.
    RulesReplaced,
}

/// The rules of a bucket that serves, if any is in force.
fn rules_of(bucket: &Bucket) -> Option<&Arc<Lifecycle>> {
    let lifecycle = bucket.config.lifecycle.as_ref().filter(|_| bucket.state == BucketState::Active)?;
    lifecycle.enabled().next().map(|_| lifecycle)
}

/// Uses the database on a thread that may block.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> Result<T, KvError> + Send + 'static) -> Result<T, KvError> {
    let working = tokio::task::spawn_blocking(work);
    working.await.unwrap_or_else(|error| Err(KvError::Failed { during: "scanning a shard", reason: error.to_string() }))
}
