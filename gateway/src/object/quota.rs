//! Quotas from a gateway's side: it goes between the books of a quota, which grant, and the shards, which keep to what they
//! were granted. Nothing is decided here that the books and the shards do not decide in the order of their logs, so a
//! gateway may give up at any point: what it leaves behind is never too much, and the next one who needs it picks it up.

use std::time::Duration;

use annulus_common::ids::{BucketId, ShardId};
use annulus_common::map::{Bucket, ClusterMap};
use annulus_common::object::{KeyPath, VersionId, Versioning};
use annulus_common::protocol::metadata::{
    AllowanceChange, BOOKED_SHARDS_MAX, BooksEntry, Command, MetaReply, Query, QueryReply, QuotaReply, QuotaTerms,
    Serial,
};
use annulus_common::usage::{Payer, PayerKind, Quota, Usage};
use futures::{StreamExt, TryStreamExt};

use super::{ObjectError, Objects};

/// How often a write asks for more before its client is told to come back: each time another writer was faster.
pub(super) const ASKS_MAX: usize = 8;

/// Shards that are asked at once.
const SHARDS_AT_ONCE_MAX: usize = 16;

/// Shards that are counted at a time, so that others hear of it: 160,000 belong to the largest account.
const COUNTED_AT_ONCE_MAX: usize = 256;

/// How long somebody waits for the shards to be counted, before the client is told to come back: counting 16 takes
/// milliseconds, and one who died amid it is given up after seconds.
const COUNTING_WAIT: Duration = Duration::from_secs(15);

/// How often one looks whether they were.
const COUNTING_POLL: Duration = Duration::from_millis(50);

/// How often an ask that meets a counting under way is repeated.
const COUNTS_MAX: usize = 4;

/// A shard of a bucket.
type Place = (BucketId, ShardId);

/// What the cluster map says of a quota.
#[derive(Clone, Copy)]
struct Said {
    limit: Option<Usage>,
    /// The version of the map that set it; where there is no quota, the version that knows of none.
    version: u64,
}

impl Objects {
    /// Brings the quota of a bucket or an account into force as the cluster map has it: nobody is over it when this returns,
    /// but for what was stored before. A gateway that dies amid this leaves it to the next one that meets the quota.
    pub async fn settle_quota(&self, payer: Payer) -> Result<(), ObjectError> {
        let until = self.clock.monotonic() + COUNTING_WAIT;
        while self.clock.monotonic() < until {
            let map = self.client.map().await?;
            let said = said_of(&map, payer);
            let entry = BooksEntry::Limit { limit: said.limit, version: said.version };
            match self.keep_books(payer, entry).await? {
                QuotaReply::InForce => return Ok(()),
                QuotaReply::Granted { serial, limit } => {
                    let change = AllowanceChange::Set { serial, limit };
                    return self.tell_all(payer, shards_of(&map, payer), change).await.map(|_| ());
                }
                QuotaReply::Counting { serial } => {
                    if self.take_back(payer, Some(serial), &shards_of(&map, payer)).await? {
                        return Ok(());
                    }
                }
                // Somebody else counts, or the books know a newer limit than this gateway's map does yet.
                QuotaReply::Uncounted | QuotaReply::Superseded => {}
                reply => return Err(unexpected(reply)),
            }
            tokio::time::sleep(COUNTING_POLL).await;
        }
        Err(ObjectError::Busy)
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
            let version = |payer| quota_of(&map, payer).map(|quota| quota.version);
            let looked_up = bucket.config.quota.as_deref().map(|quota| quota.version);
            *quota = QuotaTerms {
                // Whichever is newer: the map may be older than the one in which the bucket was looked up.
                bucket: looked_up.max(version(Payer::Bucket(bucket.id))),
                account: version(Payer::Account(bucket.owner)),
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
            QuotaReply::Exhausted { limit } => self.reclaim(payer, place, needs, limit).await,
            reply => Err(unexpected(reply)),
        }
    }

