//! Nodes in one process, over memory: they form clusters, come back, and refuse what would harm.

mod expiry;
mod layout;
mod room;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use annulus_common::chunk::{ChunkOwner, piece_crcs};
use annulus_common::clock::{SharedClock, SystemClock};
use annulus_common::ids::{
    BucketId, ChunkId, Epoch, GroupId, InstanceId, NodeId, PartId, PartitionId, RequestId, ShardId, UploadId,
};
use annulus_common::lifecycle::Calendar;
use annulus_common::map::change::{MapChange, MapEntry};
use annulus_common::map::watch::MapWatch;
use annulus_common::map::{ClusterMap, NodeProfile};
use annulus_common::object::{KeyPath, ObjectAttributes, ObjectHeaders, Part, Upload, UserId};
use annulus_common::protocol::metadata::{Applied, Command, MetaReply, Mutation, Query, QueryReply};
use annulus_common::protocol::room::RoomFor;
use annulus_common::protocol::{Answer, JoinReply, Purpose, Refusal, Request, Response, decode, encode};
use annulus_common::rpc::local::LocalNetwork;
use annulus_common::rpc::{Envelope, Lane, PeerIdentity, RpcError, SharedTransport, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::{NodeConfig, NodeData, StartError, StorageNode};
use crate::chunk::Execution;
use crate::chunk::files::memory::MemoryFiles;
use crate::cluster::formation::FormationSettings;
use crate::cluster::membership::{CONTACTS_KEY, Membership};
use crate::cluster::root_key;
use crate::kv::identity::NodeIdentity;
use crate::kv::memory::MemoryKv;
use crate::kv::{Batch, Checkpoint, Cursor, Durability, Kv, KvError, KvRead, Op, Table};
use crate::repair::RepairSettings;

/// Longer than everything here takes, elections included.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens in time")
}

/// A database as one start of a node holds it: gone when the node has let go of it. With a count it refuses to store contacts.
struct Handle {
    kv: Arc<MemoryKv>,
    full: Arc<AtomicU64>,
    room: Arc<Mutex<RoomFor>>,
}

/// A disk of which [`Handle`] refuses nothing.
const NOT_FULL: u64 = 0;

impl KvRead for Handle {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.kv.get(table, key)
    }

    fn cursor<'a>(&'a self, table: Table, lower: &[u8], upper: &[u8]) -> Result<Box<dyn Cursor + 'a>, KvError> {
        self.kv.cursor(table, lower, upper)
    }
}

impl Kv for Handle {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let is_contacts = |op: &Op| matches!(op, Op::Put(_, key, _) if key == CONTACTS_KEY);
        if self.full.load(Ordering::Relaxed) != NOT_FULL && batch.ops.iter().any(is_contacts) {
            self.full.fetch_add(1, Ordering::Relaxed);
            return Err(KvError::Full { during: "a test" });
        }
        self.kv.write(batch, durability)
    }

    fn snapshot(&self) -> Box<dyn KvRead + '_> {
        self.kv.snapshot()
    }

    fn room(&self) -> RoomFor {
        *self.room.lock()
    }

    fn disk_bytes(&self, table: Table, from: &[u8], to: &[u8]) -> u64 {
        self.kv.disk_bytes(table, from, to)
    }

    fn checkpoint(&self) -> Result<Box<dyn Checkpoint>, KvError> {
        self.kv.checkpoint()
    }
}

/// A machine's disk: it outlives the nodes that are started on it.
struct Disk {
    name: String,
    /// One and how often it refused, or [`NOT_FULL`].
    full: Arc<AtomicU64>,
    room: Arc<Mutex<RoomFor>>,
    meta: Arc<MemoryKv>,
    chunks: Arc<MemoryKv>,
    extents: Arc<MemoryFiles>,
    directory: TempDir,
}

impl Disk {
    fn new(name: &str) -> Self {
        let meta = Arc::new(MemoryKv::new());
        NodeIdentity::new(name, InstanceId(rand::random())).store(&*meta).unwrap();
        let directory = tempfile::tempdir().unwrap();
        Self {
            name: name.to_owned(),
            full: Arc::default(),
            room: Arc::default(),
            meta,
            chunks: Arc::new(MemoryKv::new()),
            extents: Arc::new(MemoryFiles::new()),
            directory,
        }
    }

