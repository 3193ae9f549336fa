//! A storage node as a whole: its databases opened, its place in the cluster found, its parts started, and all of it stopped
//! again in order. What the parts do is theirs; how requests reach them is `server`'s.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::config::ServerConfig;
use annulus_common::ids::{GroupId, InstanceId, NodeId, RequestId};
use annulus_common::map::change::{MapChange, MapEntry};
use annulus_common::map::watch::MapWatch;
use annulus_common::map::{ClusterMap, MapVersion, Node};
use annulus_common::protocol::{self, Message, NodeStatus, Refusal, Request, Response};
use annulus_common::rpc::{Envelope, IdentitySource, PeerIdentity, Service, SharedTransport};
use annulus_common::telemetry::Metrics;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{join, try_join_all};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::chunk::{ChunkError, ChunkStore, Execution};
use crate::cluster::formation::{self, Entrance, EntranceError, FormationSettings, Lobby, RootKey};
use crate::cluster::membership::{self, Membership};
use crate::cluster::state::MapMachine;
use crate::cluster::watch::MapService;
use crate::cluster::{balance, root_key};
use crate::counting::Counting;
use crate::kv::directory::{DirectoryOptions, NodeDirectory};
use crate::kv::disk::{BlockCache, DiskOptions, OpenMode, disk_space};
use crate::kv::identity::{IdentityError, NodeIdentity};
use crate::kv::{Kv, KvError};
use crate::metadata::Partition;
use crate::peers::{self, PeerSnapshots};
use crate::raft::{GroupSpec, RaftConfig, RaftError, RaftNode, RaftSeams, StateMachine};
use crate::repair::hints::HintStore;
use crate::repair::{Repair, RepairSeams, RepairSettings};
use crate::server::{self, Server};
use crate::status;

/// Metadata keeps this part of the reserve only: when the disk is too full for chunks, deletes must still go through the log.
const METADATA_RESERVE_SHARE: u64 = 4;

/// How often readiness is looked at by those who wait for it.
const READY_RECHECK: Duration = Duration::from_millis(20);

/// How long registering a changed address may take before it is tried again.
const REGISTER_DEADLINE: Duration = Duration::from_secs(15);

/// How long a stopping node waits for requests that still hold its databases.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// What a node is told at start.
#[derive(Clone)]
pub struct NodeConfig {
    /// `NODE_ID`.
    pub name: String,
    /// Where peers reach it.
    pub addr: String,
    /// The failure domain.
    pub zone: String,
    /// Bytes it offers; the size of the file system when absent.
    pub capacity_bytes: Option<u64>,
    /// Where everything is.
    pub data_dir: PathBuf,
    /// How a cluster is found or formed.
    pub formation: FormationSettings,
    /// The administrator's first key, drawn when absent. Of use only to a new cluster.
    pub root: Option<RootKey>,
    /// Memory for blocks of both databases.
    pub block_cache_bytes: usize,
    /// Bytes of the disk that chunks leave free; a default by the size of the disk when absent.
    pub disk_reserve_bytes: Option<u64>,
    /// Threads that drive Raft.
    pub raft_workers: usize,
    /// How fast repair goes.
    pub repair: RepairSettings,
}

impl NodeConfig {
    /// The node's part of a process's configuration.
    pub fn of(config: &ServerConfig) -> Self {
        Self {
            name: config.node_id.clone(),
            addr: config.advertised().to_string(),
            zone: config.zone.clone(),
            capacity_bytes: config.capacity_bytes,
            data_dir: config.data_dir.clone(),
            formation: FormationSettings {
                seeds: config.seeds.iter().map(ToString::to_string).collect(),
                replication_factor: config.replication_factor as u8,
                initial_nodes: config.initial_nodes as usize,
                partitions: config.partitions,
            },
            root: config.root.as_ref().map(|root| RootKey {
                access_key: root.access_key.clone(),
                secret_key: root.secret_key.expose().to_owned(),
            }),
            block_cache_bytes: config.block_cache_bytes as usize,
            disk_reserve_bytes: Some(config.disk_reserve_bytes),
            raft_workers: config.raft_workers as usize,
            repair: RepairSettings { collect_grace: config.collect_grace, ..RepairSettings::default() },
        }
    }
}

