//! A body on its way in: hashed, cut into chunks, and made durable while the rest of it still arrives.
//!
//! At most [`CHUNKS_IN_FLIGHT_MAX`] chunks and the one that fills up are in memory (and, where they are encrypted, the one that is
//! being hashed once more). Digests are of the bytes as they came, chunks hold them as they are stored. What a body that fails has left behind
//! is named by nothing: the collector finds it.

use std::collections::VecDeque;
use std::sync::Arc;

use annulus_common::checksum::{Digests, MultiHasher};
use annulus_common::chunk::{CHUNK_BYTES, ChunkOwner};
use annulus_common::ids::{ChunkId, PartId};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use tokio::task::JoinHandle;

use super::ObjectError;
use super::crypt::{PartCipher, SEALED_CHUNK_BYTES, SEGMENTS_PER_CHUNK, offload, stored_length};
use crate::client::{ClientError, ClusterClient};

/// Chunks of one body that are being hashed or replicated while the next one fills up: 16 MiB with that one.
const CHUNKS_IN_FLIGHT_MAX: usize = 3;

/// More bytes than this are hashed off the threads that serve connections: MD5 of as many takes half a millisecond.
const HASH_IN_PLACE_BYTES_MAX: usize = 256 << 10;

/// What the buffer for a body of unknown length begins with.
const BUFFER_BYTES_MIN: u64 = 64 << 10;

/// Where a body goes.
pub(super) struct Destination {
    /// Names the chunks.
    pub(super) part: PartId,
    /// Whose they are.
    pub(super) owner: ChunkOwner,
    /// How long it is.
    pub(super) length: BodyLength,
    /// A body of up to so many bytes is handed back as it came, and not written.
    pub(super) inline_bytes_max: usize,
    /// What the chunks are encrypted with, if they are.
    pub(super) cipher: Option<Arc<PartCipher>>,
}

impl Destination {
    /// The bytes of the body that one chunk holds.
    fn chunk_bytes(&self) -> usize {
        if self.cipher.is_some() { SEALED_CHUNK_BYTES as usize } else { CHUNK_BYTES as usize }
    }
}

/// What is known of a body's length.
#[derive(Clone, Copy)]
pub(super) struct BodyLength {
    /// What the client announced.
    pub(super) announced: Option<u64>,
    /// The most that is taken.
    pub(super) bytes_max: u64,
}

/// A body that has arrived whole and is durable, or is handed back.
pub(super) struct StoredBody {
    pub(super) length: u64,
    /// Bytes in its chunks.
    pub(super) stored: u64,
    pub(super) digests: Digests,
    /// The body, when it was small enough.
    pub(super) inline: Option<Bytes>,
}

/// Takes a body in to its end.
pub(super) async fn store<E: Into<ObjectError>>(
    client: &ClusterClient,
    destination: Destination,
    hasher: MultiHasher,
    mut body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
) -> Result<StoredBody, ObjectError> {
    let mut intake = Intake::new(client, destination, hasher)?;
    while let Some(frame) = body.next().await {
        intake.take(frame.map_err(Into::into)?).await?;
    }
    intake.end().await
}

struct Intake<'a> {
    client: &'a ClusterClient,
    destination: Destination,
    length: u64,
    buffer: BytesMut,
    chunks: u32,
    writes: VecDeque<BoxFuture<'static, Result<(), ClientError>>>,
    hashing: Hashing,
}

impl<'a> Intake<'a> {
    fn new(client: &'a ClusterClient, destination: Destination, hasher: MultiHasher) -> Result<Self, ObjectError> {
        let announced = destination.length.announced.unwrap_or(BUFFER_BYTES_MIN);
        if announced > destination.length.bytes_max {
            return Err(ObjectError::EntityTooLarge { size: announced, maximum: destination.length.bytes_max });
        }
        let buffer = BytesMut::with_capacity(announced.min(destination.chunk_bytes() as u64) as usize);
        let hashing = Hashing::Idle(hasher);
        Ok(Self { client, destination, length: 0, buffer, chunks: 0, writes: VecDeque::new(), hashing })
    }

