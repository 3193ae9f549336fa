//! Which names a bucket may have. See "General purpose bucket naming rules" in the S3 user guide.

use std::net::Ipv4Addr;

/// Shortest and longest.
const LENGTHS: std::ops::RangeInclusive<usize> = 3..=63;

const RESERVED_PREFIXES: &[&str] = &["xn--", "sthree-", "amzn-s3-demo-"];

const RESERVED_SUFFIXES: &[&str] = &["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// Paths of the gateway's own.
const RESERVED: &[&str] = &["upload"];

/// Whether a bucket may be called that.
pub(crate) fn is_bucket_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        label.bytes().all(|byte| edge(byte) || byte == b'-')
            && label.bytes().next().is_some_and(edge)
            && label.bytes().next_back().is_some_and(edge)
    };
    LENGTHS.contains(&name.len())
        && name.split('.').all(is_label)
        && name.parse::<Ipv4Addr>().is_err()
        && !RESERVED.contains(&name)
        && !RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !RESERVED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::is_bucket_name;

    #[test]
    fn names_within_the_rules() {
        let longest = "a".repeat(63);
        for name in ["abc", "0ab", "a.b-c.1", "192.168.5", "uploads", "a--b", &longest] {
            assert!(is_bucket_name(name), "{name}");
        }
    }

    #[test]
    fn names_outside_the_rules() {
        let too_long = "a".repeat(64);
        let bad = [
            "",
            "a",
            "aa",
            "_abc",
            "foo_bar",
            "foo-",
            "-foo",
            "foo..bar",
            "foo.-bar",
            "foo-.bar",
            ".foo",
            "foo.",
            "Foo",
            "fo o",
            "192.168.5.123",
            "xn--abc",
            "abc-s3alias",
            "abc--ol-s3",
            "upload",
            "föö",
            "a/b",
            &too_long,
        ];
        for name in bad {
            assert!(!is_bucket_name(name), "{name}");
        }
    }
}
