//! Repair in clusters of whole nodes in one process, over memory: what is owed arrives, what is garbage goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::{ChunkOwner, PIECE_BYTES, piece_crcs};
use annulus_common::clock::{SharedClock, SystemClock};
use annulus_common::condition::{Conditions, ETagCondition};
use annulus_common::ids::{
    BucketId, ChunkId, ClusterId, Epoch, InstanceId, NodeId, PartId, PartitionId, RequestId, ShardId,
};
use annulus_common::map::{ClusterMap, Move, Node, NodeProfile, NodeState};
use annulus_common::object::{
    Data, ETag, KeyPath, NewObject, ObjectAttributes, ObjectHeaders, Part, UserId, Versioning,
};
use annulus_common::protocol::metadata::{
    Command, Deletion, Garbage, MetaReply, Mutation, Query, QueryReply, QuotaTerms,
};
use annulus_common::protocol::repair::RepairStatus;
use annulus_common::protocol::{Answer, Purpose, Refusal, Request, Response, decode, encode};
use annulus_common::rpc::local::LocalNetwork;
use annulus_common::rpc::{Envelope, Lane, PeerIdentity, Service};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::RepairSettings;
use crate::chunk::Execution;
use crate::chunk::files::memory::MemoryFiles;
use crate::chunk::files::{ExtentFiles, PAGE_BYTES};
use crate::cluster::formation::FormationSettings;
use crate::kv::identity::NodeIdentity;
use crate::kv::memory::MemoryKv;
use crate::kv::{Batch, Durability, Kv, KvRead, Table};
use crate::node::{NodeConfig, NodeData, StorageNode};

/// Longer than everything here takes, elections included.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const OWNER: ChunkOwner = ChunkOwner { bucket: BucketId(1), shard: ShardId(1) };

/// A map of nodes `1..=nodes` with this placement.
pub(super) fn map_of(nodes: u64, placement: &[&[u64]]) -> ClusterMap {
    let profile = |id: u64| NodeProfile {
        name: format!("n{id}"),
        instance: InstanceId([id as u8; 16]),
        addr: format!("n{id}"),
        zone: "z".to_owned(),
        capacity_bytes: 1,
    };
    let replication_factor = placement[0].len() as u8;
    let placement = placement.iter().map(|set| set.iter().copied().map(NodeId).collect()).collect();
    let nodes = (1..=nodes).map(|id| (NodeId(id), Node::new(profile(id), NodeState::Active))).collect();
    ClusterMap::formed(ClusterId([1; 16]), replication_factor, vec![NodeId(1)], placement, nodes)
}

/// A move that this node leaves.
pub(super) fn leaving(node: u64) -> Move {
    Move { epoch: Epoch(1), leaving: vec![NodeId(node)], joining: Vec::new() }
}

/// The first chunk of some part that lies in that partition.
pub(super) fn chunk_of(map: &ClusterMap, partition: u32) -> ChunkId {
    let mut parts = (0..u128::MAX).map(|part| ChunkId { part: PartId(part.to_be_bytes()), index: 0 });
    parts.find(|chunk| map.partition_of_chunk(*chunk) == PartitionId(partition)).unwrap()
}

/// A machine: its disk outlives the nodes that are started on it.
struct Machine {
    name: String,
    meta: Arc<MemoryKv>,
    chunks: Arc<MemoryKv>,
    extents: Arc<MemoryFiles>,
    directory: tempfile::TempDir,
    node: Option<StorageNode>,
}

/// Machines on one network.
struct Site {
    network: LocalNetwork,
    clock: SharedClock,
    settings: RepairSettings,
    machines: Vec<Machine>,
    /// How often each kind of request was received, by all machines together.
    calls: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

/// As quick as tests want it.
fn quick() -> RepairSettings {
    RepairSettings {
        compare_interval: Duration::from_millis(50),
        strays_pause: Duration::from_millis(10),
        stray_age_min: Duration::ZERO,
        deliver_pause: Duration::from_millis(10),
        collect_pause: Duration::from_millis(10),
        collect_grace: Duration::ZERO,
        ..RepairSettings::default()
    }
}

/// A node that counts what it is asked.
struct Counted {
    service: Arc<dyn Service>,
    calls: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

#[async_trait]
impl Service for Counted {
    async fn call(&self, peer: &PeerIdentity, request: Envelope) -> Envelope {
        let kind = match decode::<Request>(&request.header) {
            Ok(Request::DigestChunks(_)) => "digests",
            Ok(Request::ListChunks { .. }) => "lists",
            Ok(Request::GetChunk { .. }) => "gets",
            _ => "others",
        };
        *self.calls.lock().entry(kind).or_default() += 1;
        self.service.call(peer, request).await
    }

