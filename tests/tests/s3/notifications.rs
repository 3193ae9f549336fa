//! Event notifications: what is configured and what is refused, what webhooks are told of each thing that happens, and that
//! nothing is lost while a webhook, or a node, is down.

use annulus_tests::client::S3;
use annulus_tests::cluster::{Cluster, Spec, UPLOAD_TOKEN, WEBHOOK_TOKEN, shared, shared_webhook};
use annulus_tests::wait;
use annulus_tests::webhook::Receiver;
use serde_json::Value;

use crate::{PART_BYTES_MIN, content, new_bucket};

pub(crate) const ARN: &str = "arn:aws:sqs:us-east-1:123456789012:events";

pub(crate) fn document(rules: &str) -> String {
    format!("<NotificationConfiguration>{rules}</NotificationConfiguration>")
}

/// A configuration of these events, with what else stands in it.
pub(crate) fn rule(arn: &str, events: &[&str], more: &str) -> String {
    let events: String = events.iter().map(|event| format!("<Event>s3:{event}</Event>")).collect();
    format!("<QueueConfiguration>{more}<Queue>{arn}</Queue>{events}</QueueConfiguration>")
}

fn filter(rules: &[(&str, &str)]) -> String {
    let rule =
        |(name, value): &(&str, &str)| format!("<FilterRule><Name>{name}</Name><Value>{value}</Value></FilterRule>");
    format!("<Filter><S3Key>{}</S3Key></Filter>", rules.iter().map(rule).collect::<String>())
}

/// A bucket whose events of these kinds are told to the webhook `events`.
pub(crate) async fn telling_bucket(s3: &S3, events: &[&str], more: &str) -> String {
    let bucket = new_bucket(s3).await;
    tell(s3, &bucket, &rule(ARN, events, more)).await;
    bucket
}

pub(crate) async fn tell(s3: &S3, bucket: &str, rules: &str) {
    s3.put(&format!("{bucket}?notification")).body(document(rules)).ok().await;
}

pub(crate) fn told(record: &Value) -> (&str, &str) {
    (record["eventName"].as_str().expect("a name"), record["s3"]["object"]["key"].as_str().expect("a key"))
}

pub(crate) fn sequencer(record: &Value) -> &str {
    record["s3"]["object"]["sequencer"].as_str().expect("a sequencer")
}

async fn enable_versioning(s3: &S3, bucket: &str) {
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    s3.put(&format!("{bucket}?versioning")).body(enabled).ok().await;
}

#[tokio::test]
async fn what_was_configured_is_given_back() {
    let s3 = shared().await.s3(0);
    let target = format!("{}?notification", new_bucket(&s3).await);
    let empty = s3.get(&target).ok().await;
    assert!(empty.text().contains("NotificationConfiguration") && empty.elements("Event").is_empty());
    let rules = [
        rule(ARN, &["ObjectCreated:*"], &format!("<Id>one</Id>{}", filter(&[("prefix", "a/"), ("Suffix", ".jpg")]))),
        "<TopicConfiguration><Topic>arn:aws:sns:us-east-1:123456789012:events</Topic><Event>s3:ObjectRemoved:Delete</Event>\
         <Event>s3:ObjectRestore:Completed</Event></TopicConfiguration>"
            .to_owned(),
        "<CloudFunctionConfiguration><Id>three</Id><CloudFunction>arn:aws:lambda:us-east-1:123456789012:function:events\
         </CloudFunction><Event>s3:ObjectTagging:*</Event></CloudFunctionConfiguration>"
            .to_owned(),
    ];
    s3.put(&target).body(document(&rules.concat())).ok().await;
    let given = s3.get(&target).ok().await;
    assert_eq!(given.element("Queue").as_deref(), Some(ARN));
    assert_eq!(given.element("Topic").as_deref(), Some("arn:aws:sns:us-east-1:123456789012:events"));
    assert!(given.element("CloudFunction").is_some_and(|arn| arn.ends_with(":function:events")));
    assert_eq!(
        (given.elements("Name"), given.elements("Value")),
        (vec!["Prefix".to_owned(), "Suffix".to_owned()], vec!["a/".to_owned(), ".jpg".to_owned()])
    );
    let mut events = given.elements("Event");
    events.sort();
    assert_eq!(
        events,
        ["s3:ObjectCreated:*", "s3:ObjectRemoved:Delete", "s3:ObjectRestore:Completed", "s3:ObjectTagging:*"]
    );
    let ids = given.elements("Id");
    assert!(ids.len() == 3 && ids.iter().all(|id| !id.is_empty()), "one was made for the topic: {ids:?}");
    let alt = shared().await.alt();
    alt.get(&target).refused(403, "AccessDenied").await;
    alt.put(&target).body(document("")).refused(403, "AccessDenied").await;
    s3.put(&target).body(document("")).ok().await;
    assert!(s3.get(&target).ok().await.elements("Event").is_empty());
}

