//! `annulus server` and `annulus gateway`: the processes that serve, from their configuration to their end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::{SharedClock, SystemClock};
use annulus_common::config::{LoadInput, ServerConfig, flags};
use annulus_common::ids::InstanceId;
use annulus_common::map::watch::MapWatch;
use annulus_common::rpc::counted::Counted;
use annulus_common::rpc::handshake::ClusterSecret;
use annulus_common::rpc::tcp::TcpTransport;
use annulus_common::rpc::{PeerIdentity, SharedTransport};
use annulus_common::stop;
use annulus_common::telemetry::{Metrics, init_logs};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::CliError;
use crate::embedded::Embedded;
use crate::events::WebhookTls;
use crate::gateway::{Gateway, GatewaySeams, GatewaySettings};
use crate::http;
use crate::operations::{self, Waiting};

/// What a process does that is told to stop.
const HOW_IT_ENDS: &str = "finishing what is under way";

/// `--config` and a flag for every setting.
#[derive(Debug)]
pub(super) struct RunArgs {
    flags: Vec<(String, String)>,
    config_file: Option<PathBuf>,
}

impl FromArgMatches for RunArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (flags, config_file) = flags::given(matches);
        Ok(Self { flags, config_file })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for RunArgs {
    fn augment_args(command: Command) -> Command {
        flags::add_to(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        flags::add_to(command)
    }
}

/// Runs a gateway and a storage node in one process.
pub(super) fn server(args: RunArgs) -> Result<(), CliError> {
    let config = configure(args)?;
    serve_until_told(config.shutdown_grace, serve_with_node(config))
}

/// Runs a gateway alone.
pub(super) fn gateway(args: RunArgs) -> Result<(), CliError> {
    let config = configure(args)?;
    serve_until_told(config.shutdown_grace, serve_alone(config))
}

fn configure(args: RunArgs) -> Result<ServerConfig, CliError> {
    let input = LoadInput::from_process(args.flags, args.config_file);
    let config = ServerConfig::load(input).map_err(|error| CliError::Run(error.to_string()))?;
    init_logs(config.log_format, &config.log_level).map_err(|error| CliError::Run(error.to_string()))?;
    Ok(config)
}

/// Background tasks get the grace period to end after the servers did.
fn serve_until_told(grace: Duration, serving: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serving);
    runtime.shutdown_timeout(grace);
    served
}

async fn serve_with_node(config: ServerConfig) -> Result<(), CliError> {
    let webhook_tls = webhook_tls_of(&config)?;
    let clock = SystemClock::shared();
    let listeners = Listeners::bind(&config).await?;
    let stop = stop::on_signal(HOW_IT_ENDS)?;
    let metrics = Metrics::new();
    let embedded = Embedded::start(&config, clock.clone(), metrics.clone()).await;
    let embedded = embedded.map_err(|error| CliError::Run(error.to_string()))?;
    let entering = async {
        tokio::select! {
            watch = embedded.watch() => Ok(Some(watch)),
            reason = embedded.failed() => Err(CliError::Run(reason)),
            () = stop.cancelled() => Ok(None),
        }
    };
    let Some(watch) = listeners.answer_during(entering).await? else {
        embedded.shutdown().await;
        return Ok(());
    };
    let seams = GatewaySeams {
        transport: embedded.transport(),
        watch,
        clock,
        metrics,
        ready: embedded.readiness(),
        refresh: embedded.refresh(),
    };
    let gateway = Gateway::new(settings_of(&config, webhook_tls)?, seams);
    let failure = tokio::select! {
        () = listeners.serve(gateway, stop.clone()) => None,
        reason = embedded.failed() => Some(reason),
    };
    embedded.shutdown().await;
    failure.map_or(Ok(()), |reason| Err(CliError::Run(reason)))
}

