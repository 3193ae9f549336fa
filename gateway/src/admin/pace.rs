//! How much is left to move, and how fast it goes: what was left when somebody asked before, and what is left now. Asked for
//! the first time, it looks twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{Epoch, NodeId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::protocol::PartitionUsage;
use parking_lot::Mutex;

use super::Admin;
use super::model::MovesReport;
use crate::client::ClusterClient;

/// How far apart two looks are at least.
const LOOKS_APART_MIN: Duration = Duration::from_secs(1);

/// Each look has the nodes sum up an index, which must not take more than this part of their time, however often somebody asks.
const TIME_SHARE: u32 = 10;

/// What a rate is measured over, once it has been looked for so long: chunks arrive whole, some seconds apart where little may move.
const RATE_OVER: Duration = Duration::from_secs(10);

/// A look that is older says nothing about now.
const LOOKS_APART_MAX: Duration = Duration::from_secs(300);

/// What was left when somebody looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Look {
    epoch: Epoch,
    at: Duration,
    took: Duration,
    bytes_left: u64,
}

/// The last looks at the same moves, oldest first: two, or as many as a rate is measured over.
#[derive(Default)]
pub(super) struct Pace(Mutex<VecDeque<Look>>);

impl Admin {
    /// What is on its way to other nodes.
    pub(super) async fn moves(&self, map: &ClusterMap) -> MovesReport {
        let partitions = map.moves.partitions.len();
        let report = MovesReport {
            paused: map.moves.paused,
            partitions: partitions as u32,
            map_group: map.moves.map_group.is_some(),
            ..MovesReport::default()
        };
        if partitions == 0 {
            return report;
        }
        let (earlier, now) = self.looks(map).await;
        let rate = rate(&earlier, &now);
        MovesReport {
            bytes_left: now.bytes_left,
            bytes_per_second: Some(rate),
            eta_seconds: now.bytes_left.checked_div(rate),
            ..report
        }
    }

    /// Two looks at the same moves, the later one as new as is good for the nodes.
    async fn looks(&self, map: &ClusterMap) -> (Look, Look) {
        let client = self.objects.client();
        let now = self.clock.monotonic();
        let mut looks = self.pace.0.lock().clone();
        looks.retain(|look| is_recent(look, map, now));
        if let (Some(earliest), Some(last)) = (looks.front(), looks.back())
            && looks.len() > 1
            && now < last.at + (last.took * TIME_SHARE).max(LOOKS_APART_MIN)
        {
            return (*earliest, *last);
        }
        if looks.is_empty() {
            looks.push_back(look(client, map, &self.clock).await);
            tokio::time::sleep(LOOKS_APART_MIN).await;
        }
        let last = look(client, map, &self.clock).await;
        looks.push_back(last);
        forget(&mut looks);
        let earliest = looks[0];
        *self.pace.0.lock() = looks;
        (earliest, last)
    }
}

/// Leaves out what is not needed to measure a rate over the time that it should be measured over.
fn forget(looks: &mut VecDeque<Look>) {
    while looks.len() > 2 && looks[1].at + RATE_OVER <= looks[looks.len() - 1].at {
        looks.pop_front();
    }
}

/// Whether a look was at moves that go on, and not long ago.
fn is_recent(look: &Look, map: &ClusterMap, now: Duration) -> bool {
    look.epoch == map.epoch && now.saturating_sub(look.at) < LOOKS_APART_MAX
}

fn rate(earlier: &Look, now: &Look) -> u64 {
    let moved = earlier.bytes_left.saturating_sub(now.bytes_left);
    let apart_ms = now.at.saturating_sub(earlier.at).as_millis().max(1) as u64;
    moved.saturating_mul(1_000) / apart_ms
}

async fn look(client: &ClusterClient, map: &ClusterMap, clock: &SharedClock) -> Look {
    let at = clock.monotonic();
    let complete = client.complete_moves(map).await;
    let is_open =
        |partition: &PartitionId| map.replicas(*partition).iter().any(|node| !complete.contains(&(*partition, *node)));
    let open: Vec<PartitionId> = map.moves.partitions.keys().copied().filter(is_open).collect();
    let usage = client.usage_everywhere(map, open.iter().copied()).await;
    let bytes_left = bytes_left(map, &open, &complete, &usage);
    Look { epoch: map.epoch, at, took: clock.monotonic().saturating_sub(at), bytes_left }
}

