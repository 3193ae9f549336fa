//! What a node knows of itself: gathered from its parts, for the admin API and the metrics. It decides nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::ids::GroupId;
use annulus_common::protocol::outbox::Backlogs;
use annulus_common::protocol::repair::RepairStatus;
use annulus_common::protocol::{GroupStatus, NodeStatus, Refusal};

use crate::kv::disk::{DiskSpace, disk_space};
use crate::metadata;
use crate::raft::{RaftNode, Role};
use crate::server::Server;

/// How long the outboxes may be read: a node whose disk is slow still says all else in time.
const BACKLOGS_WAIT: Duration = Duration::from_millis(500);

/// Gathers it from the parts of a node that has been up for `uptime`.
pub(crate) async fn gather(server: &Arc<Server>, uptime: Duration, data_dir: &Path) -> Result<NodeStatus, Refusal> {
    let usage = server.chunks.usage();
    // A file system that does not answer has no space, for all that is decided by it.
    let disk = disk_space(data_dir).unwrap_or(DiskSpace { total_bytes: 0, available_bytes: 0 });
    let backlogs = backlogs(server).await;
    let groups = server.raft.groups().into_iter().filter_map(|group| group_status(&server.raft, group));
    Ok(NodeStatus {
        node: server.node,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: uptime.as_secs(),
        groups: groups.collect(),
        chunks: usage.chunks,
        chunk_bytes: usage.bytes,
        disk_bytes: disk.total_bytes,
        disk_free_bytes: disk.available_bytes,
        room: server.room.here(),
        stalled: server.raft.stalled(),
        hints: server.hints.pending(),
        corrupt_reads: usage.corrupt_reads,
        repair: repair_status(server),
        backlogs,
    })
}

/// What waits for webhooks, as far as it can be read soon.
async fn backlogs(server: &Arc<Server>) -> Backlogs {
    let led = server.raft.led_partitions();
    let reading = server.on_disk(move |kv| metadata::backlogs(kv, &led));
    match tokio::time::timeout(BACKLOGS_WAIT, reading).await {
        Ok(Ok(Ok(backlogs))) => backlogs,
        // By itself that does not say that it is everything.
        _ => Backlogs::default(),
    }
}

fn repair_status(server: &Server) -> RepairStatus {
    let work = server.redundancy.work();
    let damaged = server.damage.by_partition(&server.map.latest());
    RepairStatus {
        partitions: server.redundancy.copies(&damaged),
        damaged: server.damage.open_count(),
        mended: server.damage.mended_count(),
        strays: server.redundancy.strays(&server.map.latest()),
        moved_bytes: work.moved_bytes,
        moved_bytes_per_second: work.moved_bytes_per_second,
        scrubbed_percent: work.scrubbed_percent,
        scrub_completed_ms: work.scrub_completed_ms,
    }
}

fn group_status(raft: &RaftNode, group: GroupId) -> Option<GroupStatus> {
    let status = raft.status(group)?;
    let matched = status.progress.iter().filter(|peer| !peer.in_snapshot);
    let matched = matched.map(|peer| (peer.node, peer.matched)).collect();
    Some(GroupStatus {
        group,
        leader: status.leader,
        term: status.term,
        committed: status.committed,
        applied: status.applied,
        voters: status.voters,
        installing: status.installing,
        matched: if status.role == Role::Leader { matched } else { Vec::new() },
    })
}
