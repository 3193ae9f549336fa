//! Nodes join and are drained while clients write and read: nothing is lost, wrong or in the way. Through the S3 door and the
//! admin API, over nodes in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use annulus_gateway::admin::client::AdminError;
use annulus_gateway::admin::model::{ClusterStatus, LayoutRequest, PauseRequest, PlanReport, StepRequest};
use annulus_tests::cluster::{Cluster, Spec};
use annulus_tests::history::{History, Worker};
use annulus_tests::wait;

const WORKERS: usize = 3;

/// Clients that put, replace, delete and read until they are told to stop.
struct Load {
    history: Arc<History>,
    stop: Arc<AtomicBool>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn start(cluster: &Cluster) -> Self {
        cluster.s3(0).put("/load").ok().await;
        let (history, stop) = (Arc::new(History::new("/load")), Arc::new(AtomicBool::new(false)));
        let workers = (0..WORKERS)
            .map(|number| {
                let clients = (0..2).map(|gateway| cluster.s3((number + gateway) % 2)).collect();
                tokio::spawn(Worker::new(number, clients, Arc::clone(&history), Arc::clone(&stop)).work())
            })
            .collect();
        let load = Self { history, stop, workers };
        load.progress(50).await;
        load
    }

    async fn progress(&self, steps: usize) {
        let goal = self.history.acknowledged() + steps;
        wait::until("clients get on", async || (self.history.acknowledged() >= goal).then_some(())).await;
    }

    /// Reads everything again, through each gateway.
    async fn verify(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.expect("no worker found anything wrong");
        }
        for gateway in 0..2 {
            self.history.verify(&cluster.s3(gateway)).await;
        }
    }
}

async fn ask(cluster: &Cluster, step: StepRequest, dry_run: bool) -> Result<PlanReport, AdminError> {
    cluster.admin(0).post("/layout", &LayoutRequest { step, dry_run }).await
}

async fn take(cluster: &Cluster, step: StepRequest) -> PlanReport {
    wait::until("the layout changes", async || ask(cluster, step.clone(), false).await.ok()).await
}

async fn refused(cluster: &Cluster, step: StepRequest) -> (String, String) {
    match ask(cluster, step, false).await {
        Err(AdminError::Refused { code, message }) => (code, message),
        other => panic!("not refused: {other:?}"),
    }
}

async fn status(cluster: &Cluster) -> Option<ClusterStatus> {
    cluster.admin(0).get("/status").await.ok()
}

async fn until_settled(cluster: &Cluster) -> ClusterStatus {
    wait::until("everything is where it should be", async || {
        let status = status(cluster).await?;
        (status.moves.partitions == 0 && !status.moves.map_group && status.map_group.is_as_planned).then_some(status)
    })
    .await
}

fn drain(name: &str) -> StepRequest {
    StepRequest::Drain { node: name.to_owned() }
}

