//! A request whose bucket records it: what is known of it when it comes, and the records that it leaves when it is over. A copy
//! leaves one where its source is too, and a deletion of many keys one for each.

use std::net::IpAddr;
use std::time::Duration;

use annulus_common::map::ClusterMap;
use http::header::{CONTENT_LENGTH, HOST, REFERER, USER_AGENT};
use http::{HeaderMap, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::Source;
use super::name::{self, Asked};
use super::record::Record;
use crate::auth::client_keys::without_client_keys;
use crate::auth::{DeletedKey, StoredKey, copy_source};
use crate::query;

/// What a key's characters are left as.
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) bucket: Option<&'a str>,
    /// The key as it stands in the path, encoded.
    pub(crate) key: &'a str,
    /// Whether it is a page of a website that is asked for.
    pub(crate) is_website: bool,
    /// Who asks.
    pub(crate) peer: IpAddr,
}

/// How a request was signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SignedBy {
    /// The signature's version.
    pub(crate) version: &'static str,
    /// Where it was, if S3 has a word for that.
    pub(crate) place: Option<&'static str>,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) host_id: &'a str,
    /// None if the client left before there was an answer.
    pub(crate) status: Option<u16>,
    pub(crate) error_code: Option<&'a str>,
    pub(crate) bytes_sent: u64,
    pub(crate) object_size: Option<u64>,
    pub(crate) total: Duration,
    pub(crate) turn_around: Option<Duration>,
    pub(crate) requester: Option<&'a str>,
    pub(crate) signed_by: Option<SignedBy>,
    pub(crate) acl_required: bool,
    pub(crate) deleted: &'a [DeletedKey],
    pub(crate) stored: &'a [StoredKey],
}

/// A request that leaves records.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    /// Its bucket, if that records requests.
    own: Option<Source>,
    /// The bucket that it copies from, if that does.
    copied: Option<Copied>,
    received_ms: u64,
    peer: IpAddr,
    operation: String,
    key: Option<String>,
    uri: String,
    referer: Option<String>,
    user_agent: Option<String>,
    version_id: Option<String>,
    host: Option<String>,
    /// What the request's body holds.
    body_bytes: Option<u64>,
}

/// The source of a copy.
#[derive(Clone, Debug)]
struct Copied {
    source: Source,
    key: String,
    version_id: Option<String>,
    operation: &'static str,
}

impl Logged {
    /// What is known of a request that was just received; nothing if nobody records it.
    pub(crate) fn begin<B>(map: &ClusterMap, request: &Request<B>, place: Place<'_>, now_ms: u64) -> Option<Box<Self>> {
        let own = place.bucket.and_then(|bucket| Source::of(map, bucket));
        let copied = Copied::of(map, request.headers(), request.uri().query());
        if own.is_none() && copied.is_none() {
            return None;
        }
        let (headers, uri) = (request.headers(), request.uri());
        let key = percent_decode_str(place.key).decode_utf8_lossy();
        let asked = Asked {
            method: request.method().as_str(),
            has_key: !key.is_empty(),
            query: uri.query(),
            is_website: place.is_website,
        };
        let path = without_client_keys(uri.path_and_query().map_or("/", |path| path.as_str()));
        Some(Box::new(Self {
            own,
            copied,
            received_ms: now_ms,
            peer: place.peer,
            operation: name::operation(&asked),
            key: (!key.is_empty()).then(|| encode(&key)),
            uri: format!("{} {path} {:?}", request.method(), request.version()),
            referer: text(headers, REFERER.as_str()),
            user_agent: text(headers, USER_AGENT.as_str()),
            version_id: query::value(uri.query(), "versionId"),
            host: text(headers, HOST.as_str()),
            body_bytes: text(headers, "x-amz-decoded-content-length")
                .or_else(|| text(headers, CONTENT_LENGTH.as_str()))
                .and_then(|length| length.parse().ok()),
        }))
    }

    pub(super) fn received_ms(&self) -> u64 {
        self.received_ms
    }

    /// What the request brings, if it is an object or a part.
    pub(crate) fn brought_bytes(&self) -> Option<u64> {
        let brings = ["REST.PUT.OBJECT", "REST.PUT.PART"].contains(&self.operation.as_str());
        self.body_bytes.filter(|_| brings)
    }

