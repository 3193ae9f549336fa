//! How webhooks are told: whom a gateway believes to be one, and what becomes of events that one does not take.

use std::sync::Arc;

use annulus_gateway::admin::model::{ClusterStatus, EventsReport};
use annulus_tests::certificates::{Authority, Validity};
use annulus_tests::cluster::{Cluster, Spec};
use annulus_tests::wait;
use annulus_tests::webhook::Receiver;
use rustls::ServerConfig;

use crate::command_line::run;
use crate::new_bucket;
use crate::notifications::{document, metric, one_node, rule, sequencer, small_cluster, tell, told};

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

/// Which keys were posted, and what was answered, in their order.
fn answered(receiver: &Receiver) -> Vec<(String, u16)> {
    let posts = receiver.posts().into_iter().filter(|post| post.body["Records"].is_array());
    posts.map(|post| (told(&post.body["Records"][0]).1.to_owned(), post.status)).collect()
}

/// What the status says of events, when it says that.
async fn status_says(cluster: &Cluster, what: &str, says: impl Fn(&EventsReport) -> bool) -> EventsReport {
    wait::until(what, async || {
        let status: ClusterStatus = cluster.admin(0).get("/status").await.expect("an administrator is answered");
        Some(status.events).filter(&says)
    })
    .await
}

#[tokio::test]
async fn the_status_says_how_many_events_wait_and_since_when() {
    let receiver = Receiver::start();
    let (cluster, bucket) = small_cluster(&receiver, Spec { gateways: 1, ..Spec::default() }).await;
    let s3 = cluster.s3(0);
    let silent = EventsReport { complete: true, webhooks: Vec::new() };
    status_says(&cluster, "nothing waits", |events| *events == silent).await;
    receiver.answer(503);
    s3.put(&format!("{bucket}/first")).body("x").ok().await;
    let first = status_says(&cluster, "one waits", |events| events.webhooks.len() == 1).await.webhooks.remove(0);
    // It may have been refused already, and set aside.
    assert_eq!((first.webhook.as_str(), first.waiting, first.untold_ms), ("events", 1, None));
    let tried = async || receiver.posts().into_iter().find(|post| post.status == 503);
    let record = &wait::until("it is tried", tried).await.body["Records"][0];
    let made_ms = first.oldest_ms.expect("it waits since some time");
    let made = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(made_ms) * 1_000_000).expect("a time");
    let said = record["eventTime"].as_str().expect("a time of its own");
    let said = time::OffsetDateTime::parse(said, &time::format_description::well_known::Rfc3339).expect("a date");
    assert_eq!(made, said);
    // Keys of several partitions, whose leaders are several nodes.
    for key in 0..20 {
        s3.put(&format!("{bucket}/{key}")).body("x").ok().await;
    }
    let all = status_says(&cluster, "all wait", |events| events.webhooks[0].waiting == 21).await;
    assert!(all.complete && all.webhooks[0].oldest_ms == Some(made_ms));
    let said = run(&cluster, 0, &["status"]).await.well();
    let line = said.lines().find(|line| line.starts_with("webhook ")).expect("a line about it");
    assert!(line.starts_with("webhook events: 21 events wait, the oldest since 20"), "{line}");
    assert_eq!(run(&cluster, 0, &["status", "--json"]).await.json()["events"]["webhooks"][0]["waiting"], 21);
    receiver.answer(200);
    status_says(&cluster, "none waits", |events| *events == silent).await;
    assert!(!run(&cluster, 0, &["status"]).await.well().contains("webhook"));
}

#[tokio::test]
async fn an_event_that_is_refused_holds_back_its_key_alone() {
    for status in [400, 500] {
        let receiver = Receiver::start();
        let (cluster, bucket) = small_cluster(&receiver, one_node()).await;
        let s3 = cluster.s3(0);
        receiver.refuse("bad", status);
        for number in 0..3 {
            s3.put(&format!("{bucket}/bad")).body(format!("{number}")).ok().await;
            for key in 0..40 {
                s3.put(&format!("{bucket}/{key}")).body("x").ok().await;
            }
        }
        // More than one page of each of four partitions, while what is refused is tried again and again.
        let records = receiver.until(&bucket, 120).await;
        assert!(records.iter().all(|record| told(record).1 != "bad"), "{status}");
        wait::until("three wait", async || (metric(&s3, "pending").await == 3).then_some(())).await;
        let metrics = s3.get("/-/metrics").ok().await.text();
        for line in ["annulus_events_waiting{webhook=\"events\"} 3", "annulus_events_set_aside{webhook=\"events\"} 1"] {
            assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
        }
        let three = |events: &EventsReport| events.webhooks.first().is_some_and(|webhook| webhook.waiting == 3);
        assert_eq!(status_says(&cluster, "three wait", three).await.webhooks[0].set_aside, 1);
        let tried = async || (answered(&receiver).iter().filter(|(key, _)| key == "bad").count() > 2).then_some(());
        wait::until("it is tried again", tried).await;
        let refused = receiver.posts().into_iter().filter(|post| post.status == status);
        let refused: Vec<_> =
            refused.map(|post| post.body["Records"][0]["s3"]["object"]["sequencer"].clone()).collect();
        assert!(refused.iter().all(|tried| *tried == refused[0]), "nothing overtakes the first: {refused:?}");
        receiver.refuse("nobody", status);
        let records = receiver.until(&bucket, 123).await;
        let bad: Vec<_> = records.iter().filter(|record| told(record).1 == "bad").map(sequencer).collect();
        assert!(bad.len() == 3 && bad.is_sorted() && refused[0] == bad[0], "{bad:?}");
        wait::until("none waits", async || (metric(&s3, "pending").await == 0).then_some(())).await;
        assert_eq!((metric(&s3, "given_up_total").await, metric(&s3, "dropped_total").await), (0, 0));
    }
}

#[tokio::test]
async fn an_event_that_is_refused_too_often_is_given_up() {
    let receiver = Receiver::start();
    let (cluster, bucket) = small_cluster(&receiver, Spec { webhook_tries: 2, ..one_node() }).await;
    let s3 = cluster.s3(0);
    receiver.refuse("bad", 422);
    for _ in 0..3 {
        s3.put(&format!("{bucket}/bad")).body("x").ok().await;
    }
    // As long as nothing else is taken it may be the webhook that is wrong.
    let tried = async || (answered(&receiver).len() >= 3).then_some(());
    wait::until("it is tried again", tried).await;
    assert_eq!(metric(&s3, "given_up_total").await, 0);
    let given_up = async || {
        s3.put(&format!("{bucket}/good")).body("x").ok().await;
        (metric(&s3, "given_up_total").await == 3).then_some(())
    };
    wait::until("it is given up, and what waited behind it", given_up).await;
    receiver.refuse("nobody", 422);
    s3.put(&format!("{bucket}/bad")).body("x").ok().await;
    wait::until("the key is told again", async || answered(&receiver).contains(&("bad".to_owned(), 200)).then_some(()))
        .await;
    wait::until("none waits", async || (metric(&s3, "pending").await == 0).then_some(())).await;
    assert_eq!(metric(&s3, "dropped_total").await, 0);
    let none = |events: &EventsReport| events.webhooks.first().is_some_and(|webhook| webhook.waiting == 0);
    let [webhook] = &status_says(&cluster, "none waits", none).await.webhooks[..] else {
        panic!("one has missed some")
    };
    assert_eq!((webhook.given_up, webhook.dropped, webhook.untold_ms.is_some()), (3, 0, true));
}