    /// Has a shard granted what an object takes that is to be written there, so that nobody copies what there is no room for.
    /// Whether it may be written is decided when it is.
    pub(super) async fn make_room(&self, bucket: &Bucket, path: &KeyPath, size: u64) -> Result<(), ObjectError> {
        let map = self.client.watch().latest();
        let payers =
            [(PayerKind::Bucket, Payer::Bucket(bucket.id)), (PayerKind::Account, Payer::Account(bucket.owner))];
        let limited: Vec<_> = payers.into_iter().filter(|(_, payer)| quota_of(&map, *payer).is_some()).collect();
        if limited.is_empty() {
            return Ok(());
        }
        let used = self.used(&[(bucket.id, path.shard)]).await?.into_iter().fold(Usage::NONE, Usage::plus);
        let needs = used.minus(self.replaced(bucket, &path.key).await?).plus(Usage::of_object(size));
        if needs.fits(used) {
            return Ok(());
        }
        for (kind, _) in limited {
            if !self.ask_for_more(bucket, path.shard, kind, needs).await? {
                return Err(ObjectError::QuotaExceeded);
            }
        }
        Ok(())
    }

    /// What goes when an object is written at a key.
    async fn replaced(&self, bucket: &Bucket, key: &str) -> Result<Usage, ObjectError> {
        if bucket.config.versioning == Versioning::Enabled {
            return Ok(Usage::NONE);
        }
        match self.get(bucket, key, Some(VersionId::Null)).await {
            Ok(found) => Ok(Usage::of_object(found.object.size)),
            Err(ObjectError::NoSuchVersion | ObjectError::IsDeleteMarker(_)) => Ok(Usage::NONE),
            Err(error) => Err(error),
        }
    }

    /// Asks for a grant. Where the books do not know the limit, or not what the shards use, that comes first.
    async fn ask_books(&self, payer: Payer, (bucket, shard): Place, needs: Usage) -> Result<QuotaReply, ObjectError> {
        for _ in 0..COUNTS_MAX {
            let Said { limit, version } = said_of(&self.client.watch().latest(), payer);
            let entry = BooksEntry::Grant { bucket, shard, needs, limit, version };
            match self.keep_books(payer, entry).await? {
                QuotaReply::Uncounted => self.settle_quota(payer).await?,
                reply => return Ok(reply),
            }
        }
        Err(ObjectError::Busy)
    }

    /// Lets shards give back what they do not use, as much as is missing. When all of them do not have as much, says so.
    async fn reclaim(&self, payer: Payer, asker: Place, needs: Usage, limit: Usage) -> Result<bool, ObjectError> {
        let grants = self.grants(payer).await?;
        let places: Vec<Place> = grants.iter().map(|(place, _)| *place).collect();
        let used = self.used(&places).await?;
        let Some(surplus) = surplus(&grants, &used, asker, needs, limit) else { return Ok(false) };
        if !surplus.is_empty() {
            self.take_back(payer, None, &surplus).await?;
        }
        Ok(true)
    }