#[tokio::test]
async fn documents_with_mistakes_are_refused_and_the_old_one_stays() {
    let s3 = shared().await.s3(0);
    let target = format!("{}?notification", new_bucket(&s3).await);
    s3.put(&target).body(document(&rule(ARN, &["ObjectAcl:Put"], "<Id>kept</Id>"))).ok().await;
    let created = |more: &str| rule(ARN, &["ObjectCreated:*"], more);
    let wrong = [
        (rule("arn:aws:sqs:us-east-1:123456789012:nobody", &["ObjectCreated:*"], ""), 400, "InvalidArgument"),
        (rule("arn:aws:sns:us-east-1:123456789012:events", &["ObjectCreated:*"], ""), 400, "InvalidArgument"),
        (rule("events", &["ObjectCreated:*"], ""), 400, "InvalidArgument"),
        (rule(ARN, &["ObjectAccessed:Get"], ""), 400, "InvalidArgument"),
        (rule(ARN, &[], ""), 400, "MalformedXML"),
        (created(&filter(&[("middle", "x")])), 400, "InvalidArgument"),
        (created(&filter(&[("prefix", "x"), ("prefix", "y")])), 400, "InvalidArgument"),
        (created(&filter(&[("suffix", &"x".repeat(1_025))])), 400, "InvalidArgument"),
        (created(&format!("<Id>{}</Id>", "x".repeat(256))), 400, "InvalidArgument"),
        (created("<Id>a</Id>") + &rule(ARN, &["ObjectRemoved:*"], "<Id>a</Id>"), 400, "InvalidArgument"),
        (created("") + &rule(ARN, &["ObjectCreated:Put"], ""), 400, "InvalidArgument"),
        (
            created(&filter(&[("prefix", "a")])) + &created(&filter(&[("prefix", "a/b"), ("suffix", ".jpg")])),
            400,
            "InvalidArgument",
        ),
        ("<EventBridgeConfiguration></EventBridgeConfiguration>".to_owned(), 501, "NotImplemented"),
    ];
    for (rules, status, code) in wrong {
        s3.put(&target).body(document(&rules)).refused(status, code).await;
    }
    s3.put(&target).body("<NotificationConfiguration>").refused(400, "MalformedXML").await;
    assert_eq!(s3.get(&target).ok().await.element("Id").as_deref(), Some("kept"));
}

#[tokio::test]
async fn webhooks_are_tested_before_they_are_named() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}?notification");
    let dead = document(&rule("arn:minio:sqs::dead:webhook", &["ObjectCreated:*"], ""));
    let refused = s3.put(&target).body(dead.clone()).refused(400, "InvalidArgument").await;
    assert!(refused.text().contains("Unable to validate the following destination configurations"));
    s3.put(&target).header("x-amz-skip-destination-validation", "true").body(dead).ok().await;
    let put = s3.put(&target).body(document(&rule(ARN, &["ObjectCreated:*"], ""))).ok().await;
    let is_test = |post: &annulus_tests::webhook::Post| post.body["Bucket"] == bucket.trim_start_matches('/');
    let test = shared_webhook().posts().into_iter().find(is_test).expect("a test message came");
    assert_eq!((test.target.as_str(), test.body["Event"].as_str()), ("/events", Some("s3:TestEvent")));
    assert_eq!(test.body["Service"], "Amazon S3");
    assert_eq!(test.body["RequestId"].as_str(), put.header("x-amz-request-id"));
    assert_eq!(test.headers["authorization"], format!("Bearer {WEBHOOK_TOKEN}"));
    assert_eq!(test.headers["content-type"], "application/json");
}

