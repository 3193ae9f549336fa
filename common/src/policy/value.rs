//! The values that operators compare, out of text: numbers, moments, truths. What cannot be read is no value.

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

#[cfg(test)]
mod tests {
    use super::{moment, number, truth};

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
    fn truth_is_written_in_any_case() {
        assert_eq!((truth("TRUE"), truth("false"), truth("1")), (Some(true), Some(false), None));
    }
}
