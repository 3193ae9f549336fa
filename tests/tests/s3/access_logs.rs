//! Server access logging: what is configured, who may write where, and the records that requests leave, field by field.

use std::time::{Duration, SystemTime};

use annulus_tests::client::{Call, S3};
use annulus_tests::cluster::{Cluster, Spec, UPLOAD_TOKEN, WEBSITE_DOMAIN, shared};
use annulus_tests::wait;
use http::Method;
use serde_json::json;

use crate::{fresh_name, new_bucket};

fn enabled(target: &str, more: &str) -> String {
    let target = target.trim_start_matches('/');
    format!(
        "<BucketLoggingStatus><LoggingEnabled><TargetBucket>{target}</TargetBucket><TargetPrefix>of/</TargetPrefix>{more}\
         </LoggingEnabled></BucketLoggingStatus>"
    )
}

/// A bucket whose policy takes the logs of its account's buckets below `of/`.
async fn log_bucket(s3: &S3) -> String {
    let bucket = new_bucket(s3).await;
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "logging.s3.amazonaws.com"}, "Action": "s3:PutObject",
        "Resource": format!("arn:aws:s3:::{}/of/*", bucket.trim_start_matches('/')),
    }]});
    s3.put(&format!("{bucket}?policy")).body(policy.to_string()).ok().await;
    bucket
}

/// A bucket with its log bucket.
async fn logged_bucket(s3: &S3) -> (String, String) {
    let (bucket, logs) = (new_bucket(s3).await, log_bucket(s3).await);
    s3.put(&format!("{bucket}?logging")).body(enabled(&logs, "")).ok().await;
    (bucket, logs)
}

/// The fields of all records that were delivered, once there is one that `is_last` knows, and so many in all. A record is made
/// when its reply has left: on several connections, those of earlier requests may come later.
async fn records(s3: &S3, logs: &str, count: usize, is_last: impl Fn(&[String]) -> bool) -> Vec<Vec<String>> {
    wait::until("the access log is delivered", async || {
        let mut records = Vec::new();
        for key in s3.get(&format!("{logs}?list-type=2")).ok().await.elements("Key") {
            let text = s3.get(&format!("{logs}/{key}")).ok().await.text();
            assert!(text.ends_with('\n'));
            records.extend(text.lines().map(fields));
        }
        (records.len() >= count && records.iter().any(|record| is_last(record))).then_some(records)
    })
    .await
}

/// The fields of a record: quotes and brackets hold what has spaces in it.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut rest) = (Vec::new(), line);
    while !rest.is_empty() {
        let end = match rest.as_bytes()[0] {
            b'"' => rest[1..].find('"').expect("a quote ends") + 2,
            b'[' => rest.find(']').expect("a bracket ends") + 1,
            _ => rest.find(' ').unwrap_or(rest.len()),
        };
        fields.push(rest[..end].trim_matches(['"', '[', ']']).to_owned());
        rest = rest[end..].trim_start_matches(' ');
    }
    assert_eq!(fields.len(), 26, "{line}");
    fields
}

/// The only record of that operation and key.
fn one<'a>(records: &'a [Vec<String>], operation: &str, key: &str) -> &'a [String] {
    let found: Vec<_> = records.iter().filter(|record| record[6] == operation && record[7] == key).collect();
    assert_eq!(found.len(), 1, "{operation} {key} in {records:?}");
    found[0]
}

/// The canonical id of a client's account.
async fn id_of(s3: &S3) -> String {
    s3.get("/").ok().await.element("ID").expect("an owner has an id")
}

#[tokio::test]
async fn the_configuration_is_given_back_as_it_was_set() {
    let s3 = shared().await.s3(0);
    let (bucket, logs) = (new_bucket(&s3).await, log_bucket(&s3).await);
    let target = format!("{bucket}?logging");
    assert!(!s3.get(&target).ok().await.text().contains("LoggingEnabled"));
    s3.put(&target).body(enabled(&logs, "")).ok().await;
    let given = s3.get(&target).ok().await;
    assert_eq!(given.element("TargetBucket").as_deref(), Some(logs.trim_start_matches('/')));
    assert_eq!(given.element("TargetPrefix").as_deref(), Some("of/"));
    assert!(given.text().contains("SimplePrefix"), "{}", given.text());
    let id = id_of(&shared().await.alt()).await;
    let more = format!(
        "<TargetGrants><Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\">\
         <ID>{id}</ID></Grantee><Permission>READ</Permission></Grant></TargetGrants><TargetObjectKeyFormat>\
         <PartitionedPrefix><PartitionDateSource>EventTime</PartitionDateSource></PartitionedPrefix></TargetObjectKeyFormat>"
    );
    s3.put(&target).body(enabled(&logs, &more)).ok().await;
    let given = s3.get(&target).ok().await;
    assert_eq!(given.element("PartitionDateSource").as_deref(), Some("EventTime"));
    assert_eq!((given.element("ID"), given.element("Permission").as_deref()), (Some(id), Some("READ")));
    shared().await.alt().get(&target).refused(403, "AccessDenied").await;
    shared().await.alt().put(&target).body("<BucketLoggingStatus/>").refused(403, "AccessDenied").await;
    s3.put(&target).body("<BucketLoggingStatus/>").ok().await;
    assert!(!s3.get(&target).ok().await.text().contains("LoggingEnabled"));
}

