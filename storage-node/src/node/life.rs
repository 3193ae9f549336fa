//! A node's life: it gets into a cluster, starts what a member has, and keeps up with the map until it is stopped.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{NodeId, RequestId};
use annulus_common::map::change::{MapChange, MapEntry, MapRefusal};
use annulus_common::map::watch::MapWatch;
use annulus_common::map::{MapVersion, Node, NodeProfile, NodeState};
use annulus_common::rpc::SharedTransport;
use annulus_common::task::Fatal;
use arc_swap::{ArcSwap, ArcSwapOption};
use futures::future::join5;
use parking_lot::RwLock;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::groups::End;
use super::{NodeConfig, StartError};
use crate::chunk::ChunkStore;
use crate::cluster::ask::Asking;
use crate::cluster::conduct::Conductor;
use crate::cluster::formation::{self, Entrance, Lobby};
use crate::cluster::membership::Membership;
use crate::cluster::{balance, root_key, silence};
use crate::counting::Counting;
use crate::kv::Kv;
use crate::kv::identity::NodeIdentity;
use crate::lifecycle::{LifecycleSeams, LifecycleWorker};
use crate::peers::{self, PeerSnapshots};
use crate::raft::{RaftConfig, RaftNode, RaftSeams};
use crate::repair::databases::Databases;
use crate::repair::hints::HintStore;
use crate::repair::mend::Damage;
use crate::repair::pressure::Foreground;
use crate::repair::redundancy::Redundancy;
use crate::repair::{Repair, RepairSeams};
use crate::server::{Room, Server};

/// How long registering a changed address may take before it is tried again.
const REGISTER_DEADLINE: Duration = Duration::from_secs(15);

/// What the handle, the service and the life of a node have in common.
pub(super) struct Shared {
    pub(super) config: NodeConfig,
    pub(super) clock: SharedClock,
    pub(super) started_at: Duration,
    pub(super) identity: Arc<RwLock<NodeIdentity>>,
    pub(super) stage: ArcSwap<Stage>,
    /// How long requests take, which repair gives way to.
    pub(super) foreground: Arc<Foreground>,
    /// Where requests are counted, if anybody wants to know.
    pub(super) counting: OnceLock<Counting>,
    /// Why the node must end, once it must.
    pub(super) failure: watch::Sender<Option<String>>,
}

/// How far a node is.
pub(super) enum Stage {
    /// In no cluster yet.
    Fresh(Arc<Lobby>),
    /// Resumes its place in the cluster.
    Starting,
    /// Serves.
    Member(Arc<Server>),
    /// Was a member, and was removed from the cluster.
    Removed(NodeId),
    /// Stopped, or about to.
    Stopped,
}

/// What a node's life is made of.
pub(super) struct Parts {
    pub(super) me: NodeProfile,
    pub(super) kv: Arc<dyn Kv>,
    pub(super) databases: Arc<Databases>,
    pub(super) chunks: Arc<ChunkStore>,
    pub(super) damage: Arc<Damage>,
    pub(super) transport: SharedTransport,
}

impl Shared {
    pub(super) fn server(&self) -> Option<Arc<Server>> {
        match &**self.stage.load() {
            Stage::Member(server) => Some(Arc::clone(server)),
            Stage::Fresh(_) | Stage::Starting | Stage::Removed(_) | Stage::Stopped => None,
        }
    }

    /// A node that was stopped meanwhile stays so.
    pub(super) fn enter(&self, stage: Stage) {
        let stage = Arc::new(stage);
        self.stage.rcu(|at| if matches!(**at, Stage::Stopped) { Arc::clone(at) } else { Arc::clone(&stage) });
    }

    fn fail(&self, reason: &str) {
        fail(&self.failure, reason);
    }

