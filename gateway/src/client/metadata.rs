//! Mutations and queries of partitions: finding the leader, and asking again without doing anything twice.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_common::ids::{NodeId, PartitionId, RequestId};
use annulus_common::map::ClusterMap;
use annulus_common::protocol::metadata::{Applied, Command, MetaReply, Mutation, Query, QueryReply};
use annulus_common::protocol::{QUERIES_PER_REQUEST_MAX, Refusal, Request, Response, encode};
use annulus_common::rpc::{Envelope, Lane};
use futures::future::join_all;

use super::peers::CallError;
use super::retry::Retry;
use super::{ClientError, ClusterClient};

/// How long a mutation or a query may take with all its retries: several elections of 1.5 - 3 s.
pub(super) const OVERALL_DEADLINE: Duration = Duration::from_secs(15);

/// How long one node may take to answer. A node that hangs is taken for dead after it.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(3);

/// How long a newer map is waited for before the old one is tried again.
const REFRESH_DEADLINE: Duration = Duration::from_secs(1);

/// Redirections followed without a pause: the second one in a row may be two nodes that name each other.
const QUICK_REDIRECTS_MAX: usize = 1;

/// A mutation of a partition, and what became of its copies so far.
pub struct Proposal {
    partition: PartitionId,
    /// The mutation: every copy of it has the same name.
    pub mutation: Mutation,
    /// Whether a copy may be carried out, or have been, though this client was not told.
    uncertain: bool,
    /// Whether it had to be asked for anew.
    renewed: bool,
}

/// What was tried for one partition.
#[derive(Default)]
struct Attempts {
    tried: usize,
    redirected: usize,
    uncertain: bool,
    last: String,
}

/// A query on its way.
struct Ask {
    partition: PartitionId,
    query: Query,
    reply: Option<QueryReply>,
    attempts: Attempts,
}

/// Queries for one node, by their places among all.
struct Batch {
    node: NodeId,
    places: Vec<usize>,
}

/// What to do before the next attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Before {
    Nothing,
    Pause,
    Refresh,
}

impl ClusterClient {
    /// A mutation with a name of its own, as of now.
    pub fn proposal(&self, partition: PartitionId, command: Command) -> Proposal {
        let (time_ms, since) = (self.clock.now_ms(), Some(self.reached.get(partition)));
        let mutation = Mutation { request: RequestId::generate(time_ms), since, time_ms, command, notice: None };
        Proposal { partition, mutation, uncertain: false, renewed: false }
    }

    /// Carries out a mutation, once, however often it has to be sent. A caller that asks again asks for the same proposal.
    pub async fn mutate(&self, proposal: &mut Proposal) -> Result<MetaReply, ClientError> {
        let partition = proposal.partition;
        let mut retry = Retry::new(&self.clock, OVERALL_DEADLINE);
        let mut attempts = Attempts { uncertain: proposal.uncertain, ..Attempts::default() };
        loop {
            let map = self.watch.latest();
            let node = self.leaders.guess(&map, partition, attempts.tried, &self.peers.health);
            let Some(node) = node else { return Err(ClientError::Refused(Refusal::NotHere)) };
            let before = match self.mutate_at(&map, node, proposal, &retry).await {
                Ok(applied) => {
                    self.leaders.learn(partition, node);
                    self.reached.learn(partition, applied.index);
                    if applied.reply != MetaReply::Expired {
                        return Ok(self.tell(proposal, applied.reply));
                    }
                    attempts.last = "its log goes on too fast".to_owned();
                    proposal.renew(applied.index)?
                }
                Err(error) => {
                    let before = self.note_failure(partition, node, error, &mut attempts)?;
                    proposal.uncertain = attempts.uncertain;
                    before
                }
            };
            self.prepare(before, &mut retry, || attempts.give_up(partition)).await?;
        }
    }

