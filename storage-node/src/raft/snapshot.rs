//! Snapshots on their way out: a follower that is too far behind pulls the state of a group in pieces, beside Raft.
//!
//! A `MsgSnapshot` carries no data, only the index, term and membership. The follower then asks its sender for piece
//! after piece; the sender answers out of one [`Kv::snapshot`], held by a thread of its own (the trait's snapshots
//! borrow the database). State machines are deterministic, so a snapshot is fully named by group and index: two of the
//! same index hold the same bytes, and a transfer may go on after its sender restarted.
//!
//! ```text
//! request = version u8 (1) | kind u8 (0 next, 1 finished, 2 abandoned) | group u32 BE | index u64 BE | after: key
//! reply   = version u8 (1) | kind u8 (0 piece, 1 last piece, 2 gone, 3 failed) | pair*
//! pair    = key bytes u32 BE | key | value bytes u32 BE | value
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;

use annulus_common::ids::{GroupId, NodeId};
use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::kv::{Kv, KvError, KvRead, Table};

const VERSION: u8 = 1;
/// What a reply may be at most: a full piece and one pair that is larger than any entry.
const REPLY_BYTES_MAX: usize = 8 << 20;
/// Snapshots that are held at once: each keeps the database from dropping what was deleted since.
const OUTGOING_MAX: usize = 4;
/// Ticks without a request after which a snapshot is given up: 30 s.
const IDLE_TICKS_MAX: u32 = 300;
/// Requests of one follower that may wait: it asks one at a time, and may repeat one whose answer was lost.
const ASKS_WAITING_MAX: usize = 2;

/// How pieces are got from another node. At the other end the request must come to
/// [`RaftNode::serve_snapshot`](super::RaftNode::serve_snapshot).
#[async_trait]
pub trait SnapshotSource: Send + Sync + 'static {
    /// Takes a request to `from` and returns its answer. Must end by itself: with a deadline of a few seconds.
    async fn fetch(&self, from: NodeId, request: Bytes) -> Result<Bytes, FetchError>;
}

/// The other node could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a piece of a snapshot could not be fetched: {reason}")]
pub struct FetchError {
    /// Why.
    pub reason: String,
}

/// All state of a state machine: `lower..upper` of a table.
#[derive(Clone, Debug)]
pub(super) struct KeyRange {
    pub(super) table: Table,
    pub(super) lower: Bytes,
    pub(super) upper: Bytes,
}

/// What a follower asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PieceRequest {
    pub(super) group: GroupId,
    /// The index of the snapshot.
    pub(super) index: u64,
    pub(super) step: PieceStep,
}

/// Where a follower stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PieceStep {
    /// It wants what follows this key; from the beginning if it is empty.
    Next(Bytes),
    /// It has installed the snapshot.
    Finished,
    /// It has given up.
    Abandoned,
}

impl PieceRequest {
    pub(super) fn encode(&self) -> Bytes {
        let (kind, after) = match &self.step {
            PieceStep::Next(after) => (0, after.as_ref()),
            PieceStep::Finished => (1, &[][..]),
            PieceStep::Abandoned => (2, &[][..]),
        };
        let mut bytes = BytesMut::with_capacity(14 + after.len());
        bytes.put_u8(VERSION);
        bytes.put_u8(kind);
        bytes.put_u32(self.group.0);
        bytes.put_u64(self.index);
        bytes.put_slice(after);
        bytes.freeze()
    }

    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let mut bytes = bytes.clone();
        if bytes.len() < 14 || bytes.get_u8() != VERSION {
            return None;
        }
        let kind = bytes.get_u8();
        let group = GroupId(bytes.get_u32());
        let index = bytes.get_u64();
        let step = match kind {
            0 => PieceStep::Next(bytes),
            1 => PieceStep::Finished,
            2 => PieceStep::Abandoned,
            _ => return None,
        };
        Some(Self { group, index, step })
    }
}

/// What a follower is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PieceReply {
    /// Pairs in the order of their keys.
    Piece {
        pairs: Vec<(Bytes, Bytes)>,
        /// Whether nothing follows.
        last: bool,
    },
    /// There is no such snapshot (any more).
    Gone,
    /// The sender could not read its state.
    Failed,
}

