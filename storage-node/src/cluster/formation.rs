//! How a data directory that is in no cluster yet gets into one: the first seed founds it when enough nodes are present,
//! everybody else asks to join, again and again.
//!
//! ```text
//! fresh node --Join--> seeds in turn      NotFormed: that seed is fresh too     Forming: the founder counts you
//!                                         Member: done                          Refused: an operator must act
//! founder: every other seed answered NotFormed, initial_nodes present -> initial map, fsynced -> Member to all of them
//! ```
//!
//! There can be one founder, and only where no seed knows of a cluster: a second one is never formed beside the first.
//! What is decided is stored before anybody is told. Deciding is pure ([`Lobby`], [`initial_map`]); [`enter`] acts.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{ClusterId, InstanceId, NodeId};
use annulus_common::map::layout::map_voters;
use annulus_common::map::{AccessKey, ClusterMap, Node, NodeProfile, NodeState, User};
use annulus_common::object::UserId;
use annulus_common::placement::{self, PlacementNode};
use annulus_common::protocol::{Answer, JoinReply, Request, Response, decode, encode};
use annulus_common::rpc::{Envelope, Lane, SharedTransport};
use parking_lot::Mutex;
use tracing::{error, info};

use super::membership::{self, Membership};
use crate::kv::{Kv, KvError};

/// How long a seed may take to answer.
const JOIN_DEADLINE: Duration = Duration::from_secs(10);

/// The pause between rounds of asking.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// A fresh node that has not asked for this long is not counted: it may be gone.
const CANDIDATE_TTL: Duration = Duration::from_secs(15);

/// Candidates that are remembered, so that a wrong configuration cannot fill the memory.
const CANDIDATES_MAX: usize = 1_000;

/// What does not change is logged this often.
const REPEAT_LOG: Duration = Duration::from_secs(30);

/// The administrator's first key.
#[derive(Clone, PartialEq, Eq)]
pub struct RootKey {
    /// The public id.
    pub access_key: String,
    /// The secret. Never logged.
    pub secret_key: String,
}

/// What a new cluster is to be like.
#[derive(Clone)]
pub struct FormationSettings {
    /// Addresses of nodes; the first is the founder. Without any this node founds a cluster of its own.
    pub seeds: Vec<String>,
    /// Replicas of everything.
    pub replication_factor: u8,
    /// How many nodes form the cluster.
    pub initial_nodes: usize,
    /// Partitions of its ring.
    pub partitions: u32,
}

/// The waiting room of a fresh node: who asked it to join, and what it may conclude.
pub struct Lobby {
    me: NodeProfile,
    needed: usize,
    state: Mutex<Room>,
    clock: SharedClock,
}

#[derive(Default)]
struct Room {
    founding: bool,
    candidates: BTreeMap<InstanceId, Candidate>,
    /// A call of this node to itself arrived: the seed that was asked is this node.
    met_myself: bool,
    /// A member of a cluster called: there is one.
    cluster_seen: Option<ClusterId>,
}

struct Candidate {
    node: NodeProfile,
    asked_at: Duration,
}

impl Lobby {
    /// An empty room of the fresh node `me`, which forms a cluster of `needed` nodes if it is the founder.
    pub fn new(me: NodeProfile, needed: usize, clock: SharedClock) -> Self {
        Self { me, needed, state: Mutex::default(), clock }
    }

    /// Answers a data directory that asks to be a member.
    pub fn join(&self, node: NodeProfile) -> JoinReply {
        let mut room = self.state.lock();
        if node.instance == self.me.instance {
            room.met_myself = true;
            return JoinReply::NotFormed;
        }
        if !room.founding {
            return JoinReply::NotFormed;
        }
        let now = self.clock.monotonic();
        room.candidates.retain(|_, candidate| now.saturating_sub(candidate.asked_at) < CANDIDATE_TTL);
        let others = room.candidates.values().map(|candidate| &candidate.node).chain([&self.me]);
        if let Some(other) = { others }.find(|other| other.name == node.name && other.instance != node.instance) {
            return JoinReply::Refused(name_taken(&node.name, other.instance));
        }
        if room.candidates.len() < CANDIDATES_MAX || room.candidates.contains_key(&node.instance) {
            room.candidates.insert(node.instance, Candidate { node, asked_at: now });
        }
        JoinReply::Forming { present: room.candidates.len() as u32 + 1, needed: self.needed as u32 }
    }

    /// Somebody of that cluster called.
    pub fn saw_cluster(&self, cluster: ClusterId) {
        self.state.lock().cluster_seen = Some(cluster);
    }

    fn found(&self) {
        self.state.lock().founding = true;
    }

