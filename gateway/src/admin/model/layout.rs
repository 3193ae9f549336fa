//! What is said of changes of the layout: asked for, planned, and on their way.

use serde::{Deserialize, Serialize};

/// A change of the layout: to plan it, or to carry it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutRequest {
    /// What to change.
    pub step: StepRequest,
    /// Only say what it would come to.
    #[serde(default)]
    pub dry_run: bool,
}

/// A step of the layout. Nodes go by name or by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StepRequest {
    /// These nodes get a share.
    Add {
        /// The nodes.
        nodes: Vec<String>,
    },
    /// The node gives its share to the others.
    Drain {
        /// The node.
        node: String,
    },
    /// The node leaves the cluster for good.
    Remove {
        /// The node.
        node: String,
        /// Even though it holds data.
        #[serde(default)]
        force: bool,
    },
    /// A node that is gone for good leaves the cluster, and a spare gets a share in its place: at once if it is there. One that
    /// is not, as it may have the same name and wait for it, is then to be added.
    Replace {
        /// The node that is gone.
        old: String,
        /// The spare.
        new: String,
        /// Even though it answers: and has what no other node has, or leaves before the spare is there.
        #[serde(default)]
        force: bool,
    },
    /// What holds of a node in place of its own settings.
    Set {
        /// The node.
        node: String,
        /// The failure domain.
        #[serde(default)]
        zone: Option<String>,
        /// Bytes it offers.
        #[serde(default)]
        capacity_bytes: Option<u64>,
        /// First forget what was set before.
        #[serde(default)]
        as_configured: bool,
    },
    /// How many replicas everything should have.
    SetReplication {
        /// So many.
        factor: u8,
    },
    /// Places anew, by what the nodes offer now.
    Rebalance {},
}

/// What a change of the layout comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReport {
    /// Whether it was carried out, or only planned.
    pub carried_out: bool,
    /// The epoch that it makes, or would make.
    pub epoch: u64,
    /// Replicas of each partition and chunk, then.
    pub replication_factor: u8,
    /// Partitions whose nodes change.
    pub partitions_to_move: u32,
    /// Replicas of partitions that have to be filled.
    pub replicas_to_fill: u32,
    /// Bytes of chunks to copy.
    pub chunk_bytes_to_move: u64,
    /// Bytes of metadata to copy, about.
    pub metadata_bytes_to_move: u64,
    /// Partitions whose size is not known, because no node that has all of it answers.
    pub partitions_unknown: u32,
    /// The voters of group 0, then.
    pub map_voters: Vec<u64>,
    /// The nodes of the cluster, those that leave it too.
    pub nodes: Vec<NodePlan>,
    /// What it costs, in words.
    pub costs: Vec<String>,
    /// Of a replacement, the spare that is not there yet: it is to be started, and added.
    pub awaited: Option<String>,
}

/// What a change of the layout means to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// What it is then: `spare`, `active`, `draining`, `dead` or `removed`.
    pub state: String,
    /// Bytes it offers, then.
    pub capacity_bytes: u64,
    /// Partitions that it should hold now.
    pub partitions_before: u32,
    /// Partitions that it should hold then.
    pub partitions_after: u32,
    /// Bytes of chunks that it should hold now.
    pub chunk_bytes_before: u64,
    /// Bytes of chunks that it should hold then.
    pub chunk_bytes_after: u64,
    /// Bytes of chunks that are copied to it.
    pub chunk_bytes_in: u64,
}

/// Partitions on their way to other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesReport {
    /// Operators want nothing to be moved now.
    pub paused: bool,
    /// Partitions that are not yet where they should be.
    pub partitions: u32,
    /// Whether the cluster map itself is not yet on the nodes that it should be on.
    pub map_group: bool,
    /// Bytes of chunks that the nodes still lack for it, as far as is known.
    pub bytes_left: u64,
    /// Bytes a second, lately.
    pub bytes_per_second: Option<u64>,
    /// Seconds until all is moved, if it goes on like this.
    pub eta_seconds: Option<u64>,
}

/// Whether anything is to be moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Nothing is moved until further notice.
    pub paused: bool,
}
