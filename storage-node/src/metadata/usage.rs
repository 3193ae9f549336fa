//! Pages of what is counted of one shard: how much lies under a prefix, and under those below it. Costs what it returns.

use annulus_common::ids::{BucketId, ShardId};
use annulus_common::protocol::metadata::{UsagePage, after_prefix};
use annulus_common::usage::{COUNTED_DEPTH_MAX, Usage, counted_depth};

use super::list::PAGE_BYTES_MAX;
use super::schema::keys::Keys;
use super::schema::records::Record;
use crate::kv::{Cursor, KvError, KvRead, Table};

/// What an entry takes beside its prefix.
const ENTRY_BYTES: usize = 24;

/// What is asked of the usage of a shard.
pub(super) struct Ask<'a> {
    pub(super) bucket: BucketId,
    pub(super) shard: ShardId,
    pub(super) prefix: &'a str,
    pub(super) after: Option<&'a str>,
    pub(super) limit: u32,
}

/// A prefix that is not counted has nothing under it.
pub(super) fn usage(kv: &dyn KvRead, keys: Keys, ask: &Ask<'_>) -> Result<UsagePage, KvError> {
    let Some(depth) = counted_depth(ask.prefix) else { return Ok(UsagePage::default()) };
    let base = keys.usages(ask.bucket, ask.shard);
    let mut cursor = kv.cursor(Table::Meta, &base, &after_prefix(&base).unwrap_or_default())?;
    let own = keys.usage(ask.bucket, ask.shard, depth, ask.prefix);
    cursor.seek(&own)?;
    let mut page = UsagePage::default();
    if let Some((_, record)) = cursor.entry().filter(|(key, _)| *key == own) {
        page.whole = Usage::decode(record)?;
    }
    if usize::from(depth) < COUNTED_DEPTH_MAX {
        add_below(&mut *cursor, keys, ask, depth + 1, &mut page)?;
    }
    Ok(page)
}

fn add_below(
    cursor: &mut dyn Cursor,
    keys: Keys,
    ask: &Ask<'_>,
    depth: u8,
    page: &mut UsagePage,
) -> Result<(), KvError> {
    let mut lower = keys.usage(ask.bucket, ask.shard, depth, ask.after.unwrap_or_default().max(ask.prefix));
    if ask.after.is_some() {
        lower.push(0);
    }
    let within = keys.usage(ask.bucket, ask.shard, depth, ask.prefix);
    let mut bytes = 0;
    cursor.seek(&lower)?;
    while let Some((key, record)) = cursor.entry().filter(|(key, _)| key.starts_with(&within)) {
        let prefix = Keys::parse_usage(key).ok_or_else(|| KvError::Corrupt {
            during: "reading how much is stored",
            reason: "the prefix is not text".to_owned(),
        })?;
        bytes += prefix.len() + ENTRY_BYTES;
        if page.below.len() == ask.limit as usize || bytes > PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        page.below.push((prefix.to_owned(), Usage::decode(record)?));
        cursor.next()?;
    }
    Ok(())
}
