//! A record as a line of text: the fields in their order, and nothing in them that would end a field or a line too soon.
//!
//! See "Amazon S3 server access log format" in the S3 user guide. Three fields are always empty here: cipher suite and TLS
//! version, because TLS ends before the gateway, and the access point, of which there are none.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::IpAddr;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use time::{Date, OffsetDateTime};

/// What an unquoted field cannot hold. S3 leaves quotes in what clients send as they are; a reader could not tell where such
/// a field ends.
const PLAIN: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'[').add(b']');

/// What a quoted field cannot hold.
const QUOTED: &AsciiSet = &CONTROLS.add(b'"');

/// What stands for nothing.
const NOTHING: &str = "-";

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The fields, by S3's names for them.
#[derive(Clone, Default, Debug)]
pub(super) struct Record<'a> {
    pub(super) bucket_owner: String,
    pub(super) bucket: &'a str,
    pub(super) time_ms: u64,
    pub(super) remote_ip: Option<IpAddr>,
    pub(super) requester: Option<&'a str>,
    pub(super) request_id: &'a str,
    pub(super) operation: &'a str,
    pub(super) key: Option<&'a str>,
    pub(super) request_uri: Option<&'a str>,
    pub(super) http_status: Option<u16>,
    pub(super) error_code: Option<&'a str>,
    pub(super) bytes_sent: Option<u64>,
    pub(super) object_size: Option<u64>,
    pub(super) total_ms: Option<u64>,
    pub(super) turn_around_ms: Option<u64>,
    pub(super) referer: Option<&'a str>,
    pub(super) user_agent: Option<&'a str>,
    pub(super) version_id: Option<&'a str>,
    pub(super) host_id: &'a str,
    pub(super) signature_version: Option<&'a str>,
    pub(super) authentication_type: Option<&'a str>,
    pub(super) host_header: Option<&'a str>,
    pub(super) acl_required: bool,
}

impl Record<'_> {
    /// The line, with its end.
    pub(super) fn line(&self) -> String {
        let mut line = String::with_capacity(512);
        let mut field = |text: &str| {
            line.push_str(text);
            line.push(' ');
        };
        field(&self.bucket_owner);
        field(self.bucket);
        field(&time(self.time_ms));
        field(&self.remote_ip.map_or_else(|| NOTHING.to_owned(), |ip| ip.to_string()));
        field(&plain(self.requester));
        field(self.request_id);
        field(&plain(Some(self.operation)));
        field(&plain(self.key));
        field(&self.request_uri.map_or_else(|| NOTHING.to_owned(), |uri| quoted(Some(uri))));
        field(&number(self.http_status.map(u64::from)));
        field(&plain(self.error_code));
        for counted in [self.bytes_sent, self.object_size, self.total_ms, self.turn_around_ms] {
            field(&number(counted));
        }
        field(&quoted(self.referer));
        field(&quoted(self.user_agent));
        field(&plain(self.version_id));
        field(self.host_id);
        field(&plain(self.signature_version));
        field(NOTHING);
        field(&plain(self.authentication_type));
        field(&plain(self.host_header));
        field(NOTHING);
        field(NOTHING);
        line.push_str(if self.acl_required { "Yes\n" } else { "-\n" });
        line
    }
}

fn time(unix_ms: u64) -> String {
    let (date, time) = civil(unix_ms);
    let (hour, minute, second) = time;
    let month = MONTHS[usize::from(u8::from(date.month())) - 1];
    format!("[{:02}/{month}/{:04}:{hour:02}:{minute:02}:{second:02} +0000]", date.day(), date.year())
}

/// The day and the time of day.
pub(super) fn civil(unix_ms: u64) -> (Date, (u8, u8, u8)) {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or_default();
    let moment = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    (moment.date(), moment.time().as_hms())
}

fn plain(text: Option<&str>) -> Cow<'_, str> {
    match text {
        Some(text) if !text.is_empty() => utf8_percent_encode(text, PLAIN).into(),
        _ => Cow::Borrowed(NOTHING),
    }
}

fn quoted(text: Option<&str>) -> String {
    let mut quoted = String::from("\"");
    let _ = match text {
        Some(text) if !text.is_empty() => write!(quoted, "{}", utf8_percent_encode(text, QUOTED)),
        _ => write!(quoted, "{NOTHING}"),
    };
    quoted.push('"');
    quoted
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| NOTHING.to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn a_record_has_all_fields_in_their_order() {
        let record = Record {
            bucket_owner: "79a5".to_owned(),
            bucket: "photos",
            time_ms: 1_549_411_238_999,
            remote_ip: Some("192.0.2.3".parse().expect("an address")),
            requester: Some("bcaf"),
            request_id: "3E57427F33A59F07",
            operation: "REST.GET.OBJECT",
            key: Some("a%20b"),
            request_uri: Some("GET /photos/a%20b?x-foo=bar HTTP/1.1"),
            http_status: Some(206),
            error_code: None,
            bytes_sent: Some(113),
            object_size: Some(4406),
            total_ms: Some(70),
            turn_around_ms: Some(10),
            referer: Some("http://www.example.com/page"),
            user_agent: Some("curl/7.15.1"),
            version_id: Some("3HL4"),
            host_id: "s9lz",
            signature_version: Some("SigV4"),
            authentication_type: Some("AuthHeader"),
            host_header: Some("photos.example.com"),
            acl_required: true,
        };
        assert_eq!(
            record.line(),
            "79a5 photos [06/Feb/2019:00:00:38 +0000] 192.0.2.3 bcaf 3E57427F33A59F07 REST.GET.OBJECT a%20b \
             \"GET /photos/a%20b?x-foo=bar HTTP/1.1\" 206 - 113 4406 70 10 \"http://www.example.com/page\" \"curl/7.15.1\" \
             3HL4 s9lz SigV4 - AuthHeader photos.example.com - - Yes\n"
        );
    }

    #[test]
    fn what_is_not_there_is_a_dash() {
        let record =
            Record { bucket_owner: "79a5".to_owned(), bucket: "b", request_id: "1", host_id: "h", ..Record::default() };
        assert_eq!(
            record.line(),
            "79a5 b [01/Jan/1970:00:00:00 +0000] - - 1 - - - - - - - - - \"-\" \"-\" - h - - - - - - -\n"
        );
    }

    #[test]
    fn nothing_that_clients_send_ends_a_field_or_a_line() {
        let record = Record {
            bucket_owner: "o".to_owned(),
            bucket: "b",
            request_id: "1",
            host_id: "h",
            request_uri: Some("GET /b/\"x HTTP/1.1"),
            user_agent: Some("a \"b\"\nc"),
            version_id: Some("1 2\n3"),
            host_header: Some("x y"),
            ..Record::default()
        };
        let line = record.line();
        assert_eq!(line.matches('\n').count(), 1);
        for part in ["\"GET /b/%22x HTTP/1.1\"", "\"a %22b%22%0Ac\"", " 1%202%0A3 ", " x%20y "] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
