//! What this node knows of how complete its partitions are. The workers write down what they found, status and the
//! coordinator of moves read it; nothing is done here.
//!
//! It is known by comparison alone. A partition that was never compared since the start, or since its holders changed, or too
//! long ago, is unknown, whatever else looks well: an empty queue proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{NodeId, PartitionId};
use annulus_common::map::{ClusterMap, Move, NodeState};
use annulus_common::protocol::repair::PartitionCopy;
use parking_lot::Mutex;

use super::arrivals::Arrivals;

/// What gateways may still write to the former holders after a change of placement: a write has its quorum within 7 s, and the lease
/// under which they hold the map is 2 s. A comparison that begins earlier does not count for a move.
pub(super) const MOVE_SETTLES: Duration = Duration::from_secs(10);

/// A comparison is believed for so many intervals, and so long beside: what a turn takes that fetches something.
const BELIEVED_INTERVALS: u32 = 3;
const BELIEVED_BESIDE: Duration = Duration::from_secs(60);

/// What this node lacks of a partition, by comparison with one other holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lacking {
    /// Chunks.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Lacking {
    /// Nothing.
    pub const NOTHING: Self = Self { chunks: 0, bytes: 0 };

    /// Counts a chunk.
    pub(super) fn add(&mut self, bytes: u32) {
        self.chunks += 1;
        self.bytes += u64::from(bytes);
    }

    /// Counts others.
    pub(super) fn merge(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.bytes += other.bytes;
    }
}

/// How complete the partitions of a node are, shared by who finds out and who asks.
pub struct Redundancy {
    me: NodeId,
    clock: SharedClock,
    partitions: Mutex<BTreeMap<PartitionId, Standing>>,
    arrivals: Mutex<Arrivals>,
    interval: Mutex<Duration>,
    strays: Mutex<Option<FoundStrays>>,
    work: Mutex<Work>,
}

/// What the workers are doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Bytes that were moved since the start.
    pub moved_bytes: u64,
    /// Bytes that were moved in a second of late.
    pub moved_bytes_per_second: u64,
    /// How far the scrub is.
    pub scrubbed_percent: u8,
    /// When the last scrub that came to its end did, Unix milliseconds.
    pub scrub_completed_ms: Option<u64>,
}

/// What is known of one partition.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    holders: Holders,
    /// Since when these are its holders, as far as this node knows.
    since: Duration,
    /// By each of the others that was compared with.
    compared: BTreeMap<NodeId, Compared>,
}

/// What a look for chunks that belong elsewhere found.
#[derive(Debug)]
struct FoundStrays {
    /// Where it looked: all that this node did not hold then.
    partitions: Vec<PartitionId>,
    chunks: u64,
}

/// Who has a partition, or should.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holders {
    /// Those that should, in the order of their numbers.
    members: Vec<NodeId>,
    /// The move that is not over, if there is one.
    moving: Option<Move>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Compared {
    began: Duration,
    lacking: Lacking,
}

impl Holders {
    fn of(map: &ClusterMap, partition: PartitionId) -> Self {
        let mut members = map.replicas(partition).to_vec();
        members.sort_unstable();
        Self { members, moving: map.move_of(partition).cloned() }
    }

    fn all(&self) -> BTreeSet<NodeId> {
        let leaving = self.moving.iter().flat_map(|moving| &moving.leaving);
        self.members.iter().chain(leaving).copied().collect()
    }

    fn others(&self, me: NodeId) -> BTreeSet<NodeId> {
        self.all().into_iter().filter(|&node| node != me).collect()
    }

    /// How many nodes a member need not have compared itself with. What was acknowledged before a move is on a write quorum of
    /// the nodes that held the partition: one of them is among any that leave out fewer. Holders that are known no more (a node
    /// that was removed, a replication factor that was smaller) count as left out.
    fn may_be_left_out(&self, replication_factor: usize, write_quorum: usize) -> usize {
        let Some(moving) = &self.moving else { return 0 };
        let complete = self.all().into_iter().filter(|node| !moving.joining.contains(node)).count();
        (write_quorum - 1).saturating_sub(replication_factor.saturating_sub(complete))
    }
}