/// Why a node does not start, or cannot go on. Every text names the way out, as far as there is one.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory is not this node's, or not complete.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] KvError),
    /// The chunk store cannot be opened.
    #[error(transparent)]
    Chunks(#[from] ChunkError),
    /// Consensus cannot be started.
    #[error(transparent)]
    Raft(#[from] RaftError),
    /// The node cannot get into a cluster.
    #[error(transparent)]
    Entrance(#[from] EntranceError),
    /// The settings contradict each other.
    #[error("{0}")]
    Settings(String),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What it said.
        source: std::io::Error,
    },
}

/// The databases of a node, open, and who it is: known before anybody is talked to.
pub struct NodeData {
    meta: Arc<dyn Kv>,
    chunks: Arc<dyn Kv>,
    execution: Execution,
    identity: Arc<RwLock<NodeIdentity>>,
}

impl NodeData {
    /// Opens the data directory, which no other process may have open; makes it where there is none.
    pub fn open(config: &NodeConfig, clock: &SharedClock) -> Result<Self, StartError> {
        let made = std::fs::create_dir_all(&config.data_dir);
        made.map_err(|source| StartError::System { what: format!("making {}", config.data_dir.display()), source })?;
        let cache = BlockCache::new(config.block_cache_bytes);
        let mut meta = DiskOptions::metadata(cache.clone());
        meta.reserve_bytes = config.disk_reserve_bytes.map(|reserve| reserve / METADATA_RESERVE_SHARE);
        let mut chunks = DiskOptions::chunks(cache);
        chunks.reserve_bytes = config.disk_reserve_bytes;
        let instance = InstanceId::generate(clock.now_ms());
        let options = DirectoryOptions { mode: OpenMode::Create, name: config.name.clone(), instance, meta, chunks };
        let directory = NodeDirectory::open(&config.data_dir, &options)?;
        Ok(Self::of(directory.meta, directory.chunks, directory.identity, Execution::Threads))
    }

    /// Databases that were opened elsewhere, such as in memory; the identity is that in `meta`, or a new node's.
    pub fn of(meta: Arc<dyn Kv>, chunks: Arc<dyn Kv>, identity: NodeIdentity, execution: Execution) -> Self {
        Self { meta, chunks, execution, identity: Arc::new(RwLock::new(identity)) }
    }

    /// Who the node is, as its peers are told: it changes when the node gets into a cluster.
    pub fn identity(&self) -> IdentitySource {
        identity_source(Arc::clone(&self.identity))
    }
}

fn identity_source(identity: Arc<RwLock<NodeIdentity>>) -> IdentitySource {
    Arc::new(move || {
        let identity = identity.read();
        PeerIdentity { instance: identity.instance, node: identity.node, cluster: identity.cluster }
    })
}

/// A running node. Dropping it stops it at once, as a crash would; [`StorageNode::shutdown`] does it politely.
pub struct StorageNode {
    shared: Arc<Shared>,
    /// Gets the node into the cluster, then keeps up with it. Taken by who stops the node.
    life: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    config: NodeConfig,
    clock: SharedClock,
    started_at: Duration,
    identity: Arc<RwLock<NodeIdentity>>,
    stage: ArcSwap<Stage>,
    /// Where requests are counted, if anybody wants to know.
    counting: OnceLock<Counting>,
    /// Why the node must end, once it must.
    failure: watch::Sender<Option<String>>,
}

/// How far a node is.
enum Stage {
    /// In no cluster yet.
    Fresh(Arc<Lobby>),
    /// Resumes its place in the cluster.
    Starting,
    /// Serves.
    Member(Arc<Server>),
    /// Stopped, or about to.
    Stopped,
}

impl StorageNode {
    /// Starts a node on its databases. It returns before the node is in a cluster, which may take as long as others do: its
    /// service must be reachable under its address meanwhile. To be called inside a runtime.
    pub fn start(
        config: NodeConfig,
        data: NodeData,
        transport: SharedTransport,
        clock: SharedClock,
    ) -> Result<Self, StartError> {
        check_settings(&config)?;
        let identity = data.identity.read().clone();
        let me = this_node(&config, identity.instance)?;
        let membership = Membership::load(&*data.meta, &identity)?;
        let stage = match &membership {
            Some(_) => Stage::Starting,
            None => Stage::Fresh(Arc::new(Lobby::new(me.clone(), config.formation.initial_nodes, Arc::clone(&clock)))),
        };
        let on_corrupt = Arc::new(|chunk| warn!(?chunk, "a chunk is corrupt on this disk"));
        let chunks = ChunkStore::open(data.chunks, Arc::clone(&clock), data.execution, on_corrupt)?;
        let shared = Arc::new(Shared {
            config,
            started_at: clock.monotonic(),
            clock,
            identity: data.identity,
            stage: ArcSwap::from_pointee(stage),
            counting: OnceLock::new(),
            failure: watch::Sender::new(None),
        });
        let parts = Parts { me, kv: data.meta, chunks: Arc::new(chunks), transport };
        let life = tokio::spawn(Arc::clone(&shared).live(parts, membership));
        Ok(Self { shared, life: Mutex::new(Some(life)) })
    }

    /// Answers what peers and gateways ask.
    pub fn service(&self) -> Arc<dyn Service> {
        Arc::new(NodeService(Arc::clone(&self.shared)))
    }

    /// Who the node is, as its peers are told.
    pub fn identity(&self) -> IdentitySource {
        identity_source(Arc::clone(&self.shared.identity))
    }

    /// Counts what the node does from now on. Later calls change nothing.
    pub fn count_into(&self, metrics: Arc<Metrics>) {
        let _ = self.shared.counting.set(Counting::new(metrics, Arc::clone(&self.shared.clock)));
    }

    /// Whether the node is a member, knows the newest map and has a leader for each of its groups.
    pub fn is_ready(&self) -> bool {
        match &**self.shared.stage.load() {
            Stage::Member(server) => {
                let has_leader = |group| server.raft.status(group).is_some_and(|status| status.leader.is_some());
                server.map.current().is_some() && server.raft.groups().into_iter().all(has_leader)
            }
            Stage::Fresh(_) | Stage::Starting | Stage::Stopped => false,
        }
    }

    /// Waits until [`StorageNode::is_ready`]. Give up by dropping the future.
    pub async fn ready(&self) {
        while !self.is_ready() {
            tokio::time::sleep(READY_RECHECK).await;
        }
    }

    /// The node's copy of the cluster map, once it is a member and its first whole map has come.
    pub fn map(&self) -> Option<MapWatch> {
        self.shared.server().map(|server| server.map.clone()).filter(MapWatch::has_arrived)
    }

    /// What the node knows of itself, once it is a member.
    pub async fn status(&self) -> Option<NodeStatus> {
        let server = self.shared.server()?;
        self.shared.status(&server).await.ok()
    }

    /// Waits until the node cannot go on, and says why. The process should end then.
    pub async fn failed(&self) -> String {
        let mut failure = self.shared.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the node was dropped".to_owned(),
        }
    }

    /// Stops the node: hands leaderships over, finishes writing, closes the databases. The service must stay reachable until
    /// this returns, because handing over takes messages.
    pub async fn shutdown(&self) {
        let server = self.shared.server();
        let life = self.life.lock().take();
        if let Some(life) = life {
            life.abort();
            // It ends in the abort, or had ended before.
            let _ = life.await;
        }
        if let Some(server) = server {
            server.raft.shutdown().await;
            let databases = Arc::downgrade(&server.kv);
            self.shared.enter(Stage::Stopped);
            // Finishes what the chunk store accepted, which blocks.
            let _ = tokio::task::spawn_blocking(move || drop(server)).await;
            let closed = async {
                while databases.strong_count() > 0 {
                    tokio::time::sleep(READY_RECHECK).await;
                }
            };
            if tokio::time::timeout(CLOSE_PATIENCE, closed).await.is_err() {
                warn!("requests still hold the databases, stopping all the same");
            }
        }
        self.shared.enter(Stage::Stopped);
        info!("node stopped");
    }
}

