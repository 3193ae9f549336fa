//! Nodes join and are drained, and replicas, zones and capacities change, while clients write and read: nothing is lost, wrong
//! or in the way. Through the S3 door and the admin API, over nodes in this process.

use std::time::Duration;

use annulus_gateway::admin::client::AdminError;
use annulus_gateway::admin::model::{
    ClusterStatus, LayoutRequest, PartitionReport, PauseRequest, PlanReport, StepRequest,
};
use annulus_tests::cluster::{Cluster, Spec};
use annulus_tests::load::Load;
use annulus_tests::wait;

async fn start_load(cluster: &Cluster) -> Load {
    let load = Load::start_in(cluster, "/load").await;
    load.progress(50).await;
    load
}

/// Reads everything again, through each gateway.
async fn verify(load: Load, cluster: &Cluster) {
    let history = load.stop().await;
    for gateway in 0..cluster.gateways() {
        history.verify(&cluster.s3(gateway)).await;
    }
}

async fn ask(cluster: &Cluster, step: StepRequest, dry_run: bool) -> Result<PlanReport, AdminError> {
    cluster.admin(0).post("/layout", &LayoutRequest { step, dry_run }).await
}

async fn take(cluster: &Cluster, step: StepRequest) -> PlanReport {
    wait::until("the layout changes", async || ask(cluster, step.clone(), false).await.ok()).await
}

async fn plan(cluster: &Cluster, step: StepRequest) -> PlanReport {
    wait::until("it is planned", async || ask(cluster, step.clone(), true).await.ok()).await
}

async fn refused(cluster: &Cluster, step: StepRequest) -> (String, String) {
    // A map without a leader refuses everything for a moment.
    wait::until("it is refused", async || match ask(cluster, step.clone(), false).await {
        Err(AdminError::Refused { code, message }) => (code != "ServiceUnavailable").then_some((code, message)),
        Err(AdminError::Unreachable { .. }) => None,
        other => panic!("not refused: {other:?}"),
    })
    .await
}

async fn status(cluster: &Cluster) -> Option<ClusterStatus> {
    cluster.admin(0).get("/status").await.ok()
}

/// The status, once it is told: a node that has just come back, or whose leaders have gone, may not tell it yet.
async fn told(cluster: &Cluster) -> ClusterStatus {
    wait::until("the status is told", async || status(cluster).await).await
}

async fn until_settled(cluster: &Cluster) -> ClusterStatus {
    wait::until_within(3 * wait::PATIENCE, "everything is where it should be", async || {
        let status = status(cluster).await?;
        status.is_settled().then_some(status)
    })
    .await
}

fn drain(name: &str) -> StepRequest {
    StepRequest::Drain { node: name.to_owned() }
}

fn remove(name: &str, force: bool) -> StepRequest {
    StepRequest::Remove { node: name.to_owned(), force }
}

/// Gives a node another zone or capacity.
fn set(name: &str, zone: Option<&str>, capacity_bytes: Option<u64>) -> StepRequest {
    let zone = zone.map(str::to_owned);
    StepRequest::Set { node: name.to_owned(), zone, capacity_bytes, as_configured: false }
}

async fn pause(cluster: &Cluster, paused: bool) {
    let request = PauseRequest { paused };
    let asked = async || cluster.admin(0).post::<serde_json::Value>("/moves", &request).await.ok();
    wait::until("moves can be paused", asked).await;
}

