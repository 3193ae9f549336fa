//! Calls within one process: embedded mode, and most tests.
//!
//! A call awaits the service itself, in the caller's own task: nothing is copied, encoded or queued, and dropping the call
//! drops the handler. What can be seen of it is as over TCP: deadlines, refusal of another cluster, loss when the peer goes.
//! Lanes mean nothing here, and nothing is bounded but by the callers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::handshake::OTHER_CLUSTER;
use super::{Envelope, IdentitySource, Lane, RpcError, Service, SharedTransport, Transport};

/// The peers of one process, by address. Clones are the same network.
#[derive(Clone, Default)]
pub struct LocalNetwork {
    peers: Arc<RwLock<HashMap<String, LocalPeer>>>,
}

#[derive(Clone)]
struct LocalPeer {
    service: Arc<dyn Service>,
    identity: IdentitySource,
    /// Cancelled when the peer goes, which its callers notice.
    gone: CancellationToken,
}

impl LocalNetwork {
    /// A network without peers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a service known under an address, in place of what was there.
    pub fn register(&self, addr: &str, service: Arc<dyn Service>, identity: IdentitySource) {
        let peer = LocalPeer { service, identity, gone: CancellationToken::new() };
        let replaced = self.peers.write().insert(addr.to_owned(), peer);
        if let Some(replaced) = replaced {
            replaced.gone.cancel();
        }
    }

    /// Forgets an address. Calls that are under way are lost, later ones find it unreachable.
    pub fn unregister(&self, addr: &str) {
        let removed = self.peers.write().remove(addr);
        if let Some(removed) = removed {
            removed.gone.cancel();
        }
    }

    /// A transport for whoever has this identity.
    pub fn transport(&self, identity: IdentitySource) -> SharedTransport {
        Arc::new(LocalTransport { network: self.clone(), identity })
    }

    fn peer(&self, addr: &str) -> Option<LocalPeer> {
        self.peers.read().get(addr).cloned()
    }
}

struct LocalTransport {
    network: LocalNetwork,
    identity: IdentitySource,
}

#[async_trait]
impl Transport for LocalTransport {
    async fn call(&self, addr: &str, _lane: Lane, request: Envelope, deadline: Duration) -> Result<Envelope, RpcError> {
        request.assert_bounds();
        let Some(peer) = self.network.peer(addr) else {
            return Err(RpcError::Unreachable { addr: addr.to_owned(), reason: "no such peer".to_owned() });
        };
        let identity = (self.identity)();
        if identity.conflicts_with(&(peer.identity)()) {
            return Err(RpcError::Refused { addr: addr.to_owned(), reason: OTHER_CLUSTER.to_owned() });
        }
        let call = async {
            tokio::select! {
                biased;
                response = peer.service.call(&identity, request) => {
                    response.assert_bounds();
                    Ok(response)
                }
                () = peer.gone.cancelled() => {
                    Err(RpcError::Lost { addr: addr.to_owned(), reason: "the peer is gone".to_owned() })
                }
            }
        };
        timeout(deadline, call)
            .await
            .unwrap_or_else(|_| Err(RpcError::TimedOut { addr: addr.to_owned(), after: deadline }))
    }

    fn send(&self, addr: &str, message: Envelope) {
        message.assert_bounds();
        let Some(peer) = self.network.peer(addr) else { return };
        let identity = (self.identity)();
        if !identity.conflicts_with(&(peer.identity)()) {
            peer.service.receive(&identity, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::conformance::{Site, conformance_suite};
    use std::sync::atomic::{AtomicU64, Ordering};

    conformance_suite!(crate::rpc::local::tests::InProcess::default());

    #[derive(Default)]
    struct InProcess {
        network: LocalNetwork,
        started: AtomicU64,
    }

    #[async_trait]
    impl Site for InProcess {
        async fn start(&self, service: Arc<dyn Service>, identity: IdentitySource) -> String {
            let addr = format!("peer-{}", self.started.fetch_add(1, Ordering::Relaxed));
            self.network.register(&addr, service, identity);
            addr
        }

        async fn stop(&self, addr: &str) {
            self.network.unregister(addr);
        }

        fn transport(&self, identity: IdentitySource) -> SharedTransport {
            self.network.transport(identity)
        }
    }
}
