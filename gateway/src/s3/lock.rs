//! Object lock on the wire: what requests say of a new version's retention and legal hold, and what answers say of them.

use annulus_common::map::Bucket;
use annulus_common::object::{ObjectAttributes, Retention, RetentionMode};
use http::HeaderMap;
use s3s::dto::{ObjectLockLegalHoldStatus, ObjectLockMode, Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use time::OffsetDateTime;

use super::error::{invalid_argument, with_status};
use super::headers::text;

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const HOLD: &str = "x-amz-object-lock-legal-hold";

/// Headers that promise how a body is checked: with a lock S3 wants one of them.
const CHECKS: &[&str] = &["content-md5", "x-amz-trailer", "x-amz-sdk-checksum-algorithm"];

/// What a request that makes an object says of its locks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Locks {
    pub(super) retention: Option<Retention>,
    pub(super) legal_hold: Option<bool>,
}

/// `x-amz-object-lock-mode`, `x-amz-object-lock-retain-until-date` and `x-amz-object-lock-legal-hold`.
pub(super) fn of_request(headers: &HeaderMap, bucket: &Bucket, now_ms: u64) -> S3Result<Locks> {
    let [mode, until, hold] = [text(headers, MODE)?, text(headers, UNTIL)?, text(headers, HOLD)?];
    if mode.is_none() && until.is_none() && hold.is_none() {
        return Ok(Locks::default());
    }
    check_bucket(bucket)?;
    let retention = match (mode, until) {
        (None, None) => None,
        (Some(mode), Some(until)) => {
            let mode =
                RetentionMode::named(&mode).ok_or_else(|| invalid_argument(MODE, "Unknown wormMode directive."))?;
            let until = Timestamp::parse(TimestampFormat::DateTime, &until)
                .map_err(|_| invalid_argument(UNTIL, "The retain until date must be provided in ISO 8601 format"))?;
            Some(Retention { mode, until_ms: future(&until, now_ms, UNTIL)? })
        }
        (mode, _) => {
            let missing = if mode.is_none() { MODE } else { UNTIL };
            let message = "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied";
            return Err(invalid_argument(missing, message));
        }
    };
    let legal_hold = match hold.as_deref() {
        None => None,
        Some(ObjectLockLegalHoldStatus::ON) => Some(true),
        Some(ObjectLockLegalHoldStatus::OFF) => Some(false),
        Some(_) => return Err(invalid_argument(HOLD, "Legal Hold must be either of 'ON' or 'OFF'")),
    };
    Ok(Locks { retention, legal_hold })
}

/// What will be locked must come with something that it is checked by.
pub(super) fn check_digest(headers: &HeaderMap, bucket: &Bucket, attributes: &ObjectAttributes) -> S3Result {
    let default = bucket.config.object_lock.and_then(|lock| lock.default);
    let locked = attributes.retention.is_some() || attributes.legal_hold.is_some() || default.is_some();
    if locked && !is_checked(headers) {
        return Err(s3_error!(
            InvalidRequest,
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
        ));
    }
    Ok(())
}

/// A document that locks something, or everything to come, must come with it, too. AWS documents the same of other
/// documents, of `DeleteObjects` above all; those are compared with what comes, and nothing has to.
pub(super) fn check_document_digest(headers: &HeaderMap) -> S3Result {
    if is_checked(headers) {
        return Ok(());
    }
    Err(s3_error!(InvalidRequest, "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"))
}

fn is_checked(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| CHECKS.contains(&name.as_str()) || name.as_str().starts_with("x-amz-checksum-"))
}

/// Whether anything of the bucket can be locked.
pub(super) fn check_bucket(bucket: &Bucket) -> S3Result {
    match bucket.config.object_lock {
        Some(_) => Ok(()),
        None => Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration")),
    }
}

/// A day that is still to come, Unix milliseconds. The argument is what says it.
pub(super) fn future(until: &Timestamp, now_ms: u64, argument: &str) -> S3Result<u64> {
    let until_ms = OffsetDateTime::from(until.clone()).unix_timestamp_nanos() / 1_000_000;
    u64::try_from(until_ms)
        .ok()
        .filter(|until_ms| *until_ms > now_ms)
        .ok_or_else(|| invalid_argument(argument, "The retain until date must be in the future!"))
}

/// What an object that nobody locked says of its locks.
pub(super) fn none() -> S3Error {
    with_status(
        S3ErrorCode::Custom("NoSuchObjectLockConfiguration".into()),
        http::StatusCode::NOT_FOUND,
        "The specified object does not have a ObjectLock configuration",
    )
}

/// The mode as an output's header has it.
pub(super) fn dto_mode(attributes: &ObjectAttributes) -> Option<ObjectLockMode> {
    attributes.retention.map(|retention| ObjectLockMode::from_static(retention.mode.name()))
}

/// The legal hold as outputs have it.
pub(super) fn dto_legal_hold(attributes: &ObjectAttributes) -> Option<ObjectLockLegalHoldStatus> {
    let status = |held| if held { ObjectLockLegalHoldStatus::ON } else { ObjectLockLegalHoldStatus::OFF };
    attributes.legal_hold.map(|held| ObjectLockLegalHoldStatus::from_static(status(held)))
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::{BucketId, RequestId};
    use annulus_common::map::{Bucket, BucketConfig, BucketState};
    use annulus_common::object::{ObjectLock, Retention, RetentionMode, UserId};
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{HOLD, Locks, MODE, UNTIL, of_request};

    const NOW_MS: u64 = 1_700_000_000_000;

    fn locks(lockable: bool, headers: &[(&'static str, &'static str)]) -> Result<Locks, String> {
        let object_lock = lockable.then(ObjectLock::default);
        let (id, owner, request) = (BucketId(1), UserId([0; 32]), RequestId([0; 16]));
        let config = BucketConfig { object_lock, ..BucketConfig::default() };
        let bucket = Bucket { id, owner, created_ms: 0, shards: 16, request, state: BucketState::Active, config };
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers: HeaderMap = headers.iter().map(pair).collect();
        of_request(&headers, &bucket, NOW_MS).map_err(|error| error.code().as_str().to_owned())
    }

    #[test]
    fn a_lock_is_said_whole_and_of_a_bucket_that_has_locks() {
        let (mode, until, hold) = (MODE, UNTIL, HOLD);
        let invalid = || Err("InvalidArgument".to_owned());
        assert_eq!(locks(false, &[]), Ok(Locks::default()));
        assert_eq!(locks(false, &[(hold, "ON")]), Err("InvalidRequest".to_owned()));
        let retention = Some(Retention { mode: RetentionMode::Governance, until_ms: 1_893_456_000_000 });
        let whole = [(mode, "GOVERNANCE"), (until, "2030-01-01T00:00:00Z"), (hold, "OFF")];
        assert_eq!(locks(true, &whole), Ok(Locks { retention, legal_hold: Some(false) }));
        assert_eq!(locks(true, &[(mode, "GOVERNANCE")]), invalid());
        assert_eq!(locks(true, &[(until, "2030-01-01T00:00:00Z")]), invalid());
        assert_eq!(locks(true, &[(mode, "governance"), (until, "2030-01-01T00:00:00Z")]), invalid());
        assert_eq!(locks(true, &[(mode, "GOVERNANCE"), (until, "2020-01-01T00:00:00Z")]), invalid());
        assert_eq!(locks(true, &[(mode, "GOVERNANCE"), (until, "tomorrow")]), invalid());
        assert_eq!(locks(true, &[(hold, "on")]), invalid());
    }
}
