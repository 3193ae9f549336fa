//! Headers by which a client asks for something that is not built. They are refused, never ignored: an object that its
//! owner believes locked would not be.

use http::HeaderMap;

/// Prefixes of headers that promise encryption and locks. Those in [`ENCRYPTION`] are kept.
const PREFIXES: &[&str] = &[
    "x-amz-server-side-encryption",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-object-lock-",
    "x-amz-checksum-xxhash",
];

/// The headers of encryption that are built: operations obey or refuse them.
const ENCRYPTION: &[&str] = &[
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-server-side-encryption-context",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-customer-key-md5",
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-copy-source-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key-md5",
];

/// Headers that promise something by themselves.
const HEADERS: &[&str] = &[
    "x-amz-annotation-directive",
    "x-amz-bucket-namespace",
    "x-amz-checksum-md5",
    "x-amz-checksum-sha512",
    "x-amz-mfa",
    "x-amz-object-ownership",
    "x-amz-rename-source",
    "x-amz-write-offset-bytes",
];

/// This header asks for something that is not built.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotBuilt(pub String);

/// Refuses headers that promise what is not built.
pub fn check(headers: &HeaderMap) -> Result<(), NotBuilt> {
    for name in headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with("x-amz-")) {
        let promises = PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || HEADERS.contains(&name);
        if promises && !ENCRYPTION.contains(&name) {
            return Err(NotBuilt(name.to_owned()));
        }
    }
    let locked = headers.get("x-amz-bucket-object-lock-enabled");
    if locked.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"false")) {
        return Err(NotBuilt("x-amz-bucket-object-lock-enabled".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{NotBuilt, check};

    fn check_one(name: &'static str, value: &'static str) -> Result<(), NotBuilt> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        check(&headers)
    }

    #[test]
    fn what_is_not_built_is_refused() {
        for name in ["x-amz-server-side-encryption-of-tomorrow", "x-amz-object-lock-mode"] {
            assert_eq!(check_one(name, "x"), Err(NotBuilt(name.to_owned())));
        }
        assert!(check_one("x-amz-bucket-object-lock-enabled", "true").is_err());
    }

    #[test]
    fn what_holds_anyway_passes() {
        assert_eq!(check_one("x-amz-acl", "public-read"), Ok(()));
        assert_eq!(check_one("x-amz-grant-read", "id=x"), Ok(()));
        assert_eq!(check_one("x-amz-server-side-encryption", "AES256"), Ok(()));
        assert_eq!(check_one("x-amz-request-payer", "requester"), Ok(()));
        assert_eq!(check_one("x-amz-bucket-object-lock-enabled", "False"), Ok(()));
        assert_eq!(check_one("x-amz-meta-x-amz-mfa", "1"), Ok(()));
    }
}
