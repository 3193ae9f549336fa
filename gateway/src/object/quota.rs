//! Quotas from a gateway's side: it goes between the books of a quota, which grant, and the shards, which keep to what they
//! were granted. Nothing is decided here that the books and the shards do not decide in the order of their logs, so a
//! gateway may give up at any point: what it leaves behind is never too much, and the next one who needs it picks it up.

use std::time::Duration;

use annulus_common::ids::{BucketId, ShardId};
use annulus_common::map::{Bucket, ClusterMap};
use annulus_common::protocol::metadata::{
    AllowanceChange, BOOKED_SHARDS_MAX, BooksEntry, Command, MetaReply, Query, QueryReply, QuotaReply, QuotaTerms,
};
use annulus_common::usage::{Payer, PayerKind, Quota, Usage};
use futures::{StreamExt, TryStreamExt};

use super::{ObjectError, Objects};

/// How often a write asks for more before its client is told to come back: each time another writer was faster.
pub(super) const ASKS_MAX: usize = 8;

/// Shards that are asked at once.
const SHARDS_AT_ONCE_MAX: usize = 16;

/// How long the one who counts is left alone before another begins anew: counting 16 shards takes milliseconds.
const COUNTING_PATIENCE: Duration = Duration::from_secs(3);

/// How often it is looked after.
const COUNTING_POLL: Duration = Duration::from_millis(50);

/// Attempts to count, while others count, too.
const COUNTS_MAX: usize = 4;

/// A shard of a bucket.
type Place = (BucketId, ShardId);

impl Objects {
    /// Brings the quota of a bucket or an account into force as the cluster map has it: nobody is over it when this returns,
    /// but for what was stored before. To be asked for again when it fails.
    pub async fn settle_quota(&self, payer: Payer) -> Result<(), ObjectError> {
        for _ in 0..COUNTS_MAX {
            let map = self.client.map().await?;
            let limit = quota_of(&map, payer).map(Quota::limit);
            let entry = BooksEntry::Limit { limit, version: map.version.0 };
            let settled = match (self.keep_books(payer, entry).await?, limit) {
                (QuotaReply::Granted { serial, .. }, None) => {
                    let change = AllowanceChange::Set { serial, limit: None };
                    self.tell_all(payer, shards_of(&map, payer), change).await?;
                    true
                }
                (QuotaReply::Granted { .. }, Some(_)) => self.count_anew(payer, shards_of(&map, payer)).await?,
                (QuotaReply::Superseded, _) => false,
                (reply, _) => return Err(unexpected(reply)),
            };
            if settled {
                return Ok(());
            }
        }
        Err(ObjectError::Conflict)
    }

    /// How much a bucket or an account holds.
    pub async fn used_of(&self, payer: Payer) -> Result<Usage, ObjectError> {
        let places = shards_of(&*self.client.map().await?, payer);
        let used = self.used(&places).await?;
        Ok(used.into_iter().fold(Usage::NONE, Usage::plus))
    }

    /// Says in a command that makes an object which quotas it counts for.
    pub(super) fn under_quotas(&self, bucket: &Bucket, mut command: Command) -> Command {
        if let Command::Put { quota, .. } | Command::Append { quota, .. } | Command::CompleteUpload { quota, .. } =
            &mut command
        {
            let map = self.client.watch().latest();
            let has_quota = |payer| quota_of(&map, payer).is_some();
            *quota = QuotaTerms {
                bucket: bucket.config.quota.is_some() || has_quota(Payer::Bucket(bucket.id)),
                account: has_quota(Payer::Account(bucket.owner)),
                last: false,
            };
        }
        command
    }

    /// Gets a shard what it needs; says whether there was as much.
    pub(super) async fn ask_for_more(
        &self,
        bucket: &Bucket,
        shard: ShardId,
        kind: PayerKind,
        needs: Usage,
    ) -> Result<bool, ObjectError> {
        let payer = match kind {
            PayerKind::Bucket => Payer::Bucket(bucket.id),
            PayerKind::Account => Payer::Account(bucket.owner),
        };
        let place = (bucket.id, shard);
        match self.ask_books(payer, place, needs).await? {
            QuotaReply::Granted { serial, limit } => {
                self.tell(kind, place, AllowanceChange::Set { serial, limit }).await.map(|_| true)
            }
            QuotaReply::Exhausted { free } => self.reclaim(payer, place, needs, free).await,
            reply => Err(unexpected(reply)),
        }
    }

