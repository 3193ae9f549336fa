//! Quotas and usage by the command line: what people see, what scripts read, and how commands end.

use annulus_tests::cluster::{Cluster, Credentials, shared};
use annulus_tests::processes::annulus;
use serde_json::{Value, json};

use crate::{content, fresh_name, new_bucket};

/// What a command said, and how it ended.
pub(crate) struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs a command of the administrator's at a gateway.
pub(crate) async fn run(cluster: &Cluster, gateway: usize, arguments: &[&str]) -> Ended {
    run_as(cluster, &cluster.root, gateway, arguments).await
}

async fn run_as(cluster: &Cluster, credentials: &Credentials, gateway: usize, arguments: &[&str]) -> Ended {
    let mut command = annulus(&cluster.endpoint(gateway), credentials, arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic there");
    let output = output.expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Ended {
    /// What it printed, when it ended well and without complaints.
    pub(crate) fn well(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.well()).expect("JSON")
    }

    /// The words of each line.
    fn table(self) -> Vec<Vec<String>> {
        let cells = |line: &str| {
            let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
            cells.map(str::to_owned).collect()
        };
        self.well().lines().map(cells).collect()
    }

    /// It ended like that, printed nothing where programs read, and said why in one line.
    fn refused(self, code: i32, reason: &str) {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{}", self.err);
        assert!(self.err.contains(reason), "{reason}: {}", self.err);
        if code == 1 {
            assert!(self.err.starts_with("annulus: ") && self.err.lines().count() == 1, "{}", self.err);
        }
    }
}

/// The rows of a quota's table.
fn rows(objects: [&str; 2], bytes: [&str; 2]) -> Vec<Vec<String>> {
    let rows = [vec!["USED", "QUOTA"], vec!["objects", objects[0], objects[1]], vec!["bytes", bytes[0], bytes[1]]];
    rows.map(|row| row.into_iter().map(str::to_owned).collect()).into()
}

#[tokio::test]
async fn the_quota_of_a_bucket_is_shown_set_changed_and_ended() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let quota = async |gateway: usize, options: &[&str]| {
        run(cluster, gateway, &[&["bucket", "quota", &bucket[1..]][..], options].concat()).await
    };
    assert_eq!(quota(0, &[]).await.table(), rows(["0", "unlimited"], ["0 B", "unlimited"]));
    let told = quota(0, &["--bytes", "10KiB", "--objects", "3"]).await.table();
    assert_eq!(told, rows(["0", "3"], ["0 B", "10.0 KiB"]));
    for key in ["a", "b"] {
        s3.put(&format!("{bucket}/{key}")).body(content(3_072, 1)).ok().await;
    }
    assert_eq!(quota(1, &[]).await.table(), rows(["2", "3"], ["6.0 KiB", "10.0 KiB"]));
    let told = json!({"name": bucket[1..], "objects": 3, "bytes": 10_240, "used_objects": 2, "used_bytes": 6_144});
    assert_eq!(quota(0, &["--json"]).await.json(), told);
    // What is not named stays.
    let told = quota(1, &["--objects", "2", "--json"]).await.json();
    assert_eq!((&told["objects"], &told["bytes"]), (&json!(2), &json!(10_240)));
    s3.put(&format!("{bucket}/c")).refused(403, "QuotaExceeded").await;
    let told = quota(1, &["--objects", "none"]).await.table();
    assert_eq!(told, rows(["2", "unlimited"], ["6.0 KiB", "10.0 KiB"]));
    s3.put(&format!("{bucket}/c")).body(content(4_096, 1)).ok().await;
    s3.put(&format!("{bucket}/d")).body("x").refused(403, "QuotaExceeded").await;
    assert_eq!(quota(0, &["--none"]).await.table(), rows(["3", "unlimited"], ["10.0 KiB", "unlimited"]));
    s3.put(&format!("{bucket}/d")).body("x").ok().await;
    // None at all is a quota.
    assert_eq!(quota(0, &["--bytes", "0"]).await.table(), rows(["4", "unlimited"], ["10.0 KiB", "0 B"]));
    s3.put(&format!("{bucket}/e")).body("x").refused(403, "QuotaExceeded").await;
}