    /// Has shards keep what they use and no more, and the books know of it: whether nobody came in between. A counting is of
    /// all shards.
    async fn take_back(&self, payer: Payer, counting: Option<Serial>, places: &[Place]) -> Result<bool, ObjectError> {
        let pieces = pieces(places);
        for (number, &shards) in pieces.iter().enumerate() {
            let recall = BooksEntry::Recall { serial: counting, shards: shards.to_vec() };
            let serial = match self.keep_books(payer, recall).await? {
                QuotaReply::Recalled { serial } => serial,
                QuotaReply::Superseded | QuotaReply::Uncounted => return Ok(false),
                reply => return Err(unexpected(reply)),
            };
            let told = self.tell_all(payer, shards.to_vec(), AllowanceChange::Shrink { serial }).await?;
            let left = told.into_iter().filter_map(|((bucket, shard), reply)| match reply {
                QuotaReply::Shrunk(used) => Some((bucket, shard, used)),
                _ => None,
            });
            let all = counting.is_some() && number + 1 == pieces.len();
            let returned = BooksEntry::Returned { serial, left: left.collect(), all };
            if self.keep_books(payer, returned).await? == QuotaReply::Superseded {
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
        let mut proposal = self.client.proposal(partition, Command::Allowance { bucket, shard, kind, change });
        match self.client.mutate(&mut proposal).await? {
            MetaReply::Quota(reply) => Ok(reply),
            other => Err(ObjectError::Internal(format!("the answer is not one to an allowance: {other:?}"))),
        }
    }

    async fn keep_books(&self, payer: Payer, entry: BooksEntry) -> Result<QuotaReply, ObjectError> {
        let partition = self.client.watch().latest().home_of(payer);
        let mut proposal = self.client.proposal(partition, Command::Books { payer, entry });
        match self.client.mutate(&mut proposal).await? {
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

/// In pieces that are counted at a time; nothing is one piece, too: an account without buckets has nothing to be counted, which
/// is to be said.
fn pieces(places: &[Place]) -> Vec<&[Place]> {
    match places {
        [] => vec![places],
        places => places.chunks(COUNTED_AT_ONCE_MAX).collect(),
    }
}

/// Which shards are to give back what they do not use, so that one of them may hold what it needs; the others keep theirs. None
/// if they do not have as much between them.
fn surplus(grants: &[(Place, Usage)], used: &[Usage], asker: Place, needs: Usage, limit: Usage) -> Option<Vec<Place>> {
    let own = grants.iter().find(|(place, _)| *place == asker).map_or(Usage::NONE, |(_, amount)| *amount);
    let granted = grants.iter().map(|(_, amount)| *amount).fold(Usage::NONE, Usage::plus);
    let mut missing = granted.plus(needs.minus(own)).minus(limit);
    let spare = grants.iter().zip(used).map(|((place, amount), used)| match *place == asker {
        true => (*place, amount.minus(needs)),
        false => (*place, amount.minus(*used)),
    });
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
    (missing == Usage::NONE).then_some(recalled)
}

fn said_of(map: &ClusterMap, payer: Payer) -> Said {
    match quota_of(map, payer) {
        Some(quota) => Said { limit: Some(quota.limit()), version: quota.version },
        None => Said { limit: None, version: map.version.0 },
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

#[cfg(test)]
mod tests {
    use annulus_common::ids::{BucketId, ShardId};
    use annulus_common::usage::Usage;

    use super::{Place, surplus};

    fn place(shard: u16) -> Place {
        (BucketId(1), ShardId(shard))
    }

    fn bytes(bytes: u64) -> Usage {
        Usage { objects: 0, bytes }
    }

    /// Who gives back where shard 0 needs so much; each shard is what it was granted and what it uses.
    fn recalled(shards: &[(u64, u64)], needs: u64, limit: u64) -> Option<Vec<u16>> {
        let grants: Vec<_> = (0..).zip(shards).map(|(shard, (granted, _))| (place(shard), bytes(*granted))).collect();
        let used: Vec<_> = shards.iter().map(|(_, used)| bytes(*used)).collect();
        let places = surplus(&grants, &used, place(0), bytes(needs), bytes(limit))?;
        Some(places.into_iter().map(|(_, shard)| shard.0).collect())
    }

    #[test]
    fn as_few_give_back_as_have_enough() {
        let shards = [(10, 10), (20, 15), (30, 10), (40, 39)];
        assert_eq!(recalled(&shards, 11, 101), Some(vec![]), "it is free meanwhile");
        assert_eq!(recalled(&shards, 11, 100), Some(vec![2]));
        assert_eq!(recalled(&shards, 31, 100), Some(vec![2, 1]));
        assert_eq!(recalled(&shards, 36, 100), Some(vec![2, 1, 3]));
        assert_eq!(recalled(&shards, 37, 100), None);
        assert_eq!(recalled(&[], 5, 5), Some(vec![]));
        assert_eq!(recalled(&[], 6, 5), None);
    }

    #[test]
    fn where_more_is_stored_than_may_be_nobody_grows() {
        // 60 are stored, and 50 may be. What was deleted meanwhile is not enough.
        assert_eq!(recalled(&[(30, 0), (30, 30)], 30, 50), None);
        assert_eq!(recalled(&[(30, 0), (30, 30)], 20, 50), Some(vec![0]), "its own share is too large");
        assert_eq!(recalled(&[(30, 30), (30, 15)], 31, 45), None);
        assert_eq!(recalled(&[(30, 30), (30, 15)], 31, 46), Some(vec![1]));
    }
}
