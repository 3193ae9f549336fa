//! Reading objects: the record first, then the chunks that a range touches, a little ahead of the reader where there is memory for it.
//! Where there is none, one piece of a chunk is read after the other, each when the one before has gone out.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use annulus_common::chunk::PIECE_BYTES;
use annulus_common::ids::ChunkId;
use annulus_common::map::Bucket;
use annulus_common::object::{Data, ObjectVersion, Version, VersionId};
use annulus_common::protocol::metadata::{Query, QueryReply};
use bytes::Bytes;
use futures::Stream;
use tokio::task::JoinHandle;

use super::chunk_ranges::{ChunkRange, ChunkRanges, reading_bytes};
use super::crypt::{Place, SEGMENT_BYTES, SEGMENTS_PER_CHUNK, offload, stored_length, stored_range};
use super::put::key_path;
use super::{ObjectError, ObjectKey, Objects, ReadError, ReadStream};
use crate::budget::{Allowance, Share};
use crate::client::{ClientError, ClusterClient};

/// Chunks that are read before the reader asks for them. With the one being handed out, a reader holds 12 MiB at most, and twice
/// that for as long as chunks are decrypted.
const READ_AHEAD_CHUNKS: usize = 2;

/// Bytes handed out at once, so that one reader does not hold up the others on its thread.
const FRAME_BYTES: usize = PIECE_BYTES as usize;

impl Objects {
    /// A version of a key, or without an id the current one: what HEAD needs, and what [`Objects::read`] reads.
    pub async fn get(
        &self,
        bucket: &Bucket,
        key: &str,
        version: Option<VersionId>,
    ) -> Result<ObjectVersion, ObjectError> {
        let path = key_path(bucket, key)?;
        let partition = self.client.watch().latest().partition_of_shard(path.bucket, path.shard);
        match (self.client.query_one(partition, Query::Object { path, version }).await?, version) {
            (QueryReply::Object(Some(Version::Object(version))), _) => Ok(*version),
            (QueryReply::Object(Some(Version::Marker(marker))), None) => Err(ObjectError::Deleted(marker)),
            (QueryReply::Object(Some(Version::Marker(marker))), Some(_)) => Err(ObjectError::IsDeleteMarker(marker)),
            (QueryReply::Object(None), None) => Err(ObjectError::NoSuchKey),
            (QueryReply::Object(None), Some(_)) => Err(ObjectError::NoSuchVersion),
            _ => Err(ObjectError::Internal("the answer is not one to a query for an object".into())),
        }
    }

    /// The bytes of a range of an object (empty for an empty range). Waits for the first of them, so that an object that
    /// cannot be read is an error and not a reply that breaks off.
    /// `key` is what [`Objects::unlock`] found for it.
    pub async fn read(
        &self,
        version: &ObjectVersion,
        range: Range<u64>,
        key: &ObjectKey,
    ) -> Result<ReadStream, ObjectError> {
        let allowance = self.reserve(reading_bytes(&version.object)).await?;
        self.read_within(allowance, version, range, key).await
    }

    /// The same for who has reserved [`reading_bytes`].
    pub(super) async fn read_within(
        &self,
        allowance: Allowance,
        version: &ObjectVersion,
        range: Range<u64>,
        key: &ObjectKey,
    ) -> Result<ReadStream, ObjectError> {
        let size = version.object.size;
        assert_eq!(version.object.encryption.is_none(), key.is_none(), "an encrypted object is read with its key");
        if range.start > range.end || range.end > size {
            return Err(ObjectError::InvalidRange { size });
        }
        let mut reader = Reader::new(Arc::clone(&self.client), key.clone(), allowance);
        match &version.object.data {
            Data::Inline(body) => {
                let body = open_inline(body, key)?;
                if body.len() as u64 != size {
                    return Err(ObjectError::Internal("an inline object's size is not its bytes'".into()));
                }
                reader.bytes = body.slice(range.start as usize..range.end as usize);
            }
            Data::Parts(parts) => {
                if parts.iter().map(|part| part.length).sum::<u64>() != size {
                    return Err(ObjectError::Internal("an object's size is not its parts'".into()));
                }
                reader.begin(ChunkRanges::new(parts, range, !key.is_none())).await?;
            }
        }
        Ok(Box::pin(reader))
    }
}

fn open_inline(body: &Bytes, key: &ObjectKey) -> Result<Bytes, ReadError> {
    match key.cipher(Place::Inline) {
        Some(cipher) => cipher.open(0, body, true).map_err(|_| ReadError::RecordTampered),
        None => Ok(body.clone()),
    }
}

