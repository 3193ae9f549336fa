//! What listings share: how names are written, how many are asked for, and where the next page goes on.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{EncodingType, OptionalObjectAttributes};
use s3s::{S3Error, S3Result};

use super::error::invalid_argument;

/// Entries of a page, as S3 says.
const ENTRIES_MAX: i32 = 1_000;

/// What `encoding-type=url` leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The first byte of a continuation token: its version.
const TOKEN_VERSION: u8 = 1;

/// How names are written in a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Names {
    /// As they are.
    Plain,
    /// URL-encoded, which the listing says.
    Encoded,
}

impl Names {
    /// Encoded where the client asks for it, and where XML 1.0 cannot carry one of the names: S3 would answer with a
    /// document that no parser takes.
    pub(super) fn choose<'a>(asked: Option<&EncodingType>, names: impl IntoIterator<Item = &'a str>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            Some(EncodingType::URL) => Ok(Names::Encoded),
            Some(_) => Err(invalid_argument("encoding-type", "Invalid Encoding Method specified in Request")),
            None if names.into_iter().all(fits_xml) => Ok(Names::Plain),
            None => Ok(Names::Encoded),
        }
    }

    /// A name as the listing writes it.
    pub(super) fn write(self, name: &str) -> String {
        match self {
            Names::Plain => name.to_owned(),
            Names::Encoded => encode(name),
        }
    }

    /// What the listing says about its names.
    pub(super) fn encoding_type(self) -> Option<EncodingType> {
        (self == Names::Encoded).then(|| EncodingType::from_static(EncodingType::URL))
    }
}

/// A name in an answer that has no encoding type: as it is wherever XML can carry it, encoded where it cannot.
pub(super) fn xml_text(name: &str) -> String {
    if fits_xml(name) { name.to_owned() } else { encode(name) }
}

/// How many entries a page may have.
pub(super) fn page_size(asked: Option<i32>, name: &str) -> S3Result<i32> {
    match asked {
        None => Ok(ENTRIES_MAX),
        Some(number) if number < 0 => {
            Err(invalid_argument(name, format!("Argument {name} must be an integer between 0 and 2147483647")))
        }
        Some(number) => Ok(number.min(ENTRIES_MAX)),
    }
}

/// An argument that means nothing when it is empty.
pub(super) fn non_empty(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// A name as a token that clients give back and do not read.
pub(super) fn token(after: &str) -> String {
    let mut bytes = vec![TOKEN_VERSION];
    bytes.extend_from_slice(after.as_bytes());
    BASE64.encode(bytes)
}

/// The name in a token.
pub(super) fn parse_token(token: &str) -> S3Result<String> {
    let name = BASE64.decode(token).ok().and_then(|bytes| match bytes.split_first() {
        Some((&TOKEN_VERSION, name)) => String::from_utf8(name.to_vec()).ok(),
        _ => None,
    });
    name.ok_or_else(foreign_token)
}

/// What is said of a token that no page of ours had.
pub(super) fn foreign_token() -> S3Error {
    invalid_argument("continuation-token", "The continuation token provided is incorrect")
}

/// `x-amz-optional-object-attributes`: how objects are restored, which none is, so that entries say nothing of it.
pub(super) fn check_optional_attributes(headers: &HeaderMap) -> S3Result {
    let asked = headers.get_all("x-amz-optional-object-attributes").iter();
    let mut names = asked.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    if names.all(|name| name == OptionalObjectAttributes::RESTORE_STATUS.as_bytes()) {
        Ok(())
    } else {
        Err(invalid_argument("x-amz-optional-object-attributes", "Invalid attribute name specified"))
    }
}

fn encode(name: &str) -> String {
    utf8_percent_encode(name, UNRESERVED).to_string()
}

/// Whether XML 1.0 carries the text unchanged: see its production 2, and section 2.11 on carriage returns.
pub(super) fn fits_xml(text: &str) -> bool {
    text.chars().all(|character| match character {
        '\t' | '\n' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        character => character >= ' ',
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use s3s::dto::EncodingType;

    use super::{Names, page_size, parse_token, token};

    #[test]
    fn names_are_encoded_on_request() {
        let url = EncodingType::from_static("url");
        let names = Names::choose(Some(&url), []).expect("known");
        assert_eq!(names.write("foo+1/ab c"), "foo%2B1/ab%20c");
        assert!(Names::choose(Some(&EncodingType::from_static("xml")), []).is_err());
    }

    #[test]
    fn one_odd_name_encodes_the_page() {
        assert_eq!(Names::choose(None, ["a b", "é\n"]).expect("known"), Names::Plain);
        for odd in ["a\u{1}", "\0", "a\r", "\u{ffff}"] {
            assert_eq!(Names::choose(None, ["a", odd]).expect("known"), Names::Encoded);
        }
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(page_size(None, "max-keys").expect("valid"), 1000);
        assert_eq!(page_size(Some(0), "max-keys").expect("valid"), 0);
        assert_eq!(page_size(Some(5000), "max-keys").expect("valid"), 1000);
        assert!(page_size(Some(-1), "max-keys").is_err());
    }

    #[test]
    fn foreign_tokens_are_refused() {
        for token in ["x", "!", "AmFi", ""] {
            assert!(parse_token(token).is_err(), "{token}");
        }
    }

    proptest! {
        #[test]
        fn tokens_come_back(name in any::<String>()) {
            let token = token(&name);
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            prop_assert_eq!(parse_token(&token).expect("our own"), name);
        }
    }
}
