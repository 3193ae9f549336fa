//! How large what accounts configure is in the cluster map, and how large it may be: all of it, and one account's share.
//!
//! Every process of the cluster has a copy of the map, so its size is everybody's memory; it breaks nothing, for maps of any size travel in
//! pieces (`whole`). A change that makes it larger than it may be is refused in the log's order, as every replica keeps the same count
//! and asks [`MapSize::judge`]. What takes something away always passes, and so does what operators need to run a full cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::change::MapChange;
use super::{BucketChange, ClusterMap};
use crate::iam::{Iam, Kind, Record};
use crate::object::UserId;

/// What all accounts may have configured together, encoded: a hundred buckets with all documents that S3 takes, at their largest,
/// or 32,000 with a kilobyte each. A process takes a few times as much memory, for each of its copies.
pub const MAP_BYTES_MAX: u64 = 32 << 20;

/// What one account may have configured of it: nobody takes all of it alone.
pub const ACCOUNT_BYTES_MAX: u64 = MAP_BYTES_MAX / 4;

/// Buckets, accounts and access keys together: who watches the map copies what finds them with every change.
pub const RECORDS_MAX: usize = 32_000;

/// A bound that a change of the map would pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum SizeLimit {
    /// The account's share.
    #[error(
        "The buckets of one account, with their configurations, its keys, users, groups, roles and policies may have {} MiB \
         together, and this would be more. Remove what is not needed.",
        ACCOUNT_BYTES_MAX >> 20
    )]
    Account,
    /// All accounts together.
    #[error(
        "The buckets of all accounts, with their configurations, keys, users, groups, roles and policies may have {} MiB \
         together, and this would be more. Remove what is not needed.",
        MAP_BYTES_MAX >> 20
    )]
    Map,
    /// Buckets, accounts and access keys.
    #[error("There may be {RECORDS_MAX} buckets, accounts and access keys together, and there are as many.")]
    Records,
}

/// How large what accounts configure is. A count that is kept, change by change, and is that of the whole map at any time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MapSize {
    /// Of nobody are the keys of the key service.
    owners: BTreeMap<Option<UserId>, u64>,
    total: u64,
}

/// A part of the map that counts: who configured it, and its bytes.
pub type Weight = (Option<UserId>, u64);

/// By how much a change makes what each has configured larger, or smaller.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Growth(BTreeMap<Option<UserId>, i64>);

impl Growth {
    /// What becomes of these parts.
    pub fn between(before: &[Weight], after: &[Weight]) -> Self {
        let mut growth = Self::default();
        before.iter().for_each(|(owner, bytes)| *growth.0.entry(*owner).or_default() -= *bytes as i64);
        after.iter().for_each(|(owner, bytes)| *growth.0.entry(*owner).or_default() += *bytes as i64);
        growth
    }
}