#[tokio::test]
async fn a_record_says_who_did_what_to_which_object() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = telling_bucket(&s3, &["ObjectCreated:*"], "<Id>mine</Id>").await;
    let put = s3.put(&format!("{bucket}/a%20b%2Bc/d")).body("hello").ok().await;
    let record = &shared_webhook().until(&bucket, 1).await[0];
    assert_eq!(told(record), ("ObjectCreated:Put", "a+b%2Bc/d"));
    assert_eq!((record["eventVersion"].as_str(), record["eventSource"].as_str()), (Some("2.1"), Some("aws:s3")));
    assert_eq!(record["awsRegion"], "us-east-1");
    assert!(record["eventTime"].as_str().is_some_and(|time| time.len() == 24 && time.ends_with('Z')), "{record}");
    assert!(record["userIdentity"]["principalId"].as_str().is_some_and(|id| id.starts_with("AWS:")), "{record}");
    assert_eq!(record["requestParameters"]["sourceIPAddress"], "127.0.0.1");
    assert_eq!(record["responseElements"]["x-amz-request-id"].as_str(), put.header("x-amz-request-id"));
    assert_eq!(record["responseElements"]["x-amz-id-2"].as_str(), put.header("x-amz-id-2"));
    let s3_part = &record["s3"];
    assert_eq!((s3_part["s3SchemaVersion"].as_str(), s3_part["configurationId"].as_str()), (Some("1.0"), Some("mine")));
    assert_eq!(s3_part["bucket"]["arn"], format!("arn:aws:s3:::{}", bucket.trim_start_matches('/')));
    let owner = s3.get("/").ok().await.element("ID").expect("an owner has an id");
    assert_eq!(s3_part["bucket"]["ownerIdentity"]["principalId"], owner);
    assert_eq!(s3_part["object"]["size"], 5);
    let etag = put.header("etag").map(|etag| etag.trim_matches('"'));
    assert_eq!((s3_part["object"]["eTag"].as_str(), s3_part["object"].get("versionId")), (etag, None));
}

#[tokio::test]
async fn objects_come_in_many_ways() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = telling_bucket(&s3, &["ObjectCreated:*", "ObjectRemoved:*"], "").await;
    s3.put(&format!("{bucket}?acl")).header("x-amz-acl", "public-read-write").ok().await;
    s3.put(&format!("{bucket}/put")).body("x").ok().await;
    let form = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nform\r\n--b\r\nContent-Disposition: form-data; \
                name=\"file\"; filename=\"f\"\r\n\r\nhello\r\n--b--\r\n";
    let posted = cluster.anonymous();
    posted.post(&bucket).header("content-type", "multipart/form-data; boundary=b").body(form).ok().await;
    s3.put(&format!("{bucket}/copy")).header("x-amz-copy-source", &format!("{bucket}/put")).ok().await;
    let upload = s3.post(&format!("{bucket}/parts?uploads")).ok().await.element("UploadId").expect("an id");
    let mut parts = String::new();
    for (number, bytes) in [(1, PART_BYTES_MIN), (2, 7)] {
        let part = s3.put(&format!("{bucket}/parts?partNumber={number}&uploadId={upload}")).body(content(bytes, 1));
        let etag = part.ok().await.header("etag").expect("a tag").to_owned();
        parts.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
    }
    let complete = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    for _ in 0..2 {
        // Again is no different from once.
        s3.post(&format!("{bucket}/parts?uploadId={upload}")).body(complete.clone()).ok().await;
    }
    s3.put(&format!("{bucket}/put")).header("x-amz-write-offset-bytes", "1").body("yz").ok().await;
    s3.put(&format!("{bucket}/moved?renameObject")).header("x-amz-rename-source", &format!("{bucket}/copy")).ok().await;
    let mut records = shared_webhook().until(&bucket, 7).await;
    records.sort_by_key(|record| record["eventTime"].as_str().map(str::to_owned));
    let mut names: Vec<_> = records.iter().map(told).collect();
    names.sort_unstable();
    let mut expected = [
        ("ObjectCreated:CompleteMultipartUpload", "parts"),
        ("ObjectCreated:Copy", "copy"),
        ("ObjectCreated:Copy", "moved"),
        ("ObjectCreated:Post", "form"),
        ("ObjectCreated:Put", "put"),
        ("ObjectCreated:Put", "put"),
        ("ObjectRemoved:Delete", "copy"),
    ];
    expected.sort_unstable();
    assert_eq!(names, expected);
    let of = |name: &str| records.iter().find(|record| told(record) == (name, "parts")).expect("it was told");
    let whole = &of("ObjectCreated:CompleteMultipartUpload")["s3"]["object"];
    assert_eq!(whole["size"], PART_BYTES_MIN as u64 + 7);
    assert!(whole["eTag"].as_str().is_some_and(|etag| etag.ends_with("-2")), "{whole}");
    let form = records.iter().find(|record| told(record).1 == "form").expect("it was told");
    assert_eq!(form["userIdentity"]["principalId"], "Anonymous");
}

