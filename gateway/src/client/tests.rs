//! The client against a cluster in memory that fails in the ways it must bear.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::ChunkOwner;
use annulus_common::condition::Conditions;
use annulus_common::ids::{BucketId, ChunkId, Epoch, NodeId, PartId, PartitionId, RequestId, ShardId};
use annulus_common::map::MAP_LEASE_MS;
use annulus_common::object::Versioning;
use annulus_common::protocol::metadata::{Command, Deletion, MetaReply, Query, QueryReply};
use annulus_common::protocol::{Refusal, Request};
use bytes::Bytes;

use super::testing::{FakeCluster, Fault, Mishap, OWNER as USER, State, TestClock, mutates, queries};
use super::{ClientError, ClusterClient};

const ID: ChunkId = ChunkId { part: PartId([3; 16]), index: 0 };

const OWNER: ChunkOwner = ChunkOwner { bucket: BucketId(1), shard: ShardId(0) };

fn data() -> Bytes {
    (0..600_000u32).map(|byte| (byte * 31) as u8).collect()
}

/// Holders of [`ID`], then the others in ring order.
fn ring(client: &ClusterClient) -> (Vec<u64>, Vec<u64>) {
    let map = client.watch().latest();
    let partition = map.partition_of_chunk(ID);
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    (ids(map.replicas(partition)), ids(&super::holders::stand_ins(&map, partition, 8)))
}

async fn write(client: &ClusterClient) -> Result<(), ClientError> {
    client.write_chunk(ID, OWNER, data()).await
}

async fn read(client: &ClusterClient) -> Result<Bytes, ClientError> {
    let length = data().len() as u32;
    client.read_chunk(ID, 0..length, length).await
}

fn is_owed(state: &State, by: u64, to: u64) -> bool {
    state.hints.contains(&(NodeId(by), NodeId(to), ID))
}

#[tokio::test]
async fn a_chunk_goes_to_all_holders() {
    let cluster = FakeCluster::new(5, 3);
    let client = cluster.client().await;
    write(&client).await.unwrap();
    let mut holders: Vec<NodeId> = ring(&client).0.into_iter().map(NodeId).collect();
    holders.sort();
    cluster.wait_until(|state| state.chunks.values().filter(|chunks| chunks.contains_key(&ID)).count() == 3).await;
    assert_eq!(cluster.holders(ID), holders);
    assert!(cluster.state.lock().hints.is_empty());
    assert_eq!(read(&client).await.unwrap(), data());
}

#[tokio::test]
async fn a_hanging_holder_is_not_waited_for() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    cluster.fail(3, Fault::Hangs);
    write(&client).await.unwrap();
    assert_eq!(cluster.holders(ID), [NodeId(1), NodeId(2)]);
}

#[tokio::test]
async fn without_a_further_node_the_holders_remember_the_hint() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    cluster.fail(2, Fault::Down);
    write(&client).await.unwrap();
    cluster.wait_until(|state| is_owed(state, 1, 2) && is_owed(state, 3, 2)).await;
    let asked = cluster.requests(|request| matches!(request, Request::AddHints { .. }));
    // Now the node is a suspect: it is left out, and the hints travel with the chunk.
    let next = ChunkId { index: 1, ..ID };
    client.write_chunk(next, OWNER, data()).await.unwrap();
    let state = cluster.state.lock();
    assert!(state.hints.contains(&(NodeId(1), NodeId(2), next)) && state.hints.contains(&(NodeId(3), NodeId(2), next)));
    drop(state);
    assert_eq!(cluster.requests(|request| matches!(request, Request::AddHints { .. })), asked);
}

#[tokio::test]
async fn the_next_node_in_ring_order_stands_in_with_a_hint() {
    let cluster = FakeCluster::new(5, 3);
    let client = cluster.client().await;
    let (holders, others) = ring(&client);
    cluster.fail(holders[0], Fault::Down);
    write(&client).await.unwrap();
    cluster.wait_until(|state| is_owed(state, others[0], holders[0])).await;
    let mut expected = [holders[1], holders[2], others[0]].map(NodeId);
    expected.sort();
    cluster.wait_until(|state| state.chunks.values().filter(|chunks| chunks.contains_key(&ID)).count() == 3).await;
    assert_eq!(cluster.holders(ID), expected);
}

