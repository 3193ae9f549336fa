//! What the disk of a node has room for. Where it is drawn, the node's database decides.

use serde::{Deserialize, Serialize};

/// What a disk that gets full still takes: each has room for what those before it have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum RoomFor {
    /// What makes room again, and what is bounded by its nature.
    Release,
    /// Delete markers: a few bytes each, but of any number. Rules that expire what is old need them.
    Markers,
    /// Everything.
    #[default]
    Growth,
}
