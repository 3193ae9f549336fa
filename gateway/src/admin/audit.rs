//! The gateway's part of an audit: one bounded question after the other, so that an audit of any size needs no memory here and
//! can be asked of any gateway. The command puts the answers together.
//!
//! What is missing is looked for again a moment later: what is being written or collected just now is no finding.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_common::ids::{ChunkId, NodeId, PartId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::object::CHUNK_BYTES;
use annulus_common::protocol::metadata::{Query, QueryReply};
use annulus_common::protocol::repair::Named;
use annulus_common::ring::positions_of;
use http::StatusCode;

use self::model::{
    CopyPage, CopyRequest, MetadataPage, MetadataRequest, NamesPage, NamesRequest, PROBLEMS_MAX, Problem,
};
use super::Admin;
use super::error::AdminProblem;
use crate::client::ClusterClient;

pub mod model;

/// Chunks that are looked for together: a few requests to each node.
const BATCH_CHUNKS: usize = 4_000;

/// How long what is missing is given to arrive, or to be collected, before it is a finding.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// A copy that is not there.
type MissingCopy = (ChunkId, NodeId);

impl Admin {
    /// Has the next chunks of a node's copy of a partition read and checked.
    pub(super) async fn audit_copy(&self, map: &ClusterMap, request: CopyRequest) -> Result<CopyPage, AdminProblem> {
        let (node, partition) = (NodeId(request.node), known_partition(map, request.partition)?);
        let after = request.after.as_deref().map(parse_chunk).transpose()?;
        let positions = positions_of(partition, map.partitions());
        let page = match self.objects.client().verify_chunks(map, node, positions, after).await {
            Ok(page) => page,
            Err(reason) => {
                let silent =
                    problem("silent", Some(node), Some(partition), format!("its chunks are not read: {reason}"));
                return Ok(CopyPage { problems: vec![silent], ..CopyPage::default() });
            }
        };
        let damaged = |chunk: &ChunkId| Problem {
            chunk: Some(chunk_name(*chunk)),
            ..problem("damaged", Some(node), Some(partition), "the copy of a chunk is damaged".to_owned())
        };
        Ok(CopyPage {
            chunks: page.good.chunks,
            bytes: page.good.bytes,
            digest: page.good.sum,
            problems: page.damaged.iter().map(damaged).collect(),
            next: page.last.map(|last| hex::encode(last.to_bytes())),
        })
    }

    /// Has a node's next metadata read and checked.
    pub(super) async fn audit_metadata(
        &self,
        map: &ClusterMap,
        request: MetadataRequest,
    ) -> Result<MetadataPage, AdminProblem> {
        let node = NodeId(request.node);
        let from = request.after.as_deref().map(parse_place).transpose()?;
        match self.objects.client().verify_metadata(map, node, from).await {
            Ok(next) => {
                let next = next.map(|(table, key)| hex::encode([&[table][..], &key].concat()));
                Ok(MetadataPage { problems: Vec::new(), next })
            }
            Err(reason) => {
                let unread = problem("unreadable", Some(node), None, format!("its metadata is not read: {reason}"));
                Ok(MetadataPage { problems: vec![unread], next: None })
            }
        }
    }

    /// Looks for what a partition names next: every copy of every chunk.
    pub(super) async fn audit_names(&self, map: &ClusterMap, request: NamesRequest) -> Result<NamesPage, AdminProblem> {
        let partition = known_partition(map, request.partition)?;
        let from = request.after.as_deref().map(parse_bytes).transpose()?;
        let client = self.objects.client();
        let inventory = match client.inventory(partition, from).await {
            Ok(inventory) => inventory,
            Err(error) => {
                let unread = problem("unreadable", None, Some(partition), format!("its names are not read: {error}"));
                return Ok(NamesPage { problems: vec![unread], ..NamesPage::default() });
            }
        };
        let mut page = NamesPage {
            named: inventory.named.len() as u64,
            inline_bytes: inventory.named.iter().map(|named| named.inline_bytes).sum(),
            next: inventory.next.as_ref().map(hex::encode),
            ..NamesPage::default()
        };
        let mut missing = Vec::new();
        let mut batch = Vec::with_capacity(BATCH_CHUNKS);
        for chunk in inventory.named.iter().flat_map(chunks_of) {
            batch.push(chunk);
            if batch.len() == BATCH_CHUNKS {
                missing.extend(look_for(client, map, &batch, &mut page).await);
                batch.clear();
            }
        }
        missing.extend(look_for(client, map, &batch, &mut page).await);
        let missing = look_again(client, map, partition, missing).await;
        page.copies_missing = missing.len() as u64;
        page.problems = findings(map, &inventory.named, missing);
        Ok(page)
    }
}