#[tokio::test]
async fn a_stand_in_that_fails_is_stood_in_for() {
    let cluster = FakeCluster::new(5, 3);
    let client = cluster.client().await;
    let (holders, others) = ring(&client);
    cluster.fail(holders[0], Fault::Full);
    cluster.fail(holders[1], Fault::Down);
    cluster.fail(others[0], Fault::Down);
    write(&client).await.unwrap();
    let held = cluster.holders(ID);
    assert!(held.contains(&NodeId(holders[2])) && held.contains(&NodeId(others[1])), "{held:?}");
}

#[tokio::test]
async fn fewer_than_a_quorum_is_an_error() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    cluster.fail(2, Fault::Down);
    cluster.fail(3, Fault::Down);
    assert_eq!(write(&client).await, Err(ClientError::NoQuorum { acked: 1, needed: 2 }));
    // Suspects are asked all the same when nothing else is left.
    cluster.heal(2);
    write(&client).await.unwrap();
}

#[tokio::test]
async fn nothing_is_written_by_a_map_that_may_have_been_replaced() {
    let cluster = FakeCluster::new(3, 3);
    let clock = TestClock::shared();
    let client = cluster.client_with(Arc::clone(&clock)).await;
    (1..=3).for_each(|node| cluster.fail(node, Fault::Down));
    clock.advance(Duration::from_millis(MAP_LEASE_MS));
    assert_eq!(write(&client).await, Err(ClientError::NoMap));
    (1..=3).for_each(|node| cluster.heal(node));
    write(&client).await.unwrap();
}

#[tokio::test]
async fn a_write_ends_before_repair_counts_what_former_holders_have() {
    let cluster = FakeCluster::new(12, 3);
    let client = cluster.client().await;
    (1..=12).for_each(|node| cluster.fail(node, Fault::Hangs));
    // One node after the other would take three times as long.
    let written = tokio::time::timeout(Duration::from_secs(14), write(&client)).await;
    assert_eq!(written.expect("it is given up"), Err(ClientError::NoQuorum { acked: 0, needed: 2 }));
}

#[tokio::test]
async fn full_nodes_are_stood_in_for_until_all_are_full() {
    let cluster = FakeCluster::new(4, 3);
    let client = cluster.client().await;
    let (holders, others) = ring(&client);
    cluster.fail(holders[0], Fault::Full);
    cluster.fail(holders[1], Fault::Full);
    write(&client).await.unwrap();
    assert!(cluster.holders(ID).contains(&NodeId(others[0])));
    cluster.fail(others[0], Fault::Full);
    assert_eq!(write(&client).await, Err(ClientError::Full), "one node with space is no quorum");
    cluster.fail(holders[2], Fault::Full);
    assert_eq!(write(&client).await, Err(ClientError::Full));
}

#[tokio::test]
async fn damaged_copies_are_never_handed_out() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    write(&client).await.unwrap();
    cluster.wait_until(|state| state.chunks.len() == 3).await;
    cluster.fail(1, Fault::Corrupt);
    cluster.fail(2, Fault::Garbles);
    for _ in 0..8 {
        assert_eq!(read(&client).await.unwrap(), data());
    }
    cluster.fail(3, Fault::Garbles);
    assert_eq!(read(&client).await, Err(ClientError::ChunkLost(ID)));
    cluster.fail(3, Fault::Down);
    assert_eq!(read(&client).await, Err(ClientError::ChunkUnavailable(ID)));
}

#[tokio::test]
async fn a_chunk_is_found_at_a_stand_in() {
    let cluster = FakeCluster::new(5, 3);
    let client = cluster.client().await;
    let (_, others) = ring(&client);
    cluster.state.lock().chunks.entry(NodeId(others[1])).or_default().insert(ID, data());
    assert_eq!(read(&client).await.unwrap(), data());
}

