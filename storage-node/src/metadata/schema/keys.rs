//! The keys of a partition's records. All begin with the Raft group and a letter for the kind, so that one range holds a partition.

use annulus_common::ids::{BucketId, GroupId, PartId, RequestId, ShardId, UploadId};
use annulus_common::notification::EventId;
use annulus_common::object::KeyPath;
use annulus_common::protocol::metadata::Garbage;
use annulus_common::usage::Payer;

const OBJECT: u8 = b'o';
const VERSION: u8 = b'v';
const NULL_VERSION: u8 = b'n';
const BODY: u8 = b'b';
const ATTRIBUTES: u8 = b'a';
const UPLOAD: u8 = b'u';
const PART: u8 = b'p';
const REFERENCE: u8 = b'r';
const GARBAGE: u8 = b'g';
const ANSWER: u8 = b'd';
const SHARD: u8 = b's';
const USAGE: u8 = b'c';
const CONDEMNED: u8 = b'x';
const BOOKS: u8 = b'q';
const GRANT: u8 = b'w';
const OUTBOX: u8 = b't';
const EVENT: u8 = b'e';
const ASIDE: u8 = b'h';
const UNTOLD: u8 = b'l';

/// The keys of one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    group: GroupId,
}

/// A range of keys: from the first, up to but without the second.
pub(crate) type Range = (Vec<u8>, Vec<u8>);

/// What a record that names parts is of.
pub(crate) enum Naming {
    /// The object that is there under a key.
    Object(KeyPath),
    /// Another version of a key.
    Version(KeyPath),
    /// A part of an upload.
    UploadedPart,
}

impl Keys {
    pub(crate) fn of(group: GroupId) -> Self {
        Self { group }
    }

    /// Everything of the group.
    pub(crate) fn all(self) -> Range {
        (self.group.0.to_be_bytes().to_vec(), (self.group.0 + 1).to_be_bytes().to_vec())
    }

    /// The records that name parts, in order: the heads of objects, uploaded parts, and old versions.
    pub(crate) fn naming(self) -> [Range; 3] {
        [OBJECT, PART, VERSION].map(|kind| (self.kind(kind), self.kind(kind + 1)))
    }

    /// What the key of a naming record is of.
    pub(crate) fn parse_naming(key: &[u8]) -> Option<Naming> {
        let path = |object_key: String| {
            let (bucket, shard) = shard_of(key)?;
            Some(KeyPath { bucket, shard, key: object_key })
        };
        match *key.get(KIND_PREFIX_BYTES - 1)? {
            OBJECT => path(Keys::parse_object(key)?.to_owned()).map(Naming::Object),
            VERSION => path(Keys::parse_version(key)?.0).map(Naming::Version),
            PART => Some(Naming::UploadedPart),
            _ => None,
        }
    }

    /// The head of the object that is there under a key.
    pub(crate) fn object(self, path: &KeyPath) -> Vec<u8> {
        self.in_shard(OBJECT, path.bucket, path.shard, path.key.as_bytes())
    }

    /// The body of the object that was written as entry `sequence`: apart from the head, so that lists and conditions never
    /// read it, and so that it stays where it is when the object becomes an old version.
    pub(crate) fn body(self, path: &KeyPath, sequence: u64) -> Vec<u8> {
        self.in_shard(BODY, path.bucket, path.shard, &sequence.to_be_bytes())
    }

    /// The attributes of the object that was written as entry `sequence`.
    pub(crate) fn attributes(self, path: &KeyPath, sequence: u64) -> Vec<u8> {
        self.in_shard(ATTRIBUTES, path.bucket, path.shard, &sequence.to_be_bytes())
    }

    /// A version of a key that is not the object that is there: an old object or a delete marker. The newest sorts first.
    pub(crate) fn version(self, path: &KeyPath, sequence: u64) -> Vec<u8> {
        let mut key = self.versions_from(path.bucket, path.shard, path.key.as_bytes());
        key.extend_from_slice(&TERMINATOR);
        key.extend_from_slice(&(!sequence).to_be_bytes());
        key
    }

