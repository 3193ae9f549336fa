//! Every request to a node: decoded, given to the part that it is for, answered. What a request means is the part's; this
//! file checks who may ask, what a request may carry, and that both sides know the same placement.

mod answer;
mod chunks;
mod metadata;
mod room;

use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::crc32c;
use annulus_common::clock::SharedClock;
use annulus_common::ids::{Epoch, GroupId, InstanceId, NodeId, PartitionId, RequestId};
use annulus_common::map::change::{MapChange, MapEntry, MapRefusal, MapReply};
use annulus_common::map::watch::MapWatch;
use annulus_common::map::{ClusterMap, MapVersion, NodeProfile};
use annulus_common::protocol::{self, JoinReply, MoveProgress, PartitionUsage, Progress, Refusal, Request, Response};
use annulus_common::ring::positions_of;
use annulus_common::rpc::PeerIdentity;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::Semaphore;

pub(crate) use self::answer::envelope;
pub(crate) use self::room::Room;
use crate::chunk::ChunkStore;
use crate::cluster::conduct::target;
use crate::cluster::formation::name_taken;
use crate::cluster::register::Register;
use crate::cluster::watch::MapService;
use crate::kv::Kv;
use crate::metadata::disk_bytes;
use crate::raft::{RaftNode, Role};
use crate::refusal;
use crate::repair::audit;
use crate::repair::databases::Databases;
use crate::repair::hints::HintStore;
use crate::repair::mend::Damage;
use crate::repair::redundancy::Redundancy;

/// Threads that read metadata at once. The disk is busy with fewer; more would only take memory.
const READERS_MAX: usize = 64;

/// Groups that one request may name: all that a ring can have.
const GROUPS_PER_REQUEST_MAX: usize = 4_097;

/// How long a request waits for this node to learn of a placement that its sender knows already.
const EPOCH_PATIENCE: Duration = Duration::from_secs(1);

/// How long a data directory waits to be registered: less than it waits for the answer.
const REGISTER_DEADLINE: Duration = Duration::from_secs(8);

/// A node that is a member of a cluster, as far as requests go.
pub(crate) struct Server {
    pub(crate) node: NodeId,
    /// The map at formation, if this node was there.
    pub(crate) formation: Option<ClusterMap>,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) databases: Arc<Databases>,
    pub(crate) chunks: Arc<ChunkStore>,
    pub(crate) hints: Arc<HintStore>,
    pub(crate) damage: Arc<Damage>,
    pub(crate) redundancy: Arc<Redundancy>,
    pub(crate) raft: RaftNode,
    pub(crate) room: Room,
    pub(crate) map: MapWatch,
    /// Group 0, where it is here.
    pub(crate) map_service: ArcSwapOption<MapService>,
    /// What of the map is carried out.
    pub(crate) register: Arc<Register>,
    pub(crate) clock: SharedClock,
    pub(crate) readers: Arc<Semaphore>,
}

/// A response with the bytes that go beside it.
pub(crate) type Reply = Result<(Response, Bytes), Refusal>;

