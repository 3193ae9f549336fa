//! Which headers hold a key of the client's (SSE-C). What came in them is told to nobody, in no answer and no log, and they are taken
//! as headers alone: a URL is written down wherever it goes.

use crate::query;

const KEYS: [&str; 2] =
    ["x-amz-server-side-encryption-customer-key", "x-amz-copy-source-server-side-encryption-customer-key"];

/// Whether it is one of them.
pub(crate) fn is_client_key(name: &str) -> bool {
    KEYS.iter().any(|key| key.eq_ignore_ascii_case(name))
}

/// Whether a query has one, however it is written.
pub(crate) fn has_client_key(query: Option<&str>) -> bool {
    query::pairs(query).any(|(name, _)| is_client_key(&name))
}

/// A path and its query without the keys that are in it.
pub(crate) fn without_client_keys(path_and_query: &str) -> String {
    let Some((path, query)) = path_and_query.split_once('?').filter(|(_, query)| has_client_key(Some(query))) else {
        return path_and_query.to_owned();
    };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if has_client_key(Some(pair)) => format!("{name}=REDACTED"),
        _ => pair.to_owned(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::{KEYS, without_client_keys};

    #[test]
    fn keys_are_left_out_however_they_are_written() {
        for path in ["/b/k", "/b/k?", "/b/k?acl&versionId=null&x-amz-server-side-encryption-customer-key-md5=a"] {
            assert_eq!(without_client_keys(path), path);
        }
        for key in KEYS {
            for name in [key.to_owned(), key.to_ascii_uppercase(), key.replace('-', "%2D")] {
                let told = without_client_keys(&format!("/b/k?acl&{name}=c2VjcmV0=&x=1"));
                assert_eq!(told, format!("/b/k?acl&{name}=REDACTED&x=1"));
            }
        }
    }
}
