//! The reading half of a connection: frames in, whole envelopes out.
//!
//! A payload in pieces is gathered straight from the socket into one buffer of the announced length. Everything that a peer
//! sends is checked against a bound before memory is set aside for it; what breaks one ends the connection. Which kinds of
//! arrival make sense at which end is the caller's business.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::time::Instant;

use crate::rpc::Envelope;
use crate::rpc::frame::{Channel, FRAME_BYTES, Frame, FrameError, Kind, PIECE_BYTES, STREAMS_MAX, body_crc};

/// The read buffer for calls and messages: many small frames per system call.
const CONTROL_BUFFER_BYTES: usize = 64 << 10;

/// The read buffer of the bulk lane: frames only, so that payloads are read to where they belong.
const BULK_BUFFER_BYTES: usize = 4 << 10;

/// Something whole that the peer said.
pub(super) enum Arrival {
    Request { id: u64, deadline: Instant, envelope: Envelope },
    Response { id: u64, envelope: Envelope },
    Message(Envelope),
    Cancel(u64),
}

/// An opened envelope whose payload is still under way.
struct Assembly {
    opening: Opening,
    header: Bytes,
    payload: BytesMut,
    payload_bytes: usize,
}

/// What a frame that opens an envelope says of it.
#[derive(Clone, Copy)]
struct Opening {
    kind: Kind,
    id: u64,
    deadline: Instant,
}

/// Reads one connection.
pub(super) struct Inbound<R> {
    reader: BufReader<R>,
    channel: Channel,
    assemblies: HashMap<u64, Assembly>,
}

impl<R: AsyncRead + Unpin> Inbound<R> {
    pub(super) fn new(reader: R, channel: Channel) -> Self {
        let buffer_bytes = match channel {
            Channel::Control | Channel::Messages => CONTROL_BUFFER_BYTES,
            Channel::Bulk => BULK_BUFFER_BYTES,
        };
        Self { reader: BufReader::with_capacity(buffer_bytes, reader), channel, assemblies: HashMap::new() }
    }

    /// The next whole arrival. Must not be dropped half-way: what was read would be lost.
    pub(super) async fn next(&mut self) -> Result<Arrival, FrameError> {
        loop {
            let mut bytes = [0; FRAME_BYTES];
            self.reader.read_exact(&mut bytes).await?;
            let frame = Frame::decode(&bytes)?;
            let arrival = match frame.kind {
                Kind::Request | Kind::Response | Kind::Message => self.open(frame).await?,
                Kind::Piece => self.take_piece(frame).await?,
                Kind::Cancel => {
                    self.assemblies.remove(&frame.id);
                    Some(Arrival::Cancel(frame.id))
                }
                Kind::Ping => None,
            };
            if let Some(arrival) = arrival {
                return Ok(arrival);
            }
        }
    }

    async fn open(&mut self, frame: Frame) -> Result<Option<Arrival>, FrameError> {
        let (payload_bytes, piece_bytes) = (frame.payload_bytes as usize, frame.piece_bytes());
        let is_whole = piece_bytes == payload_bytes;
        if !is_whole && self.assemblies.len() >= STREAMS_MAX {
            return Err(FrameError::Malformed("too many payloads at once"));
        }
        if self.assemblies.contains_key(&frame.id) {
            return Err(FrameError::Malformed("an id was opened twice"));
        }
        let deadline = Instant::now() + Duration::from_millis(u64::from(frame.deadline_ms));
        let opening = Opening { kind: frame.kind, id: frame.id, deadline };

        let header_bytes = frame.header_bytes as usize;
        let mut header = BytesMut::with_capacity(header_bytes);
        self.read_into(&mut header, header_bytes).await?;
        let mut payload = BytesMut::with_capacity(payload_bytes);
        self.read_into(&mut payload, piece_bytes).await?;
        self.check_body(&frame, &header, &payload)?;

        let header = header.freeze();
        if is_whole {
            return opening.complete(Envelope { header, payload: payload.freeze() }).map(Some);
        }
        self.assemblies.insert(frame.id, Assembly { opening, header, payload, payload_bytes });
        Ok(None)
    }

    async fn take_piece(&mut self, frame: Frame) -> Result<Option<Arrival>, FrameError> {
        let Some(mut assembly) = self.assemblies.remove(&frame.id) else {
            return Err(FrameError::Malformed("a piece of nothing"));
        };
        let gathered = assembly.payload.len();
        let piece_bytes = frame.payload_bytes as usize;
        if piece_bytes != PIECE_BYTES.min(assembly.payload_bytes - gathered) {
            return Err(FrameError::Malformed("a piece of the wrong length"));
        }
        self.read_into(&mut assembly.payload, piece_bytes).await?;
        self.check_body(&frame, &[], &assembly.payload[gathered..])?;
        // The runtime counts polls, not bytes: let others have their turn between pieces.
        tokio::task::yield_now().await;

        if assembly.payload.len() < assembly.payload_bytes {
            self.assemblies.insert(frame.id, assembly);
            return Ok(None);
        }
        let envelope = Envelope { header: assembly.header, payload: assembly.payload.freeze() };
        assembly.opening.complete(envelope).map(Some)
    }