    fn receive(&self, peer: &PeerIdentity, message: Envelope) {
        self.service.receive(peer, message);
    }
}

impl Site {
    async fn form(nodes: usize) -> Self {
        Self::form_with(nodes, quick()).await
    }

    async fn form_with(nodes: usize, settings: RepairSettings) -> Self {
        let (network, clock) = (LocalNetwork::new(), SystemClock::shared());
        let mut site = Self { network, clock, settings, machines: Vec::new(), calls: Arc::default() };
        for number in 1..=nodes {
            let name = format!("n{number}");
            let meta = Arc::new(MemoryKv::new());
            NodeIdentity::new(&name, InstanceId(rand::random())).store(&*meta).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let (chunks, extents) = (Arc::new(MemoryKv::new()), Arc::new(MemoryFiles::new()));
            site.machines.push(Machine { name, meta, chunks, extents, directory, node: None });
        }
        for number in 0..nodes {
            site.start(number);
        }
        for machine in &site.machines {
            soon(machine.node.as_ref().unwrap().ready()).await;
        }
        site
    }

    fn start(&mut self, place: usize) {
        let config = self.config(place);
        let machine = &mut self.machines[place];
        let identity = NodeIdentity::load(&*machine.meta, "memory").unwrap().unwrap();
        let (meta, chunks, extents) = (machine.meta.clone(), machine.chunks.clone(), machine.extents.clone());
        let data = NodeData::of(meta, chunks, extents, identity, Execution::Inline);
        let transport = self.network.transport(data.identity());
        let node = StorageNode::start(config, data, transport, self.clock.clone()).unwrap();
        let counted = Counted { service: node.service(), calls: self.calls.clone() };
        self.network.register(&machine.name, Arc::new(counted), node.identity());
        machine.node = Some(node);
    }

    /// Starts a machine again, and waits until it serves.
    async fn resume(&mut self, place: usize) {
        self.start(place);
        soon(self.machines[place].node.as_ref().unwrap().ready()).await;
    }

    fn calls(&self, kind: &str) -> usize {
        self.calls.lock().get(kind).copied().unwrap_or_default()
    }

    /// A disk that was replaced by an empty one.
    fn lose_chunks(&mut self, place: usize) {
        let machine = &mut self.machines[place];
        (machine.chunks, machine.extents) = (Arc::new(MemoryKv::new()), Arc::new(MemoryFiles::new()));
    }

    async fn stop(&mut self, place: usize) {
        let node = self.machines[place].node.take().unwrap();
        soon(node.shutdown()).await;
        self.network.unregister(&self.machines[place].name);
    }

    fn config(&self, place: usize) -> NodeConfig {
        let machine = &self.machines[place];
        NodeConfig {
            name: machine.name.clone(),
            addr: machine.name.clone(),
            zone: "z".to_owned(),
            capacity_bytes: Some(1 << 30),
            data_dir: machine.directory.path().to_owned(),
            formation: FormationSettings {
                seeds: self.machines.iter().map(|machine| machine.name.clone()).collect(),
                replication_factor: 3,
                initial_nodes: self.machines.len(),
                partitions: 4,
            },
            root: None,
            block_cache_bytes: 0,
            disk_reserve_bytes: None,
            raft_workers: 1,
            dead_after: Duration::from_secs(600),
            repair: self.settings.clone(),
            calendar: annulus_common::lifecycle::Calendar::Days,
        }
    }

    fn map(&self) -> Arc<ClusterMap> {
        let running = self.machines.iter().find_map(|machine| machine.node.as_ref()).unwrap();
        running.map().unwrap().latest()
    }

    /// The place of the machine that became this node.
    fn place(&self, node: NodeId) -> usize {
        let addr = self.map().nodes[&node].profile.addr.clone();
        self.machines.iter().position(|machine| machine.name == addr).unwrap()
    }

    async fn ask(&self, node: NodeId, request: &Request, payload: Bytes) -> Answer {
        let identity = PeerIdentity { instance: InstanceId([77; 16]), node: None, cluster: None };
        let transport = self.network.transport(Arc::new(move || identity.clone()));
        let envelope = Envelope { header: encode(request), payload };
        let addr = self.map().nodes[&node].profile.addr.clone();
        let answer = transport.call(&addr, Lane::Control, envelope, PATIENCE).await;
        decode(&answer.unwrap().header).unwrap()
    }