    /// Whether the request is for an object's bytes, or their number.
    pub(crate) fn is_read(&self) -> bool {
        ["REST.GET.OBJECT", "REST.HEAD.OBJECT", "WEBSITE.GET.OBJECT", "WEBSITE.HEAD.OBJECT"]
            .contains(&self.operation.as_str())
    }

    /// The lines that it leaves, and for whom.
    pub(super) fn lines(&self, outcome: &Outcome<'_>) -> Vec<(&Source, String)> {
        let mut lines = Vec::new();
        if let Some(own) = &self.own {
            lines.extend(outcome.stored.iter().map(|stored| {
                let key = encode(&stored.key);
                let record = Record { object_size: Some(stored.bytes), ..self.record(own, outcome) };
                (own, Self::of_key(record, &key, 200, None).line())
            }));
            // Files that were stored before the request failed are stored.
            if outcome.stored.is_empty() || outcome.error_code.is_some() {
                lines.push((own, self.record(own, outcome).line()));
            }
            lines.extend(outcome.deleted.iter().map(|deleted| {
                let (key, version_id) = (encode(&deleted.key), deleted.version_id.as_deref());
                let record = Record { operation: name::BATCH_DELETE, version_id, ..self.shared(own, outcome) };
                (own, Self::of_key(record, &key, 204, deleted.error.as_ref()).line())
            }));
        }
        if let Some(copied) = &self.copied {
            lines.push((&copied.source, self.copied(copied, outcome).line()));
        }
        lines
    }

    /// What all records of the request say.
    fn shared<'a>(&'a self, source: &'a Source, outcome: &'a Outcome<'_>) -> Record<'a> {
        Record {
            bucket_owner: source.owner.to_string(),
            bucket: &source.bucket,
            time_ms: self.received_ms,
            remote_ip: Some(self.peer),
            requester: outcome.requester,
            request_id: outcome.request_id,
            http_status: outcome.status,
            error_code: outcome.error_code,
            user_agent: self.user_agent.as_deref(),
            referer: self.referer.as_deref(),
            host_id: outcome.host_id,
            signature_version: outcome.signed_by.map(|signed| signed.version),
            authentication_type: outcome.signed_by.and_then(|signed| signed.place),
            host_header: self.host.as_deref(),
            acl_required: outcome.acl_required,
            ..Record::default()
        }
    }

    fn record<'a>(&'a self, source: &'a Source, outcome: &'a Outcome<'_>) -> Record<'a> {
        Record {
            operation: &self.operation,
            key: self.key.as_deref(),
            request_uri: Some(&self.uri),
            bytes_sent: Some(outcome.bytes_sent).filter(|bytes| *bytes > 0),
            object_size: outcome.object_size,
            total_ms: Some(millis(outcome.total)),
            turn_around_ms: outcome.turn_around.map(millis),
            version_id: self.version_id.as_deref(),
            ..self.shared(source, outcome)
        }
    }

    /// The record of one of the keys that the request is about, which ended so: `done` if nothing went wrong with it.
    fn of_key<'a>(whole: Record<'a>, key: &'a str, done: u16, error: Option<&'a (u16, String)>) -> Record<'a> {
        Record {
            key: Some(key),
            http_status: Some(error.map_or(done, |(status, _)| *status)),
            error_code: error.map(|(_, code)| code.as_str()),
            ..whole
        }
    }

    fn copied<'a>(&'a self, copied: &'a Copied, outcome: &'a Outcome<'_>) -> Record<'a> {
        Record {
            operation: copied.operation,
            key: Some(&copied.key),
            request_uri: Some(&self.uri),
            total_ms: Some(millis(outcome.total)),
            turn_around_ms: outcome.turn_around.map(millis),
            version_id: copied.version_id.as_deref(),
            ..self.shared(&copied.source, outcome)
        }
    }
}

impl Copied {
    fn of(map: &ClusterMap, headers: &HeaderMap, query: Option<&str>) -> Option<Self> {
        let copied = copy_source::named(headers)?;
        Some(Self {
            source: Source::of(map, &copied.bucket)?,
            key: encode(&copied.key),
            version_id: copied.version_id,
            operation: name::copy_source(query),
        })
    }
}

pub(super) fn encode(key: &str) -> String {
    utf8_percent_encode(key, KEY).to_string()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
