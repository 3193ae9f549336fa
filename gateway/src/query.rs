//! The parameters of a URL, decoded as s3s decodes them: names, too, so that a parameter is the same one to whoever asks for it,
//! however it is written. Plus signs are spaces. What is signed is put together elsewhere, of the parameters as they came.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// All of them in their order; one without a value has an empty one.
pub(crate) fn pairs(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// The first value of a parameter.
pub(crate) fn value(query: Option<&str>, wanted: &str) -> Option<String> {
    pairs(query).find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
}

/// Whether there is such a parameter, with a value or without.
pub(crate) fn has(query: Option<&str>, wanted: &str) -> bool {
    pairs(query).any(|(name, _)| name == wanted)
}

fn decode(text: &str) -> Cow<'_, str> {
    match text.contains('+') {
        true => percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned().into(),
        false => percent_decode_str(text).decode_utf8_lossy(),
    }
}

#[cfg(test)]
mod tests {
    use super::{has, pairs, value};

    #[test]
    fn a_parameter_is_the_same_however_it_is_written() {
        for query in ["acl", "a%63l=", "x=1&%61%63%6C=2", "&&acl&"] {
            assert!(has(Some(query), "acl"), "{query}");
        }
        for query in ["", "Acl", "xacl", "x=acl", "acl%20"] {
            assert!(!has(Some(query), "acl"), "{query}");
        }
        assert!(!has(None, "acl"));
        assert_eq!(value(Some("%70refix=a%2Fb+c%2B&prefix=d"), "prefix").as_deref(), Some("a/b c+"));
        assert_eq!(value(Some("prefix"), "prefix").as_deref(), Some(""));
        assert_eq!(value(Some("x=1"), "prefix"), None);
        assert_eq!(pairs(Some("a=1&b&c=d=e")).count(), 3);
    }
}