    fn is_founding(&self) -> bool {
        self.state.lock().founding
    }

    fn take_met_myself(&self) -> bool {
        std::mem::take(&mut self.state.lock().met_myself)
    }

    /// The nodes to form the cluster of, this one among them, if that may be now.
    fn quorum(&self) -> Result<Vec<NodeProfile>, String> {
        let room = self.state.lock();
        if let Some(cluster) = room.cluster_seen {
            return Err(format!("a member of cluster {cluster} called: not forming another one"));
        }
        let now = self.clock.monotonic();
        let alive = |candidate: &&Candidate| now.saturating_sub(candidate.asked_at) < CANDIDATE_TTL;
        let mut nodes: Vec<NodeProfile> =
            room.candidates.values().filter(alive).map(|candidate| candidate.node.clone()).collect();
        nodes.push(self.me.clone());
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        if nodes.len() < self.needed {
            let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            return Err(format!("{} of {} nodes are present: {}", nodes.len(), self.needed, names.join(", ")));
        }
        Ok(nodes)
    }
}

/// What is said to a data directory that comes under the name of another.
pub fn name_taken(name: &str, instance: InstanceId) -> String {
    format!(
        "node name {name} belongs to another data directory of this cluster (instance {instance}); a wiped or replaced \
         disk comes back under a new NODE_ID, or under this one by `annulus node replace {name} {name}`"
    )
}

/// What [`enter`] works with.
pub struct Entrance<'a> {
    /// What a new cluster is to be like.
    pub settings: &'a FormationSettings,
    /// The waiting room, which the node's service answers from meanwhile.
    pub lobby: &'a Lobby,
    /// Where a decision is stored.
    pub kv: &'a dyn Kv,
    /// How others are asked.
    pub transport: &'a SharedTransport,
    /// The time of the new cluster's first records, and of the waiting.
    pub clock: &'a SharedClock,
    /// The administrator's first key, made only when it is needed and durable before it returns.
    pub root_key: &'a (dyn Fn() -> std::io::Result<RootKey> + Send + Sync),
}

/// Why a fresh node cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EntranceError {
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] KvError),
    /// The administrator's first key could not be stored.
    #[error("the root credentials cannot be written: {0}")]
    RootKey(#[source] std::io::Error),
    /// The settings cannot make a cluster.
    #[error("the cluster cannot be formed: {0}")]
    Placement(String),
}

