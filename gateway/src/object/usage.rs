//! How much a bucket holds, put together from its shards: each counts for itself, exactly. What is written meanwhile may be in
//! one shard's answer and not in another's.

use std::collections::BTreeMap;

use annulus_common::ids::ShardId;
use annulus_common::map::Bucket;
use annulus_common::protocol::metadata::{Query, QueryReply, UsagePage};
use annulus_common::usage::{USAGES_MAX, Usage};

use super::{ObjectError, Objects};

impl Objects {
    /// How much lies under a prefix, and a page of what lies under those that are longer by one slash, after the one named.
    /// The prefix is one that is counted ([`annulus_common::usage::counted_depth`]).
    pub async fn usage(&self, bucket: &Bucket, prefix: &str, after: Option<&str>) -> Result<UsagePage, ObjectError> {
        let map = self.client.watch().latest();
        let query = |shard| Query::Usage {
            bucket: bucket.id,
            shard,
            prefix: prefix.to_owned(),
            after: after.map(str::to_owned),
            limit: USAGES_MAX,
        };
        let shards = (0..bucket.shards).map(ShardId);
        let queries = shards.map(|shard| (map.partition_of_shard(bucket.id, shard), query(shard))).collect();
        let replies = self.client.query(queries).await?.into_iter().map(|reply| match reply {
            QueryReply::Usage(page) => Ok(page),
            _ => Err(ObjectError::Internal("the answer is not one to a query for usage".into())),
        });
        Ok(merge(replies.collect::<Result<_, _>>()?))
    }
}

/// Of prefixes behind the end of a page that goes on, not all shards have spoken yet.
fn merge(pages: Vec<UsagePage>) -> UsagePage {
    let ends = pages.iter().filter(|page| page.more).filter_map(|page| page.below.last());
    let end = ends.map(|(prefix, _)| prefix.clone()).min();
    let mut merged = UsagePage { more: end.is_some(), ..UsagePage::default() };
    let mut below: BTreeMap<String, Usage> = BTreeMap::new();
    for page in pages {
        merged.whole = merged.whole.plus(page.whole);
        for (prefix, usage) in page.below {
            if end.as_ref().is_none_or(|end| prefix <= *end) {
                let sum = below.entry(prefix).or_default();
                *sum = sum.plus(usage);
            }
        }
    }
    merged.more |= below.len() > USAGES_MAX as usize;
    merged.below = below.into_iter().take(USAGES_MAX as usize).collect();
    merged
}

#[cfg(test)]
mod tests {
    use annulus_common::protocol::metadata::UsagePage;
    use annulus_common::usage::Usage;

    use super::merge;

    fn page(below: &[&str], more: bool) -> UsagePage {
        let below: Vec<_> = below.iter().map(|prefix| ((*prefix).to_owned(), Usage::of_object(2))).collect();
        UsagePage { whole: Usage { objects: below.len() as u64, bytes: 2 * below.len() as u64 }, below, more }
    }

    #[test]
    fn a_page_ends_where_the_first_shard_stopped() {
        let merged = merge(vec![page(&["a/", "c/"], true), page(&["a/", "b/", "d/"], false), page(&[], false)]);
        assert_eq!(merged.whole, Usage { objects: 5, bytes: 10 });
        let sums: Vec<_> = merged.below.iter().map(|(prefix, usage)| (prefix.as_str(), usage.objects)).collect();
        assert_eq!((sums, merged.more), (vec![("a/", 2), ("b/", 1), ("c/", 1)], true));
        let merged = merge(vec![page(&["a/"], false), page(&["b/"], false)]);
        assert_eq!((merged.below.len(), merged.more), (2, false));
    }
}
