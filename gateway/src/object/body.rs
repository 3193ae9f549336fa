//! A body on its way in: hashed, cut into chunks, and made durable while the rest of it still arrives.
//!
//! At most [`CHUNKS_IN_FLIGHT_MAX`] chunks and the one that fills up are in memory (and, where they are encrypted, the one that is
//! being hashed once more); fewer where there is no memory for them, at least one. Digests are of the bytes as they came, chunks hold
//! them as they are stored. What a body that fails has left behind is named by nothing: the collector finds it.

use std::collections::VecDeque;
use std::sync::Arc;

use annulus_common::checksum::{Digests, MultiHasher};
use annulus_common::chunk::{CHUNK_BYTES, ChunkOwner};
use annulus_common::ids::{ChunkId, PartId};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use tokio::task::JoinHandle;

use super::ObjectError;
use super::crypt::{PartCipher, SEALED_CHUNK_BYTES, SEGMENTS_PER_CHUNK, offload, stored_length};
use crate::budget::{Allowance, Share};
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

/// The bytes of a body that one chunk holds.
fn chunk_bytes(is_sealed: bool) -> u64 {
    if is_sealed { SEALED_CHUNK_BYTES } else { CHUNK_BYTES.into() }
}

/// What is known of a body's length.
#[derive(Clone, Copy)]
pub(super) struct BodyLength {
    /// What the client announced.
    pub(super) announced: Option<u64>,
    /// The most that is taken.
    pub(super) bytes_max: u64,
}

/// What taking a body in needs of memory at least: one chunk (and where it is encrypted also what it becomes), and what was read of
/// the body, but is held back until it is verified.
pub(super) fn intake_bytes(length: BodyLength, held_back_max: u64, is_sealed: bool) -> u64 {
    let body = length.announced.unwrap_or(u64::MAX).min(length.bytes_max);
    let chunk = body.min(chunk_bytes(is_sealed));
    let sealed = if is_sealed { stored_length(chunk) } else { 0 };
    chunk + sealed + body.min(held_back_max)
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

/// Takes a body in to its end. [`intake_bytes`] are reserved for it.
pub(super) async fn store<E: Into<ObjectError>>(
    client: &ClusterClient,
    allowance: Allowance,
    destination: Destination,
    hasher: MultiHasher,
    mut body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
) -> Result<StoredBody, ObjectError> {
    let mut intake = Intake::new(client, allowance, destination, hasher)?;
    while let Some(frame) = body.next().await {
        intake.take(frame.map_err(Into::into)?).await?;
    }
    intake.end().await
}

struct Intake<'a> {
    client: &'a ClusterClient,
    allowance: Allowance,
    destination: Destination,
    length: u64,
    buffer: BytesMut,
    /// For what the buffer holds.
    held: Held,
    chunks: u32,
    writes: VecDeque<Write>,
    /// Whether the chunk that was sent on its way last is held by the request's own share: it may be hashed yet.
    newest_is_own: bool,
    hashing: Hashing,
}

/// By which share a chunk is held.
enum Held {
    /// By the request's own, which is enough for one chunk.
    Own,
    /// By another one.
    Ahead(Arc<Share>),
}

/// A chunk on its way to the nodes.
struct Write {
    acknowledged: BoxFuture<'static, Result<(), ClientError>>,
    /// Whether it is held by the request's own share.
    is_own: bool,
}