    /// Whoever delivers events may have something to deliver.
    fn tell(&self, proposal: &Proposal, reply: MetaReply) -> MetaReply {
        if proposal.mutation.notice.is_some() {
            self.told.notify_one();
        }
        reply
    }

    async fn mutate_at(
        &self,
        map: &ClusterMap,
        node: NodeId,
        proposal: &Proposal,
        retry: &Retry,
    ) -> Result<Applied, CallError> {
        let (partition, mutation) = (proposal.partition, proposal.mutation.clone());
        let request = Request::Mutate { partition, epoch: map.epoch, mutation };
        let envelope = Envelope::from_header(encode(&request));
        let deadline = ATTEMPT_DEADLINE.min(retry.left());
        match self.peers.ask(map, node, Lane::Control, envelope, deadline).await? {
            (Response::Mutated(applied), _) => Ok(applied),
            _ => Err(Refusal::Invalid("the answer is not one to a mutation".into()).into()),
        }
    }

    /// Asks one partition.
    pub async fn query_one(&self, partition: PartitionId, query: Query) -> Result<QueryReply, ClientError> {
        let mut replies = self.query(vec![(partition, query)]).await?;
        Ok(replies.pop().expect("a query that was asked has a reply"))
    }

    /// Asks partitions, each linearizably and for itself, with one request per node. The replies are in the order asked.
    pub async fn query(&self, queries: Vec<(PartitionId, Query)>) -> Result<Vec<QueryReply>, ClientError> {
        let mut retry = Retry::new(&self.clock, OVERALL_DEADLINE);
        let mut asks: Vec<Ask> = queries.into_iter().map(Ask::new).collect();
        loop {
            let map = self.watch.latest();
            let batches = self.batch_by_leader(&map, &asks)?;
            let answers = join_all(batches.iter().map(|batch| self.query_at(&map, batch, &asks, &retry))).await;
            let mut before = Before::Nothing;
            for (batch, answers) in batches.iter().zip(answers) {
                for (&place, answer) in batch.places.iter().zip(answers) {
                    before = before.max(self.note_answer(batch.node, &mut asks[place], answer)?);
                }
            }
            let Some(open) = asks.iter().find(|ask| ask.reply.is_none()) else { break };
            self.prepare(before, &mut retry, || open.attempts.no_leader(open.partition)).await?;
        }
        Ok(asks.into_iter().filter_map(|ask| ask.reply).collect())
    }

    /// What has no reply yet, by the node to ask.
    fn batch_by_leader(&self, map: &ClusterMap, asks: &[Ask]) -> Result<Vec<Batch>, ClientError> {
        let mut by_node: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (place, ask) in asks.iter().enumerate().filter(|(_, ask)| ask.reply.is_none()) {
            let node = self.leaders.guess(map, ask.partition, ask.attempts.tried, &self.peers.health);
            by_node.entry(node.ok_or(ClientError::Refused(Refusal::NotHere))?).or_default().push(place);
        }
        let mut batches = Vec::with_capacity(by_node.len());
        for (node, places) in by_node {
            let split = places.chunks(QUERIES_PER_REQUEST_MAX).map(<[usize]>::to_vec);
            batches.extend(split.map(|places| Batch { node, places }));
        }
        Ok(batches)
    }

    /// One answer for each query of the batch.
    async fn query_at(
        &self,
        map: &ClusterMap,
        batch: &Batch,
        asks: &[Ask],
        retry: &Retry,
    ) -> Vec<Result<QueryReply, CallError>> {
        let queries = batch.places.iter().map(|&place| (asks[place].partition, asks[place].query.clone())).collect();
        let envelope = Envelope::from_header(encode(&Request::Query { epoch: map.epoch, queries }));
        let deadline = ATTEMPT_DEADLINE.min(retry.left());
        let error = match self.peers.ask(map, batch.node, Lane::Control, envelope, deadline).await {
            Ok((Response::Queried(answers), _)) if answers.len() == batch.places.len() => {
                return answers.into_iter().map(|answer| answer.map_err(CallError::from)).collect();
            }
            Ok(_) => Refusal::Invalid("the answer is not one to these queries".into()).into(),
            Err(error) => error,
        };
        batch.places.iter().map(|_| Err(error.clone())).collect()
    }

