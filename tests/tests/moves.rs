//! What operators are told while data moves: by `annulus status`, and by a command that waits for the move. Over real processes.

use std::io::Read;
use std::process::Stdio;
use std::time::Instant;

use annulus_gateway::admin::model::{ClusterStatus, MovesReport};
use annulus_tests::processes::Processes;
use annulus_tests::wait;

const NODES: usize = 3;

/// What is stored: a new node gets three quarters of it. At this bandwidth it takes some ten seconds.
const OBJECTS: usize = 16;
const OBJECT_BYTES: usize = 4 << 20;
const BANDWIDTH: (&str, &str) = ("ANNULUS_REPAIR_BANDWIDTH", "4MiB");

/// What a command that only asks prints.
fn printed(processes: &Processes, arguments: &[&str]) -> String {
    let begun = Instant::now();
    loop {
        let output = processes.annulus(0, arguments).output().expect("the binary starts");
        if output.status.success() {
            return String::from_utf8(output.stdout).expect("it prints text");
        }
        // The cluster map may be without a leader for a moment.
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("(ServiceUnavailable)") && begun.elapsed() < wait::PATIENCE, "{errors}");
    }
}

fn status_as_json(processes: &Processes) -> ClusterStatus {
    serde_json::from_str(&printed(processes, &["status", "--json"])).expect("it prints a status")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow: starts real processes"]
async fn operators_are_told_what_is_moved_how_fast_and_how_long_it_takes() {
    let mut processes = Processes::start_with(NODES, 3, &[BANDWIDTH]).await;
    let s3 = processes.s3(0);
    s3.put("/moved").ok().await;
    for number in 0..OBJECTS {
        s3.put(&format!("/moved/{number}")).body(vec![number as u8; OBJECT_BYTES]).ok().await;
    }
    wait::until("the cluster is healthy", async || processes.status(0).await?.healthy.then_some(())).await;
    assert_eq!(status_as_json(&processes).moves, MovesReport::default());
    let new = processes.add_server();
    processes.server(new).start();
    let name = processes.server(new).name().to_owned();
    let mut waiting = processes.annulus(0, &["node", "add", &name, "--wait"]).stdout(Stdio::piped()).spawn().unwrap();
    let (mut told, mut texts) = (Vec::new(), Vec::new());
    let ended = loop {
        if let Some(ended) = waiting.try_wait().expect("a child can be waited for") {
            break ended;
        }
        told.push(status_as_json(&processes).moves);
        texts.push(printed(&processes, &["status"]));
    };
    assert!(ended.success());
    let mut progress = String::new();
    waiting.stdout.take().expect("it is piped").read_to_string(&mut progress).expect("it prints text");
    assert_numbers_are_true(&told);
    let says_all =
        |text: &str| text.contains("being moved, ") && text.contains("/s, about ") && text.contains(" s left");
    assert!(texts.iter().any(|text| says_all(text)), "{:#?}", texts.first());
    let lines: Vec<&str> = progress.lines().filter(|line| line.contains("being moved, ")).collect();
    assert!(lines.len() > 1 && lines.iter().any(|line| says_all(line)), "{progress}");
    // Nothing is said of moves when they are over.
    assert_eq!(status_as_json(&processes).moves, MovesReport::default());
    assert!(!printed(&processes, &["status"]).contains("being moved"));
}

/// What is left gets less. The time that it takes may well grow when clients need the disk.
fn assert_numbers_are_true(told: &[MovesReport]) {
    let with_time: Vec<&MovesReport> = told.iter().filter(|moves| moves.eta_seconds.is_some()).collect();
    let [first, .., last] = with_time[..] else { panic!("hardly ever a rate is told: {told:#?}") };
    for moves in [first, last] {
        assert!(
            moves.partitions > 0 && moves.bytes_per_second.is_some_and(|rate| rate > 0) && !moves.paused,
            "{moves:?}"
        );
    }
    assert!(first.bytes_left <= (OBJECTS * OBJECT_BYTES) as u64, "{first:?}");
    assert!(last.bytes_left < first.bytes_left, "{first:?}, then {last:?}");
    assert!(last.partitions <= first.partitions, "{first:?}, then {last:?}");
}
