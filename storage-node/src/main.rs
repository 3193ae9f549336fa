//! `annulus-node`: a storage node alone. From its configuration to its end; everything between is the library's.

mod operations;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use annulus_common::clock::SystemClock;
use annulus_common::config::{LoadInput, Origin, ServerConfig, flags};
use annulus_common::rpc::counted::Counted;
use annulus_common::rpc::handshake::ClusterSecret;
use annulus_common::rpc::tcp::{TcpServer, TcpTransport};
use annulus_common::stop;
use annulus_common::telemetry::{Metrics, init_logs};
use annulus_storage_node::node::{NodeConfig, NodeData, StorageNode};
use clap::Command;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Standard error may be closed; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "annulus-node: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the node until it is told to stop. An error is one line for the operator.
fn run() -> Result<(), String> {
    let config = configure()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no threads: {error}"))?;
    let served = runtime.block_on(serve(&config));
    // Background tasks get the grace period to end after the node did.
    runtime.shutdown_timeout(config.shutdown_grace);
    served
}

fn configure() -> Result<ServerConfig, String> {
    let command = Command::new("annulus-node")
        .about("A storage node of Annulus. Gateways and other nodes talk to it; clients talk to gateways.")
        .version(env!("CARGO_PKG_VERSION"));
    let (flags, file) = flags::given(&flags::add_to(command).get_matches());
    let config = ServerConfig::load(LoadInput::from_process(flags, file)).map_err(|error| error.to_string())?;
    init_logs(config.log_format, &config.log_level).map_err(|error| error.to_string())?;
    Ok(config)
}

async fn serve(config: &ServerConfig) -> Result<(), String> {
    let Some(secret) = &config.cluster_secret else {
        return Err("a storage node alone needs ANNULUS_CLUSTER_SECRET (or ANNULUS_CLUSTER_SECRET_FILE): \
                    without it no gateway could reach it"
            .to_owned());
    };
    let secret = ClusterSecret::parse(secret.expose()).map_err(|error| error.to_string())?;
    let stop =
        stop::on_signal("handing over and closing").map_err(|error| format!("signals cannot be handled: {error}"))?;
    let clock = SystemClock::shared();
    let (listener, node_config) = listen(config).await?;
    let operations_listener = listen_for_operations(config).await?;

    let data = NodeData::open(&node_config, &clock).map_err(|error| error.to_string())?;
    let identity = data.identity();
    let metrics = Metrics::new();
    let transport = Arc::new(TcpTransport::new(identity.clone(), secret.clone()));
    let transport = Counted::over(transport, Arc::clone(&metrics), clock.clone());
    let node = StorageNode::start(node_config, data, transport, clock).map_err(|error| error.to_string())?;
    node.count_into(Arc::clone(&metrics));
    let node = Arc::new(node);
    let stop_peers = CancellationToken::new();
    let peers = tokio::spawn(TcpServer::serve(listener, node.service(), identity, secret, stop_peers.clone()));
    if let Some(listener) = operations_listener {
        tokio::spawn(operations::serve(listener, Arc::clone(&node), metrics, stop.clone()));
    }

    let failure = tokio::select! {
        () = stop.cancelled() => None,
        reason = node.failed() => Some(reason),
    };
    if tokio::time::timeout(config.shutdown_grace, node.shutdown()).await.is_err() {
        warn!("the node did not stop within the grace period, ending all the same");
    }
    stop_peers.cancel();
    // It ends by the token alone.
    let _ = peers.await;
    failure.map_or(Ok(()), Err)
}

/// The port for peers, and the configuration with the port that the system chose where it was left to it.
async fn listen(config: &ServerConfig) -> Result<(TcpListener, NodeConfig), String> {
    let addr = config.rpc_address();
    let listener =
        TcpListener::bind(addr).await.map_err(|error| format!("cannot listen for peers at {addr}: {error}"))?;
    let bound = listener.local_addr().map_err(|error| format!("cannot listen for peers at {addr}: {error}"))?;
    let mut config = config.clone();
    config.rpc_port = bound.port();
    info!(addr = %bound, "serving gateways and other nodes");
    Ok((listener, NodeConfig::of(&config)))
}

/// Health and metrics have a port if one was asked for: several nodes on one machine need none.
async fn listen_for_operations(config: &ServerConfig) -> Result<Option<TcpListener>, String> {
    let addr = match config.internal_listen {
        Some(addr) => addr,
        None if config.origin("node_port") != Origin::Default => config.client_address(),
        None => return Ok(None),
    };
    let bound =
        TcpListener::bind(addr).await.map_err(|error| format!("cannot listen for operators at {addr}: {error}"))?;
    info!(%addr, "serving health and metrics");
    Ok(Some(bound))
}
