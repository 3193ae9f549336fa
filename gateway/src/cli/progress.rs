//! Waiting for moves, and telling of them meanwhile.

use std::time::{Duration, Instant};

use super::{CliError, output};
use crate::admin::client::{AdminClient, AdminError};
use crate::admin::model::{ClusterStatus, MovesReport, NodeDetails, NodeReport};

/// How often it is asked how far everything is.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// How often a line is printed.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How long no gateway may answer before waiting is given up.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What is waited for.
pub(super) enum Goal {
    /// Everything is where it should be.
    Settled,
    /// The node of that name or number holds nothing any more.
    Empty(String),
}

/// Waits, and tells of it if `tell`. A gateway that fails meanwhile is asked again for a while.
pub(super) async fn wait(client: &AdminClient, goal: Goal, tell: bool) -> Result<(), CliError> {
    let mut told_at: Option<Instant> = None;
    let mut answered_at = Instant::now();
    loop {
        match client.get::<ClusterStatus>("/status").await {
            Ok(status) => {
                answered_at = Instant::now();
                if goal.is_reached(&status) {
                    return Ok(());
                }
                if tell && told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                    told_at = Some(Instant::now());
                    output::line(&goal.describe(&status))?;
                }
            }
            Err(error) if may_pass(&error) && answered_at.elapsed() < SILENCE_MAX => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

impl Goal {
    fn is_reached(&self, status: &ClusterStatus) -> bool {
        match self {
            Self::Settled => status.is_settled(),
            Self::Empty(name) => find(status, name).is_none_or(|node| !node.holds_data),
        }
    }

    fn describe(&self, status: &ClusterStatus) -> String {
        let node = match self {
            Self::Empty(name) if status.moves.partitions == 0 => find(status, name),
            _ => None,
        };
        let still = node.and_then(|node| Some((&node.name, still(node.details.as_ref())?)));
        match still {
            Some((name, still)) => format!("{name} {still}{}", paused(&status.moves)),
            None => describe(&status.moves),
        }
    }
}

/// What a node that has no share any more has yet to do for others, as far as it says.
fn still(details: Option<&NodeDetails>) -> Option<String> {
    let Some(details) = details else {
        return Some("does not answer: it may still have chunks that belong elsewhere".to_owned());
    };
    let strays = match details.strays {
        Some(0) => None,
        Some(strays) => Some(format!("copies {} to where they belong", output::count(strays, "chunk"))),
        None => Some("looks for chunks that belong elsewhere".to_owned()),
    };
    let owed = |hints| format!("passes {} on to nodes that missed them", output::count(hints, "chunk"));
    let hints = Some(details.hints).filter(|hints| *hints > 0).map(owed);
    let left: Vec<String> = strays.into_iter().chain(hints).collect();
    (!left.is_empty()).then(|| format!("still {}", left.join(", and ")))
}

fn find<'a>(status: &'a ClusterStatus, name: &str) -> Option<&'a NodeReport> {
    status.nodes.iter().find(|node| node.is_named(name))
}

/// How far moves are, in words.
pub(super) fn describe(moves: &MovesReport) -> String {
    let paused = paused(moves);
    match (moves.partitions, moves.map_group) {
        (0, false) => return format!("nothing is being moved{paused}"),
        (0, true) => return format!("the cluster map is being moved{paused}"),
        _ => {}
    }
    let are = if moves.partitions == 1 { "is" } else { "are" };
    let (partitions, left) = (output::count(moves.partitions, "partition"), output::bytes(moves.bytes_left));
    let mut text = format!("{partitions} {are} being moved, {left} left");
    if let Some(rate) = moves.bytes_per_second.filter(|rate| *rate > 0) {
        text += &format!(", {}/s", output::bytes(rate));
    }
    if let Some(seconds) = moves.eta_seconds {
        text += &format!(", about {} left", duration(seconds));
    }
    text + paused
}

fn paused(moves: &MovesReport) -> &'static str {
    if moves.paused { "; paused until `annulus repair resume`, no silent node is given up" } else { "" }
}

fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Whether the next attempt may succeed: a gateway starts again, or the cluster map has no leader for a moment.
fn may_pass(error: &AdminError) -> bool {
    match error {
        AdminError::Unreachable { .. } => true,
        AdminError::Refused { code, .. } => code == "ServiceUnavailable",
        _ => false,
    }
}

/// Asks until there is an answer. A gateway that fails meanwhile is asked again.
pub(super) async fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Result<Option<T>, CliError>,
) -> Result<T, CliError> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            Err(CliError::Admin(error)) if may_pass(&error) && begun.elapsed() < patience => {}
            Err(error) => return Err(error),
        }
        if begun.elapsed() >= patience {
            return Err(CliError::Run(format!("waited {} s in vain until {what}", patience.as_secs())));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{describe, still};
    use crate::admin::model::{MovesReport, NodeDetails};

    #[test]
    fn what_keeps_a_drained_node_is_told() {
        let said = |strays, hints| {
            let details = NodeDetails {
                software: "1".to_owned(),
                uptime_seconds: 1,
                leads: 0,
                groups: 0,
                chunks: 9,
                chunk_bytes: 9,
                disk_bytes: 9,
                disk_free_bytes: 9,
                hints,
                corrupt_reads: 0,
                strays,
                moved_bytes: 0,
            };
            still(Some(&details))
        };
        assert_eq!(said(Some(2), 0).unwrap(), "still copies 2 chunks to where they belong");
        assert_eq!(said(Some(0), 1).unwrap(), "still passes 1 chunk on to nodes that missed them");
        let both = "still copies 1 chunk to where they belong, and passes 3 chunks on to nodes that missed them";
        assert_eq!(said(Some(1), 3).unwrap(), both);
        assert_eq!(said(None, 0).unwrap(), "still looks for chunks that belong elsewhere");
        assert_eq!(said(Some(0), 0), None, "it may be a matter of the cluster map alone");
        assert!(still(None).unwrap().contains("does not answer"));
    }

    #[test]
    fn moves_are_told_with_rate_and_time() {
        assert_eq!(describe(&MovesReport::default()), "nothing is being moved");
        let paused = "; paused until `annulus repair resume`, no silent node is given up";
        let nothing = MovesReport { paused: true, ..MovesReport::default() };
        assert_eq!(describe(&nothing), format!("nothing is being moved{paused}"));
        let map_group = MovesReport { map_group: true, ..MovesReport::default() };
        assert_eq!(describe(&map_group), "the cluster map is being moved");
        let moves = MovesReport {
            paused: true,
            partitions: 3,
            map_group: false,
            bytes_left: 5 << 20,
            bytes_per_second: Some(1 << 20),
            eta_seconds: Some(65),
        };
        assert_eq!(
            describe(&moves),
            format!("3 partitions are being moved, 5.0 MiB left, 1.0 MiB/s, about 1 min 5 s left{paused}")
        );
    }
}