impl Drop for StorageNode {
    fn drop(&mut self) {
        if let Some(life) = self.life.get_mut().take() {
            life.abort();
        }
        self.shared.enter(Stage::Stopped);
    }
}

fn check_settings(config: &NodeConfig) -> Result<(), StartError> {
    let formation = &config.formation;
    if formation.initial_nodes < usize::from(formation.replication_factor) {
        let (nodes, replicas) = (formation.initial_nodes, formation.replication_factor);
        return Err(StartError::Settings(format!(
            "initial_nodes is {nodes}, but replication_factor {replicas} needs that many nodes from the beginning"
        )));
    }
    Ok(())
}

fn this_node(config: &NodeConfig, instance: InstanceId) -> Result<Node, StartError> {
    let capacity_bytes = match config.capacity_bytes {
        Some(bytes) => bytes,
        None => {
            let what = || format!("measuring the file system of {}", config.data_dir.display());
            let space = disk_space(&config.data_dir);
            space.map_err(|source| StartError::System { what: what(), source })?.total_bytes
        }
    };
    let (name, addr, zone) = (config.name.clone(), config.addr.clone(), config.zone.clone());
    Ok(Node { name, instance, addr, zone, capacity_bytes })
}

/// What a node's life is made of.
struct Parts {
    me: Node,
    kv: Arc<dyn Kv>,
    chunks: Arc<ChunkStore>,
    transport: SharedTransport,
}

