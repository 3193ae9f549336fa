//! What answers say of the lifecycle: `x-amz-expiration` of objects, `x-amz-abort-date` of uploads. In days of the world,
//! whatever a test has made of them on the nodes.

use std::collections::BTreeMap;

use annulus_common::lifecycle::{Calendar, VersionFacts, expiry};
use annulus_common::map::Bucket;
use annulus_common::object::{ObjectVersion, Upload};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::Timestamp;

use super::headers::{http_date, timestamp};

/// When an object that is current expires.
pub(super) fn of_object(bucket: &Bucket, key: &str, version: &ObjectVersion) -> Option<String> {
    of_facts(bucket, key, version.modified_ms, version.object.size, &version.object.attributes.tags)
}

/// When an object expires that was just written.
pub(super) fn of_facts(
    bucket: &Bucket,
    key: &str,
    modified_ms: u64,
    size: u64,
    tags: &BTreeMap<String, String>,
) -> Option<String> {
    let lifecycle = bucket.config.lifecycle.as_ref()?;
    let facts = VersionFacts { modified_ms, is_marker: false, size, tags };
    let (at_ms, rule) = expiry(lifecycle, key, &facts, Calendar::Days)?;
    let rule = utf8_percent_encode(rule, NON_ALPHANUMERIC);
    Some(format!("expiry-date=\"{}\", rule-id=\"{rule}\"", http_date(at_ms)))
}

/// When an upload is aborted, and by which rule.
pub(super) fn of_upload(bucket: &Bucket, key: &str, upload: &Upload) -> Option<(Timestamp, String)> {
    let lifecycle = bucket.config.lifecycle.as_ref()?;
    let (at_ms, rule) = lifecycle.upload_expiry(key, upload.initiated_ms, Calendar::Days)?;
    Some((timestamp(at_ms), rule.to_owned()))
}