#[tokio::test]
async fn a_chunk_is_lost_only_by_the_newest_map() {
    let cluster = FakeCluster::new(5, 3);
    let place = |nodes: [u64; 3]| {
        let mut state = cluster.state.lock();
        state.map.placement.iter_mut().for_each(|set| *set = nodes.map(NodeId).to_vec());
        state.map.version.0 += 1;
    };
    place([1, 2, 3]);
    let client = cluster.client().await;
    assert_eq!(read(&client).await, Err(ClientError::ChunkLost(ID)));
    place([3, 4, 5]);
    cluster.state.lock().chunks.entry(NodeId(4)).or_default().insert(ID, data());
    assert_eq!(read(&client).await.unwrap(), data());
    cluster.state.lock().chunks.clear();
    assert_eq!(read(&client).await, Err(ClientError::ChunkLost(ID)));
}

#[tokio::test]
async fn a_range_of_a_chunk_is_exactly_that() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    write(&client).await.unwrap();
    let length = data().len() as u32;
    for range in [0..1, 262_143..262_145, 300_000..length, length - 1..length] {
        let expected = data().slice(range.start as usize..range.end as usize);
        assert_eq!(client.read_chunk(ID, range, length).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn slow_holders_are_hedged() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    write(&client).await.unwrap();
    cluster.wait_until(|state| state.chunks.len() == 3).await;
    cluster.fail(1, Fault::Slow(Duration::from_secs(3_600)));
    cluster.fail(2, Fault::Slow(Duration::from_secs(3_600)));
    // The deadline of one node is far longer than the bound of this wait.
    let read = tokio::time::timeout(Duration::from_secs(4), read(&client)).await;
    assert_eq!(read.expect("a hedge answers before a deadline passes").unwrap(), data());
}

fn delete(key: &str) -> Command {
    let (key, conditions) = (key.into(), Conditions::default());
    let deletions = vec![Deletion { key, version: None, conditions, bypass_governance: false, sequence: None }];
    let (versioning, owner) = (Versioning::Unversioned, USER);
    Command::Delete { bucket: BucketId(1), shard: ShardId(0), versioning, owner, deletions }
}

async fn mutate(client: &ClusterClient, partition: u32) -> Result<MetaReply, ClientError> {
    client.mutate(&mut client.proposal(PartitionId(partition), delete("k"))).await
}

fn is_mutation(request: &Request) -> bool {
    mutates(request, |_| true)
}

#[tokio::test]
async fn a_leader_that_moved_is_followed_and_remembered() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    cluster.state.lock().leaders.insert(PartitionId(0), NodeId(3));
    mutate(&client, 0).await.unwrap();
    assert_eq!(cluster.requests(is_mutation), 2, "the first replica, then the leader that it named");
    mutate(&client, 0).await.unwrap();
    assert_eq!(cluster.requests(is_mutation), 3, "the leader at once");
}

#[tokio::test]
async fn a_dead_leader_is_outlived() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    mutate(&client, 0).await.unwrap();
    cluster.fail(1, Fault::Down);
    let waiting = tokio::spawn({
        let client = Arc::clone(&client);
        async move { mutate(&client, 0).await }
    });
    // The followers still name the dead one for a while.
    cluster.wait_until(|state| state.log.iter().filter(|(_, request)| is_mutation(request)).count() >= 3).await;
    cluster.state.lock().leaders.insert(PartitionId(0), NodeId(2));
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test]
async fn an_uncertain_mutation_is_sent_again_under_the_same_name() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    for mishap in
        [Mishap::AnswerLost, Mishap::Refused(Refusal::Uncertain), Mishap::Refused(Refusal::NotReady("".into()))]
    {
        cluster.mishap(mishap);
        mutate(&client, 0).await.unwrap();
        let state = cluster.state.lock();
        let names = state.log.iter().filter_map(|(_, request)| match request {
            Request::Mutate { mutation, .. } => Some(mutation.request),
            _ => None,
        });
        let names: Vec<RequestId> = names.collect();
        assert!(names.len() >= 2 && names.iter().all(|name| *name == names[0]), "{names:?}");
        drop(state);
        cluster.state.lock().log.clear();
    }
}

