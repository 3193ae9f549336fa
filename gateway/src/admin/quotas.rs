//! Quotas of buckets and of accounts.

use std::sync::Arc;

use annulus_common::map::change::MapChange;
use annulus_common::map::{BucketChange, ClusterMap};
use annulus_common::usage::{Payer, Quota};
use http::StatusCode;

use super::Admin;
use super::accounts::find_user;
use super::error::AdminProblem;
use super::model::{NewQuota, QuotaReport};

/// Whose quota is meant.
pub(super) struct Subject {
    payer: Payer,
    name: String,
    quota: Option<Quota>,
}

/// Whose quota a path like `buckets/NAME/quota` means.
pub(super) fn subject(map: &ClusterMap, path: &[&str]) -> Result<Subject, AdminProblem> {
    let name = path[1];
    if path[0] == "users" {
        let user = find_user(map, name)?;
        let quota = map.users.get(&user).and_then(|user| user.quota);
        return Ok(Subject { payer: Payer::Account(user), name: name.to_owned(), quota });
    }
    let missing = || AdminProblem::new(StatusCode::NOT_FOUND, "NoSuchBucket", format!("there is no bucket {name}"));
    let bucket = map.buckets.get(name).ok_or_else(missing)?;
    Ok(Subject {
        payer: Payer::Bucket(bucket.id),
        name: name.to_owned(),
        quota: bucket.config.quota.as_deref().copied(),
    })
}

impl Admin {
    pub(super) async fn quota(&self, subject: Subject) -> Result<QuotaReport, AdminProblem> {
        let used = self.objects.used_of(subject.payer).await?;
        let quota = subject.quota.unwrap_or_default();
        Ok(QuotaReport {
            name: subject.name,
            objects: quota.objects,
            bytes: quota.bytes,
            used_objects: used.objects,
            used_bytes: used.bytes,
        })
    }

    /// In force when this returns.
    pub(super) async fn set_quota(&self, subject: Subject, new: NewQuota) -> Result<QuotaReport, AdminProblem> {
        let quota = Quota { objects: new.objects, bytes: new.bytes, ..Quota::default() };
        let quota = Some(quota).filter(|quota| *quota != Quota::default());
        let change = match subject.payer {
            Payer::Account(id) => MapChange::SetUserQuota { id, quota },
            Payer::Bucket(id) => {
                let change = BucketChange::Quota(quota.map(Arc::new));
                MapChange::ConfigureBucket { name: subject.name.clone(), id, change }
            }
        };
        self.objects.client().change_map(change).await??;
        self.objects.settle_quota(subject.payer).await?;
        self.quota(Subject { quota, ..subject }).await
    }
}
