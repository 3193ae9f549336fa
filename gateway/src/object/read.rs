//! Reading objects: the record first, then the chunks that a range touches, a little ahead of the reader.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use annulus_common::chunk::{CHUNK_BYTES, PIECE_BYTES};
use annulus_common::ids::ChunkId;
use annulus_common::map::Bucket;
use annulus_common::object::{Data, ObjectVersion, Part, Version, VersionId};
use annulus_common::protocol::metadata::{Query, QueryReply};
use bytes::Bytes;
use futures::Stream;
use tokio::task::JoinHandle;

use super::crypt::{
    Place, SEALED_CHUNK_BYTES, SEGMENT_BYTES, SEGMENTS_PER_CHUNK, offload, stored_length, stored_range,
};
use super::put::key_path;
use super::{ObjectError, ObjectKey, Objects, ReadError, ReadStream};
use crate::client::{ClientError, ClusterClient};

/// Chunks that are read before the reader asks for them. With the one being handed out, a reader holds 12 MiB at most.
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
        let size = version.object.size;
        assert_eq!(version.object.encryption.is_none(), key.is_none(), "an encrypted object is read with its key");
        if range.start > range.end || range.end > size {
            return Err(ObjectError::InvalidRange { size });
        }
        let parts = match &version.object.data {
            Data::Inline(body) => {
                let body = open_inline(body, key)?;
                if body.len() as u64 != size {
                    return Err(ObjectError::Internal("an inline object's size is not its bytes'".into()));
                }
                let bytes = body.slice(range.start as usize..range.end as usize);
                return Ok(Box::pin(Reader::of_bytes(Arc::clone(&self.client), bytes)));
            }
            Data::Parts(parts) => parts,
        };
        if parts.iter().map(|part| part.length).sum::<u64>() != size {
            return Err(ObjectError::Internal("an object's size is not its parts'".into()));
        }
        let chunks = ChunkRanges::new(parts, range, !key.is_none());
        let mut reader = Reader::of_chunks(Arc::clone(&self.client), key.clone(), chunks);
        reader.begin().await?;
        Ok(Box::pin(reader))
    }
}

fn open_inline(body: &Bytes, key: &ObjectKey) -> Result<Bytes, ReadError> {
    match key.cipher(Place::Inline) {
        Some(cipher) => cipher.open(0, body, true).map_err(|_| ReadError::RecordTampered),
        None => Ok(body.clone()),
    }
}

/// A piece of a range that lies within one chunk, counted in the object's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
struct ChunkRange {
    id: ChunkId,
    /// How many of the object's bytes the chunk holds.
    length: u32,
    range: Range<u32>,
    /// Whether it is the part's last chunk.
    ends: bool,
}

/// The chunks that a range of an object touches, one by one: an object of 5 TiB has more than a million.
struct ChunkRanges {
    /// The parts that the range touches.
    parts: VecDeque<Part>,
    /// What is left of the range, counted from the first part's start.
    left: Range<u64>,
    /// How many of the object's bytes a whole chunk holds.
    chunk_bytes: u64,
}

impl ChunkRanges {
    fn new(parts: &[Part], range: Range<u64>, sealed: bool) -> Self {
        let chunk_bytes = if sealed { SEALED_CHUNK_BYTES } else { u64::from(CHUNK_BYTES) };
        let mut start = 0;
        let mut touched = VecDeque::new();
        let mut skipped = 0;
        for part in parts {
            let end = start + part.length;
            if end <= range.start {
                skipped = end;
            } else if start < range.end {
                touched.push_back(part.clone());
            }
            start = end;
        }
        let left = range.start.saturating_sub(skipped)..range.end.saturating_sub(skipped);
        Self { parts: touched, left, chunk_bytes }
    }
}

impl Iterator for ChunkRanges {
    type Item = ChunkRange;

    fn next(&mut self) -> Option<ChunkRange> {
        while self.parts.front().is_some_and(|part| part.length <= self.left.start) {
            let passed = self.parts.pop_front()?.length;
            self.left = self.left.start - passed..self.left.end - passed;
        }
        let part = self.parts.front().filter(|_| !self.left.is_empty())?;
        let index = self.left.start / self.chunk_bytes;
        let chunk_start = index * self.chunk_bytes;
        let length = (part.length - chunk_start).min(self.chunk_bytes);
        let end = self.left.end.min(chunk_start + length);
        let range = (self.left.start - chunk_start) as u32..(end - chunk_start) as u32;
        self.left.start = end;
        let id = ChunkId { part: part.id, index: u32::try_from(index).ok()? };
        Some(ChunkRange { id, length: length as u32, range, ends: chunk_start + length == part.length })
    }
}