impl<'a> Intake<'a> {
    fn new(
        client: &'a ClusterClient,
        allowance: Allowance,
        destination: Destination,
        hasher: MultiHasher,
    ) -> Result<Self, ObjectError> {
        let announced = destination.length.announced.unwrap_or(BUFFER_BYTES_MIN);
        if announced > destination.length.bytes_max {
            return Err(ObjectError::EntityTooLarge { size: announced, maximum: destination.length.bytes_max });
        }
        let buffer = BytesMut::with_capacity(announced.min(chunk_bytes(destination.cipher.is_some())) as usize);
        Ok(Self {
            client,
            allowance,
            destination,
            length: 0,
            buffer,
            held: Held::Own,
            chunks: 0,
            writes: VecDeque::new(),
            newest_is_own: false,
            hashing: Hashing::Idle(hasher),
        })
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
            if self.buffer.len() == self.chunk_bytes() {
                self.flush(false).await?;
                self.begin_chunk(frame.len() as u64).await?;
            }
            let room = self.chunk_bytes() - self.buffer.len();
            self.buffer.extend_from_slice(&frame.split_to(room.min(frame.len())));
        }
        Ok(())
    }

    fn chunk_bytes(&self) -> usize {
        chunk_bytes(self.destination.cipher.is_some()) as usize
    }

    /// Sends the chunk that has filled up on its way; the last one ends the body.
    async fn flush(&mut self, ends: bool) -> Result<(), ObjectError> {
        let (mut chunk, mut stored) = (std::mem::take(&mut self.buffer).freeze(), None);
        if let Some(cipher) = self.destination.cipher.clone() {
            // Two chunks as they came, one hashed and one encrypted, would be one more than was reserved.
            self.hashing.settle().await?;
            stored = Some(seal(cipher, self.chunks, chunk.clone(), ends).await?);
        }
        let (share, is_own) = match std::mem::replace(&mut self.held, Held::Own) {
            Held::Own => (self.allowance.own(), true),
            Held::Ahead(share) => (share, false),
        };
        let stored = match stored {
            Some(sealed) => share.attach(sealed),
            None => {
                chunk = share.attach(chunk);
                chunk.clone()
            }
        };
        let id = ChunkId { part: self.destination.part, index: self.chunks };
        self.chunks += 1;
        let acknowledged = Box::pin(self.client.write_chunk(id, self.destination.owner, stored));
        self.writes.push_back(Write { acknowledged, is_own });
        self.newest_is_own = is_own;
        self.hashing.update(chunk).await
    }

    /// Begins the next chunk, once there is memory for it: that of the request's own share, or what there is beside. `arrived`: what
    /// of the bytes counted belongs to it and those behind.
    async fn begin_chunk(&mut self, arrived: u64) -> Result<(), ObjectError> {
        let announced = self.destination.length.announced;
        let left = announced.map_or(CHUNK_BYTES.into(), |announced| (announced + arrived).saturating_sub(self.length));
        let bytes = left.max(BUFFER_BYTES_MIN).min(self.chunk_bytes() as u64);
        self.held = loop {
            self.forget_written()?;
            if let Some(held) = self.hold(bytes) {
                break held;
            }
            match self.writes.pop_front() {
                Some(oldest) => oldest.acknowledged.await?,
                None => self.hashing.settle().await?,
            }
        };
        self.buffer = BytesMut::with_capacity(bytes as usize);
        Ok(())
    }

    /// Lets go of the oldest chunks that nodes have.
    fn forget_written(&mut self) -> Result<(), ObjectError> {
        while let Some(oldest) = self.writes.front_mut() {
            let Some(acknowledged) = (&mut oldest.acknowledged).now_or_never() else { break };
            acknowledged?;
            self.writes.pop_front();
        }
        Ok(())
    }

    /// Memory for one more chunk, if there is any now.
    fn hold(&self, bytes: u64) -> Option<Held> {
        if self.writes.len() > CHUNKS_IN_FLIGHT_MAX {
            return None;
        }
        let is_hashed = !self.newest_is_own || self.hashing.is_idle();
        if is_hashed && self.writes.iter().all(|write| !write.is_own) {
            return Some(Held::Own);
        }
        let more = match self.writes.len() {
            0 | 1 => self.allowance.ahead(bytes),
            _ => self.allowance.far_ahead(bytes),
        };
        more.map(Held::Ahead)
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
            write.acknowledged.await?;
        }
        let stored = if self.destination.cipher.is_some() { stored_length(self.length) } else { self.length };
        Ok(StoredBody { length: self.length, stored, digests: self.hashing.finish().await?, inline: None })
    }
}

/// A chunk as it is stored.
async fn seal(cipher: Arc<PartCipher>, number: u32, chunk: Bytes, ends: bool) -> Result<Bytes, ObjectError> {
    let first = u64::from(number) * SEGMENTS_PER_CHUNK;
    offload(chunk.len(), move || cipher.seal(first, &chunk, ends)).await
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

    fn is_idle(&self) -> bool {
        match self {
            Hashing::Idle(_) => true,
            Hashing::Busy(running) => running.is_finished(),
            Hashing::Between => false,
        }
    }

    /// Waits until what there is was hashed.
    async fn settle(&mut self) -> Result<(), ObjectError> {
        *self = Hashing::Idle(self.idle().await?);
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