    pub(super) async fn live(self: Arc<Self>, parts: Parts, membership: Option<Membership>) {
        let is_new = membership.is_none();
        let member = match membership {
            Some(membership) => Ok(membership),
            None => self.become_member(&parts).await,
        };
        let lived = match member {
            Ok(membership) => self.serve(parts, membership, is_new).await,
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
    async fn serve(self: &Arc<Self>, parts: Parts, membership: Membership, is_new: bool) -> Result<(), StartError> {
        let (me, transport) = (parts.me.clone(), Arc::clone(&parts.transport));
        let server = Arc::new(self.open_server(parts, &membership)?);
        self.resume_groups(&server, &membership, is_new).await?;
        self.enter(Stage::Member(Arc::clone(&server)));
        let (node, groups) = (server.node, server.raft.groups().len());
        info!(node = node.0, name = me.name, addr = me.addr, groups, "node started");
        let asking = Arc::new(Asking::new(Arc::clone(&transport)));
        let lifecycle = LifecycleWorker::start(self.lifecycle_seams(&server, &asking));
        let repair = Repair::start(self.repair_seams(&server, transport));
        tokio::select! {
            kept = self.keep_up(&server, membership, &asking) => match kept? {
                End::Removed => {
                    drop(lifecycle);
                    self.leave(node, &server, repair).await;
                }
            },
            () = self.take_part(&server, &me, &asking) => {}
        }
        Ok(())
    }

    /// What answers requests, over what lies on the disk. No group runs yet.
    fn open_server(self: &Arc<Self>, parts: Parts, membership: &Membership) -> Result<Server, StartError> {
        let Parts { me, kv, databases, chunks, damage, transport } = parts;
        let node = membership.node;
        let (contacts, seeds) = (membership.contacts.clone(), self.config.formation.seeds.clone());
        let map = MapWatch::resume(contacts, seeds, me.instance, Arc::clone(&transport), Arc::clone(&self.clock));
        let raft = self.start_raft(node, &kv, &transport, &map)?;
        let hints = HintStore::open(Arc::clone(&kv), Arc::clone(&self.clock))?;
        let room = Room::new(node, Arc::clone(&kv));
        Ok(Server {
            node,
            formation: membership.formation.clone(),
            kv,
            databases,
            chunks,
            hints,
            damage,
            redundancy: Arc::new(Redundancy::new(node, Arc::clone(&self.clock))),
            raft,
            room,
            map,
            map_service: ArcSwapOption::empty(),
            register: Arc::default(),
            clock: Arc::clone(&self.clock),
            readers: Server::new_readers(),
        })
    }

    /// The node's part in what the cluster does, beside answering: for as long as it is polled.
    async fn take_part(&self, server: &Arc<Server>, me: &NodeProfile, asking: &Arc<Asking>) {
        let (node, map) = (server.node, &server.map);
        let conductor = Conductor {
            node,
            raft: server.raft.clone(),
            map: map.clone(),
            register: Arc::clone(&server.register),
            asking: Arc::clone(asking),
            clock: Arc::clone(&self.clock),
        };
        join5(
            keep_registered(map, node, me, &self.clock),
            balance::run(&server.raft, map, node),
            conductor.run(),
            server.room.keep_asking(&server.raft, map, asking),
            silence::run(|| server.map_service.load_full(), map, &self.clock, self.config.dead_after),
        )
        .await;
    }

    /// What the node held is of no use any more. It goes on saying so, rather than ending and being started again.
    async fn leave(&self, node: NodeId, server: &Server, repair: Repair) {
        error!(reason = %MapRefusal::NodeRemoved(node), "this node does not serve any more");
        repair.shutdown().await;
        server.raft.shutdown().await;
        self.enter(Stage::Removed(node));
    }

    fn start_raft(
        self: &Arc<Self>,
        node: NodeId,
        kv: &Arc<dyn Kv>,
        transport: &SharedTransport,
        map: &MapWatch,
    ) -> Result<RaftNode, StartError> {
        let seams = RaftSeams {
            kv: Arc::clone(kv),
            clock: Arc::clone(&self.clock),
            outbox: peers::outbox(Arc::clone(transport), map.clone()),
            snapshots: Arc::new(PeerSnapshots::new(Arc::clone(transport), map.clone())),
            fatal: self.fatal(),
        };
        let config = RaftConfig { workers: self.config.raft_workers, ..RaftConfig::new(node) };
        Ok(RaftNode::start(config, seams)?)
    }

    fn lifecycle_seams(self: &Arc<Self>, server: &Server, asking: &Arc<Asking>) -> LifecycleSeams {
        LifecycleSeams {
            node: server.node,
            asking: Arc::clone(asking),
            kv: Arc::clone(&server.kv),
            raft: server.raft.clone(),
            map: server.map.clone(),
            clock: Arc::clone(&self.clock),
            calendar: self.config.calendar,
            fatal: self.fatal(),
        }
    }

    /// What a part calls when the node cannot go on.
    pub(super) fn fatal(self: &Arc<Self>) -> Fatal {
        let failing = Arc::downgrade(self);
        Arc::new(move |reason| {
            if let Some(shared) = failing.upgrade() {
                shared.fail(reason);
            }
        })
    }

    fn repair_seams(self: &Arc<Self>, server: &Server, transport: SharedTransport) -> RepairSeams {
        RepairSeams {
            node: server.node,
            kv: Arc::clone(&server.kv),
            databases: Arc::clone(&server.databases),
            hints: Arc::clone(&server.hints),
            damage: Arc::clone(&server.damage),
            foreground: Arc::clone(&self.foreground),
            redundancy: Arc::clone(&server.redundancy),
            chunks: Arc::clone(&server.chunks),
            raft: server.raft.clone(),
            map: server.map.clone(),
            transport,
            clock: Arc::clone(&self.clock),
            fatal: self.fatal(),
            settings: self.config.repair.clone(),
        }
    }
}

/// Says why the node must end.
pub(super) fn fail(failure: &watch::Sender<Option<String>>, reason: &str) {
    error!(reason, "the node cannot go on");
    failure.send_replace(Some(reason.to_owned()));
}

/// Tells the cluster where this node is now, and what it offers, whenever the map says something else, or takes it for dead.
async fn keep_registered(map: &MapWatch, node: NodeId, me: &NodeProfile, clock: &SharedClock) {
    let mut known = map.refresh().await;
    loop {
        let registered = |entry: &Node| entry.profile == *me && entry.state != NodeState::Dead;
        if known.nodes.get(&node).is_none_or(registered) {
            known = map.changed(MapVersion(known.version.0 + 1)).await;
            continue;
        }
        let now_ms = clock.now_ms();
        let change = MapChange::RegisterNode { node: Some(node), profile: me.clone() };
        let entry = MapEntry { request: RequestId::generate(now_ms), time_ms: now_ms, change };
        match map.change(entry, REGISTER_DEADLINE).await {
            Ok(Ok(_)) => info!(node = node.0, addr = me.addr, "registered in the cluster map"),
            Ok(Err(refusal)) => {
                error!(%refusal, "the cluster refuses what this node says of itself");
                return;
            }
            Err(refusal) => warn!(%refusal, "not registered in the cluster map yet"),
        }
        known = map.refresh().await;
    }
}