#[tokio::test]
async fn a_target_must_be_there_and_let_the_service_in() {
    let s3 = shared().await.s3(0);
    let target = format!("{}?logging", new_bucket(&s3).await);
    let put = async |logs: &str, more: &str| s3.put(&target).body(enabled(logs, more)).send().await.code();
    assert_eq!(put("never-made", "").await.as_deref(), Some("InvalidTargetBucketForLogging"));
    let closed = new_bucket(&s3).await;
    assert_eq!(put(&closed, "").await.as_deref(), Some("AccessDenied"));
    s3.put(&format!("{closed}?acl")).header("x-amz-acl", "log-delivery-write").ok().await;
    assert_eq!(put(&closed, "").await, None, "its list lets the service in");
    let logs = log_bucket(&s3).await;
    for (more, code) in [
        ("<TargetObjectKeyFormat><SimplePrefix/><PartitionedPrefix/></TargetObjectKeyFormat>", "MalformedXML"),
        (
            "<TargetObjectKeyFormat><PartitionedPrefix><PartitionDateSource>Noon</PartitionDateSource>\
             </PartitionedPrefix></TargetObjectKeyFormat>",
            "MalformedXML",
        ),
        ("<LoggingType>Journal</LoggingType>", "MalformedXML"),
    ] {
        assert_eq!(put(&logs, more).await.as_deref(), Some(code), "{more}");
    }
    let payer = "<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>";
    s3.put(&format!("{logs}?requestPayment")).body(payer).ok().await;
    assert_eq!(put(&logs, "").await.as_deref(), Some("InvalidTargetBucketForLogging"));
    assert_eq!(s3.get(&target).ok().await.element("TargetBucket").as_deref(), Some(closed.trim_start_matches('/')));
}

#[tokio::test]
async fn a_record_says_who_asked_what_and_what_became_of_it() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let (bucket, logs) = logged_bucket(&s3).await;
    let (name, id) = (bucket.trim_start_matches('/'), id_of(&s3).await);
    let key = format!("{bucket}/a%20b");
    s3.put(&key).body("hello").ok().await;
    let read = s3.get(&format!("{key}?versionId=null&x-note=1")).header("range", "bytes=1-2");
    let read = read.header("referer", "http://x/\"y\"").header("user-agent", "tests 1.0").ok().await;
    cluster.anonymous().get(&key).refused(403, "AccessDenied").await;
    s3.head(&format!("{bucket}/none")).send().await;
    s3.get(&format!("{bucket}?list-type=2")).ok().await;
    s3.delete(&format!("{bucket}/last")).ok().await;
    let records = records(&s3, &logs, 6, |record| record[7] == "last").await;

    let put = one(&records, "REST.PUT.OBJECT", "a%20b");
    assert_eq!((&put[0], put[1].as_str(), &put[4]), (&id, name, &id));
    assert!(put[2].ends_with("+0000") && put[2].len() == "06/Feb/2019:00:00:38 +0000".len(), "{}", put[2]);
    assert_eq!((put[8].as_str(), put[9].as_str()), (format!("PUT {key} HTTP/1.1").as_str(), "200"));
    assert_eq!((put[10].as_str(), put[11].as_str(), put[12].as_str()), ("-", "-", "5"));
    assert!(put[13].parse::<u64>().expect("a time") >= put[14].parse::<u64>().expect("a time"), "{put:?}");
    assert_eq!((put[3].as_str(), put[19].as_str(), put[21].as_str()), ("127.0.0.1", "SigV4", "AuthHeader"));
    assert_eq!((put[22].as_str(), put[25].as_str()), (cluster.addr(0).to_string().as_str(), "-"));

    let get = |status: &str| {
        let found = records.iter().find(|record| record[6] == "REST.GET.OBJECT" && record[9] == status);
        found.unwrap_or_else(|| panic!("none with {status}: {records:?}"))
    };
    let (ours, theirs) = (get("206"), get("403"));
    assert_eq!((ours[11].as_str(), ours[12].as_str()), ("2", "5"));
    assert_eq!((ours[15].as_str(), ours[16].as_str(), ours[17].as_str()), ("http://x/%22y%22", "tests 1.0", "null"));
    assert_eq!(Some(ours[5].as_str()), read.header("x-amz-request-id"));
    assert_eq!(Some(ours[18].as_str()), read.header("x-amz-id-2"));
    assert!(ours[8].contains("x-note=1"), "what clients add stays in the address: {}", ours[8]);
    assert_eq!((theirs[4].as_str(), theirs[10].as_str()), ("-", "AccessDenied"));
    assert_eq!((theirs[19].as_str(), theirs[21].as_str()), ("-", "-"));

    let head = one(&records, "REST.HEAD.OBJECT", "none");
    assert_eq!((head[9].as_str(), head[10].as_str(), head[11].as_str()), ("404", "NoSuchKey", "-"));
    assert_eq!(one(&records, "REST.GET.BUCKET", "-")[9], "200");
    assert!(records.iter().all(|record| record[6] != "REST.PUT.LOGGING_STATUS"), "it was not in force yet");
}