#[tokio::test]
async fn objects_go_and_change() {
    let s3 = shared().await.s3(0);
    let all = ["ObjectRemoved:*", "ObjectTagging:*", "ObjectAcl:Put"];
    let (plain, versioned) = (telling_bucket(&s3, &all, "").await, telling_bucket(&s3, &all, "").await);
    let target = format!("{plain}/k");
    s3.put(&target).body("x").ok().await;
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    s3.put(&format!("{target}?tagging")).body(tags).ok().await;
    s3.delete(&format!("{target}?tagging")).ok().await;
    s3.put(&format!("{target}?acl")).header("x-amz-acl", "public-read").ok().await;
    s3.delete(&target).ok().await;
    s3.delete(&target).ok().await;
    let records = shared_webhook().until(&plain, 4).await;
    let names: Vec<_> = records.iter().map(told).collect();
    let expected = ["ObjectTagging:Put", "ObjectTagging:Delete", "ObjectAcl:Put", "ObjectRemoved:Delete"];
    assert_eq!(names, expected.map(|name| (name, "k")), "in their order, and nothing of what was not there");
    assert!(records.windows(2).all(|pair| sequencer(&pair[0]) < sequencer(&pair[1])), "{records:?}");
    assert_eq!((records[0]["eventVersion"].as_str(), records[3]["eventVersion"].as_str()), (Some("2.3"), Some("2.1")));

    enable_versioning(&s3, &versioned).await;
    let put = s3.put(&format!("{versioned}/k")).body("x").ok().await;
    let version = put.header("x-amz-version-id").expect("a version").to_owned();
    let marker = s3.delete(&format!("{versioned}/k")).ok().await;
    let marker = marker.header("x-amz-version-id").expect("a marker").to_owned();
    for version in [&version, &marker] {
        s3.delete(&format!("{versioned}/k?versionId={version}")).ok().await;
    }
    let many = "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>";
    s3.post(&format!("{versioned}?delete")).body(many).ok().await;
    let records = shared_webhook().until(&versioned, 5).await;
    let versions = |key: &str| {
        let records = records.iter().filter(|record| told(record).1 == key);
        records.map(|record| (told(record).0, record["s3"]["object"]["versionId"].as_str())).collect::<Vec<_>>()
    };
    let expected = [
        ("ObjectRemoved:DeleteMarkerCreated", Some(marker.as_str())),
        ("ObjectRemoved:Delete", Some(version.as_str())),
        ("ObjectRemoved:Delete", Some(marker.as_str())),
    ];
    assert_eq!(versions("k"), expected);
    for key in ["a", "b"] {
        assert!(matches!(versions(key)[..], [("ObjectRemoved:DeleteMarkerCreated", Some(_))]), "{records:?}");
    }
}