/// What the mutations that reached nodes said of when they were first asked for.
fn told_since(cluster: &FakeCluster) -> Vec<Option<u64>> {
    let since = |(_, request): &(NodeId, Request)| match request {
        Request::Mutate { mutation, .. } => Some(mutation.since),
        _ => None,
    };
    cluster.state.lock().log.iter().filter_map(since).collect()
}

#[tokio::test]
async fn a_mutation_that_comes_too_late_is_asked_for_anew_under_the_same_name() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    cluster.mishap(Mishap::Expired(70_000));
    mutate(&client, 0).await.unwrap();
    assert_eq!(told_since(&cluster), [Some(0), Some(70_000)]);
    // What the answer said is remembered, for that partition.
    mutate(&client, 0).await.unwrap();
    mutate(&client, 1).await.unwrap();
    assert_eq!(told_since(&cluster)[2..], [Some(70_001), Some(0)]);
}

#[tokio::test]
async fn a_mutation_that_may_be_carried_out_already_is_not_asked_for_anew() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    cluster.mishap(Mishap::Refused(Refusal::Uncertain));
    cluster.mishap(Mishap::Expired(70_000));
    assert_eq!(mutate(&client, 0).await, Err(ClientError::Uncertain));
    // Nor when its caller asks once more, after an answer that may be another copy's.
    cluster.state.lock().log.clear();
    let mut proposal = client.proposal(PartitionId(0), delete("k"));
    cluster.mishap(Mishap::AnswerLost);
    client.mutate(&mut proposal).await.unwrap();
    cluster.mishap(Mishap::Expired(140_000));
    assert_eq!(client.mutate(&mut proposal).await, Err(ClientError::Uncertain));
    let told = told_since(&cluster);
    assert!(told.len() >= 3 && told.iter().all(|since| *since == told[0]), "{told:?}");
}

#[tokio::test]
async fn a_stale_epoch_is_refreshed() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    cluster.mishap(Mishap::Refused(Refusal::StaleEpoch(Epoch(2))));
    mutate(&client, 0).await.unwrap();
    assert_eq!(cluster.requests(is_mutation), 2);
}

#[tokio::test]
async fn what_no_retry_helps_is_told_at_once() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    cluster.mishap(Mishap::Refused(Refusal::Full));
    assert_eq!(mutate(&client, 0).await, Err(ClientError::Full));
    cluster.mishap(Mishap::Refused(Refusal::Invalid("no".into())));
    assert_eq!(mutate(&client, 0).await, Err(ClientError::Refused(Refusal::Invalid("no".into()))));
}

#[tokio::test]
async fn without_a_leader_the_deadline_ends_it() {
    let cluster = FakeCluster::new(3, 3);
    let clock = super::testing::TestClock::shared();
    let client = cluster.client_with(clock.clone()).await;
    cluster.state.lock().leaders.insert(PartitionId(0), NodeId(99));
    let waiting = tokio::spawn({
        let client = Arc::clone(&client);
        async move { mutate(&client, 0).await }
    });
    cluster.wait_until(|state| state.log.len() >= 2).await;
    clock.advance(super::metadata::OVERALL_DEADLINE);
    assert!(matches!(waiting.await.unwrap(), Err(ClientError::NoLeader { partition: PartitionId(0), .. })));
}

#[tokio::test]
async fn queries_go_out_in_one_batch_per_leader() {
    let cluster = FakeCluster::new(3, 3);
    let client = cluster.client().await;
    let list = |shard: u16| Query::List {
        bucket: BucketId(1),
        shard: ShardId(shard),
        prefix: String::new(),
        delimiter: None,
        from: Vec::new(),
        limit: 1,
    };
    let asked: Vec<_> = (0..8).map(|partition| (PartitionId(partition), list(partition as u16))).collect();
    let replies = client.query(asked.clone()).await.unwrap();
    assert!(replies.len() == 8 && replies.iter().all(|reply| matches!(reply, QueryReply::List(_))));
    assert_eq!(cluster.requests(|request| queries(request, |_| true)), 3);
    // One partition's leader moves: only its query is asked again.
    cluster.state.lock().leaders.insert(PartitionId(0), NodeId(2));
    client.query(asked).await.unwrap();
    assert_eq!(cluster.requests(|request| queries(request, |_| true)), 7);
}
