//! Whether there is room for what grows: on the disk of this node, and on those of the nodes that have to write it with it.
//!
//! A leader takes nothing that grows when its own disk has no room, or when that is so of so many of the group's members that no
//! majority is known to be left. Otherwise they would fill up to where the log itself cannot be written any more: then nothing
//! commits, deletes neither, and the space never comes back. A single member without room does not stop the others, as a
//! member that is down does not; its disk takes what the log brings until it is really full.
//!
//! What others say is up to a few seconds old. Between where room ends and where writes end lies more than comes in that time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use annulus_common::ids::NodeId;
use annulus_common::map::watch::MapWatch;
use annulus_common::protocol::room::RoomFor;
use futures::future::join_all;
use parking_lot::RwLock;

use crate::cluster::ask::Asking;
use crate::kv::Kv;
use crate::raft::{RaftNode, Role};

/// How often others are asked: a request of a few bytes to each node that a group led here has.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// What is known of room.
pub(crate) struct Room {
    node: NodeId,
    kv: Arc<dyn Kv>,
    others: RwLock<BTreeMap<NodeId, Told>>,
}

/// What another node told when it was asked last; it may have said nothing.
type Told = Option<RoomFor>;

impl Room {
    pub(crate) fn new(node: NodeId, kv: Arc<dyn Kv>) -> Self {
        Self { node, kv, others: RwLock::default() }
    }

    /// On this node.
    pub(crate) fn here(&self) -> RoomFor {
        self.kv.room()
    }

    /// Whether anybody is known to be short of it: as a rule nobody is, and nothing else needs to be looked at.
    pub(crate) fn is_scarce(&self) -> bool {
        let is_short = |room: RoomFor| room < RoomFor::Growth;
        is_short(self.here()) || self.others.read().values().any(|told| told.is_some_and(is_short))
    }

    /// For a group that this node leads.
    pub(crate) fn is_enough(&self, needed: RoomFor, voters: &[NodeId]) -> bool {
        let others: Vec<NodeId> = voters.iter().copied().filter(|voter| *voter != self.node).collect();
        self.here() >= needed && is_majority_left(needed, &others, &self.others.read())
    }

    /// Keeps asking for as long as it is polled.
    pub(crate) async fn keep_asking(&self, raft: &RaftNode, map: &MapWatch, asking: &Asking) {
        loop {
            let led = raft.groups().into_iter().filter_map(|group| raft.status(group));
            let led = led.filter(|status| status.role == Role::Leader);
            let others: BTreeSet<NodeId> = led.flat_map(|status| status.voters).filter(|id| *id != self.node).collect();
            let map = map.latest();
            let told = others.into_iter().map(|node| {
                let map = &map;
                async move { (node, asking.progress(map, node, Vec::new()).await.map(|it| it.room)) }
            });
            let told = join_all(told).await.into_iter().collect();
            *self.others.write() = told;
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

/// Whether a leader and those of the others that have room are a majority. While nobody says that he has none, space is not what
/// is missing, whoever is silent; who was not asked yet is taken to have some.
fn is_majority_left(needed: RoomFor, others: &[NodeId], told: &BTreeMap<NodeId, Told>) -> bool {
    let has_room = |node: &NodeId| told.get(node).copied().unwrap_or(Some(RoomFor::Growth)).map(|room| room >= needed);
    let with_room = 1 + others.iter().filter(|node| has_room(node) == Some(true)).count();
    let nobody_is_full = others.iter().all(|node| has_room(node) != Some(false));
    nobody_is_full || with_room * 2 > others.len() + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use annulus_common::ids::NodeId;
    use annulus_common::protocol::room::RoomFor;

    use super::{Told, is_majority_left};

    const ROOM: Told = Some(RoomFor::Growth);
    const MARKERS: Told = Some(RoomFor::Markers);
    const FULL: Told = Some(RoomFor::Release);
    const SILENT: Told = None;

    fn is_left(needed: RoomFor, told: &[Told]) -> bool {
        let others: Vec<NodeId> = (2..).map(NodeId).take(told.len()).collect();
        let told = others.iter().copied().zip(told.iter().copied()).collect();
        is_majority_left(needed, &others, &told)
    }

    #[test]
    fn one_full_follower_of_three_stops_nobody_and_two_do() {
        let is_left = |told: &[Told]| is_left(RoomFor::Growth, told);
        assert!(is_left(&[]));
        assert!(is_left(&[ROOM, FULL]));
        assert!(!is_left(&[FULL, FULL]));
        assert!(!is_left(&[FULL]), "both of two must write");
        assert!(!is_left(&[FULL, SILENT]), "the full one would be needed");
        assert!(is_left(&[SILENT, SILENT]), "that is not a matter of space");
        assert!(is_left(&[ROOM, ROOM, FULL, FULL]));
        assert!(!is_left(&[ROOM, FULL, FULL, FULL]));
        let told = BTreeMap::from([(NodeId(2), FULL)]);
        assert!(is_majority_left(RoomFor::Growth, &[NodeId(2), NodeId(3)], &told), "the other was not asked yet");
    }

    #[test]
    fn markers_need_less_than_objects() {
        assert!(!is_left(RoomFor::Growth, &[MARKERS, MARKERS]));
        assert!(is_left(RoomFor::Markers, &[MARKERS, MARKERS]));
        assert!(!is_left(RoomFor::Markers, &[FULL, FULL]));
    }
}
