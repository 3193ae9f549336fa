//! Which bytes of an object a read or a copy asks for.

use std::ops::Range;

use annulus_common::object::{Data, ObjectVersion, Part};
use s3s::{S3Result, dto, s3_error};

use super::error::{invalid_argument, part_number_out_of_range, unsatisfiable};

/// Parts of an object, as S3 says.
const PART_NUMBER_MAX: i32 = 10_000;

/// What a read takes of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Selection {
    /// The bytes.
    pub(super) range: Range<u64>,
    /// Whether the client asked for less than all: the answer is 206 then.
    pub(super) partial: bool,
    /// The part that was asked for by its number, if it is one of a multipart object.
    pub(super) part: Option<Part>,
    /// How many parts the object has, told to who asks by part number.
    pub(super) parts_count: Option<u16>,
}

impl Selection {
    /// `Content-Range`, for a part of an object.
    pub(super) fn content_range(&self, size: u64) -> Option<String> {
        let last = self.range.end.checked_sub(1)?;
        self.partial.then(|| format!("bytes {}-{last}/{size}", self.range.start))
    }

    /// Bytes.
    pub(super) fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// What a `Range` header asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ByteRange {
    /// All: there is no header, or one that is ignored.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that there are none of.
    Unsatisfiable,
}

/// Out of `Range` alone. One that makes no sense, or names several ranges, is ignored as S3 does.
pub(crate) fn select(header: Option<&str>, size: u64) -> ByteRange {
    let Some(range) = header.and_then(|header| dto::Range::parse(header).ok()) else { return ByteRange::Whole };
    resolve(&range, size).map_or(ByteRange::Unsatisfiable, ByteRange::Part)
}

/// Out of `Range` and `partNumber`.
pub(super) fn choose(
    version: &ObjectVersion,
    range: Option<&dto::Range>,
    part_number: Option<i32>,
) -> S3Result<Selection> {
    let size = version.object.size;
    match (range, part_number) {
        (Some(_), Some(_)) => {
            Err(s3_error!(InvalidRequest, "Cannot specify both Range header and partNumber query parameter"))
        }
        (None, Some(number)) => select_part(version, number),
        (Some(range), None) => {
            let range = resolve(range, size).ok_or_else(|| unsatisfiable(size))?;
            Ok(Selection { range, partial: true, part: None, parts_count: None })
        }
        (None, None) => Ok(Selection { range: 0..size, partial: false, part: None, parts_count: None }),
    }
}

/// `x-amz-copy-source-range`: both ends are named and within the source.
pub(super) fn of_copy_source(text: &str, size: u64) -> S3Result<Range<u64>> {
    let parse = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let ends = text.strip_prefix("bytes=").and_then(|ends| ends.split_once('-'));
    match ends.and_then(|(first, last)| Some((parse(first)?, parse(last)?))) {
        Some((first, last)) if first > last => Err(malformed_copy_range()),
        Some((_, last)) if last >= size => Err(unsatisfiable(size)),
        Some((first, last)) => Ok(first..last + 1),
        None => Err(malformed_copy_range()),
    }
}

fn malformed_copy_range() -> s3s::S3Error {
    invalid_argument(
        "x-amz-copy-source-range",
        "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
    )
}

/// The bytes of a range; nothing when it lies outside. See RFC 9110 section 14.1.2.
fn resolve(range: &dto::Range, size: u64) -> Option<Range<u64>> {
    match *range {
        dto::Range::Int { first, .. } if first >= size => None,
        dto::Range::Int { first, last } => Some(first..last.map_or(size, |last| last.saturating_add(1).min(size))),
        dto::Range::Suffix { length } if length == 0 || size == 0 => None,
        dto::Range::Suffix { length } => Some(size.saturating_sub(length)..size),
    }
}

fn select_part(version: &ObjectVersion, number: i32) -> S3Result<Selection> {
    if !(1..=PART_NUMBER_MAX).contains(&number) {
        return Err(part_number_out_of_range());
    }
    let size = version.object.size;
    match (version.object.etag.parts, &version.object.data) {
        (Some(count), Data::Parts(parts)) => {
            let place = usize::try_from(number - 1).unwrap_or(usize::MAX);
            let part = parts.get(place).ok_or_else(|| s3_error!(InvalidPart))?;
            let start = parts[..place].iter().map(|part| part.length).sum::<u64>();
            let range = start..start + part.length;
            // No range names no bytes: a last part of none is told without one.
            Ok(Selection { partial: part.length > 0, range, part: Some(part.clone()), parts_count: Some(count) })
        }
        // An object that was put whole is its own first part.
        (parts_count, _) if number == 1 => Ok(Selection { range: 0..size, partial: size > 0, part: None, parts_count }),
        _ => Err(s3_error!(InvalidPart)),
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteRange, of_copy_source, resolve, select};
    use s3s::dto::Range;

    #[test]
    fn ranges_are_cut_to_the_object() {
        assert_eq!(resolve(&Range::Int { first: 4, last: Some(7) }, 11), Some(4..8));
        assert_eq!(resolve(&Range::Int { first: 4, last: None }, 11), Some(4..11));
        assert_eq!(resolve(&Range::Int { first: 4, last: Some(u64::MAX) }, 11), Some(4..11));
        assert_eq!(resolve(&Range::Suffix { length: 7 }, 11), Some(4..11));
        assert_eq!(resolve(&Range::Suffix { length: 70 }, 11), Some(0..11));
    }

    #[test]
    fn ranges_outside_are_not_satisfiable() {
        assert_eq!(resolve(&Range::Int { first: 11, last: None }, 11), None);
        assert_eq!(resolve(&Range::Int { first: 0, last: Some(5) }, 0), None);
        assert_eq!(resolve(&Range::Suffix { length: 0 }, 11), None);
        assert_eq!(resolve(&Range::Suffix { length: 5 }, 0), None);
    }

    #[test]
    fn a_header_without_sense_is_ignored() {
        assert_eq!(select(Some("bytes=4-7"), 11), ByteRange::Part(4..8));
        assert_eq!(select(Some("bytes=11-"), 11), ByteRange::Unsatisfiable);
        for header in [None, Some("bytes=0-1,3-4"), Some("bytes=5-4"), Some("lines=1-2")] {
            assert_eq!(select(header, 11), ByteRange::Whole);
        }
    }

    #[test]
    fn a_copy_names_both_ends() {
        assert_eq!(of_copy_source("bytes=0-4", 5).expect("within"), 0..5);
        assert_eq!(of_copy_source("bytes=0-21", 5).expect_err("outside").code().as_str(), "InvalidRange");
        for text in [
            "0-2",
            "bytes=0",
            "bytes=hello-world",
            "bytes=0-bar",
            "bytes=hello-",
            "bytes=0-2,3-5",
            "bytes=-3",
            "bytes=2-1",
            "bytes=+1-2",
        ] {
            assert_eq!(of_copy_source(text, 5).expect_err(text).code().as_str(), "InvalidArgument", "{text}");
        }
    }
}
