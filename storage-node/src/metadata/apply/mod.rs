//! Carries out mutations, each once, however often it is proposed. Deterministic: times and ids come in the mutation.

mod bucket;
mod object;
mod upload;

use std::sync::Arc;

use annulus_common::ids::{BucketId, GroupId, PartId, RequestId, ShardId};
use annulus_common::object::{KeyPath, Part};
use annulus_common::protocol;
use annulus_common::protocol::metadata::{Command, Garbage, MetaReply, Mutation};
use bytes::Bytes;

use super::schema::keys::Keys;
use super::schema::records::{Answered, BodyKind, FenceToken, GarbageLength, Head, Manifest, Record};
use crate::kv::{Batch, Kv, KvError, Table};
use crate::raft::StateMachine;

/// Log entries after which a new generation of answers begins. Two generations are kept: a retry comes within seconds, and
/// even at 3,000 mutations a second on one partition the older generation is 10 seconds long. Counted in entries, not by a
/// clock, because a gateway whose clock is wrong must not make others' answers disappear.
const ANSWER_GENERATION_ENTRIES: u64 = 1 << 15;

/// The state machine of one partition.
pub struct Partition {
    keys: Keys,
    kv: Arc<dyn Kv>,
}

impl Partition {
    /// The state machine of `group` over the state that `kv` holds.
    pub fn new(group: GroupId, kv: Arc<dyn Kv>) -> Self {
        Self { keys: Keys::of(group), kv }
    }
}

impl StateMachine for Partition {
    /// Panics when the state cannot be read, as the seam asks: a replica that guesses would part from the others.
    fn apply(&mut self, index: u64, command: &[u8], batch: &mut Batch) -> Bytes {
        let mutation: Mutation =
            protocol::decode(command).unwrap_or_else(|error| panic!("entry {index} is not a mutation: {error}"));
        let mut step = Step {
            keys: self.keys,
            kv: self.kv.as_ref(),
            batch,
            index,
            time_ms: mutation.time_ms,
            request: mutation.request,
        };
        let reply =
            step.once(mutation.command).unwrap_or_else(|error| panic!("entry {index} cannot be applied: {error}"));
        protocol::encode(&reply)
    }

    fn range(&self) -> (Table, Bytes, Bytes) {
        let (lower, upper) = self.keys.all();
        (Table::Meta, lower.into(), upper.into())
    }

    /// Nothing is kept in memory.
    fn restored(&mut self) {}
}

/// One mutation on its way: reads the state before it, and gathers its effects.
struct Step<'a> {
    keys: Keys,
    kv: &'a dyn Kv,
    batch: &'a mut Batch,
    index: u64,
    time_ms: u64,
    request: RequestId,
}

impl Step<'_> {
    /// Answers as before if the mutation was carried out before.
    fn once(&mut self, command: Command) -> Result<MetaReply, KvError> {
        let generation = self.index / ANSWER_GENERATION_ENTRIES;
        for generation in [Some(generation), generation.checked_sub(1)].into_iter().flatten() {
            if let Some(Answered(reply)) = self.read(&self.keys.answer(generation, self.request))? {
                return Ok(reply);
            }
        }
        if self.index.is_multiple_of(ANSWER_GENERATION_ENTRIES) {
            self.batch.delete_range(Table::Meta, self.keys.answers(0), self.keys.answers(generation.saturating_sub(1)));
        }
        let ops = self.batch.ops.len();
        let reply = self.perform(command)?;
        // What changed nothing may be judged anew by a retry.
        if self.batch.ops.len() > ops {
            self.put(self.keys.answer(generation, self.request), &Answered(reply.clone()));
        }
        Ok(reply)
    }

    fn perform(&mut self, command: Command) -> Result<MetaReply, KvError> {
        match command {
            Command::Put { path, conditions, object } => self.put_object(&path, &conditions, object),
            Command::Delete { bucket, shard, keys } => self.delete_objects(bucket, shard, keys),
            Command::CreateUpload { path, upload } => self.create_upload(&path, &upload),
            Command::PutPart { path, upload, part } => self.put_part(&path, upload, part),
            Command::CompleteUpload { path, upload, conditions, parts, fingerprint, etag, checksum } => {
                let completion = upload::Completion { upload, conditions, parts, fingerprint, etag, checksum };
                self.complete_upload(&path, completion)
            }
            Command::AbortUpload { path, upload } => self.abort_upload(&path, upload),
            Command::Fence { bucket, shard, token } => self.fence(bucket, shard, token),
            Command::Unfence { bucket, shard, token } => self.unfence(bucket, shard, token),
            Command::Collected(garbage) => Ok(self.forget_garbage(&garbage)),
            Command::SetAttributes { path, version, sequence, change } => {
                self.set_attributes(&path, version, sequence, change)
            }
        }
    }

    fn forget_garbage(&mut self, garbage: &[Garbage]) -> MetaReply {
        for entry in garbage {
            self.delete(self.keys.garbage(entry));
        }
        MetaReply::Done
    }

    /// The deletion that stopped writing to a shard.
    fn fenced(&self, bucket: BucketId, shard: ShardId) -> Result<Option<RequestId>, KvError> {
        Ok(self.read(&self.keys.fence(bucket, shard))?.map(|FenceToken(token)| token))
    }

    fn head(&self, path: &KeyPath) -> Result<Option<Head>, KvError> {
        self.read(&self.keys.object(path))
    }

    /// From now on something refers to the part.
    fn refer(&mut self, part: PartId) {
        self.batch.put(Table::Meta, self.keys.reference(part), Bytes::new());
    }

    /// From now on nothing refers to the part: its chunks are the collector's.
    fn discard(&mut self, part: &Part) {
        let garbage = Garbage { since_ms: self.time_ms, part: part.id, length: part.stored };
        self.delete(self.keys.reference(part.id));
        self.put(self.keys.garbage(&garbage), &GarbageLength(part.stored));
    }

    /// Discards the bytes of a version that is being replaced or removed.
    fn discard_body(&mut self, path: &KeyPath, head: &Head) -> Result<(), KvError> {
        match head.body {
            BodyKind::None => {}
            BodyKind::Inline => self.delete(self.keys.body(path)),
            BodyKind::Manifest => {
                if let Some(record) = self.kv.get(Table::Meta, &self.keys.body(path))? {
                    for part in &Manifest::of_body(&record)?.parts {
                        self.discard(part);
                    }
                }
                self.delete(self.keys.body(path));
            }
        }
        Ok(())
    }

    fn read<R: Record>(&self, key: &[u8]) -> Result<Option<R>, KvError> {
        self.kv.get(Table::Meta, key)?.map(|bytes| R::decode(&bytes)).transpose()
    }

    fn put<R: Record>(&mut self, key: Vec<u8>, record: &R) {
        self.batch.put(Table::Meta, key, record.encode());
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.batch.delete(Table::Meta, key);
    }
}