    fn data(&self) -> NodeData {
        let identity = NodeIdentity::load(&*self.meta, "memory").unwrap().unwrap();
        let open = |kv: &Arc<MemoryKv>| {
            let (kv, full, room) = (Arc::clone(kv), Arc::clone(&self.full), Arc::clone(&self.room));
            Arc::new(Handle { kv, full, room })
        };
        NodeData::of(open(&self.meta), open(&self.chunks), self.extents.clone(), identity, Execution::Inline)
    }
}

/// Nodes on one network.
struct Site {
    network: LocalNetwork,
    clock: SharedClock,
    seeds: Vec<String>,
    nodes: usize,
    dead_after: Duration,
}

impl Site {
    fn of(nodes: usize) -> Self {
        let seeds = (1..=nodes).map(|number| format!("n{number}")).collect();
        let dead_after = Duration::from_secs(600);
        Self { network: LocalNetwork::new(), clock: SystemClock::shared(), seeds, nodes, dead_after }
    }

    fn config(&self, disk: &Disk) -> NodeConfig {
        NodeConfig {
            name: disk.name.clone(),
            addr: disk.name.clone(),
            zone: "z".to_owned(),
            capacity_bytes: Some(1 << 30),
            data_dir: disk.directory.path().to_owned(),
            formation: FormationSettings {
                seeds: self.seeds.clone(),
                replication_factor: self.nodes.min(3) as u8,
                initial_nodes: self.nodes,
                partitions: 4,
            },
            root: None,
            block_cache_bytes: 0,
            disk_reserve_bytes: None,
            raft_workers: 1,
            dead_after: self.dead_after,
            repair: RepairSettings::default(),
            calendar: Calendar::Days,
        }
    }

    fn start(&self, disk: &Disk) -> StorageNode {
        let data = disk.data();
        let transport = self.network.transport(data.identity());
        self.start_with(self.config(disk), data, transport)
    }

    fn start_with(&self, config: NodeConfig, data: NodeData, transport: SharedTransport) -> StorageNode {
        let addr = config.addr.clone();
        let node = StorageNode::start(config, data, transport, self.clock.clone()).unwrap();
        self.network.register(&addr, node.service(), node.identity());
        node
    }

    fn client(&self) -> SharedTransport {
        let identity = PeerIdentity { instance: InstanceId([77; 16]), node: None, cluster: None };
        self.network.transport(Arc::new(move || identity.clone()))
    }

    async fn watch(&self) -> MapWatch {
        let watch = MapWatch::connect(self.seeds.clone(), InstanceId([78; 16]), self.client(), self.clock.clone());
        soon(watch).await
    }

    async fn stop(&self, node: StorageNode, disk: &Disk) {
        soon(node.shutdown()).await;
        assert_eq!(Arc::strong_count(&disk.meta), 1, "the node has closed its database");
        self.network.unregister(&disk.name);
    }

    async fn ask(&self, addr: &str, request: &Request, payload: Bytes) -> (Answer, Bytes) {
        let envelope = Envelope { header: encode(request), payload };
        let answer = self.client().call(addr, Lane::Control, envelope, PATIENCE).await.unwrap();
        (decode(&answer.header).unwrap(), answer.payload)
    }
}

/// Starts a site of fresh nodes, and waits until all are ready.
async fn form(nodes: usize) -> (Site, Vec<Disk>, Vec<StorageNode>) {
    let site = Site::of(nodes);
    let disks: Vec<Disk> = site.seeds.iter().map(|name| Disk::new(name)).collect();
    let nodes: Vec<StorageNode> = disks.iter().map(|disk| site.start(disk)).collect();
    for node in &nodes {
        soon(node.ready()).await;
    }
    (site, disks, nodes)
}

fn map_of(node: &StorageNode) -> Arc<ClusterMap> {
    node.map().unwrap().latest()
}