#[tokio::test]
async fn a_quota_below_what_is_stored_takes_nothing_away() {
    let cluster = shared().await;
    let s3 = cluster.s3(1);
    let bucket = new_bucket(&s3).await;
    // So many that some share a shard: what is deleted in one must not grow there again.
    let targets: Vec<String> = (0..40).map(|number| format!("{bucket}/{number}")).collect();
    for target in &targets {
        s3.put(target).body(content(1_024, 1)).ok().await;
    }
    let told = run(cluster, 0, &["bucket", "quota", &bucket[1..], "--bytes", "30KiB"]).await;
    assert_eq!(told.table(), rows(["40", "unlimited"], ["40.0 KiB", "30.0 KiB"]));
    assert_eq!(s3.get(&targets[0]).ok().await.body.len(), 1_024);
    for target in &targets[..10] {
        s3.delete(target).ok().await;
        s3.put(target).body("x").refused(403, "QuotaExceeded").await;
        s3.put(&targets[39]).body(content(1_025, 1)).refused(403, "QuotaExceeded").await;
    }
    s3.delete(&targets[10]).ok().await;
    s3.put(&targets[0]).body(content(1_024, 2)).ok().await;
    let told = run(cluster, 1, &["bucket", "quota", &bucket[1..]]).await;
    assert_eq!(told.table(), rows(["30", "unlimited"], ["30.0 KiB", "30.0 KiB"]));
}

#[tokio::test]
async fn the_quota_of_an_account_is_of_all_its_buckets() {
    let cluster = shared().await;
    let name = fresh_name("holder");
    let holder = cluster.create_account(&name, None).await;
    let s3 = annulus_tests::client::S3::new(&cluster.endpoint(1), &holder.access_key, &holder.secret_key);
    let (first, second) = (new_bucket(&s3).await, new_bucket(&s3).await);
    s3.put(&format!("{first}/k")).body(content(600, 1)).ok().await;
    let told = run(cluster, 0, &["user", "quota", &name, "--bytes", "1kB"]).await;
    assert_eq!(told.table(), rows(["1", "unlimited"], ["600 B", "1000 B"]));
    s3.put(&format!("{second}/k")).body(content(401, 1)).refused(403, "QuotaExceeded").await;
    s3.put(&format!("{second}/k")).body(content(400, 1)).ok().await;
    let told = run(cluster, 1, &["user", "quota", &name, "--json"]).await.json();
    assert_eq!(told, json!({"name": name, "objects": null, "bytes": 1_000, "used_objects": 2, "used_bytes": 1_000}));
    assert_eq!(run(cluster, 0, &["user", "quota", &name, "--none", "--json"]).await.json()["bytes"], Value::Null);
    s3.put(&format!("{second}/more")).body(content(400, 1)).ok().await;
}

#[tokio::test]
async fn what_cannot_be_a_quota_is_refused_and_changes_nothing() {
    let cluster = shared().await;
    let bucket = new_bucket(&cluster.s3(0)).await;
    let name = &bucket[1..];
    run(cluster, 0, &["bucket", "quota", name, "--bytes", "1MiB"]).await.well();
    for size in ["", "ten", "10XB", "-1", "1e9", "99999999PiB", "10 GiB 5"] {
        run(cluster, 0, &["bucket", "quota", name, &format!("--bytes={size}")]).await.refused(2, "--bytes");
    }
    for number in ["", "many", "-1", "1.5", "10GiB", "18446744073709551616"] {
        run(cluster, 0, &["bucket", "quota", name, &format!("--objects={number}")]).await.refused(2, "--objects");
    }
    run(cluster, 0, &["bucket", "quota", name, "--none", "--bytes", "1"]).await.refused(2, "cannot be used with");
    run(cluster, 0, &["bucket", "quota"]).await.refused(2, "<NAME>");
    for options in [&[][..], &["--bytes", "1MiB"], &["--none"], &["--json"]] {
        let of = |kind, name| [&[kind, "quota", name][..], options].concat();
        run(cluster, 0, &of("bucket", "no-such-bucket")).await.refused(1, "no bucket no-such-bucket (NoSuchBucket)");
        run(cluster, 0, &of("user", "no-such-user")).await.refused(1, "(NoSuchUser)");
        run(cluster, 0, &of("bucket", "../users/root")).await.refused(1, "(NoSuchBucket)");
        run_as(cluster, &cluster.alt, 0, &of("bucket", name)).await.refused(1, "(AccessDenied)");
    }
    let nobody = Credentials { secret_key: "not-the-secret-of-the-root".to_owned(), ..cluster.root.clone() };
    run_as(cluster, &nobody, 0, &["bucket", "quota", name]).await.refused(1, "(SignatureDoesNotMatch)");
    assert_eq!(run(cluster, 1, &["bucket", "quota", name, "--json"]).await.json()["bytes"], json!(1 << 20));
}

