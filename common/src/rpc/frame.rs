//! The frame: 32 bytes in front of everything that travels on a TCP connection once the handshake is done.
//!
//! ```text
//! 0       2        3      4        12            16             20              24         28          32
//! | magic | version | kind | id u64 | deadline ms | header bytes | payload bytes | body CRC | frame CRC |
//! ```
//!
//! Integers are little-endian; the frame CRC covers the 28 bytes before it. After the frame come the envelope's header and
//! the first piece of its payload; what remains of the payload follows in `Piece` frames of [`PIECE_BYTES`], so that other
//! calls get a turn in between. A `Message` travels whole, because messages must stay in order.
//!
//! This file is pure: it neither reads nor writes a socket.

use std::io;

use serde::{Deserialize, Serialize};

use super::{HEADER_BYTES_MAX, Lane, PAYLOAD_BYTES_MAX};

/// The length of an encoded frame.
pub(super) const FRAME_BYTES: usize = 32;

/// How much of a payload travels before another call gets its turn: about 0.1 ms of a 25 Gbit/s link.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// How many payloads may be under way in pieces at once, in one direction of one connection. Sender and receiver both hold
/// to it: it bounds what a receiver has to keep of unfinished calls.
pub(super) const STREAMS_MAX: usize = 4;

const MAGIC: [u8; 2] = *b"An";

/// The version of this layout; the handshake settles on one that both ends speak.
pub(super) const VERSION: u8 = 1;

/// What a connection is for: one per [`Lane`] of calls, and one for messages. A server that is full stops reading calls; it
/// may be full because it waits for Raft, whose messages must then still arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Channel {
    Control,
    Bulk,
    Messages,
}

impl From<Lane> for Channel {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Control => Self::Control,
            Lane::Bulk => Self::Bulk,
        }
    }
}

/// Why a connection must be closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// What arrived is not ours, is damaged, or breaks a bound.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
    /// The connection ended.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Opens a call.
    Request = 1,
    /// Answers the call of that id.
    Response = 2,
    /// Opens and ends a message that has no response.
    Message = 3,
    /// The next bytes of the payload that was opened under that id.
    Piece = 4,
    /// From the caller: the answer is not wanted any more. From the server: no answer will come.
    Cancel = 5,
    /// Sent when nothing else was for a while: silence means death.
    Ping = 6,
}

impl Kind {
    fn from_wire(byte: u8) -> Option<Self> {
        [Self::Request, Self::Response, Self::Message, Self::Piece, Self::Cancel, Self::Ping]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A decoded frame, with every bound checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// The call's number on its connection, given by the caller.
    pub(super) id: u64,
    /// How long the caller still waits. Only requests have one.
    pub(super) deadline_ms: u32,
    /// The length of the envelope's header, which follows at once.
    pub(super) header_bytes: u32,
    /// The length of the whole payload; of a `Piece`, its own.
    pub(super) payload_bytes: u32,
    /// See [`body_crc`].
    pub(super) body_crc: u32,
}

impl Frame {
    /// A frame that nothing follows.
    pub(super) fn bare(kind: Kind, id: u64) -> Self {
        Self { kind, id, deadline_ms: 0, header_bytes: 0, payload_bytes: 0, body_crc: 0 }
    }

    /// How much of the payload follows the frame's header at once.
    pub(super) fn piece_bytes(&self) -> usize {
        first_piece_bytes(self.kind, self.payload_bytes as usize)
    }

