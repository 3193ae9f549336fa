//! A cluster in memory for tests: it answers requests as nodes do, remembers what it was asked, and fails when told to.
//!
//! It has one copy of the metadata and no Raft: what replicas agree on is tested where they do.

mod metadata;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::{ChunkOwner, piece_bytes, piece_crcs, piece_range, verify_pieces};
use annulus_common::clock::{Clock, SharedClock, SystemClock};
use annulus_common::ids::{BucketId, ChunkId, ClusterId, InstanceId, NodeId, PartitionId, ShardId};
use annulus_common::map::change::MapEntry;
use annulus_common::map::watch::MapWatch;
use annulus_common::map::{ClusterMap, MapVersion, Node, NodeProfile, NodeState};
use annulus_common::object::UserId;
use annulus_common::protocol::metadata::{Applied, Command, MetaReply, Query};
use annulus_common::protocol::{Answer, MapUpdate, Refusal, Request, Response, decode, encode};
use annulus_common::rpc::{Envelope, Lane, RpcError, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use self::metadata::Metadata;
use super::ClusterClient;

/// Partitions of the test ring.
const PARTITIONS: usize = 8;

/// The machine's time, and what a test adds to it.
pub(crate) struct TestClock {
    system: SharedClock,
    ahead: Mutex<Duration>,
}

impl TestClock {
    pub(crate) fn shared() -> Arc<Self> {
        Arc::new(Self { system: SystemClock::shared(), ahead: Mutex::new(Duration::ZERO) })
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.ahead.lock() += by;
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.system.now_ms() + self.ahead.lock().as_millis() as u64
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic() + *self.ahead.lock()
    }
}

/// How a node fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nobody listens.
    Down,
    /// Takes calls and never answers.
    Hangs,
    /// Takes no chunk for want of space.
    Full,
    /// Answers chunk reads so much later.
    Slow(Duration),
    /// Every chunk it reads is damaged, and it knows.
    Corrupt,
    /// Every chunk it reads is damaged on the way, and it does not know.
    Garbles,
}

/// What happens to one mutation.
#[derive(Clone, Debug)]
pub(crate) enum Mishap {
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// It is refused.
    Refused(Refusal),
    /// It comes too late to know whether it was carried out before: the log is there already.
    Expired(u64),
}

pub(crate) struct State {
    pub(crate) map: ClusterMap,
    pub(crate) metadata: Metadata,
    pub(crate) chunks: HashMap<NodeId, BTreeMap<ChunkId, Bytes>>,
    /// Who remembers that whom is owed what.
    pub(crate) hints: BTreeSet<(NodeId, NodeId, ChunkId)>,
    pub(crate) faults: HashMap<NodeId, Fault>,
    pub(crate) leaders: HashMap<PartitionId, NodeId>,
    pub(crate) mishaps: Vec<Mishap>,
    /// Every request that reached a node, but for those about the map.
    pub(crate) log: Vec<(NodeId, Request)>,
    seen: MapVersion,
}

/// The cluster. Its nodes are numbered from 1 and reached as `n1`, `n2`, ...
pub(crate) struct FakeCluster {
    pub(crate) state: Mutex<State>,
    version: tokio::sync::watch::Sender<MapVersion>,
}

