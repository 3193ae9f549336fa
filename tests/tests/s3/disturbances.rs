//! Nodes that die or cannot be reached, in a cluster of the test's own: what was acknowledged stays, and service goes on.

use std::time::Duration;

use annulus_common::rpc::fault::Fault;
use annulus_gateway::admin::model::ClusterStatus;
use annulus_tests::client::{Reply, S3};
use annulus_tests::cluster::{Cluster, Spec};
use annulus_tests::wait;
use bytes::Bytes;
use futures::future::join_all;

use crate::{CHUNK_BYTES, content, new_bucket};

const SIZES: [usize; 3] = [100, 40_000, CHUNK_BYTES + 1_000];

/// Puts as SDKs do: again when the gateway says that it cannot now.
async fn put(s3: &S3, target: &str, body: &Bytes) -> Reply {
    wait::until("a put succeeds", async || {
        let reply = s3.put(target).body(body.clone()).send().await;
        assert!(reply.status.is_success() || reply.status.is_server_error(), "{} {}", reply.status, reply.text());
        reply.status.is_success().then_some(reply)
    })
    .await
}

async fn get(s3: &S3, target: &str) -> Reply {
    wait::until("a get succeeds", async || {
        let reply = s3.get(target).send().await;
        assert!(reply.status.is_success() || reply.status.is_server_error(), "{} {}", reply.status, reply.text());
        reply.status.is_success().then_some(reply)
    })
    .await
}

async fn healthy(cluster: &Cluster) {
    wait::until("the cluster is healthy", async || {
        let status: ClusterStatus = cluster.admin(0).get("/status").await.ok()?;
        status.healthy.then_some(())
    })
    .await;
}

/// Kills each node in turn: what the others hold serves, and the node catches up with what it missed.
#[tokio::test]
async fn one_node_after_the_other_dies_and_returns() {
    let mut cluster = Cluster::start(Spec { gateways: 1, ..Spec::default() }).await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let mut stored = Vec::new();
    for node in 0..3 {
        for (number, size) in SIZES.into_iter().enumerate() {
            let (target, body) =
                (format!("{bucket}/before-{node}-{number}"), content(size, (10 * node + number) as u64));
            put(&s3, &target, &body).await;
            stored.push((target, body));
        }
        cluster.kill(node).await;
        for (number, size) in SIZES.into_iter().enumerate() {
            let (target, body) =
                (format!("{bucket}/during-{node}-{number}"), content(size, (100 * node + number) as u64));
            put(&s3, &target, &body).await;
            stored.push((target, body));
        }
        for (target, body) in &stored {
            assert!(get(&s3, target).await.body == body, "{target} with node {node} down");
        }
        cluster.restart(node).await;
        healthy(&cluster).await;
    }
    for (target, body) in &stored {
        assert!(get(&s3, target).await.body == body, "{target}");
    }
    let listed = s3.get(&format!("{bucket}?list-type=2")).ok().await;
    assert_eq!(listed.elements("Key").len(), stored.len());
}

#[tokio::test]
async fn a_cluster_that_lost_power_has_all_that_it_acknowledged() {
    let mut cluster = Cluster::start(Spec { gateways: 1, ..Spec::default() }).await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let bodies: Vec<Bytes> = SIZES.into_iter().map(|size| content(size, size as u64)).collect();
    for (number, body) in bodies.iter().enumerate() {
        s3.put(&format!("{bucket}/{number}")).body(body.clone()).ok().await;
    }
    s3.put(&format!("{bucket}/deleted")).body("x").ok().await;
    s3.delete(&format!("{bucket}/deleted")).ok().await;
    for node in 0..3 {
        cluster.kill(node).await;
    }
    // All before any is waited for: none serves alone.
    cluster.start_killed();
    cluster.until_nodes_ready().await;
    for (number, body) in bodies.iter().enumerate() {
        assert!(get(&s3, &format!("{bucket}/{number}")).await.body == body);
    }
    let gone = wait::until("the cluster answers", async || {
        let reply = s3.get(&format!("{bucket}/deleted")).send().await;
        (!reply.status.is_server_error()).then_some(reply)
    });
    assert_eq!(gone.await.status, 404, "what was deleted stays deleted");
}

/// A node that the gateway cannot reach is answered for by the others, whichever way it cannot be reached.
#[tokio::test]
async fn a_node_out_of_the_gateways_reach_does_not_stop_it() {
    let cluster = Cluster::start(Spec { gateways: 1, ..Spec::default() }).await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let body = content(40_000, 1);
    for (name, fault) in [
        ("unreachable", Fault::Unreachable),
        ("delayed", Fault::Delayed(Duration::from_millis(20))),
        ("answers-lost", Fault::AnswersLost),
    ] {
        cluster.transport(0).set("n1", fault);
        let attempts = (0..6).map(|number| {
            let (s3, target, body) = (&s3, format!("{bucket}/{name}-{number}"), &body);
            async move { (s3.put(&target).body(body.clone()).send().await, s3.get(&target).send().await) }
        });
        for (put, got) in join_all(attempts).await {
            // A key whose leader is out of reach cannot be served by this gateway. It must say so, neither hang nor lie.
            match put.status.is_success() {
                true => assert!(got.status == 503 || got.body == body, "{name}: {} {}", got.status, got.text()),
                false => assert_eq!(put.status, 503, "{name}: {}", put.text()),
            }
        }
        cluster.transport(0).heal("n1");
    }
    put(&s3, &format!("{bucket}/after"), &body).await;
}