    /// The versions of a key under [`Keys::version`] that are older than `sequence`.
    pub(crate) fn versions_before(self, path: &KeyPath, sequence: u64) -> Range {
        let mut upper = self.version(path, 0);
        upper.push(0);
        let mut lower = self.version(path, sequence);
        lower.push(0);
        (lower, upper)
    }

    /// Where the versions of object keys at or after `from` begin.
    pub(crate) fn versions_from(self, bucket: BucketId, shard: ShardId, from: &[u8]) -> Vec<u8> {
        let mut key = self.in_shard(VERSION, bucket, shard, &[]);
        escape(from, &mut key);
        key
    }

    /// The object key and the sequence of a version's key.
    pub(crate) fn parse_version(key: &[u8]) -> Option<(String, u64)> {
        let (object_key, sequence) = split_escaped(key, 8)?;
        Some((object_key, !u64::from_be_bytes(sequence.try_into().ok()?)))
    }

    /// Where the null version of a key is, if it is under [`Keys::version`].
    pub(crate) fn null_version(self, path: &KeyPath) -> Vec<u8> {
        self.in_shard(NULL_VERSION, path.bucket, path.shard, path.key.as_bytes())
    }

    /// Everything that says which versions there are: one cursor sees it at one moment.
    pub(crate) fn heads(self) -> Range {
        (self.kind(NULL_VERSION), self.kind(VERSION + 1))
    }

    /// Where the heads of a shard begin; a key's bytes follow as they are.
    pub(crate) fn objects(self, bucket: BucketId, shard: ShardId) -> Vec<u8> {
        self.in_shard(OBJECT, bucket, shard, &[])
    }

    /// A multipart upload.
    pub(crate) fn upload(self, path: &KeyPath, upload: UploadId) -> Vec<u8> {
        let mut key = self.uploads_from(path.bucket, path.shard, path.key.as_bytes());
        key.extend_from_slice(&TERMINATOR);
        key.extend_from_slice(&upload.0);
        key
    }

    /// Where the uploads of object keys at or after `from` begin.
    pub(crate) fn uploads_from(self, bucket: BucketId, shard: ShardId, from: &[u8]) -> Vec<u8> {
        let mut key = self.in_shard(UPLOAD, bucket, shard, &[]);
        escape(from, &mut key);
        key
    }

    /// All uploads.
    pub(crate) fn uploads(self) -> Range {
        (self.kind(UPLOAD), self.kind(UPLOAD + 1))
    }

    /// Which upload of which shard an upload's key is of.
    pub(crate) fn parse_upload_path(key: &[u8]) -> Option<(KeyPath, UploadId)> {
        let ((bucket, shard), (object_key, upload)) = (shard_of(key)?, Self::parse_upload(key)?);
        Some((KeyPath { bucket, shard, key: object_key }, upload))
    }

    /// The object key and the id of an upload's key.
    pub(crate) fn parse_upload(key: &[u8]) -> Option<(String, UploadId)> {
        let (object_key, id) = split_escaped(key, 16)?;
        Some((object_key, UploadId(id.try_into().ok()?)))
    }

    /// The object key of a head's key.
    pub(crate) fn parse_object(key: &[u8]) -> Option<&str> {
        std::str::from_utf8(key.get(SHARD_PREFIX_BYTES..)?).ok()
    }

    /// An uploaded part.
    pub(crate) fn part(self, upload: UploadId, number: u16) -> Vec<u8> {
        let mut key = self.kind(PART);
        key.extend_from_slice(&upload.0);
        key.extend_from_slice(&number.to_be_bytes());
        key
    }

    /// That something refers to a part.
    pub(crate) fn reference(self, part: PartId) -> Vec<u8> {
        let mut key = self.kind(REFERENCE);
        key.extend_from_slice(&part.0);
        key
    }

    /// A part that nothing refers to, oldest first.
    pub(crate) fn garbage(self, garbage: &Garbage) -> Vec<u8> {
        let mut key = self.garbage_since(garbage.since_ms);
        key.extend_from_slice(&garbage.part.0);
        key
    }

