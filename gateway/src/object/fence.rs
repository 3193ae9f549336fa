//! Mutations of a bucket's index shards, and what to do when a shard is fenced, or may not hold as much.
//!
//! A fence stops all writing to a shard while its bucket is being deleted. The one who deletes fences only after everyone's
//! map says that the bucket is being deleted, so a map with a lease decides what a fence means. Fences of deleted buckets
//! stay forever: they refuse the writes that come late.

use std::time::Duration;

use annulus_common::ids::{BucketId, RequestId, ShardId};
use annulus_common::map::change::MapChange;
use annulus_common::map::{Bucket, BucketState, ClusterMap};
use annulus_common::protocol::metadata::{Command, MetaReply, QuotaReply};

use super::quota::ASKS_MAX;
use super::{ObjectError, Objects};

/// A deletion that takes longer was abandoned: whoever meets it ends it. Fencing 16 shards takes milliseconds.
pub(super) const DELETION_OVERDUE_MS: u64 = 30_000;

/// How long a write waits for a deletion under way to end, before the client is told to come back.
const FENCE_WAIT: Duration = Duration::from_secs(5);

/// How often it looks.
const FENCE_POLL: Duration = Duration::from_millis(50);

/// What a fence means.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Fence {
    /// The bucket is deleted.
    Final,
    /// The bucket is being deleted.
    InForce,
    /// The bucket was being deleted by somebody who gave up.
    Overdue { name: String },
    /// The deletion is over and the bucket is there: it forgot to lift its fence.
    Void,
}

impl Objects {
    /// Carries out a command in an index shard, as [`Objects::mutate_as`] does, under a name of its own.
    pub(super) async fn mutate(
        &self,
        bucket: &Bucket,
        shard: ShardId,
        command: Command,
    ) -> Result<MetaReply, ObjectError> {
        self.mutate_as(None, bucket, shard, command).await
    }

    /// Carries out a command in an index shard; under a name that the caller gives, once. Never answers [`MetaReply::Fenced`] or [`QuotaReply::Short`].
    pub(super) async fn mutate_as(
        &self,
        request: Option<RequestId>,
        bucket: &Bucket,
        shard: ShardId,
        command: Command,
    ) -> Result<MetaReply, ObjectError> {
        let partition = self.client.watch().latest().partition_of_shard(bucket.id, shard);
        // The same proposal after a fence as before it: an earlier copy that is still under way must not count twice.
        let mut proposal = self.client.proposal(partition, self.under_quotas(bucket, command));
        let mutation = &mut proposal.mutation;
        mutation.request = request.unwrap_or(mutation.request);
        mutation.notice = self.notice(bucket, &mutation.command);
        let until = self.clock.monotonic() + FENCE_WAIT;
        let mut asks = 0;
        loop {
            match self.client.mutate(&mut proposal).await? {
                MetaReply::Fenced(_) if self.clock.monotonic() >= until => return Err(ObjectError::Conflict),
                MetaReply::Fenced(token) => self.resolve_fence(bucket.id, shard, token).await?,
                MetaReply::Quota(QuotaReply::Short { .. }) if asks == ASKS_MAX => return Err(ObjectError::Busy),
                MetaReply::Quota(QuotaReply::Short { kind, needs }) => {
                    asks += 1;
                    if !self.ask_for_more(bucket, shard, kind, needs).await? {
                        last_word(&mut proposal.mutation.command);
                    }
                }
                reply => return Ok(reply),
            }
        }
    }

    async fn resolve_fence(&self, bucket: BucketId, shard: ShardId, token: RequestId) -> Result<(), ObjectError> {
        let map = self.client.map().await?;
        match judge(&map, bucket, token, self.clock.now_ms()) {
            Fence::Final => return Err(ObjectError::NoSuchBucket),
            Fence::InForce => {
                tokio::time::sleep(FENCE_POLL).await;
                return Ok(());
            }
            Fence::Overdue { name } => {
                tracing::warn!(bucket = name, "ending an abandoned deletion of a bucket");
                // A refusal says that the bucket is gone meanwhile: the next look at the map finds it so.
                let aborted = self.client.change_map(MapChange::AbortDeleteBucket { name, token }).await?;
                if aborted.is_err() {
                    return Ok(());
                }
            }
            Fence::Void => {}
        }
        self.unfence(bucket, shard, token).await
    }

    /// Lets writing go on in a shard. The deletion must be known to be over.
    pub(super) async fn unfence(&self, bucket: BucketId, shard: ShardId, token: RequestId) -> Result<(), ObjectError> {
        let partition = self.client.watch().latest().partition_of_shard(bucket, shard);
        let mut proposal = self.client.proposal(partition, Command::Unfence { bucket, shard, token });
        self.client.mutate(&mut proposal).await?;
        Ok(())
    }
}

/// Nothing is left to ask for: what does not fit now is refused, and its chunks are garbage at once.
fn last_word(command: &mut Command) {
    if let Command::Put { quota, .. } | Command::Append { quota, .. } | Command::CompleteUpload { quota, .. } = command
    {
        quota.last = true;
    }
}

fn judge(map: &ClusterMap, bucket: BucketId, token: RequestId, now_ms: u64) -> Fence {
    let Some((name, bucket)) = map.buckets.iter().find(|(_, known)| known.id == bucket) else { return Fence::Final };
    match bucket.state {
        BucketState::Deleting { token: current, since_ms } if current == token => {
            let overdue = now_ms.saturating_sub(since_ms) > DELETION_OVERDUE_MS;
            if overdue { Fence::Overdue { name: name.clone() } } else { Fence::InForce }
        }
        BucketState::Active | BucketState::Deleting { .. } => Fence::Void,
    }
}
