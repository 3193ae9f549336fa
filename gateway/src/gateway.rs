//! A gateway as a whole: its parts put together over a watched cluster map. Where the map and the transport come from is the
//! caller's: a process of its own, or one with a storage node in it.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::config::{ServerConfig, Webhook};
use annulus_common::map::watch::MapWatch;
use annulus_common::network::Network;
use annulus_common::rpc::SharedTransport;
use annulus_common::telemetry::Metrics;

use crate::access_log::{AccessLog, LogDelivery};
use crate::admin::Admin;
use crate::auth::Accounts;
use crate::budget::MemoryBudget;
use crate::client::ClusterClient;
use crate::control::ControlApi;
use crate::events::{EventDelivery, WebhookTls, Webhooks};
use crate::http::{self, GatewayHttpConfig, GatewayService, Handler, Handlers, Told};
use crate::iam::IamApi;
use crate::kms::{LocalKeys, MasterKeyError, MasterKeys};
use crate::object::Objects;
use crate::operations::{Operations, Readiness, Refresh};
use crate::upload::{Upload, UploadConfig};

/// What the operator decides about a gateway.
#[derive(Clone)]
pub struct GatewaySettings {
    /// The region that requests are signed for.
    pub region: String,
    /// The domains under which buckets have host names.
    pub domains: Vec<String>,
    /// The domain of websites, if there are any.
    pub website_domain: Option<String>,
    /// Whom to believe that they ask for others.
    pub trusted_proxies: Vec<Network>,
    /// How much memory all requests may hold together.
    pub request_memory_bytes: u64,
    /// How many connections are served at once.
    pub connections_max: usize,
    /// How long records of access logs are gathered.
    pub access_log_wait: Duration,
    /// Who can be told of events.
    pub webhooks: Vec<Webhook>,
    /// Who may certify them.
    pub webhook_tls: WebhookTls,
    /// How often one may refuse an event.
    pub webhook_tries: u32,
    /// The route `/upload`.
    pub upload: UploadConfig,
    /// What wraps the keys of the key service.
    pub master_keys: MasterKeys,
    /// Whether clients may send their own keys over connections that are not encrypted here.
    pub sse_c_without_tls: bool,
    /// How long requests that are under way may take to end at shutdown.
    pub drain_wait: Duration,
    /// Whether `/-/` is served on the clients' port.
    pub operations_on_client_port: bool,
}

/// What a gateway is given.
pub struct GatewaySeams {
    /// How nodes are reached.
    pub transport: SharedTransport,
    /// The watched cluster map.
    pub watch: MapWatch,
    /// The time.
    pub clock: SharedClock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the rest of the process serves.
    pub ready: Readiness,
    /// What is looked at when the metrics are asked for.
    pub refresh: Refresh,
}

/// The services of a gateway, ready to be served.
pub struct Gateway {
    /// For clients.
    pub clients: GatewayService,
    /// For operators, when it is not on the clients' port too.
    pub operations: Arc<dyn Handler>,
    /// Writes what clients' requests leave for access logs: to be run beside the services, and a little longer.
    pub log_delivery: LogDelivery,
    /// Tells webhooks of events: to be run beside the services.
    pub event_delivery: EventDelivery,
}

impl GatewaySettings {
    /// The gateway's part of a process's configuration.
    pub fn of(config: &ServerConfig, webhook_tls: WebhookTls) -> Result<Self, MasterKeyError> {
        Ok(Self {
            region: config.region.clone(),
            domains: config.domains.clone(),
            website_domain: config.website_domain.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            request_memory_bytes: config.request_memory_bytes,
            connections_max: config.connections_max as usize,
            access_log_wait: config.access_log_wait,
            webhooks: config.webhooks.clone(),
            webhook_tls,
            webhook_tries: config.webhook_tries,
            upload: UploadConfig {
                bucket: config.upload_bucket.clone(),
                anonymous: config.upload_anonymous,
                token: config.upload_token.as_ref().map(|token| token.expose().to_owned()),
                region: config.region.clone(),
            },
            master_keys: MasterKeys::of(config)?,
            sse_c_without_tls: config.sse_c_without_tls,
            drain_wait: config.shutdown_grace,
            operations_on_client_port: config.internal_listen.is_none(),
        })
    }
}

impl Gateway {
    /// Puts a gateway together.
    pub fn new(settings: GatewaySettings, seams: GatewaySeams) -> Self {
        let GatewaySeams { transport, watch, clock, metrics, ready, refresh } = seams;
        let client = ClusterClient::new(transport, watch.clone(), clock.clone());
        let accounts = Accounts::new(watch.clone(), &settings.master_keys);
        let keys = Arc::new(LocalKeys::new(client.clone(), settings.master_keys, clock.clone()));
        let budget = MemoryBudget::new(settings.request_memory_bytes, metrics.clone());
        let objects = Arc::new(Objects::new(client.clone(), keys.clone(), clock.clone(), budget.clone()));
        let admin = Admin::new(objects.clone(), keys, accounts.clone(), clock.clone(), settings.region.clone());
        let map = watch.clone();
        let ready: Readiness = Arc::new(move || map.current().is_some() && ready());
        let operations: Arc<dyn Handler> =
            Arc::new(Operations { ready, metrics: metrics.clone(), budget, refresh, admin });
        let iam = IamApi::new(client, accounts.clone(), clock.clone(), settings.region.clone());
        let control = ControlApi::new(objects.clone(), accounts.clone(), clock.clone(), settings.region.clone());
        let upload_bucket = settings.upload.bucket.clone();
        let upload = Arc::new(Upload::new(objects.clone(), accounts.clone(), clock.clone(), settings.upload));
        let handlers = Handlers {
            operations: settings.operations_on_client_port.then(|| operations.clone()),
            upload: Some(upload),
            iam: Some(Arc::new(iam)),
            control: Some(Arc::new(control)),
        };
        let access_log = AccessLog::new(clock.clone(), metrics.clone(), settings.access_log_wait);
        let log_delivery = LogDelivery::new(access_log.clone(), objects.clone(), settings.region.clone());
        let webhooks = Webhooks::new(&settings.webhooks, &settings.webhook_tls, clock.clone());
        let event_delivery = EventDelivery::new(
            objects.client().clone(),
            webhooks.clone(),
            access_log.clone(),
            (clock.clone(), metrics.clone()),
            (settings.region.clone(), settings.webhook_tries),
        );
        let config = GatewayHttpConfig {
            region: settings.region,
            domains: settings.domains,
            website_domain: settings.website_domain,
            trusted_proxies: settings.trusted_proxies,
            upload_bucket: Some(upload_bucket),
            connections_max: settings.connections_max,
            drain_wait: settings.drain_wait,
            sse_c_without_tls: settings.sse_c_without_tls,
        };
        let clients = http::service(config, objects, accounts, clock, handlers, Told { metrics, access_log, webhooks });
        Self { clients, operations, log_delivery, event_delivery }
    }
}