    /// Asks for a grant. Where somebody began to count and gave up, this counts.
    async fn ask_books(&self, payer: Payer, place: Place, needs: Usage) -> Result<QuotaReply, ObjectError> {
        let until = self.clock.monotonic() + COUNTING_PATIENCE;
        for _ in 0..COUNTS_MAX {
            loop {
                let entry = BooksEntry::Grant { bucket: place.0, shard: place.1, needs };
                match self.keep_books(payer, entry).await? {
                    QuotaReply::Uncounted if self.clock.monotonic() >= until => break,
                    QuotaReply::Uncounted => tokio::time::sleep(COUNTING_POLL).await,
                    reply => return Ok(reply),
                }
            }
            self.settle_quota(payer).await?;
        }
        Err(ObjectError::Conflict)
    }

    /// Lets other shards give back what they do not use, as much as is missing. When all of them do not have as much, says so.
    async fn reclaim(&self, payer: Payer, asker: Place, needs: Usage, free: Usage) -> Result<bool, ObjectError> {
        let grants = self.grants(payer).await?;
        let own = grants.iter().find(|(place, _)| *place == asker).map_or(Usage::NONE, |(_, amount)| *amount);
        let mut missing = needs.minus(own).minus(free);
        let others: Vec<(Place, Usage)> = grants.into_iter().filter(|(place, _)| *place != asker).collect();
        let used = self.used(&others.iter().map(|(place, _)| *place).collect::<Vec<_>>()).await?;
        let spare = others.iter().zip(used).map(|((place, amount), used)| (*place, amount.minus(used)));
        let mut spare: Vec<(Place, Usage)> = spare.filter(|(_, spare)| *spare != Usage::NONE).collect();
        spare.sort_by_key(|(_, spare)| std::cmp::Reverse((spare.bytes, spare.objects)));
        let mut recalled = Vec::new();
        for (place, spare) in spare {
            if missing == Usage::NONE {
                break;
            }
            missing = missing.minus(spare);
            recalled.push(place);
        }
        if missing != Usage::NONE {
            return Ok(false);
        }
        self.take_back(payer, recalled, false).await.map(|_| true)
    }

    /// Has every shard keep what it uses and no more, and the books know of it: whether nobody came in between.
    async fn count_anew(&self, payer: Payer, places: Vec<Place>) -> Result<bool, ObjectError> {
        self.take_back(payer, places, true).await
    }