    async fn take(&mut self, mut frame: Bytes) -> Result<(), ObjectError> {
        self.length += frame.len() as u64;
        let maximum = self.destination.length.bytes_max;
        if self.length > maximum {
            return Err(ObjectError::EntityTooLarge { size: self.length, maximum });
        }
        match self.destination.length.announced {
            Some(expected) if self.length > expected => {
                return Err(ObjectError::IncompleteBody { expected, actual: self.length });
            }
            _ => {}
        }
        while !frame.is_empty() {
            if self.buffer.len() == self.destination.chunk_bytes() {
                self.flush(false).await?;
            }
            let room = self.destination.chunk_bytes() - self.buffer.len();
            self.buffer.extend_from_slice(&frame.split_to(room.min(frame.len())));
        }
        Ok(())
    }

    /// Sends the chunk that has filled up on its way; the last one ends the body.
    async fn flush(&mut self, ends: bool) -> Result<(), ObjectError> {
        if self.writes.len() == CHUNKS_IN_FLIGHT_MAX {
            let oldest = self.writes.pop_front().expect("as many as the maximum, which is not zero, are in flight");
            oldest.await?;
        }
        let left = self
            .destination
            .length
            .announced
            .map_or(CHUNK_BYTES.into(), |announced| announced - self.length.min(announced));
        let capacity = left.max(BUFFER_BYTES_MIN).min(self.destination.chunk_bytes() as u64) as usize;
        let chunk = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(capacity)).freeze();
        let stored = self.seal(&chunk, ends).await?;
        let id = ChunkId { part: self.destination.part, index: self.chunks };
        self.chunks += 1;
        self.writes.push_back(Box::pin(self.client.write_chunk(id, self.destination.owner, stored)));
        self.hashing.update(chunk).await
    }

    /// The chunk as it is stored.
    async fn seal(&mut self, chunk: &Bytes, ends: bool) -> Result<Bytes, ObjectError> {
        let chunk = chunk.clone();
        let Some(cipher) = self.destination.cipher.clone() else { return Ok(chunk) };
        let first = u64::from(self.chunks) * SEGMENTS_PER_CHUNK;
        offload(chunk.len(), move || cipher.seal(first, &chunk, ends)).await
    }

    async fn end(mut self) -> Result<StoredBody, ObjectError> {
        match self.destination.length.announced {
            Some(expected) if self.length != expected => {
                return Err(ObjectError::IncompleteBody { expected, actual: self.length });
            }
            _ => {}
        }
        if self.length <= self.destination.inline_bytes_max as u64 {
            let body = self.buffer.split().freeze();
            self.hashing.update(body.clone()).await?;
            let digests = self.hashing.finish().await?;
            return Ok(StoredBody { length: self.length, stored: 0, digests, inline: Some(body) });
        }
        if !self.buffer.is_empty() {
            self.flush(true).await?;
        }
        for write in self.writes {
            write.await?;
        }
        let stored = if self.destination.cipher.is_some() { stored_length(self.length) } else { self.length };
        Ok(StoredBody { length: self.length, stored, digests: self.hashing.finish().await?, inline: None })
    }
}

/// Hashing in the order of the bytes, one chunk at a time, beside everything else.
enum Hashing {
    Idle(MultiHasher),
    Busy(JoinHandle<MultiHasher>),
    /// Only while one state becomes the other.
    Between,
}

impl Hashing {
    async fn update(&mut self, bytes: Bytes) -> Result<(), ObjectError> {
        let mut hasher = self.idle().await?;
        *self = if bytes.len() <= HASH_IN_PLACE_BYTES_MAX {
            hasher.update(&bytes);
            Hashing::Idle(hasher)
        } else {
            Hashing::Busy(tokio::task::spawn_blocking(move || {
                hasher.update(&bytes);
                hasher
            }))
        };
        Ok(())
    }

    async fn finish(mut self) -> Result<Digests, ObjectError> {
        Ok(self.idle().await?.finish())
    }

    async fn idle(&mut self) -> Result<MultiHasher, ObjectError> {
        let ended = |reason: String| ObjectError::Internal(format!("hashing ended: {reason}"));
        match std::mem::replace(self, Hashing::Between) {
            Hashing::Idle(hasher) => Ok(hasher),
            Hashing::Busy(running) => running.await.map_err(|error| ended(error.to_string())),
            Hashing::Between => Err(ended("an earlier chunk was not hashed".into())),
        }
    }
}