impl FakeCluster {
    pub(crate) fn new(nodes: u64, replication_factor: u8) -> Arc<Self> {
        let map = map_of(nodes, replication_factor);
        let version = tokio::sync::watch::Sender::new(map.version);
        let state = State {
            seen: map.version,
            map,
            metadata: Metadata::default(),
            chunks: HashMap::new(),
            hints: BTreeSet::new(),
            faults: HashMap::new(),
            leaders: HashMap::new(),
            mishaps: Vec::new(),
            log: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state), version })
    }

    pub(crate) async fn client(self: &Arc<Self>) -> Arc<ClusterClient> {
        self.client_with(TestClock::shared()).await
    }

    pub(crate) async fn client_with(self: &Arc<Self>, clock: Arc<TestClock>) -> Arc<ClusterClient> {
        let (seeds, watcher) = (vec!["n1".to_owned()], InstanceId([9; 16]));
        let watch = MapWatch::connect(seeds, watcher, Arc::clone(self) as _, clock.clone()).await;
        ClusterClient::new(Arc::clone(self) as _, watch, clock)
    }

    pub(crate) fn fail(&self, node: u64, fault: Fault) {
        self.state.lock().faults.insert(NodeId(node), fault);
    }

    pub(crate) fn heal(&self, node: u64) {
        self.state.lock().faults.remove(&NodeId(node));
    }

    pub(crate) fn mishap(&self, mishap: Mishap) {
        self.state.lock().mishaps.insert(0, mishap);
    }

    /// Nodes that have the chunk.
    pub(crate) fn holders(&self, id: ChunkId) -> Vec<NodeId> {
        let state = self.state.lock();
        let mut holders: Vec<NodeId> =
            state.chunks.iter().filter(|(_, chunks)| chunks.contains_key(&id)).map(|(node, _)| *node).collect();
        holders.sort();
        holders
    }

    /// Waits for what happens in the background.
    pub(crate) async fn wait_until(&self, happened: impl Fn(&State) -> bool) {
        let wait = async {
            while !happened(&self.state.lock()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it happens within the bound");
    }

    pub(crate) fn requests(&self, wanted: impl Fn(&Request) -> bool) -> usize {
        self.state.lock().log.iter().filter(|(_, request)| wanted(request)).count()
    }

    async fn answer(&self, node: NodeId, request: Request, payload: Bytes) -> Result<(Answer, Bytes), Lost> {
        match request {
            Request::WatchMap { have, hold, .. } => return Ok(self.watch_map(have, hold).await),
            Request::ChangeMap(entry) => return Ok((self.change_map(entry).await, Bytes::new())),
            Request::PeekMap => {
                return Ok((Ok(Response::MapPeeked), encode(&self.state.lock().map)));
            }
            _ => {}
        }
        let slow = self.slowness(node, &request);
        tokio::time::sleep(slow).await;
        self.state.lock().answer(node, request, payload)
    }

    fn slowness(&self, node: NodeId, request: &Request) -> Duration {
        match (self.state.lock().faults.get(&node), request) {
            (Some(Fault::Slow(by)), Request::GetChunk { .. } | Request::PutChunk { .. }) => *by,
            _ => Duration::ZERO,
        }
    }

    async fn watch_map(&self, have: Option<MapVersion>, hold: bool) -> (Answer, Bytes) {
        if let Some(have) = have {
            let mut state = self.state.lock();
            state.seen = state.seen.max(have);
        }
        let mut version = self.version.subscribe();
        if hold {
            let news = version.wait_for(|version| Some(*version) != have);
            let _ = tokio::time::timeout(Duration::from_millis(600), news).await;
        }
        let mut state = self.state.lock();
        state.seen = state.map.version;
        if Some(state.map.version) == have {
            return (Ok(Response::Map(MapUpdate::Current)), Bytes::new());
        }
        let whole = encode(&state.map);
        (Ok(Response::Map(MapUpdate::Whole { version: state.map.version, bytes: whole.len() as u64 })), whole)
    }

    /// Answers once the one watcher there is has the change.
    async fn change_map(&self, entry: MapEntry) -> Answer {
        let (outcome, version) = {
            let mut state = self.state.lock();
            (state.map.apply(&entry), state.map.version)
        };
        self.version.send_replace(version);
        while self.state.lock().seen < version {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The answer to the watcher's poll is on its way.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(Response::MapChanged(outcome))
    }
}

/// The connection breaks before the answer.
struct Lost;

impl State {
    fn answer(&mut self, node: NodeId, request: Request, payload: Bytes) -> Result<(Answer, Bytes), Lost> {
        self.log.push((node, request.clone()));
        match request {
            Request::Mutate { partition, mutation, .. } => {
                if let Some(refusal) = self.not_leader(node, partition) {
                    return Ok((Err(refusal), Bytes::new()));
                }
                match self.mishaps.pop() {
                    Some(Mishap::Refused(refusal)) => return Ok((Err(refusal), Bytes::new())),
                    Some(Mishap::AnswerLost) => {
                        self.metadata.apply(mutation);
                        return Err(Lost);
                    }
                    Some(Mishap::Expired(index)) => return Ok((mutated(index, MetaReply::Expired), Bytes::new())),
                    None => {}
                }
                let index = mutation.since.expect("a client says since when") + 1;
                Ok((mutated(index, self.metadata.apply(mutation)), Bytes::new()))
            }
            Request::Query { queries, .. } => {
                let replies = queries.into_iter().map(|(partition, query)| match self.not_leader(node, partition) {
                    Some(refusal) => Err(refusal),
                    None => Ok(self.metadata.answer(query)),
                });
                let replies = replies.collect();
                Ok((Ok(Response::Queried(replies)), Bytes::new()))
            }
            Request::PutChunk { id, piece_crcs, hints, .. } => {
                Ok((self.put_chunk(node, id, &piece_crcs, &hints, payload), Bytes::new()))
            }
            Request::AddHints { node: owed, chunks } => {
                self.hints.extend(chunks.into_iter().map(|chunk| (node, owed, chunk)));
                Ok((Ok(Response::Done), Bytes::new()))
            }
            Request::GetChunk { id, from, to, .. } => Ok(self.get_chunk(node, id, from..to)),
            other => panic!("nobody asks a node {other:?}"),
        }
    }

    fn not_leader(&self, node: NodeId, partition: PartitionId) -> Option<Refusal> {
        let leader = self.leaders.get(&partition).or(self.map.replicas(partition).first());
        (leader != Some(&node)).then(|| Refusal::NotLeader { leader: leader.copied() })
    }

    fn put_chunk(&mut self, node: NodeId, id: ChunkId, crcs: &[u32], hints: &[NodeId], data: Bytes) -> Answer {
        if self.faults.get(&node) == Some(&Fault::Full) {
            return Err(Refusal::Full);
        }
        verify_pieces(&data, crcs).map_err(|_| Refusal::Mismatch)?;
        // A copy, as a disk has: nobody holds the memory of what is stored.
        self.chunks.entry(node).or_default().insert(id, Bytes::copy_from_slice(&data));
        self.hints.extend(hints.iter().map(|&owed| (node, owed, id)));
        Ok(Response::Done)
    }

    fn get_chunk(&self, node: NodeId, id: ChunkId, range: std::ops::Range<u32>) -> (Answer, Bytes) {
        let Some(data) = self.chunks.get(&node).and_then(|chunks| chunks.get(&id)) else {
            return (Err(Refusal::NoSuchChunk), Bytes::new());
        };
        let length = data.len() as u32;
        let pieces = piece_range(&range, length);
        let bytes = piece_bytes(&pieces, length);
        let payload = data.slice(bytes.start as usize..bytes.end as usize);
        let owner = ChunkOwner { bucket: BucketId(1), shard: ShardId(0) };
        let piece_crcs = piece_crcs(&payload);
        let response = Response::Chunk { owner, first_piece: pieces.start, piece_crcs, length };
        match self.faults.get(&node) {
            Some(Fault::Corrupt) => (Err(Refusal::CorruptChunk), Bytes::new()),
            Some(Fault::Garbles) => {
                let mut garbled = payload.to_vec();
                garbled[0] ^= 1;
                (Ok(response), garbled.into())
            }
            _ => (Ok(response), payload),
        }
    }
}

#[async_trait]
impl Transport for FakeCluster {
    async fn call(&self, addr: &str, _: Lane, request: Envelope, deadline: Duration) -> Result<Envelope, RpcError> {
        let node = NodeId(addr[1..].parse().expect("the tests' addresses are n1, n2, ..."));
        let (addr, fault) = (addr.to_owned(), self.state.lock().faults.get(&node).copied());
        if fault == Some(Fault::Down) {
            return Err(RpcError::Unreachable { addr, reason: "down".into() });
        }
        let answer = async {
            if fault == Some(Fault::Hangs) {
                std::future::pending::<()>().await;
            }
            self.answer(node, decode(&request.header).expect("clients encode what they send"), request.payload).await
        };
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok((answer, payload))) => Ok(Envelope { header: encode(&answer), payload }),
            Ok(Err(Lost)) => Err(RpcError::Lost { addr, reason: "told to".into() }),
            Err(_) => Err(RpcError::TimedOut { addr, after: deadline }),
        }
    }

    fn send(&self, _: &str, _: Envelope) {}
}

