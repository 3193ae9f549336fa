//! A storage node inside the gateway's process: the one file that names `annulus_storage_node`.
//!
//! The gateway reaches its own node through the transport like any other, only that the transport takes a shortcut for that
//! one address. Nothing else differs from a gateway alone.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::config::ServerConfig;
use annulus_common::map::watch::MapWatch;
use annulus_common::rpc::counted::Counted;
use annulus_common::rpc::handshake::ClusterSecret;
use annulus_common::rpc::local::LocalNetwork;
use annulus_common::rpc::tcp::{TcpServer, TcpTransport};
use annulus_common::rpc::{Envelope, Lane, RpcError, SharedTransport, Transport};
use annulus_common::telemetry::Metrics;
use annulus_storage_node::node::{NodeConfig, NodeData, StartError, StorageNode};
use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::operations::{Readiness, Refresh};

/// How often it is looked whether the node has got into its cluster.
const MEMBER_RECHECK: Duration = Duration::from_millis(20);

/// A running storage node and what others need to reach it.
pub struct Embedded {
    node: Arc<StorageNode>,
    transport: SharedTransport,
    peers: Option<JoinHandle<()>>,
    stop_peers: CancellationToken,
}

/// Why the node does not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The node itself.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The port for peers.
    #[error("cannot listen for peers at {addr}: {source}")]
    Listen {
        /// Where.
        addr: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The cluster's secret.
    #[error("the cluster secret is too short")]
    Secret,
}

impl Embedded {
    /// Starts the node. Without a cluster secret it is alone: no port is opened for peers.
    pub async fn start(
        config: &ServerConfig,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, EmbeddedError> {
        let node_config = NodeConfig::of(config);
        let data = NodeData::open(&node_config, &clock)?;
        let own = LocalNetwork::new();
        let identity = data.identity();
        let secret = match &config.cluster_secret {
            Some(secret) => Some(ClusterSecret::parse(secret.expose()).map_err(|_| EmbeddedError::Secret)?),
            None => None,
        };
        let transport: SharedTransport = match &secret {
            Some(secret) => Arc::new(Shortcut {
                own_addr: node_config.addr.clone(),
                own: own.transport(identity.clone()),
                others: Arc::new(TcpTransport::new(identity.clone(), secret.clone())),
            }),
            None => own.transport(identity.clone()),
        };
        let transport = Counted::over(transport, metrics.clone(), clock.clone());
        let listener = match secret {
            Some(secret) => Some((listen(config).await?, secret)),
            None => None,
        };
        let own_addr = node_config.addr.clone();
        let node = StorageNode::start(node_config, data, transport.clone(), clock)?;
        node.count_into(metrics);
        own.register(&own_addr, node.service(), identity.clone());
        let stop_peers = CancellationToken::new();
        let peers = listener.map(|(listener, secret)| {
            tokio::spawn(TcpServer::serve(listener, node.service(), identity, secret, stop_peers.clone()))
        });
        Ok(Self { node: Arc::new(node), transport, peers, stop_peers })
    }

    /// How the process reaches nodes, its own among them.
    pub fn transport(&self) -> SharedTransport {
        self.transport.clone()
    }

    /// The node's copy of the cluster map, once it is in a cluster.
    pub async fn watch(&self) -> MapWatch {
        loop {
            match self.node.map() {
                Some(watch) => return watch,
                None => tokio::time::sleep(MEMBER_RECHECK).await,
            }
        }
    }

    /// Tells whether the node serves.
    pub fn readiness(&self) -> Readiness {
        let node = Arc::downgrade(&self.node);
        Arc::new(move || node.upgrade().is_some_and(|node| node.is_ready()))
    }

    /// Brings the node's metrics up to date when they are asked for.
    pub fn refresh(&self) -> Refresh {
        let node = Arc::downgrade(&self.node);
        Arc::new(move || {
            let node = node.upgrade();
            Box::pin(async move {
                if let Some(node) = node {
                    node.refresh_metrics().await;
                }
            })
        })
    }

    /// Waits until the node cannot go on, and says why.
    pub async fn failed(&self) -> String {
        self.node.failed().await
    }

    /// Stops the node, then its port: handing leaders over takes messages.
    pub async fn shutdown(self) {
        self.node.shutdown().await;
        self.stop_peers.cancel();
        if let Some(peers) = self.peers {
            // It ends by the token alone.
            let _ = peers.await;
        }
    }
}

async fn listen(config: &ServerConfig) -> Result<TcpListener, EmbeddedError> {
    let addr = config.rpc_address();
    TcpListener::bind(addr).await.map_err(|source| EmbeddedError::Listen { addr: addr.to_string(), source })
}

/// Reaches the process's own node without a socket, and all others over TCP.
struct Shortcut {
    own_addr: String,
    own: SharedTransport,
    others: SharedTransport,
}

impl Shortcut {
    fn to(&self, addr: &str) -> &SharedTransport {
        if addr == self.own_addr { &self.own } else { &self.others }
    }
}

#[async_trait]
impl Transport for Shortcut {
    async fn call(&self, addr: &str, lane: Lane, request: Envelope, deadline: Duration) -> Result<Envelope, RpcError> {
        self.to(addr).call(addr, lane, request, deadline).await
    }

    fn send(&self, addr: &str, message: Envelope) {
        self.to(addr).send(addr, message);
    }
}