impl Shared {
    fn server(&self) -> Option<Arc<Server>> {
        match &**self.stage.load() {
            Stage::Member(server) => Some(Arc::clone(server)),
            Stage::Fresh(_) | Stage::Starting | Stage::Stopped => None,
        }
    }

    /// A node that was stopped meanwhile stays so.
    fn enter(&self, stage: Stage) {
        let stage = Arc::new(stage);
        self.stage.rcu(|at| if matches!(**at, Stage::Stopped) { Arc::clone(at) } else { Arc::clone(&stage) });
    }

    fn fail(&self, reason: &str) {
        error!(reason, "the node cannot go on");
        self.failure.send_replace(Some(reason.to_owned()));
    }

    async fn live(self: Arc<Self>, parts: Parts, membership: Option<Membership>) {
        let member = match membership {
            Some(membership) => Ok(membership),
            None => self.become_member(&parts).await,
        };
        let lived = match member {
            Ok(membership) => self.serve(parts, membership).await,
            Err(error) => Err(error),
        };
        if let Err(error) = lived {
            self.fail(&error.to_string());
        }
    }

    async fn become_member(&self, parts: &Parts) -> Result<Membership, StartError> {
        let stage = self.stage.load_full();
        let Stage::Fresh(lobby) = &*stage else {
            return Err(StartError::Settings("only a fresh node joins a cluster".to_owned()));
        };
        let root_key = || match &self.config.root {
            Some(root) => Ok(root.clone()),
            None => root_key::draw(&self.config.data_dir),
        };
        let entrance = Entrance {
            settings: &self.config.formation,
            lobby,
            kv: &*parts.kv,
            transport: &parts.transport,
            clock: &self.clock,
            root_key: &root_key,
        };
        let membership = formation::enter(entrance).await?;
        let identity = self.identity.read().clone();
        *self.identity.write() = membership.store(&*parts.kv, &identity)?;
        Ok(membership)
    }

