//! Deleting objects and versions: by shard, all shards at once.

use std::collections::BTreeMap;

use annulus_common::condition::ETagCondition;
use annulus_common::ids::ShardId;
use annulus_common::protocol::metadata::{Command, DeleteOutcome, Deletion, MetaReply};
use futures::StreamExt;

use super::put::{key_path, refused};
use super::{DeleteObjects, Deleted, ObjectError, Objects};

/// Bytes of keys and conditions in one command: a Raft entry is at most 256 KiB.
const COMMAND_BYTES_MAX: usize = 128 << 10;

/// Commands of one request that are under way at once: as many as a bucket has shards.
const COMMANDS_AT_ONCE_MAX: usize = 16;

/// Deletions in one shard for one command, each with its place in the request.
type Batch = Vec<(usize, Deletion)>;

type Outcome = Result<Deleted, ObjectError>;

impl Objects {
    /// Deletes one object or version. One that is not there is no error, unless a condition asks for it.
    pub async fn delete(&self, delete: DeleteObjects<'_>) -> Outcome {
        assert_eq!(delete.deletions.len(), 1, "one deletion has one outcome");
        self.delete_many(delete).await.pop().expect("one deletion has one outcome")
    }

    /// Deletes objects and versions, each for itself. The outcomes are in the order asked.
    pub async fn delete_many(&self, delete: DeleteObjects<'_>) -> Vec<Outcome> {
        let DeleteObjects { bucket, owner, deletions } = delete;
        let mut outcomes: Vec<Outcome> = deletions.iter().map(|_| Ok(Deleted::Gone)).collect();
        let mut by_shard: BTreeMap<ShardId, Vec<Batch>> = BTreeMap::new();
        for (place, deletion) in deletions.into_iter().enumerate() {
            match key_path(bucket, &deletion.key) {
                Ok(path) => add(by_shard.entry(path.shard).or_default(), (place, deletion)),
                Err(error) => outcomes[place] = Err(error),
            }
        }
        let shards = by_shard.into_iter().map(|(shard, batches)| async move {
            let mut ended = Vec::new();
            // One after the other: what is asked of a key happens in the order asked.
            for batch in batches {
                let (places, deletions): (Vec<usize>, Vec<Deletion>) = batch.into_iter().unzip();
                let asked = DeleteObjects { bucket, owner, deletions };
                ended.extend(places.into_iter().zip(self.delete_batch(asked, shard).await));
            }
            ended
        });
        // Boxed: a closure that borrows the bucket is not general enough for the compiler to prove the stream `Send`.
        let shards: Vec<_> = shards.map(Box::pin).collect();
        let mut ended = futures::stream::iter(shards).buffer_unordered(COMMANDS_AT_ONCE_MAX);
        while let Some(shard) = ended.next().await {
            for (place, outcome) in shard {
                outcomes[place] = outcome;
            }
        }
        outcomes
    }

    /// What a command puts off the next one asks for; each carries out one deletion at least.
    async fn delete_batch(&self, delete: DeleteObjects<'_>, shard: ShardId) -> Vec<Outcome> {
        let DeleteObjects { bucket, owner, mut deletions } = delete;
        let versioning = bucket.config.versioning;
        let mut ended: Vec<Outcome> = Vec::with_capacity(deletions.len());
        while !deletions.is_empty() {
            let asked = deletions.clone();
            let command = Command::Delete { bucket: bucket.id, shard, versioning, owner, deletions: asked };
            let error = match self.mutate(bucket, shard, command).await {
                Ok(MetaReply::Deleted(outcomes))
                    if outcomes.len() == deletions.len() && outcomes[0] != DeleteOutcome::NotYet =>
                {
                    let before = ended.len();
                    ended.extend(outcomes.into_iter().map_while(outcome));
                    deletions.drain(..ended.len() - before);
                    continue;
                }
                Ok(reply) => refused(reply),
                Err(error) => error,
            };
            ended.extend(deletions.drain(..).map(|_| Err(error.clone())));
        }
        ended
    }
}

/// None of what was put off.
fn outcome(outcome: DeleteOutcome) -> Option<Outcome> {
    Some(match outcome {
        DeleteOutcome::Deleted => Ok(Deleted::Gone),
        DeleteOutcome::Marked(version) => Ok(Deleted::Marked(version)),
        DeleteOutcome::MarkerRemoved => Ok(Deleted::MarkerGone),
        DeleteOutcome::PreconditionFailed => Err(ObjectError::PreconditionFailed),
        DeleteOutcome::NoSuchKey => Err(ObjectError::NoSuchKey),
        DeleteOutcome::Locked => Err(ObjectError::Locked),
        DeleteOutcome::NotYet => return None,
    })
}

/// Adds a deletion to the last batch, or to a new one when that is full.
fn add(batches: &mut Vec<Batch>, entry: (usize, Deletion)) {
    let bytes = |(_, deletion): &(usize, Deletion)| {
        let tags = [&deletion.conditions.if_match, &deletion.conditions.if_none_match].into_iter().flatten();
        deletion.key.len() + 96 + tags.map(tag_bytes).sum::<usize>()
    };
    let room = |batch: &Batch| batch.iter().map(bytes).sum::<usize>() + bytes(&entry) <= COMMAND_BYTES_MAX;
    match batches.last_mut() {
        Some(batch) if room(batch) => batch.push(entry),
        _ => batches.push(vec![entry]),
    }
}

fn tag_bytes(condition: &ETagCondition) -> usize {
    match condition {
        ETagCondition::Any => 0,
        ETagCondition::OneOf(tags) => tags.iter().map(|tag| tag.len() + 2).sum(),
    }
}
