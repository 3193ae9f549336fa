//! What a command needs room for. Where space is short, those that ask for more of it are refused; what gives space back, what
//! was asked for before, and what is bounded by its nature goes on.

use annulus_common::object::{AttributeChange, Versioning};
use annulus_common::protocol::metadata::Command;
use annulus_common::protocol::room::RoomFor;

/// What must be had room for.
pub fn room_needed(command: &Command) -> RoomFor {
    match command {
        Command::Put { .. }
        | Command::Append { .. }
        | Command::Rename { .. }
        | Command::CreateUpload { .. }
        | Command::PutPart { .. }
        | Command::CompleteUpload { .. } => RoomFor::Growth,
        // Only for a rename that follows.
        Command::Claim(_) => RoomFor::Growth,
        Command::SetAttributes { change, .. } => match change {
            AttributeChange::Acl(_) | AttributeChange::Tags(_) => RoomFor::Growth,
            // What is locked must be released before it can be deleted.
            AttributeChange::Retention { .. } | AttributeChange::LegalHold(_) => RoomFor::Release,
        },
        Command::Delete { versioning, deletions, .. } => match versioning {
            Versioning::Enabled | Versioning::Suspended if deletions.iter().any(|asked| asked.version.is_none()) => {
                RoomFor::Markers
            }
            _ => RoomFor::Release,
        },
        Command::AbortUpload { .. } | Command::Fence { .. } | Command::Unfence { .. } => RoomFor::Release,
        // The collector's, without whom nothing comes back.
        Command::Collected(_) | Command::Condemn(_) => RoomFor::Release,
        // Counters that are rewritten in place: one for each shard and quota.
        Command::Books { .. } | Command::Allowance { .. } => RoomFor::Release,
        // Events are taken out, or wait with a few bytes more than before.
        Command::Outbox { .. } => RoomFor::Release,
    }
}
