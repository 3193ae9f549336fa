//! Writing a chunk: to all holders at once, acknowledged when a write quorum has it on disk, finished in the background.
//!
//! A holder that is down is stood in for by the next nodes in ring order, with a hint; when there is no further node, the
//! holders that have the chunk remember the hint. Nothing here retries a whole chunk: the caller's client does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::{CHUNK_BYTES, ChunkOwner, piece_crcs};
use annulus_common::ids::{ChunkId, NodeId};
use annulus_common::map::ClusterMap;
use annulus_common::placement::STAND_INS_MAX;
use annulus_common::protocol::{Purpose, Refusal, Request, Response, encode};
use annulus_common::rpc::{Envelope, Lane};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use tokio::sync::{Semaphore, oneshot};

use super::holders::stand_ins;
use super::peers::{CallError, Peers};
use super::retry::Retry;
use super::{ClientError, ClusterClient, leased_map};

/// How long one node may take to store a chunk: a disk that needs longer for 4 MiB is of no use to a client that waits.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// How long the write quorum may take, from the moment of the map by which its nodes were chosen. When the placement changes, repair
/// waits for ten seconds until it counts what the former holders have: for this, and for the lease of that map.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(7);

/// How long a node may take to remember a hint. The acknowledgement waits for it.
const HINT_DEADLINE: Duration = Duration::from_secs(1);

/// Nodes that remember the same hint, so that losing one of them loses no hint.
const HINT_COPIES: usize = 2;

impl ClusterClient {
    /// Stores a chunk of 1 byte to 4 MiB under a fresh id. It is under way at once, whether the future is polled or not;
    /// when that is ready, a write quorum has the chunk on disk.
    pub fn write_chunk(
        &self,
        id: ChunkId,
        owner: ChunkOwner,
        data: Bytes,
    ) -> impl Future<Output = Result<(), ClientError>> + Send + use<> {
        assert!(!data.is_empty() && data.len() <= CHUNK_BYTES as usize, "a chunk has 1 byte to 4 MiB");
        let (watch, peers, background) = (self.watch.clone(), Arc::clone(&self.peers), Arc::clone(&self.background));
        let (acknowledge, acknowledged) = oneshot::channel();
        tokio::spawn(async move {
            match leased_map(&watch).await {
                Ok(map) => ChunkWrite::new(peers, map, (id, owner), data).run(acknowledge, background).await,
                // The caller may be gone, as in the other places where this answer is sent.
                Err(error) => drop(acknowledge.send(Err(error))),
            }
        });
        // The sender is dropped without a word only when the runtime shuts down.
        async move { acknowledged.await.unwrap_or(Err(ClientError::Uncertain)) }
    }
}

/// A chunk on its way.
struct ChunkWrite {
    peers: Arc<Peers>,
    map: Arc<ClusterMap>,
    id: ChunkId,
    owner: ChunkOwner,
    data: Bytes,
    crcs: Vec<u32>,
    holders: Vec<NodeId>,
    needed: usize,
    /// Further nodes in ring order, not asked yet.
    stand_ins: VecDeque<NodeId>,
    /// Nodes that have the chunk on disk.
    acked: Vec<NodeId>,
    /// Holders that do not have the chunk and for which there is no stand-in.
    owed: Vec<Owed>,
    full: bool,
}

struct Owed {
    holder: NodeId,
    /// Whether the holder itself was asked, and not only left out because it is a suspect.
    asked: bool,
    /// Nodes that remember that the holder is owed the chunk.
    hints: usize,
}

/// A copy on its way to one node.
struct Sent {
    to: NodeId,
    holder: NodeId,
    asked: bool,
    hints: Vec<NodeId>,
    outcome: Result<(), CallError>,
}

type Sends = FuturesUnordered<BoxFuture<'static, Sent>>;

impl ChunkWrite {
    fn new(peers: Arc<Peers>, map: Arc<ClusterMap>, (id, owner): (ChunkId, ChunkOwner), data: Bytes) -> Self {
        let partition = map.partition_of_chunk(id);
        Self {
            peers,
            id,
            owner,
            crcs: piece_crcs(&data),
            data,
            holders: map.replicas(partition).to_vec(),
            needed: map.write_quorum(),
            stand_ins: stand_ins(&map, partition, STAND_INS_MAX).into(),
            map,
            acked: Vec::new(),
            owed: Vec::new(),
            full: false,
        }
    }

    async fn run(mut self, acknowledge: oneshot::Sender<Result<(), ClientError>>, background: Arc<Semaphore>) {
        let mut sends = self.begin();
        // Without a quorum when the time is up, what is there is not enough; copies that come later do not count.
        let _ = tokio::time::timeout(ACKNOWLEDGED_WITHIN, self.gather_quorum(&mut sends)).await;
        if self.acked.len() < self.needed {
            let _ = acknowledge.send(Err(self.failure()));
            return;
        }
        self.remember_owed().await;
        let _permit = tokio::select! {
            permit = background.acquire_owned() => permit.ok(),
            () = self.finish(&mut sends) => None,
        };
        let _ = acknowledge.send(Ok(()));
        self.finish(&mut sends).await;
        self.remember_owed().await;
    }

