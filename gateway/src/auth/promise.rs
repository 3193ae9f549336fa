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

/// The headers of locks that are built, of operations that make an object.
const LOCKS: &[&str] =
    &["x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date", "x-amz-object-lock-legal-hold"];

/// Headers that promise something by themselves.
const HEADERS: &[&str] = &[
    "x-amz-bucket-namespace",
    "x-amz-bucket-object-lock-token",
    "x-amz-checksum-md5",
    "x-amz-checksum-sha512",
    "x-amz-if-match-initiated-time",
    "x-amz-mfa",
    "x-amz-object-annotation-directive",
    RENAME_SOURCE,
    WRITE_OFFSET,
];

/// The header that says what to rename.
const RENAME_SOURCE: &str = "x-amz-rename-source";

/// The header that adds to an object.
const WRITE_OFFSET: &str = "x-amz-write-offset-bytes";

/// This header asks for something that is not built.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotBuilt(pub String);

/// The header that makes a bucket whose versions can be locked.
const BUCKET_LOCK: &str = "x-amz-bucket-object-lock-enabled";

/// Refuses headers that promise what is not built, or what this operation does not do.
pub fn check(headers: &HeaderMap, operation: &str) -> Result<(), NotBuilt> {
    let locks = matches!(operation, "PutObject" | "CopyObject" | "CreateMultipartUpload");
    for name in headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with("x-amz-")) {
        let promises = PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || HEADERS.contains(&name);
        let is_kept = ENCRYPTION.contains(&name)
            || (locks && LOCKS.contains(&name))
            || (operation == "PutObject" && name == WRITE_OFFSET)
            || (operation == "RenameObject" && name == RENAME_SOURCE);
        if promises && !is_kept {
            return Err(NotBuilt(name.to_owned()));
        }
    }
    let locked = headers.get(BUCKET_LOCK).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"false"));
    if locked && operation != "CreateBucket" {
        return Err(NotBuilt(BUCKET_LOCK.to_owned()));
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
        check(&headers, "UploadPart")
    }

    #[test]
    fn what_is_not_built_is_refused() {
        for name in ["x-amz-server-side-encryption-of-tomorrow", "x-amz-object-lock-mode"] {
            assert_eq!(check_one(name, "x"), Err(NotBuilt(name.to_owned())));
        }
        assert!(check_one("x-amz-bucket-object-lock-enabled", "true").is_err());
    }

    #[test]
    fn a_lock_is_kept_by_what_makes_an_object() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-object-lock-mode", HeaderValue::from_static("GOVERNANCE"));
        assert_eq!(check(&headers, "PutObject"), Ok(()));
        assert!(check(&headers, "CompleteMultipartUpload").is_err());
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-write-offset-bytes", HeaderValue::from_static("0"));
        assert_eq!(check(&headers, "PutObject"), Ok(()));
        assert!(check(&headers, "CreateMultipartUpload").is_err());
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