#[tokio::test]
async fn filters_choose_the_keys() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let rules = rule(ARN, &["ObjectCreated:Put"], &filter(&[("prefix", "images/"), ("suffix", ".jpg")]))
        + &rule(ARN, &["ObjectCreated:*"], &filter(&[("prefix", "logs/")]));
    tell(&s3, &bucket, &rules).await;
    for key in ["images/a.jpg", "images/a.png", "other/a.jpg", "logs/x", "images/last.jpg"] {
        s3.put(&format!("{bucket}/{key}")).body("x").ok().await;
    }
    let copy = s3.put(&format!("{bucket}/images/copy.jpg"));
    copy.header("x-amz-copy-source", &format!("{bucket}/logs/x")).ok().await;
    s3.put(&format!("{bucket}/logs/copy")).header("x-amz-copy-source", &format!("{bucket}/logs/x")).ok().await;
    let records = shared_webhook().until(&bucket, 4).await;
    let mut keys: Vec<_> = records.iter().map(|record| told(record).1).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["images/a.jpg", "images/last.jpg", "logs/copy", "logs/x"]);
}

#[tokio::test]
async fn writes_through_both_gateways_are_told_in_the_order_of_each_key() {
    let cluster = shared().await;
    let bucket = telling_bucket(&cluster.s3(0), &["ObjectCreated:*", "ObjectRemoved:*"], "").await;
    let writers = [0, 1].map(|gateway| {
        let (s3, bucket) = (cluster.s3(gateway), bucket.clone());
        async move {
            for number in 0..20 {
                let target = format!("{bucket}/{}", number % 4);
                s3.put(&target).body(format!("{gateway} {number}")).ok().await;
            }
        }
    });
    futures::future::join_all(writers).await;
    let records = shared_webhook().until(&bucket, 40).await;
    assert_eq!(records.len(), 40, "nothing is told that was not done");
    for key in ["0", "1", "2", "3"] {
        let of_key: Vec<_> = records.iter().filter(|record| told(record).1 == key).collect();
        assert_eq!(of_key.len(), 10);
        assert!(of_key.windows(2).all(|pair| sequencer(pair[0]) < sequencer(pair[1])), "{of_key:?}");
        let last = cluster.s3(1).get(&format!("{bucket}/{key}")).ok().await;
        let etag = last.header("etag").map(|etag| etag.trim_matches('"').to_owned());
        assert_eq!(of_key[9]["s3"]["object"]["eTag"].as_str().map(str::to_owned), etag, "the last is what is there");
    }
}

/// A small cluster with the webhook `events`, and a bucket whose new objects it is told of.
pub(crate) async fn small_cluster(receiver: &Receiver, spec: Spec) -> (Cluster, String) {
    let webhooks = vec![("events", receiver.url("/hook?key=of-the-url"))];
    let cluster = Cluster::start(Spec { webhooks, ..spec }).await;
    let bucket = telling_bucket(&cluster.s3(0), &["ObjectCreated:*", "ObjectRemoved:*"], "").await;
    (cluster, bucket)
}

pub(crate) fn one_node() -> Spec {
    Spec { nodes: 1, gateways: 1, replication_factor: 1, ..Spec::default() }
}

pub(crate) async fn metric(s3: &S3, name: &str) -> u64 {
    let metrics = s3.get("/-/metrics").ok().await.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("annulus_events_{name} ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {metrics}"))
}

