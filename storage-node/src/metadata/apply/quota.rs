//! Quotas: what a shard may hold, and at each quota's home the books of what the shards were granted.
//!
//! The sum of all grants never exceeds the limit, and what a shard may hold never exceeds its grant: a grant grows in the books
//! first and at the shard after, and shrinks the other way round. So nobody is over the quota, whatever is lost in between.
//! Who goes between the books and the shards is the gateway that needs something; the serials tell what is late.

use annulus_common::ids::{BucketId, ShardId};
use annulus_common::object::{KeyPath, VersionId};
use annulus_common::protocol::metadata::{AllowanceChange, BooksEntry, MetaReply, QuotaReply, QuotaTerms, Serial};
use annulus_common::usage::{Payer, PayerKind, Usage};

use super::super::schema::find::Found;
use super::super::schema::records::{Allowance, Books, Grant, Other, Shard};
use super::Step;
use crate::kv::KvError;

/// A shard is granted a part of what is free beyond what it needs, so that it does not come back with the next object. The
/// less is left, the less it gets.
const SPARE_SHARE: u64 = 32;

/// How long the gateway that counts may be silent before another begins anew. It is heard of with every 256 shards, which take
/// a second on a busy cluster.
const COUNTING_SILENCE_MS_MAX: u64 = 5_000;

impl Step<'_> {
    /// Why an object of that size must not be written, if a quota forbids it. What it replaces makes room first.
    pub(super) fn beyond_quota(
        &self,
        path: &KeyPath,
        id: VersionId,
        size: u64,
        terms: QuotaTerms,
    ) -> Result<Option<MetaReply>, KvError> {
        let shard = self.shard(path.bucket, path.shard)?;
        let limits = PayerKind::ALL.map(|kind| (kind, shard.limit(kind, terms)));
        if limits.iter().all(|(_, limit)| limit.is_none()) {
            return Ok(None);
        }
        let used = self.used(path.bucket, path.shard)?;
        let needs = used.minus(self.replaced(path, id)?).plus(Usage::of_object(size));
        let beyond = |limit: Usage| {
            // What was over already may still become less.
            (needs.objects > limit.objects && needs.objects > used.objects)
                || (needs.bytes > limit.bytes && needs.bytes > used.bytes)
        };
        let short = limits.into_iter().find(|(_, limit)| limit.is_some_and(beyond));
        Ok(short.map(|(kind, _)| match terms.last {
            true => MetaReply::Quota(QuotaReply::Exceeded),
            false => MetaReply::Quota(QuotaReply::Short { kind, needs }),
        }))
    }

    /// What goes when a version of that id is written: only a null version is ever replaced.
    fn replaced(&self, path: &KeyPath, id: VersionId) -> Result<Usage, KvError> {
        if id != VersionId::Null {
            return Ok(Usage::NONE);
        }
        Ok(match self.null_version(path)? {
            Some(Found::Current(head) | Found::Other(Other::Object(head))) => Usage::of_object(head.size),
            Some(Found::Other(Other::Marker(_))) | None => Usage::NONE,
        })
    }

    fn used(&self, bucket: BucketId, shard: ShardId) -> Result<Usage, KvError> {
        Ok(self.read(&self.keys.usage(bucket, shard, 0, ""))?.unwrap_or_default())
    }

    pub(super) fn change_allowance(
        &mut self,
        bucket: BucketId,
        shard: ShardId,
        kind: PayerKind,
        change: AllowanceChange,
    ) -> Result<MetaReply, KvError> {
        let mut record = self.shard(bucket, shard)?;
        let known = record.allowance(kind);
        let last = known.map_or(Serial::default(), |known| known.serial);
        let reply = match change {
            AllowanceChange::Set { serial, limit } if serial > last => {
                *known = Some(Allowance { serial, limit });
                QuotaReply::Granted { serial, limit }
            }
            AllowanceChange::Shrink { serial } if serial >= last => {
                let used = self.used(bucket, shard)?;
                *record.allowance(kind) = Some(Allowance { serial, limit: Some(Usage::NONE) });
                QuotaReply::Shrunk(used)
            }
            AllowanceChange::Set { .. } | AllowanceChange::Shrink { .. } => {
                return Ok(MetaReply::Quota(QuotaReply::Superseded));
            }
        };
        self.put(self.keys.shard(bucket, shard), &record);
        Ok(MetaReply::Quota(reply))
    }

    pub(super) fn keep_books(&mut self, payer: Payer, entry: BooksEntry) -> Result<MetaReply, KvError> {
        let mut books: Books = self.read(&self.keys.books(payer))?.unwrap_or_default();
        let reply = match entry {
            BooksEntry::Limit { limit, version } => books.set_limit(limit, version, self.time_ms),
            BooksEntry::Recall { serial, shards } => self.recall(payer, &mut books, serial, &shards)?,
            BooksEntry::Returned { serial, left, all } => self.take_back(payer, &mut books, serial, &left, all)?,
            BooksEntry::Grant { limit, version, .. } if !books.learn(limit, version) => QuotaReply::Uncounted,
            BooksEntry::Grant { bucket, shard, needs, .. } => self.grant(payer, &mut books, (bucket, shard), needs)?,
        };
        if !matches!(reply, QuotaReply::Superseded | QuotaReply::Exhausted { .. } | QuotaReply::Uncounted) {
            self.put(self.keys.books(payer), &books);
        }
        Ok(MetaReply::Quota(reply))
    }

    fn recall(
        &mut self,
        payer: Payer,
        books: &mut Books,
        counting: Option<Serial>,
        shards: &[(BucketId, ShardId)],
    ) -> Result<QuotaReply, KvError> {
        let serial = match counting {
            None if !books.counted => return Ok(QuotaReply::Uncounted),
            None => books.next_serial(),
            Some(serial) if serial == books.serial => serial,
            Some(_) => return Ok(QuotaReply::Superseded),
        };
        books.counting_ms = self.time_ms;
        for (bucket, shard) in shards {
            let key = self.keys.grant(payer, *bucket, *shard);
            let grant: Grant = self.read(&key)?.unwrap_or_default();
            self.put(key, &Grant { serial, ..grant });
        }
        Ok(QuotaReply::Recalled { serial })
    }

    fn take_back(
        &mut self,
        payer: Payer,
        books: &mut Books,
        serial: Serial,
        left: &[(BucketId, ShardId, Usage)],
        all: bool,
    ) -> Result<QuotaReply, KvError> {
        for (bucket, shard, amount) in left {
            let key = self.keys.grant(payer, *bucket, *shard);
            let grant: Grant = self.read(&key)?.unwrap_or_default();
            if grant.serial != serial {
                continue;
            }
            books.granted = books.granted.minus(grant.amount).plus(*amount);
            match *amount {
                Usage::NONE => self.delete(key),
                amount => self.put(key, &Grant { serial, amount }),
            }
        }
        if all && books.serial != serial {
            // What was put right of single shards holds all the same.
            self.put(self.keys.books(payer), books);
            return Ok(QuotaReply::Superseded);
        }
        books.counted |= all;
        Ok(QuotaReply::Recalled { serial })
    }

    fn grant(
        &mut self,
        payer: Payer,
        books: &mut Books,
        (bucket, shard): (BucketId, ShardId),
        needs: Usage,
    ) -> Result<QuotaReply, KvError> {
        let Some(limit) = books.limit else {
            return Ok(QuotaReply::Granted { serial: books.next_serial(), limit: None });
        };
        if !books.counted {
            return Ok(QuotaReply::Uncounted);
        }
        let key = self.keys.grant(payer, bucket, shard);
        let granted: Usage = self.read(&key)?.unwrap_or_else(Grant::default).amount;
        let missing = needs.minus(granted);
        // Also where nothing is missing: more may be stored than a limit that was set later, and then nobody may grow.
        if !books.granted.plus(missing).fits(limit) {
            return Ok(QuotaReply::Exhausted { limit });
        }
        let more = with_spare(missing, limit.minus(books.granted));
        books.granted = books.granted.plus(more);
        let (serial, amount) = (books.next_serial(), granted.plus(more));
        self.put(key, &Grant { serial, amount });
        Ok(QuotaReply::Granted { serial, limit: Some(amount) })
    }
}