    /// Returns when a write quorum has the chunk on disk, or nobody is left to be asked.
    async fn gather_quorum(&mut self, sends: &mut Sends) {
        while self.acked.len() < self.needed {
            match sends.next().await {
                Some(sent) => self.note(sent, sends),
                None if self.ask_suspects(sends) => {}
                None => return,
            }
        }
    }

    /// Sends to the holders that are in health, and to stand-ins for the others.
    fn begin(&mut self) -> Sends {
        let mut sends = Sends::new();
        let holders = self.holders.clone();
        let (usable, suspect): (Vec<NodeId>, Vec<NodeId>) =
            holders.into_iter().partition(|&holder| self.peers.health.is_usable(holder));
        let stand_ins = self.stand_ins.clone().into_iter();
        self.stand_ins = stand_ins.filter(|&node| !self.peers.health.is_suspect(node)).collect();
        for holder in suspect {
            self.stand_in(holder, false, &mut sends);
        }
        // What is owed from the start travels with the chunk and costs no message of its own.
        let owed: Vec<NodeId> = self.owed.iter().map(|owed| owed.holder).collect();
        for (place, holder) in usable.into_iter().enumerate() {
            let hints = if place < HINT_COPIES { owed.clone() } else { Vec::new() };
            sends.push(self.send(holder, holder, true, hints));
        }
        sends
    }

    fn note(&mut self, sent: Sent, sends: &mut Sends) {
        match sent.outcome {
            Ok(()) => {
                self.acked.push(sent.to);
                for owed in self.owed.iter_mut().filter(|owed| sent.hints.contains(&owed.holder)) {
                    owed.hints += 1;
                }
                self.owed.retain(|owed| owed.holder != sent.to);
            }
            Err(error) => {
                tracing::debug!(chunk = ?self.id, node = sent.to.0, %error, "chunk not stored");
                self.full |= matches!(error, CallError::Refused(Refusal::Full));
                self.stand_in(sent.holder, sent.asked, sends);
            }
        }
    }

    /// Sends to the next node in ring order what `holder` should have, or notes that it is owed.
    fn stand_in(&mut self, holder: NodeId, asked: bool, sends: &mut Sends) {
        match self.stand_ins.pop_front() {
            Some(node) => sends.push(self.send(node, holder, asked, vec![holder])),
            None => self.owed.push(Owed { holder, asked, hints: 0 }),
        }
    }

    /// The last resort: holders that were left out. False when there are none.
    fn ask_suspects(&mut self, sends: &mut Sends) -> bool {
        let left_out: Vec<NodeId> = self.owed.iter().filter(|owed| !owed.asked).map(|owed| owed.holder).collect();
        self.owed.retain(|owed| owed.asked);
        for &holder in &left_out {
            sends.push(self.send(holder, holder, true, Vec::new()));
        }
        !left_out.is_empty()
    }

    fn send(&self, to: NodeId, holder: NodeId, asked: bool, hints: Vec<NodeId>) -> BoxFuture<'static, Sent> {
        let request = Request::PutChunk {
            id: self.id,
            owner: self.owner,
            piece_crcs: self.crcs.clone(),
            hints: hints.clone(),
            purpose: Purpose::Client,
        };
        let envelope = Envelope { header: encode(&request), payload: self.data.clone() };
        let (peers, map) = (Arc::clone(&self.peers), Arc::clone(&self.map));
        Box::pin(async move {
            let outcome = send_until_taken(&peers, &map, to, envelope).await;
            Sent { to, holder, asked, hints, outcome }
        })
    }

    async fn finish(&mut self, sends: &mut Sends) {
        while let Some(sent) = sends.next().await {
            self.note(sent, sends);
        }
    }

    /// Makes nodes that have the chunk remember who is owed it. A hint that cannot be kept is found again by anti-entropy.
    async fn remember_owed(&mut self) {
        for owed in self.owed.iter_mut().filter(|owed| owed.hints == 0) {
            let request = encode(&Request::AddHints { node: owed.holder, chunks: vec![self.id] });
            let asked = self.acked.iter().take(HINT_COPIES).map(|&node| {
                self.peers.ask(&self.map, node, Lane::Control, Envelope::from_header(request.clone()), HINT_DEADLINE)
            });
            owed.hints = join_all(asked).await.iter().filter(|answer| answer.is_ok()).count();
            if owed.hints == 0 {
                tracing::warn!(chunk = ?self.id, node = owed.holder.0, "no node remembers that a holder is owed a chunk");
            }
        }
    }

    fn failure(&self) -> ClientError {
        if self.full {
            ClientError::Full
        } else {
            ClientError::NoQuorum { acked: self.acked.len(), needed: self.needed }
        }
    }
}

/// Sends to one node, again while it is too busy.
async fn send_until_taken(peers: &Peers, map: &ClusterMap, to: NodeId, envelope: Envelope) -> Result<(), CallError> {
    let mut retry = Retry::new(&peers.clock, WRITE_DEADLINE);
    loop {
        match peers.ask(map, to, Lane::Bulk, envelope.clone(), retry.left()).await {
            Ok((Response::Done, _)) => return Ok(()),
            Ok(_) => return Err(Refusal::Invalid("the answer is not one to a chunk".into()).into()),
            Err(CallError::Refused(Refusal::NotReady(reason))) => {
                if !retry.pause().await {
                    return Err(Refusal::NotReady(reason).into());
                }
            }
            Err(error) => return Err(error),
        }
    }
}