impl Redundancy {
    /// Nothing is known yet.
    pub fn new(me: NodeId, clock: SharedClock) -> Self {
        Self {
            me,
            clock,
            partitions: Mutex::new(BTreeMap::new()),
            arrivals: Mutex::default(),
            interval: Mutex::new(Duration::ZERO),
            strays: Mutex::default(),
            work: Mutex::default(),
        }
    }

    /// Takes a map over: what was found out about other holders than the map's is forgotten.
    pub(super) fn follow(&self, map: &ClusterMap) {
        let now = self.clock.monotonic();
        let mut partitions = self.partitions.lock();
        partitions.retain(|partition, _| map.replicas(*partition).contains(&self.me));
        for partition in partitions_of(map, self.me) {
            let holders = Holders::of(map, partition);
            match partitions.get_mut(&partition) {
                Some(standing) if standing.holders == holders => {}
                // A move that is over changes nothing for those who stay.
                Some(standing) if holders.moving.is_none() && standing.holders.members == holders.members => {
                    let others = holders.others(self.me);
                    standing.compared.retain(|node, _| others.contains(node));
                    standing.holders = holders;
                }
                _ => drop(partitions.insert(partition, Standing { holders, since: now, compared: BTreeMap::new() })),
            }
        }
    }

    /// Writes down what a comparison with another holder found that began at `began`. The map is the one by which it was done.
    pub(super) fn found(
        &self,
        map: &ClusterMap,
        partition: PartitionId,
        other: NodeId,
        began: Duration,
        lacking: Lacking,
    ) {
        let mut partitions = self.partitions.lock();
        if let Some(standing) = partitions.get_mut(&partition)
            && standing.holders == Holders::of(map, partition)
        {
            standing.compared.insert(other, Compared { began, lacking });
        }
    }

    /// Writes down that something may be lacking, until that has been looked into. What is known already is not forgotten for it:
    /// chunks that are being written make every comparison differ for a moment.
    pub(super) fn suspect(
        &self,
        map: &ClusterMap,
        partition: PartitionId,
        other: NodeId,
        began: Duration,
        lacking: Lacking,
    ) {
        let mut partitions = self.partitions.lock();
        if let Some(standing) = partitions.get_mut(&partition)
            && standing.holders == Holders::of(map, partition)
        {
            standing.compared.entry(other).or_insert(Compared { began, lacking });
        }
    }

    /// Says how often partitions are compared, which is how long a result is believed.
    pub(super) fn compares_every(&self, interval: Duration) {
        *self.interval.lock() = interval;
    }

    /// Writes down how many chunks are here that belong elsewhere, by this map. Without a number, they were not all looked at.
    pub(super) fn strays_left(&self, map: &ClusterMap, chunks: Option<u64>) {
        let partitions = foreign_to(map, self.me);
        *self.strays.lock() = chunks.map(|chunks| FoundStrays { partitions, chunks });
    }

    /// Writes down what was moved: in all, and in a second of late.
    pub(super) fn moved(&self, bytes: u64, per_second: u64) {
        let mut work = self.work.lock();
        (work.moved_bytes, work.moved_bytes_per_second) = (bytes, per_second);
    }

    /// Writes down how far the scrub is, and when the last one was over.
    pub(super) fn scrubbed(&self, percent: u8, completed_ms: Option<u64>) {
        let mut work = self.work.lock();
        (work.scrubbed_percent, work.scrub_completed_ms) = (percent, completed_ms);
    }

    /// What the workers are doing.
    pub fn work(&self) -> Work {
        *self.work.lock()
    }

    /// Chunks here that belong elsewhere, as the last look found them. Nothing when that was by another placement.
    pub fn strays(&self, map: &ClusterMap) -> Option<u64> {
        let strays = self.strays.lock();
        let found = strays.as_ref()?;
        (found.partitions == foreign_to(map, self.me)).then_some(found.chunks)
    }

    /// Takes over what was known before a restart.
    pub(super) fn restore(&self, arrivals: Arrivals) {
        *self.arrivals.lock() = arrivals;
    }

    /// Adds the moves that are complete here by now, forgets those that are over, and returns all if that changed something.
    pub(super) fn arrived(&self, map: &ClusterMap) -> Option<Arrivals> {
        let moving = partitions_of(map, self.me).filter_map(|at| Some((at, map.move_of(at)?.epoch)));
        let complete: Arrivals = moving.filter(|(partition, _)| self.chunks_complete(map, *partition)).collect();
        let mut arrivals = self.arrivals.lock();
        (*arrivals != complete).then(|| {
            arrivals.clone_from(&complete);
            complete
        })
    }