    fn note_answer(
        &self,
        node: NodeId,
        ask: &mut Ask,
        answer: Result<QueryReply, CallError>,
    ) -> Result<Before, ClientError> {
        match answer {
            Ok(reply) => {
                self.leaders.learn(ask.partition, node);
                ask.reply = Some(reply);
                Ok(Before::Nothing)
            }
            Err(error) => {
                let before = self.note_failure(ask.partition, node, error, &mut ask.attempts)?;
                // A query changes nothing, so nothing about it is uncertain.
                ask.attempts.uncertain = false;
                Ok(before)
            }
        }
    }

    /// Decides what a failed attempt means for the next one, or that there is none.
    fn note_failure(
        &self,
        partition: PartitionId,
        node: NodeId,
        error: CallError,
        attempts: &mut Attempts,
    ) -> Result<Before, ClientError> {
        attempts.uncertain |= error.is_uncertain();
        attempts.last = error.to_string();
        if matches!(error, CallError::Refused(Refusal::StaleEpoch(_))) {
            // The right node: only what it was told is old.
            return Ok(Before::Refresh);
        }
        attempts.tried += 1;
        self.leaders.forget(partition, node);
        match error {
            CallError::Refused(Refusal::NotLeader { leader: Some(leader) }) if leader != node => {
                attempts.redirected += 1;
                self.leaders.learn(partition, leader);
                let quick = attempts.redirected <= QUICK_REDIRECTS_MAX;
                Ok(if quick { Before::Nothing } else { Before::Pause })
            }
            CallError::Refused(Refusal::NotHere) => Ok(Before::Refresh),
            CallError::Refused(Refusal::NotLeader { .. } | Refusal::NotReady(_)) => Ok(Before::Pause),
            CallError::Refused(Refusal::Uncertain | Refusal::Storage(_)) => Ok(Before::Pause),
            CallError::Refused(Refusal::Full) if !attempts.uncertain => Err(ClientError::Full),
            CallError::Refused(refusal) if !attempts.uncertain => Err(ClientError::Refused(refusal)),
            CallError::Refused(_) | CallError::Failed(_) => Ok(Before::Pause),
        }
    }

    async fn prepare(
        &self,
        before: Before,
        retry: &mut Retry,
        give_up: impl FnOnce() -> ClientError,
    ) -> Result<(), ClientError> {
        if before == Before::Refresh {
            // Without a newer map the old one is tried again: the other side may be the one that lags behind.
            let _ = tokio::time::timeout(REFRESH_DEADLINE.min(retry.left()), self.watch.refresh()).await;
        }
        if before != Before::Nothing && !retry.pause().await { Err(give_up()) } else { Ok(()) }
    }
}

impl Proposal {
    /// Nothing was done, because it was asked for too long ago, or never before: it is asked for as of now. But an earlier copy
    /// that may have been carried out would be carried out twice then.
    fn renew(&mut self, reached: u64) -> Result<Before, ClientError> {
        if self.uncertain {
            return Err(ClientError::Uncertain);
        }
        let before = if self.renewed { Before::Pause } else { Before::Nothing };
        (self.mutation.since, self.renewed) = (Some(reached), true);
        Ok(before)
    }
}

impl Ask {
    fn new((partition, query): (PartitionId, Query)) -> Self {
        Self { partition, query, reply: None, attempts: Attempts::default() }
    }
}

impl Attempts {
    fn give_up(&self, partition: PartitionId) -> ClientError {
        if self.uncertain { ClientError::Uncertain } else { self.no_leader(partition) }
    }

    fn no_leader(&self, partition: PartitionId) -> ClientError {
        ClientError::NoLeader { partition, last: self.last.clone() }
    }
}