/// A map of nodes `1..=nodes`, all with a share.
pub(crate) fn map_of(nodes: u64, replication_factor: u8) -> ClusterMap {
    let profile = |id: u64| NodeProfile {
        name: format!("n{id}"),
        instance: InstanceId([id as u8; 16]),
        addr: format!("n{id}"),
        zone: format!("z{id}"),
        capacity_bytes: 1 << 40,
    };
    let set =
        |partition: u64| (0..u64::from(replication_factor)).map(|r| NodeId((partition + r) % nodes + 1)).collect();
    let placement = (0..PARTITIONS as u64).map(set).collect();
    let nodes = (1..=nodes).map(|id| (NodeId(id), Node::new(profile(id), NodeState::Active))).collect();
    ClusterMap::formed(ClusterId([1; 16]), replication_factor, vec![NodeId(1)], placement, nodes)
}

fn mutated(index: u64, reply: MetaReply) -> Answer {
    Ok(Response::Mutated(Applied { index, reply }))
}

/// The account of the tests.
pub(crate) const OWNER: UserId = UserId([7; 32]);

/// Whether a request is a mutation with such a command.
pub(crate) fn mutates(request: &Request, wanted: impl Fn(&Command) -> bool) -> bool {
    matches!(request, Request::Mutate { mutation, .. } if wanted(&mutation.command))
}

/// Whether a request has such a query.
pub(crate) fn queries(request: &Request, wanted: impl Fn(&Query) -> bool) -> bool {
    matches!(request, Request::Query { queries, .. } if queries.iter().any(|(_, query)| wanted(query)))
}
