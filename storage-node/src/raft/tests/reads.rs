//! Linearizable reads: a stale leader never answers one.

use annulus_common::ids::NodeId;

use super::{Net, answered};
use crate::raft::{Input, RaftError};

#[test]
fn a_read_waits_for_what_was_acknowledged() {
    let mut net = Net::new(3, 1);
    let index = net.commit("seen");
    let leader = net.leader().unwrap();
    let mut answer = net.read(leader);
    assert_eq!(answered(&mut answer), None, "a quorum must be asked");
    net.settle();
    assert_eq!(answered(&mut answer), Some(Ok(())));
    assert!(net.status(leader).applied >= index);
}

#[test]
fn a_single_voter_reads_at_once() {
    let mut net = Net::new(1, 1);
    net.commit("seen");
    assert_eq!(answered(&mut net.read(NodeId(1))), Some(Ok(())));
}

#[test]
fn a_follower_does_not_answer_reads() {
    let mut net = Net::new(3, 2);
    let leader = net.elect();
    let other = [1, 2, 3].map(NodeId).into_iter().find(|node| *node != leader).unwrap();
    assert_eq!(answered(&mut net.read(other)), Some(Err(RaftError::NotLeader { leader: Some(leader) })));
}

#[test]
fn a_stale_leader_never_answers() {
    for seed in 0..20 {
        let mut net = Net::new(3, seed);
        let old = net.elect();
        net.isolate(old);
        let mut early = net.read(old);
        net.until("a new leader", |net| net.leader().filter(|leader| *leader != old));
        net.commit("news");
        let mut late = net.read(old);
        net.ticks(60);
        for answer in [&mut early, &mut late] {
            assert!(matches!(answered(answer), Some(Err(RaftError::NotLeader { .. } | RaftError::TimedOut))));
        }
    }
}

#[test]
fn followers_that_restart_give_a_stale_leader_no_read() {
    for seed in 0..20 {
        let mut net = Net::new(3, seed);
        let old = net.elect();
        let others: Vec<_> = [1, 2, 3].map(NodeId).into_iter().filter(|node| *node != old).collect();
        net.isolate(old);
        for node in &others {
            net.crash(*node);
            net.start(*node);
        }
        let mut answers = Vec::new();
        net.until("a new leader", |net| net.leader().filter(|leader| *leader != old));
        net.commit("news");
        for _ in 0..5 {
            answers.push(net.read(old));
            net.tick();
        }
        net.ticks(60);
        assert!(answers.iter_mut().all(|answer| matches!(answered(answer), Some(Err(_)))));
    }
}

#[test]
fn a_read_of_a_fresh_leader_waits_for_its_first_entry() {
    let mut net = Net::new(3, 3);
    let leader = net.elect();
    let next = [1, 2, 3].map(NodeId).into_iter().find(|node| *node != leader).unwrap();
    net.commit("before");
    net.transfer(leader, next);
    // Deliver only until it leads: its first entry is not yet committed.
    while net.status(next).role != crate::raft::Role::Leader {
        assert!(net.deliver_frame());
    }
    let mut answer = net.read(next);
    assert_eq!(answered(&mut answer), None);
    net.settle();
    net.ticks(1);
    assert_eq!(answered(&mut answer), Some(Ok(())));
}

#[test]
fn readers_of_one_turn_share_a_question() {
    let mut net = Net::new(3, 4);
    let leader = net.elect();
    net.settle();
    let (inputs, mut answers): (Vec<_>, Vec<_>) = (0..100)
        .map(|_| {
            let (reply, answer) = tokio::sync::oneshot::channel();
            (Input::Read { group: super::GROUP, reply }, answer)
        })
        .unzip();
    net.input(leader, inputs);
    let bytes: usize = net.sent.lock().iter().map(|(_, _, frame)| frame.len()).sum();
    assert!(net.sent.lock().len() == 2 && bytes < 200, "{bytes} bytes");
    net.settle();
    assert!(answers.iter_mut().all(|answer| answered(answer) == Some(Ok(()))));
}

#[test]
fn lost_questions_are_asked_again() {
    let mut net = Net::new(3, 5);
    let leader = net.elect();
    let mut answer = net.read(leader);
    net.sent.lock().clear();
    net.ticks(10);
    assert_eq!(answered(&mut answer), Some(Ok(())));
}
