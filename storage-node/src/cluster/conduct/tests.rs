//! What a leader decides, with values; and whether its decisions, carried out by an ideal group, arrive at the map.

use std::collections::BTreeMap;

use annulus_common::ids::{Epoch, GroupId, NodeId, PartitionId};
use annulus_common::map::{ClusterMap, Move};
use annulus_common::protocol::{MoveProgress, Progress};
use proptest::collection::btree_set;
use proptest::prelude::Strategy;
use proptest::{prop_assert, proptest};

use super::super::testing::map_of;
use super::{GROUPS_AT_ONCE, LAG_MAX, Open, Step, has_moved, next_step, next_steps};
use crate::raft::MembershipStep::{AddLearner, Promote, Remove};
use crate::raft::{GroupStatus, MembershipChange, MembershipStep, PeerProgress, Role};

const ME: NodeId = NodeId(1);

fn ids(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().map(|number| NodeId(*number)).collect()
}

/// A group that node 1 leads, all of whose members have everything.
fn led(voters: &[u64], learners: &[u64]) -> GroupStatus {
    let progress = voters.iter().chain(learners).filter(|number| **number != ME.0);
    GroupStatus {
        role: Role::Leader,
        leader: Some(ME),
        term: 2,
        committed: 1_000,
        applied: 1_000,
        last_index: 1_000,
        voters: ids(voters),
        learners: ids(learners),
        joint: false,
        change_pending: false,
        installing: false,
        generation: 0,
        progress: progress
            .map(|number| PeerProgress { node: NodeId(*number), matched: 1_000, active: true, in_snapshot: false })
            .collect(),
    }
}

fn next(status: &GroupStatus, target: &[u64]) -> Option<Step> {
    next_step(ME, status, &ids(target), |_| true)
}

fn change(steps: &[MembershipStep]) -> Option<Step> {
    Some(Step::Change(MembershipChange { steps: steps.to_vec() }))
}

#[test]
fn a_voter_is_replaced_by_a_learner_that_has_caught_up() {
    assert_eq!(next(&led(&[1, 2, 3], &[]), &[1, 2, 3]), None);
    assert_eq!(next(&led(&[1, 2, 3], &[]), &[1, 2, 4]), change(&[AddLearner(NodeId(4))]));
    let mut behind = led(&[1, 2, 3], &[4]);
    behind.last_index += LAG_MAX + 1;
    assert_eq!(next(&behind, &[1, 2, 4]), None, "nobody leaves before everybody is there");
    let replace = [Promote(NodeId(4)), Remove(NodeId(3))];
    assert_eq!(next(&led(&[1, 2, 3], &[4]), &[1, 2, 4]), change(&replace));
}

#[test]
fn a_newcomer_must_expect_the_group() {
    let status = led(&[1, 2, 3], &[]);
    assert_eq!(next_step(ME, &status, &ids(&[1, 2, 4]), |_| false), None);
    // The one that does is added whatever the other does.
    assert_eq!(next_step(ME, &status, &ids(&[1, 4, 5]), |node| node.0 == 5), change(&[AddLearner(NodeId(5))]));
}

/// Groups that node 1 leads and that are to move to nodes 1, 4 and 5. The first of them have begun to.
fn moving_away(begun: u32, count: u32) -> Vec<Open> {
    let group = |number| Open {
        group: PartitionId(number).into(),
        status: led(&[1, 2, 3], if number < begun { &[4] } else { &[] }),
        target: ids(&[1, 4, 5]),
    };
    (0..count).map(group).collect()
}

#[test]
fn few_groups_grow_at_a_time_and_each_gets_all_that_it_needs() {
    let steps = |open: &[Open]| next_steps(ME, false, open, |_, _| true);
    assert_eq!(steps(&moving_away(0, 10)).len(), GROUPS_AT_ONCE, "as many begin as may");
    let begun = moving_away(GROUPS_AT_ONCE as u32, 10);
    let second = change(&[AddLearner(NodeId(5))]).unwrap();
    let go_on: Vec<_> = begun[..GROUPS_AT_ONCE].iter().map(|open| (open.group, second.clone())).collect();
    assert_eq!(steps(&begun), go_on, "those that have begun go on, and no other begins");
    let paused = next_steps(ME, true, &begun, |_, _| true);
    assert_eq!(paused, [], "nothing grows while moves are paused");
}

#[test]
fn a_leader_that_leaves_goes_last() {
    let replace_the_others = [Promote(NodeId(4)), Remove(NodeId(2))];
    assert_eq!(next(&led(&[1, 2, 3], &[4]), &[3, 4]), change(&replace_the_others));
    assert_eq!(next(&led(&[1, 3, 4], &[]), &[3, 4]), Some(Step::HandOver(NodeId(3))));
    let mut silent = led(&[1, 3, 4], &[]);
    silent.progress[0].active = false;
    assert_eq!(next(&silent, &[3, 4]), Some(Step::HandOver(NodeId(4))));
}

#[test]
fn a_learner_that_is_not_wanted_any_more_goes_first() {
    assert_eq!(next(&led(&[1, 2, 3], &[4]), &[1, 2, 5]), change(&[Remove(NodeId(4))]));
}

