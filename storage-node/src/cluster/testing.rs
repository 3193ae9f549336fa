//! Maps for the tests of who decides by them.

use std::collections::{BTreeMap, BTreeSet};

use annulus_common::ids::{BucketId, ClusterId, Epoch, InstanceId, NodeId};
use annulus_common::map::{ClusterMap, MapVersion, Node, NodeProfile, NodeState};

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
    ClusterMap {
        cluster: ClusterId([1; 16]),
        version: MapVersion(1),
        epoch: Epoch(1),
        replication_factor: placement[0].len() as u8,
        map_voters: placement[0].clone(),
        placement,
        moves: Default::default(),
        nodes: ids.iter().map(|id| (*id, Node::new(profile(*id), NodeState::Active))).collect(),
        next_node: NodeId(ids.last().map_or(1, |id| id.0 + 1)),
        buckets: BTreeMap::new(),
        next_bucket: BucketId(1),
        users: BTreeMap::new(),
        keys: BTreeMap::new(),
        kms_keys: BTreeMap::new(),
        iam: Default::default(),
    }
}
