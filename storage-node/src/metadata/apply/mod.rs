//! Carries out mutations, each once, however often it is proposed. Deterministic: times and ids come in the mutation.

mod append;
mod attributes;
mod bucket;
mod condemn;
mod count;
mod delete;
mod object;
mod outbox;
mod quota;
mod rename;
mod upload;
mod version;

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_common::ids::{BucketId, GroupId, PartId, RequestId, ShardId};
use annulus_common::notification::Notice;
use annulus_common::object::{KeyPath, Part};
use annulus_common::protocol;
use annulus_common::protocol::metadata::{Applied, Command, Garbage, MetaReply, Mutation, QuotaReply};
use bytes::Bytes;

use super::schema::keys::Keys;
use super::schema::records::{Answered, GarbageLength, Record, Shard};
use crate::kv::{Batch, Kv, KvError, Table};
use crate::raft::StateMachine;

/// Log entries after which a new generation of answers begins. Two generations are kept: an answer is remembered for so many entries
/// at least, and a mutation may be carried out so many entries after its sender looked at most. At 3,000 mutations a second on
/// one partition that is 10 seconds, and none are carried out while a leader is elected. Counted in entries, not by a clock,
/// because a gateway whose clock is wrong must not make others' answers disappear.
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
            staged: BTreeMap::new(),
            index,
            time_ms: mutation.time_ms,
            request: mutation.request,
            since: mutation.since,
            notice: mutation.notice,
            events: 0,
        };
        let reply =
            step.once(mutation.command).unwrap_or_else(|error| panic!("entry {index} cannot be applied: {error}"));
        protocol::encode(&Applied { index, reply })
    }

    fn range(&self) -> (Table, Bytes, Bytes) {
        let (lower, upper) = self.keys.all();
        (Table::Meta, lower.into(), upper.into())
    }

    /// Nothing is kept in memory.
    fn restored(&mut self) {}
}

/// One mutation on its way: gathers its effects, and reads the state as they have left it so far.
struct Step<'a> {
    keys: Keys,
    kv: &'a dyn Kv,
    batch: &'a mut Batch,
    /// What becomes of single keys; removed where there is no value.
    staged: BTreeMap<Vec<u8>, Option<Bytes>>,
    index: u64,
    time_ms: u64,
    request: RequestId,
    since: Option<u64>,
    /// Whom to tell of what happens.
    notice: Option<Box<Notice>>,
    /// How many events there were so far.
    events: u16,
}