#[tokio::test]
async fn copies_deletions_pages_and_lists_leave_their_own_records() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let (bucket, logs) = logged_bucket(&s3).await;
    let elsewhere = new_bucket(&s3).await;
    for key in ["a", "b", "index.html"] {
        s3.put(&format!("{bucket}/{key}")).header("x-amz-acl", "public-read").body("hello").ok().await;
    }
    s3.put(&format!("{elsewhere}/copy")).header("x-amz-copy-source", &format!("{bucket}/a")).ok().await;
    cluster.anonymous().get(&format!("{bucket}/b")).ok().await;
    let website =
        "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument></WebsiteConfiguration>";
    s3.put(&format!("{bucket}?website")).body(website).ok().await;
    let host = format!("{}.{WEBSITE_DOMAIN}", bucket.trim_start_matches('/'));
    let pages = S3::anonymous(&cluster.endpoint(0)).at_host(&host);
    pages.get("/index.html").ok().await;
    pages.get("/none").send().await;
    let keys = "<Delete><Object><Key>a</Key></Object><Object><Key>b c</Key></Object></Delete>";
    s3.post(&format!("{bucket}?delete")).body(keys).ok().await;
    s3.delete(&format!("{bucket}/last")).ok().await;
    let records = records(&s3, &logs, 12, |record| record[7] == "last").await;
    assert!(records.iter().all(|record| record[1] == bucket.trim_start_matches('/')));
    let source = one(&records, "REST.COPY.OBJECT_GET", "a");
    assert!(source[8].starts_with(&format!("PUT {elsewhere}/copy")), "{source:?}");
    let by_list = one(&records, "REST.GET.OBJECT", "b");
    assert_eq!((by_list[4].as_str(), by_list[25].as_str()), ("-", "Yes"));
    assert_eq!(one(&records, "WEBSITE.GET.OBJECT", "index.html")[9], "200");
    assert_eq!(one(&records, "WEBSITE.GET.OBJECT", "none")[10], "AccessDenied");
    assert_eq!(one(&records, "REST.POST.MULTI_OBJECT_DELETE", "-")[9], "200");
    for key in ["a", "b%20c"] {
        let deleted = one(&records, "BATCH.DELETE.OBJECT", key);
        assert_eq!((deleted[8].as_str(), deleted[9].as_str(), deleted[10].as_str()), ("-", "204", "-"));
    }
}

