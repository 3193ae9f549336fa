//! Known answers from the CRC catalogue, FIPS 180 and RFC 1321, and the laws that hold for all bytes.

use std::iter;

use proptest::collection::vec;
use proptest::prelude::{any, prop};
use proptest::{prop_assert_eq, proptest};

use super::{
    ChecksumAlgorithm, ChecksumType, ChecksumValue, CombineError, ETag, MultiHasher, ObjectChecksum, combine_composite,
    combine_full_object, crc32c, crc32c_combine, md5,
};

const CHECK: &[u8] = b"123456789";
const CRCS: [ChecksumAlgorithm; 3] =
    [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme];

fn hex_of(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> String {
    hex::encode(ChecksumValue::of(algorithm, bytes).as_bytes())
}

#[test]
fn known_answers() {
    assert_eq!(hex_of(ChecksumAlgorithm::Crc32, CHECK), "cbf43926");
    assert_eq!(hex_of(ChecksumAlgorithm::Crc32c, CHECK), "e3069283");
    assert_eq!(hex_of(ChecksumAlgorithm::Crc64Nvme, CHECK), "ae8b14860a799888");
    assert_eq!(hex_of(ChecksumAlgorithm::Sha1, b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(
        hex_of(ChecksumAlgorithm::Sha256, b"abc"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(hex::encode(md5(b"abc")), "900150983cd24fb0d6963f7d28e17f72");
    assert_eq!(crc32c(CHECK), 0xe306_9283);
}

#[test]
fn values_are_written_as_s3_writes_them() {
    let crc32 = ChecksumValue::of(ChecksumAlgorithm::Crc32, CHECK);
    assert_eq!(crc32.to_string(), "y/Q5Jg==");
    assert_eq!(ChecksumValue::parse(ChecksumAlgorithm::Crc32, "y/Q5Jg=="), Ok(crc32));
    for wrong in ["", "y/Q5Jg", "y/Q5JgA=", "y/Q5Jg==x", "cbf43926", "y_Q5Jg=="] {
        assert!(ChecksumValue::parse(ChecksumAlgorithm::Crc32, wrong).is_err(), "{wrong:?}");
    }
    assert!(ChecksumValue::parse(ChecksumAlgorithm::Sha256, "y/Q5Jg==").is_err());
}

#[test]
fn object_checksums_are_read_as_they_are_written() {
    let value = ChecksumValue::of(ChecksumAlgorithm::Crc32, CHECK);
    for checksum in [ObjectChecksum::FullObject(value), ObjectChecksum::Composite { value, parts: 17 }] {
        assert_eq!(ObjectChecksum::parse(ChecksumAlgorithm::Crc32, &checksum.to_string()), Ok(checksum));
    }
    for wrong in ["y/Q5Jg==-", "y/Q5Jg==-0", "y/Q5Jg==-+3", "y/Q5Jg==-1-2", "-3"] {
        assert!(ObjectChecksum::parse(ChecksumAlgorithm::Crc32, wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn names_are_those_of_s3() {
    for algorithm in ChecksumAlgorithm::ALL {
        assert_eq!(algorithm.name().parse(), Ok(algorithm));
        assert_eq!(algorithm.name().to_lowercase().parse(), Ok(algorithm));
        assert_eq!(serde_json::to_string(&algorithm).unwrap(), format!("\"{}\"", algorithm.name()));
        assert!(algorithm.header_name().ends_with(&algorithm.name().to_lowercase()));
        assert_eq!(ChecksumValue::of(algorithm, b"").as_bytes().len(), algorithm.value_len());
        assert!(algorithm.supports(algorithm.default_multipart_type()));
    }
    assert!("MD5".parse::<ChecksumAlgorithm>().is_err());
    assert_eq!("COMPOSITE".parse(), Ok(ChecksumType::Composite));
    assert!("composite".parse::<ChecksumType>().is_err());
}

#[test]
fn multipart_types_follow_the_table_of_the_user_guide() {
    use ChecksumType::{Composite, FullObject};
    let supported = |algorithm: ChecksumAlgorithm| (algorithm.supports(FullObject), algorithm.supports(Composite));
    assert_eq!(supported(ChecksumAlgorithm::Crc32), (true, true));
    assert_eq!(supported(ChecksumAlgorithm::Crc32c), (true, true));
    assert_eq!(supported(ChecksumAlgorithm::Crc64Nvme), (true, false));
    assert_eq!(supported(ChecksumAlgorithm::Sha1), (false, true));
    assert_eq!(supported(ChecksumAlgorithm::Sha256), (false, true));
}

#[test]
fn impossible_combinations_are_refused() {
    let [crc32, crc64, sha1] = [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc64Nvme, ChecksumAlgorithm::Sha1]
        .map(|algorithm| ChecksumValue::of(algorithm, CHECK));
    assert_eq!(combine_composite(&[]), Err(CombineError::NoParts));
    assert!(matches!(combine_composite(&[crc64]), Err(CombineError::Unsupported { .. })));
    assert!(matches!(combine_composite(&[crc32, sha1]), Err(CombineError::Mixed { .. })));
    assert_eq!(combine_full_object(&[]), Err(CombineError::NoParts));
    assert!(matches!(combine_full_object(&[(sha1, 9)]), Err(CombineError::Unsupported { .. })));
    assert!(matches!(combine_full_object(&[(crc32, 9), (crc64, 9)]), Err(CombineError::Mixed { .. })));
}

#[test]
fn a_composite_is_the_checksum_of_the_part_values() {
    let parts = [b"first".as_slice(), b"second"].map(|part| ChecksumValue::of(ChecksumAlgorithm::Sha256, part));
    let joined = [parts[0].as_bytes(), parts[1].as_bytes()].concat();
    let expected = format!("{}-2", ChecksumValue::of(ChecksumAlgorithm::Sha256, &joined));
    assert_eq!(combine_composite(&parts).unwrap().to_string(), expected);
}

#[test]
fn etags_are_those_of_s3() {
    let plain = ETag::of_md5(md5(b"abc"));
    assert_eq!(plain.quoted(), "\"900150983cd24fb0d6963f7d28e17f72\"");
    assert_eq!(ETag::of_md5(md5(b"")).to_string(), "d41d8cd98f00b204e9800998ecf8427e");

    let parts = ETag::of_parts([md5(b"abc"), md5(b"")]);
    assert_eq!(parts.md5, md5(&[md5(b"abc"), md5(b"")].concat()));
    assert!(parts.to_string().ends_with("-2"));

    for etag in [plain, parts] {
        assert_eq!(etag.to_string().parse(), Ok(etag));
        assert_eq!(etag.quoted().parse(), Ok(etag));
    }
    for wrong in ["", "\"", "abc", "900150983cd24fb0d6963f7d28e17f72-", "900150983cd24fb0d6963f7d28e17f72-+1"] {
        assert!(wrong.parse::<ETag>().is_err(), "{wrong:?}");
    }
}

#[test]
fn combining_agrees_with_crc_fast_for_large_parts() {
    for (algorithm, theirs) in [
        (ChecksumAlgorithm::Crc32, crc_fast::CrcAlgorithm::Crc32IsoHdlc),
        (ChecksumAlgorithm::Crc32c, crc_fast::CrcAlgorithm::Crc32Iscsi),
        (ChecksumAlgorithm::Crc64Nvme, crc_fast::CrcAlgorithm::Crc64Nvme),
    ] {
        let part = ChecksumValue::of(algorithm, CHECK);
        let raw = part.as_bytes().iter().fold(0, |crc, &byte| crc << 8 | u64::from(byte));
        for len in [0, 1, 5 << 20, 5 << 30, (5 << 40) + 7] {
            let combined = combine_full_object(&[(part, 9), (part, len)]).unwrap().value();
            let expected = crc_fast::checksum_combine(theirs, raw, raw, len);
            assert_eq!(
                hex::encode(combined.as_bytes()),
                hex::encode(&expected.to_be_bytes()[8 - part.as_bytes().len()..])
            );
        }
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same(bytes in vec(any::<u8>(), 0..40_000), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(bytes.len() + 1);
        let mut hasher = MultiHasher::new(ChecksumAlgorithm::ALL.into_iter().chain(CRCS)).with_md5();
        hasher.update(&bytes[..cut]);
        hasher.update(&bytes[cut..]);
        let digests = hasher.finish();

        prop_assert_eq!(digests.checksums.len(), ChecksumAlgorithm::ALL.len());
        for algorithm in ChecksumAlgorithm::ALL {
            prop_assert_eq!(digests.get(algorithm), Some(ChecksumValue::of(algorithm, &bytes)));
        }
        prop_assert_eq!(digests.md5, Some(md5(&bytes)));
        prop_assert_eq!(digests.bytes_len, bytes.len() as u64);
    }

    #[test]
    fn combined_parts_equal_the_whole(parts in vec(vec(any::<u8>(), 0..600), 1..8)) {
        let whole = parts.concat();
        for algorithm in CRCS {
            let values: Vec<_> =
                parts.iter().map(|part| (ChecksumValue::of(algorithm, part), part.len() as u64)).collect();
            let expected = ObjectChecksum::FullObject(ChecksumValue::of(algorithm, &whole));
            prop_assert_eq!(combine_full_object(&values), Ok(expected));
        }
        let crc = parts.iter().fold(crc32c(b""), |sum, part| crc32c_combine(sum, crc32c(part), part.len() as u64));
        prop_assert_eq!(crc, crc32c(&whole));
    }

    #[test]
    fn stored_values_come_back(bytes in vec(any::<u8>(), 0..50), which in 0..5_usize) {
        let value = ChecksumValue::of(ChecksumAlgorithm::ALL[which], &bytes);
        let stored = postcard::to_allocvec(&value).unwrap();
        prop_assert_eq!(postcard::from_bytes::<ChecksumValue>(&stored).unwrap(), value);
        prop_assert_eq!(ChecksumValue::parse(value.algorithm(), &value.to_string()), Ok(value));
    }
}

#[test]
fn ten_thousand_equal_parts_are_combined() {
    let part = (ChecksumValue::of(ChecksumAlgorithm::Crc64Nvme, CHECK), CHECK.len() as u64);
    let whole: Vec<u8> = iter::repeat_n(CHECK, 10_000).flatten().copied().collect();
    let expected = ObjectChecksum::FullObject(ChecksumValue::of(ChecksumAlgorithm::Crc64Nvme, &whole));
    assert_eq!(combine_full_object(&vec![part; 10_000]), Ok(expected));
}
