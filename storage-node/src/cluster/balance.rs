//! Leaders go home: after a failover the survivors lead everything; this gives groups back to the first replica of their
//! placement, slowly, so that the load spreads again. It moves leaderships alone, never replicas.

use std::time::Duration;

use annulus_common::ids::{GroupId, NodeId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::map::watch::MapWatch;
use tracing::{debug, info};

use crate::raft::{GroupStatus, RaftNode, Role};

/// The pause between two transfers of one node: each stops its group for about 2 ms, and a node that has just come up gets time.
const PAUSE: Duration = Duration::from_secs(2);

/// Entries that the preferred leader may lack: it must catch up before it can take over, while the group stands still.
const LAG_MAX: u64 = 64;

/// Gives leaderships back for as long as it is polled.
pub async fn run(raft: &RaftNode, map: &MapWatch, node: NodeId) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let groups = raft.groups().into_iter().filter_map(|group| Some((group, raft.status(group)?)));
        let Some((group, to)) = plan(&map.latest(), node, groups) else { continue };
        match raft.transfer_leader(group, to).await {
            Ok(()) => info!(group = group.0, to = to.0, "leadership handed to the preferred leader"),
            Err(error) => debug!(group = group.0, to = to.0, %error, "leadership not handed over"),
        }
    }
}

/// The next leadership that `node` should give back, and to whom.
fn plan(
    map: &ClusterMap,
    node: NodeId,
    groups: impl Iterator<Item = (GroupId, GroupStatus)>,
) -> Option<(GroupId, NodeId)> {
    let mut led = groups.filter(|(_, status)| status.role == Role::Leader);
    led.find_map(|(group, status)| {
        let to = preferred(map, group)?;
        (to != node && is_able(&status, to)).then_some((group, to))
    })
}

fn preferred(map: &ClusterMap, group: GroupId) -> Option<NodeId> {
    match group.0.checked_sub(1) {
        None => map.map_voters.first().copied(),
        Some(partition) => map.replicas(PartitionId(partition)).first().copied(),
    }
}

fn is_able(status: &GroupStatus, to: NodeId) -> bool {
    let progress = status.progress.iter().find(|peer| peer.node == to);
    let caught_up = progress.is_some_and(|peer| {
        peer.active && !peer.in_snapshot && peer.matched.saturating_add(LAG_MAX) >= status.last_index
    });
    caught_up && !status.joint && status.voters.contains(&to)
}