#[tokio::test]
async fn objects_of_logs_lie_where_they_should_and_are_whose_they_should_be() {
    let cluster = shared().await;
    let (s3, alt) = (cluster.s3(0), cluster.alt());
    let logs = log_bucket(&s3).await;
    let bucket = new_bucket(&alt).await;
    let alt_id = id_of(&alt).await;
    let target = format!("{bucket}?logging");
    alt.put(&target).body(enabled(&logs, "")).refused(403, "AccessDenied").await;
    let granting = new_bucket(&s3).await;
    s3.put(&format!("{granting}?acl")).header("x-amz-acl", "log-delivery-write").ok().await;
    alt.put(&target).body(enabled(&granting, "")).refused(403, "AccessDenied").await;
    let of_alt = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "logging.s3.amazonaws.com"}, "Action": "s3:PutObject",
        "Resource": format!("arn:aws:s3:::{}/of/*", logs.trim_start_matches('/')),
        "Condition": {"StringEquals": {"aws:SourceAccount": alt_id}},
    }]});
    s3.put(&format!("{logs}?policy")).body(of_alt.to_string()).ok().await;
    let more = format!(
        "<TargetGrants><Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\">\
         <ID>{alt_id}</ID></Grantee><Permission>READ</Permission></Grant></TargetGrants>\
         <TargetObjectKeyFormat><PartitionedPrefix/></TargetObjectKeyFormat>"
    );
    alt.put(&target).body(enabled(&logs, &more)).ok().await;
    alt.put(&format!("{bucket}/last")).body("x").ok().await;
    records(&s3, &logs, 1, |record| record[7] == "last").await;
    let key = s3.get(&format!("{logs}?list-type=2")).ok().await.element("Key").expect("a log");
    let partition = format!("of/{alt_id}/us-east-1{bucket}/");
    let rest = key.strip_prefix(&partition).unwrap_or_else(|| panic!("{key} begins with {partition}"));
    let parts: Vec<&str> = rest.split('/').collect();
    assert_eq!(parts.len(), 4, "{rest}");
    let day = parts[..3].join("-");
    assert!(parts[3].starts_with(&day) && parts[3].len() == "YYYY-MM-DD-hh-mm-ss-".len() + 16, "{rest}");
    alt.get(&format!("{logs}/{key}")).ok().await;
    let acl = s3.get(&format!("{logs}/{key}?acl")).ok().await;
    let mut grants = acl.elements("Permission");
    grants.sort();
    assert_eq!(grants, ["FULL_CONTROL", "READ"]);
    assert!(acl.text().contains(&id_of(&s3).await), "the log bucket's owner owns it");
}

#[tokio::test]
async fn keys_of_clients_are_not_written_down() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let (bucket, logs) = logged_bucket(&s3).await;
    let key = "x-amz-server-side-encryption-customer-key";
    let target = format!("{bucket}/k?{key}=c2VjcmV0&x-id=PutObject");
    let url = s3.presign(&Method::PUT, &target, SystemTime::now(), Duration::from_secs(60));
    let put = cluster.anonymous().put(&url).body("x").refused(501, "NotImplemented").await;
    assert!(!put.text().contains("c2VjcmV0"), "{}", put.text());
    let records = records(&s3, &logs, 1, |record| record[7] == "k").await;
    let uri = &one(&records, "REST.PUT.OBJECT", "k")[8];
    assert!(uri.contains(&format!("{key}=REDACTED&")) && uri.contains("x-id=PutObject"), "{uri}");
}

const EXPIRE: &str = "<LifecycleConfiguration><Rule><ID>x</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>\
                      <Expiration><Days>1</Days></Expiration><AbortIncompleteMultipartUpload><DaysAfterInitiation>1\
                      </DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>";

#[tokio::test]
async fn what_lifecycle_rules_do_is_recorded() {
    let spec = Spec { nodes: 1, gateways: 1, replication_factor: 1, lifecycle_day_seconds: 1, ..Spec::default() };
    let cluster = Cluster::start(spec).await;
    let s3 = cluster.s3(0);
    let (plain, logs) = logged_bucket(&s3).await;
    let versioned = new_bucket(&s3).await;
    s3.put(&format!("{versioned}?logging")).body(enabled(&logs, "")).ok().await;
    let keeps = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    s3.put(&format!("{versioned}?versioning")).body(keeps).ok().await;
    s3.put(&format!("{plain}/a%20b")).body("x").ok().await;
    s3.post(&format!("{plain}/parts?uploads")).ok().await;
    s3.put(&format!("{versioned}/k")).body("x").ok().await;
    for bucket in [&plain, &versioned] {
        s3.put(&format!("{bucket}?lifecycle")).body(EXPIRE).ok().await;
    }
    for (bucket, operation, key) in [
        (&plain, "S3.EXPIRE.OBJECT", "a%20b"),
        (&plain, "S3.DELETE.UPLOAD", "parts"),
        (&versioned, "S3.CREATE.DELETEMARKER", "k"),
    ] {
        let records = records(&s3, &logs, 1, |record| record[6] == operation).await;
        let record = one(&records, operation, key);
        assert_eq!((record[1].as_str(), record[4].as_str()), (bucket.trim_start_matches('/'), "AmazonS3"));
        assert_eq!((record[0].as_str(), record[3].as_str()), (id_of(&s3).await.as_str(), "-"));
        assert_eq!((record[8].as_str(), record[9].as_str(), record[19].as_str()), ("-", "-", "-"));
        assert_eq!(record[17] != "-", operation == "S3.CREATE.DELETEMARKER", "a marker has a version: {record:?}");
    }
}

