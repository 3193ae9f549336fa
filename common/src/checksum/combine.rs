//! The checksum of an object from those of its parts, without reading a byte again.

use thiserror::Error;

use super::{ChecksumAlgorithm, ChecksumType, ChecksumValue, Hasher, ObjectChecksum};

/// Why the checksums of parts make none of an object.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CombineError {
    /// There is nothing to combine.
    #[error("no part has a checksum")]
    NoParts,
    /// The algorithm cannot be combined in this way.
    #[error("{algorithm} has no checksum of type {checksum_type}")]
    Unsupported {
        /// The algorithm of the parts.
        algorithm: ChecksumAlgorithm,
        /// What was asked for.
        checksum_type: ChecksumType,
    },
    /// The parts were not all checked with the same algorithm.
    #[error("parts with checksums of {first} and {other}")]
    Mixed {
        /// The first part's algorithm.
        first: ChecksumAlgorithm,
        /// Another part's algorithm.
        other: ChecksumAlgorithm,
    },
}

/// The composite checksum: that of the part values one after the other, with the number of parts.
pub fn combine_composite(parts: &[ChecksumValue]) -> Result<ObjectChecksum, CombineError> {
    let algorithm = common_algorithm(parts.iter().copied(), ChecksumType::Composite)?;
    let mut hasher = Hasher::new(algorithm);
    parts.iter().for_each(|part| hasher.update(part.as_bytes()));
    let parts = u16::try_from(parts.len()).expect("S3 has at most 10,000 parts");
    Ok(ObjectChecksum::Composite { value: hasher.finish(), parts })
}

/// The full-object checksum from each part's value and length in bytes.
pub fn combine_full_object(parts: &[(ChecksumValue, u64)]) -> Result<ObjectChecksum, CombineError> {
    let algorithm = common_algorithm(parts.iter().map(|(value, _)| *value), ChecksumType::FullObject)?;
    let value = match algorithm {
        ChecksumAlgorithm::Crc32 => {
            ChecksumValue::Crc32((combine_crcs(&CRC32, parts.iter().map(crc_and_len)) as u32).to_be_bytes())
        }
        ChecksumAlgorithm::Crc32c => {
            ChecksumValue::Crc32c((combine_crcs(&CRC32C, parts.iter().map(crc_and_len)) as u32).to_be_bytes())
        }
        ChecksumAlgorithm::Crc64Nvme => {
            ChecksumValue::Crc64Nvme(combine_crcs(&CRC64NVME, parts.iter().map(crc_and_len)).to_be_bytes())
        }
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => {
            return Err(CombineError::Unsupported { algorithm, checksum_type: ChecksumType::FullObject });
        }
    };
    Ok(ObjectChecksum::FullObject(value))
}

/// The CRC-32C of two runs of bytes.
pub(super) fn crc32c(first: u32, second: u32, second_len: u64) -> u32 {
    (CRC32C.shift(first.into(), CRC32C.shift_factor(second_len)) as u32) ^ second
}

fn common_algorithm(
    mut parts: impl Iterator<Item = ChecksumValue>,
    checksum_type: ChecksumType,
) -> Result<ChecksumAlgorithm, CombineError> {
    let first = parts.next().ok_or(CombineError::NoParts)?.algorithm();
    if let Some(other) = parts.map(|part| part.algorithm()).find(|&other| other != first) {
        return Err(CombineError::Mixed { first, other });
    }
    if !first.supports(checksum_type) {
        return Err(CombineError::Unsupported { algorithm: first, checksum_type });
    }
    Ok(first)
}

fn crc_and_len(part: &(ChecksumValue, u64)) -> (u64, u64) {
    let (value, len) = part;
    (value.as_bytes().iter().fold(0, |crc, &byte| crc << 8 | u64::from(byte)), *len)
}

/// A CRC whose bits are reflected and whose start value equals its final exclusive-or, as those of S3 are. Then
/// `crc(a || b) = crc(a) * x^(8 * len(b)) + crc(b)` in the polynomials over GF(2) modulo the CRC's own.
///
/// crc-fast and crc32fast offer to combine two values, by squaring a matrix: 10,000 parts would cost a second.
/// Multiplying polynomials, and keeping the factor while parts have the same length, costs a millisecond.
struct Crc {
    /// The polynomial without its highest term, reflected: the bit of x^0 is the highest of `width`.
    polynomial: u64,
    width: u32,
}

const CRC32: Crc = Crc { polynomial: 0xedb8_8320, width: 32 };
const CRC32C: Crc = Crc { polynomial: 0x82f6_3b78, width: 32 };
const CRC64NVME: Crc = Crc { polynomial: 0x9a6c_9329_ac4b_c9b5, width: 64 };

fn combine_crcs(crc: &Crc, parts: impl Iterator<Item = (u64, u64)>) -> u64 {
    let mut factor = (0, crc.shift_factor(0));
    parts.fold(0, |sum, (part, len)| {
        if factor.0 != len {
            factor = (len, crc.shift_factor(len));
        }
        crc.shift(sum, factor.1) ^ part
    })
}

impl Crc {
    /// The polynomial 1.
    fn one(&self) -> u64 {
        1 << (self.width - 1)
    }

    /// `a * x` modulo the polynomial.
    fn times_x(&self, a: u64) -> u64 {
        if a & 1 == 1 { (a >> 1) ^ self.polynomial } else { a >> 1 }
    }

    /// `a * b` modulo the polynomial.
    fn shift(&self, a: u64, b: u64) -> u64 {
        let (mut product, mut a_shifted) = (0, a);
        for power in 0..self.width {
            if b & (self.one() >> power) != 0 {
                product ^= a_shifted;
            }
            a_shifted = self.times_x(a_shifted);
        }
        product
    }

    /// `x^(8 * len)` modulo the polynomial, by repeated squaring.
    fn shift_factor(&self, len: u64) -> u64 {
        let x_to_the_8 = (0..8).fold(self.one(), |a, _| self.times_x(a));
        let (mut power, mut square, mut left) = (self.one(), x_to_the_8, len);
        while left > 0 {
            if left & 1 == 1 {
                power = self.shift(power, square);
            }
            square = self.shift(square, square);
            left >>= 1;
        }
        power
    }
}