impl MapSize {
    /// The size of a whole map.
    pub fn of(map: &ClusterMap) -> Self {
        let buckets = map.buckets.iter().map(|(name, bucket)| (Some(bucket.owner), bytes_of(name, bucket)));
        let users = map.users.iter().map(|(id, user)| (Some(*id), bytes_of(id, user)));
        let keys = map.keys.iter().map(|(id, key)| (Some(key.user), bytes_of(id, key)));
        let kms_keys = map.kms_keys.iter().map(|(name, key)| (None, bytes_of(name, key)));
        let identities = map.iam.records().into_iter().filter_map(|record| weight_of_identity(&map.iam, &record));
        let all: Vec<Weight> = buckets.chain(users).chain(keys).chain(kms_keys).chain(identities).collect();
        let mut size = Self::default();
        size.grow(&Growth::between(&[], &all));
        size
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Who has configured most, and how much that is.
    pub fn largest(&self) -> Option<(UserId, u64)> {
        let accounts = self.owners.iter().filter_map(|(owner, bytes)| Some(((*owner)?, *bytes)));
        accounts.max_by_key(|(_, bytes)| *bytes)
    }

    /// Whether it may grow by so much.
    pub fn judge(&self, growth: &Growth) -> Result<(), SizeLimit> {
        let passes = |now: u64, by: i64, most: u64| by > 0 && now.saturating_add_signed(by) > most;
        let of = |owner| self.owners.get(owner).copied().unwrap_or_default();
        if growth.0.iter().any(|(owner, by)| owner.is_some() && passes(of(owner), *by, ACCOUNT_BYTES_MAX)) {
            return Err(SizeLimit::Account);
        }
        if passes(self.total, growth.0.values().sum(), MAP_BYTES_MAX) {
            return Err(SizeLimit::Map);
        }
        Ok(())
    }

    /// Counts what a change did.
    pub fn grow(&mut self, growth: &Growth) {
        for (owner, by) in &growth.0 {
            let bytes = self.owners.get(owner).copied().unwrap_or_default().saturating_add_signed(*by);
            self.total = self.total.saturating_add_signed(*by);
            match bytes {
                0 => self.owners.remove(owner),
                bytes => self.owners.insert(*owner, bytes),
            };
        }
    }
}

/// What a part of the map takes, with what it is found by.
pub fn bytes_of<K: Serialize + ?Sized, V: Serialize>(key: &K, value: &V) -> u64 {
    let bytes = postcard::experimental::serialized_size(&(key, value));
    bytes.expect("parts of the map are plain data, which always encodes") as u64
}

/// What an identity takes, if it is there.
pub fn weight_of_identity(iam: &Iam, record: &Record) -> Option<Weight> {
    let key = &record.key;
    let bytes = match record.kind {
        Kind::User => iam.users.get(key).map(|user| bytes_of(key, user)),
        Kind::Group => iam.groups.get(key).map(|group| bytes_of(key, group)),
        Kind::Role => iam.roles.get(key).map(|role| bytes_of(key, role)),
        Kind::Policy => iam.policies.get(key).map(|policy| bytes_of(key, policy)),
    };
    bytes.map(|bytes| (Some(key.account), bytes))
}

impl MapChange {
    /// Whether it may make what accounts configure larger without bound. Not what ends or removes something, what operators do with
    /// nodes, and settings of a few bytes: a full map must not keep anybody from closing a bucket to the public.
    pub fn adds(&self) -> bool {
        match self {
            MapChange::CreateBucket { .. }
            | MapChange::CreateUser { .. }
            | MapChange::CreateKey { .. }
            | MapChange::CreateKmsKey { .. }
            | MapChange::PutKmsKeyVersion { .. }
            | MapChange::Iam { .. } => true,
            MapChange::ConfigureBucket { change, .. } => change.is_document(),
            MapChange::BeginDeleteBucket { .. }
            | MapChange::AbortDeleteBucket { .. }
            | MapChange::FinishDeleteBucket { .. }
            | MapChange::SetUserQuota { .. }
            | MapChange::DeleteUser { .. }
            | MapChange::DeleteKey { .. }
            | MapChange::RegisterNode { .. }
            | MapChange::ChangeLayout(_)
            | MapChange::Moved(_)
            | MapChange::PauseMoves(_)
            | MapChange::EnableKmsKey { .. } => false,
        }
    }
}

impl BucketChange {
    fn is_document(&self) -> bool {
        match self {
            BucketChange::Acl(_)
            | BucketChange::Encryption(_)
            | BucketChange::Tags(_)
            | BucketChange::Policy(_)
            | BucketChange::Lifecycle(_)
            | BucketChange::Cors(_)
            | BucketChange::Website(_)
            | BucketChange::Logging(_)
            | BucketChange::Notification(_)
            | BucketChange::MergeTags { .. } => true,
            BucketChange::RequesterPays(_)
            | BucketChange::Versioning(_)
            | BucketChange::PublicAccessBlock(_)
            | BucketChange::ObjectLock(_)
            | BucketChange::Quota(_)
            | BucketChange::Ownership(_)
            | BucketChange::SuspendAcceleration => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ACCOUNT_BYTES_MAX, Growth, MAP_BYTES_MAX, MapSize, SizeLimit, Weight};
    use crate::object::UserId;

    const OTHERS: u64 = MAP_BYTES_MAX - ACCOUNT_BYTES_MAX;

    fn account(number: u8) -> Option<UserId> {
        Some(UserId([number; 32]))
    }

    fn size(weights: &[Weight]) -> MapSize {
        let mut size = MapSize::default();
        size.grow(&Growth::between(&[], weights));
        size
    }

    #[test]
    fn what_grows_past_a_bound_is_refused_and_what_shrinks_never() {
        let more = |owner, bytes: u64| Growth::between(&[(owner, 10)], &[(owner, 10 + bytes)]);
        let less = |owner| Growth::between(&[(owner, 10)], &[(owner, 9)]);
        let full = size(&[(account(1), ACCOUNT_BYTES_MAX - 5), (account(2), 100)]);
        assert_eq!(full.judge(&more(account(1), 5)), Ok(()));
        assert_eq!(full.judge(&more(account(1), 6)), Err(SizeLimit::Account));
        assert_eq!(full.judge(&more(account(2), 6)), Ok(()));
        let full = size(&[(account(1), 500), (None, OTHERS), (account(2), ACCOUNT_BYTES_MAX - 500)]);
        assert_eq!(full.judge(&more(account(1), 1)), Err(SizeLimit::Map));
        assert_eq!(full.judge(&more(None, 1)), Err(SizeLimit::Map), "keys of the key service have no share, but count");
        // However it came to be too large.
        let beyond = size(&[(account(1), 2 * MAP_BYTES_MAX)]);
        for growth in [less(account(1)), less(None), Growth::default()] {
            assert_eq!((full.judge(&growth), beyond.judge(&growth)), (Ok(()), Ok(())));
        }
    }

    #[test]
    fn a_bucket_that_changes_hands_counts_where_it_is() {
        let mut size = size(&[(account(1), 30), (account(2), 50)]);
        assert_eq!((size.total(), size.largest()), (80, Some((UserId([2; 32]), 50))));
        size.grow(&Growth::between(&[(account(2), 45)], &[(account(1), 47)]));
        assert_eq!((size.total(), size.largest()), (82, Some((UserId([1; 32]), 77))));
        size.grow(&Growth::between(&[(account(2), 5)], &[]));
        assert_eq!(size, self::size(&[(account(1), 77)]), "who has nothing is not counted");
    }
}
