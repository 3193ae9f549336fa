//! The cipher of one part: segments in, segments out.

use annulus_common::ids::PartId;
use bytes::{Bytes, BytesMut};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::layout::{SEGMENT_BYTES, STORED_SEGMENT_BYTES, TAG_BYTES, stored_length};
use crate::kms::SecretKey;

/// Where encrypted bytes lie. Under one data key each place is written once: parts have ids of their own, and only an object
/// that was put whole, with a data key of its own, lies inline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Place {
    /// In the object's record.
    Inline,
    /// In the chunks of a part.
    Part(PartId),
}

/// Bytes that are not those which were encrypted here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("encrypted bytes do not open")]
pub(in super::super) struct Tampered;

/// Encrypts and decrypts the bytes of one place.
pub(in super::super) struct PartCipher(LessSafeKey);

impl PartCipher {
    /// The cipher of a place.
    pub(in super::super) fn new(data_key: &SecretKey, place: Place) -> Self {
        let key = match place {
            Place::Inline => data_key.expand(&[b"annulus inline 1"]),
            Place::Part(PartId(id)) => data_key.expand(&[b"annulus part 1", &id]),
        };
        let key = UnboundKey::new(&AES_256_GCM, key.expose()).expect("the key has as many bytes as AES-256 takes");
        Self(LessSafeKey::new(key))
    }

    /// Encrypts bytes that begin with segment `first`. They end with a segment; `ends` says that it is the last one of all.
    pub(in super::super) fn seal(&self, first: u64, bytes: &[u8], ends: bool) -> Bytes {
        assert!(ends || (bytes.len() as u64).is_multiple_of(SEGMENT_BYTES), "only the last segment is shorter");
        let mut sealed = BytesMut::with_capacity(stored_length(bytes.len() as u64) as usize);
        let mut segments = bytes.chunks(SEGMENT_BYTES as usize).zip(first..).peekable();
        while let Some((segment, number)) = segments.next() {
            let is_last = ends && segments.peek().is_none();
            let start = sealed.len();
            sealed.extend_from_slice(segment);
            let tag = self
                .0
                .seal_in_place_separate_tag(nonce(number, is_last), Aad::empty(), &mut sealed[start..])
                .expect("a segment is far shorter than what AES-GCM takes");
            sealed.extend_from_slice(tag.as_ref());
        }
        sealed.freeze()
    }

    /// Decrypts whole segments, the first of which is number `first`. `ends`: the last of them must be the last one of all.
    pub(in super::super) fn open(&self, first: u64, sealed: &[u8], ends: bool) -> Result<Bytes, Tampered> {
        let mut opened = BytesMut::with_capacity(sealed.len());
        let mut segments = sealed.chunks(STORED_SEGMENT_BYTES as usize).zip(first..).peekable();
        while let Some((segment, number)) = segments.next() {
            let is_last = ends && segments.peek().is_none();
            let start = opened.len();
            opened.extend_from_slice(segment);
            let plain = self.0.open_in_place(nonce(number, is_last), Aad::empty(), &mut opened[start..]);
            let length = plain.map_err(|_| Tampered)?.len();
            debug_assert_eq!(length + TAG_BYTES as usize, segment.len());
            opened.truncate(start + length);
        }
        Ok(opened.freeze())
    }
}