/// What is given to a shard that misses so much, out of what is free.
fn with_spare(missing: Usage, free: Usage) -> Usage {
    let with_spare = |missing: u64, free: u64| match missing {
        0 => 0,
        missing => missing + (free - missing) / SPARE_SHARE,
    };
    Usage { objects: with_spare(missing.objects, free.objects), bytes: with_spare(missing.bytes, free.bytes) }
}

impl Books {
    fn next_serial(&mut self) -> Serial {
        self.serial.number += 1;
        self.serial
    }

    fn set_limit(&mut self, limit: Option<Usage>, version: u64, time_ms: u64) -> QuotaReply {
        if version < self.serial.version {
            return QuotaReply::Superseded;
        }
        let is_known = limit == self.limit && limit.is_some();
        if is_known && self.counted {
            self.serial.version = version;
            return QuotaReply::InForce;
        }
        // By the distance, so that a gateway whose clock is wrong waits for nobody for ever.
        let is_recent = time_ms.abs_diff(self.counting_ms) < COUNTING_SILENCE_MS_MAX;
        if is_known && is_recent && version == self.serial.version {
            return QuotaReply::Uncounted;
        }
        self.serial.version = version;
        let serial = self.next_serial();
        *self = Self { limit, counted: false, counting_ms: time_ms, ..*self };
        match limit {
            Some(_) => QuotaReply::Counting { serial },
            None => QuotaReply::Granted { serial, limit: None },
        }
    }

    /// Whether the limit is the one that a gateway's map says. An older map's does not matter.
    fn learn(&mut self, limit: Option<Usage>, version: u64) -> bool {
        let is_news = version > self.serial.version;
        if is_news && limit == self.limit && self.counted {
            self.serial.version = version;
        }
        !is_news || limit == self.limit
    }
}

impl Shard {
    fn allowance(&mut self, kind: PayerKind) -> &mut Option<Allowance> {
        match kind {
            PayerKind::Bucket => &mut self.by_bucket,
            PayerKind::Account => &mut self.by_account,
        }
    }

    /// The most that it may hold by a quota. One that it was not told of yet, as it is now, allows nothing.
    fn limit(&self, kind: PayerKind, terms: QuotaTerms) -> Option<Usage> {
        let (told, version) = match kind {
            PayerKind::Bucket => (self.by_bucket, terms.bucket),
            PayerKind::Account => (self.by_account, terms.account),
        };
        match told {
            Some(told) if version.is_none_or(|version| version <= told.serial.version) => told.limit,
            _ => version.map(|_| Usage::NONE),
        }
    }
}
