//! Followers that are too far behind: they get a snapshot, piece by piece, whatever happens on the way.

use annulus_common::ids::NodeId;

use super::{GROUP, Journal, Net};
use crate::raft::{Input, Role};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// A network in which node 3 misses so much that only a snapshot can help it.
fn with_a_straggler(seed: u64) -> Net {
    let mut net = Net::new(3, seed);
    net.commit("early");
    net.converge();
    if net.leader() == Some(NodeId(3)) {
        net.transfer(NodeId(3), NodeId(1));
        net.settle();
    }
    net.crash(NodeId(3));
    // The log is kept for those who answered lately.
    net.ticks(40);
    net.elect();
    net.commit_until_cut();
    net
}

fn assert_same_state(net: &Net) {
    let digests = NODES.map(|node| Journal::digest(net.kv(node), GROUP));
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

fn installed(net: &Net, node: NodeId) -> u64 {
    net.nodes[&node].worker.as_ref().unwrap().counters().snapshots_installed
}

#[test]
fn a_slow_follower_still_finds_its_entries() {
    let mut net = Net::new(3, 1);
    net.commit("early");
    net.crash(NodeId(3));
    for number in 0..20 {
        net.commit(format!("{number}"));
    }
    net.start(NodeId(3));
    net.converge();
    assert_eq!(installed(&net, NodeId(3)), 0);
    assert_same_state(&net);
}

#[test]
fn a_straggler_gets_a_snapshot() {
    let mut net = with_a_straggler(2);
    net.start(NodeId(3));
    net.converge();
    assert_eq!(installed(&net, NodeId(3)), 1);
    net.commit("after");
    net.converge();
    assert_same_state(&net);
    // It is a full member again: the group works with it and without another.
    let leader = net.leader().unwrap();
    let other = NODES.into_iter().find(|node| *node != leader && *node != NodeId(3)).unwrap();
    net.crash(other);
    net.commit("with the straggler");
}

#[test]
fn a_restart_after_the_log_was_cut_works() {
    let mut net = with_a_straggler(3);
    for node in [NodeId(1), NodeId(2)] {
        net.crash(node);
        net.start(node);
    }
    net.elect();
    net.start(NodeId(3));
    net.converge();
    assert_same_state(&net);
}

#[test]
fn commands_go_on_while_a_snapshot_travels() {
    let mut net = with_a_straggler(4);
    net.start(NodeId(3));
    for number in 0..200_u32 {
        net.deliver_fetch();
        let leader = net.leader().unwrap();
        net.propose(leader, [&number.to_be_bytes()[..], &[1; 64 << 10][..]].concat());
        while net.deliver_frame() {}
        if number % 10 == 0 {
            NODES.into_iter().for_each(|node| net.input(node, vec![Input::Tick]));
        }
    }
    net.converge();
    assert_eq!(installed(&net, NodeId(3)), 1, "the log is kept for the one who is catching up");
    assert_same_state(&net);
}

#[test]
fn a_crash_at_any_point_of_the_install_is_survived() {
    let mut broken = 0;
    for pieces in 0..16 {
        let mut net = with_a_straggler(5);
        net.start(NodeId(3));
        until_offered(&mut net);
        for _ in 0..pieces {
            net.deliver_fetch();
        }
        net.crash(NodeId(3));
        net.start(NodeId(3));
        if net.status(NodeId(3)).installing {
            assert_eq!(net.status(NodeId(3)).generation % 2, 1);
            broken += 1;
        }
        net.converge();
        assert_same_state(&net);
    }
    assert!((5..15).contains(&broken), "{broken} of 16 crashes came in the middle");
}

#[test]
fn half_a_state_never_leads_but_votes() {
    let mut net = with_a_straggler(6);
    net.start(NodeId(3));
    step_into_install(&mut net);
    net.crash(NodeId(3));
    net.start(NodeId(3));
    assert!(net.status(NodeId(3)).installing);
    // Of the two whole replicas one dies: the other needs the vote of the broken one, and then mends it.
    let leader = net.leader().unwrap();
    net.crash(leader);
    net.until("a new leader", |net| {
        assert_ne!(net.status(NodeId(3)).role, Role::Leader);
        net.leader()
    });
    net.converge();
    net.start(leader);
    net.converge();
    assert_same_state(&net);
}

#[test]
fn a_sender_that_dies_is_replaced() {
    let mut net = with_a_straggler(7);
    net.start(NodeId(3));
    step_into_install(&mut net);
    let sender = net.leader().unwrap();
    net.crash(sender);
    net.elect();
    net.converge();
    net.start(sender);
    net.converge();
    assert_same_state(&net);
}

#[test]
fn nobody_who_asks_for_nothing_is_served_for_ever() {
    let mut net = with_a_straggler(8);
    net.start(NodeId(3));
    // Everything but the pieces passes, for longer than a snapshot is held.
    for _ in 0..400 {
        NODES.into_iter().for_each(|node| net.input(node, vec![Input::Tick]));
        while net.deliver_frame() {}
        net.fetches.clear();
    }
    net.converge();
    assert_same_state(&net);
}

/// Ticks until a snapshot is offered to node 3, which has not asked for its first piece yet.
fn until_offered(net: &mut Net) {
    for _ in 0..200 {
        NODES.into_iter().for_each(|node| net.input(node, vec![Input::Tick]));
        while net.deliver_frame() {}
        if !net.fetches.is_empty() {
            return;
        }
    }
    panic!("no snapshot was offered");
}

/// Delivers until node 3 has replaced a part of its state.
fn step_into_install(net: &mut Net) {
    until_offered(net);
    net.deliver_fetch();
    net.deliver_fetch();
    assert!(net.status(NodeId(3)).installing);
}