fn remove(name: &str, force: bool) -> StepRequest {
    StepRequest::Remove { node: name.to_owned(), force }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_become_five_and_three_again_while_clients_go_on() {
    let mut cluster = Cluster::start(Spec { partitions: 8, ..Spec::default() }).await;
    let load = Load::start(&cluster).await;
    let names: Vec<String> = vec![cluster.start_spare().await.1, cluster.start_spare().await.1];
    let planned = ask(&cluster, StepRequest::Add { nodes: names.clone() }, true).await.unwrap();
    assert!(!planned.carried_out && planned.chunk_bytes_to_move > 0);
    let carried_out = take(&cluster, StepRequest::Add { nodes: names.clone() }).await;
    assert_eq!((carried_out.replicas_to_fill, carried_out.epoch), (planned.replicas_to_fill, planned.epoch));
    let least = 2 * (3 * 8 / 5);
    assert!((least..=least + 2).contains(&carried_out.replicas_to_fill), "{carried_out:?}");
    load.progress(20).await;
    let settled = until_settled(&cluster).await;
    assert_eq!(settled.map_group.voters.len(), 5);
    assert!(settled.nodes.iter().all(|node| (4..=5).contains(&node.partitions)), "{:?}", settled.nodes);
    load.progress(20).await;
    for name in ["n1", "n2"] {
        take(&cluster, drain(name)).await;
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
    load.verify(&cluster).await;
    let left = status(&cluster).await.unwrap();
    assert_eq!(left.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n3", "n4", "n5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_dies_in_a_join_the_join_goes_on() {
    let mut cluster = Cluster::start(Spec::default()).await;
    let load = Load::start(&cluster).await;
    let (new, name) = cluster.start_spare().await;
    take(&cluster, StepRequest::Add { nodes: vec![name] }).await;
    for victim in [0, new, 1, 2] {
        cluster.kill(victim).await;
        load.progress(5).await;
        cluster.restart(victim).await;
    }
    until_settled(&cluster).await;
    load.progress(20).await;
    load.verify(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_node_is_replaced_under_its_old_name() {
    let mut cluster = Cluster::start(Spec::default()).await;
    let load = Load::start(&cluster).await;
    cluster.kill(1).await;
    let (code, message) = refused(&cluster, remove("n2", false)).await;
    assert!(code == "NodeHoldsData" && message.contains("--force") && message.contains("lost"), "{message}");
    let removed = take(&cluster, remove("n2", true)).await;
    assert!(removed.costs.iter().any(|cost| cost.contains("only 2 of 3 replicas")), "{:?}", removed.costs);
    cluster.replace_disk(1).await;
    take(&cluster, StepRequest::Add { nodes: vec!["n2".to_owned()] }).await;
    let settled = until_settled(&cluster).await;
    assert!(settled.partitions.iter().all(|partition| partition.voters.len() == 3));
    // Everything is on the new one: any of the others may go.
    cluster.kill(0).await;
    load.progress(20).await;
    load.verify(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_lose_data_is_refused_with_the_reason() {
    let mut cluster = Cluster::start(Spec::default()).await;
    let (code, message) = refused(&cluster, drain("n1")).await;
    assert!(code == "TooFewNodes" && message.contains("3 replicas need as many nodes"), "{message}");
    assert_eq!(refused(&cluster, StepRequest::SetReplication { factor: 4 }).await.0, "TooFewNodes");
    assert_eq!(refused(&cluster, drain("n9")).await.0, "NoSuchNode");
    let set = |zone: Option<&str>, capacity_bytes| StepRequest::Set {
        node: "n1".to_owned(),
        zone: zone.map(str::to_owned),
        capacity_bytes,
        as_configured: false,
    };
    assert_eq!(refused(&cluster, set(Some("not a zone"), None)).await.0, "InvalidZone");
    assert_eq!(refused(&cluster, set(None, Some(0))).await.0, "InvalidCapacity");
    // With a second one down, no group would have a majority without n1.
    cluster.kill(2).await;
    let (code, message) = refused(&cluster, remove("n1", true)).await;
    assert!(code == "QuorumLost" && message.contains("cannot be forced"), "{code}: {message}");
    cluster.restart(2).await;
    let kept = status(&cluster).await.unwrap();
    assert!(kept.epoch == 1 && kept.nodes.len() == 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_set_zones_capacities_replicas_and_pauses() {
    let mut cluster = Cluster::start(Spec { nodes: 3, replication_factor: 2, ..Spec::default() }).await;
    let s3 = cluster.s3(0);
    s3.put("/kept").ok().await;
    s3.put("/kept/k").body(vec![5; 100_000]).ok().await;
    let name = "n1".to_owned();
    let set = StepRequest::Set {
        node: name.clone(),
        zone: Some("cellar".to_owned()),
        capacity_bytes: Some(1 << 31),
        as_configured: false,
    };
    take(&cluster, set).await;
    until_settled(&cluster).await;
    cluster.kill(0).await;
    cluster.restart(0).await;
    let node = status(&cluster).await.unwrap().nodes.remove(0);
    assert_eq!((node.zone.as_str(), node.capacity_bytes), ("cellar", 1 << 31), "it outlives a restart");
    take(&cluster, StepRequest::Set { node: name, zone: None, capacity_bytes: None, as_configured: true }).await;
    let node = status(&cluster).await.unwrap().nodes.remove(0);
    assert_eq!((node.zone.as_str(), node.capacity_bytes), ("zone-0", 1 << 30));
    until_settled(&cluster).await;

    let admin = cluster.admin(0);
    admin.post::<serde_json::Value>("/moves", &PauseRequest { paused: true }).await.unwrap();
    take(&cluster, StepRequest::SetReplication { factor: 3 }).await;
    let paused = status(&cluster).await.unwrap();
    assert!(paused.moves.paused && paused.moves.partitions == 4 && !paused.healthy, "{:?}", paused.moves);
    admin.post::<serde_json::Value>("/moves", &PauseRequest { paused: false }).await.unwrap();
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
