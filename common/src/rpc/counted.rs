//! A transport that counts its calls, for the metrics: which request, how it ended, how long it took. It changes nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Envelope, Lane, RpcError, SharedTransport, Transport};
use crate::clock::SharedClock;
use crate::protocol;
use crate::telemetry::{Metrics, Outcome};

/// Another transport, with its calls counted.
pub struct Counted {
    inner: SharedTransport,
    metrics: Arc<Metrics>,
    clock: SharedClock,
}

impl Counted {
    /// Counts the calls of `inner` into `metrics`.
    pub fn over(inner: SharedTransport, metrics: Arc<Metrics>, clock: SharedClock) -> SharedTransport {
        Arc::new(Self { inner, metrics, clock })
    }
}

#[async_trait]
impl Transport for Counted {
    async fn call(&self, addr: &str, lane: Lane, request: Envelope, deadline: Duration) -> Result<Envelope, RpcError> {
        let operation = protocol::request_name(&request.header);
        let began = self.clock.monotonic();
        let answer = self.inner.call(addr, lane, request, deadline).await;
        let outcome = match &answer {
            Ok(envelope) if protocol::is_refusal(&envelope.header) => Outcome::refused,
            Ok(_) => Outcome::ok,
            Err(_) => Outcome::failed,
        };
        self.metrics.rpc_call(operation, outcome, self.clock.monotonic().saturating_sub(began));
        answer
    }

    fn send(&self, addr: &str, message: Envelope) {
        self.inner.send(addr, message);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;

    use super::Counted;
    use crate::clock::ManualClock;
    use crate::protocol::{self, Answer, Refusal, Request, Response};
    use crate::rpc::{Envelope, Lane, RpcError, Transport};
    use crate::telemetry::Metrics;

    /// Does as it is told by the address.
    struct Scripted;

    #[async_trait]
    impl Transport for Scripted {
        async fn call(&self, addr: &str, _: Lane, _: Envelope, after: Duration) -> Result<Envelope, RpcError> {
            let answer: Answer = match addr {
                "willing" => Ok(Response::Done),
                "unwilling" => Err(Refusal::Full),
                _ => return Err(RpcError::TimedOut { addr: addr.to_owned(), after }),
            };
            Ok(Envelope::from_header(protocol::encode(&answer)))
        }

        fn send(&self, _: &str, _: Envelope) {}
    }

    #[tokio::test]
    async fn every_call_is_counted_by_its_request_and_its_end() {
        let metrics = Metrics::new();
        let transport = Counted::over(Arc::new(Scripted), metrics.clone(), ManualClock::at(Duration::ZERO));
        for (addr, request) in [
            ("willing", Request::NodeStatus),
            ("willing", Request::DeleteChunks(Vec::new())),
            ("unwilling", Request::DeleteChunks(Vec::new())),
            ("silent", Request::PeekMap),
        ] {
            let envelope = Envelope::from_header(protocol::encode(&request));
            let _ = transport.call(addr, Lane::Control, envelope, Duration::from_secs(1)).await;
        }
        let text = metrics.render();
        for line in [
            "annulus_rpc_calls_total{operation=\"node_status\",outcome=\"ok\"} 1",
            "annulus_rpc_calls_total{operation=\"delete_chunks\",outcome=\"ok\"} 1",
            "annulus_rpc_calls_total{operation=\"delete_chunks\",outcome=\"refused\"} 1",
            "annulus_rpc_calls_total{operation=\"peek_map\",outcome=\"failed\"} 1",
            "annulus_rpc_call_seconds_count{operation=\"delete_chunks\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