impl PieceReply {
    pub(super) fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < 2 || bytes.len() > REPLY_BYTES_MAX || bytes.get_u8() != VERSION {
            return None;
        }
        let last = match bytes.get_u8() {
            0 => false,
            1 => true,
            2 => return Some(Self::Gone),
            3 => return Some(Self::Failed),
            _ => return None,
        };
        let mut pairs = Vec::new();
        while !bytes.is_empty() {
            let key = take_field(&mut bytes)?;
            let value = take_field(&mut bytes)?;
            pairs.push((key, value));
        }
        Some(Self::Piece { pairs, last })
    }

    fn encode_empty(&self) -> Bytes {
        let kind = match self {
            Self::Piece { last: false, .. } => 0,
            Self::Piece { last: true, .. } => 1,
            Self::Gone => 2,
            Self::Failed => 3,
        };
        Bytes::copy_from_slice(&[VERSION, kind])
    }
}

fn take_field(bytes: &mut Bytes) -> Option<Bytes> {
    if bytes.len() < 4 {
        return None;
    }
    let length = bytes.get_u32() as usize;
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

/// How a transfer ended, for the leader's Raft core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub(super) group: GroupId,
    pub(super) to: NodeId,
    pub(super) installed: bool,
}

/// The snapshots that a node is serving.
pub(super) struct SnapshotStore {
    kv: Arc<dyn Kv>,
    piece_bytes: usize,
    sessions: Mutex<BTreeMap<(GroupId, NodeId), Session>>,
}

struct Session {
    index: u64,
    /// Dropping it ends the thread that holds the database's snapshot.
    asks: mpsc::SyncSender<Ask>,
    idle_ticks: u32,
}

struct Ask {
    after: Bytes,
    answer: oneshot::Sender<Bytes>,
}

impl SnapshotStore {
    pub(super) fn new(kv: Arc<dyn Kv>, piece_bytes: usize) -> Self {
        Self { kv, piece_bytes, sessions: Mutex::default() }
    }

    /// Begins to hold the state of this moment for a follower, in place of what was held for it before. The caller is
    /// the only writer of the range, so the state is that of its applied index. False when too many are held already.
    pub(super) fn begin(&self, group: GroupId, to: NodeId, index: u64, range: &KeyRange) -> bool {
        let mut sessions = self.sessions.lock();
        sessions.remove(&(group, to));
        if sessions.len() >= OUTGOING_MAX {
            return false;
        }
        let (asks, waiting) = mpsc::sync_channel(ASKS_WAITING_MAX);
        let (taken, is_taken) = mpsc::sync_channel(1);
        let (kv, range, piece_bytes) = (Arc::clone(&self.kv), range.clone(), self.piece_bytes);
        let thread = thread::Builder::new().name("raft-snapshot".into());
        if thread.spawn(move || hold(&*kv, &range, piece_bytes, &taken, &waiting)).is_err() || is_taken.recv().is_err()
        {
            return false;
        }
        sessions.insert((group, to), Session { index, asks, idle_ticks: 0 });
        true
    }

    /// The lowest index of a group's snapshots on their way: the log after it is still needed.
    pub(super) fn lowest_index(&self, group: GroupId) -> Option<u64> {
        let sessions = self.sessions.lock();
        let of_group = sessions.range((group, NodeId(0))..=(group, NodeId(u64::MAX)));
        of_group.map(|(_, session)| session.index).min()
    }

    /// Stops holding what was held for a follower. Whether there was anything.
    pub(super) fn cancel(&self, group: GroupId, to: NodeId) -> bool {
        self.sessions.lock().remove(&(group, to)).is_some()
    }

    /// Stops holding whatever was held for a group.
    pub(super) fn cancel_group(&self, group: GroupId) {
        self.sessions.lock().retain(|(of, _), _| *of != group);
    }

    /// A tick passed for the groups that are `mine`: those for whom nobody asked in time are given up.
    pub(super) fn tick(&self, mine: impl Fn(GroupId) -> bool) -> Vec<Outcome> {
        let mut given_up = Vec::new();
        self.sessions.lock().retain(|(group, to), session| {
            if mine(*group) {
                session.idle_ticks += 1;
            }
            let keep = session.idle_ticks <= IDLE_TICKS_MAX;
            if !keep {
                given_up.push(Outcome { group: *group, to: *to, installed: false });
            }
            keep
        });
        given_up
    }

