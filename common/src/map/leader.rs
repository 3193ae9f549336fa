//! Finds the leader of group 0 and asks it. Knows addresses and redirections; what is asked is the caller's matter.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::ClusterMap;
use crate::protocol::{Answer, Refusal, Request, Response, decode, encode};
use crate::rpc::{Envelope, Lane, RpcError, SharedTransport};

/// Addresses tried in one round: seeds and voters are few, and a round should end before an election does.
const ADDRESSES_PER_ROUND_MAX: usize = 16;

/// How long a node may take to say what map it has.
const PEEK_DEADLINE: Duration = Duration::from_millis(500);

/// The way to the leader of group 0.
pub struct MapLeader {
    seeds: Vec<String>,
    transport: SharedTransport,
    /// Where it answered last.
    found_at: Mutex<Option<String>>,
    /// The seed or node that is peeked at next.
    peek_next: Mutex<usize>,
    /// The last one that no connection could be made to, and why.
    out_of_reach: Mutex<Option<RpcError>>,
}

impl MapLeader {
    /// A way that begins at `seeds`.
    pub fn new(seeds: Vec<String>, transport: SharedTransport) -> Self {
        Self { seeds, transport, found_at: Mutex::new(None), peek_next: Mutex::new(0), out_of_reach: Mutex::new(None) }
    }

    /// Asks the leader: where it was last, then where those who answer say it is, then everyone who may be it, each once and
    /// at most for `deadline`. The error is the leader's refusal, or `Uncertain` when one may have carried it out, or
    /// `NotLeader` when none was found.
    pub async fn ask(
        &self,
        request: &Request,
        map: Option<&ClusterMap>,
        deadline: Duration,
    ) -> Result<(Response, Bytes), Refusal> {
        let header = encode(request);
        let mut ahead = self.candidates(map);
        let mut tried: Vec<String> = Vec::new();
        let mut outcome = Refusal::NotLeader { leader: None };
        while let Some(addr) = ahead.pop_front() {
            if tried.contains(&addr) || tried.len() >= ADDRESSES_PER_ROUND_MAX {
                continue;
            }
            let envelope = Envelope { header: header.clone(), payload: Default::default() };
            let answer = self.transport.call(&addr, Lane::Control, envelope, deadline).await;
            match answer.map(|answer| (decode::<Answer>(&answer.header), answer.payload)) {
                Ok((Ok(Ok(response)), payload)) => {
                    *self.found_at.lock() = Some(addr);
                    return Ok((response, payload));
                }
                Ok((Ok(Err(Refusal::NotLeader { leader })), _)) => {
                    if let Some(leader) = leader.and_then(|leader| map?.addr(leader)) {
                        ahead.push_front(leader.to_owned());
                    }
                }
                // A node without the group is no voter: it has no say in what the change meets.
                Ok((Ok(Err(Refusal::NotHere)), _)) => {}
                Ok((Ok(Err(refusal @ (Refusal::NotReady(_) | Refusal::Uncertain))), _)) => outcome = refusal,
                Ok((Ok(Err(refusal)), _)) => return Err(refusal),
                Ok((Err(malformed), _)) => return Err(Refusal::Invalid(malformed.to_string())),
                Err(RpcError::TimedOut { .. } | RpcError::Lost { .. }) => outcome = Refusal::Uncertain,
                Err(error @ (RpcError::Unreachable { .. } | RpcError::Refused { .. })) => {
                    *self.out_of_reach.lock() = Some(error);
                }
            }
            tried.push(addr);
        }
        *self.found_at.lock() = None;
        Err(outcome)
    }

    /// Why no connection was made where that was tried last, if there was such a place since this was asked last.
    pub fn take_out_of_reach(&self) -> Option<RpcError> {
        self.out_of_reach.lock().take()
    }

    /// The map of one known node or seed, another one with every call: whoever knows only one node, and that one no voter,
    /// learns the others' addresses from it. It has no buckets, accounts and keys.
    pub async fn peek(&self, map: Option<&ClusterMap>) -> Option<ClusterMap> {
        let known = self.everyone(map);
        let addr = {
            let mut next = self.peek_next.lock();
            *next = next.wrapping_add(1);
            known.get(*next % known.len().max(1))?.clone()
        };
        let envelope = Envelope { header: encode(&Request::PeekMap), payload: Default::default() };
        let answer = self.transport.call(&addr, Lane::Control, envelope, PEEK_DEADLINE).await.ok()?;
        match decode::<Answer>(&answer.header) {
            Ok(Ok(Response::MapPeeked)) => decode(&answer.payload).ok(),
            _ => None,
        }
    }

    /// Where the leader may be, likeliest first.
    fn candidates(&self, map: Option<&ClusterMap>) -> VecDeque<String> {
        let last = self.found_at.lock().clone();
        let voters = map.into_iter().flat_map(|map| map.map_voters.iter().filter_map(|voter| map.addr(*voter)));
        last.into_iter().chain(voters.map(str::to_owned)).chain(self.seeds.iter().cloned()).collect()
    }

    fn everyone(&self, map: Option<&ClusterMap>) -> Vec<String> {
        let nodes = map.into_iter().flat_map(|map| map.nodes.values().map(|node| node.profile.addr.clone()));
        self.seeds.iter().cloned().chain(nodes).collect()
    }
}

impl ClusterMap {
    /// The map without buckets, accounts and keys: enough to find one's way, small and without secrets.
    pub fn skeleton(&self) -> ClusterMap {
        ClusterMap {
            cluster: self.cluster,
            version: self.version,
            epoch: self.epoch,
            replication_factor: self.replication_factor,
            map_voters: self.map_voters.clone(),
            placement: self.placement.clone(),
            moves: self.moves.clone(),
            nodes: self.nodes.clone(),
            next_node: self.next_node,
            buckets: Default::default(),
            next_bucket: self.next_bucket,
            users: Default::default(),
            keys: Default::default(),
            kms_keys: Default::default(),
            iam: Default::default(),
        }
    }
}
