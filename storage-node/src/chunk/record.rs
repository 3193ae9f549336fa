//! How a chunk lies on disk: the page before its bytes, and its entry in the index.
//!
//! The page says all that the entry says, so that the index of what was written last can be made again from the extents. Both
//! carry a CRC-32C that covers the chunk's id, and both say where the chunk lies: neither is taken for another's. Nothing
//! here reads or writes. Drawn in FORMATS.md.

use std::ops::Range;

use annulus_common::chunk::{CHUNK_BYTES, ChunkOwner, crc32c, piece_count};
use annulus_common::ids::ChunkId;
use annulus_common::ring::position_of_chunk;
use serde::{Deserialize, Serialize};

use super::files::PAGE_BYTES;

const MAGIC: &[u8; 4] = b"ACHK";
const VERSION: u8 = 1;
const CRC_BYTES: usize = 4;

/// The bytes of a chunk's id, and of the ring position before it in a key.
const ID_BYTES: usize = 20;
const POSITION_BYTES: usize = 8;

/// Behind every key of the index.
pub(super) const KEY_END: [u8; POSITION_BYTES + ID_BYTES + 1] = [0xff; POSITION_BYTES + ID_BYTES + 1];

/// What is known of a chunk beside its bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) owner: ChunkOwner,
    pub(super) length: u32,
    pub(super) piece_crcs: Vec<u32>,
    pub(super) created_ms: u64,
}

/// Where a record begins. Later ones are greater: extents are numbered as they are begun, and only appended to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Location {
    pub(super) extent: u64,
    pub(super) offset: u64,
}

/// A chunk in the index.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) location: Location,
    pub(super) header: Header,
}

/// Why bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
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
    /// Whether it heads the same bytes of the same owner. When it was written does not matter.
    pub(super) fn same_chunk(&self, other: &Self) -> bool {
        (self.owner, self.length, &self.piece_crcs) == (other.owner, other.length, &other.piece_crcs)
    }

    fn is_consistent(&self) -> bool {
        self.length <= CHUNK_BYTES && self.piece_crcs.len() == piece_count(self.length) as usize
    }
}

impl Entry {
    /// The bytes of an extent that the record takes.
    pub(super) fn extent_bytes(&self) -> Range<u64> {
        self.location.offset..self.location.offset + record_bytes(self.header.length)
    }

