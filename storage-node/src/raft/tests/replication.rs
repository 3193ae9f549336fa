//! Commands: carried out once, everywhere, in one order, across restarts and losses of power.

use annulus_common::ids::{GroupId, NodeId};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{GROUP, Journal, Net, answered, index_of};
use crate::raft::{Input, RaftError, Role};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

fn follower(net: &Net) -> NodeId {
    NODES.into_iter().find(|node| Some(*node) != net.leader()).unwrap()
}

#[test]
fn commands_are_applied_everywhere_in_one_order() {
    let mut net = Net::new(3, 1);
    let first = net.commit("one");
    let second = net.commit("two");
    assert!(first < second);
    net.converge();
    for node in NODES {
        assert_eq!(Journal::command(net.kv(node), GROUP, first).unwrap(), "one");
        assert_eq!(Journal::command(net.kv(node), GROUP, second).unwrap(), "two");
    }
}

#[test]
fn many_commands_of_one_turn_travel_together() {
    let mut net = Net::new(3, 1);
    let leader = net.elect();
    let (inputs, answers): (Vec<_>, Vec<_>) = (0..100_u8)
        .map(|number| {
            let (reply, answer) = oneshot::channel();
            (Input::Propose { group: GROUP, command: Bytes::copy_from_slice(&[number]), reply }, answer)
        })
        .unzip();
    net.sent.lock().clear();
    net.input(leader, inputs);
    assert_eq!(net.sent.lock().len(), 2, "one frame per follower");
    net.settle();
    let indices: Vec<_> =
        answers.into_iter().map(|mut answer| index_of(&answer.try_recv().unwrap().unwrap())).collect();
    assert!(indices.is_sorted());
}

#[test]
fn a_restart_goes_on_where_the_disk_ends() {
    let mut net = Net::new(3, 2);
    let index = net.commit("kept");
    for node in NODES {
        net.stop(node);
    }
    for node in NODES {
        net.start(node);
    }
    net.commit("more");
    net.converge();
    assert_eq!(Journal::command(net.kv(NodeId(1)), GROUP, index).unwrap(), "kept");
}

#[test]
fn all_machines_losing_power_lose_nothing_acknowledged() {
    let mut net = Net::new(3, 3);
    let indices: Vec<_> = (0..30).map(|number| net.commit(format!("{number}"))).collect();
    for node in NODES {
        net.crash(node);
    }
    for node in NODES {
        net.start(node);
    }
    net.elect();
    net.converge();
    for (number, index) in indices.iter().enumerate() {
        assert_eq!(Journal::command(net.kv(NodeId(2)), GROUP, *index).unwrap(), format!("{number}"));
    }
}

#[test]
fn only_the_leader_takes_commands() {
    let mut net = Net::new(3, 4);
    let leader = net.elect();
    let other = follower(&net);
    let result = answered(&mut net.propose(other, "no")).unwrap();
    assert_eq!(result, Err(RaftError::NotLeader { leader: Some(leader) }));
    let (reply, mut answer) = oneshot::channel();
    net.input(leader, vec![Input::Propose { group: GroupId(99), command: "x".into(), reply }]);
    assert_eq!(answered(&mut answer), Some(Err(RaftError::NoSuchGroup)));
}

#[test]
fn a_command_of_a_deposed_leader_is_uncertain() {
    let mut net = Net::new(3, 5);
    let old = net.elect();
    net.isolate(old);
    let mut answer = net.propose(old, "perhaps");
    net.settle();
    assert_eq!(answered(&mut answer), None);
    net.until("a new leader", |net| net.leader().filter(|leader| *leader != old));
    net.commit("surely");
    net.ticks(40);
    assert_eq!(answered(&mut answer), Some(Err(RaftError::Uncertain)));
    net.heal();
    net.converge();
    assert_ne!(net.status(old).role, Role::Leader);
}

#[test]
fn a_quorum_that_is_away_times_out() {
    let mut net = Net::new(3, 6);
    let leader = net.elect();
    // The followers hear and answer heartbeats of an old kind only: entries never reach them.
    let mut answer = net.propose(leader, "waits");
    for _ in 0..150 {
        net.input(leader, vec![Input::Tick]);
        net.sent.lock().clear();
    }
    assert!(matches!(answered(&mut answer), Some(Err(RaftError::TimedOut | RaftError::Uncertain))));
}

#[test]
fn what_is_not_committed_is_bounded() {
    let mut net = Net::new(3, 7);
    let leader = net.elect();
    net.isolate(leader);
    let mut busy = 0;
    let answers: Vec<_> = (0..100).map(|_| net.propose(leader, vec![1; 250 << 10])).collect();
    for mut answer in answers {
        match answered(&mut answer) {
            None => {}
            Some(Err(RaftError::Busy)) => busy += 1,
            Some(other) => panic!("{other:?}"),
        }
    }
    assert!((20..60).contains(&busy), "{busy} of 100 were refused");
}

#[test]
fn repeated_reordered_and_damaged_frames_do_no_harm() {
    let mut net = Net::new(3, 8);
    net.elect();
    for number in 0..50_u8 {
        let leader = net.elect();
        let mut answer = net.propose(leader, vec![number + 1]);
        let frames: Vec<_> = net.sent.lock().drain(..).collect();
        for (from, to, frame) in frames.iter().rev().chain(&frames) {
            net.input(*to, vec![Input::Frame { from: *from, frame: frame.clone() }]);
            let mut damaged = frame.to_vec();
            let at = usize::from(number) * 7 % damaged.len();
            damaged.truncate(at.max(1));
            net.input(*to, vec![Input::Frame { from: *from, frame: damaged.into() }]);
            net.input(*to, vec![Input::Frame { from: *to, frame: frame.clone() }]);
        }
        net.settle();
        assert!(answered(&mut answer).unwrap().is_ok());
    }
    net.converge();
    let counters = net.nodes[&NodeId(1)].worker.as_ref().unwrap().counters();
    assert!(counters.frames_malformed > 0 && counters.messages_refused > 0);
}

#[test]
fn groups_that_are_not_here_are_counted() {
    let mut net = Net::new(2, 9);
    net.add_node(NodeId(3));
    net.elect();
    let voters = [NodeId(1), NodeId(2), NodeId(3)];
    for node in [NodeId(1), NodeId(2)] {
        net.create(node, GroupId(50), &voters);
    }
    net.ticks(40);
    assert!(net.nodes[&NodeId(3)].worker.as_ref().unwrap().counters().messages_unknown_group > 0);
    assert!(net.try_status(NodeId(1), GroupId(50)).unwrap().leader.is_some());
}

#[test]
fn a_destroyed_group_leaves_nothing() {
    let mut net = Net::new(1, 10);
    let index = net.commit("doomed");
    let (reply, mut answer) = oneshot::channel();
    net.input(NodeId(1), vec![Input::Destroy { group: GROUP, reply }]);
    assert_eq!(answered(&mut answer), Some(Ok(())));
    assert_eq!(Journal::command(net.kv(NodeId(1)), GROUP, index), None);
    net.create(NodeId(1), GROUP, &[]);
    assert_eq!(net.status(NodeId(1)).last_index, 0);
}
