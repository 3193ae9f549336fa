//! Buckets of all accounts.

use annulus_common::map::{Bucket, BucketConfig, BucketState, ClusterMap};
use annulus_common::object::UserId;
use annulus_common::usage::{COUNTED_DEPTH_MAX, Usage, counted_depth};
use http::StatusCode;

use super::Admin;
use super::accounts::find_user;
use super::error::AdminProblem;
use super::model::{BucketReport, NewBucket, PrefixUsage, UsageReport};
use crate::bucket_name::is_bucket_name;

pub(super) fn list(map: &ClusterMap) -> Vec<BucketReport> {
    map.buckets.iter().map(|(name, bucket)| report(map, name, bucket)).collect()
}

impl Admin {
    pub(super) async fn create_bucket(
        &self,
        map: &ClusterMap,
        caller: UserId,
        new: NewBucket,
    ) -> Result<BucketReport, AdminProblem> {
        if !is_bucket_name(&new.name) {
            let rule = "a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens";
            return Err(AdminProblem::new(StatusCode::BAD_REQUEST, "InvalidBucketName", rule));
        }
        let owner = match &new.owner {
            Some(name) => find_user(map, name)?,
            None => caller,
        };
        let bucket = self.objects.create_bucket(&new.name, owner, BucketConfig::default()).await?;
        Ok(report(map, &new.name, &bucket))
    }

    /// How much a bucket holds under a prefix, and a page of what is below it.
    pub(super) async fn bucket_usage(
        &self,
        name: &str,
        prefix: Option<String>,
        after: Option<String>,
    ) -> Result<UsageReport, AdminProblem> {
        let prefix = prefix.unwrap_or_default();
        if counted_depth(&prefix).is_none() {
            let rule = format!("only prefixes that end with a slash are counted, down to {COUNTED_DEPTH_MAX} slashes");
            return Err(AdminProblem::new(StatusCode::BAD_REQUEST, "NotCounted", rule));
        }
        let bucket = self.objects.bucket(name).await?;
        let page = self.objects.usage(&bucket, &prefix, after.as_deref()).await?;
        let usage = |prefix, usage: Usage| PrefixUsage { prefix, objects: usage.objects, bytes: usage.bytes };
        let below = page.below.into_iter().map(|(prefix, below)| usage(prefix, below)).collect();
        Ok(UsageReport { whole: usage(prefix, page.whole), below, more: page.more })
    }

    pub(super) async fn delete_bucket(&self, name: &str) -> Result<(), AdminProblem> {
        Ok(self.objects.delete_bucket(name).await?)
    }
}

fn report(map: &ClusterMap, name: &str, bucket: &Bucket) -> BucketReport {
    BucketReport {
        name: name.to_owned(),
        owner: map.users.get(&bucket.owner).map_or_else(|| bucket.owner.to_string(), |user| user.name.clone()),
        created_ms: bucket.created_ms,
        deleting: matches!(bucket.state, BucketState::Deleting { .. }),
    }
}
