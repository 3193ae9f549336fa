//! Records of what lifecycle rules do. Nobody asked for it, so most of their fields are empty.
//!
//! See "Lifecycle and logging" in the S3 user guide, which has the names.

use annulus_common::notification::{Event, EventId, EventName};
use annulus_common::object::VersionId;

use super::Source;
use super::record::Record;
use super::request::encode;

/// How S3 names itself in the place of whoever asked.
const REQUESTER: &str = "AmazonS3";

/// The line, if what happened is recorded.
pub(super) fn line(source: &Source, id: EventId, event: &Event) -> Option<String> {
    let operation = match event.name {
        EventName::LifecycleExpirationDelete => "S3.EXPIRE.OBJECT",
        EventName::LifecycleExpirationDeleteMarkerCreated => "S3.CREATE.DELETEMARKER",
        EventName::UploadExpired => "S3.DELETE.UPLOAD",
        _ => return None,
    };
    let (request_id, key) = (id.to_string(), encode(&event.key));
    let version_id = (event.version != VersionId::Null).then(|| event.version.to_string());
    let record = Record {
        bucket_owner: source.owner.to_string(),
        bucket: &source.bucket,
        time_ms: event.time_ms,
        requester: Some(REQUESTER),
        request_id: &request_id,
        operation,
        key: Some(&key),
        version_id: version_id.as_deref(),
        host_id: "-",
        ..Record::default()
    };
    Some(record.line())
}