/// What the nodes of the placements have less than who has most, unless they say that they have all.
fn bytes_left(
    map: &ClusterMap,
    open: &[PartitionId],
    complete: &BTreeSet<(PartitionId, NodeId)>,
    usage: &BTreeMap<(PartitionId, NodeId), PartitionUsage>,
) -> u64 {
    let held =
        |partition: PartitionId, node: NodeId| usage.get(&(partition, node)).map_or(0, |usage| usage.chunk_bytes);
    let of = |partition: &PartitionId| -> u64 {
        let most = map.holders(*partition).map(|node| held(*partition, node)).max().unwrap_or(0);
        let lacking = map.replicas(*partition).iter().filter(|node| !complete.contains(&(*partition, **node)));
        lacking.map(|node| most - held(*partition, *node)).sum()
    };
    open.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use annulus_common::ids::{Epoch, NodeId, PartitionId};
    use annulus_common::map::Move;
    use annulus_common::protocol::PartitionUsage;

    use super::{Look, bytes_left, forget, is_recent, rate};
    use crate::client::testing::map_of;

    const P: PartitionId = PartitionId(0);

    #[test]
    fn what_is_left_is_what_nodes_have_less_than_another() {
        let mut map = map_of(4, 3);
        map.placement[0] = vec![NodeId(1), NodeId(2), NodeId(3)];
        let moving = Move { epoch: Epoch(7), leaving: vec![NodeId(4)], joining: vec![NodeId(3)] };
        map.moves.partitions.insert(P, moving);
        let of = |node, chunk_bytes| ((P, NodeId(node)), PartitionUsage { chunk_bytes, metadata_bytes: 0 });
        let usage = [of(1, 900), of(3, 400), of(4, 1_000)].into();
        let left = |complete: &[u64]| {
            let complete = complete.iter().map(|node| (P, NodeId(*node))).collect();
            bytes_left(&map, &[P], &complete, &usage)
        };
        assert_eq!(left(&[]), 100 + 1_000 + 600, "who does not answer has nothing");
        assert_eq!(left(&[1, 2]), 600);
        assert_eq!(left(&[1, 2, 3]), 0);
    }

    fn look(at: u64, bytes_left: u64) -> Look {
        Look { epoch: Epoch(1), at: Duration::from_millis(at), took: Duration::ZERO, bytes_left }
    }

    #[test]
    fn a_rate_is_measured_over_some_time_whoever_looks_how_often() {
        let kept = |times: &[u64]| {
            let mut looks = times.iter().map(|at| look(*at, 0)).collect();
            forget(&mut looks);
            looks.iter().map(|look| look.at.as_millis() as u64).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[0, 1_000]), [0, 1_000]);
        assert_eq!(kept(&[0, 1_000, 2_000, 10_000]), [0, 1_000, 2_000, 10_000]);
        assert_eq!(kept(&[0, 1_000, 2_000, 11_500]), [1_000, 2_000, 11_500]);
        assert_eq!(kept(&[0, 1_000, 60_000]), [1_000, 60_000]);
        assert_eq!(kept(&[0, 60_000]), [0, 60_000]);
    }

    #[test]
    fn a_rate_is_made_of_two_looks_at_the_same_moves() {
        assert_eq!(rate(&look(0, 5_000), &look(2_000, 1_000)), 2_000);
        assert_eq!(rate(&look(0, 1_000), &look(2_000, 5_000)), 0);
        let map = map_of(3, 3);
        assert!(is_recent(&look(0, 0), &map, Duration::from_secs(1)));
        assert!(!is_recent(&look(0, 0), &map, Duration::from_secs(301)));
        assert!(!is_recent(&Look { epoch: Epoch(9), ..look(0, 0) }, &map, Duration::from_secs(1)));
    }
}