impl Step<'_> {
    /// Answers as before if the mutation was carried out before; does nothing if that cannot be known any more.
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
        if self.is_expired() {
            return Ok(MetaReply::Expired);
        }
        let reply = self.perform(command)?;
        // What changed nothing may be judged anew by a retry; a claim is its answer.
        if !self.staged.is_empty() || matches!(reply, MetaReply::Claimed(_)) {
            self.put(self.keys.answer(generation, self.request), &Answered(reply.clone()));
        }
        for (key, value) in std::mem::take(&mut self.staged) {
            match value {
                Some(value) => self.batch.put(Table::Meta, key, value),
                None => self.batch.delete(Table::Meta, key),
            }
        }
        Ok(reply)
    }

    /// Whatever copy of it was carried out first stands behind `since`, so that its answer would be remembered up to there. A log
    /// that is not even there yet is not the one that the sender saw.
    fn is_expired(&self) -> bool {
        let is_within = |since| (1..=ANSWER_GENERATION_ENTRIES).contains(&self.index.saturating_sub(since));
        self.since.is_some_and(|since| !is_within(since))
    }

    fn perform(&mut self, command: Command) -> Result<MetaReply, KvError> {
        match command {
            Command::Put { path, versioning, conditions, quota, object } => {
                self.put_object(&path, versioning, &conditions, quota, object)
            }
            Command::Append { path, sequence, conditions, quota, parts, size, etag, checksum } => {
                let addition = append::Addition { sequence, conditions, quota, parts, size, etag, checksum };
                self.append(&path, addition)
            }
            Command::Rename { path, sequence, to, conditions } => {
                let to = KeyPath { key: to, ..path };
                self.rename(&path, sequence, &to, &conditions)
            }
            Command::Delete { bucket, shard, versioning, owner, deletions } => {
                let deleter = delete::Deleter { bucket, shard, versioning, owner };
                self.delete_each(&deleter, deletions)
            }
            Command::CreateUpload { path, upload } => self.create_upload(&path, &upload),
            Command::PutPart { path, upload, part, sent } => self.put_part(&path, upload, part, sent),
            Command::CompleteUpload {
                path,
                upload,
                versioning,
                conditions,
                quota,
                default_retention,
                parts,
                fingerprint,
                etag,
                checksum,
            } => {
                let to_be = upload::ToBe { versioning, default_retention, etag, checksum };
                let completion = upload::Completion { upload, conditions, quota, parts, fingerprint, to_be };
                self.complete_upload(&path, completion)
            }
            Command::AbortUpload { path, upload } => self.abort_upload(&path, upload),
            Command::Fence { bucket, shard, token } => self.fence(bucket, shard, token),
            Command::Unfence { bucket, shard, token } => self.unfence(bucket, shard, token),
            Command::Collected(garbage) => Ok(self.forget_garbage(&garbage)),
            Command::Condemn(parts) => self.condemn(&parts),
            Command::SetAttributes { path, version, sequence, change } => {
                self.set_attributes(&path, version, sequence, change)
            }
            Command::Books { payer, entry } => self.keep_books(payer, entry),
            Command::Allowance { bucket, shard, kind, change } => self.change_allowance(bucket, shard, kind, change),
            Command::Outbox { webhook, change } => self.change_outbox(&webhook, &change),
            Command::Claim(request) => Ok(MetaReply::Claimed(request)),
        }
    }

    fn forget_garbage(&mut self, garbage: &[Garbage]) -> MetaReply {
        for entry in garbage {
            self.delete(self.keys.garbage(entry));
        }
        MetaReply::Done
    }

    /// What holds for a whole shard.
    fn shard(&self, bucket: BucketId, shard: ShardId) -> Result<Shard, KvError> {
        Ok(self.read(&self.keys.shard(bucket, shard))?.unwrap_or_default())
    }

    /// From now on something refers to the part.
    fn refer(&mut self, part: PartId) {
        self.put_bytes(self.keys.reference(part), Bytes::new());
    }

    /// From now on nothing refers to the part: its chunks are the collector's.
    fn discard(&mut self, part: &Part) {
        let garbage = Garbage { since_ms: self.time_ms, part: part.id, length: part.stored };
        self.delete(self.keys.reference(part.id));
        self.put(self.keys.garbage(&garbage), &GarbageLength(part.stored));
    }

    fn is_referred_to(&self, part: &Part) -> Result<bool, KvError> {
        Ok(self.get(&self.keys.reference(part.id))?.is_some())
    }

    /// What is refused leaves its chunks behind: they are garbage at once, and a retry is answered the same. But the gateway may
    /// put the same chunks again once it knows what a fence means, or has asked for more.
    fn refuse(&mut self, refusal: MetaReply, parts: &[Part]) -> Result<MetaReply, KvError> {
        if !matches!(refusal, MetaReply::Fenced(_) | MetaReply::Quota(QuotaReply::Short { .. })) {
            self.discard_unused(parts)?;
        }
        Ok(refusal)
    }

    /// Discards parts that a mutation brought and that nothing took. One that something refers to was taken: the mutation was
    /// carried out before, and its answer is forgotten.
    fn discard_unused(&mut self, parts: &[Part]) -> Result<(), KvError> {
        for part in parts {
            if !self.is_referred_to(part)? {
                self.discard(part);
            }
        }
        Ok(())
    }

    fn read<R: Record>(&self, key: &[u8]) -> Result<Option<R>, KvError> {
        self.get(key)?.map(|bytes| R::decode(&bytes)).transpose()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        match self.staged.get(key) {
            Some(staged) => Ok(staged.clone()),
            None => self.kv.get(Table::Meta, key),
        }
    }

    fn put<R: Record>(&mut self, key: Vec<u8>, record: &R) {
        self.put_bytes(key, record.encode());
    }

    fn put_bytes(&mut self, key: Vec<u8>, value: Bytes) {
        self.staged.insert(key, Some(value));
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.staged.insert(key, None);
    }
}