#[tokio::test]
async fn what_a_webhook_refuses_is_told_again_and_nothing_of_it_is_shown() {
    let receiver = Receiver::start();
    let (cluster, bucket) = small_cluster(&receiver, one_node()).await;
    let s3 = cluster.s3(0);
    receiver.answer(500);
    for number in 0..5 {
        s3.put(&format!("{bucket}/k")).body(format!("{number}")).ok().await;
    }
    wait::until("it was tried twice", async || (metric(&s3, "failed_total").await >= 2).then_some(())).await;
    wait::until("all wait", async || (metric(&s3, "pending").await == 5).then_some(())).await;
    assert_eq!(metric(&s3, "delivered_total").await, 0);
    receiver.answer(204);
    let records = receiver.until(&bucket, 5).await;
    assert!(records.windows(2).all(|pair| sequencer(&pair[0]) < sequencer(&pair[1])), "{records:?}");
    wait::until("none waits", async || (metric(&s3, "pending").await == 0).then_some(())).await;
    assert_eq!((metric(&s3, "delivered_total").await, metric(&s3, "dropped_total").await), (5, 0));
    let refused = receiver.posts().into_iter().filter(|post| post.status == 500);
    let first: Vec<_> = refused.map(|post| post.body["Records"][0]["s3"]["object"]["sequencer"].clone()).collect();
    assert!(first.iter().all(|tried| *tried == sequencer(&records[0])), "nothing overtakes the first: {first:?}");
    let configuration = s3.get(&format!("{bucket}?notification")).ok().await.text();
    for text in [s3.get("/-/metrics").ok().await.text(), configuration] {
        assert!(!text.contains("of-the-url") && !text.contains(WEBHOOK_TOKEN), "{text}");
    }
}

#[tokio::test]
async fn a_webhook_that_was_down_is_told_everything_in_order() {
    let receiver = Receiver::start();
    let addr = receiver.addr();
    let (cluster, bucket) = small_cluster(&receiver, one_node()).await;
    let s3 = cluster.s3(0);
    drop(receiver);
    // More than one page.
    for number in 0..150 {
        s3.put(&format!("{bucket}/{}", number % 3)).body(format!("{number}")).ok().await;
    }
    wait::until("all wait", async || (metric(&s3, "pending").await == 150).then_some(())).await;
    let receiver = Receiver::start_at(addr);
    let records = receiver.until(&bucket, 150).await;
    for key in ["0", "1", "2"] {
        let of_key: Vec<_> = records.iter().filter(|record| told(record).1 == key).map(sequencer).collect();
        assert!(of_key.len() == 50 && of_key.is_sorted(), "{of_key:?}");
    }
    wait::until("none waits", async || (metric(&s3, "pending").await == 0).then_some(())).await;
}

#[tokio::test]
async fn events_of_what_is_not_told_any_more_are_dropped() {
    let receiver = Receiver::start();
    let (cluster, bucket) = small_cluster(&receiver, one_node()).await;
    let s3 = cluster.s3(0);
    let deleted = telling_bucket(&s3, &["ObjectCreated:*"], "").await;
    receiver.answer(503);
    for bucket in [&bucket, &deleted] {
        s3.put(&format!("{bucket}/k")).body("x").ok().await;
    }
    wait::until("they wait", async || (metric(&s3, "pending").await == 2).then_some(())).await;
    s3.put(&format!("{bucket}?notification")).body(document("")).ok().await;
    s3.delete(&format!("{deleted}/k")).ok().await;
    s3.delete(&deleted).ok().await;
    receiver.answer(200);
    let last = telling_bucket(&s3, &["ObjectCreated:*"], "").await;
    s3.put(&format!("{last}/k")).body("x").ok().await;
    receiver.until(&last, 1).await;
    wait::until("none waits", async || (metric(&s3, "pending").await == 0).then_some(())).await;
    assert!(receiver.records(&bucket).is_empty() && receiver.records(&deleted).is_empty());
}

