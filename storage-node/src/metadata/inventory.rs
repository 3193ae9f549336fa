//! Everything that a partition names, page by page: for an audit, which looks whether it is there.

use annulus_common::ids::{GroupId, PartId, PartitionId};
use annulus_common::object::{Data, KeyPath, ObjectVersion, Part, UploadedPart};
use annulus_common::protocol::repair::{Inventory, Named};

use super::query::Reader;
use super::schema::keys::{Keys, Naming};
use super::schema::records::{Head, Other, Record};
use crate::kv::{KvError, KvRead, Table};

const READING: &str = "taking an inventory";

/// Names of one page.
const PAGE_NAMED: usize = 1_000;

/// Parts of one page: with the parts of the last object, which has 10,000 at most, an answer stays below a megabyte.
const PAGE_PARTS: usize = 10_000;

/// The next names from `from` on. `kv` shows one moment.
pub(super) fn page(kv: &dyn KvRead, partition: PartitionId, from: Option<&[u8]>) -> Result<Inventory, KvError> {
    let keys = Keys::of(GroupId::from(partition));
    let mut page = Inventory { named: Vec::new(), next: None };
    let mut parts = 0;
    for (lower, upper) in keys.naming() {
        let mut cursor = kv.cursor(Table::Meta, &lower, &upper)?;
        cursor.seek(from.unwrap_or_default().max(&lower))?;
        while let Some((key, record)) = cursor.entry() {
            if page.named.len() >= PAGE_NAMED || parts >= PAGE_PARTS {
                page.next = Some(key.to_vec());
                return Ok(page);
            }
            let corrupt = || KvError::Corrupt { during: READING, reason: "a key is not one of a name".to_owned() };
            let named = match Keys::parse_naming(key).ok_or_else(corrupt)? {
                Naming::Object(path) => Some(of_object(kv, keys, path, Head::decode(record)?)?),
                Naming::Version(path) => match Other::decode(record)? {
                    Other::Object(head) => Some(of_object(kv, keys, path, head)?),
                    Other::Marker(_) => None,
                },
                Naming::UploadedPart => Some(of_upload(&UploadedPart::decode(record)?.part)),
            };
            if let Some(named) = named {
                parts += named.parts.len();
                page.named.push(named);
            }
            cursor.next()?;
        }
    }
    Ok(page)
}

/// An object with its body: one that cannot be read is corrupt.
fn of_object(kv: &dyn KvRead, keys: Keys, path: KeyPath, head: Head) -> Result<Named, KvError> {
    let parcel = Reader { keys, kv }.parcel(&path, &head)?;
    let Some(ObjectVersion { object, .. }) = head.join(parcel)? else {
        let reason = format!("the body of {:?} in bucket {} is not there", path.key, path.bucket.0);
        return Err(KvError::Corrupt { during: READING, reason });
    };
    let (inline_bytes, parts) = match &object.data {
        Data::Inline(bytes) => (bytes.len() as u64, Vec::new()),
        Data::Parts(parts) => (0, parts.iter().map(stored).collect()),
    };
    Ok(Named { bucket: Some(path.bucket), name: path.key, inline_bytes, parts })
}

fn of_upload(part: &Part) -> Named {
    Named { bucket: None, name: format!("part {}", part.number), inline_bytes: 0, parts: vec![stored(part)] }
}

fn stored(part: &Part) -> (PartId, u64) {
    (part.id, part.stored)
}
