//! The values that operators compare, out of text: numbers, moments, networks. What cannot be read is no value.

use std::net::IpAddr;

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

/// Digits behind the point that are kept.
const FRACTION_DIGITS: usize = 9;

/// Digits before the point that are read: more than any size or count has.
const WHOLE_DIGITS_MAX: usize = 24;

/// A decimal number, exact, in billionths.
pub(super) fn number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || whole.len() > WHOLE_DIGITS_MAX || fraction.len() > FRACTION_DIGITS {
        return None;
    }
    let billionths: i128 = format!("{whole}{fraction:0<width$}", width = FRACTION_DIGITS).parse().ok()?;
    Some(if negative { -billionths } else { billionths })
}

/// A moment in nanoseconds since the Unix epoch: one of the W3C's forms of ISO 8601, or Unix seconds.
pub(super) fn moment(text: &str) -> Option<i128> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() != 4 {
        return text.parse::<i64>().ok().map(|seconds| i128::from(seconds) * 1_000_000_000);
    }
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(moment.unix_timestamp_nanos());
    }
    let minutes = format_description!("[year]-[month]-[day]T[hour]:[minute]Z");
    if let Ok(moment) = PrimitiveDateTime::parse(text, minutes) {
        return Some(moment.assume_utc().unix_timestamp_nanos());
    }
    let whole = match text.len() {
        4 => format!("{text}-01-01"),
        7 => format!("{text}-01"),
        _ => text.to_owned(),
    };
    let day = Date::parse(&whole, format_description!("[year]-[month]-[day]")).ok()?;
    Some(day.midnight().assume_utc().unix_timestamp_nanos())
}

/// `true` or `false`, in any case.
pub(super) fn truth(text: &str) -> Option<bool> {
    [true, false].into_iter().find(|truth| text.eq_ignore_ascii_case(if *truth { "true" } else { "false" }))
}

/// Addresses with the same beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Network {
    address: IpAddr,
    /// How many bits they share.
    prefix: u8,
}

impl Network {
    /// `10.0.0.0/8`, or one address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => prefix.parse().ok()?,
            Some(_) => return None,
            None => bits,
        };
        (prefix <= bits).then_some(Self { address, prefix })
    }

    /// Whether the address is one of them.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(theirs)) => {
                let shift = 32 - u32::from(self.prefix);
                mine.to_bits().checked_shr(shift) == theirs.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(mine), IpAddr::V6(theirs)) => {
                let shift = 128 - u32::from(self.prefix);
                mine.to_bits().checked_shr(shift) == theirs.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }

    /// Whether the range is so broad that S3 calls it public: more than a /8, or a /32 of IPv6.
    pub(super) fn is_broad(&self) -> bool {
        self.prefix < if self.address.is_ipv4() { 8 } else { 32 }
    }
}

#[cfg(test)]
mod tests {
    use super::{Network, moment, number, truth};

    #[test]
    fn numbers_are_exact() {
        assert_eq!(number("10"), Some(10_000_000_000));
        assert_eq!(number("-0.5"), Some(-500_000_000));
        assert_eq!(number("007"), number("7.0"));
        assert!(number("9007199254740993") > number("9007199254740992"));
        for wrong in ["", "-", ".5", "5.", "1e3", "+1", "0x10", "ten", " 1", "1.0000000001", "-.1"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn moments_have_many_forms() {
        let noon = Some(1_583_150_400 * 1_000_000_000_i128);
        for text in ["2020-03-02T12:00:00Z", "2020-03-02T12:00Z", "2020-03-02T13:00:00+01:00", "1583150400"] {
            assert_eq!(moment(text), noon, "{text}");
        }
        assert_eq!(moment("2020-03-02"), noon.map(|noon| noon - 12 * 3600 * 1_000_000_000));
        assert_eq!(moment("2020"), moment("2020-01-01"));
        assert_eq!(moment("2020-02"), moment("2020-02-01T00:00:00.0Z"));
        for wrong in ["", "yesterday", "2020-13-01", "2020-02-30", "12:00", "-1"] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn networks_contain_their_addresses() {
        let contains = |network: &str, address: &str| {
            Network::parse(network).expect("a network").contains(address.parse().expect("an address"))
        };
        assert!(contains("10.0.0.0/8", "10.255.1.2"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("10.1.2.3", "10.1.2.3"));
        assert!(!contains("10.1.2.3/32", "10.1.2.4"));
        assert!(contains("0.0.0.0/0", "255.1.2.3"));
        assert!(contains("10.1.2.77/24", "10.1.2.3"), "what is behind the prefix does not count");
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(contains("2001:db8::/32", "2001:db8:1::"));
        assert!(contains("::/0", "2001::"));
        assert!(!contains("::/0", "10.0.0.1"));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/+8", "host"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn truth_is_written_in_any_case() {
        assert_eq!((truth("TRUE"), truth("false"), truth("1")), (Some(true), Some(false), None));
    }
}
