//! What goes wrong in a machine room, done to real processes: killed at random, frozen, a bit of a file flipped. Nothing
//! acknowledged is lost, and nothing that was not written is ever answered.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annulus_tests::client::S3;
use annulus_tests::load::Load;
use annulus_tests::processes::Processes;
use annulus_tests::wait;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const NODES: usize = 3;

/// Puts and deletes that must be acknowledged, and how many between two deaths at least. `ANNULUS_TEST_STEPS` asks for more in
/// all; deaths are not more than so many then.
const WRITES: usize = 360;
const WRITES_PER_ROUND: usize = 36;
const DEATHS_MAX: usize = 200;

/// How long writes may fail after a death, and how long reads may take while a node is frozen.
const WRITES_BACK_MAX: Duration = Duration::from_secs(3);
const READ_P99_MAX: Duration = Duration::from_secs(3);

/// Numbers that a failed test prints, so that it can be run the same again.
fn seeded() -> StdRng {
    let seed = std::env::var("ANNULUS_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("ANNULUS_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn nodes_that_are_killed_at_random_lose_nothing() {
    let mut random = seeded();
    let steps = std::env::var("ANNULUS_TEST_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(WRITES);
    // What is replaced is collected soon: collection is killed in its midst, too, and the disk holds the longest run.
    let mut processes = Processes::start_with(NODES, 3, &[("ANNULUS_COLLECT_GRACE_SECONDS", "5")]).await;
    let load = Load::start(&processes, "/killed").await;
    let writes_per_round = WRITES_PER_ROUND.max(steps / DEATHS_MAX);
    let mut deaths = 0;
    while load.written() < steps {
        let victim = random.random_range(0..NODES);
        processes.server(victim).kill();
        deaths += 1;
        let goal = load.written() + writes_per_round;
        wait::until_within(wait::PATIENCE * 4, "writes go on", async || (load.written() >= goal).then_some(())).await;
        processes.server(victim).start();
        processes.server(victim).until_ready().await;
    }
    // Then all at once, amid what they do.
    load.tell_to_stop();
    processes.kill_all();
    let history = load.stop().await;
    processes.start_all();
    processes.until_all_ready().await;
    history.settle(&processes.s3(0)).await;
    processes.verify(&history).await;
    processes.until_healthy(0).await;
    let (written, acknowledged) = (history.written(), history.acknowledged());
    eprintln!(
        "{written} writes and {} reads, {deaths} deaths and one of all: none lost, none wrong",
        acknowledged - written
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn writes_succeed_again_within_seconds_of_a_death() {
    let mut processes = Processes::start(NODES, 3).await;
    processes.s3(0).put("/soon").ok().await;
    let load = Load::start(&processes, "/load").await;
    let mut took = Vec::new();
    for victim in 0..NODES {
        load.progress(60).await;
        let survivors: Vec<S3> = (1..NODES).map(|other| processes.s3((victim + other) % NODES)).collect();
        processes.server(victim).kill();
        let died = Instant::now();
        // Keys of all partitions: each has a leader again.
        let puts = (0..64).map(|key| {
            let survivor = &survivors[key % survivors.len()];
            async move {
                put_soon(survivor, &format!("/soon/{key}")).await;
                died.elapsed()
            }
        });
        let longest = join_all(puts).await.into_iter().max().expect("there are puts");
        eprintln!("64 keys could be written {longest:?} after a node died");
        took.push(longest);
        processes.server(victim).start();
        processes.server(victim).until_ready().await;
        processes.until_healthy(victim).await;
    }
    // An election in which two candidates tie takes another turn.
    took.sort_unstable();
    assert!(took[NODES / 2] < WRITES_BACK_MAX, "{took:?} until all keys could be written");
    let history = load.stop().await;
    processes.verify(&history).await;
}

/// Puts as SDKs do: again while the leaders of a dead node are elected anew.
async fn put_soon(s3: &S3, target: &str) {
    wait::until("a put succeeds with two of three", async || {
        let reply = s3.put(target).body("x").try_send_within(WRITES_BACK_MAX).await.ok()?;
        reply.status.is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn reads_do_not_wait_for_a_frozen_node() {
    let mut processes = Processes::start(NODES, 3).await;
    let s3 = processes.s3(0);
    s3.put("/hedged").ok().await;
    for key in 0..READ_KEYS {
        s3.put(&format!("/hedged/{key}")).body(vec![key as u8; 100_000]).ok().await;
    }
    processes.until_healthy(0).await;
    let mut p99s = Vec::new();
    for victim in 0..NODES {
        let survivors: Vec<S3> = (1..NODES).map(|other| processes.s3((victim + other) % NODES)).collect();
        processes.server(victim).freeze();
        let frozen = Instant::now();
        let readers = (0..8).map(|reader| read_until(&survivors[reader % 2], reader, frozen + Duration::from_secs(15)));
        let mut took: Vec<Duration> = join_all(readers).await.into_iter().flatten().collect();
        took.sort_unstable();
        let p99 = took[took.len() * 99 / 100];
        eprintln!("{} reads beside a frozen node: p99 {p99:?}, longest {:?}", took.len(), took[took.len() - 1]);
        p99s.push(p99);
        processes.server(victim).thaw();
        processes.until_healthy((victim + 1) % NODES).await;
    }
    p99s.sort_unstable();
    assert!(p99s[NODES / 2] < READ_P99_MAX, "{p99s:?} for one in a hundred reads");
}

const READ_KEYS: usize = 64;

/// Reads one key after the other, and tells how long each took, with what had to be tried again.
async fn read_until(s3: &S3, reader: usize, end: Instant) -> Vec<Duration> {
    let mut took = Vec::new();
    for key in (0..READ_KEYS).cycle().skip(reader * 8) {
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        let got = wait::until("a read succeeds", async || {
            let reply = s3.get(&format!("/hedged/{key}")).try_send().await.ok()?;
            reply.status.is_success().then_some(reply)
        });
        assert!(got.await.body == vec![key as u8; 100_000], "key {key}");
        took.push(begun.elapsed());
    }
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn a_frozen_node_holds_nobody_up_for_long() {
    let mut processes = Processes::start(NODES, 3).await;
    let load = Load::start(&processes, "/frozen").await;
    load.progress(60).await;
    for victim in 0..NODES {
        processes.server(victim).freeze();
        load.progress(60).await;
        processes.server(victim).thaw();
        processes.until_healthy((victim + 1) % NODES).await;
    }
    let history = load.stop().await;
    processes.verify(&history).await;
}

/// What became of a node one of whose files was damaged.
#[derive(Debug)]
enum Outcome {
    /// It serves, and nothing that it answers is wrong.
    Serves,
    /// It ended by itself, and its log says why and what to do.
    Stopped,
}

/// Everything is read all the time, and what clients replace is soon forgotten.
const SCRUBBING: [(&str, &str); 2] = [("ANNULUS_SCRUB_INTERVAL_DAYS", "0"), ("ANNULUS_COLLECT_GRACE_SECONDS", "5")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn a_flipped_byte_in_any_file_of_a_node_is_never_served_and_is_repaired() {
    let mut random = seeded();
    let mut processes = Processes::start_with(NODES, 3, &SCRUBBING).await;
    let load = Load::start_gently(&processes, "/flipped").await;
    load.progress(100).await;
    let victim = NODES - 1;
    let data = processes.server(victim).data();
    wait::until("files of every kind are there", async || (kinds_of_files(&data).len() >= KINDS).then_some(())).await;
    for kind in kinds_of_files(&data).into_keys() {
        let logged = processes.server(victim).log().len();
        let (file, at) = flip_one_of(&data, &kind, &mut random).await;
        if is_read_at_the_start_alone(&kind) {
            processes.server(victim).kill();
            processes.server(victim).start();
        }
        let outcome = outcome_of(&mut processes, victim).await;
        eprintln!("{kind}: byte {at} of {} flipped: {outcome:?}", file.display());
        if let Outcome::Stopped = outcome {
            let log = processes.server(victim).log()[logged..].to_owned();
            let directory = file.parent().expect("a file lies in a directory").to_string_lossy().into_owned();
            let says_it = log.contains(&directory) && log.contains("move this data directory away");
            assert!(says_it, "{} was damaged, and neither that nor the way out is said:\n{log}", file.display());
            replace(&mut processes, victim).await;
        }
        load.progress(20).await;
    }
    let history = load.stop().await;
    processes.verify(&history).await;
    processes.until_healthy(0).await;
    // Leaders that are handed back meanwhile are missed for a moment.
    wait::until("the audit finds nothing", async || processes.audit(0).1.then_some(())).await;
}

/// Kinds of files that a node has at least: of each of its two databases CURRENT, IDENTITY, MANIFEST, OPTIONS, a log and tables, the
/// metadata's values, extents and whose they are.
const KINDS: usize = 15;

/// What scrubs find as little as requests: the node is started again to read it.
fn is_read_at_the_start_alone(kind: &str) -> bool {
    [".log", "IDENTITY", "OPTIONS-", "owner"].iter().any(|end| kind.ends_with(end))
}

/// Flips a bit of the largest file of a kind. The node runs meanwhile: such a file may have yet to come, or go when it is opened.
async fn flip_one_of(data: &Path, kind: &str, random: &mut StdRng) -> (PathBuf, u64) {
    let seed = random.random();
    wait::until(&format!("a file of the kind {kind} is damaged"), async || {
        let file = kinds_of_files(data).remove(kind)?;
        let at = flip(&data.join(&file), &mut StdRng::seed_from_u64(seed)).ok()?;
        Some((file, at))
    })
    .await
}

/// Has everything read, again and again, until nothing is wrong with it any more or the node has ended: what the audit finds, scrubs
/// find too.
async fn outcome_of(processes: &mut Processes, victim: usize) -> Outcome {
    let begun = Instant::now();
    loop {
        let (report, sound) = processes.audit((victim + 1) % NODES);
        if processes.server(victim).exit_status().is_some() {
            return Outcome::Stopped;
        }
        if sound {
            return Outcome::Serves;
        }
        assert!(begun.elapsed() < 2 * wait::PATIENCE, "the node neither mends it nor ends: {:?}", report.problems);
    }
}

/// What the node says to do: it is filled anew.
async fn replace(processes: &mut Processes, victim: usize) {
    processes.server(victim).kill();
    processes.server(victim).wipe();
    processes.server(victim).start();
    let name = processes.server(victim).name().to_owned();
    let other = (victim + 1) % NODES;
    let can_decide = async || {
        let status = processes.status(other).await?;
        (status.map_group.in_sync.len() >= 2 && status.redundancy.partitions_unavailable == 0).then_some(())
    };
    wait::until("the others go on without it", can_decide).await;
    let command = ["node", "replace", &name, &name, "--wait"];
    let replaced = processes.annulus(other, &command).output().expect("it starts");
    assert!(replaced.status.success(), "{}", String::from_utf8_lossy(&replaced.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn a_scrub_finds_what_rots_beneath_what_is_in_memory() {
    let mut processes = Processes::start_with(NODES, 3, &SCRUBBING).await;
    let s3 = processes.s3(0);
    s3.put("/hot").ok().await;
    for number in 0..HOT {
        s3.put(&format!("/hot/{number}")).body(vec![number as u8; 500]).ok().await;
    }
    read_hot(&processes, 0).await;
    let victim = NODES - 1;
    let tables = processes.data(victim).join("db/meta");
    // Scrubs write to the disk what was only in memory.
    let table = wait::until("there is a table", async || {
        let (_, table) = kinds_of_files(&tables).into_iter().find(|(kind, _)| kind.ends_with(".sst"))?;
        (fs::metadata(tables.join(&table)).ok()?.len() > 10_000).then_some(table)
    })
    .await;
    read_hot(&processes, victim).await;
    // In its first block.
    flip_at(&tables.join(&table), 100, 1).expect("the table is still there");
    read_hot(&processes, 0).await;
    processes.server(victim).until_ended().await;
    let log = processes.server(victim).log();
    let named = format!("db/meta/{}", table.display());
    assert!(log.contains(&named) && log.contains("move this data directory away"), "{named} is not named:\n{log}");
    read_hot(&processes, 0).await;
}

const HOT: usize = 100;

async fn read_hot(processes: &Processes, server: usize) {
    let s3 = processes.s3(server);
    for number in 0..HOT {
        let target = format!("/hot/{number}");
        // Leaders of a node that ends are elected anew.
        let read = wait::until("a read succeeds", async || {
            let reply = s3.get(&target).try_send().await.ok()?;
            reply.status.is_success().then_some(reply)
        });
        assert!(read.await.body == vec![number as u8; 500], "{target} from server {server}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn a_flipped_byte_of_a_chunk_is_never_served_and_is_mended() {
    let mut random = seeded();
    let mut processes = Processes::start(NODES, 3).await;
    let s3 = processes.s3(0);
    s3.put("/rot").ok().await;
    let body = |number: usize| vec![number as u8; 2 << 20];
    for number in 0..64 {
        s3.put(&format!("/rot/{number}")).body(body(number)).ok().await;
    }
    processes.until_healthy(0).await;
    let report = wait::until("the audit finds nothing", async || {
        let (report, sound) = processes.audit(0);
        sound.then_some(report)
    })
    .await;
    assert!(report.sound && report.below_target == 0, "{:?}", report.problems);
    assert_eq!((report.named, report.chunks, report.copies_expected), (64, 64, 192));
    let load = Load::start(&processes, "/beside").await;
    load.progress(50).await;
    // In the middle of a chunk: the beginning of a file is another matter.
    let victim = NODES - 1;
    processes.server(victim).ask_to_stop();
    processes.server(victim).until_ended().await;
    let data = processes.server(victim).data();
    let largest = largest_of_chunks(&data);
    let at = flip(&largest, &mut random).expect("the file can be damaged");
    eprintln!("byte {at} of {} flipped", largest.display());
    processes.server(victim).start();
    processes.server(victim).until_ready().await;
    for server in 0..NODES {
        for number in 0..64 {
            let got = processes.s3(server).get(&format!("/rot/{number}")).ok().await;
            assert!(got.body == body(number), "object {number} from server {server}");
        }
    }
    load.progress(50).await;
    let history = load.stop().await;
    processes.verify(&history).await;
    // Who reads everything finds it, wherever it is, and then it is mended.
    eprintln!("the audit found {:?}", processes.audit(0).0.problems);
    wait::until("the damage is mended", async || processes.audit(0).1.then_some(())).await;
    processes.until_healthy(0).await;
}

/// The largest file that holds chunks.
fn largest_of_chunks(data: &Path) -> PathBuf {
    let holds_chunks = |file: &PathBuf| {
        let name = file.to_string_lossy();
        name.ends_with(".blob") && name.contains("chunks") || name.contains("extent")
    };
    let files = files_below(data).into_iter().filter(holds_chunks).map(|file| data.join(file));
    files.max_by_key(|file| fs::metadata(file).map_or(0, |found| found.len())).expect("chunks lie in files")
}

/// One file of each kind, the largest: what the files of a kind have in common is their name without numbers.
fn kinds_of_files(data: &Path) -> BTreeMap<String, PathBuf> {
    let mut kinds: BTreeMap<String, (u64, PathBuf)> = BTreeMap::new();
    for file in files_below(data) {
        // A file of a node that runs may go at any time.
        let size = fs::metadata(data.join(&file)).map_or(0, |found| found.len());
        let kind: String = file.to_string_lossy().chars().filter(|char| !char.is_ascii_digit()).collect();
        // What RocksDB tells people, what is empty, and what a scrub looks at now: the files of others by other names.
        let is_passing = kind.ends_with(".dbtmp") || kind.contains("checkpoints");
        if size == 0 || is_passing || kind.ends_with("LOG") || kind.contains("LOG.old") {
            continue;
        }
        let largest = kinds.entry(kind).or_insert((0, PathBuf::new()));
        if size > largest.0 {
            *largest = (size, file);
        }
    }
    kinds.into_iter().map(|(kind, (_, file))| (kind, file)).collect()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let Ok(entries) = fs::read_dir(directory.join(&below)) else { continue };
        for entry in entries.flatten() {
            let name = below.join(entry.file_name());
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory { open.push(name) } else { files.push(name) }
        }
    }
    files
}

/// Flips one bit of a byte anywhere in the file, and says which byte.
fn flip(file: &Path, random: &mut StdRng) -> io::Result<u64> {
    let at = random.random_range(0..fs::metadata(file)?.len());
    flip_at(file, at, 1 << random.random_range(0..8)).map(|()| at)
}

/// In its place, as a disk would do it: whoever has the file open goes on with it.
fn flip_at(file: &Path, at: u64, bit: u8) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ bit], at)?;
    file.sync_all()
}