    async fn read_into(&mut self, buffer: &mut BytesMut, bytes: usize) -> Result<(), FrameError> {
        let mut rest = buffer.limit(bytes);
        while rest.has_remaining_mut() {
            if self.reader.read_buf(&mut rest).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(())
    }

    fn check_body(&self, frame: &Frame, header: &[u8], piece: &[u8]) -> Result<(), FrameError> {
        if body_crc(self.channel, header, piece) != frame.body_crc {
            return Err(FrameError::Malformed("the body's checksum does not match"));
        }
        Ok(())
    }
}

impl Opening {
    fn complete(self, envelope: Envelope) -> Result<Arrival, FrameError> {
        match self.kind {
            Kind::Request => Ok(Arrival::Request { id: self.id, deadline: self.deadline, envelope }),
            Kind::Response => Ok(Arrival::Response { id: self.id, envelope }),
            Kind::Message => Ok(Arrival::Message(envelope)),
            Kind::Piece | Kind::Cancel | Kind::Ping => Err(FrameError::Malformed("opened by the wrong kind")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

    async fn refusal(bytes: Vec<u8>) -> FrameError {
        let mut inbound = Inbound::new(&bytes[..], Channel::Control);
        loop {
            if let Err(error) = inbound.next().await {
                return error;
            }
        }
    }

    fn opening(id: u64, payload: &[u8]) -> Vec<u8> {
        let piece = &payload[..payload.len().min(PIECE_BYTES)];
        let frame = Frame {
            payload_bytes: payload.len() as u32,
            body_crc: body_crc(Channel::Control, &[], piece),
            ..Frame::bare(Kind::Request, id)
        };
        [&frame.encode()[..], piece].concat()
    }

    fn piece(id: u64, bytes: &[u8]) -> Vec<u8> {
        let frame = Frame {
            payload_bytes: bytes.len() as u32,
            body_crc: body_crc(Channel::Control, &[], bytes),
            ..Frame::bare(Kind::Piece, id)
        };
        [&frame.encode()[..], bytes].concat()
    }

    fn is_malformed(error: &FrameError) -> bool {
        matches!(error, FrameError::Malformed(_))
    }

    #[tokio::test]
    async fn pieces_that_do_not_fit_are_refused() {
        let payload = vec![7; PIECE_BYTES + 100];
        let rest = &payload[PIECE_BYTES..];
        let good = [opening(1, &payload), piece(1, rest)].concat();
        assert!(matches!(refusal(good.clone()).await, FrameError::Io(_)), "a good stream only ends");

        assert!(is_malformed(&refusal(piece(1, rest)).await), "a piece of nothing");
        assert!(is_malformed(&refusal([opening(1, &payload), piece(1, &rest[1..])].concat()).await), "too short");
        assert!(is_malformed(&refusal([opening(1, &payload), piece(1, &payload[..101])].concat()).await), "too long");
        assert!(is_malformed(&refusal([opening(1, &payload), opening(1, &payload)].concat()).await), "opened twice");
        assert!(is_malformed(&refusal([good, piece(1, rest)].concat()).await), "one more than announced");
    }

    #[tokio::test]
    async fn payloads_under_way_are_bounded() {
        let payload = vec![7; PIECE_BYTES + 1];
        let many: Vec<u8> = (0..=STREAMS_MAX as u64).flat_map(|id| opening(id, &payload)).collect();
        assert!(is_malformed(&refusal(many).await));
    }

    #[tokio::test]
    async fn a_damaged_body_is_noticed() {
        let mut bytes = opening(1, b"metadata");
        *bytes.last_mut().unwrap() ^= 1;
        assert!(is_malformed(&refusal(bytes).await));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn random_bytes_never_panic(bytes in any::<Vec<u8>>(), cut in any::<proptest::sample::Index>()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                prop_assert!(matches!(refusal(bytes.clone()).await, FrameError::Io(_) | FrameError::Malformed(_)));
                // A good frame that is followed by noise, or cut short.
                let mut frames = opening(1, b"payload");
                let cut = cut.index(frames.len() + 1);
                frames.truncate(cut);
                refusal([frames, bytes].concat()).await;
                Ok(())
            })?;
        }
    }
}
