//! Quotas while gateways are killed with SIGKILL in the midst of their books: never more is stored than a quota says, and what
//! is left of it can be used to the last byte through another gateway.
//!
//! What is not looked at: nodes that die, which the tests of clusters do, for books and allowances are records like any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use annulus_gateway::admin::model::{NewQuota, QuotaReport};
use annulus_tests::client::S3;
use annulus_tests::processes::Processes;
use annulus_tests::wait;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Servers that live, and gateways that are killed.
const SERVERS: usize = 3;
const DOOMED: [usize; 2] = [SERVERS, SERVERS + 1];

/// Clients at the same time, and the keys for which they race.
const WRITERS: usize = 12;
const KEYS: u32 = 60;

/// Inline, and in a chunk.
const OBJECT_BYTES_MAX: usize = 2_000;
const LARGE_OBJECT_BYTES: usize = 17_000;

/// How long both gateways are in use in each round before the first is killed, and the second.
const LIFE_MS: std::ops::Range<u64> = 50..700;

/// How long a client waits for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// The pause after none came: one that is dead refuses at once.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

fn seeded() -> StdRng {
    let seed = std::env::var("ANNULUS_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("ANNULUS_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// What clients were told in all.
#[derive(Default)]
struct Told {
    written: AtomicUsize,
    refused: AtomicUsize,
    busy: AtomicUsize,
    nothing: AtomicUsize,
}

/// Puts and deletes whatever it likes, through gateways that may die.
async fn write(gateways: Vec<S3>, bucket: String, mut random: StdRng, told: Arc<Told>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let s3 = &gateways[random.random_range(0..gateways.len())];
        let target = format!("{bucket}/{}", random.random_range(0..KEYS));
        let call = match random.random_range(0..10) {
            0..3 => s3.delete(&target),
            3 => s3.put(&target).body(vec![7; LARGE_OBJECT_BYTES]),
            _ => s3.put(&target).body(vec![7; random.random_range(0..OBJECT_BYTES_MAX)]),
        };
        let Ok(reply) = call.try_send_within(ANSWER_WAIT).await else {
            told.nothing.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(RETRY_PAUSE).await;
            continue;
        };
        let counter = match (reply.status.as_u16(), reply.code().as_deref()) {
            (200 | 204, _) => &told.written,
            (403, Some("QuotaExceeded")) => &told.refused,
            (503, _) => &told.busy,
            _ => panic!("{target}: {} {}", reply.status, reply.text()),
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A cluster with a bucket, and what has happened in it.
struct Scene {
    processes: Processes,
    bucket: &'static str,
    random: StdRng,
    told: Arc<Told>,
}

impl Scene {
    async fn start(bucket: &'static str) -> Self {
        let mut processes = Processes::start(SERVERS, 3).await;
        for number in DOOMED {
            assert_eq!(processes.add_gateway(), number);
        }
        processes.start_all();
        processes.until_all_ready().await;
        processes.s3(0).put(bucket).ok().await;
        Self { processes, bucket, random: seeded(), told: Arc::default() }
    }

    async fn report(&self) -> QuotaReport {
        wait::until("a server tells of the quota", async || {
            self.processes.admin(0).get(&format!("/buckets{}/quota", self.bucket)).await.ok()
        })
        .await
    }

    /// Sets the quota through one that is not killed.
    async fn set(&self, new: NewQuota) {
        wait::until("the quota is set", async || {
            let set =
                self.processes.admin(1).post::<QuotaReport>(&format!("/buckets{}/quota", self.bucket), &new).await;
            set.is_ok().then_some(())
        })
        .await;
    }

    /// Lets clients write through both gateways until both were killed, and starts these again. Meanwhile somebody may set
    /// another quota by one of them, which may be in force afterwards or not.
    async fn round(&mut self, new: Option<NewQuota>) {
        let gateways: Vec<S3> = DOOMED.map(|number| self.processes.s3(number)).into();
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let random = StdRng::seed_from_u64(self.random.random());
                let (bucket, told, stop) = (self.bucket.to_owned(), Arc::clone(&self.told), Arc::clone(&stop));
                tokio::spawn(write(gateways.clone(), bucket, random, told, stop))
            })
            .collect();
        for number in DOOMED {
            let setter = new.clone().map(|new| {
                let (admin, path) = (self.processes.admin(number), format!("/buckets{}/quota", self.bucket));
                let pause = Duration::from_millis(self.random.random_range(0..LIFE_MS.end));
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    let _: Result<QuotaReport, _> = admin.post(&path, &new).await;
                })
            });
            tokio::time::sleep(Duration::from_millis(self.random.random_range(LIFE_MS))).await;
            self.processes.server(number).kill();
            if let Some(setter) = setter {
                setter.await.expect("who asks the killed is told so");
            }
        }
        stop.store(true, Ordering::Relaxed);
        for writer in join_all(writers).await {
            writer.expect("every answer is one of those that there may be");
        }
        for number in DOOMED {
            self.processes.server(number).start();
            self.processes.server(number).until_ready().await;
        }
    }

    /// What the bucket holds, when nothing is under way any more: what is listed is what is counted.
    async fn settled(&self) -> QuotaReport {
        wait::until("what is listed is what is counted", async || {
            let listed = self.processes.s3(2).get(&format!("{}?list-type=2", self.bucket)).send().await;
            let report = self.report().await;
            let sizes = listed.elements("Size");
            let bytes: u64 = sizes.iter().map(|size| size.parse::<u64>().expect("a number")).sum();
            (listed.status.is_success() && (sizes.len() as u64, bytes) == (report.used_objects, report.used_bytes))
                .then_some(report)
        })
        .await
    }

    /// Puts through one that was not killed: whether there was room.
    async fn put(&self, target: &str, bytes: usize) -> bool {
        wait::until("a server answers a put", async || {
            let reply = self.processes.s3(0).put(target).body(vec![8; bytes]).try_send().await.ok()?;
            match (reply.status.as_u16(), reply.code().as_deref()) {
                (200, _) => Some(true),
                (403, Some("QuotaExceeded")) => Some(false),
                (503, _) => None,
                _ => panic!("{target}: {} {}", reply.status, reply.text()),
            }
        })
        .await
    }

    /// Nobody is over the quota, and all that is left of it is there for others.
    async fn everything_is_there(&self) {
        let report = self.settled().await;
        let bytes = report.bytes.map_or(0, |bytes| bytes.saturating_sub(report.used_bytes));
        let objects = report.objects.map_or(1, |objects| objects.saturating_sub(report.used_objects));
        for number in 0..objects {
            let all = if number == 0 { bytes } else { 0 };
            let last = format!("{}/last-{number}", self.bucket);
            let expected = report.bytes.is_none_or(|most| report.used_bytes <= most);
            assert_eq!(
                self.put(&last, all as usize).await,
                expected,
                "{number} of {objects}, {bytes} bytes: {report:?}"
            );
        }
        assert!(!self.put(&format!("{}/one-more", self.bucket), 1).await, "{report:?}");
        for number in 0..objects {
            self.processes.s3(1).delete(&format!("{}/last-{number}", self.bucket)).ok().await;
        }
    }

    fn sum_up(&self) {
        let [written, refused, busy, nothing] =
            [&self.told.written, &self.told.refused, &self.told.busy, &self.told.nothing]
                .map(|counter| counter.load(Ordering::Relaxed));
        eprintln!("written {written}, refused {refused}, told to come back {busy}, without an answer {nothing}");
        assert!(written > 0 && refused > 0, "the quota was met");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn gateways_killed_amid_writes_leave_neither_too_much_nor_too_little() {
    let mut scene = Scene::start("/killed").await;
    let quotas = [
        NewQuota { objects: None, bytes: Some(40_000) },
        NewQuota { objects: Some(30), bytes: None },
        NewQuota { objects: Some(25), bytes: Some(30_000) },
    ];
    for new in quotas {
        // A fresh start, so that the quota is never below what is stored.
        for key in 0..KEYS {
            scene.processes.s3(0).delete(&format!("/killed/{key}")).ok().await;
        }
        scene.set(new.clone()).await;
        for _ in 0..4 {
            scene.round(None).await;
            let report = scene.settled().await;
            let most = |most: Option<u64>| most.unwrap_or(u64::MAX);
            let is_within = report.used_objects <= most(new.objects) && report.used_bytes <= most(new.bytes);
            assert!(is_within, "{report:?}");
            scene.everything_is_there().await;
        }
    }
    scene.sum_up();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn gateways_killed_amid_setting_a_quota_leave_it_to_others() {
    let mut scene = Scene::start("/set").await;
    scene.set(NewQuota { objects: None, bytes: Some(40_000) }).await;
    for round in 0..8 {
        let bytes = Some(scene.random.random_range(10_000..60_000));
        // None ends it; what is set next is met by shards that were told so.
        let new = NewQuota { objects: None, bytes: bytes.filter(|_| round % 4 != 3) };
        let before = scene.settled().await;
        scene.round(Some(new.clone())).await;
        let report = scene.settled().await;
        assert!([before.bytes, new.bytes].contains(&report.bytes), "{report:?}: neither the old nor the new");
        if let (Some(most), Some(now)) = (before.bytes.map(|most| most.max(before.used_bytes)), report.bytes) {
            assert!(report.used_bytes <= most.max(now), "{report:?}");
        }
        if report.bytes.is_some() {
            scene.everything_is_there().await;
        }
    }
    scene.sum_up();
}
