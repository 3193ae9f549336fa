//! Condemned parts: nothing refers to them and nothing can any more, so that their chunks may be removed. Without this an upload
//! that takes very long could refer to chunks that have just been taken for orphans.

use annulus_common::ids::PartId;
use annulus_common::object::{Data, Part};
use annulus_common::protocol::metadata::MetaReply;

use super::super::schema::records::CondemnedSince;
use super::Step;
use crate::kv::{KvError, Table};

/// How old the id of a part gets before it is forgotten that the part was condemned: no upload of one part takes as long.
const REMEMBERED_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

impl Step<'_> {
    /// Condemns what nothing refers to. Again is no different from once.
    pub(super) fn condemn(&mut self, parts: &[PartId]) -> Result<MetaReply, KvError> {
        let (oldest, remembered) = (0, self.time_ms.saturating_sub(REMEMBERED_MS));
        let forgotten = (self.keys.condemned_from(oldest), self.keys.condemned_from(remembered));
        self.batch.delete_range(Table::Meta, forgotten.0, forgotten.1);
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
