//! Encrypted bytes: fixed segments of AES-256-GCM under a key per part. Pure: no key is kept or fetched here.
//!
//! A part's bytes are cut into segments of [`SEGMENT_BYTES`]; each is stored with a tag, in [`STORED_SEGMENT_BYTES`], which
//! divide a chunk's piece evenly: a range costs the segments that it touches, and every chunk begins with a segment.
//! The key of a part is derived from the object's data key and the part's id, which is never used again, so the number of a
//! segment is its nonce. The nonce says too whether the segment is the part's last: segments that are swapped, left out,
//! or cut off do not open.

mod cipher;
mod data_key;
mod layout;
mod offload;

pub(super) use cipher::{PartCipher, Place};
pub use data_key::{Encrypt, ObjectKey};
pub(super) use data_key::{Sealing, etag_of};
pub(super) use layout::{SEALED_CHUNK_BYTES, SEGMENT_BYTES, SEGMENTS_PER_CHUNK, stored_length, stored_range};
pub(super) use offload::offload;