    /// Whether this node, a member of the partition's replica set in `map`, has every chunk of it that was acknowledged before
    /// the placement changed: it has compared itself with enough of the other holders, late enough that no gateway writes by
    /// the former placement, and lacks nothing of what they have.
    pub fn chunks_complete(&self, map: &ClusterMap, partition: PartitionId) -> bool {
        let epoch = map.move_of(partition).map(|moving| moving.epoch);
        if epoch.is_some() && self.arrivals.lock().get(&partition).copied() == epoch {
            return true;
        }
        let partitions = self.partitions.lock();
        let Some(standing) = partitions.get(&partition) else { return false };
        let max = standing.holders.may_be_left_out(map.replication_factor.into(), map.write_quorum());
        let left_out = standing.left_out(self.me);
        standing.holders == Holders::of(map, partition)
            && left_out.len() <= max
            && left_out.iter().all(|node| is_excused(map, partition, *node))
            && standing.lacks_nothing()
    }

    /// What is known of each partition that this node should have, and how many of its chunks are damaged.
    pub fn copies(&self, damaged: &BTreeMap<PartitionId, u64>) -> Vec<PartitionCopy> {
        let believed = *self.interval.lock() * BELIEVED_INTERVALS + BELIEVED_BESIDE;
        let oldest = self.clock.monotonic().saturating_sub(believed);
        let partitions = self.partitions.lock();
        let copy = |(partition, standing): (&PartitionId, &Standing)| {
            let lacking = standing.worst();
            PartitionCopy {
                partition: *partition,
                uncompared: standing.uncompared(self.me, oldest),
                lacking_chunks: lacking.chunks,
                lacking_bytes: lacking.bytes,
                damaged_chunks: damaged.get(partition).copied().unwrap_or_default(),
            }
        };
        partitions.iter().map(copy).collect()
    }
}

impl Standing {
    /// The other holders that were not compared with, or too early in a move.
    fn left_out(&self, me: NodeId) -> Vec<NodeId> {
        let moving = self.holders.moving.is_some();
        let counts = |compared: &&Compared| !moving || compared.began >= self.since + MOVE_SETTLES;
        let others = self.holders.others(me).into_iter();
        others.filter(|other| self.compared.get(other).filter(counts).is_none()).collect()
    }

    fn lacks_nothing(&self) -> bool {
        self.compared.values().all(|compared| compared.lacking == Lacking::NOTHING)
    }

    /// The other members with which no comparison began after `oldest`.
    fn uncompared(&self, me: NodeId, oldest: Duration) -> Vec<NodeId> {
        let others = self.holders.members.iter().filter(|&&node| node != me);
        let is_compared = |other: &NodeId| self.compared.get(other).is_some_and(|compared| compared.began >= oldest);
        others.filter(|other| !is_compared(other)).copied().collect()
    }

    fn worst(&self) -> Lacking {
        let lacking = self.compared.values().map(|compared| compared.lacking);
        lacking.max_by_key(|lacking| lacking.chunks).unwrap_or_default()
    }
}

/// Whether a move may go on without a node that does not answer: it was given up, or held nothing before the move. For any other
/// it waits, though a write quorum is heard without it: a chunk may have been acknowledged by that node and one that stood
/// in for another holder, which has yet to get it.
fn is_excused(map: &ClusterMap, partition: PartitionId, node: NodeId) -> bool {
    let is_given_up = map.nodes.get(&node).is_none_or(|node| node.state == NodeState::Dead);
    is_given_up || map.move_of(partition).is_some_and(|moving| moving.joining.contains(&node))
}

/// The partitions that a node neither holds nor is leaving. One without any members is left alone: nobody could confirm.
pub(super) fn foreign_to(map: &ClusterMap, node: NodeId) -> Vec<PartitionId> {
    let partitions = (0..map.partitions()).map(PartitionId);
    let is_foreign =
        |partition: &PartitionId| !map.replicas(*partition).is_empty() && map.holders(*partition).all(|at| at != node);
    partitions.filter(is_foreign).collect()
}

