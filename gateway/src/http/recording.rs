//! What a request leaves for the access log of its bucket: gathered while it is served, told when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annulus_common::map::ClusterMap;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, Request, Response};
use http_body::Body;

use super::errors;
use super::handler::ErrorCode;
use super::reply::Content;
use crate::access_log::{AccessLog, Logged, Outcome, Place, SignedBy};
use crate::auth::{Carried, Operation};
use crate::request::{Peer, RequestId};

/// Where a website's errors say their code: their body is for people.
const ERROR_CODE: &str = "x-amz-error-code";

/// A request that is recorded.
pub(super) struct Recording {
    log: Arc<AccessLog>,
    logged: Box<Logged>,
    started: Instant,
    last_byte: LastByte,
    error_code: Option<String>,
    object_size: Option<u64>,
    /// When the answer's head was ready, after the start.
    answered: Option<Duration>,
}

/// When the last piece of a request's body came, in microseconds after the request's start.
#[derive(Clone)]
pub(super) struct LastByte {
    started: Instant,
    micros: Arc<AtomicU64>,
}

impl Recording {
    /// Begins to record a request, if its bucket or the one it copies from wants that.
    pub(super) fn begin<B>(
        log: &Arc<AccessLog>,
        map: Option<&ClusterMap>,
        request: &Request<B>,
        (bucket, key, is_website): (Option<&str>, &str, bool),
        peer: Peer,
    ) -> Option<Self> {
        let place = Place { bucket, key, is_website, peer: peer.ip };
        let logged = Logged::begin(map?, request, place, log.now_ms())?;
        let started = Instant::now();
        let last_byte = LastByte { started, micros: Arc::new(AtomicU64::new(0)) };
        let log = Arc::clone(log);
        Some(Self { log, logged, started, last_byte, error_code: None, object_size: None, answered: None })
    }

    /// What the request's body is to tell its pieces to.
    pub(super) fn last_byte(&self) -> LastByte {
        self.last_byte.clone()
    }

    /// Looks at the answer, before its body is sent.
    pub(super) fn answered(&mut self, response: &Response<Content>) {
        self.answered = Some(self.started.elapsed());
        if response.status().is_success() {
            let read = || object_size(response);
            self.object_size = if self.logged.is_read() { read() } else { self.logged.brought_bytes() };
        } else if let Some(code) = error_code(response) {
            self.error_code = Some(code);
        }
    }

    /// The request is over: `status` is missing if its client left before there was an answer.
    pub(super) fn end(
        self,
        (request_id, host_id): (&RequestId, &str),
        operation: &Operation,
        status: Option<u16>,
        bytes_sent: u64,
    ) {
        let requester = operation.access().and_then(|access| access.requester());
        let (deleted, stored) = (operation.take_deleted(), operation.take_stored());
        let outcome = Outcome {
            request_id: &request_id.0,
            host_id,
            status,
            error_code: self.error_code.as_deref(),
            bytes_sent,
            object_size: self.object_size,
            total: self.started.elapsed(),
            turn_around: self.answered.map(|answered| answered.saturating_sub(self.last_byte.after_start())),
            requester: requester.as_deref(),
            signed_by: operation.signature().map(|signature| signed_by(signature.carried)),
            acl_required: operation.access().is_some_and(|access| access.needed_list()),
            deleted: &deleted,
            stored: &stored,
        };
        self.log.record(&self.logged, &outcome);
    }
}

impl LastByte {
    /// A piece has come.
    pub(super) fn tell(&self) {
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.micros.store(micros, Ordering::Relaxed);
    }

    fn after_start(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

/// The size of the object that is read, whatever part of it.
fn object_size(response: &Response<Content>) -> Option<u64> {
    let text = |headers: &HeaderMap, name| headers.get(name)?.to_str().ok().map(str::to_owned);
    if let Some(range) = text(response.headers(), CONTENT_RANGE) {
        return range.rsplit_once('/')?.1.parse().ok();
    }
    let length = text(response.headers(), CONTENT_LENGTH).and_then(|length| length.parse().ok());
    length.or_else(|| match response.body() {
        Content::S3(body) => body.size_hint().exact(),
        Content::Handler(_) => None,
    })
}

fn error_code(response: &Response<Content>) -> Option<String> {
    if let Some(code) = response.headers().get(ERROR_CODE) {
        return code.to_str().ok().map(str::to_owned);
    }
    match response.body() {
        Content::S3(body) => errors::code(&body.bytes()?).map(str::to_owned),
        Content::Handler(_) => response.extensions().get().map(|ErrorCode(code)| (*code).to_owned()),
    }
}

/// S3 has no word for the place of a form's signature.
fn signed_by(carried: Carried) -> SignedBy {
    match carried {
        Carried::Header => SignedBy { version: "SigV4", place: Some("AuthHeader") },
        Carried::Url { .. } => SignedBy { version: "SigV4", place: Some("QueryString") },
        Carried::Form { version_2: true } => SignedBy { version: "SigV2", place: None },
        Carried::Form { version_2: false } => SignedBy { version: "SigV4", place: None },
    }
}