#[test]
fn a_lost_node_is_removed_where_too_few_remain() {
    assert_eq!(next(&led(&[1, 2, 3], &[]), &[1, 3]), change(&[Remove(NodeId(2))]));
}

#[test]
fn nothing_is_done_by_others_and_amid_a_change() {
    for spoil in [
        |status: &mut GroupStatus| status.role = Role::Follower,
        |status: &mut GroupStatus| status.joint = true,
        |status: &mut GroupStatus| status.change_pending = true,
    ] {
        let mut status = led(&[1, 2, 3], &[]);
        spoil(&mut status);
        assert_eq!(next(&status, &[1, 2, 4]), None, "{status:?}");
    }
}

fn moving() -> ClusterMap {
    let mut map = map_of(vec![ids(&[1, 2, 4])]);
    map.epoch = Epoch(9);
    let moving = Move { epoch: Epoch(7), leaving: ids(&[3]), joining: ids(&[4]) };
    map.moves.partitions.insert(PartitionId(0), moving);
    map
}

#[test]
fn a_partition_has_moved_when_the_group_and_all_chunks_have() {
    let complete = |epoch| {
        let moves = vec![MoveProgress { partition: PartitionId(0), epoch: Epoch(epoch), complete: true }];
        Progress { moves, ..Progress::default() }
    };
    let all = |epoch| -> BTreeMap<NodeId, Progress> {
        [1, 2, 4].into_iter().map(|number| (NodeId(number), complete(epoch))).collect()
    };
    let (map, group) = (moving(), GroupId(1));
    let moved = |status: GroupStatus, progress: &BTreeMap<_, _>| has_moved(&map, group, &status, progress);
    assert_eq!(moved(led(&[1, 2, 4], &[]), &all(7)), Some((group, Epoch(7))));
    assert_eq!(moved(led(&[1, 2, 4], &[]), &all(6)), None, "said of an earlier move");
    assert_eq!(moved(led(&[1, 2, 3], &[4]), &all(7)), None);
    assert_eq!(moved(led(&[1, 2, 4], &[3]), &all(7)), None);
    let mut one_is_silent = all(7);
    one_is_silent.remove(&NodeId(2));
    assert_eq!(moved(led(&[1, 2, 4], &[]), &one_is_silent), None);
    assert_eq!(has_moved(&map, GroupId(0), &led(&[1, 2, 4], &[]), &all(7)), None, "it does not move");
}

#[test]
fn group_0_has_moved_when_its_voters_are_those_of_the_map() {
    let mut map = map_of(vec![ids(&[1, 2, 4])]);
    map.moves.map_group = Some(Move { epoch: Epoch(5), leaving: ids(&[3]), joining: ids(&[4]) });
    let moved = |status: GroupStatus| has_moved(&map, GroupId(0), &status, &BTreeMap::new());
    assert_eq!(moved(led(&[1, 2, 4], &[])), Some((GroupId(0), Epoch(5))));
    assert_eq!(moved(led(&[1, 2, 3], &[])), None);
}

/// Carries a step out as a group in which nobody is slow does. Returns who leads then.
fn carry_out(status: &mut GroupStatus, leader: NodeId, step: Step) -> NodeId {
    let (leader, steps) = match step {
        Step::HandOver(to) => (to, Vec::new()),
        Step::Change(change) => (leader, change.steps),
    };
    for step in steps {
        match step {
            AddLearner(node) => status.learners.push(node),
            Promote(node) => {
                status.learners.retain(|learner| *learner != node);
                status.voters.push(node);
            }
            Remove(node) => {
                assert_ne!(node, leader, "raft refuses to remove the leader");
                status.voters.retain(|voter| *voter != node);
                status.learners.retain(|learner| *learner != node);
            }
        }
    }
    let members = status.voters.iter().chain(&status.learners);
    let caught_up = |node: &NodeId| PeerProgress { node: *node, matched: 1_000, active: true, in_snapshot: false };
    status.progress = members.filter(|node| **node != leader).map(caught_up).collect();
    leader
}

fn nodes() -> impl Strategy<Value = Vec<NodeId>> {
    btree_set(1..8_u64, 1..5).prop_map(|numbers| numbers.into_iter().map(NodeId).collect())
}

proptest! {
    #[test]
    fn every_group_arrives_at_its_placement(
        voters in nodes(), learners in nodes(), first_target in nodes(), target in nodes(), turn in 0..6_usize,
    ) {
        let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
        let learners: Vec<NodeId> = learners.into_iter().filter(|node| !voters.contains(node)).collect();
        let mut status = led(&numbers(&voters), &numbers(&learners));
        // Whoever leads now, it knows how far all others are.
        let mut leader = carry_out(&mut status, voters[0], Step::HandOver(voters[0]));
        let smallest = voters.len().min(first_target.len()).min(target.len());
        for round in 0..40 {
            let target = if round < turn { &first_target } else { &target };
            let Some(step) = next_step(leader, &status, target, |_| true) else { continue };
            leader = carry_out(&mut status, leader, step);
            prop_assert!(status.voters.contains(&leader));
            prop_assert!(status.voters.len() >= smallest, "{:?}", status.voters);
            status.progress.retain(|peer| peer.node != leader);
        }
        status.voters.sort();
        prop_assert!(status.voters == target && status.learners.is_empty() && target.contains(&leader), "{status:?}");
    }
}