    /// The value in the index: the version, postcard, and the CRC of the id and all of that.
    pub(super) fn encode(&self, id: ChunkId) -> Result<Vec<u8>, postcard::Error> {
        let mut bytes = postcard::to_extend(self, vec![VERSION])?;
        let crc = entry_crc(id, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    pub(super) fn decode(id: ChunkId, bytes: &[u8]) -> Result<Self, RecordError> {
        let (checked, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(RecordError::Short)?;
        if entry_crc(id, checked) != u32::from_le_bytes(*crc) {
            return Err(RecordError::Crc);
        }
        let (&version, body) = checked.split_first().ok_or(RecordError::Short)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let entry: Self = postcard::from_bytes(body).map_err(|_| RecordError::Content)?;
        if entry.header.is_consistent() { Ok(entry) } else { Err(RecordError::Content) }
    }

    /// The page before the chunk's bytes: magic, version, id, postcard, zeros, and at its end the CRC of all of that.
    pub(super) fn encode_page(&self, id: ChunkId) -> Result<[u8; PAGE_BYTES], postcard::Error> {
        let mut page = [0; PAGE_BYTES];
        let (body, crc) = page.split_at_mut(PAGE_BYTES - CRC_BYTES);
        body[..MAGIC.len()].copy_from_slice(MAGIC);
        body[MAGIC.len()] = VERSION;
        body[PAGE_HEAD_BYTES - ID_BYTES..PAGE_HEAD_BYTES].copy_from_slice(&id.to_bytes());
        postcard::to_slice(self, &mut body[PAGE_HEAD_BYTES..])?;
        crc.copy_from_slice(&crc32c(body).to_le_bytes());
        Ok(page)
    }

    pub(super) fn decode_page(page: &[u8]) -> Result<(ChunkId, Self), RecordError> {
        let page: &[u8; PAGE_BYTES] = page.try_into().map_err(|_| RecordError::Short)?;
        let (body, crc) = page.split_at(PAGE_BYTES - CRC_BYTES);
        let content = body.strip_prefix(MAGIC).ok_or(RecordError::Content)?;
        if crc != crc32c(body).to_le_bytes() {
            return Err(RecordError::Crc);
        }
        let (&version, content) = content.split_first().ok_or(RecordError::Short)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let (id, content) = content.split_first_chunk().ok_or(RecordError::Short)?;
        let (entry, _zeros) = postcard::take_from_bytes::<Self>(content).map_err(|_| RecordError::Content)?;
        if entry.header.is_consistent() { Ok((ChunkId::from_bytes(id), entry)) } else { Err(RecordError::Content) }
    }
}

/// What stands before the postcard of a page.
const PAGE_HEAD_BYTES: usize = MAGIC.len() + 1 + ID_BYTES;

/// What a chunk of this length takes of an extent: a page, and its bytes in whole pages.
pub(super) fn record_bytes(length: u32) -> u64 {
    (PAGE_BYTES + (length as usize).next_multiple_of(PAGE_BYTES)) as u64
}

fn entry_crc(id: ChunkId, bytes: &[u8]) -> u32 {
    crc32c(&[&id.to_bytes()[..], bytes].concat())
}

/// A chunk's key in the index: its ring position first, so that the chunks of a partition lie side by side.
pub(super) fn key_of(id: ChunkId) -> Vec<u8> {
    let mut key = position_key(position_of_chunk(id));
    key.extend_from_slice(&id.to_bytes());
    key
}

/// What no key of this ring position, or of a later one, is before.
pub(super) fn position_key(position: u64) -> Vec<u8> {
    position.to_be_bytes().to_vec()
}

/// The chunk of a key.
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

    use super::{Entry, Header, Location, RecordError, chunk_of, key_of};

    fn entry(length: u32, created_ms: u64) -> Entry {
        let owner = ChunkOwner { bucket: BucketId(u64::from(length)), shard: ShardId(7) };
        let header =
            Header { owner, length, piece_crcs: (0..piece_count(length)).map(|n| n * 77).collect(), created_ms };
        Entry { location: Location { extent: created_ms, offset: 4096 }, header }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(part in any::<[u8; 16]>(), index in any::<u32>(), length in 0..=CHUNK_BYTES) {
            let id = ChunkId { part: PartId(part), index };
            let entry = entry(length, u64::from(index));
            prop_assert_eq!(&Entry::decode(id, &entry.encode(id).unwrap()).unwrap(), &entry);
            prop_assert_eq!(Entry::decode_page(&entry.encode_page(id).unwrap()).unwrap(), (id, entry));
            prop_assert_eq!(chunk_of(&key_of(id)), Some(id));
        }

        #[test]
        fn any_other_bytes_are_refused(at in any::<proptest::sample::Index>(), flip in 1u8.., length in 0..=CHUNK_BYTES) {
            let id = ChunkId { part: PartId([1; 16]), index: 3 };
            let mut bytes = entry(length, 9).encode(id).unwrap();
            let place = at.index(bytes.len());
            bytes[place] ^= flip;
            prop_assert!(Entry::decode(id, &bytes).is_err());
            prop_assert!(Entry::decode(id, &bytes[..place]).is_err());
            let mut page = entry(length, 9).encode_page(id).unwrap();
            let place = at.index(page.len());
            page[place] ^= flip;
            prop_assert!(Entry::decode_page(&page).is_err());
            prop_assert!(Entry::decode_page(&page[..place]).is_err());
        }
    }

    #[test]
    fn an_entry_is_good_under_its_own_key_only() {
        let id = ChunkId { part: PartId([1; 16]), index: 3 };
        let bytes = entry(10, 1).encode(id).unwrap();
        let neighbour = ChunkId { index: 4, ..id };
        assert!(matches!(Entry::decode(neighbour, &bytes), Err(RecordError::Crc)));
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
        let entry = Entry { location: Location { extent: 7, offset: 8192 }, header };
        let content = "078040ac02058180100283a59a980e0180d095ffbc31";
        assert_eq!(hex_of(&entry.encode(id).unwrap()), format!("01{content}0b3217eb"));
        let page = entry.encode_page(id).unwrap();
        let end = page[..4092].iter().rposition(|&byte| byte != 0).unwrap() + 1;
        assert_eq!(hex_of(&page[..end]), format!("4143484b01{}00000003{content}", "01".repeat(16)));
        assert_eq!(hex_of(&page[4092..]), "03b0321c");
    }

    fn hex_of(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
