//! Writes what was gathered as objects of the target buckets, as soon as it has waited long enough. What a bucket does not take
//! (any more) is dropped; what cannot be written now waits once more, as long as there is room, and not for ever.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::acl::{Grant, Grantee, ObjectAcl, Permission};
use annulus_common::condition::Conditions;
use annulus_common::logging::{BucketLogging, LogDate, LogKeyFormat};
use annulus_common::map::Bucket;
use annulus_common::object::{ObjectAttributes, ObjectHeaders};
use bytes::Bytes;
use futures::StreamExt;
use tracing::{debug, warn};

use super::batches::Batch;
use super::record::civil;
use super::{AccessLog, Source};
use crate::auth::{LogTarget, may_deliver_logs};
use crate::kms::KeyError;
use crate::object::{Encrypt, Expected, OBJECT_BYTES_MAX, ObjectError, Objects, PutObject};

/// How long a round rests at most: a batch may be that much older than it should be.
const REST_MAX: Duration = Duration::from_secs(1);

/// Objects that are written at once: enough for many buckets, and not felt by clients.
const WRITES_MAX: usize = 4;

/// How long writing one object may take.
const WRITE_WAIT: Duration = Duration::from_secs(30);

/// Delivers the records of a gateway.
pub struct LogDelivery {
    log: Arc<AccessLog>,
    objects: Arc<Objects>,
    /// Where the gateway is, for keys that name it.
    region: String,
}

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    /// The target does not take it, and will not later.
    #[error("{0}")]
    Refused(&'static str),
    /// It may work later.
    #[error("{0}")]
    Failed(String),
}

impl LogDelivery {
    /// Delivers what `log` takes through `objects`.
    pub fn new(log: Arc<AccessLog>, objects: Arc<Objects>, region: String) -> Self {
        Self { log, objects, region }
    }

    /// Delivers until `stop`, and then what is left.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = self.log.full.notified() => {}
                () = tokio::time::sleep(self.rest()) => {}
            }
            let due = self.log.batches.lock().take_due(self.log.clock.monotonic());
            self.deliver_all(due).await;
        }
        let rest = self.log.batches.lock().take_all();
        self.deliver_all(rest).await;
    }

    fn rest(&self) -> Duration {
        let next = self.log.batches.lock().next_due(self.log.clock.monotonic());
        // Never without a pause: what failed may be due at once.
        next.unwrap_or(REST_MAX).clamp(Duration::from_millis(10), REST_MAX)
    }

    async fn deliver_all(&self, batches: Vec<Batch>) {
        let deliveries = batches.into_iter().map(|batch| self.deliver(batch));
        futures::stream::iter(deliveries).buffer_unordered(WRITES_MAX).collect::<()>().await;
    }

    async fn deliver(&self, batch: Batch) {
        let written = tokio::time::timeout(WRITE_WAIT, self.write(&batch)).await;
        let written = written.unwrap_or_else(|_| Err(Undelivered::Failed("it took too long".to_owned())));
        let (source, target) = (&batch.source.bucket, &batch.source.logging.target_bucket);
        match written {
            Ok(()) => {
                debug!(source, target, records = batch.records, "access log delivered");
                self.log.metrics.access_log_delivered.inc_by(batch.records);
            }
            Err(Undelivered::Failed(error)) if !batch.is_last_try() => {
                warn!(source, target, error, "access log not delivered yet");
                return self.log.batches.lock().put_back(batch, self.log.clock.monotonic());
            }
            Err(reason) => {
                warn!(source, target, records = batch.records, %reason, "access log dropped");
                self.log.metrics.access_log_dropped.inc_by(batch.records);
            }
        }
        self.log.batches.lock().done(&batch);
    }

    async fn write(&self, batch: &Batch) -> Result<(), Undelivered> {
        let Source { bucket: name, owner, logging } = &batch.source;
        let target = self.objects.bucket(&logging.target_bucket).await?;
        let key = object_key(batch, &self.region, self.log.clock.now_ms(), rand::random());
        let log_target = LogTarget { name: &logging.target_bucket, bucket: &target, prefix: &logging.target_prefix };
        if !may_deliver_logs((name, *owner), log_target, Some(&key)) {
            return Err(Undelivered::Refused("the target bucket does not allow it"));
        }
        if target.config.object_lock.is_some_and(|lock| lock.default.is_some()) {
            return Err(Undelivered::Refused("the target bucket locks what is written"));
        }
        let put = PutObject {
            bucket: &target,
            key: &key,
            owner: target.owner,
            headers: ObjectHeaders { content_type: Some("text/plain".to_owned()), ..ObjectHeaders::default() },
            attributes: ObjectAttributes { acl: list(logging, &target), ..ObjectAttributes::default() },
            conditions: Conditions::default(),
            content_length: Some(batch.lines.len() as u64),
            held_back_max: 0,
            bytes_max: OBJECT_BYTES_MAX,
            digest: Expected::default(),
            encrypt: Encrypt::default_of(&target),
        };
        let body = Bytes::copy_from_slice(batch.lines.as_bytes());
        self.objects.put(put, Box::pin(futures::stream::iter([Ok(body)]))).await?;
        Ok(())
    }
}

