//! Test support: a transport that misbehaves towards chosen peers, around one that does not. No product code uses it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Envelope, Lane, RpcError, Transport};

/// How a peer is out of reach. One direction only: to cut a pair of peers apart, set it on both their transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// As if nothing listened: calls fail at once and are not carried out, messages vanish.
    Unreachable,
    /// As if the network swallowed everything: calls are not carried out and time out, messages vanish.
    Silent,
    /// Requests arrive and are carried out, their answers are lost, and so are messages.
    AnswersLost,
    /// Everything arrives, later. Messages stay in order. The delay counts towards a call's deadline.
    Delayed(Duration),
}

/// A transport with faults. Without any it is the one within.
pub struct Faulty<T: Transport + ?Sized> {
    inner: Arc<T>,
    faults: Mutex<HashMap<String, Fault>>,
    /// Messages on their way to delayed peers. Once a peer was delayed its messages stay on that way, so that none overtakes.
    late: Mutex<HashMap<String, mpsc::UnboundedSender<(Instant, Envelope)>>>,
    runtime: Handle,
}

impl<T: Transport + ?Sized> Faulty<T> {
    /// Wraps a transport, without faults yet. To be called inside a runtime, which delays messages.
    pub fn new(inner: Arc<T>) -> Arc<Self> {
        let runtime = Handle::current();
        Arc::new(Self { inner, faults: Mutex::default(), late: Mutex::default(), runtime })
    }

    /// From now on this peer has this fault.
    pub fn set(&self, addr: &str, fault: Fault) {
        self.faults.lock().insert(addr.to_owned(), fault);
    }

    /// From now on this peer has no fault.
    pub fn heal(&self, addr: &str) {
        self.faults.lock().remove(addr);
    }

    /// From now on no peer has a fault.
    pub fn heal_all(&self) {
        self.faults.lock().clear();
    }

    fn fault(&self, addr: &str) -> Option<Fault> {
        self.faults.lock().get(addr).copied()
    }

    fn send_late(&self, addr: &str, message: Envelope, delay: Duration) {
        let mut late = self.late.lock();
        let sender = late.entry(addr.to_owned()).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            self.runtime.spawn(forward_late(Arc::clone(&self.inner), addr.to_owned(), receiver));
            sender
        });
        let _ = sender.send((Instant::now() + delay, message));
    }
}

async fn forward_late<T: Transport + ?Sized>(
    inner: Arc<T>,
    addr: String,
    mut messages: mpsc::UnboundedReceiver<(Instant, Envelope)>,
) {
    while let Some((due, message)) = messages.recv().await {
        sleep_until(due).await;
        inner.send(&addr, message);
    }
}

#[async_trait]
impl<T: Transport + ?Sized> Transport for Faulty<T> {
    async fn call(&self, addr: &str, lane: Lane, request: Envelope, deadline: Duration) -> Result<Envelope, RpcError> {
        let timed_out = || RpcError::TimedOut { addr: addr.to_owned(), after: deadline };
        match self.fault(addr) {
            None => self.inner.call(addr, lane, request, deadline).await,
            Some(Fault::Unreachable) => {
                Err(RpcError::Unreachable { addr: addr.to_owned(), reason: "a fault was injected".to_owned() })
            }
            Some(Fault::Silent) => {
                sleep(deadline).await;
                Err(timed_out())
            }
            Some(Fault::AnswersLost) => {
                self.inner.call(addr, lane, request, deadline).await?;
                Err(RpcError::Lost { addr: addr.to_owned(), reason: "a fault was injected".to_owned() })
            }
            Some(Fault::Delayed(delay)) => {
                sleep(delay.min(deadline)).await;
                let Some(rest) = deadline.checked_sub(delay).filter(|rest| !rest.is_zero()) else {
                    return Err(timed_out());
                };
                self.inner.call(addr, lane, request, rest).await
            }
        }
    }

    fn send(&self, addr: &str, message: Envelope) {
        match self.fault(addr) {
            None if self.late.lock().contains_key(addr) => self.send_late(addr, message, Duration::ZERO),
            None => self.inner.send(addr, message),
            Some(Fault::Delayed(delay)) => self.send_late(addr, message, delay),
            Some(Fault::Unreachable | Fault::Silent | Fault::AnswersLost) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::SharedTransport;
    use crate::rpc::conformance::{PATIENCE, Probe, identity, request};
    use crate::rpc::local::LocalNetwork;

    fn faulty() -> (Arc<Probe>, Arc<Faulty<dyn Transport>>) {
        let network = LocalNetwork::new();
        let probe = Probe::new();
        network.register("peer", probe.clone(), identity(1, None));
        let transport: SharedTransport = network.transport(identity(2, None));
        (probe, Faulty::new(transport))
    }

    #[tokio::test]
    async fn each_fault_fails_as_it_should_and_heals() {
        let (_probe, transport) = faulty();
        let call = |deadline| transport.call("peer", Lane::Control, request("echo"), deadline);
        let short = Duration::from_millis(5);

        assert!(call(PATIENCE).await.is_ok());
        transport.set("peer", Fault::Unreachable);
        assert!(matches!(call(PATIENCE).await, Err(RpcError::Unreachable { .. })));
        transport.set("peer", Fault::Silent);
        assert!(matches!(call(short).await, Err(RpcError::TimedOut { .. })));
        transport.set("peer", Fault::AnswersLost);
        assert!(matches!(call(PATIENCE).await, Err(RpcError::Lost { .. })));
        transport.set("peer", Fault::Delayed(short));
        assert!(matches!(call(short).await, Err(RpcError::TimedOut { .. })));
        assert!(call(PATIENCE).await.is_ok());
        transport.set("peer", Fault::Unreachable);
        transport.heal("peer");
        assert!(call(PATIENCE).await.is_ok());
    }

    #[tokio::test]
    async fn delayed_messages_stay_in_order_and_others_vanish() {
        let (probe, transport) = faulty();
        transport.set("peer", Fault::Delayed(Duration::from_millis(5)));
        transport.send("peer", request("first"));
        transport.set("peer", Fault::Silent);
        transport.send("peer", request("lost"));
        transport.heal_all();
        transport.send("peer", request("second"));
        assert_eq!(probe.until_received(|received| received.len() == 2).await, ["first", "second"]);
    }
}
