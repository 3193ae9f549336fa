//! How a chunk lies in the database: the keys of its header and pieces, and the bytes of its header.
//!
//! Header: `ACHK`, version (1 byte), postcard of [`Header`], CRC-32C (4 bytes, little-endian) of the id and all of that. The
//! id is in the CRC, so that a header under the wrong key is found out. Nothing here reads or writes.

use annulus_common::chunk::{CHUNK_BYTES, ChunkOwner, crc32c, piece_count};
use annulus_common::ids::ChunkId;
use annulus_common::ring::position_of_chunk;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 4] = b"ACHK";
const VERSION: u8 = 1;
const CRC_BYTES: usize = 4;

/// The bytes of a chunk's id, and of the ring position before it.
const ID_BYTES: usize = 20;
const POSITION_BYTES: usize = 8;

/// Behind every key of a chunk.
pub(super) const KEY_END: [u8; POSITION_BYTES + ID_BYTES + 1] = [0xff; POSITION_BYTES + ID_BYTES + 1];

/// What is known of a chunk beside its bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) owner: ChunkOwner,
    pub(super) length: u32,
    pub(super) piece_crcs: Vec<u32>,
    pub(super) created_ms: u64,
}

/// Why bytes are not a header.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("the header is cut short")]
    Short,
    #[error("the header's checksum does not match")]
    Crc,
    #[error("the header is of version {0}, which this program does not know")]
    Version(u8),
    #[error("the header contradicts itself")]
    Content,
}

impl Header {
    pub(super) fn encode(&self, id: ChunkId) -> Result<Vec<u8>, postcard::Error> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        bytes = postcard::to_extend(self, bytes)?;
        let crc = header_crc(id, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    pub(super) fn decode(id: ChunkId, bytes: &[u8]) -> Result<Self, HeaderError> {
        let (checked, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(HeaderError::Short)?;
        if header_crc(id, checked) != u32::from_le_bytes(*crc) {
            return Err(HeaderError::Crc);
        }
        let body = checked.strip_prefix(MAGIC).ok_or(HeaderError::Content)?;
        let (&version, body) = body.split_first().ok_or(HeaderError::Short)?;
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let header: Self = postcard::from_bytes(body).map_err(|_| HeaderError::Content)?;
        let consistent = header.length <= CHUNK_BYTES && header.piece_crcs.len() == piece_count(header.length) as usize;
        if consistent { Ok(header) } else { Err(HeaderError::Content) }
    }

    /// Whether it heads the same bytes of the same owner. When it was written does not matter.
    pub(super) fn same_chunk(&self, other: &Self) -> bool {
        (self.owner, self.length, &self.piece_crcs) == (other.owner, other.length, &other.piece_crcs)
    }
}

fn header_crc(id: ChunkId, bytes: &[u8]) -> u32 {
    crc32c(&[&id.to_bytes()[..], bytes].concat())
}

/// The key of a chunk's header: its ring position first, so that the chunks of a partition lie side by side.
pub(super) fn header_key(id: ChunkId) -> Vec<u8> {
    let mut key = position_key(position_of_chunk(id));
    key.extend_from_slice(&id.to_bytes());
    key
}

/// What is not behind any header's key of this ring position and those after it.
pub(super) fn position_key(position: u64) -> Vec<u8> {
    position.to_be_bytes().to_vec()
}

/// The key of one piece. A chunk has few enough for one byte.
pub(super) fn piece_key(id: ChunkId, piece: u32) -> Vec<u8> {
    let mut key = id.to_bytes().to_vec();
    key.push(piece as u8);
    key
}

/// The chunk of a header's key.
pub(super) fn chunk_of(key: &[u8]) -> Option<ChunkId> {
    let (position, id) = key.split_first_chunk::<POSITION_BYTES>()?;
    let id = ChunkId::from_bytes(id.try_into().ok()?);
    (u64::from_be_bytes(*position) == position_of_chunk(id)).then_some(id)
}

#[cfg(test)]
mod tests {
    use annulus_common::chunk::{CHUNK_BYTES, ChunkOwner, piece_count};
    use annulus_common::ids::{BucketId, ChunkId, PartId, ShardId};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{Header, HeaderError, chunk_of, header_key};

    fn header(length: u32, created_ms: u64) -> Header {
        let owner = ChunkOwner { bucket: BucketId(u64::from(length)), shard: ShardId(7) };
        Header { owner, length, piece_crcs: (0..piece_count(length)).map(|n| n * 77).collect(), created_ms }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(part in any::<[u8; 16]>(), index in any::<u32>(), length in 0..=CHUNK_BYTES) {
            let id = ChunkId { part: PartId(part), index };
            let header = header(length, u64::from(index));
            prop_assert_eq!(Header::decode(id, &header.encode(id).unwrap()).unwrap(), header);
            prop_assert_eq!(chunk_of(&header_key(id)), Some(id));
        }

        #[test]
        fn any_other_bytes_are_refused(at in any::<proptest::sample::Index>(), flip in 1u8.., length in 0..=CHUNK_BYTES) {
            let id = ChunkId { part: PartId([1; 16]), index: 3 };
            let mut bytes = header(length, 9).encode(id).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(Header::decode(id, &bytes).is_err());
            prop_assert!(Header::decode(id, &bytes[..at]).is_err());
        }
    }

    #[test]
    fn a_header_is_good_under_its_own_key_only() {
        let id = ChunkId { part: PartId([1; 16]), index: 3 };
        let bytes = header(10, 1).encode(id).unwrap();
        let neighbour = ChunkId { index: 4, ..id };
        assert!(matches!(Header::decode(neighbour, &bytes), Err(HeaderError::Crc)));
    }

    /// The bytes on disk, drawn in FORMATS.md. When this fails, a new version is due.
    #[test]
    fn version_1_stays_as_it_is() {
        let id = ChunkId { part: PartId([1; 16]), index: 3 };
        let header = Header {
            owner: ChunkOwner { bucket: BucketId(300), shard: ShardId(5) },
            length: 262_145,
            piece_crcs: vec![0xe306_9283, 1],
            created_ms: 1_700_000_000_000,
        };
        let golden = "4143484b01ac02058180100283a59a980e0180d095ffbc310d20e67a";
        assert_eq!(hex_of(&header.encode(id).unwrap()), golden);
    }

    fn hex_of(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