    /// The frame as it travels.
    pub(super) fn encode(&self) -> [u8; FRAME_BYTES] {
        let mut bytes = [0; FRAME_BYTES];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = VERSION;
        bytes[3] = self.kind as u8;
        bytes[4..12].copy_from_slice(&self.id.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.deadline_ms.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.header_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Checks and takes apart what arrived. Nothing is allocated for a frame that this refuses.
    pub(super) fn decode(bytes: &[u8; FRAME_BYTES]) -> Result<Self, FrameError> {
        if bytes[..2] != MAGIC {
            return Err(FrameError::Malformed("not a frame"));
        }
        if crc32fast::hash(&bytes[..28]) != read_u32(bytes, 28) {
            return Err(FrameError::Malformed("the frame's checksum does not match"));
        }
        if bytes[2] != VERSION {
            return Err(FrameError::Malformed("another version than agreed upon"));
        }
        let kind = Kind::from_wire(bytes[3]).ok_or(FrameError::Malformed("unknown kind"))?;
        let frame = Self {
            kind,
            id: u64::from(read_u32(bytes, 4)) | u64::from(read_u32(bytes, 8)) << 32,
            deadline_ms: read_u32(bytes, 12),
            header_bytes: read_u32(bytes, 16),
            payload_bytes: read_u32(bytes, 20),
            body_crc: read_u32(bytes, 24),
        };
        frame.check_bounds()?;
        Ok(frame)
    }

    fn check_bounds(&self) -> Result<(), FrameError> {
        let (header_bytes_max, payload_bytes_max) = match self.kind {
            Kind::Request | Kind::Response | Kind::Message => (HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX),
            Kind::Piece => (0, PIECE_BYTES),
            Kind::Cancel | Kind::Ping => (0, 0),
        };
        if self.header_bytes as usize > header_bytes_max {
            return Err(FrameError::Malformed("the header is too long"));
        }
        if self.payload_bytes as usize > payload_bytes_max {
            return Err(FrameError::Malformed("the payload is too long"));
        }
        if self.kind == Kind::Piece && self.payload_bytes == 0 {
            return Err(FrameError::Malformed("an empty piece"));
        }
        Ok(())
    }
}

/// How much of a payload goes with the frame that opens it.
pub(super) fn first_piece_bytes(kind: Kind, payload_bytes: usize) -> usize {
    if kind == Kind::Message { payload_bytes } else { payload_bytes.min(PIECE_BYTES) }
}

/// The checksum of what follows a frame: the header and, but for the bulk lane, the payload. What travels on the bulk lane
/// carries a checksum of its own from end to end, so that a second one would only cost time.
pub(super) fn body_crc(channel: Channel, header: &[u8], piece: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    if channel != Channel::Bulk {
        crc.update(piece);
    }
    crc.finalize()
}

fn read_u32(bytes: &[u8; FRAME_BYTES], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    fn frames() -> impl Strategy<Value = Frame> {
        let opening = prop_oneof![Just(Kind::Request), Just(Kind::Response), Just(Kind::Message)];
        let lengths = (0..=HEADER_BYTES_MAX as u32, 0..=PAYLOAD_BYTES_MAX as u32);
        let opened = (opening, lengths).prop_map(|(kind, (header, payload))| (kind, header, payload));
        let piece = (1..=PIECE_BYTES as u32).prop_map(|payload| (Kind::Piece, 0, payload));
        let bare = prop_oneof![Just(Kind::Cancel), Just(Kind::Ping)].prop_map(|kind| (kind, 0, 0));
        (prop_oneof![opened, piece, bare], any::<u64>(), any::<u32>(), any::<u32>()).prop_map(
            |((kind, header_bytes, payload_bytes), id, deadline_ms, body_crc)| Frame {
                kind,
                id,
                deadline_ms,
                header_bytes,
                payload_bytes,
                body_crc,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_frame_survives_the_wire(frame in frames()) {
            prop_assert_eq!(Frame::decode(&frame.encode()).unwrap(), frame);
        }

        #[test]
        fn any_flipped_bit_is_noticed(frame in frames(), bit in 0..FRAME_BYTES * 8) {
            let mut bytes = frame.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Frame::decode(&bytes).is_err());
        }

        #[test]
        fn random_bytes_never_pass(bytes in any::<[u8; FRAME_BYTES]>()) {
            prop_assert!(Frame::decode(&bytes).is_err());
        }
    }

    #[test]
    fn overlong_lengths_are_refused() {
        let at_most = |kind, header_bytes: usize, payload_bytes: usize| Frame {
            header_bytes: header_bytes as u32,
            payload_bytes: payload_bytes as u32,
            ..Frame::bare(kind, 7)
        };
        for kind in [Kind::Request, Kind::Response, Kind::Message] {
            assert!(Frame::decode(&at_most(kind, HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX).encode()).is_ok());
            assert!(Frame::decode(&at_most(kind, HEADER_BYTES_MAX + 1, 0).encode()).is_err());
            assert!(Frame::decode(&at_most(kind, 0, PAYLOAD_BYTES_MAX + 1).encode()).is_err());
        }
        assert!(Frame::decode(&at_most(Kind::Piece, 0, PIECE_BYTES).encode()).is_ok());
        assert!(Frame::decode(&at_most(Kind::Piece, 0, PIECE_BYTES + 1).encode()).is_err());
        assert!(Frame::decode(&at_most(Kind::Piece, 0, 0).encode()).is_err());
        assert!(Frame::decode(&at_most(Kind::Cancel, 0, 1).encode()).is_err());
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let frame = Frame {
            deadline_ms: 1_000,
            header_bytes: 5,
            payload_bytes: 300_000,
            body_crc: 0x0403_0201,
            ..Frame::bare(Kind::Request, 258)
        };
        let golden = "416e01010201000000000000e803000005000000e093040001020304";
        assert_eq!(hex::encode(&frame.encode()[..28]), golden);
        assert_eq!(frame.piece_bytes(), PIECE_BYTES);
    }
}
