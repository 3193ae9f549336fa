//! Uploads of buckets that are deleted: a deletion leaves them, so that one which is refused has changed nothing. They are
//! found here; whoever finds them aborts them.

use annulus_common::ids::{BucketId, GroupId, PartitionId, ShardId, UploadId};
use annulus_common::object::KeyPath;

use super::schema::keys::Keys;
use crate::kv::{KvError, KvRead, Table};

/// Up to `limit` uploads of buckets that are gone. Those of other buckets are jumped over, a seek for each bucket.
pub fn abandoned_uploads(
    kv: &dyn KvRead,
    partition: PartitionId,
    is_gone: impl Fn(BucketId) -> bool,
    limit: usize,
) -> Result<Vec<(KeyPath, UploadId)>, KvError> {
    let keys = Keys::of(GroupId::from(partition));
    let (lower, upper) = keys.uploads();
    let mut cursor = kv.cursor(Table::Meta, &lower, &upper)?;
    let mut abandoned = Vec::new();
    cursor.seek(&lower)?;
    while let Some((key, _)) = cursor.entry() {
        if abandoned.len() == limit {
            break;
        }
        let (path, upload) = Keys::parse_upload_path(key).ok_or_else(corrupt)?;
        if is_gone(path.bucket) {
            abandoned.push((path, upload));
            cursor.next()?;
        } else {
            let Some(next) = path.bucket.0.checked_add(1) else { break };
            cursor.seek(&keys.uploads_from(BucketId(next), ShardId(0), &[]))?;
        }
    }
    Ok(abandoned)
}

fn corrupt() -> KvError {
    KvError::Corrupt { during: "looking for abandoned uploads", reason: "a key is not an upload's".to_owned() }
}
