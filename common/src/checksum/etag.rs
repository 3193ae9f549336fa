//! ETags as S3 makes them: the MD5 of the bytes, or the MD5 of the parts' MD5s with the number of parts.

use std::fmt;
use std::str::FromStr;

use md5::Digest as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An object's or a part's ETag. It is opaque to clients, but many compare it with an MD5 of their own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ETag {
    /// The MD5.
    pub md5: [u8; 16],
    /// The number of parts, when the object was uploaded in parts.
    pub parts: Option<u16>,
}

/// The text is no ETag that we can have given.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not an ETag")]
pub struct MalformedETag;

impl ETag {
    /// The ETag of bytes with this MD5.
    pub fn of_md5(md5: [u8; 16]) -> Self {
        Self { md5, parts: None }
    }

    /// The ETag of an object that was uploaded in parts with these MD5s.
    pub fn of_parts(part_md5s: impl IntoIterator<Item = [u8; 16]>) -> Self {
        let (mut hasher, mut parts) = (md5::Md5::new(), 0);
        for part in part_md5s {
            hasher.update(part);
            parts += 1_u16; // checked: S3 has at most 10,000 parts
        }
        Self { md5: hasher.finalize().into(), parts: Some(parts) }
    }

    /// With the double quotes that headers and XML carry.
    pub fn quoted(&self) -> String {
        format!("\"{self}\"")
    }
}

/// Hexadecimal digits, `-N` for an object of N parts; no quotes.
impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.md5))?;
        self.parts.map_or(Ok(()), |parts| write!(f, "-{parts}"))
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ETag({self})")
    }
}

impl FromStr for ETag {
    type Err = MalformedETag;

    /// Reads it with or without the quotes: clients send both.
    fn from_str(text: &str) -> Result<Self, MalformedETag> {
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let (digits, parts) = match text.split_once('-') {
            Some((digits, parts)) if parts.bytes().all(|byte| byte.is_ascii_digit()) => {
                (digits, Some(parts.parse().map_err(|_| MalformedETag)?))
            }
            Some(_) => return Err(MalformedETag),
            None => (text, None),
        };
        let mut md5 = [0; 16];
        hex::decode_to_slice(digits, &mut md5).map_err(|_| MalformedETag)?;
        Ok(Self { md5, parts })
    }
}
