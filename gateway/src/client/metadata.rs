//! Mutations and queries of partitions: finding the leader, and asking again without doing anything twice.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_common::ids::{NodeId, PartitionId, RequestId};
use annulus_common::map::ClusterMap;
use annulus_common::protocol::metadata::{Command, MetaReply, Mutation, Query, QueryReply};
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

/// What was tried for one partition.
#[derive(Default)]
struct Attempts {
    tried: usize,
    redirected: usize,
    uncertain: bool,
    last: String,
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
    pub fn mutation(&self, command: Command) -> Mutation {
        let time_ms = self.clock.now_ms();
        Mutation { request: RequestId::generate(time_ms), time_ms, command }
    }

    /// Carries out a mutation, once, however often it has to be sent. A caller that sends one again sends the same one.
    pub async fn mutate(&self, partition: PartitionId, mutation: &Mutation) -> Result<MetaReply, ClientError> {
        let mut retry = Retry::new(&self.clock, OVERALL_DEADLINE);
        let mut attempts = Attempts::default();
        loop {
            let map = self.watch.latest();
            let node = self.leaders.guess(&map, partition, attempts.tried, &self.peers.health);
            let Some(node) = node else { return Err(ClientError::Refused(Refusal::NotHere)) };
            match self.mutate_at(&map, node, partition, mutation.clone(), &retry).await {
                Ok(reply) => {
                    self.leaders.learn(partition, node);
                    return Ok(reply);
                }
                Err(error) => {
                    let before = self.note_failure(partition, node, error, &mut attempts)?;
                    self.prepare(before, &mut retry, || attempts.give_up(partition)).await?;
                }
            }
        }
    }

