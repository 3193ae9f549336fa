//! What a node knows of itself: gathered from its parts, for the admin API and the metrics. It decides nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use annulus_common::ids::{GroupId, NodeId};
use annulus_common::protocol::{GroupStatus, NodeStatus};

use crate::chunk::ChunkStore;
use crate::hints;
use crate::kv::disk::{DiskSpace, disk_space};
use crate::kv::{KvError, KvRead};
use crate::raft::{RaftNode, Role};

/// What a status is gathered from.
pub(crate) struct Sources<'a> {
    pub(crate) node: NodeId,
    pub(crate) uptime: Duration,
    pub(crate) raft: &'a RaftNode,
    pub(crate) chunks: &'a ChunkStore,
    pub(crate) kv: &'a dyn KvRead,
    pub(crate) data_dir: &'a Path,
}

impl Sources<'_> {
    /// Gathers it. Reads the hints: it blocks.
    pub(crate) fn gather(&self) -> Result<NodeStatus, KvError> {
        let usage = self.chunks.usage();
        // A file system that does not answer is one without space for all that is decided by it.
        let disk = disk_space(self.data_dir).unwrap_or(DiskSpace { total_bytes: 0, available_bytes: 0 });
        let hints: BTreeMap<NodeId, u64> = hints::count(self.kv)?;
        Ok(NodeStatus {
            node: self.node,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.uptime.as_secs(),
            groups: self.raft.groups().into_iter().filter_map(|group| group_status(self.raft, group)).collect(),
            chunks: usage.chunks,
            chunk_bytes: usage.bytes,
            disk_bytes: disk.total_bytes,
            disk_free_bytes: disk.available_bytes,
            hints: hints.into_iter().collect(),
            corrupt_reads: usage.corrupt_reads,
        })
    }
}

fn group_status(raft: &RaftNode, group: GroupId) -> Option<GroupStatus> {
    let status = raft.status(group)?;
    let within_reach = status.progress.iter().filter(|peer| peer.active);
    let matched = within_reach.map(|peer| (peer.node, peer.matched)).collect();
    Some(GroupStatus {
        group,
        leader: status.leader,
        term: status.term,
        committed: status.committed,
        applied: status.applied,
        voters: status.voters,
        matched: if status.role == Role::Leader { matched } else { Vec::new() },
    })
}