async fn serve_alone(config: ServerConfig) -> Result<(), CliError> {
    let webhook_tls = webhook_tls_of(&config)?;
    let clock = SystemClock::shared();
    let listeners = Listeners::bind(&config).await?;
    let stop = stop::on_signal(HOW_IT_ENDS)?;
    let metrics = Metrics::new();
    let transport = Counted::over(transport_to(&config, &clock)?, metrics.clone(), clock.clone());
    let seeds: Vec<String> = config.seeds.iter().map(ToString::to_string).collect();
    info!(seeds = seeds.join(","), "looking for the cluster");
    let instance = InstanceId::generate(clock.now_ms());
    let entering = async {
        tokio::select! {
            watch = MapWatch::connect(seeds, instance, transport.clone(), clock.clone()) => Some(watch),
            () = stop.cancelled() => None,
        }
    };
    let Some(watch) = listeners.answer_during(entering).await else { return Ok(()) };
    let settings = settings_of(&config, webhook_tls)?;
    let seams = GatewaySeams {
        transport,
        watch,
        clock,
        metrics,
        ready: Arc::new(|| true),
        refresh: Arc::new(|| Box::pin(async {})),
    };
    listeners.serve(Gateway::new(settings, seams), stop).await;
    Ok(())
}

/// Before anything is started: what is wrong with it is said at once.
fn webhook_tls_of(config: &ServerConfig) -> Result<WebhookTls, CliError> {
    WebhookTls::of(config).map_err(|error| CliError::Run(error.to_string()))
}

fn settings_of(config: &ServerConfig, webhook_tls: WebhookTls) -> Result<GatewaySettings, CliError> {
    GatewaySettings::of(config, webhook_tls).map_err(|error| CliError::Run(error.to_string()))
}

fn transport_to(config: &ServerConfig, clock: &SharedClock) -> Result<SharedTransport, CliError> {
    let (Some(secret), false) = (&config.cluster_secret, config.seeds.is_empty()) else {
        let needed = "a gateway alone needs ANNULUS_SEEDS and ANNULUS_CLUSTER_SECRET (or ANNULUS_CLUSTER_SECRET_FILE)";
        return Err(CliError::Run(needed.to_owned()));
    };
    let secret = ClusterSecret::parse(secret.expose()).map_err(|error| CliError::Run(error.to_string()))?;
    let identity = PeerIdentity { instance: InstanceId::generate(clock.now_ms()), node: None, cluster: None };
    Ok(Arc::new(TcpTransport::new(Arc::new(move || identity.clone()), secret)))
}

/// The ports for clients and operators, bound before anything else so that a port in use is found at once.
struct Listeners {
    clients: TcpListener,
    operations: Option<TcpListener>,
}

impl Listeners {
    async fn bind(config: &ServerConfig) -> Result<Self, CliError> {
        let bind = async |addr: std::net::SocketAddr, variables: &str| {
            let bound = TcpListener::bind(addr).await;
            bound.map_err(|error| CliError::Run(format!("cannot listen at {addr} ({variables}): {error}")))
        };
        let clients = bind(config.client_address(), "ANNULUS_LISTEN, NODE_PORT").await?;
        let operations = match config.internal_listen {
            Some(addr) => Some(bind(addr, "ANNULUS_INTERNAL_LISTEN").await?),
            None => None,
        };
        Ok(Self { clients, operations })
    }

    /// Tells whoever asks that the process lives and does not serve yet, for as long as `entering` takes.
    async fn answer_during<T>(&self, entering: impl Future<Output = T>) -> T {
        let entered = CancellationToken::new();
        let entering = async {
            let result = entering.await;
            entered.cancel();
            result
        };
        let operations = async {
            if let Some(listener) = &self.operations {
                operations::serve(listener, Arc::new(Waiting), entered.clone()).await;
            }
        };
        let clients = operations::serve(&self.clients, Arc::new(Waiting), entered.clone());
        tokio::join!(entering, clients, operations).0
    }

    async fn serve(self, gateway: Gateway, stop: CancellationToken) {
        if let Ok(addr) = self.clients.local_addr() {
            info!(%addr, "serving clients");
        }
        let operations = async {
            if let Some(listener) = &self.operations {
                operations::serve(listener, gateway.operations, stop.clone()).await;
            }
        };
        let served = CancellationToken::new();
        let clients = async {
            http::serve(self.clients, gateway.clients, stop.cancelled()).await;
            served.cancel();
        };
        let (logs, events) = (gateway.log_delivery, gateway.event_delivery);
        tokio::join!(clients, operations, logs.run(served.cancelled()), events.run(stop.cancelled()));
    }
}