fn post_files(client: &S3, files: String) -> Call<'_> {
    let call = client.post("/upload").header("content-type", "multipart/form-data; boundary=b");
    call.body(files + "--b--\r\n")
}

#[tokio::test]
async fn what_comes_and_goes_by_upload_is_recorded() {
    let spec = Spec { nodes: 1, gateways: 1, replication_factor: 1, ..Spec::default() };
    let cluster = Cluster::start(spec).await;
    let (s3, anonymous) = (cluster.s3(0), cluster.anonymous());
    s3.put("/uploads").ok().await;
    let logs = log_bucket(&s3).await;
    s3.put("/uploads?logging").body(enabled(&logs, "")).ok().await;
    let file = |name: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\nhello\r\n")
    };
    let token = format!("Bearer {UPLOAD_TOKEN}");
    post_files(&anonymous, file("one") + &file("two")).header("authorization", &token).ok().await;
    post_files(&anonymous, file("three")).send().await;
    anonymous.get("/upload/one").header("authorization", &token).ok().await;
    s3.get("/upload/none").send().await;
    s3.get("/upload/two").ok().await;
    let records = records(&s3, &logs, 6, |record| record[6] == "REST.GET.OBJECT" && record[7] == "two").await;
    for key in ["one", "two"] {
        let stored = one(&records, "REST.POST.OBJECT", key);
        assert_eq!((stored[1].as_str(), stored[4].as_str(), stored[9].as_str()), ("uploads", "-", "200"));
        assert_eq!((stored[8].as_str(), stored[12].as_str()), ("POST /upload HTTP/1.1", "5"));
    }
    let refused = one(&records, "REST.POST.OBJECT", "-");
    assert_eq!((refused[9].as_str(), refused[10].as_str()), ("401", "AccessDenied"));
    let missing = one(&records, "REST.GET.OBJECT", "none");
    assert_eq!((missing[9].as_str(), missing[10].as_str()), ("404", "NoSuchFile"));
    let read = one(&records, "REST.GET.OBJECT", "two");
    assert_eq!((read[4].as_str(), read[11].as_str(), read[12].as_str()), (id_of(&s3).await.as_str(), "5", "5"));
    assert_eq!((read[19].as_str(), read[21].as_str()), ("SigV4", "AuthHeader"));
    assert_eq!(one(&records, "REST.GET.OBJECT", "one")[4], "-", "whoever has the token is nobody");
}

#[tokio::test]
async fn a_target_that_closes_takes_no_more_records() {
    let s3 = shared().await.s3(0);
    let (bucket, logs) = logged_bucket(&s3).await;
    s3.put(&format!("{bucket}/seen")).body("x").ok().await;
    records(&s3, &logs, 1, |record| record[7] == "seen").await;
    let dropped = async || {
        let metrics = s3.get("/-/metrics").send().await.text();
        let mut lines = metrics.lines();
        let count = lines.find_map(|line| line.strip_prefix("annulus_access_log_dropped_total "));
        count.expect("it is counted").parse::<u64>().expect("a number")
    };
    let before = dropped().await;
    s3.delete(&format!("{logs}?policy")).ok().await;
    s3.put(&format!("{bucket}/unseen")).body("x").ok().await;
    wait::until("the record is dropped", async || (dropped().await > before).then_some(())).await;
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "logging.s3.amazonaws.com"}, "Action": "s3:PutObject",
        "Resource": format!("arn:aws:s3:::{}/*", logs.trim_start_matches('/')),
        "Condition": {"ArnLike": {"aws:SourceArn": format!("arn:aws:s3:::{}", bucket.trim_start_matches('/'))}},
    }]});
    s3.put(&format!("{logs}?policy")).body(policy.to_string()).ok().await;
    let other = format!("/{}", fresh_name("other"));
    s3.put(&other).ok().await;
    s3.put(&format!("{other}?logging")).body(enabled(&logs, "")).refused(403, "AccessDenied").await;
    s3.put(&format!("{bucket}/again")).body("x").ok().await;
    let records = records(&s3, &logs, 1, |record| record[7] == "again").await;
    assert!(records.iter().all(|record| record[7] != "unseen"), "{records:?}");
}
