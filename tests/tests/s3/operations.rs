//! What an operator asks of a gateway under `/-/`, which no bucket name can be.

use annulus_tests::{cluster::shared, wait};

use crate::new_bucket;

#[tokio::test]
async fn health_needs_no_credentials() {
    let anonymous = shared().await.anonymous();
    assert_eq!(anonymous.get("/-/health/live").ok().await.text(), "live\n");
    assert_eq!(anonymous.get("/-/health/ready").ok().await.text(), "ready\n");
    assert_eq!(anonymous.post("/-/health/live").send().await.status, 405);
    assert_eq!(anonymous.get("/-/nothing").send().await.status, 404);
}

#[tokio::test]
async fn metrics_count_what_is_done() {
    let cluster = shared().await;
    let (s3, anonymous) = (cluster.s3(0), cluster.anonymous());
    let target = format!("{}/k", new_bucket(&s3).await);
    let refused = async || {
        let text = anonymous.get("/-/metrics").ok().await.text();
        let found = text.lines().filter(|line| line.contains("GetObject\"") && line.contains("404"));
        found.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    let before = refused().await;
    s3.get(&target).refused(404, "NoSuchKey").await;
    // A request is counted when its reply has left, so the client may be faster. Other tests may count, too.
    wait::until("it is counted", async || (refused().await >= before + 1.0).then_some(())).await;
    let text = anonymous.get("/-/metrics").ok().await.text();
    for name in ["annulus_http_requests", "annulus_http_request_seconds", "annulus_raft_leaders", "# EOF"] {
        assert!(text.contains(name), "{name}:\n{text}");
    }
}

#[tokio::test]
async fn a_secret_is_in_no_metric() {
    let cluster = shared().await;
    let text = cluster.anonymous().get("/-/metrics").ok().await.text();
    assert!(!text.contains(&cluster.root.secret_key) && !text.contains(&cluster.root.access_key));
}

#[tokio::test]
async fn the_path_is_no_bucket() {
    let s3 = shared().await.s3(0);
    let made = s3.put("/-").send().await;
    assert!(made.status.is_client_error(), "{}", made.status);
}
