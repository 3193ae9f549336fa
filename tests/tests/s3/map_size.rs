//! A cluster map that is larger than any message, and one that is full: who may configure buckets can neither keep a process from
//! beginning, nor others from serving, by how much they configure.

use std::sync::atomic::{AtomicBool, Ordering};

use annulus_common::map::size::{ACCOUNT_BYTES_MAX, MAP_BYTES_MAX};
use annulus_common::policy::POLICY_TEXT_BYTES_MAX;
use annulus_common::rpc::PAYLOAD_BYTES_MAX;
use annulus_gateway::admin::model::ClusterStatus;
use annulus_tests::client::S3;
use annulus_tests::cluster::{Cluster, Spec};
use futures::future::join_all;

/// Clients at the same time: what they send at once is more than one answer to a watcher carries.
const WRITERS: usize = 20;

/// The largest policy that S3's rules allow: most of it is white space, which counts where it is kept.
fn policy(bucket: &str) -> String {
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Principal":"*","Action":"s3:DeleteObject",
           "Resource":"arn:aws:s3:::{bucket}/kept"}}]}}"#
    );
    let white_space = " ".repeat(POLICY_TEXT_BYTES_MAX - text.len());
    text + &white_space
}

/// Makes as many buckets with the largest policies as an account may have, and returns them with the refusals of the others.
async fn fill(s3: &S3, account: usize) -> (Vec<String>, Vec<String>) {
    let count = ACCOUNT_BYTES_MAX as usize / POLICY_TEXT_BYTES_MAX + 1;
    let names: Vec<String> = (0..count).map(|number| format!("bucket-{account}-{number}")).collect();
    let (mut configured, mut refusals) = (Vec::new(), Vec::new());
    for names in names.chunks(WRITERS) {
        let puts = names.iter().map(|name| async move {
            let made = s3.put(&format!("/{name}")).send().await;
            if !made.status.is_success() {
                return (name, made);
            }
            (name, s3.put(&format!("/{name}?policy")).body(policy(name)).send().await)
        });
        for (name, reply) in join_all(puts).await {
            if reply.status.is_success() {
                configured.push(name.clone());
            } else {
                assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (400, Some("TooManyConfigurations")));
                refusals.push(reply.element("Message").unwrap_or_default());
            }
        }
    }
    (configured, refusals)
}

async fn client(cluster: &Cluster, account: usize) -> S3 {
    let credentials = cluster.create_account(&format!("filler-{account}"), None).await;
    S3::new(&cluster.endpoint(0), &credentials.access_key, &credentials.secret_key)
}

/// Reads an object until it is told to stop: whatever the others write, the gateway keeps its lease of the map.
async fn read_on(s3: &S3, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        s3.get("/served/object").ok().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_larger_than_any_message_is_bounded_and_brought_to_whoever_begins() {
    let mut cluster = Cluster::start(Spec { gateways: 1, partitions: 2, ..Spec::default() }).await;
    let root = cluster.s3(0);
    root.put("/served").ok().await;
    root.put("/served/object").body("served").ok().await;
    let accounts = (MAP_BYTES_MAX / ACCOUNT_BYTES_MAX) as usize;
    let (stop, mut filled) = (AtomicBool::new(false), Vec::new());
    let filling = async {
        for account in 0..=accounts {
            let s3 = client(&cluster, account).await;
            let (configured, refusals) = fill(&s3, account).await;
            let limit_bytes = if account < accounts { ACCOUNT_BYTES_MAX } else { MAP_BYTES_MAX };
            let limit = format!("{} MiB", limit_bytes >> 20);
            assert!(!refusals.is_empty(), "account {account} is stopped");
            assert!(refusals.iter().all(|refusal| refusal.contains(&limit)), "{refusals:?}");
            filled.push((s3, configured));
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(filling, read_on(&root, &stop));
    let bytes = filled.iter().map(|(_, configured)| configured.len()).sum::<usize>() * POLICY_TEXT_BYTES_MAX;
    assert!(bytes > 3 * PAYLOAD_BYTES_MAX, "{bytes} bytes are several of the largest messages");

    let status: ClusterStatus = cluster.admin(0).get("/status").await.unwrap();
    assert!(status.problems.iter().any(|problem| problem.contains("nearly full")), "{:?}", status.problems);

    // Who begins without a map: a node on its old disk, a new node, a new gateway.
    cluster.kill(2).await;
    cluster.restart(2).await;
    cluster.start_spare().await;
    let gateway = cluster.start_gateway().await;
    let late = cluster.s3(gateway);
    assert_eq!(late.get("/served/object").ok().await.text(), "served");
    late.put("/served/another").body("x").ok().await;

    // Nobody is locked in: what is there can be read, replaced by less, and removed, and then there is room again.
    let (s3, configured) = &filled[0];
    let [kept, gone] = [&configured[0], &configured[1]];
    let target = format!("/{kept}?policy");
    assert_eq!(s3.get(&target).ok().await.text().len(), POLICY_TEXT_BYTES_MAX);
    s3.put(&target).body(policy(kept)).ok().await;
    s3.put(&target).body(policy(kept).trim_end().to_owned()).ok().await;
    s3.delete(&format!("/{gone}?policy")).ok().await;
    s3.delete(&format!("/{gone}")).ok().await;
    s3.put("/one-more").ok().await;
    s3.put("/one-more?policy").body(policy("one-more")).ok().await;
}