fn create_bucket(watch: &MapWatch, name: &str) -> MapEntry {
    let owner = *watch.latest().users.keys().next().unwrap();
    let change = MapChange::CreateBucket { name: name.to_owned(), owner, config: Default::default() };
    MapEntry { request: RequestId(rand::random()), time_ms: 1, change }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_founds_a_cluster_and_serves() {
    let (site, disks, nodes) = form(1).await;
    let map = map_of(&nodes[0]);
    assert_eq!((map.nodes.len(), map.map_voters.as_slice()), (1, &[NodeId(1)][..]));
    let written = std::fs::read_to_string(disks[0].directory.path().join(root_key::FILE_NAME)).unwrap();
    assert!(written.contains(map.keys.keys().next().unwrap()));

    let path = KeyPath { bucket: BucketId(1), shard: ShardId(0), key: "k".to_owned() };
    let queries =
        (0..4).map(|partition| (PartitionId(partition), Query::Object { path: path.clone(), version: None })).collect();
    let (answer, _) = site.ask("n1", &Request::Query { epoch: map.epoch, queries }, Bytes::new()).await;
    let Ok(Response::Queried(answers)) = answer else { panic!("{answer:?}") };
    assert!(answers.len() == 4 && answers.iter().all(|answer| *answer == Ok(QueryReply::Object(None))));

    let queries = vec![(PartitionId(9), Query::Object { path, version: None })];
    let (answer, _) =
        site.ask("n1", &Request::Query { epoch: map.epoch, queries: queries.clone() }, Bytes::new()).await;
    assert_eq!(answer, Ok(Response::Queried(vec![Err(Refusal::NotHere)])));
    let (answer, _) = site.ask("n1", &Request::Query { epoch: Epoch(0), queries }, Bytes::new()).await;
    assert_eq!(answer, Err(Refusal::StaleEpoch(map.epoch)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_are_stored_with_the_hints_that_come_along() {
    let (site, _disks, nodes) = form(1).await;
    let (data, id) = (Bytes::from(vec![5; 300_000]), ChunkId { part: PartId([3; 16]), index: 2 });
    let owner = ChunkOwner { bucket: BucketId(1), shard: ShardId(1) };
    let put = Request::PutChunk {
        id,
        owner,
        piece_crcs: piece_crcs(&data),
        hints: vec![NodeId(8), NodeId(9)],
        purpose: Purpose::Client,
    };
    assert_eq!(site.ask("n1", &put, data.clone()).await.0, Ok(Response::Done));
    let (answer, payload) =
        site.ask("n1", &Request::GetChunk { id, from: 0, to: 300_000, purpose: Purpose::Client }, Bytes::new()).await;
    assert!(matches!(answer, Ok(Response::Chunk { first_piece: 0, length: 300_000, .. })), "{answer:?}");
    assert_eq!(payload, data);
    let absent = ChunkId { index: 3, ..id };
    let (answer, _) = site.ask("n1", &Request::HasChunks(vec![absent, id]), Bytes::new()).await;
    assert_eq!(answer, Ok(Response::HasChunks(vec![false, true])));
    let (answer, _) =
        site.ask("n1", &Request::GetChunk { id: absent, from: 0, to: 1, purpose: Purpose::Client }, Bytes::new()).await;
    assert_eq!(answer, Err(Refusal::NoSuchChunk));
    let damaged =
        Request::PutChunk { id: absent, owner, piece_crcs: vec![1, 2], hints: Vec::new(), purpose: Purpose::Client };
    assert_eq!(site.ask("n1", &damaged, data).await.0, Err(Refusal::Mismatch));
    let status = nodes[0].status().await.unwrap();
    assert_eq!((status.chunks, status.chunk_bytes), (1, 300_000));
    assert_eq!(BTreeMap::from_iter(status.hints), BTreeMap::from([(NodeId(8), 1), (NodeId(9), 1)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_one_cluster_in_which_a_change_is_known_everywhere() {
    let (site, _disks, nodes) = form(3).await;
    let maps: Vec<Arc<ClusterMap>> = nodes.iter().map(map_of).collect();
    assert!(maps.iter().all(|map| map.cluster == maps[0].cluster && map.nodes.len() == 3));
    let numbers: Vec<Option<NodeId>> = nodes.iter().map(|node| node.identity()().node).collect();
    assert_eq!(numbers, [Some(NodeId(1)), Some(NodeId(2)), Some(NodeId(3))]);

    let watch = site.watch().await;
    for name in ["photos", "music"] {
        soon(watch.change(create_bucket(&watch, name), PATIENCE)).await.unwrap().unwrap();
        assert!(watch.refresh().await.buckets.contains_key(name));
        for node in &nodes {
            let current = node.map().unwrap().current();
            assert!(current.is_none_or(|map| map.buckets.contains_key(name)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_comes_back_from_its_disks_alone() {
    let (mut site, disks, nodes) = form(3).await;
    let watch = site.watch().await;
    soon(watch.change(create_bucket(&watch, "photos"), PATIENCE)).await.unwrap().unwrap();
    let before: Vec<PeerIdentity> = nodes.iter().map(|node| node.identity()()).collect();
    for (node, disk) in nodes.into_iter().zip(&disks) {
        site.stop(node, disk).await;
        disk.meta.crash();
    }
    site.seeds.clear();
    let nodes: Vec<StorageNode> = disks.iter().map(|disk| site.start(disk)).collect();
    for (node, before) in nodes.iter().zip(before) {
        soon(node.ready()).await;
        assert_eq!(node.identity()(), before);
        assert!(node.map().unwrap().refresh().await.buckets.contains_key("photos"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_node_is_registered_and_holds_nothing_yet() {
    let (site, _disks, nodes) = form(1).await;
    let disk = Disk::new("n2");
    let late = site.start(&disk);
    soon(late.ready()).await;
    assert_eq!(late.identity()().node, Some(NodeId(2)));
    assert_eq!(late.identity()().cluster, nodes[0].identity()().cluster);
    assert!(late.status().await.unwrap().groups.is_empty());
    assert_eq!(map_of(&late).nodes.len(), 2);
    // Asked again, as after a crash before it was written down, it gets the same number.
    let again = map_of(&late).nodes[&NodeId(2)].profile.clone();
    let (answer, _) = site.ask("n1", &Request::Join(again), Bytes::new()).await;
    assert!(matches!(answer, Ok(Response::Join(JoinReply::Member { node: NodeId(2), initial: false, .. }))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_moved_tells_the_cluster() {
    let (site, disks, mut nodes) = form(1).await;
    site.stop(nodes.remove(0), &disks[0]).await;
    let data = disks[0].data();
    let transport = site.network.transport(data.identity());
    let mut config = site.config(&disks[0]);
    config.addr = "elsewhere".to_owned();
    config.formation.seeds = vec!["elsewhere".to_owned()];
    let moved = site.start_with(config, data, transport);
    soon(moved.ready()).await;
    let map = moved.map().unwrap();
    let known = async {
        while map.refresh().await.addr(NodeId(1)) != Some("elsewhere") {
            tokio::task::yield_now().await;
        }
    };
    soon(known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_initial_member_is_told_the_same_by_every_other() {
    let (site, _disks, nodes) = form(3).await;
    let third = map_of(&nodes[0]).nodes[&NodeId(3)].profile.clone();
    let mut told = Vec::new();
    for addr in ["n1", "n2", "n3"] {
        told.push(site.ask(addr, &Request::Join(third.clone()), Bytes::new()).await.0);
    }
    assert!(told.iter().all(|answer| *answer == told[0]));
    assert!(matches!(&told[0], Ok(Response::Join(JoinReply::Member { node: NodeId(3), initial: true, .. }))));
}

/// A transport that notes how its owner was answered when it asked to join.
struct Noting {
    inner: SharedTransport,
    refusals: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Noting {
    async fn call(&self, addr: &str, lane: Lane, request: Envelope, deadline: Duration) -> Result<Envelope, RpcError> {
        let answer = self.inner.call(addr, lane, request, deadline).await?;
        if let Ok(Ok(Response::Join(JoinReply::Refused(why)))) = decode::<Answer>(&answer.header) {
            self.refusals.lock().push(why);
        }
        Ok(answer)
    }

    fn send(&self, addr: &str, message: Envelope) {
        self.inner.send(addr, message);
    }
}

/// Replaces the disk of a node of three, starts it under its old name, and sees it refused again and again.
async fn wiped_is_refused(number: usize) {
    let (site, disks, mut nodes) = form(3).await;
    site.stop(nodes.remove(number), &disks[number]).await;
    let disk = Disk::new(&disks[number].name);
    let data = disk.data();
    let transport = Arc::new(Noting { inner: site.network.transport(data.identity()), refusals: Mutex::default() });
    let wiped = site.start_with(site.config(&disk), data, transport.clone());
    let refused = async {
        while transport.refusals.lock().len() < 5 {
            tokio::task::yield_now().await;
        }
    };
    soon(refused).await;
    let why = transport.refusals.lock()[0].clone();
    assert!(why.contains("belongs to another data directory") && why.contains("new NODE_ID"), "{why}");
    assert_eq!((wiped.identity()().cluster, wiped.is_ready()), (None, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_is_refused_under_its_old_name() {
    wiped_is_refused(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_founder_forms_no_second_cluster() {
    wiped_is_refused(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_nodes_for_the_replication_factor_are_refused_at_once() {
    let site = Site::of(1);
    let disk = Disk::new("n1");
    let mut config = site.config(&disk);
    config.formation.replication_factor = 3;
    let data = disk.data();
    let transport = site.network.transport(data.identity());
    let refused = StorageNode::start(config, data, transport, site.clock.clone());
    assert!(matches!(refused, Err(StartError::Settings(why)) if why.contains("replication_factor 3")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_node_serves_nothing_but_the_waiting_room() {
    let site = Site { seeds: vec!["absent".to_owned()], ..Site::of(1) };
    let disk = Disk::new("n1");
    let _waiting = site.start(&disk);
    let (answer, _) = site.ask("n1", &Request::PeekMap, Bytes::new()).await;
    assert!(matches!(answer, Err(Refusal::NotReady(_))));
    let instance = InstanceId([4; 16]);
    let other = NodeProfile { name: "n2".into(), instance, addr: "n2".into(), zone: "z".into(), capacity_bytes: 1 };
    let (answer, _) = site.ask("n1", &Request::Join(other), Bytes::new()).await;
    assert_eq!(answer, Ok(Response::Join(JoinReply::NotFormed)));
}

/// A transport with a defect.
struct Panicking {
    inner: SharedTransport,
    armed: AtomicBool,
}

#[async_trait]
impl Transport for Panicking {
    async fn call(&self, addr: &str, lane: Lane, request: Envelope, deadline: Duration) -> Result<Envelope, RpcError> {
        assert!(!self.armed.load(Ordering::Relaxed), "told to");
        self.inner.call(addr, lane, request, deadline).await
    }

    fn send(&self, addr: &str, message: Envelope) {
        self.inner.send(addr, message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_ends_with_the_reason_when_a_part_of_it_panics() {
    let (site, disks) = (Site::of(3), ["n1", "n2", "n3"].map(Disk::new));
    let data = disks[0].data();
    let transport =
        Arc::new(Panicking { inner: site.network.transport(data.identity()), armed: AtomicBool::new(false) });
    let node = site.start_with(site.config(&disks[0]), data, transport.clone());
    let _others = [site.start(&disks[1]), site.start(&disks[2])];
    soon(node.ready()).await;
    transport.armed.store(true, Ordering::Relaxed);
    let reason = soon(node.failed()).await;
    assert!(reason.ends_with("panicked: told to"), "{reason}");
}

/// Carries a command out in a shard.
async fn change_shard(site: &Site, node: &StorageNode, command: Command, of: (BucketId, ShardId)) -> MetaReply {
    let request = RequestId(rand::random());
    mutate_shard(site, node, Mutation { request, since: None, time_ms: 1, command, notice: None }, of).await.reply
}

async fn mutate_shard(site: &Site, node: &StorageNode, mutation: Mutation, of: (BucketId, ShardId)) -> Applied {
    let map = map_of(node);
    let partition = map.partition_of_shard(of.0, of.1);
    let request = Request::Mutate { partition, epoch: map.epoch, mutation };
    match site.ask("n1", &request, Bytes::new()).await.0 {
        Ok(Response::Mutated(applied)) => applied,
        other => panic!("{other:?}"),
    }
}

async fn ask_shard(site: &Site, node: &StorageNode, query: Query, of: (BucketId, ShardId)) -> QueryReply {
    let map = map_of(node);
    let queries = vec![(map.partition_of_shard(of.0, of.1), query)];
    match site.ask("n1", &Request::Query { epoch: map.epoch, queries }, Bytes::new()).await.0 {
        Ok(Response::Queried(mut answers)) => answers.remove(0).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_from_another_place_of_the_log_is_told_the_one_to_say() {
    let (site, disk) = (Site::of(1), Disk::new("n1"));
    let node = site.start(&disk);
    soon(node.ready()).await;
    let of = (BucketId(1), ShardId(0));
    let command = room::put(of.0, of.1, "k");
    let request = RequestId(rand::random());
    let mut mutation = Mutation { request, since: Some(1 << 40), time_ms: 1, command, notice: None };
    let expired = mutate_shard(&site, &node, mutation.clone(), of).await;
    assert_eq!(expired.reply, MetaReply::Expired);
    mutation.since = Some(expired.index);
    let written = mutate_shard(&site, &node, mutation.clone(), of).await;
    assert!(matches!(written.reply, MetaReply::Written { .. }) && written.index > expired.index, "{written:?}");
    assert_eq!(mutate_shard(&site, &node, mutation, of).await.reply, written.reply, "it came again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_a_deleted_bucket_go_and_those_of_others_stay() {
    let (site, disk) = (Site::of(1), Disk::new("n1"));
    let data = disk.data();
    let transport = site.network.transport(data.identity());
    let node = site.start_with(NodeConfig { calendar: Calendar::Short(20), ..site.config(&disk) }, data, transport);
    soon(node.ready()).await;
    let watch = site.watch().await;
    let shard = ShardId(0);
    let mut buckets = Vec::new();
    for (name, id) in [("photos", 1), ("music", 2)] {
        soon(watch.change(create_bucket(&watch, name), PATIENCE)).await.unwrap().unwrap();
        let bucket = watch.refresh().await.buckets[name].id;
        let path = KeyPath { bucket, shard, key: "k".to_owned() };
        let upload = Upload {
            id: UploadId([id; 16]),
            initiator: UserId([0; 32]),
            owner: UserId([0; 32]),
            initiated_ms: 1,
            headers: ObjectHeaders::default(),
            attributes: ObjectAttributes::default(),
            checksum: None,
            encryption: None,
        };
        let part = Part { id: PartId([id; 16]), number: 1, length: 9, stored: 9, md5: [id; 16], checksum: None };
        for command in [
            Command::CreateUpload { path: path.clone(), upload: upload.clone() },
            Command::PutPart { path, upload: upload.id, part, sent: None },
        ] {
            assert_eq!(change_shard(&site, &node, command, (bucket, shard)).await, MetaReply::Done);
        }
        buckets.push(bucket);
    }
    let uploads = async |bucket| {
        let (prefix, delimiter, from, after_upload) = (String::new(), None, Vec::new(), None);
        let query = Query::Uploads { bucket, shard, prefix, delimiter, from, after_upload, limit: 10 };
        match ask_shard(&site, &node, query, (bucket, shard)).await {
            QueryReply::Uploads(page) => page.entries.len(),
            other => panic!("{other:?}"),
        }
    };
    let begin = MapChange::BeginDeleteBucket { name: "photos".to_owned() };
    let token = RequestId(rand::random());
    soon(watch.change(MapEntry { request: token, time_ms: 1, change: begin }, PATIENCE)).await.unwrap().unwrap();
    assert_eq!(uploads(buckets[0]).await, 1, "the deletion may fail yet");
    let finish = MapChange::FinishDeleteBucket { name: "photos".to_owned(), token };
    let entry = MapEntry { request: RequestId(rand::random()), time_ms: 1, change: finish };
    soon(watch.change(entry, PATIENCE)).await.unwrap().unwrap();
    soon(async {
        while uploads(buckets[0]).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(uploads(buckets[1]).await, 1);
    let garbage = Query::Garbage { before_ms: u64::MAX, after: None, limit: 10 };
    match ask_shard(&site, &node, garbage, (buckets[0], shard)).await {
        QueryReply::Garbage(garbage) => assert_eq!(garbage[0].part, PartId([1; 16])),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_does_not_end_a_node_that_follows_the_map() {
    let (site, disks, nodes) = form(3).await;
    disks[2].full.store(1, Ordering::Relaxed);
    let fourth = Disk::new("n4");
    let _late = site.start(&fourth);
    soon(async {
        while disks[2].full.load(Ordering::Relaxed) == 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    disks[2].full.store(NOT_FULL, Ordering::Relaxed);
    let identity = NodeIdentity::load(&*disks[2].meta, "memory").unwrap().unwrap();
    let knows_it = || Membership::load(&*disks[2].meta, &identity).unwrap().unwrap().contacts.nodes.len() == 4;
    soon(async {
        while !knows_it() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(nodes[2].shared.failure.borrow().is_none() && nodes[2].is_ready());
}

/// A node that was cut off after it had stored that it belongs to the cluster, and before it had begun its groups.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_was_cut_off_begins_partitions_only_when_the_layout_is_confirmed() {
    let (site, disks, nodes) = form(3).await;
    for (node, disk) in nodes.into_iter().zip(&disks) {
        site.stop(node, disk).await;
    }
    let identity = NodeIdentity::load(&*disks[2].meta, "memory").unwrap().unwrap();
    let cut_off = Disk::new("n3");
    let membership = Membership::load(&*disks[2].meta, &identity).unwrap().unwrap();
    membership.store(&*cut_off.meta, &identity).unwrap();
    let node = site.start(&cut_off);
    soon(async {
        while node.shared.server().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(node.shared.server().unwrap().raft.groups(), [GroupId::CLUSTER_MAP]);
    let _others = [site.start(&disks[0]), site.start(&disks[1])];
    soon(node.ready()).await;
    soon(async {
        while node.shared.server().unwrap().raft.groups().len() < 5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