fn share(status: &ClusterStatus, name: &str) -> u32 {
    status.nodes.iter().find(|node| node.name == name).expect("it is a member").partitions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_become_five_and_three_again_while_clients_go_on() {
    let mut cluster = Cluster::start(Spec { partitions: 8, ..Spec::default() }).await;
    let load = start_load(&cluster).await;
    let names: Vec<String> = vec![cluster.start_spare().await.1, cluster.start_spare().await.1];
    let planned = plan(&cluster, StepRequest::Add { nodes: names.clone() }).await;
    assert!(!planned.carried_out && planned.chunk_bytes_to_move > 0);
    let carried_out = take(&cluster, StepRequest::Add { nodes: names.clone() }).await;
    assert_eq!((carried_out.replicas_to_fill, carried_out.epoch), (planned.replicas_to_fill, planned.epoch));
    let again = take(&cluster, StepRequest::Add { nodes: names }).await;
    assert_eq!(again.replicas_to_fill, 0, "who has a share is given none");
    let least = 2 * (3 * 8 / 5);
    assert!((least..=least + 2).contains(&carried_out.replicas_to_fill), "{carried_out:?}");
    load.progress(20).await;
    let settled = until_settled(&cluster).await;
    assert_eq!(settled.map_group.voters.len(), 5);
    assert!(settled.nodes.iter().all(|node| (4..=5).contains(&node.partitions)), "{:?}", settled.nodes);
    load.progress(20).await;
    for name in ["n1", "n2"] {
        take(&cluster, drain(name)).await;
        assert_eq!(take(&cluster, drain(name)).await.replicas_to_fill, 0, "who is draining has nothing more to give");
    }
    load.progress(20).await;
    until_settled(&cluster).await;
    for name in ["n1", "n2"] {
        take(&cluster, remove(name, false)).await;
    }
    // Nothing is left there that anybody needs.
    cluster.kill(0).await;
    cluster.kill(1).await;
    load.progress(20).await;
    verify(load, &cluster).await;
    let left = told(&cluster).await;
    assert_eq!(left.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n3", "n4", "n5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_dies_in_a_join_the_join_goes_on() {
    let mut cluster = Cluster::start(Spec::default()).await;
    let load = start_load(&cluster).await;
    let (new, name) = cluster.start_spare().await;
    take(&cluster, StepRequest::Add { nodes: vec![name] }).await;
    for victim in [0, new, 1, 2] {
        cluster.kill(victim).await;
        load.progress(5).await;
        cluster.restart(victim).await;
    }
    until_settled(&cluster).await;
    load.progress(20).await;
    verify(load, &cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_node_is_replaced_under_its_old_name() {
    let mut cluster = Cluster::start(Spec::default()).await;
    let load = start_load(&cluster).await;
    let anew = |new: &str| StepRequest::Replace { old: "n2".to_owned(), new: new.to_owned(), force: false };
    let (code, message) = refused(&cluster, anew("n2")).await;
    assert!(code == "NodeHoldsData" && message.contains("answers"), "{code}: {message}");
    assert_eq!(refused(&cluster, anew("n3")).await.0, "NodeInUse");
    cluster.kill(1).await;
    let (code, message) = refused(&cluster, remove("n2", false)).await;
    assert!(code == "NodeHoldsData" && message.contains("--force") && message.contains("lost"), "{message}");
    let removed = take(&cluster, anew("n2")).await;
    assert!(removed.costs.iter().any(|cost| cost.contains("only 2 of 3 replicas")), "{:?}", removed.costs);
    assert_eq!(removed.awaited.as_deref(), Some("n2"));
    cluster.replace_disk(1).await;
    take(&cluster, StepRequest::Add { nodes: vec!["n2".to_owned()] }).await;
    let settled = until_settled(&cluster).await;
    assert!(settled.partitions.iter().all(|partition| partition.voters.len() == 3));
    // Everything is on the new one: any of the others may go.
    cluster.kill(0).await;
    load.progress(20).await;
    verify(load, &cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stays_away_is_healed_around_unasked() {
    let spec = Spec { nodes: 4, dead_after: Duration::from_secs(6), ..Spec::default() };
    let mut cluster = Cluster::start(spec).await;
    let load = start_load(&cluster).await;
    cluster.kill(1).await;
    wait::until("the node is given up", async || {
        let status = status(&cluster).await?;
        status.nodes.iter().any(|node| (node.name.as_str(), node.state.as_str()) == ("n2", "dead")).then_some(())
    })
    .await;
    load.progress(20).await;
    let settled = until_settled(&cluster).await;
    assert!(settled.partitions.iter().all(|partition| partition.voters.len() == 3));
    // Everything is there three times again: any other one may go.
    cluster.kill(0).await;
    load.progress(20).await;
    verify(load, &cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_lose_data_is_refused_with_the_reason() {
    let mut cluster = Cluster::start(Spec::default()).await;
    let (code, message) = refused(&cluster, drain("n1")).await;
    assert!(code == "TooFewNodes" && message.contains("3 replicas need as many nodes"), "{message}");
    assert_eq!(refused(&cluster, StepRequest::SetReplication { factor: 4 }).await.0, "TooFewNodes");
    assert_eq!(refused(&cluster, drain("n9")).await.0, "NoSuchNode");
    assert_eq!(refused(&cluster, set("n1", Some("not a zone"), None)).await.0, "InvalidZone");
    assert_eq!(refused(&cluster, set("n1", None, Some(0))).await.0, "InvalidCapacity");
    // With a second one down, no group would have a majority without n1.
    cluster.kill(2).await;
    let (code, message) = refused(&cluster, remove("n1", true)).await;
    assert!(code == "QuorumLost" && message.contains("cannot be forced"), "{code}: {message}");
    cluster.restart(2).await;
    let kept = told(&cluster).await;
    assert!(kept.epoch == 1 && kept.nodes.len() == 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_set_zones_capacities_replicas_and_pauses() {
    let mut cluster = Cluster::start(Spec { nodes: 3, replication_factor: 2, ..Spec::default() }).await;
    let s3 = cluster.s3(0);
    s3.put("/kept").ok().await;
    s3.put("/kept/k").body(vec![5; 100_000]).ok().await;
    let name = "n1".to_owned();
    take(&cluster, set(&name, Some("cellar"), Some(1 << 31))).await;
    until_settled(&cluster).await;
    cluster.kill(0).await;
    cluster.restart(0).await;
    let node = told(&cluster).await.nodes.remove(0);
    assert_eq!((node.zone.as_str(), node.capacity_bytes), ("cellar", 1 << 31), "it outlives a restart");
    take(&cluster, StepRequest::Set { node: name, zone: None, capacity_bytes: None, as_configured: true }).await;
    let node = told(&cluster).await.nodes.remove(0);
    assert_eq!((node.zone.as_str(), node.capacity_bytes), ("zone-0", 1 << 30));
    until_settled(&cluster).await;

    pause(&cluster, true).await;
    take(&cluster, StepRequest::SetReplication { factor: 3 }).await;
    let paused = told(&cluster).await;
    assert!(paused.moves.paused && paused.moves.partitions == 4 && !paused.healthy, "{:?}", paused.moves);
    pause(&cluster, false).await;
    let settled = until_settled(&cluster).await;
    assert!(settled.partitions.iter().all(|partition| partition.voters.len() == 3));
    // Three copies: any two nodes may be gone for a reader of chunks, any one for the metadata.
    cluster.kill(1).await;
    let got = wait::until("a get succeeds", async || {
        let reply = s3.get("/kept/k").try_send().await.ok()?;
        reply.status.is_success().then_some(reply)
    });
    assert!(got.await.body == vec![5; 100_000]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_replicas_goes_up_and_down_while_clients_go_on() {
    let mut cluster = Cluster::start(Spec { nodes: 4, replication_factor: 2, ..Spec::default() }).await;
    let load = start_load(&cluster).await;
    let up = take(&cluster, StepRequest::SetReplication { factor: 4 }).await;
    assert_eq!((up.replicas_to_fill, up.costs.len()), (2 * 4, 0));
    load.progress(20).await;
    let settled = until_settled(&cluster).await;
    assert!(settled.partitions.iter().all(|partition| partition.voters.len() == 4));
    let down = take(&cluster, StepRequest::SetReplication { factor: 3 }).await;
    assert_eq!(down.replicas_to_fill, 0, "what is there is enough");
    assert_eq!(down.costs, ["from then on one node may fail without an interruption"]);
    load.progress(20).await;
    let settled = until_settled(&cluster).await;
    assert!(settled.partitions.iter().all(|partition| partition.voters.len() == 3));
    // Once more is asked for what is so already.
    let again = take(&cluster, StepRequest::SetReplication { factor: 3 }).await;
    assert_eq!((again.partitions_to_move, again.replicas_to_fill), (0, 0));
    until_settled(&cluster).await;
    // Any one of them may go now.
    cluster.kill(2).await;
    load.progress(20).await;
    verify(load, &cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_and_capacities_move_data_while_clients_go_on() {
    let cluster = Cluster::start(Spec { nodes: 4, partitions: 8, ..Spec::default() }).await;
    let load = start_load(&cluster).await;
    load.progress(100).await;
    let before = told(&cluster).await;
    assert_eq!(["n1", "n2", "n3", "n4"].map(|name| share(&before, name)), [6; 4]);
    // A quarter of what the others offer.
    let smaller = set("n1", None, Some(1 << 28));
    let planned = plan(&cluster, smaller.clone()).await;
    let of_it = planned.nodes.iter().find(|node| node.name == "n1").unwrap();
    assert!(of_it.partitions_after <= 2 && of_it.chunk_bytes_after < of_it.chunk_bytes_before, "{of_it:?}");
    assert!(planned.chunk_bytes_to_move > 0 && share(&told(&cluster).await, "n1") == 6, "a dry run");
    let carried_out = take(&cluster, smaller).await;
    assert_eq!(carried_out.replicas_to_fill, planned.replicas_to_fill);
    load.progress(20).await;
    let settled = until_settled(&cluster).await;
    assert_eq!(share(&settled, "n1"), of_it.partitions_after);
    // Two nodes in one zone: no partition may be on both.
    take(&cluster, set("n2", Some("cellar"), None)).await;
    take(&cluster, set("n3", Some("cellar"), None)).await;
    load.progress(20).await;
    let settled = until_settled(&cluster).await;
    let [second, third] = [1, 2].map(|at: usize| settled.nodes[at].id);
    let together = |partition: &PartitionReport| [second, third].iter().all(|node| partition.voters.contains(node));
    assert!(!settled.partitions.iter().any(together), "{:?}", settled.partitions);
    verify(load, &cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paused_stays_where_it_is_and_goes_on_when_it_may() {
    let mut cluster = Cluster::start(Spec::default()).await;
    let load = start_load(&cluster).await;
    pause(&cluster, true).await;
    let (new, name) = cluster.start_spare().await;
    take(&cluster, StepRequest::Add { nodes: vec![name.clone()] }).await;
    load.progress(60).await;
    wait::until("there is something to move, and nothing is moved", async || {
        let moves = status(&cluster).await?.moves;
        let waits = moves.paused && moves.partitions > 0 && moves.bytes_left > 0;
        (waits && (moves.bytes_per_second, moves.eta_seconds) == (Some(0), None)).then_some(())
    })
    .await;
    // A pause outlives whoever it was told to.
    cluster.kill(0).await;
    cluster.restart(0).await;
    load.progress(20).await;
    assert!(told(&cluster).await.moves.paused);
    pause(&cluster, false).await;
    let settled = until_settled(&cluster).await;
    assert_eq!((settled.moves.bytes_left, share(&settled, &name) > 0), (0, true));
    load.progress(20).await;
    cluster.kill(new).await;
    verify(load, &cluster).await;
}