#[tokio::test]
async fn events_outlive_the_nodes_that_made_them() {
    let receiver = Receiver::start();
    let (mut cluster, bucket) = small_cluster(&receiver, Spec::default()).await;
    receiver.answer(500);
    let s3 = cluster.s3(0);
    for number in 0..20 {
        s3.put(&format!("{bucket}/{}", number % 5)).body(format!("{number}")).ok().await;
    }
    // One after the other, so that every group has had another leader, and what only memory had is lost.
    for node in 0..3 {
        cluster.kill(node).await;
        let target = format!("{bucket}/while-{node}-is-down");
        wait::until("the others serve", async || {
            s3.put(&target).body("x").try_send().await.ok().filter(|reply| reply.status.is_success())
        })
        .await;
        cluster.restart(node).await;
    }
    receiver.answer(200);
    // Some may come twice.
    let all_are_told = async || {
        let records = receiver.records(&bucket);
        let mut events: Vec<_> = records.iter().map(|record| (told(record).1, sequencer(record))).collect();
        events.sort_unstable();
        events.dedup();
        // A put whose answer was lost with its leader was repeated.
        (events.len() >= 23).then_some(records.clone())
    };
    // It rests for up to a minute after it refused.
    let records = wait::until_within(3 * wait::PATIENCE, "every put is told", all_are_told).await;
    for key in ["0", "1", "2", "3", "4"] {
        let mut of_key: Vec<_> = records.iter().filter(|record| told(record).1 == key).map(sequencer).collect();
        of_key.dedup();
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
}

#[tokio::test]
async fn lifecycle_and_upload_tell_too() {
    let receiver = Receiver::start();
    let spec = Spec { lifecycle_day_seconds: 1, ..one_node() };
    let webhooks = vec![("events", receiver.url("/"))];
    let cluster = Cluster::start(Spec { webhooks, ..spec }).await;
    let s3 = cluster.s3(0);
    let (plain, versioned) = (new_bucket(&s3).await, new_bucket(&s3).await);
    enable_versioning(&s3, &versioned).await;
    let expire = "<LifecycleConfiguration><Rule><ID>x</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>\
                  <Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>";
    for bucket in [&plain, &versioned] {
        tell(&s3, bucket, &rule(ARN, &["LifecycleExpiration:*", "ObjectRemoved:*"], "")).await;
        s3.put(&format!("{bucket}/k")).body("x").ok().await;
        s3.put(&format!("{bucket}?lifecycle")).body(expire).ok().await;
    }
    let gone = &receiver.until(&plain, 1).await[0];
    assert_eq!(told(gone), ("LifecycleExpiration:Delete", "k"));
    assert_eq!(gone["userIdentity"]["principalId"], "s3.amazonaws.com");
    assert_eq!(told(&receiver.until(&versioned, 1).await[0]), ("LifecycleExpiration:DeleteMarkerCreated", "k"));
    let form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nhello\r\n--b--\r\n";
    let upload = async || {
        let post = cluster.anonymous();
        let post = post.post("/upload").header("content-type", "multipart/form-data; boundary=b").body(form);
        post.header("authorization", &format!("Bearer {UPLOAD_TOKEN}")).ok().await
    };
    upload().await;
    tell(&s3, "/uploads", &rule(ARN, &["ObjectCreated:*"], "")).await;
    upload().await;
    let uploaded = &receiver.until("/uploads", 1).await[0];
    assert_eq!(told(uploaded), ("ObjectCreated:Post", "f"));
    assert_eq!(uploaded["userIdentity"]["principalId"], "Anonymous", "whoever has the token is nobody");
    assert_eq!(uploaded["requestParameters"]["sourceIPAddress"], "127.0.0.1");
}

#[tokio::test]
async fn a_webhook_is_there_for_those_accounts_alone_that_may_use_it() {
    let hook = Receiver::start();
    let spec = Spec {
        nodes: 1,
        gateways: 1,
        replication_factor: 1,
        webhooks: vec![("events", hook.url("/")), ("open", hook.url("/"))],
        webhook_accounts: vec![("events", "alt")],
        ..Spec::default()
    };
    let cluster = Cluster::start(spec).await;
    let (s3, alt) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}?notification");
    let rules = document(&rule(ARN, &["ObjectCreated:*"], ""));
    let refused = s3.put(&target).body(rules).refused(400, "InvalidArgument").await;
    let none = rule(&ARN.replace("events", "nobody"), &["ObjectCreated:*"], "");
    let unknown = s3.put(&target).body(document(&none)).refused(400, "InvalidArgument").await;
    assert_eq!(refused.element("Message"), unknown.element("Message"), "others do not learn that it is there");
    tell(&s3, &bucket, &rule("arn:aws:sqs:::open", &["ObjectCreated:*"], "")).await;
    telling_bucket(&alt, &["ObjectCreated:*"], "").await;
}
