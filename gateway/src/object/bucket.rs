//! Buckets: looked up in the watched map, changed through group 0, deleted only when every shard is empty and fenced.

use std::ops::Range;

use annulus_common::acl::BucketAcl;
use annulus_common::ids::{BucketId, RequestId, ShardId};
use annulus_common::map::change::{MapChange, MapRefusal, MapReply};
use annulus_common::map::{Bucket, BucketChange, BucketConfig, BucketState};
use annulus_common::object::UserId;
use annulus_common::protocol::metadata::{Command, MetaReply};
use futures::future::join_all;

use super::fence::DELETION_OVERDUE_MS;
use super::{ObjectError, Objects};

/// Attempts to begin a deletion: the first may meet an abandoned one and end it.
const BEGIN_ATTEMPTS_MAX: usize = 2;

/// Attempts to fence a shard: each lifts a fence that an earlier deletion forgot.
const FENCE_ATTEMPTS_MAX: usize = 8;

/// What fencing a shard found.
enum Fenced {
    Done,
    NotEmpty,
}

impl Objects {
    /// The bucket of that name. One that is being deleted is still found.
    pub async fn bucket(&self, name: &str) -> Result<Bucket, ObjectError> {
        let map = self.client.map().await?;
        map.buckets.get(name).cloned().ok_or(ObjectError::NoSuchBucket)
    }

    /// The account's buckets by name.
    pub async fn list_buckets(&self, owner: UserId) -> Result<Vec<(String, Bucket)>, ObjectError> {
        let map = self.client.map().await?;
        let owned = map.buckets.iter().filter(|(_, bucket)| bucket.owner == owner);
        Ok(owned.map(|(name, bucket)| (name.clone(), bucket.clone())).collect())
    }