    /// Where the garbage since `since_ms` begins.
    pub(crate) fn garbage_since(self, since_ms: u64) -> Vec<u8> {
        let mut key = self.kind(GARBAGE);
        key.extend_from_slice(&since_ms.to_be_bytes());
        key
    }

    /// Where the garbage after that entry begins.
    pub(crate) fn garbage_after(self, since_ms: u64, part: PartId) -> Vec<u8> {
        let mut key = self.garbage(&Garbage { since_ms, part, length: 0 });
        key.push(0);
        key
    }

    /// The time and part of a garbage key.
    pub(crate) fn parse_garbage(key: &[u8]) -> Option<(u64, PartId)> {
        let rest = key.get(KIND_PREFIX_BYTES..)?;
        let (since, part) = rest.split_at_checked(8)?;
        Some((u64::from_be_bytes(since.try_into().ok()?), PartId(part.try_into().ok()?)))
    }

    /// That nothing can refer to a part any more.
    pub(crate) fn condemned(self, part: PartId) -> Vec<u8> {
        let mut key = self.kind(CONDEMNED);
        key.extend_from_slice(&part.0);
        key
    }

    /// Where the condemned parts begin whose ids were drawn at or after that time: ids sort by age.
    pub(crate) fn condemned_from(self, drawn_ms: u64) -> Vec<u8> {
        let mut key = self.kind(CONDEMNED);
        key.extend_from_slice(&drawn_ms.to_be_bytes()[2..]);
        key
    }

    /// The answer that a mutation was given.
    pub(crate) fn answer(self, generation: u64, request: RequestId) -> Vec<u8> {
        let mut key = self.answers(generation);
        key.extend_from_slice(&request.0);
        key
    }

    /// Where the answers of a generation begin.
    pub(crate) fn answers(self, generation: u64) -> Vec<u8> {
        let mut key = self.kind(ANSWER);
        key.extend_from_slice(&generation.to_be_bytes());
        key
    }

    /// What holds for a whole shard.
    pub(crate) fn shard(self, bucket: BucketId, shard: ShardId) -> Vec<u8> {
        self.in_shard(SHARD, bucket, shard, &[])
    }

    /// How much lies under a prefix of so many slashes: all of one depth lie side by side.
    pub(crate) fn usage(self, bucket: BucketId, shard: ShardId, depth: u8, prefix: &str) -> Vec<u8> {
        let mut key = self.usages(bucket, shard);
        key.push(depth);
        key.extend_from_slice(prefix.as_bytes());
        key
    }

    /// Where the usages of a shard begin.
    pub(crate) fn usages(self, bucket: BucketId, shard: ShardId) -> Vec<u8> {
        self.in_shard(USAGE, bucket, shard, &[])
    }

    /// The prefix of a usage's key.
    pub(crate) fn parse_usage(key: &[u8]) -> Option<&str> {
        std::str::from_utf8(key.get(SHARD_PREFIX_BYTES + 1..)?).ok()
    }

    /// The books of a quota.
    pub(crate) fn books(self, payer: Payer) -> Vec<u8> {
        let mut key = self.kind(BOOKS);
        push_payer(payer, &mut key);
        key
    }

    /// What a shard may use of a quota, in its books.
    pub(crate) fn grant(self, payer: Payer, bucket: BucketId, shard: ShardId) -> Vec<u8> {
        let mut key = self.grants(payer);
        key.extend_from_slice(&bucket.0.to_be_bytes());
        key.extend_from_slice(&shard.0.to_be_bytes());
        key
    }

    /// Where the grants of a quota begin.
    pub(crate) fn grants(self, payer: Payer) -> Vec<u8> {
        let mut key = self.kind(GRANT);
        push_payer(payer, &mut key);
        key
    }

    /// The shard of a grant's key.
    pub(crate) fn parse_grant(key: &[u8]) -> Option<(BucketId, ShardId)> {
        let (rest, shard) = key.split_last_chunk::<2>()?;
        let (_, bucket) = rest.split_last_chunk::<8>()?;
        Some((BucketId(u64::from_be_bytes(*bucket)), ShardId(u16::from_be_bytes(*shard))))
    }

