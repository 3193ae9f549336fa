//! Waiting for moves, and telling of them meanwhile.

use std::time::{Duration, Instant};

use super::node::is_named;
use super::{CliError, output};
use crate::admin::client::{AdminClient, AdminError};
use crate::admin::model::{ClusterStatus, MovesReport};

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
                if is_reached(&status, &goal) {
                    return Ok(());
                }
                if tell && told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                    told_at = Some(Instant::now());
                    output::line(&describe(&status.moves))?;
                }
            }
            Err(AdminError::Refused { code, .. })
                if code == "ServiceUnavailable" && answered_at.elapsed() < SILENCE_MAX => {}
            Err(AdminError::Unreachable { .. }) if answered_at.elapsed() < SILENCE_MAX => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn is_reached(status: &ClusterStatus, goal: &Goal) -> bool {
    match goal {
        Goal::Settled => status.moves.partitions == 0 && !status.moves.map_group && status.map_group.is_as_planned,
        Goal::Empty(name) => {
            let node = status.nodes.iter().find(|node| is_named(node, name));
            node.is_none_or(|node| !node.holds_data)
        }
    }
}

/// How far moves are, in words.
pub(super) fn describe(moves: &MovesReport) -> String {
    if moves.partitions == 0 {
        return "nothing is being moved".to_owned();
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
    if moves.paused {
        text += "; paused";
    }
    text
}

fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Asks until there is an answer.
pub(super) async fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> Result<Option<T>, CliError>,
) -> Result<T, CliError> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if begun.elapsed() >= patience {
            return Err(CliError::Run(format!("waited {} s in vain until {what}", patience.as_secs())));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::describe;
    use crate::admin::model::MovesReport;

    #[test]
    fn moves_are_told_with_rate_and_time() {
        assert_eq!(describe(&MovesReport::default()), "nothing is being moved");
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
            "3 partitions are being moved, 5.0 MiB left, 1.0 MiB/s, about 1 min 5 s left; paused"
        );
    }
}
