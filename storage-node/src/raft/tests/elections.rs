//! Elections: who leads, when, and what a new leader must not lose or disturb.

use annulus_common::ids::{GroupId, NodeId};

use super::{GROUP, Net, answered};
use crate::raft::{RaftError, Role};

#[test]
fn a_new_group_elects_within_a_second() {
    let mut net = Net::new(3, 1);
    net.ticks(10);
    let leader = net.leader().unwrap();
    for node in [1, 2, 3].map(NodeId) {
        assert_eq!(net.status(node).leader, Some(leader));
    }
}

#[test]
fn the_first_leaders_of_new_groups_are_spread() {
    let mut net = Net::empty(1);
    let voters = [1, 2, 3].map(NodeId);
    for node in voters {
        net.add_node(node);
        for group in 0..9 {
            net.create(node, GroupId(group), &voters);
        }
    }
    net.ticks(10);
    for node in voters {
        let leads = |group: &u32| net.try_status(node, GroupId(*group)).unwrap().role == Role::Leader;
        assert_eq!((0..9).filter(leads).count(), 3);
    }
}

#[test]
fn a_voter_without_others_leads_at_once() {
    let mut net = Net::new(1, 1);
    assert_eq!(net.leader(), Some(NodeId(1)));
    net.commit("alone");
    net.crash(NodeId(1));
    net.start(NodeId(1));
    assert_eq!(net.leader(), Some(NodeId(1)));
}

#[test]
fn a_dead_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut net = Net::new(3, 2);
    let indices: Vec<_> = (0..20).map(|number| net.commit(format!("command {number}"))).collect();
    let old = net.leader().unwrap();
    net.crash(old);
    let new = net.elect();
    assert_ne!(new, old);
    net.commit("after");
    net.start(old);
    net.converge();
    for node in [1, 2, 3].map(NodeId) {
        for (number, index) in indices.iter().enumerate() {
            assert_eq!(super::Journal::command(net.kv(node), GROUP, *index).unwrap(), format!("command {number}"));
        }
    }
}

#[test]
fn a_cut_off_node_does_not_disturb_when_it_returns() {
    let mut net = Net::new(3, 3);
    let leader = net.elect();
    let other = [1, 2, 3].map(NodeId).into_iter().find(|node| *node != leader).unwrap();
    let term = net.status(leader).term;
    net.isolate(other);
    net.ticks(100);
    assert_eq!(net.status(other).term, term, "pre-vote keeps the term");
    net.heal();
    net.ticks(20);
    assert_eq!(net.leader(), Some(leader));
    assert_eq!(net.status(leader).term, term);
}

#[test]
fn dueling_candidates_come_to_a_result() {
    for seed in 0..50 {
        let mut net = Net::new(5, seed);
        let first = net.elect();
        net.crash(first);
        net.elect();
    }
}

#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut net = Net::new(3, 4);
    let leader = net.elect();
    net.isolate(leader);
    net.ticks(40);
    assert_ne!(net.status(leader).role, Role::Leader);
    assert_ne!(net.leader(), Some(leader));
}

#[test]
fn leadership_moves_on_request() {
    let mut net = Net::new(3, 5);
    let leader = net.elect();
    for to in [1, 2, 3].map(NodeId).into_iter().filter(|node| *node != leader) {
        let now = net.leader().unwrap();
        assert_eq!(answered(&mut net.transfer(now, to)), Some(Ok(())));
        net.settle();
        assert_eq!(net.leader(), Some(to));
    }
    let mut refused = net.transfer(leader, NodeId(2));
    assert!(matches!(answered(&mut refused), Some(Err(RaftError::NotLeader { leader: Some(_) }))));
}

#[test]
fn a_draining_node_hands_its_groups_over() {
    let mut net = Net::new(3, 6);
    let leader = net.elect();
    net.input(leader, vec![crate::raft::Input::Drain]);
    net.settle();
    assert_ne!(net.leader(), Some(leader));
    assert!(net.nodes[&leader].worker.as_ref().unwrap().is_drained());
    net.ticks(100);
    assert_ne!(net.leader(), Some(leader));
}

#[test]
fn one_deaf_direction_does_not_stop_the_group() {
    let mut net = Net::new(3, 7);
    let leader = net.elect();
    let other = [1, 2, 3].map(NodeId).into_iter().find(|node| *node != leader).unwrap();
    net.cut_direction(leader, other);
    net.ticks(50);
    net.commit("still working");
    net.heal();
    net.converge();
}
