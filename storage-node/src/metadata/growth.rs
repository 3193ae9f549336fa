//! Which commands are refused where space is short: those that ask for more of it. What gives space back, what was asked for
//! before, and what is bounded by its nature goes on.

use annulus_common::object::AttributeChange;
use annulus_common::protocol::metadata::Command;

/// Whether the command makes the state grow.
pub fn grows(command: &Command) -> bool {
    match command {
        Command::Put { .. }
        | Command::Append { .. }
        | Command::Rename { .. }
        | Command::CreateUpload { .. }
        | Command::PutPart { .. }
        | Command::CompleteUpload { .. } => true,
        // Only for a rename that follows.
        Command::Claim(_) => true,
        Command::SetAttributes { change, .. } => match change {
            AttributeChange::Acl(_) | AttributeChange::Tags(_) => true,
            // What is locked must be released before it can be deleted.
            AttributeChange::Retention { .. } | AttributeChange::LegalHold(_) => false,
        },
        // A delete marker is a few bytes, and what lifecycle rules need before they remove what it hides.
        Command::Delete { .. } | Command::AbortUpload { .. } | Command::Fence { .. } | Command::Unfence { .. } => false,
        // The collector's, without whom nothing comes back.
        Command::Collected(_) | Command::Condemn(_) => false,
        // Counters that are rewritten in place: one for each shard and quota.
        Command::Books { .. } | Command::Allowance { .. } => false,
        // Events are taken out, or wait with a few bytes more than before.
        Command::Outbox { .. } => false,
    }
}