    /// Starts everything that a member has, and keeps up with the map.
    async fn serve(self: &Arc<Self>, parts: Parts, membership: Membership) -> Result<(), StartError> {
        let Parts { me, kv, chunks, transport } = parts;
        let (node, instance) = (membership.node, me.instance);
        let seeds = self.config.formation.seeds.clone();
        let contacts = membership.contacts.clone();
        let map = MapWatch::resume(contacts, seeds, instance, Arc::clone(&transport), Arc::clone(&self.clock));
        let raft = self.start_raft(node, &kv, &transport, &map)?;
        let hints = HintStore::open(Arc::clone(&kv), Arc::clone(&self.clock))?;
        let server = Arc::new(Server {
            node,
            formation: membership.formation.clone(),
            kv,
            chunks,
            hints,
            raft,
            map,
            map_service: OnceLock::new(),
            clock: Arc::clone(&self.clock),
            readers: Server::new_readers(),
        });
        self.create_groups(&server, membership.groups(&membership.contacts)).await?;
        self.enter(Stage::Member(Arc::clone(&server)));
        info!(node = node.0, name = me.name, addr = me.addr, groups = server.raft.groups().len(), "node started");
        let _repair = Repair::start(self.repair_seams(&server, transport));
        let registering = keep_registered(&server.map, node, &me, &self.clock);
        let balancing = balance::run(&server.raft, &server.map, node);
        tokio::select! {
            kept = self.keep_up(&server, membership) => kept,
            ((), ()) = join(registering, balancing) => Ok(()),
        }
    }

    fn start_raft(
        self: &Arc<Self>,
        node: NodeId,
        kv: &Arc<dyn Kv>,
        transport: &SharedTransport,
        map: &MapWatch,
    ) -> Result<RaftNode, StartError> {
        let failing = Arc::downgrade(self);
        let seams = RaftSeams {
            kv: Arc::clone(kv),
            clock: Arc::clone(&self.clock),
            outbox: peers::outbox(Arc::clone(transport), map.clone()),
            snapshots: Arc::new(PeerSnapshots::new(Arc::clone(transport), map.clone())),
            fatal: Arc::new(move |reason| {
                if let Some(shared) = failing.upgrade() {
                    shared.fail(reason);
                }
            }),
        };
        let config = RaftConfig { workers: self.config.raft_workers, ..RaftConfig::new(node) };
        Ok(RaftNode::start(config, seams)?)
    }

    fn repair_seams(&self, server: &Server, transport: SharedTransport) -> RepairSeams {
        RepairSeams {
            node: server.node,
            kv: Arc::clone(&server.kv),
            hints: Arc::clone(&server.hints),
            chunks: Arc::clone(&server.chunks),
            raft: server.raft.clone(),
            map: server.map.clone(),
            transport,
            clock: Arc::clone(&self.clock),
            settings: self.config.repair.clone(),
        }
    }

    async fn create_groups(&self, server: &Server, groups: Vec<GroupSpec>) -> Result<(), StartError> {
        let mut creations = Vec::with_capacity(groups.len());
        for spec in groups {
            let machine: Box<dyn StateMachine> = if spec.group == GroupId::CLUSTER_MAP {
                let (machine, state) = MapMachine::open(Arc::clone(&server.kv))?;
                let service = MapService::new(server.raft.clone(), state, Arc::clone(&self.clock));
                // Set twice only if the group was created twice, which the Raft node refuses below.
                let _ = server.map_service.set(service);
                Box::new(machine)
            } else {
                Box::new(Partition::new(spec.group, Arc::clone(&server.kv)))
            };
            creations.push(server.raft.create_group(spec, machine));
        }
        try_join_all(creations).await?;
        Ok(())
    }

    /// Remembers who is in the cluster, and creates the groups that a new placement gives to this node.
    async fn keep_up(&self, server: &Server, membership: Membership) -> Result<(), StartError> {
        let mut known = membership.contacts.clone();
        loop {
            let next = MapVersion(server.map.latest().version.0.max(known.version.0) + 1);
            let map = match tokio::time::timeout(KEEP_UP_RECHECK, server.map.changed(next)).await {
                Ok(map) => map,
                Err(_) => server.map.latest(),
            };
            if is_same_layout(&known, &map) {
                continue;
            }
            known = map.skeleton();
            membership::store_contacts(&*server.kv, &known)?;
            let existing = server.raft.groups();
            let missing = membership.groups(&known).into_iter().filter(|spec| !existing.contains(&spec.group));
            self.create_groups(server, missing.collect()).await?;
        }
    }