/// The number of the segment, and whether it is the last. Never the same twice under one key.
fn nonce(number: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce[NONCE_LEN - 1] = u8::from(is_last);
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, proptest};

    use super::super::stored_range;
    use super::*;

    fn cipher(place: Place) -> PartCipher {
        PartCipher::new(&SecretKey::new([7; 32]), place)
    }

    fn part() -> PartCipher {
        cipher(Place::Part(PartId([9; 16])))
    }

    fn bytes_of(length: usize) -> Vec<u8> {
        (0..length).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    /// Lengths about the ends of segments, and a range within.
    fn length_and_range() -> impl Strategy<Value = (usize, usize, usize)> {
        let segment = SEGMENT_BYTES as usize;
        let length = (0..4 * segment).prop_flat_map(move |any| {
            let near = any / segment * segment + any % 3;
            proptest::prop_oneof![Just(any), Just(near), Just(near.saturating_sub(1))]
        });
        length.prop_flat_map(|length| (Just(length), 0..=length, 0..=length))
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        #[test]
        fn any_range_is_what_was_there((length, a, b) in length_and_range(), first in 0u64..1 << 40) {
            let (plain, range) = (bytes_of(length), a.min(b)..a.max(b));
            let sealed = part().seal(first, &plain, true);
            prop_assert_eq!(sealed.len() as u64, stored_length(length as u64));
            let (segments, stored) = stored_range(&(range.start as u32..range.end as u32), length as u32);
            let ends = stored.end as usize == sealed.len();
            let touched = &sealed[stored.start as usize..(stored.end as usize).max(stored.start as usize)];
            if !range.is_empty() {
                let opened = part().open(first + segments.start, touched, ends).unwrap();
                let skipped = (segments.start * SEGMENT_BYTES) as usize;
                prop_assert_eq!(&opened[range.start - skipped..range.end - skipped], &plain[range]);
            }
        }

        #[test]
        fn a_flipped_bit_does_not_open(length in 1..3 * SEGMENT_BYTES as usize, at in any::<proptest::sample::Index>(), bit in 0..8u8) {
            let mut sealed = part().seal(0, &bytes_of(length), true).to_vec();
            let at = at.index(sealed.len());
            sealed[at] ^= 1u8 << bit;
            prop_assert!(part().open(0, &sealed, true).is_err());
        }

        #[test]
        fn a_cut_off_tail_does_not_open(length in 1..3 * SEGMENT_BYTES as usize, left in any::<proptest::sample::Index>()) {
            let sealed = part().seal(0, &bytes_of(length), true);
            let left = left.index(sealed.len());
            proptest::prop_assume!(left > 0);
            prop_assert!(part().open(0, &sealed[..left], true).is_err());
        }
    }

    #[test]
    fn segments_open_in_their_place_alone() {
        let segment = STORED_SEGMENT_BYTES as usize;
        let sealed = part().seal(5, &bytes_of(3 * SEGMENT_BYTES as usize), true);
        assert!(part().open(5, &sealed, true).is_ok());
        assert!(part().open(5, &sealed, false).is_err(), "there is more, it claims");
        assert!(part().open(5, &sealed[..2 * segment], true).is_err(), "this was not all");
        assert!(part().open(5, &sealed[..2 * segment], false).is_ok());
        assert!(part().open(5, &sealed[segment..], true).is_err(), "the first one is missing");
        let swapped = [&sealed[segment..2 * segment], &sealed[..segment], &sealed[2 * segment..]].concat();
        assert!(part().open(5, &swapped, true).is_err());
        for other in [Place::Inline, Place::Part(PartId([8; 16]))] {
            assert!(cipher(other).open(5, &sealed, true).is_err(), "another place");
        }
    }

    #[test]
    fn nothing_is_stored_as_nothing() {
        assert!(part().seal(0, b"", true).is_empty());
        assert!(part().open(0, b"", true).expect("nothing to open").is_empty());
    }

    /// Not a test of anything but the clock: `cargo test --release -- --ignored --nocapture`.
    #[test]
    #[ignore = "measures"]
    fn speed() {
        let plain = bytes_of(super::super::SEALED_CHUNK_BYTES as usize);
        let cipher = part();
        for name in ["seal", "open"] {
            let sealed = cipher.seal(0, &plain, true);
            let begun = std::time::Instant::now();
            for _ in 0..128 {
                let done =
                    if name == "seal" { cipher.seal(0, &plain, true) } else { cipher.open(0, &sealed, true).unwrap() };
                std::hint::black_box(done);
            }
            let seconds = begun.elapsed().as_secs_f64();
            eprintln!("{name}: {:.0} MiB/s", 128.0 * plain.len() as f64 / f64::from(1 << 20) / seconds);
        }
    }
}