/// Reads a piece of a range, and decrypts the segments that it touches.
async fn fetch(client: &ClusterClient, key: &ObjectKey, chunk: ChunkRange) -> Result<Bytes, ReadError> {
    let ChunkRange { id, length, range, ends } = chunk;
    let Some(cipher) = key.part_cipher(id.part) else {
        return client.read_chunk(id, range, length).await.map_err(|error| read_error(error, id));
    };
    let stored_length = stored_length(length.into()) as u32;
    let (segments, stored) = stored_range(&range, length);
    let ends = ends && stored.end == stored_length;
    let sealed = client.read_chunk(id, stored, stored_length).await.map_err(|error| read_error(error, id))?;
    let first = u64::from(id.index) * SEGMENTS_PER_CHUNK + segments.start;
    let opened = offload(sealed.len(), move || cipher.open(first, &sealed, ends)).await;
    let opened = opened.map_err(|_| ReadError::Unavailable(id))?.map_err(|_| ReadError::Tampered(id))?;
    let skipped = (segments.start * SEGMENT_BYTES) as u32;
    Ok(opened.slice((range.start - skipped) as usize..(range.end - skipped) as usize))
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
    chunks: Option<ChunkRanges>,
    ahead: VecDeque<Ahead>,
    bytes: Bytes,
}

impl Reader {
    fn of_bytes(client: Arc<ClusterClient>, bytes: Bytes) -> Self {
        Self { client, key: ObjectKey::NONE, chunks: None, ahead: VecDeque::new(), bytes }
    }

    fn of_chunks(client: Arc<ClusterClient>, key: ObjectKey, chunks: ChunkRanges) -> Self {
        Self { client, key, chunks: Some(chunks), ahead: VecDeque::new(), bytes: Bytes::new() }
    }

    async fn begin(&mut self) -> Result<(), ReadError> {
        let Some(chunk) = self.chunks.as_mut().and_then(ChunkRanges::next) else { return Ok(()) };
        self.read_ahead();
        self.bytes = fetch(&self.client, &self.key, chunk).await?;
        Ok(())
    }

    fn read_ahead(&mut self) {
        while self.ahead.len() < READ_AHEAD_CHUNKS {
            let Some(chunk) = self.chunks.as_mut().and_then(ChunkRanges::next) else { return };
            let (client, key, id) = (Arc::clone(&self.client), self.key.clone(), chunk.id);
            let read = tokio::spawn(async move { fetch(&client, &key, chunk).await });
            self.ahead.push_back(Ahead(read, id));
        }
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

#[cfg(test)]
mod tests {
    use annulus_common::ids::PartId;
    use proptest::prelude::{Just, Strategy, prop_assert_eq, proptest};

    use super::{CHUNK_BYTES, ChunkRanges, Part};

    fn parts_of(lengths: &[u64]) -> Vec<Part> {
        let part = |(place, &length): (usize, &u64)| Part {
            id: PartId([place as u8; 16]),
            number: place as u16 + 1,
            length,
            stored: length,
            md5: [0; 16],
            checksum: None,
        };
        lengths.iter().enumerate().map(part).collect()
    }

    fn lengths_and_range() -> impl Strategy<Value = (Vec<u64>, u64, u64)> {
        let length = proptest::prop_oneof![0..10u64, Just(u64::from(CHUNK_BYTES)), 0..3 * u64::from(CHUNK_BYTES)];
        proptest::collection::vec(length, 0..6).prop_flat_map(|lengths| {
            let size = lengths.iter().sum::<u64>();
            (Just(lengths), 0..=size, 0..=size)
        })
    }

    proptest! {
        #[test]
        fn chunk_ranges_are_the_range((lengths, a, b) in lengths_and_range()) {
            let parts = parts_of(&lengths);
            let (start, end) = (a.min(b), a.max(b));
            let mut at = start;
            for chunk in ChunkRanges::new(&parts, start..end, false) {
                let place = parts.iter().position(|part| part.id == chunk.id.part).unwrap();
                let part_start: u64 = lengths[..place].iter().sum();
                let chunk_start = part_start + u64::from(chunk.id.index) * u64::from(CHUNK_BYTES);
                prop_assert_eq!(chunk_start + u64::from(chunk.range.start), at);
                let known = parts[place].chunks().nth(chunk.id.index as usize);
                prop_assert_eq!(known, Some((chunk.id, chunk.length)));
                proptest::prop_assert!(chunk.range.start < chunk.range.end && chunk.range.end <= chunk.length);
                at += u64::from(chunk.range.end - chunk.range.start);
            }
            prop_assert_eq!(at, end);
        }
    }
}