    /// What holds for all events that wait for a webhook.
    pub(crate) fn outbox(self, webhook: &str) -> Vec<u8> {
        let mut key = self.kind(OUTBOX);
        key.extend_from_slice(webhook.as_bytes());
        key
    }

    /// All outboxes.
    pub(crate) fn outboxes(self) -> Range {
        (self.kind(OUTBOX), self.kind(OUTBOX + 1))
    }

    /// What a webhook is never told.
    pub(crate) fn untold(self, webhook: &str) -> Vec<u8> {
        let mut key = self.kind(UNTOLD);
        key.extend_from_slice(webhook.as_bytes());
        key
    }

    /// That of all webhooks.
    pub(crate) fn untolds(self) -> Range {
        (self.kind(UNTOLD), self.kind(UNTOLD + 1))
    }

    /// The webhook of a key under [`Keys::outbox`] or [`Keys::untold`].
    pub(crate) fn parse_webhook(key: &[u8]) -> Option<&str> {
        std::str::from_utf8(key.get(KIND_PREFIX_BYTES..)?).ok()
    }

    /// An event that waits for a webhook; they lie in their order.
    pub(crate) fn event(self, webhook: &str, id: EventId) -> Vec<u8> {
        let mut key = self.events(webhook);
        push_event_id(id, &mut key);
        key
    }

    /// Where the events of a webhook begin.
    pub(crate) fn events(self, webhook: &str) -> Vec<u8> {
        self.in_outbox(EVENT, webhook)
    }

    /// Where the events of a webhook after that one begin.
    pub(crate) fn events_after(self, webhook: &str, id: EventId) -> Vec<u8> {
        let mut key = self.event(webhook, id);
        key.push(0);
        key
    }

    /// That an event is set aside.
    pub(crate) fn aside(self, webhook: &str, id: EventId) -> Vec<u8> {
        let mut key = self.asides(webhook);
        push_event_id(id, &mut key);
        key
    }

    /// Where that is said of the events of a webhook.
    pub(crate) fn asides(self, webhook: &str) -> Vec<u8> {
        self.in_outbox(ASIDE, webhook)
    }

    /// The event of a key under [`Keys::event`] or [`Keys::aside`].
    pub(crate) fn parse_event(key: &[u8]) -> Option<EventId> {
        let (rest, ordinal) = key.split_last_chunk::<2>()?;
        let (_, index) = rest.split_last_chunk::<8>()?;
        Some(EventId { index: u64::from_be_bytes(*index), ordinal: u16::from_be_bytes(*ordinal) })
    }

    /// No name holds a 0, so none is the beginning of another's.
    fn in_outbox(self, kind: u8, webhook: &str) -> Vec<u8> {
        let mut key = self.kind(kind);
        key.extend_from_slice(webhook.as_bytes());
        key.push(0);
        key
    }

    fn kind(self, kind: u8) -> Vec<u8> {
        let mut key = Vec::with_capacity(48);
        key.extend_from_slice(&self.group.0.to_be_bytes());
        key.push(kind);
        key
    }

    fn in_shard(self, kind: u8, bucket: BucketId, shard: ShardId, rest: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(SHARD_PREFIX_BYTES + rest.len() + 32);
        key.extend_from_slice(&self.group.0.to_be_bytes());
        key.push(kind);
        key.extend_from_slice(&bucket.0.to_be_bytes());
        key.extend_from_slice(&shard.0.to_be_bytes());
        key.extend_from_slice(rest);
        key
    }
}

fn push_event_id(id: EventId, key: &mut Vec<u8>) {
    key.extend_from_slice(&id.index.to_be_bytes());
    key.extend_from_slice(&id.ordinal.to_be_bytes());
}

/// Neither kind is the beginning of another payer's of the same kind: each has its length.
fn push_payer(payer: Payer, key: &mut Vec<u8>) {
    match payer {
        Payer::Bucket(bucket) => {
            key.push(b'b');
            key.extend_from_slice(&bucket.0.to_be_bytes());
        }
        Payer::Account(user) => {
            key.push(b'a');
            key.extend_from_slice(&user.0);
        }
    }
}