    async fn take_back(&self, payer: Payer, places: Vec<Place>, all: bool) -> Result<bool, ObjectError> {
        let mut serial = None;
        // An account without buckets has nothing to be counted, which is to be said, too.
        for shards in chunks(&places) {
            match self.keep_books(payer, BooksEntry::Recall { serial, shards }).await? {
                QuotaReply::Recalled { serial: given } => serial = Some(given),
                QuotaReply::Superseded => return Ok(false),
                reply => return Err(unexpected(reply)),
            }
        }
        let Some(serial) = serial else { return Ok(true) };
        let shrink = AllowanceChange::Shrink { serial };
        let told = self.tell_all(payer, places, shrink).await?;
        let left = told.into_iter().filter_map(|((bucket, shard), reply)| match reply {
            QuotaReply::Shrunk(used) => Some((bucket, shard, used)),
            _ => None,
        });
        let left = chunks(&left.collect::<Vec<_>>());
        let last = left.len() - 1;
        for (number, left) in left.into_iter().enumerate() {
            let entry = BooksEntry::Returned { serial, left, all: all && number == last };
            if self.keep_books(payer, entry).await? == QuotaReply::Superseded {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn tell_all(
        &self,
        payer: Payer,
        places: Vec<Place>,
        change: AllowanceChange,
    ) -> Result<Vec<(Place, QuotaReply)>, ObjectError> {
        let tell = |place| async move { Ok((place, self.tell(payer.kind(), place, change).await?)) };
        // Boxed: a closure that borrows is not general enough for the compiler to prove the stream `Send`.
        let told: Vec<_> = places.into_iter().map(tell).map(Box::pin).collect();
        futures::stream::iter(told).buffer_unordered(SHARDS_AT_ONCE_MAX).try_collect().await
    }

    /// Tells a shard what it may hold.
    async fn tell(
        &self,
        kind: PayerKind,
        (bucket, shard): Place,
        change: AllowanceChange,
    ) -> Result<QuotaReply, ObjectError> {
        let partition = self.client.watch().latest().partition_of_shard(bucket, shard);
        let mutation = self.client.mutation(Command::Allowance { bucket, shard, kind, change });
        match self.client.mutate(partition, &mutation).await? {
            MetaReply::Quota(reply) => Ok(reply),
            other => Err(ObjectError::Internal(format!("the answer is not one to an allowance: {other:?}"))),
        }
    }

    async fn keep_books(&self, payer: Payer, entry: BooksEntry) -> Result<QuotaReply, ObjectError> {
        let partition = self.client.watch().latest().home_of(payer);
        let mutation = self.client.mutation(Command::Books { payer, entry });
        match self.client.mutate(partition, &mutation).await? {
            MetaReply::Quota(reply) => Ok(reply),
            other => Err(ObjectError::Internal(format!("the answer is not one to an entry in books: {other:?}"))),
        }
    }

    /// What all shards were granted.
    async fn grants(&self, payer: Payer) -> Result<Vec<(Place, Usage)>, ObjectError> {
        let partition = self.client.watch().latest().home_of(payer);
        let mut grants: Vec<(Place, Usage)> = Vec::new();
        loop {
            let after = grants.last().map(|(place, _)| *place);
            let query = Query::Grants { payer, after, limit: BOOKED_SHARDS_MAX as u32 };
            let QueryReply::Grants(page) = self.client.query_one(partition, query).await? else {
                return Err(ObjectError::Internal("the answer is not one to a query for grants".into()));
            };
            let full = page.len() == BOOKED_SHARDS_MAX;
            grants.extend(page.into_iter().map(|(bucket, shard, amount)| ((bucket, shard), amount)));
            if !full {
                return Ok(grants);
            }
        }
    }

    /// What shards hold, in the order asked.
    async fn used(&self, places: &[Place]) -> Result<Vec<Usage>, ObjectError> {
        let map = self.client.watch().latest();
        let query = |(bucket, shard)| Query::Usage { bucket, shard, prefix: String::new(), after: None, limit: 0 };
        let queries =
            places.iter().map(|&(bucket, shard)| (map.partition_of_shard(bucket, shard), query((bucket, shard))));
        let replies = self.client.query(queries.collect()).await?.into_iter().map(|reply| match reply {
            QueryReply::Usage(page) => Ok(page.whole),
            _ => Err(ObjectError::Internal("the answer is not one to a query for usage".into())),
        });
        replies.collect()
    }
}

/// In pieces that fit one entry; nothing is one piece, too.
fn chunks<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    match items {
        [] => vec![Vec::new()],
        items => items.chunks(BOOKED_SHARDS_MAX).map(<[T]>::to_vec).collect(),
    }
}

fn quota_of(map: &ClusterMap, payer: Payer) -> Option<Quota> {
    match payer {
        Payer::Bucket(id) => map.buckets.values().find(|bucket| bucket.id == id)?.config.quota.as_deref().copied(),
        Payer::Account(user) => map.users.get(&user)?.quota,
    }
}

/// All shards that count for a quota.
fn shards_of(map: &ClusterMap, payer: Payer) -> Vec<Place> {
    let counts = |bucket: &&Bucket| match payer {
        Payer::Bucket(id) => bucket.id == id,
        Payer::Account(user) => bucket.owner == user,
    };
    let shards = |bucket: &Bucket| {
        let id = bucket.id;
        (0..bucket.shards).map(move |shard| (id, ShardId(shard)))
    };
    map.buckets.values().filter(counts).flat_map(shards).collect()
}

fn unexpected(reply: QuotaReply) -> ObjectError {
    ObjectError::Internal(format!("unexpected answer about a quota: {reply:?}"))
}
