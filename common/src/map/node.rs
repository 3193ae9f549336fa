//! A storage node in the cluster map: what it says of itself, what operators say of it, and whether it has a share.

use serde::{Deserialize, Serialize};

use crate::ids::{InstanceId, NodeId};
use crate::placement::PlacementNode;

/// What a node says of itself, from its configuration, whenever it starts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeProfile {
    /// `NODE_ID`, for people.
    pub name: String,
    /// The life of its data directory. Another directory under the same name is another node.
    pub instance: InstanceId,
    /// Where peers reach it: `host:port`.
    pub addr: String,
    /// The failure domain.
    pub zone: String,
    /// Bytes it offers.
    pub capacity_bytes: u64,
}

/// A storage node. A node that is removed leaves the map; its number is never given again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Node {
    /// What it says of itself.
    pub profile: NodeProfile,
    /// Whether it has a share.
    pub state: NodeState,
    /// What operators set. It holds until they set it otherwise, whatever the node says of itself when it starts.
    pub set: NodeSettings,
}

/// What operators set of a node in place of what it says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodeSettings {
    /// The failure domain.
    pub zone: Option<String>,
    /// Bytes it offers.
    pub capacity_bytes: Option<u64>,
}

/// Whether a node has a share of the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodeState {
    /// Registered, and no more: it gets a share when an operator adds it.
    Spare,
    /// Has a share.
    Active,
    /// Gives its share to the others.
    Draining,
    /// Was silent for so long that the others took over its share. When it comes back it is a spare.
    Dead,
}

impl Node {
    /// A node as it is when it has registered.
    pub fn new(profile: NodeProfile, state: NodeState) -> Self {
        Self { profile, state, set: NodeSettings::default() }
    }

    /// The failure domain: what operators set, else what the node says.
    pub fn zone(&self) -> &str {
        self.set.zone.as_deref().unwrap_or(&self.profile.zone)
    }

    /// Bytes it offers: what operators set, else what the node says.
    pub fn capacity_bytes(&self) -> u64 {
        self.set.capacity_bytes.unwrap_or(self.profile.capacity_bytes)
    }

    /// Whether it may be given replicas.
    pub fn is_eligible(&self) -> bool {
        self.state == NodeState::Active && self.capacity_bytes() > 0
    }

    /// The node as placement sees it.
    pub fn for_placement(&self, id: NodeId) -> PlacementNode {
        PlacementNode {
            id,
            zone: self.zone().to_owned(),
            capacity: self.capacity_bytes(),
            draining: self.state != NodeState::Active,
        }
    }
}
