//! How webhooks are told: whom a gateway believes to be one.

use std::sync::Arc;

use annulus_tests::certificates::{Authority, Validity};
use annulus_tests::cluster::{Cluster, Spec};
use annulus_tests::wait;
use annulus_tests::webhook::Receiver;
use rustls::ServerConfig;

use crate::new_bucket;
use crate::notifications::{document, one_node, rule, tell, told};

fn arn(webhook: &str) -> String {
    format!("arn:aws:sqs:us-east-1:123456789012:{webhook}")
}

/// Told at that host by TLS.
struct Certified {
    name: &'static str,
    host: &'static str,
    receiver: Receiver,
}

impl Certified {
    fn new(name: &'static str, host: &'static str, certificate: Arc<ServerConfig>) -> Self {
        Self { name, host, receiver: Receiver::start_certified(certificate) }
    }

    fn named(&self) -> (&'static str, String) {
        (self.name, format!("https://{}:{}/{}", self.host, self.receiver.addr().port(), self.name))
    }
}

#[tokio::test]
async fn webhooks_are_told_by_tls_if_they_are_who_they_should_be() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let all_names = ["localhost", "127.0.0.1"];
    let right = [
        Certified::new("name", "localhost", ours.certify(&all_names, Validity::Now)),
        Certified::new("address", "127.0.0.1", ours.certify(&all_names, Validity::Now)),
    ];
    let wrong = [
        Certified::new("elsewhere", "localhost", ours.certify(&["elsewhere.test", "127.0.0.1"], Validity::Now)),
        Certified::new("expired", "localhost", ours.certify(&all_names, Validity::Past)),
        Certified::new("early", "localhost", ours.certify(&all_names, Validity::Future)),
        Certified::new("stranger", "localhost", others.certify(&all_names, Validity::Now)),
        Certified { name: "open", host: "localhost", receiver: Receiver::start() },
    ];
    let webhooks = right.iter().chain(&wrong).map(Certified::named).collect();
    let cluster = Cluster::start(Spec { webhooks, webhook_ca: Some(ours.pem().to_owned()), ..one_node() }).await;
    let s3 = cluster.s3(0);
    for Certified { name, receiver, .. } in &right {
        let bucket = new_bucket(&s3).await;
        tell(&s3, &bucket, &rule(&arn(name), &["ObjectCreated:*"], "")).await;
        assert_eq!(receiver.posts()[0].body["Event"], "s3:TestEvent");
        s3.put(&format!("{bucket}/k")).body("x").ok().await;
        assert_eq!(told(&receiver.until(&bucket, 1).await[0]), ("ObjectCreated:Put", "k"));
        assert_eq!(receiver.posts()[1].target, format!("/{name}"));
    }
    for Certified { name, receiver, .. } in &wrong {
        let target = format!("{}?notification", new_bucket(&s3).await);
        let rules = document(&rule(&arn(name), &["ObjectCreated:*"], ""));
        let refused = s3.put(&target).body(rules.clone()).refused(400, "InvalidArgument").await;
        assert!(refused.text().contains("Unable to validate the following destination configurations"), "{name}");
        s3.put(&target).header("x-amz-skip-destination-validation", "true").body(rules).ok().await;
        let tested = receiver.connections();
        assert!(tested > 0, "{name}");
        s3.put(&target.replace("?notification", "/k")).body("x").ok().await;
        wait::until("it is tried", async || (receiver.connections() > tested).then_some(())).await;
    }
    wait::until("all that is wrong waits", async || {
        let metrics = s3.get("/-/metrics").ok().await.text();
        metrics.lines().any(|line| line == format!("annulus_events_pending {}", wrong.len())).then_some(())
    })
    .await;
    for Certified { name, receiver, .. } in &wrong {
        assert!(receiver.posts().is_empty(), "{name} was told nothing");
    }
}