/// Reads a piece of a range, and decrypts the segments that it touches. The share goes with the bytes.
async fn fetch(
    client: &ClusterClient,
    key: &ObjectKey,
    chunk: ChunkRange,
    mut share: Arc<Share>,
) -> Result<Bytes, ReadError> {
    let ChunkRange { id, length, range, ends } = chunk;
    let Some(cipher) = key.part_cipher(id.part) else {
        let bytes = client.read_chunk(id, range, length).await.map_err(|error| read_error(error, id))?;
        return Ok(share.attach(bytes));
    };
    let stored_length = stored_length(length.into()) as u32;
    let (segments, stored) = stored_range(&range, length);
    let ends = ends && stored.end == stored_length;
    let sealed = client.read_chunk(id, stored, stored_length).await.map_err(|error| read_error(error, id))?;
    let first = u64::from(id.index) * SEGMENTS_PER_CHUNK + segments.start;
    let opened = offload(sealed.len(), move || cipher.open(first, &sealed, ends)).await;
    let opened = opened.map_err(|_| ReadError::Unavailable(id))?.map_err(|_| ReadError::Tampered(id))?;
    if let Some(share) = Arc::get_mut(&mut share) {
        // The encrypted bytes are gone.
        share.shrink_to(opened.len() as u64);
    }
    let skipped = (segments.start * SEGMENT_BYTES) as u32;
    Ok(share.attach(opened).slice((range.start - skipped) as usize..(range.end - skipped) as usize))
}

/// A chunk being read; given up when nobody waits for it any more.
struct Ahead(JoinHandle<Result<Bytes, ReadError>>, ChunkId);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Hands out the bytes of a range in order. Nothing comes after an error.
struct Reader {
    client: Arc<ClusterClient>,
    key: ObjectKey,
    allowance: Allowance,
    chunks: Option<ChunkRanges>,
    ahead: VecDeque<Ahead>,
    bytes: Bytes,
}

impl Reader {
    /// Of nothing yet.
    fn new(client: Arc<ClusterClient>, key: ObjectKey, allowance: Allowance) -> Self {
        Self { client, key, allowance, chunks: None, ahead: VecDeque::new(), bytes: Bytes::new() }
    }

    async fn begin(&mut self, chunks: ChunkRanges) -> Result<(), ReadError> {
        self.chunks = Some(chunks);
        let Some((chunk, share)) = self.next_needed() else { return Ok(()) };
        self.read_ahead();
        self.bytes = fetch(&self.client, &self.key, chunk, share).await?;
        Ok(())
    }

    /// What the client waits for, when nothing is on its way: a whole chunk where there is memory for it, else a piece of one. For
    /// that the request's own share is enough, as the piece before the last one is gone.
    fn next_needed(&mut self) -> Option<(ChunkRange, Arc<Share>)> {
        let chunks = self.chunks.as_mut()?;
        let (chunk, piece) = (chunks.in_chunk()?, chunks.in_piece()?);
        let more = || self.allowance.ahead(chunk.held_bytes(!self.key.is_none()));
        let next = match (chunk != piece).then(more).flatten() {
            Some(share) => (chunk, share),
            None => (piece, self.allowance.own()),
        };
        chunks.pass(&next.0);
        Some(next)
    }

    /// Reads what the client does not wait for yet, as far as there is plenty of memory.
    fn read_ahead(&mut self) {
        while self.ahead.len() < READ_AHEAD_CHUNKS {
            let Some(chunks) = self.chunks.as_mut() else { return };
            let Some(chunk) = chunks.in_chunk() else { return };
            let Some(share) = self.allowance.far_ahead(chunk.held_bytes(!self.key.is_none())) else { return };
            chunks.pass(&chunk);
            self.send_for(chunk, share);
        }
    }

    fn send_for(&mut self, chunk: ChunkRange, share: Arc<Share>) {
        let (client, key, id) = (Arc::clone(&self.client), self.key.clone(), chunk.id);
        let read = tokio::spawn(async move { fetch(&client, &key, chunk, share).await });
        self.ahead.push_back(Ahead(read, id));
    }

    fn end(&mut self) {
        self.chunks = None;
        self.ahead.clear();
    }
}

impl Stream for Reader {
    type Item = Result<Bytes, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.bytes.is_empty() {
            if self.ahead.is_empty() {
                let Some((chunk, share)) = self.next_needed() else { return Poll::Ready(None) };
                self.send_for(chunk, share);
            }
            let Some(Ahead(read, id)) = self.ahead.front_mut() else { return Poll::Ready(None) };
            let id = *id;
            let read = std::task::ready!(Pin::new(read).poll(cx));
            self.ahead.pop_front();
            match read.unwrap_or(Err(ReadError::Unavailable(id))) {
                Ok(bytes) => self.bytes = bytes,
                Err(error) => {
                    self.end();
                    return Poll::Ready(Some(Err(error)));
                }
            }
            self.read_ahead();
        }
        let frame_bytes = FRAME_BYTES.min(self.bytes.len());
        Poll::Ready(Some(Ok(self.bytes.split_to(frame_bytes))))
    }
}

fn read_error(error: ClientError, id: ChunkId) -> ReadError {
    match error {
        ClientError::ChunkLost(id) => ReadError::Lost(id),
        _ => ReadError::Unavailable(id),
    }
}
