//! Headers by which a client asks for something that is not built. They are refused, never ignored: an object that its
//! owner believes encrypted, locked or shared would be none of it.

use http::HeaderMap;

/// Prefixes of headers that promise encryption, locks and grants.
const PREFIXES: &[&str] = &[
    "x-amz-server-side-encryption",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-object-lock-",
    "x-amz-grant-",
    "x-amz-checksum-xxhash",
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
    "x-amz-tagging",
    "x-amz-write-offset-bytes",
];

/// Canned ACLs that S3 knows beside those that are built.
const OTHER_ACLS: &[&str] = &["aws-exec-read", "log-delivery-write"];

/// Why the headers are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// This header asks for something that is not built.
    NotBuilt(String),
    /// The canned ACL is none that S3 knows.
    UnknownAcl,
}

/// Refuses headers that promise what is not built. `is_built` knows the canned ACLs that are.
pub fn check(headers: &HeaderMap, is_built: fn(&str) -> bool) -> Result<(), Refused> {
    for name in headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with("x-amz-")) {
        if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || HEADERS.contains(&name) {
            return Err(Refused::NotBuilt(name.to_owned()));
        }
    }
    let locked = headers.get("x-amz-bucket-object-lock-enabled");
    if locked.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"false")) {
        return Err(Refused::NotBuilt("x-amz-bucket-object-lock-enabled".to_owned()));
    }
    headers.get_all("x-amz-acl").iter().try_for_each(|acl| check_acl(acl.as_bytes(), is_built))
}

fn check_acl(acl: &[u8], is_built: fn(&str) -> bool) -> Result<(), Refused> {
    match std::str::from_utf8(acl) {
        Ok(acl) if is_built(acl) => Ok(()),
        Ok(acl) if OTHER_ACLS.contains(&acl) => Err(Refused::NotBuilt("x-amz-acl".to_owned())),
        _ => Err(Refused::UnknownAcl),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Refused, check};

    fn check_one(name: &'static str, value: &'static str) -> Result<(), Refused> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        check(&headers, |acl| acl == "private" || acl == "public-read")
    }

    #[test]
    fn what_is_not_built_is_refused() {
        for name in [
            "x-amz-server-side-encryption",
            "x-amz-server-side-encryption-customer-key",
            "x-amz-object-lock-mode",
            "x-amz-grant-read",
            "x-amz-tagging",
        ] {
            assert_eq!(check_one(name, "x"), Err(Refused::NotBuilt(name.to_owned())));
        }
        assert_eq!(check_one("x-amz-acl", "aws-exec-read"), Err(Refused::NotBuilt("x-amz-acl".to_owned())));
        assert_eq!(check_one("x-amz-acl", "everyone"), Err(Refused::UnknownAcl));
        assert!(check_one("x-amz-bucket-object-lock-enabled", "true").is_err());
    }

    #[test]
    fn what_holds_anyway_passes() {
        assert_eq!(check_one("x-amz-acl", "private"), Ok(()));
        assert_eq!(check_one("x-amz-acl", "public-read"), Ok(()));
        assert_eq!(check_one("x-amz-request-payer", "requester"), Ok(()));
        assert_eq!(check_one("x-amz-bucket-object-lock-enabled", "False"), Ok(()));
        assert_eq!(check_one("x-amz-meta-x-amz-tagging", "1"), Ok(()));
    }
}
