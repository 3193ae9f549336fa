//! The metadata of one partition: the state machine of Raft groups 1..P.
//!
//! Mutations are judged and carried out in `apply`, in the group's order, on every replica alike; `query` reads what is applied.
//! The caller has made sure that it is new enough (a ReadIndex). Keys and records are `schema`'s. No Raft, no network, no clock.

mod abandoned;
mod apply;
mod growth;
mod inventory;
mod list;
mod list_versions;
mod outbox;
mod query;
mod schema;
#[cfg(test)]
mod tests;
mod usage;

pub use abandoned::abandoned_uploads;
pub use apply::Partition;
pub use growth::room_needed;
pub use outbox::{backlogs, waiting};
pub use query::{answer, tags};

use annulus_common::ids::PartitionId;
use annulus_common::protocol::metadata::{Applied, Mutation};
use annulus_common::protocol::{self, DecodeError};
use bytes::Bytes;

use crate::kv::{Kv, Table};

/// About how many bytes of files a partition takes.
pub fn disk_bytes(kv: &dyn Kv, partition: PartitionId) -> u64 {
    let (lower, upper) = schema::keys::Keys::of(partition.into()).all();
    kv.disk_bytes(Table::Meta, &lower, &upper)
}

/// A mutation as the Raft log holds it.
pub fn encode_command(mutation: &Mutation) -> Bytes {
    protocol::encode(mutation)
}

/// What the state machine answered to a proposal.
pub fn decode_reply(reply: &[u8]) -> Result<Applied, DecodeError> {
    protocol::decode(reply)
}
