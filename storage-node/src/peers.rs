//! How Raft reaches other nodes: by their number, through the cluster map's addresses and the transport.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::crc32c;
use annulus_common::ids::NodeId;
use annulus_common::map::watch::MapWatch;
use annulus_common::protocol::{Answer, Message, Request, Response, decode, encode};
use annulus_common::rpc::{Envelope, Lane, SharedTransport};
use async_trait::async_trait;
use bytes::Bytes;

use crate::raft::{FetchError, Outbox, SnapshotSource};

/// How long a piece of a snapshot may take.
const PIECE_DEADLINE: Duration = Duration::from_secs(10);

/// Frames leave as messages. A node that is not in the map yet gets none, as if the network had lost them.
pub(crate) fn outbox(transport: SharedTransport, map: MapWatch) -> Outbox {
    let header = encode(&Message::Raft);
    let send = move |to: NodeId, frame: Bytes| {
        if let Some(addr) = map.latest().addr(to) {
            transport.send(addr, Envelope { header: header.clone(), payload: frame });
        }
    };
    Outbox { send: Arc::new(send) }
}

/// Pieces of snapshots, from the nodes that offered them.
pub(crate) struct PeerSnapshots {
    transport: SharedTransport,
    map: MapWatch,
}

impl PeerSnapshots {
    pub(crate) fn new(transport: SharedTransport, map: MapWatch) -> Self {
        Self { transport, map }
    }
}

#[async_trait]
impl SnapshotSource for PeerSnapshots {
    async fn fetch(&self, from: NodeId, request: Bytes) -> Result<Bytes, FetchError> {
        let failed = |reason: String| FetchError { reason };
        let map = self.map.latest();
        let addr = map.addr(from).ok_or_else(|| failed(format!("node {from} is not in the cluster map")))?;
        let request = Envelope::from_header(encode(&Request::Snapshot(request)));
        let answer = self.transport.call(addr, Lane::Bulk, request, PIECE_DEADLINE).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        match decode::<Answer>(&answer.header) {
            Ok(Ok(Response::Snapshot { crc })) if crc == crc32c(&answer.payload) => Ok(answer.payload),
            Ok(Ok(Response::Snapshot { .. })) => {
                Err(failed("the piece of a snapshot did not arrive intact".to_owned()))
            }
            Ok(Ok(_)) => Err(failed("the answer is not a piece of a snapshot".to_owned())),
            Ok(Err(refusal)) => Err(failed(refusal.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}
