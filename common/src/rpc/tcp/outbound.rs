//! The writing half of a connection: envelopes in, frames out, in batches.
//!
//! The [`Outbox`] is the bounded queue that anyone may put into; [`write_loop`] takes everything queued, lays it out and
//! writes it with one vectored system call. Small envelopes go first and in the order in which they were queued; large
//! payloads take turns, a piece each.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::batch::Batch;
use super::liveness::PING_INTERVAL;
use crate::rpc::Envelope;
use crate::rpc::frame::{Channel, Frame, Kind, PIECE_BYTES, STREAMS_MAX, body_crc, first_piece_bytes};

/// How much may wait to be written on one connection. A peer that is this far behind gets no more messages; Raft sends anew.
pub(super) const QUEUE_BYTES_MAX: usize = 64 << 20;

/// What a queued envelope costs beside its bytes, so that empty ones are bounded too.
const QUEUED_BYTES_EXTRA: usize = 256;

/// How much goes into one write: enough to amortise the system call, little enough that newcomers soon get in.
const BATCH_BYTES_MAX: usize = 512 << 10;

/// An envelope on its way, with its room in the queue, which is free again once everything is laid out.
struct Parcel {
    kind: Kind,
    id: u64,
    deadline: Option<Instant>,
    envelope: Envelope,
    _room: OwnedSemaphorePermit,
}

enum Outgoing {
    Parcel(Parcel),
    Cancel(u64),
}

/// The connection is gone; nothing was sent.
#[derive(Debug)]
pub(super) struct Closed;

/// The queue in front of a connection. Envelopes are bounded by bytes; cancellations by what was opened.
#[derive(Clone)]
pub(super) struct Outbox {
    queue: mpsc::UnboundedSender<Outgoing>,
    room: Arc<Semaphore>,
}

/// The other end of an [`Outbox`].
pub(super) struct Queue(mpsc::UnboundedReceiver<Outgoing>);

impl Outbox {
    pub(super) fn new() -> (Self, Queue) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { queue: sender, room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)) }, Queue(receiver))
    }

    /// Queues a request, which waits for room.
    pub(super) async fn request(&self, id: u64, deadline: Instant, envelope: Envelope) -> Result<(), Closed> {
        let _room = self.room_for(&envelope).await?;
        self.put(Parcel { kind: Kind::Request, id, deadline: Some(deadline), envelope, _room })
    }

    /// Queues a response, which waits for room.
    pub(super) async fn respond(&self, id: u64, envelope: Envelope) -> Result<(), Closed> {
        let _room = self.room_for(&envelope).await?;
        self.put(Parcel { kind: Kind::Response, id, deadline: None, envelope, _room })
    }

    /// Queues a message if there is room, and forgets it otherwise.
    pub(super) fn send(&self, id: u64, envelope: Envelope) {
        if let Ok(_room) = Arc::clone(&self.room).try_acquire_many_owned(queued_bytes(&envelope)) {
            let _ = self.put(Parcel { kind: Kind::Message, id, deadline: None, envelope, _room });
        }
    }

    /// Stops sending that call's payload, and tells the peer.
    pub(super) fn cancel(&self, id: u64) {
        let _ = self.queue.send(Outgoing::Cancel(id));
    }

    /// Turns away whoever waits for room, now and later.
    pub(super) fn close(&self) {
        self.room.close();
    }

    async fn room_for(&self, envelope: &Envelope) -> Result<OwnedSemaphorePermit, Closed> {
        Arc::clone(&self.room).acquire_many_owned(queued_bytes(envelope)).await.map_err(|_| Closed)
    }

    fn put(&self, parcel: Parcel) -> Result<(), Closed> {
        parcel.envelope.assert_bounds();
        self.queue.send(Outgoing::Parcel(parcel)).map_err(|_| Closed)
    }
}

fn queued_bytes(envelope: &Envelope) -> u32 {
    envelope.assert_bounds();
    (envelope.len() + QUEUED_BYTES_EXTRA) as u32
}