const KIND_PREFIX_BYTES: usize = 5;
const SHARD_PREFIX_BYTES: usize = KIND_PREFIX_BYTES + 10;

/// The shard of a key that lies in one.
fn shard_of(key: &[u8]) -> Option<(BucketId, ShardId)> {
    let (bucket, rest) = key.get(KIND_PREFIX_BYTES..)?.split_first_chunk()?;
    let (shard, _) = rest.split_first_chunk()?;
    Some((BucketId(u64::from_be_bytes(*bucket)), ShardId(u16::from_be_bytes(*shard))))
}

/// Ends an escaped object key: sorts before every byte that can follow in a longer one.
const TERMINATOR: [u8; 2] = [0, 0];

/// Object keys may hold the byte 0: `00` becomes `00 ff`, so that the order stays and `00 00` can end the key.
fn escape(bytes: &[u8], into: &mut Vec<u8>) {
    for &byte in bytes {
        into.push(byte);
        if byte == 0 {
            into.push(u8::MAX);
        }
    }
}

/// The object key at the end of a stored key, and the `tail_bytes` that follow it.
fn split_escaped(key: &[u8], tail_bytes: usize) -> Option<(String, &[u8])> {
    let rest = key.get(SHARD_PREFIX_BYTES..)?;
    let (escaped, tail) = rest.split_at_checked(rest.len().checked_sub(tail_bytes)?)?;
    let object_key = String::from_utf8(unescape(escaped.strip_suffix(&TERMINATOR)?)?).ok()?;
    Some((object_key, tail))
}

fn unescape(escaped: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.iter();
    while let Some(&byte) = rest.next() {
        if byte == 0 && *rest.next()? != u8::MAX {
            return None;
        }
        bytes.push(byte);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{BucketId, GroupId, KeyPath, Keys, ShardId, UploadId};

    fn path(key: &str) -> KeyPath {
        KeyPath { bucket: BucketId(7), shard: ShardId(3), key: key.to_owned() }
    }

    proptest! {
        #[test]
        fn an_uploads_key_says_which_upload_it_is(key in ".{0,20}", id: [u8; 16]) {
            let stored = Keys::of(GroupId(9)).upload(&path(&key), UploadId(id));
            prop_assert_eq!(Keys::parse_upload(&stored), Some((key.clone(), UploadId(id))));
            prop_assert_eq!(Keys::parse_upload_path(&stored), Some((path(&key), UploadId(id))));
        }

        #[test]
        fn uploads_sort_by_object_key_then_by_id(
            left in "[\\x00ab\u{ff}]{0,4}", right in "[\\x00ab\u{ff}]{0,4}", left_id: [u8; 16], right_id: [u8; 16],
        ) {
            let keys = Keys::of(GroupId(1));
            let stored = keys.upload(&path(&left), UploadId(left_id)).cmp(&keys.upload(&path(&right), UploadId(right_id)));
            prop_assert_eq!(stored, (left.as_bytes(), left_id).cmp(&(right.as_bytes(), right_id)));
        }

        #[test]
        fn versions_sort_by_object_key_then_newest_first(
            left in "[\\x00ab\u{ff}]{0,4}", right in "[\\x00ab\u{ff}]{0,4}", left_at: u64, right_at: u64,
        ) {
            let keys = Keys::of(GroupId(1));
            let (one, other) = (keys.version(&path(&left), left_at), keys.version(&path(&right), right_at));
            let expected = (left.as_bytes(), !left_at).cmp(&(right.as_bytes(), !right_at));
            prop_assert_eq!(one.cmp(&other), expected);
            let (lower, upper) = keys.versions_before(&path(&left), left_at);
            prop_assert_eq!(lower <= other && other < upper, left == right && right_at < left_at);
            prop_assert_eq!(Keys::parse_version(&one), Some((left, left_at)));
        }

        #[test]
        fn a_heads_key_says_which_object_it_is(key in ".{0,20}") {
            let stored = Keys::of(GroupId(9)).object(&path(&key));
            prop_assert_eq!(Keys::parse_object(&stored), Some(key.as_str()));
        }
    }
}
