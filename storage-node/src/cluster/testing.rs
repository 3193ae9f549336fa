//! Maps for the tests of who decides by them.

use std::collections::BTreeSet;

use annulus_common::ids::{ClusterId, InstanceId, NodeId};
use annulus_common::map::{ClusterMap, Node, NodeProfile, NodeState};

/// A map with this placement, all of whose nodes have a share. The nodes of the first partition are group 0's voters.
pub(super) fn map_of(placement: Vec<Vec<NodeId>>) -> ClusterMap {
    let profile = |id: NodeId| NodeProfile {
        name: format!("n{id}"),
        instance: InstanceId([id.0 as u8; 16]),
        addr: format!("n{id}"),
        zone: "z".to_owned(),
        capacity_bytes: 1,
    };
    let ids: BTreeSet<NodeId> = placement.iter().flatten().copied().collect();
    let nodes = ids.iter().map(|id| (*id, Node::new(profile(*id), NodeState::Active))).collect();
    ClusterMap::formed(ClusterId([1; 16]), placement[0].len() as u8, placement[0].clone(), placement, nodes)
}
