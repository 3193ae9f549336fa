//! What operators are promised, with figures: nodes come and go, die, lose their disks and give space back, while real
//! processes serve and everything is verified. Each takes minutes, so `tests/run` leaves these out; `tests/endurance` runs
//! them, all or by name, and they print what they measured.
//!
//! What is not checked: how fast it is. The machine may be shared; bounds on time are in `faults`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use annulus_gateway::admin::client::AdminError;
use annulus_gateway::admin::model::{ClusterStatus, LayoutRequest, PlanReport, StepRequest};
use annulus_tests::client::S3;
use annulus_tests::load::Load;
use annulus_tests::processes::Processes;
use annulus_tests::wait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt;
use futures::stream;
use md5::{Digest, Md5};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How long a move of what these tests hold may take on a busy machine.
const MOVE_PATIENCE: Duration = Duration::from_secs(900);

const KIB: usize = 1 << 10;

/// Numbers that a failed test prints, so that it can be run the same again.
fn seeded() -> StdRng {
    let seed = std::env::var("ANNULUS_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("ANNULUS_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// What the load replaces is collected soon, so that the disk does not fill with it.
const GRACE: (&str, &str) = ("ANNULUS_COLLECT_GRACE_SECONDS", "10");

/// Objects that are written once and never changed: the bytes that are moved.
struct Stock {
    bucket: &'static str,
    count: usize,
    bytes: usize,
}

impl Stock {
    async fn put(self, processes: &Processes) -> Self {
        let s3 = processes.s3(0);
        s3.put(self.bucket).ok().await;
        let puts = stream::iter(0..self.count).map(|number| put(&s3, self.target(number), self.body(number)));
        puts.buffer_unordered(16).collect::<Vec<()>>().await;
        self
    }

    async fn verify(&self, s3: &S3) {
        let gets = stream::iter(0..self.count).map(|number| async move {
            let got = s3.get(&self.target(number)).ok().await;
            assert!(got.body == self.body(number), "{} is not what was written", self.target(number));
        });
        gets.buffer_unordered(16).collect::<Vec<()>>().await;
    }

    fn target(&self, number: usize) -> String {
        format!("{}/stock-{number:06}", self.bucket)
    }

    fn body(&self, number: usize) -> Vec<u8> {
        let line = format!("{}/{number}\n", self.bucket);
        line.bytes().cycle().take(self.bytes).collect()
    }
}

async fn put(s3: &S3, target: String, body: Vec<u8>) {
    wait::until("a put succeeds", async || {
        let reply = s3.put(&target).body(body.clone()).try_send().await.ok()?;
        reply.status.is_success().then_some(())
    })
    .await;
}

/// Runs a command to its end without holding up the others' work, and returns what it wrote.
async fn run(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("nothing panics there");
    let output = output.expect("the command starts");
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {told}{errors}", output.status);
    told.into_owned()
}

async fn take(processes: &Processes, asked: usize, step: StepRequest) {
    wait::until("the layout changes", async || {
        let request = LayoutRequest { step: step.clone(), dry_run: false };
        let outcome: Result<PlanReport, AdminError> = processes.admin(asked).post("/layout", &request).await;
        outcome.ok()
    })
    .await;
}

async fn until_healthy(processes: &Processes, asked: usize) -> ClusterStatus {
    wait::until_within(MOVE_PATIENCE, "the cluster is healthy", async || {
        let status = processes.status(asked).await?;
        (status.healthy && status.is_settled()).then_some(status)
    })
    .await
}

fn assert_sound(processes: &Processes, asked: usize) {
    let (report, sound) = processes.audit(asked);
    let first = report.problems.first();
    assert!(sound && report.below_target == 0, "{} problems, such as {first:?}", report.problems.len());
    eprintln!(
        "audit: {} names, {} of {} copies, none below target",
        report.named, report.copies_expected, report.chunks
    );
}

/// Bytes of chunks that each node holds, in the order of their numbers.
fn held(status: &ClusterStatus) -> Vec<u64> {
    status.nodes.iter().map(|node| node.details.as_ref().map_or(0, |details| details.chunk_bytes)).collect()
}

fn moved(status: &ClusterStatus) -> u64 {
    status.nodes.iter().filter_map(|node| node.details.as_ref()).map(|details| details.moved_bytes).sum()
}

async fn status(processes: &Processes, asked: usize) -> ClusterStatus {
    wait::until("every node answers", async || {
        let status = processes.status(asked).await?;
        status.nodes.iter().all(|node| node.up).then_some(status)
    })
    .await
}

/// No more than a tenth is moved beside what has to be.
fn assert_frugal(what: &str, moved: u64, least: u64) {
    eprintln!(
        "{what}: {} MiB moved, the minimum is {} MiB: {:.3}",
        moved >> 20,
        least >> 20,
        moved as f64 / least as f64
    );
    assert!(moved <= least + least / 10, "{what}: {moved} bytes moved where {least} had to be");
}

/// Waits until every node holds as much as the others, within a twentieth: what was given away is removed in the background,
/// after a while.
async fn until_balanced(what: &str, processes: &Processes, asked: usize) {
    let begun = Instant::now();
    let (held, mean) = wait::until_within(MOVE_PATIENCE, "every node holds as much as the others", async || {
        let held = held(&processes.status(asked).await?);
        let mean = held.iter().sum::<u64>() / held.len() as u64;
        held.iter().all(|bytes| bytes.abs_diff(mean) <= mean / 20).then_some((held, mean))
    })
    .await;
    let held: Vec<u64> = held.iter().map(|bytes| bytes >> 20).collect();
    eprintln!("{what}: {held:?} MiB, {} in the mean, {} s after the move", mean >> 20, begun.elapsed().as_secs());
}

/// `ANNULUS_S3BENCH` names a load generator's binary, which works beside our own load then: s3bench, or what takes the same
/// arguments and ends with 0 when nothing was lost, wrong, or an error.
struct Bench(Option<tokio::task::JoinHandle<String>>);

const BENCH_SECONDS: &str = "360s";
const BENCH_OBJECTS: usize = 800;

impl Bench {
    fn start(processes: &Processes, asked: usize) -> Self {
        let Some(binary) = std::env::var_os("ANNULUS_S3BENCH") else { return Self(None) };
        let mut command = Command::new(binary);
        command
            .args(["run", "--op", "mixed", "--verify", "--size", "256KiB", "--concurrency", "4"])
            .args(["--bucket", "bench", "--objects", &BENCH_OBJECTS.to_string()])
            .args(["--duration", BENCH_SECONDS, "--endpoint", &processes.endpoint(asked), "--keep"])
            .env("AWS_ACCESS_KEY_ID", &processes.root.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &processes.root.secret_key);
        Self(Some(tokio::spawn(run(command))))
    }

    /// Waits until nearly all that it is going to read and replace is there: those bytes have to be moved, too.
    async fn prepared(&self, s3: &S3) {
        wait::until_within(MOVE_PATIENCE, "the load generator has its objects", async || {
            let listed = s3.get("/bench?list-type=2&max-keys=1000").try_send().await.ok()?;
            (self.0.is_none() || listed.elements("Key").len() >= BENCH_OBJECTS * 9 / 10).then_some(())
        })
        .await;
    }

    fn is_running(&self) -> bool {
        self.0.as_ref().is_some_and(|bench| !bench.is_finished())
    }

    async fn end(self) {
        if let Some(bench) = self.0 {
            eprintln!("{}", bench.await.expect("the load generator found nothing wrong"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: tests/endurance"]
async fn for_minutes_three_nodes_become_five_and_three_again_under_load() {
    let mut processes = Processes::start_with(3, 3, &[("ANNULUS_PARTITIONS", "64"), GRACE]).await;
    let stock = Stock { bucket: "/stock", count: 6_000, bytes: 128 * KIB }.put(&processes).await;
    let load = Load::start(&processes, "/load").await;
    let bench = Bench::start(&processes, 2);
    load.progress(200).await;
    bench.prepared(&processes.s3(2)).await;
    for _ in 0..2 {
        let number = processes.add_server();
        processes.server(number).start();
    }
    let before = status(&processes, 2).await;
    let least = held(&before).iter().sum::<u64>() * 2 / 5;
    run(processes.annulus(2, &["node", "add", "node4", "node5", "--wait"])).await;
    let grown = status(&processes, 2).await;
    assert_frugal("3 -> 5", moved(&grown) - moved(&before), least);
    until_balanced("five nodes", &processes, 2).await;
    for name in ["node1", "node2"] {
        let before = status(&processes, 2).await;
        let node = before.nodes.iter().position(|node| node.name == name).expect("it is a member");
        let least = held(&before)[node];
        // Its own count ends with it; it fetches nothing.
        run(processes.annulus(2, &["node", "drain", name, "--wait"])).await;
        let after = status(&processes, 2).await;
        let of_others = |status: &ClusterStatus| {
            let others = status.nodes.iter().filter(|node| node.name != name);
            others.filter_map(|node| node.details.as_ref()).map(|details| details.moved_bytes).sum::<u64>()
        };
        assert_frugal(&format!("{name} drained"), of_others(&after) - of_others(&before), least);
    }
    eprintln!(
        "the load generator {} when the last move was over",
        if bench.is_running() { "ran" } else { "had ended" }
    );
    bench.end().await;
    let history = load.stop().await;
    eprintln!(
        "{} requests of our own load were acknowledged, {} of them writes",
        history.acknowledged(),
        history.written()
    );
    // Nothing is left there that anybody needs.
    processes.server(0).kill();
    processes.server(1).kill();
    until_healthy(&processes, 2).await;
    until_balanced("three nodes", &processes, 2).await;
    for server in 2..5 {
        history.verify(&processes.s3(server)).await;
    }
    stock.verify(&processes.s3(3)).await;
    assert_sound(&processes, 4);
}

/// Deaths in each of the two moves.
const DEATHS: usize = 10;

/// Kills one node after the other, while a move goes on, each at a random moment; every second time the leader of group 0.
async fn deaths_amid(what: &str, processes: &mut Processes, random: &mut StdRng) {
    let mut leaders = 0;
    for death in 0..DEATHS {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
        let asked = random.random_range(0..processes.count());
        let status = wait::until("the status is told", async || processes.status(asked).await).await;
        assert!(!status.is_settled(), "{what} was over after {death} deaths: give it more to move");
        let leader = status.map_group.leader.and_then(|leader| {
            let name = &status.nodes.iter().find(|node| node.id == leader)?.name;
            (0..processes.count()).find(|number| processes.server(*number).name() == name)
        });
        let victim = match leader.filter(|_| death % 2 == 0) {
            Some(leader) => leader,
            None => random.random_range(0..processes.count()),
        };
        leaders += usize::from(Some(victim) == leader);
        processes.server(victim).kill();
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
        processes.server(victim).start();
        processes.server(victim).until_ready().await;
    }
    eprintln!("{DEATHS} deaths amid {what}, {leaders} of them of group 0's leader");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: tests/endurance"]
async fn for_minutes_whoever_dies_in_a_join_or_a_drain_it_goes_on() {
    let mut random = seeded();
    // Slow enough that it lasts for ten deaths.
    let settings = [("ANNULUS_PARTITIONS", "16"), ("ANNULUS_REPAIR_BANDWIDTH", "512KiB"), GRACE];
    let mut processes = Processes::start_with(3, 3, &settings).await;
    let stock = Stock { bucket: "/stock", count: 800, bytes: 128 * KIB }.put(&processes).await;
    let load = Load::start(&processes, "/load").await;
    let new = processes.add_server();
    processes.server(new).start();
    wait::until("it has registered", async || (processes.status(1).await?.nodes.len() == 4).then_some(())).await;
    take(&processes, 1, StepRequest::Add { nodes: vec!["node4".to_owned()] }).await;
    deaths_amid("the join", &mut processes, &mut random).await;
    let begun = Instant::now();
    until_healthy(&processes, 1).await;
    eprintln!("the join was over {} s after the last death", begun.elapsed().as_secs());
    load.progress(50).await;
    take(&processes, 1, StepRequest::Drain { node: "node1".to_owned() }).await;
    deaths_amid("the drain", &mut processes, &mut random).await;
    let begun = Instant::now();
    let drained = wait::until_within(MOVE_PATIENCE, "node1 holds nothing", async || {
        let status = processes.status(1).await?;
        let empty = status.nodes.iter().all(|node| node.name != "node1" || !node.holds_data);
        (status.is_settled() && empty).then_some(status)
    });
    drained.await;
    eprintln!("the drain was over {} s after the last death", begun.elapsed().as_secs());
    take(&processes, 1, StepRequest::Remove { node: "node1".to_owned(), force: false }).await;
    load.progress(50).await;
    let history = load.stop().await;
    processes.server(0).kill();
    until_healthy(&processes, 1).await;
    for server in 1..4 {
        history.verify(&processes.s3(server)).await;
        stock.verify(&processes.s3(server)).await;
    }
    assert_sound(&processes, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: tests/endurance"]
async fn for_minutes_a_wiped_disk_is_filled_by_one_command_and_status_never_claims_too_much() {
    let settings = [("ANNULUS_PARTITIONS", "16"), ("ANNULUS_REPAIR_BANDWIDTH", "4MiB")];
    let mut processes = Processes::start_with(3, 3, &settings).await;
    let stock = Stock { bucket: "/stock", count: 500, bytes: 256 * KIB }.put(&processes).await;
    until_healthy(&processes, 0).await;
    assert_sound(&processes, 0);
    processes.server(1).kill();
    assert!(!processes.status(0).await.expect("two of three answer").healthy);
    assert!(!processes.audit(0).1, "a third of all copies is out of reach");
    processes.server(1).wipe();
    processes.server(1).start();
    let replaced = tokio::spawn(run(processes.annulus(0, &["node", "replace", "node2", "node2"])));
    // Health is asked before each audit: what was claimed must be so.
    let (mut audits, mut claims, mut sound_at) = (0, 0, None);
    let begun = Instant::now();
    let lasted = loop {
        let claimed = processes.status(0).await.expect("the asked one answers");
        let (report, sound) = processes.audit(0);
        audits += 1;
        if claimed.healthy {
            claims += 1;
            assert!(sound && report.below_target == 0, "healthy, and the audit finds {:?}", report.problems.first());
        }
        sound_at = if sound { sound_at.or(Some(begun.elapsed())) } else { None };
        assert!(begun.elapsed() < MOVE_PATIENCE, "it does not become healthy: {:?}", claimed.problems);
        // Two in a row: it stays so.
        if claims == 2 {
            break begun.elapsed();
        }
    };
    replaced.await.expect("the replacement succeeds");
    let sound_at = sound_at.expect("the last audit was sound").as_secs();
    eprintln!("{audits} audits; sound from {sound_at} s on, claimed healthy twice by {} s", lasted.as_secs());
    processes.server(0).kill();
    stock.verify(&processes.s3(1)).await;
}

/// Objects that stay, and those that are deleted.
const REST: usize = 1_000;
const DELETED: usize = 200_000;

/// One of so many is large enough to lie in a chunk.
const LARGE_EVERY: usize = 100;

/// How often each list is timed. The quickest counts: the machine may be shared.
const LISTS: usize = 15;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: tests/endurance"]
async fn for_minutes_what_was_deleted_costs_neither_time_nor_space() {
    let settings = [("ANNULUS_COLLECT_GRACE_SECONDS", "5")];
    let processes = Processes::start_with(3, 3, &settings).await;
    let deleted = std::env::var("ANNULUS_TEST_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(DELETED);
    let s3 = processes.s3(0);
    for bucket in ["/emptied", "/fresh"] {
        s3.put(bucket).ok().await;
    }
    // Every so often one that stays, so that what is deleted lies between them.
    let (stays_every, every) = (deleted / REST, deleted + REST);
    let stays = |number: usize| number.is_multiple_of(stays_every + 1);
    let body = |number: usize| if number.is_multiple_of(LARGE_EVERY) { vec![1; 256 * KIB] } else { vec![2; 100] };
    let key = |number: usize| format!("key-{number:07}");
    let empty = used_bytes(&processes);
    let s3 = &s3;
    let puts = stream::iter(0..every).map(|number| {
        let body = if stays(number) { vec![2; 100] } else { body(number) };
        put(s3, format!("/emptied/{}", key(number)), body)
    });
    puts.buffer_unordered(48).collect::<Vec<()>>().await;
    let rest: Vec<usize> = (0..every).filter(|number| stays(*number)).collect();
    for number in &rest {
        put(s3, format!("/fresh/{}", key(*number)), vec![2; 100]).await;
    }
    let full = used_bytes(&processes);
    let gone: Vec<usize> = (0..every).filter(|number| !stays(*number)).collect();
    for page in gone.chunks(1_000) {
        delete_all(s3, "/emptied", page.iter().map(|number| key(*number))).await;
    }
    let begun = Instant::now();
    let mut quickest = [Duration::MAX; 2];
    for _ in 0..LISTS {
        for (quickest, bucket) in quickest.iter_mut().zip(["/emptied", "/fresh"]) {
            let begun = Instant::now();
            let listed = s3.get(&format!("{bucket}?list-type=2&max-keys=1000")).ok().await.elements("Key");
            *quickest = begun.elapsed().min(*quickest);
            assert_eq!(listed.len(), rest.len().min(1_000), "{bucket}");
        }
    }
    let [emptied, fresh] = quickest;
    eprintln!("{} deleted; a list of {} keys takes {emptied:?}, in a fresh bucket {fresh:?}", gone.len(), rest.len());
    assert!(emptied <= 2 * fresh, "{emptied:?} where a fresh bucket takes {fresh:?}");
    let chunks = |used: &Used| used.chunks.saturating_sub(empty.chunks);
    let emptied = wait::until_within(MOVE_PATIENCE, "the disk space is back", async || {
        let now = used_bytes(&processes);
        tokio::time::sleep(Duration::from_secs(1)).await;
        (chunks(&now) <= chunks(&full) / 20).then_some(now)
    })
    .await;
    eprintln!(
        "chunks: {} -> {} MiB, {} s after the deletes; metadata and logs: {} -> {} MiB",
        chunks(&full) >> 20,
        chunks(&emptied) >> 20,
        begun.elapsed().as_secs(),
        full.metadata >> 20,
        emptied.metadata >> 20
    );
    until_healthy(&processes, 0).await;
    assert_sound(&processes, 0);
}

async fn delete_all(s3: &S3, bucket: &str, keys: impl Iterator<Item = String>) {
    let objects: String = keys.map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
    let body = format!("<Delete><Quiet>true</Quiet>{objects}</Delete>");
    let md5 = BASE64_STANDARD.encode(Md5::digest(&body));
    let reply = s3.post(&format!("{bucket}?delete")).header("content-md5", &md5).body(body).ok().await;
    assert!(reply.elements("Error").is_empty(), "{}", reply.text());
}

/// Blocks of all nodes' files on the disk.
#[derive(Debug)]
struct Used {
    chunks: u64,
    metadata: u64,
}

fn used_bytes(processes: &Processes) -> Used {
    let below =
        |part: &str| (0..processes.count()).map(|number| blocks(&processes.data(number).join("db").join(part))).sum();
    Used { chunks: below("extents"), metadata: below("meta") }
}

/// Files may vanish while they are counted.
fn blocks(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok());
    files.filter(std::fs::Metadata::is_file).map(|file| file.blocks() * 512).sum()
}
