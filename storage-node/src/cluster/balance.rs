//! Leaders go home: after a failover the survivors lead everything; this gives groups back to the first replica of their
//! placement, slowly, so that the load spreads again. It moves leaderships alone, never replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_common::ids::{GroupId, NodeId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::map::watch::MapWatch;
use tracing::{debug, info};

use crate::raft::{GroupStatus, RaftNode, Role};

/// The pause between two transfers of one node: each stops its group for about 2 ms, and a node that has just come up gets time.
const PAUSE: Duration = Duration::from_secs(2);

/// Rounds that a group is led here before it goes home. A node that has just handed its groups over, or died, still counts as
/// active for as long as an election takes (3 s): a group that was offered back to it would stand still for that long.
const ROUNDS_LED_MIN: u32 = 5;

/// Entries that the preferred leader may lack: it must catch up before it can take over, while the group stands still.
const LAG_MAX: u64 = 64;

/// Gives leaderships back for as long as it is polled.
pub async fn run(raft: &RaftNode, map: &MapWatch, node: NodeId) {
    let mut tenures = Tenures::default();
    loop {
        tokio::time::sleep(PAUSE).await;
        let groups = raft.groups().into_iter().filter_map(|group| Some((group, raft.status(group)?)));
        let Some((group, to)) = plan(&map.latest(), node, tenures.settled(groups).into_iter()) else { continue };
        match raft.transfer_leader(group, to).await {
            Ok(()) => info!(group = group.0, to = to.0, "leadership handed to the preferred leader"),
            Err(error) => debug!(group = group.0, to = to.0, %error, "leadership not handed over"),
        }
    }
}

/// For how many rounds this node has led each group.
#[derive(Default)]
struct Tenures(BTreeMap<GroupId, u32>);

impl Tenures {
    /// Counts a round, and returns the groups that have been led here for long enough.
    fn settled(&mut self, groups: impl Iterator<Item = (GroupId, GroupStatus)>) -> Vec<(GroupId, GroupStatus)> {
        let led: Vec<_> = groups.filter(|(_, status)| status.role == Role::Leader).collect();
        let rounds = |group: &GroupId| self.0.get(group).map_or(1, |rounds| rounds.saturating_add(1));
        self.0 = led.iter().map(|(group, _)| (*group, rounds(group))).collect();
        led.into_iter().filter(|(group, _)| self.0[group] >= ROUNDS_LED_MIN).collect()
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

#[cfg(test)]
mod tests {
    use annulus_common::ids::{GroupId, NodeId};
    use annulus_common::map::ClusterMap;

    use super::super::testing::map_of;
    use super::{LAG_MAX, ROUNDS_LED_MIN, Tenures, plan};
    use crate::raft::{GroupStatus, PeerProgress, Role};

    const ME: NodeId = NodeId(1);
    const HOME: NodeId = NodeId(2);

    /// Partition 0 is at home on node 2, everything else here.
    fn map() -> ClusterMap {
        ClusterMap { map_voters: vec![ME, HOME], ..map_of(vec![vec![HOME, ME], vec![ME, HOME]]) }
    }

    /// A group that this node leads, whose other replica is up to date.
    fn led() -> GroupStatus {
        GroupStatus {
            role: Role::Leader,
            leader: Some(ME),
            term: 2,
            committed: 100,
            applied: 100,
            last_index: 100,
            voters: vec![ME, HOME],
            learners: Vec::new(),
            joint: false,
            change_pending: false,
            installing: false,
            generation: 0,
            progress: vec![PeerProgress { node: HOME, matched: 100, active: true, in_snapshot: false }],
        }
    }

    fn planned(status: GroupStatus) -> Option<(GroupId, NodeId)> {
        let groups = [(GroupId(0), led()), (GroupId(1), status), (GroupId(2), led())];
        plan(&map(), ME, groups.into_iter())
    }

    #[test]
    fn a_group_goes_home_when_its_preferred_leader_can_take_it() {
        assert_eq!(planned(led()), Some((GroupId(1), HOME)));
        let mut lagging = led();
        lagging.last_index += LAG_MAX + 1;
        assert_eq!(planned(lagging), None);
        for spoil in [
            |status: &mut GroupStatus| status.progress[0].active = false,
            |status: &mut GroupStatus| status.progress[0].in_snapshot = true,
            |status: &mut GroupStatus| status.progress.clear(),
            |status: &mut GroupStatus| status.role = Role::Follower,
            |status: &mut GroupStatus| status.joint = true,
            |status: &mut GroupStatus| status.voters = vec![ME],
        ] {
            let mut status = led();
            spoil(&mut status);
            assert_eq!(planned(status.clone()), None, "{status:?}");
        }
    }

    #[test]
    fn a_group_that_came_a_moment_ago_stays() {
        let follows = GroupStatus { role: Role::Follower, ..led() };
        let mut tenures = Tenures::default();
        let mut round = |status: GroupStatus| tenures.settled([(GroupId(1), status)].into_iter()).len();
        for _ in 1..ROUNDS_LED_MIN {
            assert_eq!(round(led()), 0);
        }
        assert_eq!([round(led()), round(led())], [1, 1]);
        // Who loses it begins anew.
        assert_eq!([round(follows), round(led())], [0, 0]);
    }
}
