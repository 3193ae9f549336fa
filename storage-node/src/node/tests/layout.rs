//! Nodes that join, drain and die: the groups follow the map, whoever is killed meanwhile.

use std::time::Duration;

use annulus_common::ids::{GroupId, InstanceId, NodeId, RequestId};
use annulus_common::map::change::{MapChange, MapEntry, MapRefusal};
use annulus_common::map::watch::MapWatch;
use annulus_common::map::{ClusterMap, LayoutStep, NodeState};
use annulus_common::protocol::{Refusal, Request};
use bytes::Bytes;

use super::{Disk, PATIENCE, Site, form, map_of, soon};
use crate::node::StorageNode;

/// Plans by the newest map and carries out.
async fn take(watch: &MapWatch, step: LayoutStep) -> Result<(), MapRefusal> {
    loop {
        let change = MapChange::ChangeLayout(watch.refresh().await.plan(&step)?);
        let entry = MapEntry { request: RequestId(rand::random()), time_ms: 1, change };
        match watch.change(entry, PATIENCE).await.expect("group 0 has a leader in time") {
            Err(MapRefusal::LayoutChanged(_)) => {}
            outcome => return outcome.map(|_| ()),
        }
    }
}

/// Waits until everything is where it should be.
async fn until_settled(watch: &MapWatch) {
    soon(async {
        while watch.refresh().await.moves.all().next().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

fn groups_of(node: &StorageNode) -> Vec<GroupId> {
    node.shared.server().map(|server| server.raft.groups()).unwrap_or_default()
}

/// Waits until a node has these groups and no others.
async fn until_groups(node: &StorageNode, expected: impl Fn(&ClusterMap) -> Vec<GroupId>) {
    soon(async {
        while groups_of(node) != expected(&map_of(node)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// The groups that a map gives to a node.
fn given(map: &ClusterMap, node: NodeId) -> Vec<GroupId> {
    let groups = (0..=map.partitions()).map(GroupId);
    groups.filter(|group| crate::cluster::conduct::target(map, *group).contains(&node)).collect()
}

/// Three nodes with a cluster, and two more that have registered.
async fn three_and_two() -> (Site, Vec<Disk>, Vec<StorageNode>, MapWatch) {
    let (site, mut disks, mut nodes) = form(3).await;
    for number in 4..=5 {
        let disk = Disk::new(&format!("n{number}"));
        nodes.push(site.start(&disk));
        soon(nodes[number - 1].ready()).await;
        disks.push(disk);
    }
    let watch = site.watch().await;
    (site, disks, nodes, watch)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_follow_the_map_from_three_nodes_to_five_and_back() {
    let (_site, _disks, nodes, watch) = three_and_two().await;
    assert!(groups_of(&nodes[4]).is_empty(), "a spare holds nothing");
    take(&watch, LayoutStep::Add(vec![NodeId(4), NodeId(5)])).await.unwrap();
    until_settled(&watch).await;
    assert_eq!(watch.latest().map_voters.len(), 5);
    for (number, node) in (1..).zip(&nodes) {
        until_groups(node, |map| given(map, NodeId(number))).await;
        soon(node.ready()).await;
    }
    // Group 0's leader among those that go.
    for number in 1..=2 {
        take(&watch, LayoutStep::Drain(NodeId(number))).await.unwrap();
    }
    until_settled(&watch).await;
    for node in &nodes[..2] {
        until_groups(node, |_| Vec::new()).await;
    }
    for (number, node) in (3..).zip(&nodes[2..]) {
        until_groups(node, |map| given(map, NodeId(number))).await;
    }
    let map = watch.refresh().await;
    assert!(map.map_voters.iter().all(|voter| voter.0 > 2) && map.map_voters.len() == 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_says_so_and_does_not_come_back() {
    let (site, disks, mut nodes, watch) = three_and_two().await;
    take(&watch, LayoutStep::Add(vec![NodeId(4)])).await.unwrap();
    until_settled(&watch).await;
    take(&watch, LayoutStep::Drain(NodeId(2))).await.unwrap();
    let held = take(&watch, LayoutStep::Remove { node: NodeId(2), force: false }).await;
    assert_eq!(held, Err(MapRefusal::NodeHoldsData(NodeId(2))));
    until_settled(&watch).await;
    until_groups(&nodes[1], |_| Vec::new()).await;
    take(&watch, LayoutStep::Remove { node: NodeId(2), force: false }).await.unwrap();
    let says_so = async |site: &Site| {
        let says = |refusal: &Refusal| refusal.to_string().contains("was removed from this cluster");
        while !site.ask("n2", &Request::PeekMap, Bytes::new()).await.0.is_err_and(|refusal| says(&refusal)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(says_so(&site)).await;
    assert!(!nodes[1].is_ready());
    // Started again on its old data, it is told the same.
    let node = nodes.remove(1);
    site.stop(node, &disks[1]).await;
    let again = site.start(&disks[1]);
    soon(says_so(&site)).await;
    assert!(!again.is_ready());
    assert_eq!(watch.refresh().await.nodes.len(), 4);
    drop(again);
    // Its name is free for another directory.
    let fresh = Disk::new("n2");
    let fresh_node = site.start(&fresh);
    soon(fresh_node.ready()).await;
    assert_eq!(fresh_node.identity()().node, Some(NodeId(6)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_node_is_replaced() {
    let (site, disks, mut nodes, watch) = three_and_two().await;
    let lost = nodes.remove(1);
    site.stop(lost, &disks[1]).await;
    take(&watch, LayoutStep::Replace { old: NodeId(2), new: NodeId(4) }).await.unwrap();
    until_settled(&watch).await;
    let map = watch.refresh().await;
    assert!(!map.nodes.contains_key(&NodeId(2)));
    assert!(map.placement.iter().all(|set| set.len() == 3 && set.contains(&NodeId(4))));
    until_groups(&nodes[2], |map| given(map, NodeId(4))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_is_given_up_and_comes_back_as_a_spare() {
    let (mut site, mut disks, nodes) = form(3).await;
    drop(nodes);
    // All of them give up silent nodes quickly from now on.
    site.dead_after = Duration::from_secs(6);
    disks.push(Disk::new("n4"));
    let mut nodes: Vec<StorageNode> = Vec::new();
    for disk in &disks {
        site.network.unregister(&disk.name);
        nodes.push(site.start(disk));
    }
    for node in &nodes {
        soon(node.ready()).await;
    }
    let watch = site.watch().await;
    take(&watch, LayoutStep::Add(vec![NodeId(4)])).await.unwrap();
    until_settled(&watch).await;
    let silent = nodes.remove(2);
    site.stop(silent, &disks[2]).await;
    let is = async |watch: &MapWatch, state: NodeState| {
        while watch.refresh().await.nodes[&NodeId(3)].state != state {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(is(&watch, NodeState::Dead)).await;
    until_settled(&watch).await;
    assert!(watch.refresh().await.placement.iter().all(|set| set.len() == 3 && !set.contains(&NodeId(3))));
    let back = site.start(&disks[2]);
    soon(is(&watch, NodeState::Spare)).await;
    until_groups(&back, |_| Vec::new()).await;
    soon(back.ready()).await;
}

/// Kills nodes, group 0's leader among them, in the middle of joins and drains.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_go_on_whoever_is_killed_meanwhile() {
    let (site, disks, nodes, watch) = three_and_two().await;
    let mut nodes: Vec<Option<StorageNode>> = nodes.into_iter().map(Some).collect();
    let grow = LayoutStep::Add(vec![NodeId(4), NodeId(5)]);
    let shrink = [LayoutStep::Drain(NodeId(4)), LayoutStep::Drain(NodeId(5))];
    for round in 0..2_u64 {
        let steps = if round % 2 == 0 { vec![grow.clone()] } else { shrink.to_vec() };
        for step in steps {
            take(&watch, step).await.unwrap();
        }
        for kill in 0..4 {
            let pause = rand::random_range(0..3_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let leader = nodes.iter().position(|node| node.as_ref().is_some_and(leads_the_map));
            let victim = match leader.filter(|_| kill == 0) {
                Some(leader) => leader,
                None => rand::random_range(0..nodes.len()),
            };
            println!("round {round}: node {} is killed after {pause} ms", victim + 1);
            site.network.unregister(&disks[victim].name);
            nodes[victim] = None;
            soon(async {
                while std::sync::Arc::strong_count(&disks[victim].meta) > 1 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            disks[victim].meta.crash();
            disks[victim].chunks.crash();
            nodes[victim] = Some(site.start(&disks[victim]));
        }
        until_settled(&watch).await;
        for (number, node) in (1..).zip(nodes.iter().flatten()) {
            until_groups(node, |map| given(map, NodeId(number))).await;
        }
    }
    // Nothing of the map was lost on the way.
    let change = MapChange::RegisterNode { node: None, profile: unknown() };
    let entry = MapEntry { request: RequestId(rand::random()), time_ms: 1, change };
    assert!(soon(watch.change(entry, PATIENCE)).await.unwrap().is_ok());
    assert_eq!(watch.refresh().await.nodes.len(), 6);
}

fn leads_the_map(node: &StorageNode) -> bool {
    let leads = |status: crate::raft::GroupStatus| status.role == crate::raft::Role::Leader;
    node.shared.server().and_then(|server| server.raft.status(GroupId::CLUSTER_MAP)).is_some_and(leads)
}

fn unknown() -> annulus_common::map::NodeProfile {
    annulus_common::map::NodeProfile {
        name: "n6".to_owned(),
        instance: InstanceId([6; 16]),
        addr: "n6".to_owned(),
        zone: "z".to_owned(),
        capacity_bytes: 1 << 30,
    }
}