/// Asks for every copy of these chunks, and counts them.
async fn look_for(
    client: &ClusterClient,
    map: &ClusterMap,
    chunks: &[ChunkId],
    page: &mut NamesPage,
) -> Vec<MissingCopy> {
    let copies = chunks
        .iter()
        .flat_map(|&chunk| map.replicas(map.partition_of_chunk(chunk)).iter().map(move |node| (chunk, *node)));
    let copies: Vec<MissingCopy> = copies.collect();
    page.chunks += chunks.len() as u64;
    page.copies_expected += copies.len() as u64;
    missing_of(client, map, copies).await
}

async fn missing_of(client: &ClusterClient, map: &ClusterMap, copies: Vec<MissingCopy>) -> Vec<MissingCopy> {
    let mut by_node: BTreeMap<NodeId, Vec<ChunkId>> = BTreeMap::new();
    for (chunk, node) in copies {
        by_node.entry(node).or_default().push(chunk);
    }
    let missing = client.missing_copies(map, by_node).await;
    missing.into_iter().flat_map(|(node, chunks)| chunks.into_iter().map(move |chunk| (chunk, node))).collect()
}

/// What is still missing, and still named, a moment later.
async fn look_again(
    client: &ClusterClient,
    map: &ClusterMap,
    partition: PartitionId,
    missing: Vec<MissingCopy>,
) -> Vec<MissingCopy> {
    if missing.is_empty() {
        return missing;
    }
    tokio::time::sleep(SECOND_LOOK).await;
    let missing = missing_of(client, map, missing).await;
    let mut parts: Vec<PartId> = missing.iter().map(|(chunk, _)| chunk.part).collect();
    parts.dedup();
    let mut gone = Vec::new();
    for parts in parts.chunks(PROBLEMS_MAX) {
        // Without an answer it remains a finding.
        if let Ok(QueryReply::References(named)) = client.query_one(partition, Query::References(parts.to_vec())).await
        {
            gone.extend(parts.iter().zip(named).filter(|(_, named)| !named).map(|(part, _)| *part));
        }
    }
    missing.into_iter().filter(|(chunk, _)| !gone.contains(&chunk.part)).collect()
}

fn findings(map: &ClusterMap, named: &[Named], missing: Vec<MissingCopy>) -> Vec<Problem> {
    let owners: BTreeMap<PartId, &Named> =
        named.iter().flat_map(|named| named.parts.iter().map(move |(part, _)| (*part, named))).collect();
    let finding = |(chunk, node): MissingCopy| Problem {
        chunk: Some(chunk_name(chunk)),
        of: owners.get(&chunk.part).map(|named| object_name(map, named)),
        ..problem("missing", Some(node), Some(map.partition_of_chunk(chunk)), "a copy of a chunk is missing".to_owned())
    };
    missing.into_iter().take(PROBLEMS_MAX).map(finding).collect()
}

fn chunks_of(named: &Named) -> impl Iterator<Item = ChunkId> + '_ {
    named.parts.iter().flat_map(|&(part, stored)| {
        let chunks = u32::try_from(stored.div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX);
        (0..chunks).map(move |index| ChunkId { part, index })
    })
}

fn object_name(map: &ClusterMap, named: &Named) -> String {
    let Some(id) = named.bucket else { return format!("an upload's {}", named.name) };
    match map.buckets.iter().find(|(_, bucket)| bucket.id == id) {
        Some((bucket, _)) => format!("{bucket}/{}", named.name),
        None => format!("bucket {}/{}", id.0, named.name),
    }
}

fn chunk_name(chunk: ChunkId) -> String {
    format!("{}/{}", chunk.part, chunk.index)
}

fn problem(kind: &str, node: Option<NodeId>, partition: Option<PartitionId>, message: String) -> Problem {
    let (node, partition) = (node.map(|node| node.0), partition.map(|partition| partition.0));
    Problem { kind: kind.to_owned(), node, partition, chunk: None, of: None, message }
}

fn known_partition(map: &ClusterMap, partition: u32) -> Result<PartitionId, AdminProblem> {
    if partition < map.partitions() { Ok(PartitionId(partition)) } else { Err(malformed("there is no such partition")) }
}

fn parse_bytes(text: &str) -> Result<Vec<u8>, AdminProblem> {
    hex::decode(text).map_err(|_| malformed("`after` is not what an answer said"))
}

fn parse_chunk(text: &str) -> Result<ChunkId, AdminProblem> {
    let bytes: [u8; 20] = parse_bytes(text)?.try_into().map_err(|_| malformed("`after` is not a chunk"))?;
    Ok(ChunkId::from_bytes(&bytes))
}

fn parse_place(text: &str) -> Result<(u8, Vec<u8>), AdminProblem> {
    let bytes = parse_bytes(text)?;
    let (table, key) = bytes.split_first().ok_or_else(|| malformed("`after` is not a place"))?;
    Ok((*table, key.to_vec()))
}

fn malformed(message: &str) -> AdminProblem {
    AdminProblem::new(StatusCode::BAD_REQUEST, "BadBody", message)
}
