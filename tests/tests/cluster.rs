//! Clusters of real processes: killed with SIGKILL, wiped, misconfigured, restarted. What was acknowledged is never lost.
//!
//! What is checked is every acknowledged put and delete of a verified history, through every server. What is not: a machine
//! that loses power, for the page cache outlives a killed process; the storage node's own tests do that over memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use annulus_tests::client::S3;
use annulus_tests::load::Load;
use annulus_tests::processes::Processes;
use annulus_tests::wait;
use futures::future::join_all;
use tokio::task::JoinHandle;

const NODES: usize = 3;

/// Puts as SDKs do: again while the leaders of a killed node are elected anew.
async fn put_soon(s3: &S3, target: &str) {
    wait::until("a put succeeds with two of three", async || {
        let reply = s3.put(target).body("x").try_send().await.ok()?;
        reply.status.is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn one_of_three_killed_under_load_loses_nothing_and_catches_up() {
    let mut processes = Processes::start(NODES, 3).await;
    let load = Load::start(&processes, "/load").await;
    load.progress(100).await;
    // Whichever of them it is, it leads some groups and group 0 is led by one of them.
    for victim in 0..NODES {
        processes.server(victim).kill();
        load.progress(100).await;
        processes.server(victim).start();
        processes.server(victim).until_ready().await;
        load.progress(50).await;
        // Everything that it missed is brought to it: the next victim would otherwise take the second copy away.
        processes.until_healthy(victim).await;
    }
    let history = load.stop().await;
    processes.verify(&history).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn all_killed_at_once_and_started_again_have_everything() {
    let mut processes = Processes::start(NODES, 3).await;
    let mut load = Load::start(&processes, "/load-0").await;
    let mut histories = Vec::new();
    for round in 1..=2 {
        load.progress(100).await;
        load.tell_to_stop();
        processes.kill_all();
        let history = load.stop().await;
        processes.start_all();
        processes.until_all_ready().await;
        history.settle(&processes.s3(0)).await;
        histories.push(history);
        load = Load::start(&processes, &format!("/load-{round}")).await;
    }
    load.progress(50).await;
    histories.push(load.stop().await);
    for history in &histories {
        processes.verify(history).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn hints_are_delivered_when_a_node_returns() {
    let mut processes = Processes::start(NODES, 3).await;
    let s3 = processes.s3(0);
    s3.put("/hints").ok().await;
    processes.server(2).kill();
    for number in 0..10 {
        let body = vec![number; 100_000];
        wait::until("a put succeeds with two of three", async || {
            let reply = s3.put(&format!("/hints/{number}")).body(body.clone()).try_send().await.ok()?;
            reply.status.is_success().then_some(())
        })
        .await;
    }
    let status = wait::until("the status is told", async || processes.status(0).await).await;
    assert!(!status.healthy, "a cluster that lacks copies says so");
    assert!(!status.problems.is_empty() && status.redundancy.chunk_copies_owed > 0, "{status:?}");
    processes.server(2).start();
    processes.server(2).until_ready().await;
    processes.until_healthy(0).await;
    let status = wait::until("the status is told", async || processes.status(0).await).await;
    assert_eq!(status.redundancy.chunk_copies_owed, 0);
    // Now either of the others may go.
    processes.server(0).kill();
    let s3 = processes.s3(2);
    for number in 0..10 {
        let got = wait::until("a get succeeds", async || {
            let reply = s3.get(&format!("/hints/{number}")).try_send().await.ok()?;
            reply.status.is_success().then_some(reply)
        });
        assert!(got.await.body == vec![number; 100_000]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn a_node_with_another_secret_is_refused() {
    let mut processes = Processes::start(NODES, 3).await;
    let s3 = processes.s3(0);
    s3.put("/secrets").ok().await;
    s3.put("/secrets/kept").body("x").ok().await;
    processes.server(2).kill();
    let secret = processes.server(2).change_secret();
    processes.server(2).start();
    let refused = |log: &str| log.contains("secret").then_some(());
    wait::until("it says why it cannot get in", async || refused(&processes.logs()[2])).await;
    assert!(!processes.logs().iter().any(|log| log.contains(&secret)), "a log tells no secret");
    assert!(!processes.is_ready(2).await, "it serves nobody");
    for number in 0..5 {
        put_soon(&s3, &format!("/secrets/{number}")).await;
    }
    s3.get("/secrets/kept").ok().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn a_wiped_data_directory_is_refused_under_its_old_name() {
    let mut processes = Processes::start(NODES, 3).await;
    let s3 = processes.s3(0);
    s3.put("/wiped").ok().await;
    s3.put("/wiped/kept").body(vec![7; 50_000]).ok().await;
    processes.server(2).kill();
    processes.server(2).wipe();
    processes.server(2).start();
    wait::until("it says why it cannot get in", async || {
        let log = &processes.logs()[2];
        (log.contains("belongs to another data directory") && log.contains("new NODE_ID")).then_some(())
    })
    .await;
    assert!(!processes.is_ready(2).await, "it serves nobody");
    for server in 0..2 {
        put_soon(&processes.s3(server), &format!("/wiped/{server}")).await;
        let got = processes.s3(server).get("/wiped/kept").ok().await;
        assert!(got.body == vec![7; 50_000]);
    }
}

/// Each server ends well when it is told to, and hands over what it led: no key waits for an election.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn a_rolling_restart_under_load_is_hardly_felt() {
    let mut processes = Processes::start(NODES, 3).await;
    let load = Load::start(&processes, "/load").await;
    load.progress(50).await;
    processes.s3(0).put("/felt").ok().await;
    let (mut felt, mut calm) = (Vec::new(), Duration::ZERO);
    for number in 0..NODES {
        until_leading(&mut processes, number).await;
        let others = || (1..NODES).map(|other| processes.s3((number + other) % NODES)).collect();
        let writers = Writers::start(others());
        load.progress(50).await;
        calm = calm.max(writers.stop().await);
        let writers = Writers::start(others());
        processes.server(number).ask_to_stop();
        let status = processes.server(number).until_ended().await;
        assert!(status.success(), "it ended with {status}");
        processes.server(number).start();
        processes.server(number).until_ready().await;
        load.progress(50).await;
        felt.push(writers.stop().await);
        processes.until_healthy(number).await;
    }
    eprintln!("the longest a put took in each restart: {felt:?}, and without one {calm:?}");
    felt.sort_unstable();
    // The machine may be busy with something else once, or slow at any time.
    let felt_max = ELECTION_MIN.max(2 * calm);
    assert!(felt[NODES - 2] < felt_max, "{felt:?} beside {calm:?}: that is as long as an election takes");
    let history = load.stop().await;
    processes.verify(&history).await;
}

/// No election begins before its time-out, which is that long at least.
const ELECTION_MIN: Duration = Duration::from_millis(1_500);

/// Writers at the same time: enough keys that each partition has some.
const WRITERS: usize = 32;

/// The pause of each between two puts: they are there to feel a pause, not to make one.
const WRITE_PAUSE: Duration = Duration::from_millis(50);

/// Waits until a server leads a group: only then is there something to hand over.
async fn until_leading(processes: &mut Processes, number: usize) {
    let name = processes.server(number).name().to_owned();
    wait::until("the server leads a group", async || {
        let status = processes.status(number).await?;
        let node = status.nodes.iter().find(|node| node.name == name)?;
        node.details.as_ref().filter(|details| details.leads > 0).map(|_| ())
    })
    .await;
}

/// Each puts one key again and again, and notes how long the slowest put took, with all that had to be tried again.
struct Writers {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Duration>>,
}

impl Writers {
    fn start(clients: Vec<S3>) -> Self {
        let (clients, stop) = (Arc::new(clients), Arc::new(AtomicBool::new(false)));
        let writers = (0..WRITERS)
            .map(|number| tokio::spawn(put_again_and_again(Arc::clone(&clients), number, Arc::clone(&stop))))
            .collect();
        Self { stop, writers }
    }

    /// Ends them, and tells how long the slowest put of all took.
    async fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let slowest = join_all(self.writers).await.into_iter().map(|writer| writer.expect("no put failed for good"));
        slowest.max().expect("there are writers")
    }
}

async fn put_again_and_again(clients: Arc<Vec<S3>>, number: usize, stop: Arc<AtomicBool>) -> Duration {
    let mut slowest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        put_soon(&clients[number % clients.len()], &format!("/felt/{number}")).await;
        slowest = slowest.max(begun.elapsed());
        tokio::time::sleep(WRITE_PAUSE).await;
    }
    slowest
}

/// Nobody complains when the reader of an answer has had enough of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn a_closed_pipe_ends_a_command_quietly() {
    let processes = Processes::start(1, 1).await;
    for arguments in [&["status"][..], &["status", "--json"], &["node", "list"], &["audit"], &["bucket", "list"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        drop(reader);
        let output = processes.annulus(0, arguments).stdout(writer).output().expect("the binary starts");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(141), "{arguments:?}: as of a program that SIGPIPE ended");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn a_single_server_needs_no_others() {
    let mut processes = Processes::start(1, 1).await;
    let s3 = processes.s3(0);
    s3.put("/alone").ok().await;
    s3.put("/alone/k").body(vec![1; 5_000_000]).ok().await;
    processes.kill_all();
    processes.start_all();
    processes.until_all_ready().await;
    let got = wait::until("it serves", async || {
        let reply = s3.get("/alone/k").try_send().await.ok()?;
        reply.status.is_success().then_some(reply)
    });
    assert!(got.await.body == vec![1; 5_000_000]);
}
