//! Changes of membership: learners, joint configurations, and what they must not lose.

use annulus_common::ids::NodeId;

use super::{GROUP, Journal, Net, answered};
use crate::raft::{MembershipChange, MembershipStep, RaftError, Role};

fn ids(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().map(|number| NodeId(*number)).collect()
}

/// Node 4 runs, and waits to be made a member.
fn with_a_newcomer(seed: u64) -> Net {
    let mut net = Net::new(3, seed);
    net.commit("before");
    net.add_node(NodeId(4));
    net.create(NodeId(4), GROUP, &[]);
    net
}

fn change(net: &mut Net, steps: &[MembershipStep]) -> Result<(), RaftError> {
    let leader = net.elect();
    let mut answer = net.change(leader, MembershipChange { steps: steps.to_vec() });
    net.ticks(2);
    answered(&mut answer).unwrap()
}

#[test]
fn a_newcomer_learns_and_is_promoted() {
    let mut net = with_a_newcomer(1);
    assert_eq!(net.status(NodeId(4)).role, Role::Learner);
    change(&mut net, &[MembershipStep::AddLearner(NodeId(4))]).unwrap();
    net.ticks(20);
    net.converge();
    assert_eq!(net.status(NodeId(4)).learners, ids(&[4]));
    change(&mut net, &[MembershipStep::Promote(NodeId(4))]).unwrap();
    net.converge();
    for node in ids(&[1, 2, 3, 4]) {
        assert_eq!((net.status(node).voters, net.status(node).learners), (ids(&[1, 2, 3, 4]), vec![]));
    }
    assert_eq!(Journal::digest(net.kv(NodeId(4)), GROUP), Journal::digest(net.kv(NodeId(1)), GROUP));
}

#[test]
fn a_voter_is_replaced_in_one_change() {
    let mut net = with_a_newcomer(2);
    change(&mut net, &[MembershipStep::AddLearner(NodeId(4))]).unwrap();
    net.ticks(20);
    let leader = net.elect();
    let leaver = ids(&[1, 2, 3]).into_iter().find(|node| *node != leader).unwrap();
    change(&mut net, &[MembershipStep::Promote(NodeId(4)), MembershipStep::Remove(leaver)]).unwrap();
    let status = net.status(leader);
    assert!(!status.joint);
    assert!(status.voters.contains(&NodeId(4)) && !status.voters.contains(&leaver));
    net.stop(leaver);
    net.commit("without it");
    net.converge();
}

#[test]
fn a_joint_configuration_outlives_its_leader() {
    for deliveries in 0..12 {
        let mut net = with_a_newcomer(3);
        change(&mut net, &[MembershipStep::AddLearner(NodeId(4))]).unwrap();
        net.ticks(20);
        let leader = net.elect();
        let leaver = ids(&[1, 2, 3]).into_iter().find(|node| *node != leader).unwrap();
        let steps = vec![MembershipStep::Promote(NodeId(4)), MembershipStep::Remove(leaver)];
        net.change(leader, MembershipChange { steps });
        for _ in 0..deliveries {
            net.deliver_frame();
        }
        net.crash(leader);
        net.elect();
        net.until("a simple configuration", |net| {
            let now = net.leader()?;
            (!net.status(now).joint).then_some(())
        });
        net.start(leader);
        net.commit("after");
        net.ticks(30);
        let now = net.elect();
        assert!(!net.status(now).joint);
    }
}

#[test]
fn the_leader_is_not_removed_but_after_a_transfer_it_is() {
    let mut net = Net::new(3, 4);
    let leader = net.elect();
    assert!(matches!(change(&mut net, &[MembershipStep::Remove(leader)]), Err(RaftError::Refused { .. })));
    let next = ids(&[1, 2, 3]).into_iter().find(|node| *node != leader).unwrap();
    net.transfer(leader, next);
    net.settle();
    change(&mut net, &[MembershipStep::Remove(leader)]).unwrap();
    net.ticks(60);
    let now = net.elect();
    assert_ne!(now, leader);
    assert_eq!(net.status(now).voters.len(), 2);
    net.stop(leader);
    net.commit("two voters");
}

#[test]
fn a_removal_that_its_victim_commits_makes_it_step_down() {
    let mut net = Net::new(3, 5);
    let leader = net.elect();
    let victim = ids(&[1, 2, 3]).into_iter().find(|node| *node != leader).unwrap();
    // The entry reaches everyone; then the victim takes the leadership over before it is committed.
    net.change(leader, MembershipChange::one(MembershipStep::Remove(victim)));
    net.transfer(leader, victim);
    net.ticks(60);
    let now = net.elect();
    assert_ne!(now, victim);
    assert!(!net.status(now).voters.contains(&victim));
}

#[test]
fn one_change_at_a_time() {
    let mut net = Net::new(3, 6);
    let leader = net.elect();
    let mut first = net.change(leader, MembershipChange::one(MembershipStep::AddLearner(NodeId(8))));
    let mut second = net.change(leader, MembershipChange::one(MembershipStep::AddLearner(NodeId(9))));
    assert_eq!(answered(&mut second), Some(Err(RaftError::Dropped)));
    net.settle();
    assert_eq!(answered(&mut first), Some(Ok(())));
}

#[test]
fn members_survive_a_restart() {
    let mut net = with_a_newcomer(7);
    change(&mut net, &[MembershipStep::AddLearner(NodeId(4))]).unwrap();
    net.ticks(20);
    change(&mut net, &[MembershipStep::Promote(NodeId(4))]).unwrap();
    net.converge();
    for node in ids(&[1, 2, 3, 4]) {
        net.crash(node);
        net.start(node);
    }
    net.commit("four voters");
    net.converge();
    assert_eq!(net.status(NodeId(2)).voters, ids(&[1, 2, 3, 4]));
}

#[test]
fn who_waits_to_be_made_a_member_elects_nobody() {
    // Nodes 2 and 3 left the group and forgot it; then they wait to be made members again. Node 1 was removed while it was
    // down, and believes that the three are the group.
    let mut net = Net::new(3, 8);
    net.commit("long ago");
    net.stop(NodeId(2));
    net.stop(NodeId(3));
    for node in ids(&[2, 3]) {
        net.forget(node);
        net.start(node);
        net.create(node, GROUP, &[]);
    }
    net.ticks(200);
    assert_eq!(net.leader(), None, "two that know nothing are no majority");
}
