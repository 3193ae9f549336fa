//! A bucket in the cluster map: who owns it, what is configured of it, and whether it is being deleted.
//!
//! A configuration is in force everywhere when the call that set it returns, because the map's watches are leased.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::acl::{BucketAcl, ObjectAcl};
use crate::attributes::ObjectLock;
use crate::cors::Cors;
use crate::encryption::BucketEncryption;
use crate::ids::{BucketId, RequestId};
use crate::lifecycle::Lifecycle;
use crate::logging::BucketLogging;
use crate::notification::{Cause, Means, Notice, Notification, Rule};
use crate::object::{UserId, Versioning};
use crate::ownership::ObjectOwnership;
use crate::policy::{BucketPolicy, PublicAccessBlock};
use crate::tags::{BUCKET_TAGS_MAX, Tags};
use crate::usage::Quota;
use crate::website::Website;

/// The list of whatever is its owner's alone.
static OWNERS_ALONE: (BucketAcl, ObjectAcl) = (BucketAcl::Private, ObjectAcl::Private);

/// A bucket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bucket {
    /// Never reused.
    pub id: BucketId,
    /// The account that owns it.
    pub owner: UserId,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// The index shards, fixed.
    pub shards: u16,
    /// The mutation that made it: asked again, it answers the same.
    pub request: RequestId,
    /// Whether it is being deleted.
    pub state: BucketState,
    /// What its owner has set.
    pub config: BucketConfig,
}

/// What a bucket's owner has set.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BucketConfig {
    /// Who may use it beside its owner.
    pub acl: BucketAcl,
    /// How objects are encrypted whose request does not say.
    pub encryption: Option<Arc<BucketEncryption>>,
    /// Its tags.
    pub tags: Option<Arc<Tags>>,
    /// Whether who asks for something of it must say that they pay.
    pub requester_pays: bool,
    /// Whether it keeps what is replaced and deleted.
    pub versioning: Versioning,
    /// Who may do what with it and in it, beside what lists grant.
    pub policy: Option<Arc<BucketPolicy>>,
    /// What of public access is ruled out.
    pub public_access_block: Option<PublicAccessBlock>,
    /// What becomes of its objects with time.
    pub lifecycle: Option<Arc<Lifecycle>>,
    /// Whether its versions can be locked.
    pub object_lock: Option<ObjectLock>,
    /// The most that it may hold.
    pub quota: Option<Arc<Quota>>,
    /// Whose its objects are; the writer's when nothing is set.
    pub ownership: Option<ObjectOwnership>,
    /// What pages of other origins may ask of it.
    pub cors: Option<Arc<Cors>>,
    /// How it is served as a website.
    pub website: Option<Arc<Website>>,
    /// Where what is asked of it is recorded.
    pub logging: Option<Arc<BucketLogging>>,
    /// Whom to tell of what happens to its objects.
    pub notification: Option<Arc<Notification>>,
    /// Whether its owner has said that transfers to it are not accelerated. None are.
    pub acceleration_suspended: bool,
}

/// What can be set of a bucket. A change says the whole of its part, so that asking again changes nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BucketChange {
    /// Who may use it beside its owner.
    Acl(BucketAcl),
    /// How objects are encrypted whose request does not say.
    Encryption(Option<Arc<BucketEncryption>>),
    /// Its tags.
    Tags(Option<Arc<Tags>>),
    /// Whether who asks for something of it must say that they pay.
    RequesterPays(bool),
    /// Whether it keeps what is replaced and deleted.
    Versioning(Versioning),
    /// Who may do what with it and in it.
    Policy(Option<Arc<BucketPolicy>>),
    /// What of public access is ruled out.
    PublicAccessBlock(Option<PublicAccessBlock>),
    /// What becomes of its objects with time.
    Lifecycle(Option<Arc<Lifecycle>>),
    /// From now on its versions can be locked.
    ObjectLock(ObjectLock),
    /// The most that it may hold.
    Quota(Option<Arc<Quota>>),
    /// Whose its objects are.
    Ownership(Option<ObjectOwnership>),
    /// What pages of other origins may ask of it.
    Cors(Option<Arc<Cors>>),
    /// How it is served as a website.
    Website(Option<Arc<Website>>),
    /// Where what is asked of it is recorded.
    Logging(Option<Arc<BucketLogging>>),
    /// Whom to tell of what happens to its objects.
    Notification(Option<Arc<Notification>>),
    /// Transfers to it are not accelerated.
    SuspendAcceleration,
    /// Some of its tags: those of others who change some at the same time stay.
    MergeTags {
        /// These it has then.
        set: Arc<Tags>,
        /// And none of these keys.
        remove: Vec<String>,
    },
}

/// The life of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BucketState {
    /// Serves.
    Active,
    /// Being deleted: its shards are fenced one by one with this token, each only if it is empty.
    Deleting {
        /// Names this attempt.
        token: RequestId,
        /// When it began, Unix milliseconds.
        since_ms: u64,
    },
}

impl Bucket {
    /// Whether its access control list, and those of its objects, mean nothing.
    pub fn ignores_acls(&self) -> bool {
        self.config.ownership == Some(ObjectOwnership::BucketOwnerEnforced)
    }

