//! Webhooks, posted to: one message a request, over connections that are kept. One that fails is left alone for a while,
//! longer each time, so that it is not asked by every outbox that waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::config::Webhook;
use annulus_common::map::ClusterMap;
use annulus_common::object::UserId;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;

use super::tls::WebhookTls;
use crate::cause::root_cause;

/// How long a webhook may take to answer: far less than an outbox is held.
pub(super) const POST_DEADLINE: Duration = Duration::from_secs(10);

/// How long one that has failed is left alone at first.
const REST_MIN: Duration = Duration::from_secs(1);

/// How long at most: when it is back, its events come that much later.
const REST_MAX: Duration = Duration::from_secs(60);

/// An answer's body is read so far, that the connection can be used again; one with more is closed.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The webhooks that the operator has named.
pub(crate) struct Webhooks {
    by_name: BTreeMap<String, Target>,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    clock: SharedClock,
}

struct Target {
    uri: Uri,
    authorization: Option<HeaderValue>,
    /// Whose buckets may name it; none: everybody's.
    accounts: Vec<String>,
    rest: Mutex<Rest>,
}

/// How a webhook is left alone, and whether it works.
#[derive(Clone, Copy, Default)]
struct Rest {
    until: Duration,
    /// How long the last rest was; none since it has taken something.
    length: Option<Duration>,
    /// When it took something last, Unix milliseconds.
    taken_ms: u64,
}

/// Whose fault it seems to be that a message was not taken, by the answer alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The message's: the webhook does not like it.
    Message,
    /// Not the message's: the webhook has not seen it.
    Webhook,
    /// Nobody can say: a message may break a server.
    Unknown,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// There is no webhook of that name here.
    #[error("no webhook of that name is configured at this gateway")]
    Unknown,
    /// It could not be reached.
    #[error("no connection: {0}")]
    Unreached(String),
    /// It did not answer.
    #[error("no answer: {0}")]
    Unanswered(String),
    /// It did not answer with a success.
    #[error("it answered {0}")]
    Refused(StatusCode),
}

impl PostError {
    /// Statuses that speak of the request's content are the message's fault; those of authorization, of the path or of the
    /// server's state are not.
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Unknown | Self::Unreached(_) => Fault::Webhook,
            Self::Refused(
                StatusCode::BAD_REQUEST
                | StatusCode::CONFLICT
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNSUPPORTED_MEDIA_TYPE
                | StatusCode::UNPROCESSABLE_ENTITY,
            ) => Fault::Message,
            Self::Unanswered(_) | Self::Refused(_) => Fault::Unknown,
        }
    }
}

impl Webhooks {
    /// The webhooks of a configuration.
    pub(crate) fn new(webhooks: &[Webhook], tls: &WebhookTls, clock: SharedClock) -> Arc<Self> {
        let by_name = webhooks.iter().map(|webhook| (webhook.name.clone(), Target::of(webhook))).collect();
        Arc::new(Self { by_name, http: Client::builder(TokioExecutor::new()).build(tls.connector()), clock })
    }

    /// Whether there is one of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Whether there is one of that name that the account's buckets may name.
    pub(crate) fn serves(&self, name: &str, account: UserId, map: &ClusterMap) -> bool {
        let is_named = |named: &String| {
            let user = map.users.get(&account).is_some_and(|user| user.name == *named);
            user || [account.number().to_string(), account.to_string()].contains(named)
        };
        let target = self.by_name.get(name);
        target.is_some_and(|target| target.accounts.is_empty() || target.accounts.iter().any(is_named))
    }

    /// Whether it failed last: until it takes something, it is only tried.
    pub(super) fn is_tried(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|target| target.rest.lock().length.is_some())
    }

    /// Whether it has failed just now, and is left alone.
    pub(super) fn rests(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|target| target.rest.lock().until > self.clock.monotonic())
    }

    /// When it took an event last, Unix milliseconds, as far as this gateway knows.
    pub(super) fn taken_ms(&self, name: &str) -> u64 {
        self.by_name.get(name).map_or(0, |target| target.rest.lock().taken_ms)
    }

    /// It has taken an event: it works.
    pub(super) fn works(&self, name: &str) {
        if let Some(target) = self.by_name.get(name) {
            *target.rest.lock() = Rest { taken_ms: self.clock.now_ms(), ..Rest::default() };
        }
    }

    /// It has failed what was posted at that time: it is left alone.
    pub(super) fn fails(&self, name: &str, posted_at: Duration) {
        let Some(target) = self.by_name.get(name) else { return };
        let (now, share) = (self.clock.monotonic(), rand::random_range(0.5..1.0));
        let mut rest = target.rest.lock();
        // Who began before another failed learns nothing new.
        if posted_at >= rest.until {
            *rest = rest.longer(now, share);
        }
    }

    /// Posts a message. It is taken when this says so, and may be taken when it does not.
    pub(crate) async fn post(&self, name: &str, message: Bytes) -> Result<(), PostError> {
        let target = self.by_name.get(name).ok_or(PostError::Unknown)?;
        let posted = tokio::time::timeout(POST_DEADLINE, self.exchange(target, message)).await;
        posted.unwrap_or_else(|_| Err(PostError::Unanswered(format!("nothing within {POST_DEADLINE:?}"))))
    }

    /// Redirections are not followed: the operator has said where to.
    async fn exchange(&self, target: &Target, message: Bytes) -> Result<(), PostError> {
        let response = self.http.request(target.request(message)).await;
        let response = response.map_err(|error| match error.is_connect() {
            true => PostError::Unreached(root_cause(&error)),
            false => PostError::Unanswered(root_cause(&error)),
        })?;
        let status = response.status();
        // What it says beside its status makes no difference.
        let _ = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        if status.is_success() { Ok(()) } else { Err(PostError::Refused(status)) }
    }
}

impl Target {
    fn of(webhook: &Webhook) -> Self {
        let uri = webhook.url.expose().parse().expect("the configuration takes only what is a URL");
        let authorization = webhook.token.as_ref().map(|token| {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            let mut value = value.expect("the configuration takes only what a header can hold");
            value.set_sensitive(true);
            value
        });
        Self { uri, authorization, accounts: webhook.accounts.clone(), rest: Mutex::default() }
    }

    fn request(&self, message: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(message));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("Annulus/", env!("CARGO_PKG_VERSION"))));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        request
    }
}

impl Rest {
    /// Twice as long as before; by a share between a half and the whole of it, so that gateways do not come back together.
    fn longer(self, now: Duration, share: f64) -> Self {
        let length = self.length.map_or(REST_MIN, |length| (length * 2).min(REST_MAX));
        Self { until: now + length.mul_f64(share), length: Some(length), ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{REST_MAX, Rest};

    #[test]
    fn rests_grow_to_a_bound() {
        let (mut rest, mut now) = (Rest::default(), Duration::from_secs(5));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            rest = rest.longer(now, 0.5);
            assert_eq!(rest.until - now, Duration::from_secs(seconds) / 2);
            assert!(rest.length.is_some_and(|length| length <= REST_MAX));
            now = rest.until;
        }
    }
}