/// Writes whatever is queued, and pings when nothing is. Returns when the connection breaks or the outbox is gone.
pub(super) async fn write_loop<W: AsyncWrite + Unpin>(
    mut queue: Queue,
    mut writer: W,
    channel: Channel,
) -> io::Result<()> {
    let mut schedule = Schedule::new(channel);
    let mut ticks = interval(PING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_quiet = false;
    let mut is_busy = false;
    loop {
        let mut taken = 0;
        if schedule.is_idle() {
            tokio::select! {
                biased;
                next = queue.0.recv() => match next {
                    Some(outgoing) => {
                        schedule.take(outgoing);
                        taken = 1;
                        if is_busy {
                            // Whoever is ready to run probably has something for the same write: under load this halves
                            // the cost of a call, with a single caller it would double it.
                            tokio::task::yield_now().await;
                        }
                    }
                    None => return Ok(()),
                },
                _ = ticks.tick() => {
                    if is_quiet {
                        schedule.batch.frame(&Frame::bare(Kind::Ping, 0));
                    }
                    is_quiet = true;
                }
            }
        }
        while schedule.batch.remaining() < BATCH_BYTES_MAX
            && let Ok(outgoing) = queue.0.try_recv()
        {
            schedule.take(outgoing);
            taken += 1;
        }
        is_busy = taken > 1;
        schedule.lay_out_pieces();
        if schedule.batch.has_remaining() {
            schedule.batch.seal();
            writer.write_all_buf(&mut schedule.batch).await?;
            is_quiet = false;
        }
        if !schedule.is_idle() {
            // The runtime counts polls, not bytes: let others have their turn between batches.
            tokio::task::yield_now().await;
        }
    }
}

/// The rest of a payload that travels in pieces.
struct Stream {
    id: u64,
    rest: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Decides what is written next.
struct Schedule {
    channel: Channel,
    batch: Batch,
    /// Payloads that take turns.
    streams: VecDeque<Stream>,
    /// Envelopes with large payloads that wait until one of the streams ends.
    waiting: VecDeque<Parcel>,
}

impl Schedule {
    fn new(channel: Channel) -> Self {
        Self { channel, batch: Batch::default(), streams: VecDeque::new(), waiting: VecDeque::new() }
    }

    /// Whether there is nothing to write but what is still queued.
    fn is_idle(&self) -> bool {
        self.streams.is_empty() && !self.batch.has_remaining()
    }

    fn take(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Parcel(parcel) if parcel.is_small() || self.streams.len() < STREAMS_MAX => self.open(parcel),
            Outgoing::Parcel(parcel) => self.waiting.push_back(parcel),
            Outgoing::Cancel(id) => self.cancel(id),
        }
    }

    fn open(&mut self, parcel: Parcel) {
        let Parcel { kind, id, deadline, envelope: Envelope { header, mut payload }, _room } = parcel;
        let payload_bytes = payload.len();
        let piece = payload.split_to(first_piece_bytes(kind, payload_bytes));
        self.batch.frame(&Frame {
            kind,
            id,
            deadline_ms: deadline.map_or(0, remaining_ms),
            header_bytes: header.len() as u32,
            payload_bytes: payload_bytes as u32,
            body_crc: body_crc(self.channel, &header, &piece),
        });
        self.batch.put(header);
        self.batch.put(piece);
        if !payload.is_empty() {
            self.streams.push_back(Stream { id, rest: payload, _room });
        }
    }

    /// A peer that never heard of the call need not hear of its end. One that did must: it may hold half a payload.
    fn cancel(&mut self, id: u64) {
        if let Some(place) = self.waiting.iter().position(|parcel| parcel.id == id) {
            self.waiting.remove(place);
            return;
        }
        self.streams.retain(|stream| stream.id != id);
        self.batch.frame(&Frame::bare(Kind::Cancel, id));
        self.fill_streams();
    }

    /// At least one piece, however many small envelopes there are, so that bulk proceeds.
    fn lay_out_pieces(&mut self) {
        while let Some(mut stream) = self.streams.pop_front() {
            let piece = stream.rest.split_to(PIECE_BYTES.min(stream.rest.len()));
            self.batch.frame(&Frame {
                payload_bytes: piece.len() as u32,
                body_crc: body_crc(self.channel, &[], &piece),
                ..Frame::bare(Kind::Piece, stream.id)
            });
            self.batch.put(piece);
            if !stream.rest.is_empty() {
                self.streams.push_back(stream);
            }
            self.fill_streams();
            if self.batch.remaining() >= BATCH_BYTES_MAX {
                return;
            }
        }
    }

    fn fill_streams(&mut self) {
        while self.streams.len() < STREAMS_MAX
            && let Some(parcel) = self.waiting.pop_front()
        {
            self.open(parcel);
        }
    }
}

impl Parcel {
    fn is_small(&self) -> bool {
        let payload_bytes = self.envelope.payload.len();
        first_piece_bytes(self.kind, payload_bytes) == payload_bytes
    }
}

/// What is left of a deadline, rounded up so that a call which is not over yet does not arrive as over.
fn remaining_ms(deadline: Instant) -> u32 {
    let remaining = deadline.saturating_duration_since(Instant::now());
    remaining.as_micros().div_ceil(1000).try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::tcp::inbound::{Arrival, Inbound};
    use std::time::Duration;
    use tokio::io::duplex;

    fn request(id: u64, payload_bytes: usize) -> Outgoing {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let envelope =
            Envelope { header: Bytes::from_static(b"header"), payload: vec![id as u8; payload_bytes].into() };
        Outgoing::Parcel(Parcel { kind: Kind::Request, id, deadline: None, envelope, _room: room })
    }

    /// Everything that the schedule would write, as the receiver sees it: the ids in order of completion, then cancelled ones.
    async fn arrivals(mut schedule: Schedule) -> Vec<Result<u64, u64>> {
        let mut wire = Vec::new();
        while !schedule.is_idle() {
            schedule.lay_out_pieces();
            schedule.batch.seal();
            wire.extend_from_slice(&schedule.batch.copy_to_bytes(schedule.batch.remaining()));
        }
        let mut inbound = Inbound::new(&wire[..], Channel::Bulk);
        let mut seen = Vec::new();
        loop {
            match inbound.next().await {
                Ok(Arrival::Request { id, envelope, .. }) => {
                    assert!(envelope.payload.iter().all(|byte| *byte == id as u8));
                    seen.push(Ok(id));
                }
                Ok(Arrival::Cancel(id)) => seen.push(Err(id)),
                Ok(_) => panic!("only requests were sent"),
                Err(error) => {
                    assert!(error.to_string().contains("eof"), "the stream is well formed: {error}");
                    return seen;
                }
            }
        }
    }

    #[tokio::test]
    async fn large_payloads_take_turns_and_small_ones_pass_them() {
        let mut schedule = Schedule::new(Channel::Bulk);
        schedule.take(request(1, 16 * PIECE_BYTES));
        schedule.take(request(2, 3 * PIECE_BYTES));
        schedule.take(request(3, 10));
        assert_eq!(arrivals(schedule).await, [Ok(3), Ok(2), Ok(1)]);
    }

    #[tokio::test]
    async fn more_payloads_than_streams_wait_and_all_arrive() {
        let mut schedule = Schedule::new(Channel::Bulk);
        let ids = 0..3 * STREAMS_MAX as u64;
        ids.clone().for_each(|id| schedule.take(request(id, 2 * PIECE_BYTES + 5)));
        assert_eq!(schedule.streams.len(), STREAMS_MAX);
        let mut seen = arrivals(schedule).await;
        seen.sort();
        assert_eq!(seen, ids.map(Ok).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_cancelled_payload_stops_and_makes_room() {
        let mut schedule = Schedule::new(Channel::Bulk);
        (0..=STREAMS_MAX as u64 + 1).for_each(|id| schedule.take(request(id, 2 * PIECE_BYTES)));
        schedule.take(Outgoing::Cancel(0));
        schedule.take(Outgoing::Cancel(STREAMS_MAX as u64 + 1));
        let mut seen = arrivals(schedule).await;
        seen.sort();
        let arrived = (1..=STREAMS_MAX as u64).map(Ok);
        assert_eq!(seen, arrived.chain([Err(0)]).collect::<Vec<_>>(), "one that never began is not cancelled aloud");
    }

    #[tokio::test]
    async fn a_full_queue_drops_messages_and_lets_calls_wait() {
        let (outbox, mut queue) = Outbox::new();
        let message = Envelope { header: Bytes::new(), payload: vec![0; 4 << 20].into() };
        let fitting = QUEUE_BYTES_MAX / (message.len() + QUEUED_BYTES_EXTRA);
        (0..fitting as u64 + 3).for_each(|id| outbox.send(id, message.clone()));
        let mut queued = 0;
        let waiting = outbox.respond(99, message.clone());
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        while let Ok(outgoing) = queue.0.try_recv() {
            queued += 1;
            drop(outgoing);
        }
        assert_eq!(queued, fitting);
        waiting.await.unwrap();
        outbox.close();
        assert!(outbox.respond(100, message).await.is_err());
    }

    #[tokio::test]
    async fn deadlines_travel() {
        let (near, far) = duplex(1 << 16);
        let (outbox, queue) = Outbox::new();
        let _writing =
            tokio_util::task::AbortOnDropHandle::new(tokio::spawn(write_loop(queue, near, Channel::Control)));
        let envelope = Envelope::from_header(&b"x"[..]);
        outbox.request(1, Instant::now() + Duration::from_secs(60), envelope).await.unwrap();
        let mut inbound = Inbound::new(far, Channel::Control);
        let Ok(Arrival::Request { deadline, .. }) = inbound.next().await else { panic!("a request was sent") };
        let left = deadline - Instant::now();
        assert!(left > Duration::from_secs(30) && left <= Duration::from_millis(60_001), "{left:?}");
    }
}
