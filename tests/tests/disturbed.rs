//! Nodes that cannot reach each other while clients write and read (some of them, one way or both), or have no space left.
//! Clients get on, nothing that was acknowledged is lost, and nobody answers with what he does not know to be the newest.
//!
//! Over nodes in this process, whose ways to each other are disturbed; gateways reach all of them. What gateways do about nodes
//! that they cannot reach is in `s3/disturbances`.

use annulus_common::rpc::fault::Fault;
use annulus_gateway::admin::model::ClusterStatus;
use annulus_tests::cluster::{Cluster, Spec};
use annulus_tests::load::Load;
use annulus_tests::wait;

const NODES: usize = 3;

/// What must be acknowledged while a disturbance lasts: it takes an election and more.
const STEPS: usize = 30;

/// Disturbs, lets clients get on, heals and lets them get on; for each node. In the end everything is read again.
async fn under_load(mut disturb: impl FnMut(&Cluster, usize)) {
    let cluster = Cluster::start(Spec { nodes: NODES, ..Spec::default() }).await;
    let load = Load::start_in(&cluster, "/load").await;
    load.progress(STEPS).await;
    for node in 0..NODES {
        disturb(&cluster, node);
        load.progress(STEPS).await;
        cluster.heal_nodes();
        cluster.set_disk_full(node, false);
        load.progress(STEPS).await;
    }
    let history = load.stop().await;
    for gateway in 0..cluster.gateways() {
        history.verify(&cluster.s3(gateway)).await;
    }
    wait::until_within(2 * wait::PATIENCE, "the cluster is healthy", async || {
        let status: ClusterStatus = cluster.admin(0).get("/status").await.ok()?;
        status.healthy.then_some(())
    })
    .await;
}

fn others(node: usize) -> impl Iterator<Item = usize> {
    (0..NODES).filter(move |other| *other != node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_holds_nobody_up() {
    under_load(Cluster::isolate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_nobody_holds_nobody_up() {
    under_load(|cluster, node| others(node).for_each(|other| cluster.disturb(other, node, Fault::Silent))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nobody_hears_holds_nobody_up() {
    under_load(|cluster, node| others(node).for_each(|other| cluster.disturb(node, other, Fault::Silent))).await;
}

/// Each of the two could take the leadership from the other for ever, by way of the third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_hear_only_the_third_hold_nobody_up() {
    under_load(|cluster, node| {
        let next = (node + 1) % NODES;
        cluster.disturb(node, next, Fault::Silent);
        cluster.disturb(next, node, Fault::Silent);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_space_holds_nobody_up_and_gets_what_it_missed() {
    under_load(|cluster, node| cluster.set_disk_full(node, true)).await;
}