impl Server {
    /// The bound of [`Server::readers`].
    pub(crate) fn new_readers() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(READERS_MAX))
    }

    /// Carries out a request; `status` is asked of the node as a whole.
    pub(crate) async fn handle(&self, peer: &PeerIdentity, request: Request, payload: Bytes) -> Reply {
        match request {
            Request::Join(profile) => self.join(profile).await.map(|reply| bare(Response::Join(reply))),
            Request::WatchMap { watcher, have, hold } => self.watch_map(watcher, have, hold).await,
            Request::FetchMap { version, from } => Ok((Response::MapPiece, self.map_service()?.piece(version, from)?)),
            Request::PeekMap => Ok((Response::MapPeeked, protocol::encode(&self.map.latest().skeleton()))),
            Request::ChangeMap(entry) => {
                self.map_service()?.change(&entry).await.map(|outcome| bare(Response::MapChanged(outcome)))
            }
            Request::Mutate { partition, epoch, mutation } => self.mutate(partition, epoch, &mutation).await,
            Request::Query { epoch, queries } => self.query(epoch, queries).await,
            Request::PutChunk { id, owner, piece_crcs, hints, purpose: _ } => {
                self.put_chunk(id, owner, piece_crcs, hints, payload).await
            }
            Request::AddHints { node, chunks } => self.add_hints(node, chunks).await,
            Request::GetChunk { id, from, to, purpose: _ } => self.get_chunk(id, from, to).await,
            Request::DeleteChunks(chunks) => self.delete_chunks(chunks).await,
            Request::HasChunks(chunks) => self.has_chunks(chunks).await,
            Request::DigestChunks(parts) => self.digest_chunks(parts).await,
            Request::ListChunks { positions, after } => self.list_chunks(positions, after).await,
            Request::VerifyChunks { positions, after } => self.verify_chunks(positions, after).await,
            Request::VerifyMetadata { from } => {
                let databases = Arc::clone(&self.databases);
                let verified = self.on_disk(move |_| audit::verify_metadata(&databases, from)).await?;
                let next = verified.map_err(refusal::of_storage)?;
                Ok(bare(Response::MetadataVerified { next }))
            }
            Request::Snapshot(request) => self.snapshot(peer, request).await,
            Request::Progress(partitions) => {
                check_count(partitions.len(), GROUPS_PER_REQUEST_MAX)?;
                Ok(bare(Response::Progress(self.progress(&partitions))))
            }
            Request::Members { epoch, groups } => self.members(epoch, groups).await,
            Request::Usage(partitions) => self.usage(partitions).await,
            Request::Outboxes => self.outboxes().await,
            Request::NodeStatus => Err(Refusal::Invalid("the status is the node's to answer".to_owned())),
        }
    }

    /// Takes a frame of Raft messages. Only members send them.
    pub(crate) fn step(&self, peer: &PeerIdentity, frame: Bytes) {
        match peer.node {
            Some(from) => self.raft.step(from, frame),
            None => tracing::debug!(instance = %peer.instance, "raft messages from a stranger, dropped"),
        }
    }

    async fn watch_map(&self, watcher: InstanceId, have: Option<MapVersion>, hold: bool) -> Reply {
        let (update, first_piece) = self.map_service()?.watch(watcher, have, hold).await?;
        Ok((Response::Map(update), first_piece))
    }

    /// Registers a data directory, or says again what an initial member was told at the formation, as long as the layout is that.
    async fn join(&self, profile: NodeProfile) -> Result<JoinReply, Refusal> {
        if let Some(formation) = &self.formation
            && let Some(id) = formation.node_of_instance(profile.instance)
            && self.map.latest().epoch == formation.epoch
            && self.map.latest().nodes.contains_key(&id)
        {
            return Ok(JoinReply::Member { node: id, map: Box::new(formation.clone()), initial: true });
        }
        let now_ms = self.clock.now_ms();
        let change = MapChange::RegisterNode { node: None, profile };
        let entry = MapEntry { request: RequestId::generate(now_ms), time_ms: now_ms, change };
        match self.map.change(entry, REGISTER_DEADLINE).await? {
            // It may be an initial member that was not told yet, which only those know who were there.
            Ok(MapReply::Node(id)) if self.formation.is_none() && id < self.node => Ok(JoinReply::NotFormed),
            Ok(MapReply::Node(node)) => {
                let map = Box::new(self.map.refresh().await.skeleton());
                Ok(JoinReply::Member { node, map, initial: false })
            }
            Ok(other) => Err(Refusal::Storage(format!("registering a node answered {other:?}"))),
            Err(MapRefusal::NodeNameTaken { name, instance }) => Ok(JoinReply::Refused(name_taken(&name, instance))),
            Err(refusal) => Ok(JoinReply::Refused(refusal.to_string())),
        }
    }

    async fn snapshot(&self, peer: &PeerIdentity, request: Bytes) -> Reply {
        let Some(from) = peer.node else {
            return Err(Refusal::Invalid("only members are given snapshots".to_owned()));
        };
        let piece = self.raft.serve_snapshot(from, request).await;
        Ok((Response::Snapshot { crc: crc32c(&piece) }, piece))
    }

    /// Whether each group that the map gives to this node, and that it is a member of, has a leader.
    pub(crate) fn has_leaders(&self, map: &ClusterMap) -> bool {
        let is_led = |group: GroupId| {
            let status = self.raft.status(group);
            status.is_some_and(|status| status.leader.is_some() || !status.voters.contains(&self.node))
        };
        let groups = (0..=map.partitions()).map(GroupId);
        groups.filter(|group| target(map, *group).contains(&self.node)).all(is_led)
    }

    fn map_service(&self) -> Result<Arc<MapService>, Refusal> {
        self.map_service.load_full().ok_or(Refusal::NotHere)
    }

    /// How far the node is with the map, and with the moves of these partitions.
    fn progress(&self, partitions: &[PartitionId]) -> Progress {
        let map = self.map.latest();
        let carried_out = self.register.carried_out();
        let asked = |group: &GroupId| group.partition().is_none_or(|partition| partitions.contains(&partition));
        let progress = |partition: &PartitionId| {
            let epoch = map.move_of(*partition)?.epoch;
            let complete = self.redundancy.chunks_complete(&map, *partition);
            Some(MoveProgress { partition: *partition, epoch, complete })
        };
        Progress {
            epoch: carried_out.epoch,
            groups: carried_out.groups.into_iter().filter(asked).collect(),
            moves: partitions.iter().filter_map(progress).collect(),
            clock_ms: self.clock.now_ms(),
            room: self.room.here(),
        }
    }

    /// What these partitions come to here.
    async fn usage(&self, partitions: Vec<PartitionId>) -> Reply {
        check_count(partitions.len(), GROUPS_PER_REQUEST_MAX)?;
        let of_ring = self.map.latest().partitions();
        if partitions.iter().any(|partition| partition.0 >= of_ring) {
            return Err(Refusal::Invalid(format!("the ring has {of_ring} partitions")));
        }
        let asked = partitions.clone();
        let metadata = self.on_disk(move |kv| asked.iter().map(|partition| disk_bytes(kv, *partition)).collect());
        let metadata: Vec<u64> = metadata.await?;
        let mut usage = Vec::with_capacity(partitions.len());
        for (partition, metadata_bytes) in partitions.into_iter().zip(metadata) {
            let chunks = self.chunks.digest(positions_of(partition, of_ring)).await.map_err(refusal::of_chunk)?;
            usage.push(PartitionUsage { chunk_bytes: chunks.bytes, metadata_bytes });
        }
        Ok(bare(Response::Usage(usage)))
    }

    /// Who the members are of those of these groups that this node leads for certain.
    async fn members(&self, epoch: Epoch, groups: Vec<GroupId>) -> Reply {
        check_count(groups.len(), GROUPS_PER_REQUEST_MAX)?;
        self.agree_on_epoch(epoch).await?;
        let _members_stay = self.register.membership.lock().await;
        let led = groups.into_iter().map(|group| async move {
            self.raft.read_index(group).await.ok()?;
            let status = self.raft.status(group)?;
            let is_settled = status.role == Role::Leader && !status.joint && !status.change_pending;
            is_settled.then(|| (group, [status.voters, status.learners].concat()))
        });
        let members = join_all(led).await.into_iter().flatten().collect();
        Ok(bare(Response::Members(members)))
    }

    /// Goes on when both sides know the same placement. Who knows the older one asks for the newer.
    async fn agree_on_epoch(&self, theirs: Epoch) -> Result<(), Refusal> {
        let ours = self.map.latest().epoch;
        if theirs < ours {
            return Err(Refusal::StaleEpoch(ours));
        }
        if theirs > ours {
            let refreshed = tokio::time::timeout(EPOCH_PATIENCE, self.map.refresh()).await;
            if refreshed.map_or(ours, |map| map.epoch) < theirs {
                return Err(Refusal::NotReady("the newest placement is not known here yet".to_owned()));
            }
        }
        Ok(())
    }

    /// Uses the database on a thread that may block: a read that misses the cache would hold up everything else on a worker.
    pub(crate) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Kv) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let stopping = || Refusal::NotReady("stopping".to_owned());
        let permit = Arc::clone(&self.readers).acquire_owned().await.map_err(|_| stopping())?;
        let kv = Arc::clone(&self.kv);
        let working = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&*kv)
        });
        working.await.map_err(|_| stopping())
    }
}

fn check_count(count: usize, count_max: usize) -> Result<(), Refusal> {
    if count > count_max {
        return Err(Refusal::Invalid(format!("{count} items where {count_max} may be")));
    }
    Ok(())
}

fn bare(response: Response) -> (Response, Bytes) {
    (response, Bytes::new())
}