    async fn put_chunk(&self, node: NodeId, id: ChunkId, data: &Bytes, hints: &[NodeId]) {
        let put = Request::PutChunk {
            id,
            owner: OWNER,
            piece_crcs: piece_crcs(data),
            hints: hints.to_vec(),
            purpose: Purpose::Client,
        };
        assert_eq!(self.ask(node, &put, data.clone()).await, Ok(Response::Done));
    }

    async fn has(&self, node: NodeId, id: ChunkId) -> bool {
        self.ask(node, &Request::HasChunks(vec![id]), Bytes::new()).await == Ok(Response::HasChunks(vec![true]))
    }

    async fn hints(&self, node: NodeId) -> Vec<(NodeId, u64)> {
        self.machines[self.place(node)].node.as_ref().unwrap().status().await.unwrap().hints
    }

    async fn repair(&self, node: NodeId) -> RepairStatus {
        self.machines[self.place(node)].node.as_ref().unwrap().status().await.unwrap().repair
    }

    /// Asks whoever leads the partition.
    async fn of_leader(&self, partition: PartitionId, request: impl Fn(Epoch) -> Request) -> Response {
        soon(async {
            loop {
                let map = self.map();
                for &node in map.replicas(partition) {
                    if self.machines[self.place(node)].node.is_none() {
                        continue;
                    }
                    match self.ask(node, &request(map.epoch), Bytes::new()).await {
                        Ok(Response::Queried(answers)) if answers.iter().any(Result::is_err) => {}
                        Ok(response) => return response,
                        Err(Refusal::NotLeader { .. } | Refusal::NotReady(_) | Refusal::Uncertain) => {}
                        Err(refusal) => panic!("{refusal}"),
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    async fn mutate(&self, time_ms: u64, command: Command) -> MetaReply {
        let mutation = Mutation { request: RequestId(rand::random()), since: None, time_ms, command, notice: None };
        let partition = self.index();
        let request = |epoch| Request::Mutate { partition, epoch, mutation: mutation.clone() };
        match self.of_leader(partition, request).await {
            Response::Mutated(applied) => applied.reply,
            other => panic!("{other:?}"),
        }
    }

    async fn garbage(&self) -> Vec<Garbage> {
        let partition = self.index();
        let query = Query::Garbage { before_ms: u64::MAX, after: None, limit: 1000 };
        let request = |epoch| Request::Query { epoch, queries: vec![(partition, query.clone())] };
        match self.of_leader(partition, request).await {
            Response::Queried(mut answers) => match answers.remove(0) {
                Ok(QueryReply::Garbage(garbage)) => garbage,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// Stores an object of this part: its chunks on all nodes of their replica sets, then its name.
    async fn put_object(&self, key: &str, part: &Part) {
        self.put_part(part).await;
        self.name(key, part).await;
    }

    async fn name(&self, key: &str, part: &Part) {
        let reply = self.mutate(self.clock.now_ms(), put(key, Conditions::default(), part)).await;
        assert!(matches!(reply, MetaReply::Written { .. }), "{reply:?}");
    }

    fn index(&self) -> PartitionId {
        self.map().partition_of_shard(OWNER.bucket, OWNER.shard)
    }

    /// How many of these parts a node has.
    async fn count(&self, node: NodeId, parts: &[Part]) -> usize {
        let mut count = 0;
        for (id, _) in parts.iter().flat_map(Part::chunks) {
            count += usize::from(self.has(node, id).await);
        }
        count
    }

    /// Whether a node has compared all its partitions with all others and lacks nothing.
    fn is_complete(&self, node: NodeId) -> bool {
        let map = self.map();
        let redundancy = self.machines[self.place(node)].node.as_ref().unwrap().redundancy().unwrap();
        let mut partitions = (0..map.partitions()).map(PartitionId).filter(|at| map.replicas(*at).contains(&node));
        partitions.all(|partition| redundancy.chunks_complete(&map, partition))
    }

    /// Stores the chunks of a part on all nodes of their replica sets.
    async fn put_part(&self, part: &Part) {
        for (id, length) in part.chunks() {
            let data = Bytes::from(vec![part.id.0[0]; length as usize]);
            let map = self.map();
            for &node in map.replicas(map.partition_of_chunk(id)) {
                self.put_chunk(node, id, &data, &[]).await;
            }
        }
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens in time")
}

/// Waits until it holds.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    soon(async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

fn bytes(seed: u8) -> Bytes {
    (0..PIECE_BYTES + 1_000).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn path(key: &str) -> KeyPath {
    KeyPath { bucket: OWNER.bucket, shard: OWNER.shard, key: key.to_owned() }
}

fn part(id: u8) -> Part {
    Part {
        id: PartId([id; 16]),
        number: 1,
        length: (4 << 20) + 5,
        stored: (4 << 20) + 5,
        md5: [id; 16],
        checksum: None,
    }
}

fn put(key: &str, conditions: Conditions, part: &Part) -> Command {
    let object = NewObject {
        owner: UserId([0; 32]),
        size: part.length,
        etag: ETag { md5: part.md5, parts: None },
        checksum: None,
        headers: ObjectHeaders::default(),
        attributes: ObjectAttributes::default(),
        encryption: None,
        data: Data::Parts(vec![part.clone()]),
    };
    let quota = QuotaTerms::default();
    Command::Put { path: path(key), versioning: Versioning::Unversioned, conditions, quota, object }
}

fn delete(key: &str) -> Command {
    let (key, conditions) = (key.to_owned(), Conditions::default());
    let deletions = vec![Deletion { key, version: None, conditions, bypass_governance: false, sequence: None }];
    let (versioning, owner) = (Versioning::Unversioned, UserId([0; 32]));
    Command::Delete { bucket: OWNER.bucket, shard: OWNER.shard, versioning, owner, deletions }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_is_owed_arrives_when_it_is_back_and_is_forgotten_only_then() {
    let mut site = Site::form(3).await;
    let map = site.map();
    let ids = [chunk_of(&map, 0), chunk_of(&map, 1), chunk_of(&map, 2)];
    let [keeper, late] = [NodeId(1), NodeId(3)];
    let place = site.place(late);
    site.stop(place).await;
    for (seed, id) in ids.into_iter().enumerate() {
        site.put_chunk(keeper, id, &bytes(seed as u8), &[late]).await;
    }
    // A chunk that was collected meanwhile is owed no longer.
    let gone = ChunkId { part: PartId([9; 16]), index: 3 };
    let hint = Request::AddHints { node: late, chunks: vec![gone] };
    assert_eq!(site.ask(keeper, &hint, Bytes::new()).await, Ok(Response::Done));
    assert_eq!(site.hints(keeper).await, [(late, 4)]);
    // Who owes it remembers it over a restart.
    let keepers = site.place(keeper);
    site.stop(keepers).await;
    site.resume(keepers).await;
    assert_eq!(site.hints(keeper).await, [(late, 4)]);
    site.start(place);
    soon(site.machines[place].node.as_ref().unwrap().ready()).await;
    until(async || {
        let open: u64 = site.hints(keeper).await.iter().map(|(_, count)| count).sum();
        let mut there = 0;
        for id in ids {
            there += u64::from(site.has(late, id).await);
        }
        assert!(4 - open <= there + 1, "{open} hints are left and {there} chunks are there");
        open == 0
    })
    .await;
    for id in ids {
        assert!(site.has(late, id).await && site.has(keeper, id).await);
    }
    assert!(!site.has(late, gone).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_rotted_here_is_sent_from_another_copy_and_mended() {
    let mut site = Site::form(3).await;
    let id = chunk_of(&site.map(), 0);
    let [keeper, good, late] = [NodeId(1), NodeId(2), NodeId(3)];
    let place = site.place(late);
    site.stop(place).await;
    site.put_chunk(good, id, &bytes(1), &[]).await;
    site.put_chunk(keeper, id, &bytes(1), &[late]).await;
    rot(&site.machines[site.place(keeper)].extents);
    let get = Request::GetChunk { id, from: 0, to: 10, purpose: Purpose::Client };
    assert_eq!(site.ask(keeper, &get, Bytes::new()).await, Err(Refusal::CorruptChunk));
    site.start(place);
    until(async || site.hints(keeper).await.is_empty()).await;
    for node in [keeper, late] {
        until(async || site.ask(node, &get, Bytes::new()).await.is_ok()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scrub_finds_what_rotted_and_nobody_reads() {
    let frequent = RepairSettings { scrub_interval: Duration::from_secs(1), ..quick() };
    let site = Site::form_with(3, frequent).await;
    let part = small_part(&site.map(), 1);
    site.put_object("key", &part).await;
    let node = NodeId(2);
    rot(&site.machines[site.place(node)].extents);
    until(async || site.repair(node).await.mended == 1).await;
    let get = Request::GetChunk { id: ChunkId { part: part.id, index: 0 }, from: 0, to: 10, purpose: Purpose::Client };
    assert!(site.ask(node, &get, Bytes::new()).await.is_ok());
    assert_eq!(site.repair(node).await.damaged, 0);
}

/// Three nodes, of which `node` was restarted amid a pass of the scrub, with what is `stored` beside: of its two chunks the first
/// lies before the place where the scrub was, and has rotted.
async fn scrubbing_on_behind_rot(node: NodeId, mut stored: Batch) -> Site {
    let mut site = Site::form(3).await;
    let map = site.map();
    for partition in [0, map.partitions() - 1] {
        site.put_part(&small_part(&map, partition)).await;
    }
    let place = site.place(node);
    site.stop(place).await;
    let (key, half_way) = super::scrub::tests::half_way(site.clock.now_ms());
    stored.put(Table::System, key, half_way);
    site.machines[place].meta.write(stored, Durability::Synced).unwrap();
    rot(&site.machines[place].extents);
    site.resume(place).await;
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scrub_goes_on_after_a_restart_where_it_was() {
    let node = NodeId(2);
    let site = scrubbing_on_behind_rot(node, Batch::default()).await;
    until(async || site.repair(node).await.scrub_completed_ms.is_some()).await;
    let repair = site.repair(node).await;
    assert_eq!((repair.damaged, repair.mended), (0, 0), "what had been read was read again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rotted_is_mended_after_a_restart_when_a_good_copy_comes_back() {
    let mut site = Site::form(3).await;
    let part = small_part(&site.map(), 1);
    let id = ChunkId { part: part.id, index: 0 };
    let [rotten, good, other] = [1, 2, 3].map(NodeId);
    site.put_chunk(rotten, id, &bytes(1), &[]).await;
    site.put_chunk(good, id, &bytes(1), &[]).await;
    let (good, other) = (site.place(good), site.place(other));
    site.stop(good).await;
    site.stop(other).await;
    let place = site.place(rotten);
    rot(&site.machines[place].extents);
    let get = Request::GetChunk { id, from: 0, to: 10, purpose: Purpose::Client };
    assert_eq!(site.ask(rotten, &get, Bytes::new()).await, Err(Refusal::CorruptChunk));
    let damaged = |site: &Site| site.machines[place].meta.get(Table::System, &super::mend::key(id)).unwrap();
    until(async || damaged(&site).is_some()).await;
    site.stop(place).await;
    site.start(place);
    site.start(other);
    site.start(good);
    until(async || damaged(&site).is_none()).await;
    soon(site.machines[place].node.as_ref().unwrap().ready()).await;
    assert!(site.ask(rotten, &get, Bytes::new()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_there_was_no_room_to_remember_is_found_by_another_pass() {
    let node = NodeId(2);
    let mut overflow = Batch::default();
    overflow.put(Table::System, super::mend::OVERFLOW_KEY, &[1][..]);
    let site = scrubbing_on_behind_rot(node, overflow).await;
    let place = site.place(node);
    until(async || site.repair(node).await.mended == 1).await;
    until(async || site.machines[place].meta.get(Table::System, super::mend::OVERFLOW_KEY).unwrap().is_none()).await;
    assert_eq!(site.repair(node).await.damaged, 0);
}

/// The others are down, so that nothing is mended but by the put.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_known_to_have_rotted_confirms_nothing_and_gives_way_to_one_that_comes() {
    let mut site = Site::form(3).await;
    let id = chunk_of(&site.map(), 1);
    let node = NodeId(1);
    site.put_chunk(node, id, &bytes(1), &[]).await;
    for other in [2, 3].map(NodeId).map(|node| site.place(node)) {
        site.stop(other).await;
    }
    rot(&site.machines[site.place(node)].extents);
    assert!(site.has(node, id).await, "nobody knows yet");
    let get = Request::GetChunk { id, from: 0, to: 10, purpose: Purpose::Client };
    assert_eq!(site.ask(node, &get, Bytes::new()).await, Err(Refusal::CorruptChunk));
    assert!(!site.has(node, id).await);
    site.put_chunk(node, id, &bytes(1), &[]).await;
    assert!(site.has(node, id).await);
    assert!(site.ask(node, &get, Bytes::new()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_all_holders_lost_is_told_of_for_as_long_as_something_refers_to_it() {
    // Nobody compares for two minutes, and so fetches from who has it still.
    let rare = RepairSettings { compare_interval: Duration::from_secs(120), ..quick() };
    let site = Site::form_with(3, rare).await;
    until(async || site.map().nodes.keys().all(|node| site.is_complete(*node))).await;
    let part = small_part(&site.map(), 0);
    let id = ChunkId { part: part.id, index: 0 };
    site.put_object("key", &part).await;
    for node in [1, 2, 3].map(NodeId) {
        site.ask(node, &Request::DeleteChunks(vec![id]), Bytes::new()).await.unwrap();
    }
    let node = NodeId(3);
    let get = Request::GetChunk { id, from: 0, to: 10, purpose: Purpose::Client };
    assert_eq!(site.ask(node, &get, Bytes::new()).await, Err(Refusal::NoSuchChunk));
    // It was looked at, and is remembered.
    let place = site.place(node);
    until(async || site.machines[place].meta.get(Table::System, &super::mend::key(id)).unwrap().is_some()).await;
    assert_eq!(site.repair(node).await.damaged, 1);
    assert!(matches!(site.mutate(site.clock.now_ms(), delete("key")).await, MetaReply::Deleted(_)));
    until(async || site.repair(node).await.damaged == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_misses_a_chunk_brings_it_back() {
    // Nobody compares for two minutes.
    let rare = RepairSettings { compare_interval: Duration::from_secs(120), ..quick() };
    let site = Site::form_with(3, rare).await;
    until(async || site.map().nodes.keys().all(|node| site.is_complete(*node))).await;
    let part = small_part(&site.map(), 0);
    let id = ChunkId { part: part.id, index: 0 };
    site.put_object("key", &part).await;
    let node = NodeId(3);
    site.ask(node, &Request::DeleteChunks(vec![id]), Bytes::new()).await.unwrap();
    let get = Request::GetChunk { id, from: 0, to: 10, purpose: Purpose::Client };
    assert_eq!(site.ask(node, &get, Bytes::new()).await, Err(Refusal::NoSuchChunk));
    until(async || site.has(node, id).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_chunk_that_somebody_reads_is_no_damage_anywhere() {
    let site = Site::form(3).await;
    let id = chunk_of(&site.map(), 0);
    let gets = site.calls("gets");
    let get = Request::GetChunk { id, from: 0, to: 10, purpose: Purpose::Client };
    assert_eq!(site.ask(NodeId(1), &get, Bytes::new()).await, Err(Refusal::NoSuchChunk));
    until(async || site.repair(NodeId(1)).await.damaged == 0).await;
    for node in [1, 2, 3].map(NodeId) {
        assert_eq!(site.repair(node).await.damaged, 0, "{node}");
    }
    assert_eq!(site.calls("gets") - gets, 1, "nodes do not read from each other what they do not have");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_go_and_cannot_be_named_any_more_and_what_is_named_stays() {
    let impatient = RepairSettings {
        orphan_grace: Duration::from_millis(500),
        orphans_pause: Duration::from_millis(20),
        ..quick()
    };
    let site = Site::form_with(3, impatient).await;
    let [named, orphan] = [1, 2].map(part);
    site.name("key", &named).await;
    site.put_part(&named).await;
    site.put_part(&orphan).await;
    let nodes: Vec<NodeId> = site.map().nodes.keys().copied().collect();
    for &node in &nodes {
        until(async || site.count(node, std::slice::from_ref(&orphan)).await == 0).await;
    }
    let late = site.mutate(site.clock.now_ms(), put("late", Conditions::default(), &orphan)).await;
    assert_eq!(late, MetaReply::PartsCondemned);
    for &node in &nodes {
        assert_eq!(site.count(node, std::slice::from_ref(&named)).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_alone_has_is_repaired_before_what_two_have() {
    // Comparisons are made by who has just started, so that nobody else is quicker than the late one.
    let once = Duration::from_secs(600);
    let slow = RepairSettings { bandwidth_bytes_per_second: 2 << 20, compare_interval: once, ..quick() };
    let mut site = Site::form_with(3, slow).await;
    let [keeper, second, late] = [1, 2, 3].map(NodeId);
    until(async || [keeper, second, late].into_iter().all(|node| site.is_complete(node))).await;
    let place = site.place(late);
    site.stop(place).await;
    let map = site.map();
    let (mut endangered, mut safer) = (Vec::new(), Vec::new());
    for partition in 0..map.partitions() {
        let mut parts = (0..u128::MAX).map(|id| small_part_of(PartId(id.to_be_bytes())));
        let mut next = || {
            let lies_here =
                |part: &Part| part.chunks().all(|(id, _)| map.partition_of_chunk(id) == PartitionId(partition));
            parts.find(lies_here).expect("every partition has its part of the ring")
        };
        safer.extend([next(), next()]);
        endangered.push(next());
    }
    for (parts, nodes) in [(&endangered, &[keeper][..]), (&safer, &[keeper, second][..])] {
        for part in parts {
            for (id, _) in part.chunks() {
                for node in nodes {
                    site.put_chunk(*node, id, &bytes(part.id.0[15]), &[]).await;
                }
            }
            site.name(&hex(&part.id.0), part).await;
        }
    }
    site.start(place);
    until(async || {
        let safer_there = site.count(late, &safer).await;
        let endangered_there = site.count(late, &endangered).await;
        let in_order = safer_there == 0 || endangered_there == endangered.len();
        assert!(in_order, "{safer_there} that two nodes have came before {endangered_there} that one has");
        safer_there == safer.len()
    })
    .await;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Changes a byte of the first chunk of every extent.
fn rot(extents: &MemoryFiles) {
    for number in extents.numbers().unwrap() {
        extents.flip(number, PAGE_BYTES as u64 + 7);
    }
}

/// A part of one small chunk that lies in that partition.
fn small_part(map: &ClusterMap, partition: u32) -> Part {
    small_part_of(chunk_of(map, partition).part)
}

/// A part of one small chunk.
fn small_part_of(id: PartId) -> Part {
    let bytes = u64::from(PIECE_BYTES) + 1_000;
    Part { id, number: 1, length: bytes, stored: bytes, md5: [1; 16], checksum: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stand_in_gives_its_copy_up_when_every_holder_has_the_chunk() {
    let mut site = Site::form(4).await;
    let map = site.map();
    let part = small_part(&map, 2);
    let id = ChunkId { part: part.id, index: 0 };
    let holders = map.replicas(PartitionId(2)).to_vec();
    let stand_in = *map.nodes.keys().find(|node| !holders.contains(node)).unwrap();
    let [has_it, lacks_it, down] = holders[..] else { panic!("{holders:?}") };
    let place = site.place(down);
    site.stop(place).await;
    site.put_chunk(has_it, id, &bytes(3), &[]).await;
    site.put_chunk(stand_in, id, &bytes(3), &[down]).await;
    site.name("key", &part).await;
    until(async || site.has(lacks_it, id).await).await;
    assert!(site.has(stand_in, id).await, "one holder has not confirmed it");
    site.resume(place).await;
    until(async || !site.has(stand_in, id).await).await;
    for holder in holders {
        assert!(site.has(holder, id).await);
    }
    until(async || site.hints(stand_in).await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stray_without_a_hint_is_copied_confirmed_and_dropped() {
    let site = Site::form(4).await;
    let map = site.map();
    let part = small_part(&map, 1);
    let id = ChunkId { part: part.id, index: 0 };
    let members = map.replicas(PartitionId(1)).to_vec();
    let stranger = *map.nodes.keys().find(|node| !members.contains(node)).unwrap();
    site.name("key", &part).await;
    site.put_chunk(stranger, id, &bytes(9), &[]).await;
    until(async || !site.has(stranger, id).await).await;
    for member in members {
        assert!(site.has(member, id).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_chunks_gets_them_back_from_the_others() {
    let mut site = Site::form(3).await;
    let parts: Vec<Part> = (1..=5).map(part).collect();
    for (number, part) in parts.iter().enumerate() {
        site.put_object(&format!("key{number}"), part).await;
    }
    let lost = NodeId(2);
    let place = site.place(lost);
    site.stop(place).await;
    site.lose_chunks(place);
    site.resume(place).await;
    for (id, _) in parts.iter().flat_map(Part::chunks) {
        until(async || site.has(lost, id).await).await;
    }
    let get =
        Request::GetChunk { id: ChunkId { part: parts[0].id, index: 1 }, from: 0, to: 5, purpose: Purpose::Client };
    assert!(matches!(site.ask(lost, &get, Bytes::new()).await, Ok(Response::Chunk { owner: OWNER, length: 5, .. })));
    until(async || site.is_complete(lost)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_fetched_before_a_crash_is_not_fetched_again() {
    // Two chunks a second or so: the crash comes in the middle.
    let slow = RepairSettings { bandwidth_bytes_per_second: 600_000, ..quick() };
    let mut site = Site::form_with(3, slow).await;
    let map = site.map();
    let parts: Vec<Part> = (0..map.partitions()).map(|at| small_part(&map, at)).collect();
    for (number, part) in parts.iter().enumerate() {
        site.put_object(&format!("key{number}"), part).await;
    }
    let lost = NodeId(3);
    let place = site.place(lost);
    site.stop(place).await;
    site.lose_chunks(place);
    let gets_before = site.calls("gets");
    site.resume(place).await;
    until(async || site.count(lost, &parts).await > 0).await;
    site.stop(place).await;
    site.machines[place].chunks.crash();
    site.machines[place].extents.crash();
    site.resume(place).await;
    until(async || site.count(lost, &parts).await == parts.len()).await;
    // Those on their way in the crash may come twice.
    let gets = site.calls("gets") - gets_before;
    assert!((parts.len()..=parts.len() + super::fetch::CHUNKS_AT_ONCE).contains(&gets), "{gets}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_nodes_ask_one_question_each_and_nothing_else() {
    // Two minutes between comparisons: everyone compares once, at the start.
    let rare = RepairSettings { compare_interval: Duration::from_secs(120), ..quick() };
    let mut site = Site::form_with(3, rare).await;
    for number in 1..=3 {
        site.put_object(&format!("key{number}"), &part(number)).await;
    }
    let place = site.place(NodeId(1));
    until(async || site.map().nodes.keys().all(|node| site.is_complete(*node))).await;
    site.stop(place).await;
    let (digests, lists, gets) = (site.calls("digests"), site.calls("lists"), site.calls("gets"));
    site.resume(place).await;
    until(async || site.is_complete(NodeId(1))).await;
    let after = (site.calls("digests"), site.calls("lists"), site.calls("gets"));
    assert_eq!(after, (digests + 2, lists, gets));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_refers_to_does_not_come_back() {
    let site = Site::form(3).await;
    let [deleted, kept] = [1, 2].map(part);
    site.put_object("deleted", &deleted).await;
    site.put_object("kept", &kept).await;
    site.mutate(site.clock.now_ms(), delete("deleted")).await;
    until(async || site.garbage().await.is_empty()).await;
    // A late copy of the one, and a single copy of the other that went missing.
    let [holder, other] = [NodeId(1), NodeId(2)];
    let late = ChunkId { part: deleted.id, index: 1 };
    let missing = ChunkId { part: kept.id, index: 1 };
    site.put_chunk(holder, late, &Bytes::from(vec![1; 5]), &[]).await;
    site.ask(other, &Request::DeleteChunks(vec![missing]), Bytes::new()).await.unwrap();
    until(async || site.has(other, missing).await).await;
    until(async || site.is_complete(other)).await;
    assert!(!site.has(other, late).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_goes_everywhere_and_what_is_referred_to_stays() {
    let site = Site::form(3).await;
    let [deleted, kept, revived] = [1, 2, 3].map(part);
    for part in [&deleted, &kept, &revived] {
        site.put_part(part).await;
    }
    let now_ms = site.clock.now_ms();
    for (key, part) in [("deleted", &deleted), ("kept", &kept)] {
        let reply = site.mutate(now_ms, put(key, Conditions::default(), part)).await;
        assert!(matches!(reply, MetaReply::Written { .. }), "{reply:?}");
    }
    // A put that is refused makes its part garbage, from a moment on; before that another put refers to it.
    let absent = Conditions { if_none_match: Some(ETagCondition::Any), ..Conditions::default() };
    let due_ms = site.clock.now_ms() + 10_000;
    assert_eq!(site.mutate(due_ms, put("kept", absent, &revived)).await, MetaReply::PreconditionFailed);
    let reply = site.mutate(now_ms, put("revived", Conditions::default(), &revived)).await;
    assert!(matches!(reply, MetaReply::Written { .. }), "{reply:?}");
    assert_eq!(site.garbage().await.len(), 1);

    site.mutate(site.clock.now_ms(), delete("deleted")).await;
    until(async || site.garbage().await.is_empty()).await;
    for node in site.map().nodes.keys() {
        for (id, _) in deleted.chunks() {
            assert!(!site.has(*node, id).await);
        }
        for (id, _) in kept.chunks().chain(revived.chunks()) {
            assert!(site.has(*node, id).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_is_down_keeps_the_entry_until_it_has_removed_the_chunks() {
    let mut site = Site::form(3).await;
    let part = part(1);
    site.put_part(&part).await;
    let now_ms = site.clock.now_ms();
    site.mutate(now_ms, put("key", Conditions::default(), &part)).await;
    let down = NodeId(3);
    let place = site.place(down);
    site.stop(place).await;
    site.mutate(now_ms, delete("key")).await;
    for node in [NodeId(1), NodeId(2)] {
        for (id, _) in part.chunks() {
            until(async || !site.has(node, id).await).await;
        }
    }
    assert_eq!(site.garbage().await.len(), 1);
    site.start(place);
    soon(site.machines[place].node.as_ref().unwrap().ready()).await;
    until(async || site.garbage().await.is_empty()).await;
    for (id, _) in part.chunks() {
        assert!(!site.has(down, id).await);
    }
}
