//! What webhooks are told: S3's messages, as JSON. See "Event message structure" in the S3 user guide.

use annulus_common::map::Bucket;
use annulus_common::notification::{Event, EventId};
use annulus_common::object::VersionId;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

/// What a key leaves as it is; spaces become `+`, as in a form.
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b'/').remove(b' ');

/// The message of one event. Each goes alone: many receivers look at the first record only.
pub(super) fn message(id: EventId, event: &Event, (name, bucket): (&str, &Bucket), region: &str) -> Bytes {
    let (cause, event_name) = (&event.cause, event.name.name().trim_start_matches("s3:"));
    let record = json!({
        "eventVersion": event.name.message_version(),
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": iso(event.time_ms),
        "eventName": event_name,
        "userIdentity": {"principalId": cause.principal},
        "requestParameters": {"sourceIPAddress": cause.source},
        "responseElements": {"x-amz-request-id": cause.request_id, "x-amz-id-2": cause.host_id},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": event.configuration,
            "bucket": {
                "name": name,
                "ownerIdentity": {"principalId": bucket.owner.to_string()},
                "arn": format!("arn:aws:s3:::{name}"),
            },
            "object": object(id, event),
        },
    });
    json!({"Records": [record]}).to_string().into()
}

fn object(id: EventId, event: &Event) -> Value {
    let mut object = Map::new();
    object.insert("key".to_owned(), json!(utf8_percent_encode(&event.key, KEY).to_string().replace(' ', "+")));
    if let Some((size, etag)) = &event.content {
        object.insert("size".to_owned(), json!(size));
        object.insert("eTag".to_owned(), json!(etag.to_string()));
    }
    if event.version != VersionId::Null {
        object.insert("versionId".to_owned(), json!(event.version.to_string()));
    }
    object.insert("sequencer".to_owned(), json!(id.to_string()));
    Value::Object(object)
}

/// What a webhook is told when a bucket begins to name it.
pub(crate) fn test_message(bucket: &str, now_ms: u64, request_id: &str, host_id: &str) -> Bytes {
    let message = json!({
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": iso(now_ms),
        "Bucket": bucket,
        "RequestId": request_id,
        "HostId": host_id,
    });
    message.to_string().into()
}

/// `1970-01-01T00:00:00.000Z`
fn iso(unix_ms: u64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, (hour, minute, second, milli)) = (moment.date(), moment.time().as_hms_milli());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::{BucketId, RequestId};
    use annulus_common::map::{Bucket, BucketConfig, BucketState};
    use annulus_common::notification::{Cause, Event, EventId, EventName, Means};
    use annulus_common::object::{ETag, UserId, VersionId};
    use serde_json::{Value, json};

    use super::message;

    fn told(event: &Event) -> Value {
        let bucket = Bucket {
            id: BucketId(3),
            owner: UserId([0xab; 32]),
            created_ms: 0,
            shards: 16,
            request: RequestId([0; 16]),
            state: BucketState::Active,
            config: BucketConfig::default(),
        };
        let id = EventId { index: 0x1234, ordinal: 2 };
        serde_json::from_slice(&message(id, event, ("photos", &bucket), "us-east-1")).expect("JSON")
    }

    fn event(name: EventName) -> Event {
        Event {
            name,
            time_ms: 1_549_411_238_007,
            configuration: "one".to_owned(),
            bucket: BucketId(3),
            key: "red flowers/1+é.jpg".to_owned(),
            version: VersionId::Null,
            content: Some((1024, ETag { md5: [0xd4; 16], parts: None })),
            cause: Cause {
                means: Means::Put,
                principal: "AWS:1".to_owned(),
                source: "192.0.2.3".to_owned(),
                request_id: "C3D1".to_owned(),
                host_id: "FMyU".to_owned(),
            },
        }
    }

    #[test]
    fn a_record_is_s3s() {
        let expected = json!({"Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": "2019-02-06T00:00:38.007Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": "AWS:1"},
            "requestParameters": {"sourceIPAddress": "192.0.2.3"},
            "responseElements": {"x-amz-request-id": "C3D1", "x-amz-id-2": "FMyU"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "one",
                "bucket": {
                    "name": "photos",
                    "ownerIdentity": {"principalId": "ab".repeat(32)},
                    "arn": "arn:aws:s3:::photos",
                },
                "object": {
                    "key": "red+flowers/1%2B%C3%A9.jpg",
                    "size": 1024,
                    "eTag": "d4".repeat(16),
                    "sequencer": "00000000000012340002",
                },
            },
        }]});
        assert_eq!(told(&event(EventName::ObjectCreatedPut)), expected);
    }

    #[test]
    fn what_is_gone_has_a_version_and_no_size() {
        let gone = Event {
            version: VersionId::Id([7; 16]),
            content: None,
            ..event(EventName::LifecycleExpirationDeleteMarkerCreated)
        };
        let told = told(&gone);
        let record = &told["Records"][0];
        assert_eq!(record["eventName"], "LifecycleExpiration:DeleteMarkerCreated");
        assert_eq!(record["eventVersion"], "2.3");
        let object = &record["s3"]["object"];
        assert_eq!(object["versionId"], "07".repeat(16));
        assert_eq!((object.get("size"), object.get("eTag")), (None, None));
    }
}