#[tokio::test]
async fn what_lies_under_a_prefix_is_shown_with_what_is_right_below() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let du = async |options: &[&str]| run(cluster, 1, &[&["bucket", "du", &bucket[1..]][..], options].concat()).await;
    let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
    let heading = || row(["PREFIX", "OBJECTS", "SIZE"]);
    assert_eq!(du(&[]).await.table(), [heading(), row(["(all)", "0", "0 B"])]);
    let deep = [("a/b/c/d/3", 512), ("a/b/c/d/e/4", 512)];
    for (key, bytes) in [("top", 1), ("a/1", 2_048), ("a/b/2", 1_024), ("z/5", 5)].into_iter().chain(deep) {
        s3.put(&format!("{bucket}/{key}")).body(content(bytes, 1)).ok().await;
    }
    let all = [heading(), row(["a/", "4", "4.0 KiB"]), row(["z/", "1", "5 B"]), row(["(all)", "6", "4.0 KiB"])];
    assert_eq!(du(&[]).await.table(), all);
    let below = [heading(), row(["a/b/", "3", "2.0 KiB"]), row(["(all)", "4", "4.0 KiB"])];
    assert_eq!(du(&["--prefix", "a/"]).await.table(), below);
    // Four deep is as deep as it is counted: what is below is in the sum.
    assert_eq!(du(&["--prefix", "a/b/c/d/"]).await.table(), [heading(), row(["(all)", "2", "1.0 KiB"])]);
    assert_eq!(du(&["--prefix", "nothing/"]).await.table(), [heading(), row(["(all)", "0", "0 B"])]);
    let whole = du(&["--prefix", "a/b/", "--json"]).await.json();
    assert_eq!(whole["whole"], json!({"prefix": "a/b/", "objects": 3, "bytes": 2_048}), "{whole}");
    assert_eq!(whole["below"], json!([{"prefix": "a/b/c/", "objects": 2, "bytes": 1_024}]), "{whole}");
    for prefix in ["a", "a/b", "a/b/c/d/e/", "/////"] {
        du(&["--prefix", prefix]).await.refused(1, "(NotCounted)");
    }
    run(cluster, 0, &["bucket", "du", "no-such-bucket"]).await.refused(1, "(NoSuchBucket)");
    run_as(cluster, &cluster.alt, 0, &["bucket", "du", &bucket[1..]]).await.refused(1, "(AccessDenied)");
}

#[tokio::test]
async fn more_prefixes_than_a_page_holds_are_all_shown() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let prefixes: Vec<String> = (0..1_050).map(|number| format!("{number:04}/")).collect();
    for keys in prefixes.chunks(25) {
        futures::future::join_all(keys.iter().map(|prefix| s3.put(&format!("{bucket}/{prefix}k")).body("x").ok()))
            .await;
    }
    let table = run(cluster, 0, &["bucket", "du", &bucket[1..]]).await.table();
    let shown: Vec<&String> = table[1..table.len() - 1].iter().map(|row| &row[0]).collect();
    assert_eq!(shown, prefixes.iter().collect::<Vec<_>>());
    assert_eq!(table.last().expect("the sum"), &["(all)", "1050", "1.0 KiB"]);
}