    /// Answers a follower's request. If that tells how a transfer ended, the group's worker must be told.
    pub(super) async fn answer(&self, peer: NodeId, request: &Bytes) -> (Bytes, Option<Outcome>) {
        let Some(request) = PieceRequest::decode(request) else {
            return (PieceReply::Failed.encode_empty(), None);
        };
        let gone = || PieceReply::Gone.encode_empty();
        let installed = match request.step {
            PieceStep::Next(after) => {
                let Some(answer) = self.ask(peer, request.group, request.index, after) else { return (gone(), None) };
                return (answer.await.unwrap_or_else(|_| gone()), None);
            }
            PieceStep::Finished => true,
            PieceStep::Abandoned => false,
        };
        let mut sessions = self.sessions.lock();
        let key = (request.group, peer);
        if sessions.get(&key).is_some_and(|session| session.index == request.index) {
            sessions.remove(&key);
            return (gone(), Some(Outcome { group: request.group, to: peer, installed }));
        }
        (gone(), None)
    }

    fn ask(&self, peer: NodeId, group: GroupId, index: u64, after: Bytes) -> Option<oneshot::Receiver<Bytes>> {
        let mut sessions = self.sessions.lock();
        let session = sessions.get_mut(&(group, peer)).filter(|session| session.index == index)?;
        session.idle_ticks = 0;
        let (answer, receiver) = oneshot::channel();
        session.asks.try_send(Ask { after, answer }).ok()?;
        Some(receiver)
    }
}

/// The thread of one snapshot: takes it, says so, and answers until nobody can ask any more.
fn hold(kv: &dyn Kv, range: &KeyRange, piece_bytes: usize, taken: &mpsc::SyncSender<()>, asks: &mpsc::Receiver<Ask>) {
    let snapshot = kv.snapshot();
    if taken.send(()).is_err() {
        return;
    }
    while let Ok(ask) = asks.recv() {
        let reply = read_piece(&*snapshot, range, piece_bytes, &ask.after).unwrap_or_else(|error| {
            tracing::error!(%error, "a snapshot cannot be read");
            PieceReply::Failed.encode_empty()
        });
        // The asker may have gone; it will ask again.
        let _ = ask.answer.send(reply);
    }
}

fn read_piece(snapshot: &dyn KvRead, range: &KeyRange, piece_bytes: usize, after: &Bytes) -> Result<Bytes, KvError> {
    let mut piece = BytesMut::with_capacity(piece_bytes);
    piece.put_u8(VERSION);
    piece.put_u8(1);
    let mut cursor = snapshot.cursor(range.table, &range.lower, &range.upper)?;
    cursor.seek(after.max(&range.lower))?;
    while let Some((key, value)) = cursor.entry() {
        if key > after.as_ref() || after.is_empty() {
            if piece.len() >= piece_bytes {
                piece[1] = 0;
                break;
            }
            put_field(&mut piece, key);
            put_field(&mut piece, value);
        }
        cursor.next()?;
    }
    Ok(piece.freeze())
}

fn put_field(piece: &mut BytesMut, field: &[u8]) {
    piece.put_u32(u32::try_from(field.len()).expect("keys and values are bounded far below 4 GiB"));
    piece.put_slice(field);
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::GroupId;
    use bytes::Bytes;
    use proptest::prelude::{any, prop, proptest};

    use super::{PieceReply, PieceRequest, PieceStep};

    proptest! {
        #[test]
        fn requests_round_trip(group: u32, index: u64, kind in 0..3u8, after in prop::collection::vec(any::<u8>(), 9)) {
            let step = match kind {
                0 => PieceStep::Next(after.into()),
                1 => PieceStep::Finished,
                _ => PieceStep::Abandoned,
            };
            let request = PieceRequest { group: GroupId(group), index, step };
            assert_eq!(PieceRequest::decode(&request.encode()), Some(request));
        }

        #[test]
        fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            PieceRequest::decode(&Bytes::from(bytes.clone()));
            PieceReply::decode(bytes.clone().into());
            if let Some(version) = bytes.first_mut() {
                *version = 1;
            }
            PieceReply::decode(bytes.into());
        }
    }
}
