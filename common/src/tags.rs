//! Tags: what a set of them may be, and how a header writes one. Pure. See "Categorizing your objects using tags" in the
//! Amazon S3 user guide, and "Using cost allocation S3 bucket tags".

use std::collections::BTreeMap;

use percent_encoding::percent_decode;

/// A set of tags, by key. S3 shows them in the order of their keys.
pub type Tags = BTreeMap<String, String>;

/// Tags of one object.
pub const OBJECT_TAGS_MAX: usize = 10;

/// Tags of one bucket.
pub const BUCKET_TAGS_MAX: usize = 50;

/// The longest key, in characters.
const KEY_CHARS_MAX: usize = 128;

/// The longest value, in characters.
const VALUE_CHARS_MAX: usize = 256;

/// Keys that begin with it are AWS's own.
const RESERVED_PREFIX: &str = "aws:";

/// What a key or a value may hold beside letters, digits and spaces of any script.
const PUNCTUATION: &str = "+-=._:/@";

/// Why something is no set of tags.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TagError {
    /// There are more than may be.
    #[error("there are more than {0} tags")]
    TooMany(usize),
    /// A key is empty, too long, or holds what no key may.
    #[error("a tag's key is invalid")]
    InvalidKey(String),
    /// A value is too long, or holds what no value may.
    #[error("a tag's value is invalid")]
    InvalidValue {
        /// The tag's key.
        key: String,
        /// The value.
        value: String,
    },
    /// A key is said twice.
    #[error("a tag's key is given twice")]
    Duplicate(String),
    /// A key begins like AWS's own.
    #[error("a tag's key is reserved")]
    Reserved(String),
    /// The header is not in the form of a URL's query.
    #[error("the tags are not encoded as a query")]
    Encoding,
}

/// The set of these tags, at most `most`.
pub fn tags(pairs: impl IntoIterator<Item = (String, String)>, most: usize) -> Result<Tags, TagError> {
    let mut tags = Tags::new();
    for (key, value) in pairs {
        check(&key, &value)?;
        if tags.contains_key(&key) {
            return Err(TagError::Duplicate(key));
        }
        tags.insert(key, value);
    }
    if tags.len() > most { Err(TagError::TooMany(most)) } else { Ok(tags) }
}

/// The set that `x-amz-tagging` writes as a URL's query: `team=storage&draft`.
pub fn of_header(text: &str, most: usize) -> Result<Tags, TagError> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(key)?, decode(value)?))
    });
    tags(pairs.collect::<Result<Vec<_>, TagError>>()?, most)
}

fn check(key: &str, value: &str) -> Result<(), TagError> {
    let is_space = |ch: char| ch.is_whitespace() && !ch.is_control();
    let is_good = |text: &str| text.chars().all(|ch| ch.is_alphanumeric() || is_space(ch) || PUNCTUATION.contains(ch));
    if key.get(..RESERVED_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_PREFIX)) {
        return Err(TagError::Reserved(key.to_owned()));
    }
    if key.is_empty() || key.chars().count() > KEY_CHARS_MAX || !is_good(key) {
        return Err(TagError::InvalidKey(key.to_owned()));
    }
    if value.chars().count() > VALUE_CHARS_MAX || !is_good(value) {
        return Err(TagError::InvalidValue { key: key.to_owned(), value: value.to_owned() });
    }
    Ok(())
}

/// A plus is a space in a query.
fn decode(text: &str) -> Result<String, TagError> {
    let spaced = text.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8().map(|text| text.into_owned()).map_err(|_| TagError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::{OBJECT_TAGS_MAX, TagError, Tags, of_header, tags};

    fn of(pairs: &[(&str, &str)]) -> Result<Tags, TagError> {
        tags(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())), OBJECT_TAGS_MAX)
    }

    fn invalid_value(key: &str, value: &str) -> TagError {
        TagError::InvalidValue { key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn a_header_is_a_query() {
        let parsed = of_header("team=storage%20+a&draft&a%2Bb=%C3%A9&", OBJECT_TAGS_MAX).expect("valid");
        let parsed: Vec<_> = parsed.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(parsed, [("a+b", "é"), ("draft", ""), ("team", "storage  a")]);
        assert_eq!(of_header("", OBJECT_TAGS_MAX), Ok(Tags::new()));
        assert_eq!(of_header("a=%ff", OBJECT_TAGS_MAX), Err(TagError::Encoding));
        assert_eq!(of_header("a=1&a=2", OBJECT_TAGS_MAX), Err(TagError::Duplicate("a".to_owned())));
        assert_eq!(of_header("=1", OBJECT_TAGS_MAX), Err(TagError::InvalidKey(String::new())));
        assert_eq!(of_header("a=b=c", OBJECT_TAGS_MAX).expect("valid")["a"], "b=c");
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        assert!(of(&[(&"é".repeat(128), &"é".repeat(256))]).is_ok());
        assert_eq!(of(&[(&"é".repeat(129), "")]), Err(TagError::InvalidKey("é".repeat(129))));
        assert_eq!(of(&[("a", &"é".repeat(257))]), Err(invalid_value("a", &"é".repeat(257))));
    }

    #[test]
    fn what_no_tag_may_hold_is_refused() {
        assert!(of(&[("a b+-=._:/@", "Ünïcødé 日本 7")]).is_ok());
        for bad in ["a!", "a\n", "a\t", "a<b", "a;b", "💾"] {
            assert_eq!(of(&[(bad, "")]), Err(TagError::InvalidKey(bad.to_owned())), "{bad}");
            assert_eq!(of(&[("a", bad)]), Err(invalid_value("a", bad)), "{bad}");
        }
        assert_eq!(of(&[("", "a")]), Err(TagError::InvalidKey(String::new())));
        assert_eq!(of(&[("aws:a", "")]), Err(TagError::Reserved("aws:a".to_owned())));
        assert_eq!(of(&[("AWS:a", "")]), Err(TagError::Reserved("AWS:a".to_owned())));
        assert!(of(&[("awsome", "aws:a")]).is_ok());
    }

    #[test]
    fn an_object_has_ten() {
        let many = |count: usize| tags((0..count).map(|number| (number.to_string(), String::new())), OBJECT_TAGS_MAX);
        assert_eq!(many(10).expect("valid").len(), 10);
        assert_eq!(many(11), Err(TagError::TooMany(10)));
    }
}
