//! Checksum values: of some bytes, and of a whole object as S3 shows it. Base64 outside, raw bytes inside.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{ChecksumAlgorithm, ChecksumType};

/// The checksum of some bytes. A value of the wrong length cannot be made.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChecksumValue {
    /// A CRC-32, big-endian as S3 writes it.
    Crc32([u8; 4]),
    /// A CRC-32C, big-endian.
    Crc32c([u8; 4]),
    /// A CRC-64/NVME, big-endian.
    Crc64Nvme([u8; 8]),
    /// A SHA-1.
    Sha1([u8; 20]),
    /// A SHA-256.
    Sha256([u8; 32]),
}

/// The checksum of an object as S3 shows it: with what it covers, and for a composite one the number of parts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ObjectChecksum {
    /// Over all bytes of the object.
    FullObject(ChecksumValue),
    /// Over the checksums of the parts.
    Composite {
        /// The checksum of the part values, one after the other.
        value: ChecksumValue,
        /// How many parts there were.
        parts: u16,
    },
}

/// The text or the bytes are not a value of that algorithm.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a {algorithm} value in base64")]
pub struct MalformedChecksum {
    /// The algorithm that the value was to be of.
    pub algorithm: ChecksumAlgorithm,
}

impl ChecksumValue {
    /// The value in the base64 that headers and XML carry.
    pub fn parse(algorithm: ChecksumAlgorithm, base64: &str) -> Result<Self, MalformedChecksum> {
        let bytes = BASE64.decode(base64).map_err(|_| MalformedChecksum { algorithm })?;
        Self::from_bytes(algorithm, &bytes)
    }

    /// The value with these raw bytes.
    pub fn from_bytes(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Result<Self, MalformedChecksum> {
        let value = match algorithm {
            ChecksumAlgorithm::Crc32 => bytes.try_into().map(Self::Crc32),
            ChecksumAlgorithm::Crc32c => bytes.try_into().map(Self::Crc32c),
            ChecksumAlgorithm::Crc64Nvme => bytes.try_into().map(Self::Crc64Nvme),
            ChecksumAlgorithm::Sha1 => bytes.try_into().map(Self::Sha1),
            ChecksumAlgorithm::Sha256 => bytes.try_into().map(Self::Sha256),
        };
        value.map_err(|_| MalformedChecksum { algorithm })
    }

    /// The value of `bytes`.
    pub fn of(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Self {
        let mut hasher = super::Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// What it is a value of.
    pub fn algorithm(&self) -> ChecksumAlgorithm {
        match self {
            Self::Crc32(_) => ChecksumAlgorithm::Crc32,
            Self::Crc32c(_) => ChecksumAlgorithm::Crc32c,
            Self::Crc64Nvme(_) => ChecksumAlgorithm::Crc64Nvme,
            Self::Sha1(_) => ChecksumAlgorithm::Sha1,
            Self::Sha256(_) => ChecksumAlgorithm::Sha256,
        }
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Crc32(bytes) | Self::Crc32c(bytes) => bytes,
            Self::Crc64Nvme(bytes) => bytes,
            Self::Sha1(bytes) => bytes,
            Self::Sha256(bytes) => bytes,
        }
    }
}

/// The value in base64.
impl fmt::Display for ChecksumValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.as_bytes()))
    }
}

impl fmt::Debug for ChecksumValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({self})", self.algorithm())
    }
}

impl ObjectChecksum {
    /// Reads what `Display` writes: base64, and `-N` when it is composite. No base64 has a `-`.
    pub fn parse(algorithm: ChecksumAlgorithm, text: &str) -> Result<Self, MalformedChecksum> {
        let Some((base64, parts)) = text.split_once('-') else {
            return ChecksumValue::parse(algorithm, text).map(Self::FullObject);
        };
        let value = ChecksumValue::parse(algorithm, base64)?;
        let digits = !parts.is_empty() && parts.bytes().all(|byte| byte.is_ascii_digit());
        match parts.parse() {
            Ok(parts) if digits && parts > 0 => Ok(Self::Composite { value, parts }),
            _ => Err(MalformedChecksum { algorithm }),
        }
    }

    /// The value without the number of parts.
    pub fn value(&self) -> ChecksumValue {
        match self {
            Self::FullObject(value) | Self::Composite { value, .. } => *value,
        }
    }

    /// What it is a value of.
    pub fn algorithm(&self) -> ChecksumAlgorithm {
        self.value().algorithm()
    }

    /// What it covers.
    pub fn checksum_type(&self) -> ChecksumType {
        match self {
            Self::FullObject(_) => ChecksumType::FullObject,
            Self::Composite { .. } => ChecksumType::Composite,
        }
    }
}

/// As S3 writes it: `VALUE`, or `VALUE-N` for a composite one.
impl fmt::Display for ObjectChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FullObject(value) => value.fmt(f),
            Self::Composite { value, parts } => write!(f, "{value}-{parts}"),
        }
    }
}
