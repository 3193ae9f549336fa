//! Condemned parts: nothing refers to them and nothing can any more, so that their chunks may be removed. Without this an upload
//! that takes very long could refer to chunks that have just been taken for orphans.

use annulus_common::ids::PartId;
use annulus_common::object::{Data, Part};
use annulus_common::protocol::metadata::MetaReply;

use super::super::schema::records::{CondemnedSince, Record};
use super::Step;
use crate::kv::{KvError, Table};

/// How old the id of a part and its condemnation get before it is forgotten: no upload of one part takes as long. Both, because
/// a clock that steps forward makes every id old at once.
const REMEMBERED_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Condemned parts that one step looks at, oldest ids first, to forget them.
const LOOKED_AT_MAX: usize = 1_024;

impl Step<'_> {
    /// Condemns what nothing refers to. Again is no different from once.
    pub(super) fn condemn(&mut self, parts: &[PartId]) -> Result<MetaReply, KvError> {
        self.forget_condemned()?;
        let mut condemned = Vec::with_capacity(parts.len());
        for part in parts {
            let is_referenced = self.get(&self.keys.reference(*part))?.is_some();
            if !is_referenced {
                self.put(self.keys.condemned(*part), &CondemnedSince(self.time_ms));
            }
            condemned.push(!is_referenced);
        }
        Ok(MetaReply::Condemned(condemned))
    }

    fn forget_condemned(&mut self) -> Result<(), KvError> {
        let long_ago_ms = self.time_ms.saturating_sub(REMEMBERED_MS);
        let (lower, upper) = (self.keys.condemned_from(0), self.keys.condemned_from(long_ago_ms));
        let mut cursor = self.kv.cursor(Table::Meta, &lower, &upper)?;
        let mut forgotten = Vec::new();
        cursor.seek(&lower)?;
        for _ in 0..LOOKED_AT_MAX {
            let Some((key, record)) = cursor.entry() else { break };
            let CondemnedSince(since_ms) = CondemnedSince::decode(record)?;
            if since_ms < long_ago_ms {
                forgotten.push(key.to_vec());
            }
            cursor.next()?;
        }
        drop(cursor);
        forgotten.into_iter().for_each(|key| self.delete(key));
        Ok(())
    }

    /// Whether some of an object's bytes may be gone.
    pub(super) fn is_condemned(&self, data: &Data) -> Result<bool, KvError> {
        match data {
            Data::Inline(_) => Ok(false),
            Data::Parts(parts) => {
                parts.iter().try_fold(false, |found, part| Ok(found || self.is_part_condemned(part)?))
            }
        }
    }

    pub(super) fn is_part_condemned(&self, part: &Part) -> Result<bool, KvError> {
        Ok(self.read::<CondemnedSince>(&self.keys.condemned(part.id))?.is_some())
    }
}
