//! How much is stored: objects and bytes, of a bucket or of what lies under a prefix, and how much may be: quotas. Pure.

use serde::{Deserialize, Serialize};

use crate::ids::{BucketId, UserId};

/// How many `/` a prefix may have to be counted: every object costs a counter's change for each, so it is a bound on writes.
pub const COUNTED_DEPTH_MAX: usize = 4;

/// Prefixes that one query may return: what a listing's page has.
pub const USAGES_MAX: u32 = 1_000;

/// Objects, all their versions counted, and their bytes as clients sent them. Delete markers and uploads under way are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Versions of objects.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// The most that a bucket or an account may hold, of either where it says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Quota {
    /// Versions of objects.
    pub objects: Option<u64>,
    /// Bytes of them.
    pub bytes: Option<u64>,
    /// The version of the cluster map that says so: whoever was told by an older one has to ask.
    pub version: u64,
}

/// What has a quota.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Payer {
    /// A bucket.
    Bucket(BucketId),
    /// An account: all its buckets together, whoever writes to them.
    Account(UserId),
}

/// Which of the two quotas that a shard is under.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PayerKind {
    /// Its bucket's.
    Bucket,
    /// That of the account that owns the bucket.
    Account,
}

impl PayerKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bucket, Self::Account];
}

impl Payer {
    /// Of which kind it is.
    pub fn kind(self) -> PayerKind {
        match self {
            Self::Bucket(_) => PayerKind::Bucket,
            Self::Account(_) => PayerKind::Account,
        }
    }
}

impl Quota {
    /// It as that version of the cluster map sets it.
    #[must_use]
    pub fn at(self, version: u64) -> Self {
        Self { version, ..self }
    }

    /// It as an amount; what it does not speak of has no end.
    pub fn limit(self) -> Usage {
        Usage { objects: self.objects.unwrap_or(u64::MAX), bytes: self.bytes.unwrap_or(u64::MAX) }
    }
}

impl Usage {
    /// Nothing.
    pub const NONE: Self = Self { objects: 0, bytes: 0 };

    /// One object.
    pub fn of_object(bytes: u64) -> Self {
        Self { objects: 1, bytes }
    }

    /// Both together. What does not fit is as much as fits: no disk holds it.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        let (objects, bytes) = (self.objects.saturating_add(more.objects), self.bytes.saturating_add(more.bytes));
        Self { objects, bytes }
    }

    /// What is left of it, of each at least nothing.
    #[must_use]
    pub fn minus(self, less: Self) -> Self {
        let (objects, bytes) = (self.objects.saturating_sub(less.objects), self.bytes.saturating_sub(less.bytes));
        Self { objects, bytes }
    }
}

impl Usage {
    /// Whether neither is more than that.
    pub fn fits(self, limit: Self) -> bool {
        self.objects <= limit.objects && self.bytes <= limit.bytes
    }
}

/// How much is stored under a prefix.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UsagePage {
    /// Under the prefix, all in all.
    pub whole: Usage,
    /// Under each prefix that is longer by one slash, in byte order.
    pub below: Vec<(String, Usage)>,
    /// Whether there are more of those.
    pub more: bool,
}

/// The prefixes that an object of that key counts for: the empty one, and those that end with its first slashes.
pub fn counted_prefixes(key: &str) -> impl Iterator<Item = &str> {
    let slashes = key.match_indices('/').take(COUNTED_DEPTH_MAX);
    std::iter::once("").chain(slashes.map(|(at, _)| &key[..=at]))
}

/// How many slashes a prefix has, if it is one that is counted.
pub fn counted_depth(prefix: &str) -> Option<u8> {
    let depth = prefix.matches('/').count();
    let is_counted = depth <= COUNTED_DEPTH_MAX && (prefix.is_empty() || prefix.ends_with('/'));
    u8::try_from(depth).ok().filter(|_| is_counted)
}

#[cfg(test)]
mod tests {
    use super::{COUNTED_DEPTH_MAX, counted_depth, counted_prefixes};

    #[test]
    fn a_key_counts_for_what_is_above_it() {
        let of = |key| counted_prefixes(key).collect::<Vec<_>>();
        assert_eq!(of("a"), [""]);
        assert_eq!(of("a/b"), ["", "a/"]);
        assert_eq!(of("a/b/"), ["", "a/", "a/b/"]);
        assert_eq!(of("/a"), ["", "/"]);
        assert_eq!(of("1/2/3/4/5/6"), ["", "1/", "1/2/", "1/2/3/", "1/2/3/4/"]);
    }

    #[test]
    fn what_a_key_counts_for_is_what_can_be_asked() {
        for key in ["", "a", "a/b", "//", "1/2/3/4/5/6"] {
            for (depth, prefix) in counted_prefixes(key).enumerate() {
                assert_eq!(counted_depth(prefix).map(usize::from), Some(depth), "{prefix:?}");
            }
        }
        for prefix in ["a", "a/b", "1/2/3/4/5/"] {
            assert_eq!(counted_depth(prefix), None, "{prefix:?}");
        }
        assert_eq!(counted_depth(&"x/".repeat(COUNTED_DEPTH_MAX)).map(usize::from), Some(COUNTED_DEPTH_MAX));
    }
}