    async fn answer(&self, peer: &PeerIdentity, request: Request, payload: Bytes) -> server::Reply {
        match &*self.stage.load_full() {
            Stage::Member(server) => match request {
                Request::NodeStatus => {
                    let status = self.status(server).await?;
                    Ok((Response::NodeStatus(Box::new(status)), Bytes::new()))
                }
                request => server.handle(peer, request, payload).await,
            },
            Stage::Fresh(lobby) => {
                if let Some(cluster) = peer.cluster {
                    lobby.saw_cluster(cluster);
                }
                match request {
                    Request::Join(node) => Ok((Response::Join(lobby.join(node)), Bytes::new())),
                    _ => Err(Refusal::NotReady("not a member of a cluster yet".to_owned())),
                }
            }
            Stage::Starting => Err(Refusal::NotReady("starting".to_owned())),
            Stage::Stopped => Err(Refusal::NotReady("stopping".to_owned())),
        }
    }

    async fn status(&self, server: &Arc<Server>) -> Result<NodeStatus, Refusal> {
        let uptime = self.clock.monotonic().saturating_sub(self.started_at);
        status::gather(server, uptime, &self.config.data_dir).await
    }
}

/// How often the layout is looked at without news: a map that came as a whole may have an older version's number.
const KEEP_UP_RECHECK: Duration = Duration::from_secs(5);

fn is_same_layout(known: &ClusterMap, map: &ClusterMap) -> bool {
    known.epoch == map.epoch && known.nodes == map.nodes && known.map_voters == map.map_voters
}

/// Tells the cluster where this node is now, and what it offers, if the map says something else.
async fn keep_registered(map: &MapWatch, node: NodeId, me: &Node, clock: &SharedClock) {
    loop {
        let known = map.refresh().await;
        if known.nodes.get(&node) == Some(me) {
            return;
        }
        let now_ms = clock.now_ms();
        let change = MapChange::RegisterNode(me.clone());
        let entry = MapEntry { request: RequestId::generate(now_ms), time_ms: now_ms, change };
        match map.change(entry, REGISTER_DEADLINE).await {
            Ok(Ok(_)) => info!(node = node.0, addr = me.addr, "registered in the cluster map"),
            Ok(Err(refusal)) => {
                error!(%refusal, "the cluster refuses what this node says of itself");
                return;
            }
            Err(refusal) => warn!(%refusal, "not registered in the cluster map yet"),
        }
    }
}

/// The node towards the transport.
struct NodeService(Arc<Shared>);

#[async_trait]
impl Service for NodeService {
    async fn call(&self, peer: &PeerIdentity, request: Envelope) -> Envelope {
        let reply = match protocol::decode::<Request>(&request.header) {
            Ok(decoded) => match self.0.counting.get() {
                Some(counting) => {
                    let ticket = counting.begin(&decoded, &request.payload);
                    let reply = self.0.answer(peer, decoded, request.payload).await;
                    counting.end(ticket, &reply);
                    reply
                }
                None => self.0.answer(peer, decoded, request.payload).await,
            },
            Err(error) => Err(Refusal::Invalid(error.to_string())),
        };
        server::envelope(reply)
    }

    fn receive(&self, peer: &PeerIdentity, message: Envelope) {
        let stage = self.0.stage.load();
        match (&**stage, protocol::decode::<Message>(&message.header)) {
            (Stage::Member(server), Ok(Message::Raft)) => server.step(peer, message.payload),
            (Stage::Fresh(lobby), Ok(Message::Raft)) => {
                if let Some(cluster) = peer.cluster {
                    lobby.saw_cluster(cluster);
                }
            }
            (_, Ok(Message::Raft)) => {}
            (_, Err(error)) => warn!(instance = %peer.instance, %error, "message dropped"),
        }
    }
}

#[cfg(test)]
mod tests;
