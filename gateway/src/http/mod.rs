//! The HTTP service in front of everything: it accepts connections, tells S3 from what is not S3, and gives every reply
//! what S3's replies have (ids, complete errors, no body to HEAD). It bounds connections, heads and stalls. What requests
//! mean is decided behind it.

mod addressing;
mod api;
mod connections;
mod cors;
mod documents;
mod early;
mod error_details;
mod errors;
mod form;
mod handler;
mod hoisted;
mod io;
mod presigned;
mod proxies;
mod recording;
mod reply;
mod second_pass;
mod serve;
mod service;
#[cfg(test)]
mod tests;
mod watched;
mod website;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::network::Network;
use annulus_common::telemetry::Metrics;

use self::addressing::Addressing;
use self::form::Forms;
use crate::access_log::AccessLog;
use crate::auth::Accounts;
use crate::events::Webhooks;
use crate::object::Objects;

pub(crate) use api::{Unread, error_xml, read_whole, respond};
pub use errors::error_response;
pub use handler::{BodyFailure, ErrorCode, Handler, HandlerBody, whole};
pub use serve::serve;
pub use service::GatewayService;

/// What the service is told by the operator.
#[derive(Clone, Debug)]
pub struct GatewayHttpConfig {
    /// The region that requests must be signed for, and that buckets are in.
    pub region: String,
    /// The domains under which buckets have host names.
    pub domains: Vec<String>,
    /// The domain under which buckets are websites, if there is one.
    pub website_domain: Option<String>,
    /// Whom to believe that they ask for others.
    pub trusted_proxies: Vec<Network>,
    /// The bucket that `/upload` is about.
    pub upload_bucket: Option<String>,
    /// How many connections are served at once; more wait.
    pub connections_max: usize,
    /// Whether clients may send their own keys (SSE-C) over connections that are not encrypted here.
    pub sse_c_without_tls: bool,
    /// How long requests that are under way may take to end at shutdown.
    pub drain_wait: Duration,
}

impl Default for GatewayHttpConfig {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            domains: Vec::new(),
            website_domain: None,
            trusted_proxies: Vec::new(),
            upload_bucket: None,
            connections_max: 4_096,
            sse_c_without_tls: false,
            drain_wait: Duration::from_secs(30),
        }
    }
}

/// What is served beside S3. Without a handler the path answers 404.
#[derive(Clone, Default)]
pub struct Handlers {
    /// `/-/...`: health, metrics, the admin API.
    pub operations: Option<Arc<dyn Handler>>,
    /// `/upload` and `/upload/...`.
    pub upload: Option<Arc<dyn Handler>>,
    /// IAM and STS: forms that are posted to `/`.
    pub iam: Option<Arc<dyn Handler>>,
    /// S3 Control, by its paths.
    pub control: Option<Arc<dyn Handler>>,
}

/// Who is told of what clients do.
pub struct Told {
    /// Operators, by numbers.
    pub metrics: Arc<Metrics>,
    /// Owners of buckets, by records of requests.
    pub access_log: Arc<AccessLog>,
    /// Whom owners of buckets name, by events.
    pub(crate) webhooks: Arc<Webhooks>,
}

/// The service over the operations, ready for [`serve`].
pub fn service(
    config: GatewayHttpConfig,
    objects: Arc<Objects>,
    accounts: Accounts,
    clock: SharedClock,
    handlers: Handlers,
    told: Told,
) -> GatewayService {
    let Told { metrics, access_log, webhooks } = told;
    let budget = objects.budget().clone();
    let addressing = Addressing::new(&config.domains);
    let s3 = second_pass::s3_service(&config, objects, accounts.clone(), clock.clone(), &addressing, webhooks);
    let forms = Forms { s3: s3.clone(), accounts: accounts.clone(), region: config.region.clone(), clock };
    GatewayService::new(config, forms, budget, handlers, metrics, access_log)
}