    /// Makes a bucket. The name is already checked against the rules.
    pub async fn create_bucket(&self, name: &str, owner: UserId, config: BucketConfig) -> Result<Bucket, ObjectError> {
        let change = MapChange::CreateBucket { name: name.to_owned(), owner, config: Box::new(config) };
        match self.client.change_map(change).await? {
            Ok(MapReply::Bucket(bucket)) => Ok(*bucket),
            Ok(_) => Err(ObjectError::Internal("the answer is not one to a new bucket".into())),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Changes who may use a bucket beside its owner: in force everywhere when this returns.
    pub async fn set_bucket_acl(&self, name: &str, bucket: &Bucket, acl: BucketAcl) -> Result<(), ObjectError> {
        self.configure_bucket(name, bucket, BucketChange::Acl(acl)).await
    }

    /// Changes what is configured of a bucket: in force everywhere when this returns.
    pub async fn configure_bucket(&self, name: &str, bucket: &Bucket, change: BucketChange) -> Result<(), ObjectError> {
        let change = MapChange::ConfigureBucket { name: name.to_owned(), id: bucket.id, change };
        self.client.change_map(change).await?.map_err(ObjectError::from)?;
        Ok(())
    }

    /// Deletes a bucket that holds no object. Uploads under way go with it, once it is gone for good: storage nodes notice that
    /// their bucket is no more. Once begun it goes on without its
    /// caller, so that a client that leaves does not leave a bucket half deleted.
    pub async fn delete_bucket(&self, name: &str) -> Result<(), ObjectError> {
        let (objects, name) = (self.clone(), name.to_owned());
        let deletion = tokio::spawn(async move { objects.delete_bucket_to_the_end(&name).await });
        deletion.await.unwrap_or_else(|error| Err(ObjectError::Internal(format!("the deletion ended: {error}"))))
    }

    async fn delete_bucket_to_the_end(&self, name: &str) -> Result<(), ObjectError> {
        let token = RequestId::generate(self.clock.now_ms());
        let (bucket, shards) = self.begin_deletion(name, token).await?;
        let fenced = join_all(shards.clone().map(|shard| self.fence(bucket, ShardId(shard), token))).await;
        let outcome = fenced.into_iter().try_for_each(|fenced| match fenced {
            Ok(Fenced::Done) => Ok(()),
            Ok(Fenced::NotEmpty) => Err(ObjectError::BucketNotEmpty),
            Err(error) => Err(error),
        });
        match outcome {
            Ok(()) => self.finish_deletion(name, token).await,
            Err(error) => {
                self.abort_deletion(name, bucket, shards, token).await;
                Err(error)
            }
        }
    }

    /// The bucket and its shards.
    async fn begin_deletion(&self, name: &str, token: RequestId) -> Result<(BucketId, Range<u16>), ObjectError> {
        for _ in 0..BEGIN_ATTEMPTS_MAX {
            let begin = MapChange::BeginDeleteBucket { name: name.to_owned() };
            match self.client.change_map_as(token, begin).await? {
                Ok(MapReply::Deleting { id, shards }) => return Ok((id, 0..shards)),
                Ok(_) => return Err(ObjectError::Internal("the answer is not one to a bucket's deletion".into())),
                Err(MapRefusal::BucketBusy(busy)) => self.end_abandoned_deletion(name, &busy).await?,
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Err(ObjectError::Conflict)
    }

    async fn end_abandoned_deletion(&self, name: &str, bucket: &Bucket) -> Result<(), ObjectError> {
        if let BucketState::Deleting { token, since_ms } = bucket.state {
            if self.clock.now_ms().saturating_sub(since_ms) <= DELETION_OVERDUE_MS {
                return Err(ObjectError::Conflict);
            }
            let abort = MapChange::AbortDeleteBucket { name: name.to_owned(), token };
            self.client.change_map(abort).await?.map_err(ObjectError::from)?;
        }
        Ok(())
    }

    async fn fence(&self, bucket: BucketId, shard: ShardId, token: RequestId) -> Result<Fenced, ObjectError> {
        let partition = self.client.watch().latest().partition_of_shard(bucket, shard);
        for _ in 0..FENCE_ATTEMPTS_MAX {
            let mut proposal = self.client.proposal(partition, Command::Fence { bucket, shard, token });
            match self.client.mutate(&mut proposal).await? {
                MetaReply::Done => return Ok(Fenced::Done),
                MetaReply::NotEmpty => return Ok(Fenced::NotEmpty),
                MetaReply::Fenced(current) if current == token => return Ok(Fenced::Done),
                // Only one deletion is in force, and it is ours: another token is void.
                MetaReply::Fenced(void) => self.unfence(bucket, shard, void).await?,
                _ => return Err(ObjectError::Internal("the answer is not one to a fence".into())),
            }
        }
        Err(ObjectError::Conflict)
    }

    async fn finish_deletion(&self, name: &str, token: RequestId) -> Result<(), ObjectError> {
        let finish = MapChange::FinishDeleteBucket { name: name.to_owned(), token };
        match self.client.change_map(finish).await? {
            Ok(_) => Ok(()),
            Err(MapRefusal::BucketBusy(_)) => Err(ObjectError::Conflict),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Puts the bucket back into service. What fails here is found void, or overdue, by the next who meets a fence.
    async fn abort_deletion(&self, name: &str, bucket: BucketId, shards: Range<u16>, token: RequestId) {
        let abort = MapChange::AbortDeleteBucket { name: name.to_owned(), token };
        if !matches!(self.client.change_map(abort).await, Ok(Ok(_))) {
            tracing::warn!(bucket = name, "a bucket's deletion was neither finished nor aborted");
            return;
        }
        let unfenced = shards.map(|shard| self.unfence(bucket, ShardId(shard), token));
        for error in join_all(unfenced).await.into_iter().filter_map(Result::err) {
            tracing::warn!(bucket = name, %error, "a fence was not lifted");
        }
    }
}

impl From<MapRefusal> for ObjectError {
    fn from(refusal: MapRefusal) -> Self {
        match refusal {
            MapRefusal::BucketExists(bucket) => ObjectError::BucketExists(bucket),
            MapRefusal::NoSuchBucket => ObjectError::NoSuchBucket,
            MapRefusal::InvalidBucketState => ObjectError::InvalidBucketState,
            MapRefusal::BucketBusy(_) => ObjectError::Conflict,
            MapRefusal::TooManyBuckets => ObjectError::TooManyBuckets,
            MapRefusal::TooLarge(limit) => ObjectError::TooMuchConfigured(limit),
            other => ObjectError::Internal(other.to_string()),
        }
    }
}
