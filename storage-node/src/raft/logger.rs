//! The bridge from slog, through which the Raft core logs, to tracing. The core speaks of every election and rejection,
//! so its information is our debugging, and only its errors keep their level.

use std::fmt::{self, Write};

use annulus_common::ids::{GroupId, NodeId};
use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record, Serializer, o};

/// A logger for one group of one node.
pub(super) fn of_group(node: NodeId, group: GroupId) -> Logger {
    Logger::root(TracingDrain, o!("node" => node.0, "group" => group.0))
}

struct TracingDrain;

impl Drain for TracingDrain {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error if tracing::enabled!(tracing::Level::ERROR) => {
                tracing::error!("raft: {}", line(record, values));
            }
            Level::Warning | Level::Info if tracing::enabled!(tracing::Level::DEBUG) => {
                tracing::debug!("raft: {}", line(record, values));
            }
            Level::Debug | Level::Trace if tracing::enabled!(tracing::Level::TRACE) => {
                tracing::trace!("raft: {}", line(record, values));
            }
            _ => {}
        }
        Ok(())
    }
}

fn line(record: &Record<'_>, values: &OwnedKVList) -> String {
    let mut fields = Fields(record.msg().to_string());
    // Writing into a string cannot fail, and a field that cannot be written is not worth more than its absence.
    let _ = record.kv().serialize(record, &mut fields);
    let _ = values.serialize(record, &mut fields);
    fields.0
}

struct Fields(String);

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(|_| slog::Error::Other)
    }
}