impl From<ObjectError> for Undelivered {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NoSuchBucket => Self::Refused("the target bucket is gone"),
            ObjectError::QuotaExceeded => Self::Refused("the quota of the target bucket or of its account is used up"),
            ObjectError::Key(KeyError::NotFound(_)) => Self::Refused("the target bucket's default key is gone"),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// The target's owner owns the objects; others are granted what the configuration says.
fn list(logging: &BucketLogging, target: &Bucket) -> ObjectAcl {
    if logging.grants.is_empty() || target.ignores_acls() {
        return ObjectAcl::default();
    }
    let owners = Grant { grantee: Grantee::User(target.owner), permission: Permission::FullControl };
    let grants = logging.grants.iter().copied().chain([owners]).collect();
    ObjectAcl::of_grants(grants, target.owner, target.owner)
}

/// `PREFIX[ACCOUNT/REGION/BUCKET/YYYY/MM/DD/]YYYY-MM-DD-hh-mm-ss-UNIQUE`.
fn object_key(batch: &Batch, region: &str, now_ms: u64, unique: u64) -> String {
    let BucketLogging { target_prefix, key_format, .. } = &*batch.source.logging;
    let named_ms = match key_format {
        LogKeyFormat::Partitioned(LogDate::Event) => batch.day_ms,
        LogKeyFormat::Simple | LogKeyFormat::Partitioned(LogDate::Delivery) => now_ms,
    };
    let (date, (hour, minute, second)) = civil(named_ms);
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let partition = match key_format {
        LogKeyFormat::Simple => String::new(),
        LogKeyFormat::Partitioned(_) => {
            let Source { bucket, owner, .. } = &batch.source;
            format!("{owner}/{region}/{bucket}/{year:04}/{month:02}/{day:02}/")
        }
    };
    format!("{target_prefix}{partition}{year:04}-{month:02}-{day:02}-{hour:02}-{minute:02}-{second:02}-{unique:016X}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use annulus_common::logging::{BucketLogging, LogDate, LogKeyFormat};
    use annulus_common::object::UserId;

    use super::super::Source;
    use super::super::batches::{Batch, Batches};
    use super::{Undelivered, object_key};
    use crate::kms::KeyError;
    use crate::object::ObjectError;

    /// 2019-02-06 00:00:38.
    const EVENT_MS: u64 = 1_549_411_238_999;

    fn batch(key_format: LogKeyFormat) -> Batch {
        let logging = BucketLogging {
            target_bucket: "logs".to_owned(),
            target_prefix: "of/photos-".to_owned(),
            grants: Vec::new(),
            key_format,
        };
        let source = Source { bucket: "photos".to_owned(), owner: UserId([0xab; 32]), logging: Arc::new(logging) };
        let mut batches = Batches::new(Duration::ZERO);
        batches.push(&source, EVENT_MS, "line\n", Duration::ZERO);
        batches.take_all().remove(0)
    }

    #[test]
    fn what_a_target_refuses_is_not_tried_again() {
        let is_refused = |error: ObjectError| matches!(Undelivered::from(error), Undelivered::Refused(_));
        assert!(is_refused(ObjectError::NoSuchBucket));
        assert!(is_refused(ObjectError::QuotaExceeded));
        assert!(is_refused(ObjectError::Key(KeyError::NotFound("k".to_owned()))));
        assert!(!is_refused(ObjectError::Full));
        assert!(!is_refused(ObjectError::Busy));
    }

    #[test]
    fn keys_are_those_of_the_format() {
        let next_day = EVENT_MS + 24 * 3600 * 1000;
        let key = |format| object_key(&batch(format), "eu-1", next_day, 0xf);
        assert_eq!(key(LogKeyFormat::Simple), "of/photos-2019-02-07-00-00-38-000000000000000F");
        let partition = format!("of/photos-{}/eu-1/photos", UserId([0xab; 32]));
        assert_eq!(
            key(LogKeyFormat::Partitioned(LogDate::Delivery)),
            format!("{partition}/2019/02/07/2019-02-07-00-00-38-000000000000000F")
        );
        assert_eq!(
            key(LogKeyFormat::Partitioned(LogDate::Event)),
            format!("{partition}/2019/02/06/2019-02-06-00-00-00-000000000000000F")
        );
    }
}