/// Gets the node into a cluster, however long it takes.
pub async fn enter(entrance: Entrance<'_>) -> Result<Membership, EntranceError> {
    // A decision that was made before a crash holds.
    if let Some(map) = membership::load_formation(entrance.kv)?
        && let Some(node) = map.node_of_instance(entrance.lobby.me.instance)
    {
        return Ok(Membership { node, contacts: map.skeleton(), formation: Some(map) });
    }
    if entrance.settings.seeds.is_empty() {
        entrance.lobby.found();
    }
    let mut log = RepeatedLog::default();
    loop {
        let round = entrance.ask_seeds().await;
        let waiting_for = match round {
            Round::Member(membership) => return Ok(*membership),
            Round::Waiting(reason) => reason,
            Round::NobodyKnowsACluster => match entrance.lobby.is_founding().then(|| entrance.lobby.quorum()) {
                Some(Ok(nodes)) => return entrance.form(nodes),
                Some(Err(reason)) => reason,
                None => "no seed forms a cluster: the first one listed must be reachable under the listed name".into(),
            },
        };
        log.say(&waiting_for, entrance.clock.monotonic());
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

/// What a round of asking brought.
enum Round {
    Member(Box<Membership>),
    /// Every other seed is fresh too.
    NobodyKnowsACluster,
    Waiting(String),
}

impl Entrance<'_> {
    async fn ask_seeds(&self) -> Round {
        let mut waiting_for = None;
        for (position, seed) in self.settings.seeds.iter().enumerate() {
            self.lobby.take_met_myself();
            let answer = self.ask(seed).await;
            if self.lobby.take_met_myself() {
                if position == 0 && !self.lobby.is_founding() {
                    info!("this node is the first seed: it forms the cluster unless there is one already");
                    self.lobby.found();
                }
                continue;
            }
            match answer {
                Ok(JoinReply::Member { node, map, initial }) => {
                    info!(node = node.0, cluster = %map.cluster, initial, via = seed, "member of the cluster");
                    let contacts = map.skeleton();
                    let membership = Membership { node, formation: initial.then_some(*map), contacts };
                    return Round::Member(Box::new(membership));
                }
                Ok(JoinReply::NotFormed) => {}
                Ok(JoinReply::Forming { .. }) if self.lobby.is_founding() => {
                    waiting_for =
                        Some(format!("{seed} also forms a cluster: every node must list the same first seed"));
                }
                Ok(JoinReply::Forming { present, needed }) => {
                    waiting_for = Some(format!("{seed} forms the cluster: {present} of {needed} nodes are present"));
                }
                Ok(JoinReply::Refused(reason)) => waiting_for = Some(format!("{seed} refuses this node: {reason}")),
                Err(reason) => {
                    waiting_for.get_or_insert(format!("{seed} cannot be asked: {reason}"));
                }
            }
        }
        waiting_for.map_or(Round::NobodyKnowsACluster, Round::Waiting)
    }

    async fn ask(&self, seed: &str) -> Result<JoinReply, String> {
        let request = Envelope::from_header(encode(&Request::Join(self.lobby.me.clone())));
        let answer = self.transport.call(seed, Lane::Control, request, JOIN_DEADLINE).await;
        match decode::<Answer>(&answer.map_err(|error| error.to_string())?.header) {
            Ok(Ok(Response::Join(reply))) => Ok(reply),
            Ok(Ok(_)) => Err("it does not understand the question".to_owned()),
            Ok(Err(refusal)) => Err(refusal.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn form(&self, nodes: Vec<NodeProfile>) -> Result<Membership, EntranceError> {
        let root = (self.root_key)().map_err(EntranceError::RootKey)?;
        let map = initial_map(self.settings, nodes, &root, self.clock.now_ms()).map_err(EntranceError::Placement)?;
        membership::store_formation(self.kv, &map)?;
        let node = map.node_of_instance(self.lobby.me.instance).expect("the founder is among the nodes it counted");
        info!(cluster = %map.cluster, nodes = map.nodes.len(), partitions = map.partitions(), "cluster formed");
        Ok(Membership { node, contacts: map.skeleton(), formation: Some(map) })
    }
}

/// Logs a reason when it is new, and now and then while it stays.
#[derive(Default)]
struct RepeatedLog {
    last: Option<(String, Duration)>,
}

impl RepeatedLog {
    fn say(&mut self, reason: &str, now: Duration) {
        let repeated =
            self.last.as_ref().is_some_and(|(last, at)| last == reason && now.saturating_sub(*at) < REPEAT_LOG);
        if repeated {
            return;
        }
        if reason.contains("refuses") {
            error!(reason, "not a member yet")
        } else {
            info!(reason, "not a member yet")
        }
        self.last = Some((reason.to_owned(), now));
    }
}

/// The map that a cluster of `nodes` begins with. They are numbered in the order given.
fn initial_map(
    settings: &FormationSettings,
    nodes: Vec<NodeProfile>,
    root: &RootKey,
    now_ms: u64,
) -> Result<ClusterMap, String> {
    let nodes = nodes.into_iter().map(|profile| Node::new(profile, NodeState::Active));
    let nodes: BTreeMap<NodeId, Node> = (1..).map(NodeId).zip(nodes).collect();
    let user = UserId(rand::random());
    let key = AccessKey::of_account(user, root.secret_key.clone(), now_ms);
    let root_user = User {
        name: "root".to_owned(),
        display_name: "root".to_owned(),
        email: None,
        admin: true,
        quota: None,
        created_ms: now_ms,
    };
    let placement = place(settings, &nodes)?;
    let cluster = ClusterId::generate(now_ms);
    Ok(ClusterMap {
        users: BTreeMap::from([(user, root_user)]),
        keys: BTreeMap::from([(root.access_key.clone(), key)]),
        ..ClusterMap::formed(cluster, settings.replication_factor, map_voters(&nodes, &[]), placement, nodes)
    })
}

fn place(settings: &FormationSettings, nodes: &BTreeMap<NodeId, Node>) -> Result<Vec<Vec<NodeId>>, String> {
    let candidates: Vec<PlacementNode> = nodes.iter().map(|(id, node)| node.for_placement(*id)).collect();
    placement::place(&candidates, settings.replication_factor.into(), settings.partitions, &[])
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use annulus_common::clock::{ManualClock, SharedClock};
    use annulus_common::ids::{ClusterId, InstanceId, NodeId};
    use annulus_common::map::NodeProfile;
    use annulus_common::protocol::JoinReply;
    use annulus_common::rpc::PeerIdentity;
    use annulus_common::rpc::local::LocalNetwork;

    use super::{CANDIDATE_TTL, Entrance, FormationSettings, Lobby, RootKey, enter, initial_map, membership};
    use crate::kv::memory::MemoryKv;

    fn node(name: &str, life: u8, zone: &str) -> NodeProfile {
        let instance = InstanceId([life; 16]);
        NodeProfile {
            name: name.to_owned(),
            instance,
            addr: name.to_owned(),
            zone: zone.to_owned(),
            capacity_bytes: 100,
        }
    }

    fn settings(initial_nodes: usize) -> FormationSettings {
        FormationSettings { seeds: Vec::new(), replication_factor: 2, initial_nodes, partitions: 8 }
    }

    fn root() -> RootKey {
        RootKey { access_key: "ROOT".to_owned(), secret_key: "secret".to_owned() }
    }

    fn lobby(clock: &SharedClock) -> Lobby {
        Lobby::new(node("a", 1, "z"), 3, clock.clone())
    }

    fn clock() -> std::sync::Arc<ManualClock> {
        ManualClock::at(Duration::from_secs(60))
    }

    #[test]
    fn only_a_founder_counts() {
        let clock: SharedClock = clock();
        let lobby = lobby(&clock);
        assert_eq!(lobby.join(node("b", 2, "z")), JoinReply::NotFormed);
        lobby.found();
        assert_eq!(lobby.join(node("b", 2, "z")), JoinReply::Forming { present: 2, needed: 3 });
        assert_eq!(lobby.join(node("b", 2, "z")), JoinReply::Forming { present: 2, needed: 3 });
        assert!(lobby.quorum().is_err());
        assert_eq!(lobby.join(node("c", 3, "z")), JoinReply::Forming { present: 3, needed: 3 });
        let names: Vec<String> = lobby.quorum().unwrap().into_iter().map(|node| node.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn one_name_is_one_data_directory() {
        let clock: SharedClock = clock();
        let lobby = lobby(&clock);
        lobby.found();
        lobby.join(node("b", 2, "z"));
        for taken in [node("b", 3, "z"), node("a", 4, "z")] {
            let reply = lobby.join(taken);
            assert!(matches!(&reply, JoinReply::Refused(why) if why.contains("another data directory")), "{reply:?}");
        }
    }

    #[test]
    fn who_stopped_asking_is_not_counted() {
        let manual = clock();
        let clock: SharedClock = manual.clone();
        let lobby = lobby(&clock);
        lobby.found();
        lobby.join(node("b", 2, "z"));
        manual.advance(CANDIDATE_TTL);
        lobby.join(node("c", 3, "z"));
        assert!(lobby.quorum().is_err());
        lobby.join(node("b", 4, "z"));
        assert_eq!(lobby.quorum().unwrap().len(), 3);
    }

    #[test]
    fn no_second_cluster_where_a_member_called() {
        let clock: SharedClock = clock();
        let lobby = lobby(&clock);
        lobby.found();
        lobby.join(node("b", 2, "z"));
        lobby.join(node("c", 3, "z"));
        lobby.saw_cluster(ClusterId([9; 16]));
        assert!(lobby.quorum().unwrap_err().contains("not forming another one"));
    }

    #[test]
    fn the_first_map_numbers_by_name_and_spreads_the_voters() {
        let nodes = vec![node("a", 1, "x"), node("b", 2, "x"), node("c", 3, "y"), node("d", 4, "z")];
        let map = initial_map(&settings(4), nodes, &root(), 77).unwrap();
        assert_eq!(map.node_of_instance(InstanceId([3; 16])), Some(NodeId(3)));
        assert_eq!(map.map_voters, [NodeId(1), NodeId(3), NodeId(4)]);
        assert_eq!((map.next_node, map.partitions()), (NodeId(5), 8));
        assert!(map.placement.iter().all(|replicas| replicas.len() == 2 && replicas[0] != replicas[1]));
        let key = &map.keys["ROOT"];
        assert!(map.users[&key.user].admin);
    }

    #[tokio::test]
    async fn what_was_decided_before_a_crash_holds() {
        let clock: SharedClock = clock();
        let lobby = lobby(&clock);
        let kv = MemoryKv::new();
        let nodes = vec![node("a", 1, "z"), node("b", 2, "z")];
        let decided = initial_map(&settings(2), nodes, &root(), 5).unwrap();
        membership::store_formation(&kv, &decided).unwrap();
        kv.crash();
        let identity = PeerIdentity { instance: InstanceId([1; 16]), node: None, cluster: None };
        let transport = LocalNetwork::new().transport(std::sync::Arc::new(move || identity.clone()));
        let entrance = Entrance {
            settings: &FormationSettings { seeds: vec!["nowhere".to_owned()], ..settings(2) },
            lobby: &lobby,
            kv: &kv,
            transport: &transport,
            clock: &clock,
            root_key: &|| panic!("no key is drawn twice"),
        };
        let membership = enter(entrance).await.unwrap();
        assert_eq!(membership.node, NodeId(1));
        assert_eq!(membership.formation, Some(decided));
    }
}