/// The partitions that a node should have.
pub(super) fn partitions_of(map: &ClusterMap, node: NodeId) -> impl Iterator<Item = PartitionId> + '_ {
    (0..map.partitions()).map(PartitionId).filter(move |partition| map.replicas(*partition).contains(&node))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use annulus_common::clock::ManualClock;
    use annulus_common::ids::{Epoch, NodeId, PartitionId};
    use annulus_common::map::{ClusterMap, Move, NodeState};

    use super::super::tests::{leaving, map_of};
    use super::{Holders, Lacking, MOVE_SETTLES, Redundancy, foreign_to};

    const P: PartitionId = PartitionId(0);
    const ONE: Lacking = Lacking { chunks: 1, bytes: 5 };

    #[test]
    fn a_partition_is_unknown_until_it_was_compared_with_every_other_member() {
        let map = map_of(3, &[&[1, 2, 3], &[2, 3]]);
        let clock = ManualClock::at(Duration::from_secs(5));
        let redundancy = Redundancy::new(NodeId(1), clock.clone());
        redundancy.follow(&map);
        let shown = || redundancy.copies(&[(P, 4)].into());
        assert_eq!(shown().len(), 1);
        let began = Duration::from_secs(5);
        redundancy.found(&map, P, NodeId(2), began, Lacking::NOTHING);
        assert_eq!(shown()[0].uncompared, [NodeId(3)]);
        assert!(!redundancy.chunks_complete(&map, P));
        redundancy.found(&map, P, NodeId(3), Duration::from_secs(4), ONE);
        let copy = &shown()[0];
        assert_eq!((copy.lacking_chunks, copy.lacking_bytes, copy.damaged_chunks), (1, 5, 4));
        assert!(copy.uncompared.is_empty());
        assert!(!redundancy.chunks_complete(&map, P));
        redundancy.found(&map, P, NodeId(3), began, Lacking::NOTHING);
        assert!(redundancy.chunks_complete(&map, P));
        // Long ago: nothing is known any more.
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(shown()[0].uncompared, [NodeId(2), NodeId(3)]);
        // Other holders: nothing is known.
        let moved = map_of(4, &[&[1, 2, 4], &[2, 3]]);
        assert!(!redundancy.chunks_complete(&moved, P));
        redundancy.follow(&moved);
        assert!(!shown()[0].uncompared.is_empty());
        redundancy.follow(&map_of(4, &[&[2, 3, 4], &[2, 3]]));
        assert_eq!(shown(), []);
    }

    /// A map in which partition 0 moved from the nodes `from` to those of `map_of`.
    fn moved(nodes: u64, to: &[u64], from: &[u64]) -> ClusterMap {
        let mut map = map_of(nodes, &[to]);
        let not_in = |set: &[u64], of: &[u64]| of.iter().filter(|id| !set.contains(id)).map(|id| NodeId(*id)).collect();
        let moving = Move { epoch: map.epoch, leaving: not_in(to, from), joining: not_in(from, to) };
        map.moves.partitions.insert(P, moving);
        map
    }

    #[test]
    fn a_move_is_complete_when_fewer_than_a_write_quorum_were_left_out_and_those_were_given_up() {
        let mut map = moved(4, &[1, 2, 4], &[1, 2, 3]);
        let clock = ManualClock::at(Duration::from_secs(5));
        let redundancy = Redundancy::new(NodeId(4), clock.clone());
        redundancy.follow(&map);
        let (early, later) = (Duration::from_secs(6), Duration::from_secs(5) + MOVE_SETTLES);
        for other in [1, 2, 3] {
            redundancy.found(&map, P, NodeId(other), early, Lacking::NOTHING);
        }
        assert!(!redundancy.chunks_complete(&map, P), "gateways may still write to the former holders");
        redundancy.found(&map, P, NodeId(1), later, Lacking::NOTHING);
        assert!(!redundancy.chunks_complete(&map, P), "one of three does not do");
        redundancy.found(&map, P, NodeId(2), later, ONE);
        assert!(!redundancy.chunks_complete(&map, P));
        redundancy.found(&map, P, NodeId(2), later, Lacking::NOTHING);
        assert!(!redundancy.chunks_complete(&map, P), "the third may have what a stand-in was acknowledged for");
        map.nodes.get_mut(&NodeId(3)).expect("it is there").state = NodeState::Dead;
        assert!(redundancy.chunks_complete(&map, P));
        map.nodes.get_mut(&NodeId(3)).expect("it is there").state = NodeState::Draining;
        redundancy.found(&map, P, NodeId(3), later, Lacking::NOTHING);
        assert!(redundancy.chunks_complete(&map, P));
        // The move is over: what is known of those who stay remains known.
        let mut over = map.clone();
        over.moves.partitions.clear();
        redundancy.follow(&over);
        assert!(redundancy.chunks_complete(&over, P));
    }

    #[test]
    fn what_has_arrived_is_known_after_a_restart_until_another_move() {
        let mut map = moved(4, &[1, 2, 4], &[1, 2, 3]);
        map.nodes.get_mut(&NodeId(3)).expect("it is there").state = NodeState::Dead;
        let clock = ManualClock::at(Duration::from_secs(5));
        let redundancy = Redundancy::new(NodeId(4), clock.clone());
        redundancy.follow(&map);
        let later = Duration::from_secs(5) + MOVE_SETTLES;
        redundancy.found(&map, P, NodeId(1), later, Lacking::NOTHING);
        assert_eq!(redundancy.arrived(&map), None);
        redundancy.found(&map, P, NodeId(2), later, Lacking::NOTHING);
        let arrived = redundancy.arrived(&map).expect("it is news");
        assert_eq!(redundancy.arrived(&map), None, "it is none any more");
        // What is written meanwhile is another matter.
        redundancy.found(&map, P, NodeId(1), later, ONE);
        assert!(redundancy.chunks_complete(&map, P));

        let restarted = Redundancy::new(NodeId(4), clock);
        restarted.restore(arrived);
        assert!(restarted.chunks_complete(&map, P));
        let mut again = map.clone();
        again.moves.partitions.get_mut(&P).expect("it moves").epoch = Epoch(map.epoch.0 + 1);
        assert!(!restarted.chunks_complete(&again, P));
        restarted.follow(&again);
        assert_eq!(restarted.arrived(&again), Some([].into()));
    }

    #[test]
    fn who_leaves_a_partition_keeps_it_until_the_move_is_over_and_then_looks_for_strays_anew() {
        let mut map = map_of(4, &[&[1, 2], &[2, 3], &[], &[4, 1]]);
        map.moves.partitions.insert(PartitionId(1), leaving(4));
        assert_eq!(foreign_to(&map, NodeId(4)), [PartitionId(0)]);
        let redundancy = Redundancy::new(NodeId(4), ManualClock::at(Duration::from_secs(5)));
        assert_eq!(redundancy.strays(&map), None);
        redundancy.strays_left(&map, Some(0));
        assert_eq!(redundancy.strays(&map), Some(0));
        map.moves.partitions.clear();
        assert_eq!(foreign_to(&map, NodeId(4)), [PartitionId(0), PartitionId(1)]);
        assert_eq!(redundancy.strays(&map), None, "nobody has looked into the other partition");
        redundancy.strays_left(&map, Some(7));
        assert_eq!(redundancy.strays(&map), Some(7));
        redundancy.strays_left(&map, None);
        assert_eq!(redundancy.strays(&map), None);
    }

    #[test]
    fn holders_that_are_forgotten_count_as_left_out() {
        // (from, to): one of three leaves; the former third was removed; from one replica to three; from five to three.
        let cases: [(&[u64], &[u64], usize); 4] = [
            (&[1, 2, 3], &[1, 2, 4], 1),
            (&[1, 2], &[1, 2, 4], 0),
            (&[1], &[1, 2, 3], 0),
            (&[1, 2, 3, 4, 5], &[1, 2, 3], 1),
        ];
        for (from, to, expected) in cases {
            let map = moved(5, to, from);
            let left_out = Holders::of(&map, P).may_be_left_out(map.replication_factor.into(), map.write_quorum());
            assert_eq!(left_out, expected, "{from:?} {to:?}");
        }
    }

    #[test]
    fn where_nothing_moves_all_must_have_been_compared_with() {
        let map = map_of(3, &[&[1, 2, 3]]);
        let redundancy = Redundancy::new(NodeId(3), ManualClock::at(Duration::from_secs(5)));
        redundancy.follow(&map);
        redundancy.found(&map, P, NodeId(1), Duration::from_secs(60), Lacking::NOTHING);
        assert!(!redundancy.chunks_complete(&map, P));
        redundancy.found(&map, P, NodeId(2), Duration::from_secs(60), Lacking::NOTHING);
        assert!(redundancy.chunks_complete(&map, P));
    }
}