    /// Who owns an object of it whose record names `writer`.
    pub fn object_owner(&self, writer: UserId) -> UserId {
        if self.ignores_acls() { self.owner } else { writer }
    }

    /// The list that is in force.
    pub fn acl(&self) -> &BucketAcl {
        if self.ignores_acls() { &OWNERS_ALONE.0 } else { &self.config.acl }
    }

    /// The list that is in force for an object of it whose record has this one.
    pub fn object_acl<'a>(&self, acl: &'a ObjectAcl) -> &'a ObjectAcl {
        if self.ignores_acls() { &OWNERS_ALONE.1 } else { acl }
    }
}

impl BucketConfig {
    /// Whether what is configured stands in the way of a change. Asked in the log's order: of two changes that cannot both be,
    /// one is refused. What can be locked must be kept.
    pub fn allows(&self, change: &BucketChange) -> bool {
        match change {
            BucketChange::Versioning(versioning) => self.object_lock.is_none() || *versioning == Versioning::Enabled,
            BucketChange::ObjectLock(_) => self.versioning == Versioning::Enabled,
            BucketChange::MergeTags { set, remove } => self.merged_tags(set, remove).len() <= BUCKET_TAGS_MAX,
            _ => true,
        }
    }

    fn merged_tags(&self, set: &Tags, remove: &[String]) -> Tags {
        let mut tags = self.tags.as_deref().cloned().unwrap_or_default();
        tags.retain(|key, _| !remove.contains(key));
        tags.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
        tags
    }

    /// What a mutation carries that lifecycle rules ask for: those who are told of it, and the access log.
    pub fn expiry_notice<'a>(&self, keys: impl Iterator<Item = &'a str> + Clone) -> Option<Box<Notice>> {
        let cause = Cause::of_service(Means::Lifecycle);
        let told = self.notification.as_ref().and_then(|notification| notification.notice(cause.clone(), keys));
        if self.logging.is_none() {
            return told;
        }
        let mut notice = told.unwrap_or_else(|| Box::new(Notice { cause, rules: Vec::new() }));
        notice.rules.push(Arc::new(Rule::of_access_log()));
        Some(notice)
    }

    /// Carries out a change, already checked by who asks.
    pub fn change(&mut self, change: &BucketChange) {
        match change {
            BucketChange::Acl(acl) => self.acl = acl.clone(),
            BucketChange::Encryption(encryption) => self.encryption = encryption.clone(),
            BucketChange::Tags(tags) => self.tags = tags.clone(),
            BucketChange::RequesterPays(requester_pays) => self.requester_pays = *requester_pays,
            BucketChange::Versioning(versioning) => self.versioning = *versioning,
            BucketChange::Policy(policy) => self.policy = policy.clone(),
            BucketChange::PublicAccessBlock(block) => self.public_access_block = *block,
            BucketChange::Lifecycle(lifecycle) => self.lifecycle = lifecycle.clone(),
            BucketChange::ObjectLock(object_lock) => self.object_lock = Some(*object_lock),
            BucketChange::Quota(quota) => self.quota = quota.clone(),
            BucketChange::Ownership(ownership) => self.ownership = *ownership,
            BucketChange::Cors(cors) => self.cors = cors.clone(),
            BucketChange::Website(website) => self.website = website.clone(),
            BucketChange::Logging(logging) => self.logging = logging.clone(),
            BucketChange::Notification(notification) => self.notification = notification.clone(),
            BucketChange::SuspendAcceleration => self.acceleration_suspended = true,
            BucketChange::MergeTags { set, remove } => {
                let tags = self.merged_tags(set, remove);
                self.tags = (!tags.is_empty()).then(|| Arc::new(tags));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{BucketChange, BucketConfig};
    use crate::tags::{BUCKET_TAGS_MAX, Tags};

    #[test]
    fn some_tags_change_and_the_others_stay() {
        let tags = |pairs: &[(&str, &str)]| -> Tags {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let merge = |set: &[(&str, &str)], remove: &[&str]| BucketChange::MergeTags {
            set: Arc::new(tags(set)),
            remove: remove.iter().map(|key| (*key).to_owned()).collect(),
        };
        let mut config = BucketConfig::default();
        for (change, left) in [
            (merge(&[("a", "1"), ("b", "2")], &[]), &[("a", "1"), ("b", "2")][..]),
            (merge(&[("b", "3"), ("c", "4")], &["a", "none"]), &[("b", "3"), ("c", "4")]),
            (merge(&[], &["b", "c"]), &[]),
        ] {
            // Twice, as a change may come again.
            for _ in 0..2 {
                assert!(config.allows(&change));
                config.change(&change);
                assert_eq!(config.tags.as_deref().cloned().unwrap_or_default(), tags(left));
            }
        }
        assert_eq!(config.tags, None, "none is not an empty set");
        let many: Vec<String> = (0..BUCKET_TAGS_MAX).map(|number| number.to_string()).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
        config.change(&merge(&many, &[]));
        assert!(!config.allows(&merge(&[("one more", "")], &[])));
        assert!(config.allows(&merge(&[("one more", "")], &["0"])) && config.allows(&merge(&[("0", "other")], &[])));
    }
}
