//! Deleting objects: by shard, all shards at once.

use std::collections::BTreeMap;

use annulus_common::condition::{Conditions, ETagCondition};
use annulus_common::ids::ShardId;
use annulus_common::map::Bucket;
use annulus_common::protocol::metadata::{Command, DeleteOutcome, MetaReply};
use futures::StreamExt;

use super::put::{key_path, refused};
use super::{ObjectError, Objects};

/// Bytes of keys and conditions in one command: a Raft entry is at most 256 KiB.
const COMMAND_BYTES_MAX: usize = 128 << 10;

/// Commands of one request that are under way at once: as many as a bucket has shards.
const COMMANDS_AT_ONCE_MAX: usize = 16;

/// Keys of one shard for one command, each with its place in the request.
type Batch = Vec<(usize, String, Conditions)>;

impl Objects {
    /// Removes an object. One that is not there is no error, unless a condition asks for it.
    pub async fn delete(&self, bucket: &Bucket, key: &str, conditions: Conditions) -> Result<(), ObjectError> {
        let outcome = self.delete_many(bucket, vec![(key.to_owned(), conditions)]).await.pop();
        outcome.expect("one key has one outcome")
    }

    /// Removes objects, each for itself. The outcomes are in the order asked.
    pub async fn delete_many(&self, bucket: &Bucket, keys: Vec<(String, Conditions)>) -> Vec<Result<(), ObjectError>> {
        let mut outcomes: Vec<Result<(), ObjectError>> = keys.iter().map(|_| Ok(())).collect();
        let mut by_shard: BTreeMap<ShardId, Vec<Batch>> = BTreeMap::new();
        for (place, (key, conditions)) in keys.into_iter().enumerate() {
            match key_path(bucket, &key) {
                Ok(path) => add(by_shard.entry(path.shard).or_default(), (place, key, conditions)),
                Err(error) => outcomes[place] = Err(error),
            }
        }
        let batches =
            by_shard.into_iter().flat_map(|(shard, batches)| batches.into_iter().map(move |batch| (shard, batch)));
        let deletions = batches.map(|(shard, batch)| self.delete_batch(bucket, shard, batch));
        // Boxed: a closure that borrows the bucket is not general enough for the compiler to prove the stream `Send`.
        let deletions: Vec<_> = deletions.map(Box::pin).collect();
        let mut ended = futures::stream::iter(deletions).buffer_unordered(COMMANDS_AT_ONCE_MAX);
        while let Some(batch) = ended.next().await {
            for (place, outcome) in batch {
                outcomes[place] = outcome;
            }
        }
        outcomes
    }

    async fn delete_batch(
        &self,
        bucket: &Bucket,
        shard: ShardId,
        batch: Batch,
    ) -> Vec<(usize, Result<(), ObjectError>)> {
        let places: Vec<usize> = batch.iter().map(|(place, ..)| *place).collect();
        let keys = batch.into_iter().map(|(_, key, conditions)| (key, conditions)).collect();
        let command = Command::Delete { bucket: bucket.id, shard, keys };
        let error = match self.mutate(bucket, shard, command).await {
            Ok(MetaReply::Deleted(outcomes)) if outcomes.len() == places.len() => {
                return places.into_iter().zip(outcomes.into_iter().map(outcome)).collect();
            }
            Ok(reply) => refused(reply),
            Err(error) => error,
        };
        places.into_iter().map(|place| (place, Err(error.clone()))).collect()
    }
}

fn outcome(outcome: DeleteOutcome) -> Result<(), ObjectError> {
    match outcome {
        DeleteOutcome::Deleted => Ok(()),
        DeleteOutcome::PreconditionFailed => Err(ObjectError::PreconditionFailed),
        DeleteOutcome::NoSuchKey => Err(ObjectError::NoSuchKey),
    }
}

/// Adds a key to the last batch, or to a new one when that is full.
fn add(batches: &mut Vec<Batch>, entry: (usize, String, Conditions)) {
    let bytes = |(_, key, conditions): &(usize, String, Conditions)| {
        let tags = [&conditions.if_match, &conditions.if_none_match].into_iter().flatten();
        key.len() + 64 + tags.map(tag_bytes).sum::<usize>()
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