    async fn mutate_at(
        &self,
        map: &ClusterMap,
        node: NodeId,
        partition: PartitionId,
        mutation: Mutation,
        retry: &Retry,
    ) -> Result<MetaReply, CallError> {
        let request = Request::Mutate { partition, epoch: map.epoch, mutation };
        let envelope = Envelope::from_header(encode(&request));
        let deadline = ATTEMPT_DEADLINE.min(retry.left());
        match self.peers.ask(map, node, Lane::Control, envelope, deadline).await? {
            (Response::Mutated(reply), _) => Ok(reply),
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
        let mut replies: Vec<Option<QueryReply>> = queries.iter().map(|_| None).collect();
        let mut attempts: Vec<Attempts> = queries.iter().map(|_| Attempts::default()).collect();
        loop {
            let map = self.watch.latest();
            let open = (0..queries.len()).filter(|&index| replies[index].is_none());
            let batches = self.batch_by_leader(&map, &queries, &attempts, open)?;
            let Some(partition) = batches.first().map(|(_, batch)| queries[batch[0]].0) else { break };
            let asked = batches.iter().map(|(node, batch)| self.query_at(&map, *node, batch, &queries, &retry));
            let mut before = Before::Nothing;
            for ((node, batch), answers) in batches.iter().zip(join_all(asked).await) {
                for (&index, answer) in batch.iter().zip(answers) {
                    match answer {
                        Ok(reply) => {
                            self.leaders.learn(queries[index].0, *node);
                            replies[index] = Some(reply);
                        }
                        Err(error) => {
                            let attempts = &mut attempts[index];
                            before = before.max(self.note_failure(queries[index].0, *node, error, attempts)?);
                        }
                    }
                }
            }
            if replies.iter().any(Option::is_none) {
                let last = || attempts.iter().rev().find(|attempts| !attempts.last.is_empty());
                let give_up = || ClientError::NoLeader { partition, last: last().map_or_else(String::new, |a| a.last.clone()) };
                self.prepare(before, &mut retry, give_up).await?;
            }
        }
        Ok(replies.into_iter().flatten().collect())
    }

    fn batch_by_leader(
        &self,
        map: &ClusterMap,
        queries: &[(PartitionId, Query)],
        attempts: &[Attempts],
        open: impl Iterator<Item = usize>,
    ) -> Result<Vec<(NodeId, Vec<usize>)>, ClientError> {
        let mut by_node: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for index in open {
            let node = self.leaders.guess(map, queries[index].0, attempts[index].tried, &self.peers.health);
            by_node.entry(node.ok_or(ClientError::Refused(Refusal::NotHere))?).or_default().push(index);
        }
        let batches = by_node.into_iter().flat_map(|(node, batch)| {
            let split: Vec<Vec<usize>> = batch.chunks(QUERIES_PER_REQUEST_MAX).map(<[usize]>::to_vec).collect();
            split.into_iter().map(move |batch| (node, batch))
        });
        Ok(batches.collect())
    }

    /// One answer for each query of the batch.
    async fn query_at(
        &self,
        map: &ClusterMap,
        node: NodeId,
        batch: &[usize],
        queries: &[(PartitionId, Query)],
        retry: &Retry,
    ) -> Vec<Result<QueryReply, CallError>> {
        let queries = batch.iter().map(|&index| queries[index].clone()).collect();
        let envelope = Envelope::from_header(encode(&Request::Query { epoch: map.epoch, queries }));
        let deadline = ATTEMPT_DEADLINE.min(retry.left());
        let error = match self.peers.ask(map, node, Lane::Control, envelope, deadline).await {
            Ok((Response::Queried(answers), _)) if answers.len() == batch.len() => {
                return answers.into_iter().map(|answer| answer.map_err(CallError::from)).collect();
            }
            Ok(_) => Refusal::Invalid("the answer is not one to these queries".into()).into(),
            Err(error) => error,
        };
        batch.iter().map(|_| Err(error.clone())).collect()
    }

    /// Decides what a failed attempt means for the next one, or that there is none.
    fn note_failure(
        &self,
        partition: PartitionId,
        node: NodeId,
        error: CallError,
        attempts: &mut Attempts,
    ) -> Result<Before, ClientError> {
        attempts.tried += 1;
        attempts.uncertain |= error.is_uncertain();
        attempts.last = error.to_string();
        self.leaders.forget(partition, node);
        match error {
            CallError::Refused(Refusal::NotLeader { leader: Some(leader) }) if leader != node => {
                attempts.redirected += 1;
                self.leaders.learn(partition, leader);
                let quick = attempts.redirected <= QUICK_REDIRECTS_MAX;
                Ok(if quick { Before::Nothing } else { Before::Pause })
            }
            CallError::Refused(Refusal::StaleEpoch(_) | Refusal::NotHere) => Ok(Before::Refresh),
            CallError::Refused(Refusal::NotLeader { .. } | Refusal::NotReady(_)) => Ok(Before::Pause),
            CallError::Refused(Refusal::Uncertain | Refusal::Storage(_)) => Ok(Before::Pause),
            CallError::Refused(Refusal::Full) if !attempts.uncertain => Err(ClientError::Full),
            CallError::Refused(refusal) if !attempts.uncertain => Err(ClientError::Refused(refusal)),
            CallError::Refused(_) | CallError::Failed(_) => Ok(Before::Pause),
        }
    }

    async fn prepare(&self, before: Before, retry: &mut Retry, give_up: impl FnOnce() -> ClientError) -> Result<(), ClientError> {
        if before == Before::Refresh {
            // Without a newer map the old one is tried again: the other side may be the one that lags behind.
            let _ = tokio::time::timeout(REFRESH_DEADLINE.min(retry.left()), self.watch.refresh()).await;
        }
        if before != Before::Nothing && !retry.pause().await { Err(give_up()) } else { Ok(()) }
    }
}

impl Attempts {
    fn give_up(&self, partition: PartitionId) -> ClientError {
        if self.uncertain {
            return ClientError::Uncertain;
        }
        ClientError::NoLeader { partition, last: self.last.clone() }
    }
}
