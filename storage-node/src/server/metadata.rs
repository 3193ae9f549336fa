//! What is asked of partitions' metadata: mutations go through their group's log, queries wait until the state here holds
//! everything acknowledged. What a record looks like is the metadata's.

use std::collections::{BTreeMap, BTreeSet};

use annulus_common::ids::{Epoch, PartitionId};
use annulus_common::protocol::metadata::{Mutation, Query, QueryReply};
use annulus_common::protocol::room::RoomFor;
use annulus_common::protocol::{QUERIES_PER_REQUEST_MAX, Refusal, Response};
use futures::future::join_all;

use super::{Reply, Server, bare, check_count};
use crate::kv::{Kv, KvRead};
use crate::raft::{RaftNode, Role};
use crate::{metadata, refusal};

impl Server {
    pub(super) async fn mutate(&self, partition: PartitionId, epoch: Epoch, mutation: &Mutation) -> Reply {
        self.agree_on_epoch(epoch).await?;
        self.check_room(partition, metadata::room_needed(&mutation.command))?;
        let command = metadata::encode_command(mutation);
        let reply = self.raft.propose(partition.into(), command).await.map_err(refusal::of_proposal)?;
        let applied = metadata::decode_reply(&reply).map_err(|error| Refusal::Storage(error.to_string()))?;
        Ok(bare(Response::Mutated(applied)))
    }

    /// Refuses what grows where it would fill the disks up to where nothing can be written any more, deletes included. Only the
    /// leader knows: who is none must send to it, however full it is itself.
    fn check_room(&self, partition: PartitionId, needed: RoomFor) -> Result<(), Refusal> {
        if needed == RoomFor::Release || !self.room.is_scarce() {
            return Ok(());
        }
        match self.raft.status(partition.into()) {
            Some(status) if status.role == Role::Leader && !self.room.is_enough(needed, &status.voters) => {
                Err(Refusal::Full)
            }
            _ => Ok(()),
        }
    }

    /// One ReadIndex per partition, all at once, then all reads one after the other on one thread, from one moment.
    pub(super) async fn query(&self, epoch: Epoch, queries: Vec<(PartitionId, Query)>) -> Reply {
        check_count(queries.len(), QUERIES_PER_REQUEST_MAX)?;
        self.agree_on_epoch(epoch).await?;
        let partitions: BTreeSet<PartitionId> = queries.iter().map(|(partition, _)| *partition).collect();
        let ready = join_all(partitions.into_iter().map(|partition| self.read_index(partition))).await;
        let readings = Readings { raft: self.raft.clone(), ready: ready.into_iter().collect() };
        let answers = match queries.as_slice() {
            [(_, query)] if is_point_read(query) => readings.answer(&*self.kv, &queries),
            _ => self.on_disk(move |kv| readings.answer(kv, &queries)).await?,
        };
        Ok(bare(Response::Queried(answers)))
    }

    /// Who asks looks again anyway, so that a leader that is none any more does no harm.
    pub(super) async fn outboxes(&self) -> Reply {
        let led = self.raft.led_partitions();
        let waiting = self.on_disk(move |kv| metadata::waiting(kv, &led)).await?;
        Ok(bare(Response::Outboxes(waiting.map_err(refusal::of_storage)?)))
    }

    /// Makes sure that the partition's state here holds everything acknowledged, and says which life of that state it is.
    async fn read_index(&self, partition: PartitionId) -> (PartitionId, Result<u64, Refusal>) {
        let generation = self.raft.generation(partition.into());
        let read = self.raft.read_index(partition.into()).await.map_err(refusal::of_read);
        let incomplete = || Refusal::NotReady("the partition's state is not complete here".to_owned());
        (partition, read.and_then(|()| generation.ok_or_else(incomplete)))
    }
}

/// The partitions that a batch of queries reads, each with the life of its state that was found new enough.
struct Readings {
    raft: RaftNode,
    ready: BTreeMap<PartitionId, Result<u64, Refusal>>,
}

impl Readings {
    fn answer(&self, kv: &dyn Kv, queries: &[(PartitionId, Query)]) -> Vec<Result<QueryReply, Refusal>> {
        let moment = kv.snapshot();
        let answers: Vec<_> = queries.iter().map(|(partition, query)| self.read(&*moment, *partition, query)).collect();
        // Looked at after the reading: a state that was replaced meanwhile may have been read half.
        let replaced = self.replaced();
        let still_true = |(partition, answer)| match replaced.contains(partition) {
            true => Err(Refusal::NotReady("the partition's state was replaced meanwhile".to_owned())),
            false => answer,
        };
        queries.iter().map(|(partition, _)| partition).zip(answers).map(still_true).collect()
    }

    fn read(&self, kv: &dyn KvRead, partition: PartitionId, query: &Query) -> Result<QueryReply, Refusal> {
        match self.ready.get(&partition) {
            Some(Ok(_)) => metadata::answer(kv, partition, query).map_err(refusal::of_storage),
            Some(Err(refusal)) => Err(refusal.clone()),
            None => Err(Refusal::NotHere),
        }
    }

    fn replaced(&self) -> BTreeSet<PartitionId> {
        let read = self.ready.iter().filter_map(|(partition, ready)| Some((*partition, ready.as_ref().ok()?)));
        read.filter(|(partition, generation)| self.raft.generation((*partition).into()) != Some(**generation))
            .map(|(partition, _)| partition)
            .collect()
    }
}

/// One object is read where the request is: microseconds from memory, and less than handing it to another thread from a
/// warm disk. A batch or a page could take long.
fn is_point_read(query: &Query) -> bool {
    matches!(query, Query::Object { .. } | Query::Upload { .. })
}
