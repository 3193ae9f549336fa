//! Headers by which a client asks for something that is not built, or that the operation at hand does not do. They are
//! refused, never ignored: an object that its owner believes locked would not be, and one that was to be replaced only if
//! nobody else had changed it would be replaced.
//!
//! Also headers that are numbers: s3s takes a number for as much of a text as looks like one.

use http::HeaderMap;

/// Prefixes of headers that promise encryption and locks.
const PREFIXES: &[&str] = &[
    "x-amz-server-side-encryption",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-object-lock-",
    "x-amz-checksum-xxhash",
];

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

/// Conditions. A read that does not judge them answers in full, as HTTP lets it; anything else must not be carried out.
const CONDITIONS: &[&str] = &["if-match", "if-modified-since", "if-none-match", "if-unmodified-since"];

/// The header that says what to rename.
const RENAME_SOURCE: &str = "x-amz-rename-source";

/// The header that adds to an object.
const WRITE_OFFSET: &str = "x-amz-write-offset-bytes";

/// Headers that operations obey, or refuse in words of S3's own.
struct Kept {
    headers: &'static [&'static str],
    operations: &'static [&'static str],
}

const KEPT: &[Kept] = &[
    Kept {
        headers: &[
            "x-amz-server-side-encryption",
            "x-amz-server-side-encryption-aws-kms-key-id",
            "x-amz-server-side-encryption-bucket-key-enabled",
            "x-amz-server-side-encryption-context",
        ],
        operations: &[
            "CopyObject",
            "CreateMultipartUpload",
            "PutObject",
            // S3 has a code of its own for who asks for encryption where something is read.
            "GetObject",
            "HeadObject",
        ],
    },
    Kept {
        // Some clients repeat in each part and in the end what they said of the upload, which is compared; nobody repeats the rest.
        headers: &["x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"],
        operations: &["CompleteMultipartUpload", "UploadPart", "UploadPartCopy"],
    },
    Kept {
        headers: &[
            "x-amz-server-side-encryption-customer-algorithm",
            "x-amz-server-side-encryption-customer-key",
            "x-amz-server-side-encryption-customer-key-md5",
        ],
        operations: &[
            "CompleteMultipartUpload",
            "CopyObject",
            "CreateMultipartUpload",
            "GetObject",
            "GetObjectAttributes",
            "HeadObject",
            "ListParts",
            "PutObject",
            "UploadPart",
            "UploadPartCopy",
        ],
    },
    Kept {
        headers: &[
            "x-amz-copy-source-server-side-encryption-customer-algorithm",
            "x-amz-copy-source-server-side-encryption-customer-key",
            "x-amz-copy-source-server-side-encryption-customer-key-md5",
        ],
        operations: &["CopyObject", "UploadPartCopy"],
    },
    Kept {
        headers: &["x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date", "x-amz-object-lock-legal-hold"],
        operations: &["CopyObject", "CreateMultipartUpload", "PutObject"],
    },
    Kept {
        headers: &["if-match", "if-none-match"],
        operations: &[
            "CompleteMultipartUpload",
            "CopyObject",
            "DeleteObject",
            "GetObject",
            "HeadObject",
            "PutObject",
            "RenameObject",
        ],
    },
    Kept {
        headers: &["if-modified-since", "if-unmodified-since"],
        operations: &["GetObject", "HeadObject", "RenameObject"],
    },
    Kept { headers: &[RENAME_SOURCE], operations: &["RenameObject"] },
    Kept { headers: &[WRITE_OFFSET], operations: &["PutObject"] },
];

/// Headers that are whole numbers.
const NUMBERS: &[&str] = &[
    "x-amz-decoded-content-length",
    "x-amz-if-match-size",
    "x-amz-max-parts",
    "x-amz-mp-object-size",
    "x-amz-part-number-marker",
    WRITE_OFFSET,
];

/// The header that makes a bucket whose versions can be locked.
const BUCKET_LOCK: &str = "x-amz-bucket-object-lock-enabled";

/// What the head of a form with files may say of S3's: of the connection, of its signature, of who pays.
const OF_FORMS: &[&str] =
    &["x-amz-cf-id", "x-amz-content-sha256", "x-amz-date", "x-amz-request-payer", "x-amz-user-agent"];

/// What is wrong with a header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broken {
    /// It asks for something that is not built.
    NotBuilt(String),
    /// It is no number.
    NoNumber(&'static str),
}

impl Broken {
    /// The header's name.
    pub(crate) fn header(self) -> String {
        match self {
            Self::NotBuilt(header) => header,
            Self::NoNumber(header) => header.to_owned(),
        }
    }
}

/// Refuses headers that promise what is not built, or what this operation does not do.
pub fn check(headers: &HeaderMap, operation: &str) -> Result<(), Broken> {
    let is_read = ["Get", "Head", "List"].iter().any(|verb| operation.starts_with(verb));
    for name in headers.keys().map(http::HeaderName::as_str) {
        let promises = PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || HEADERS.contains(&name)
            || (CONDITIONS.contains(&name) && !is_read);
        if promises && !is_kept(name, operation) {
            return Err(Broken::NotBuilt(name.to_owned()));
        }
    }
    let locked = headers.get(BUCKET_LOCK).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"false"));
    if locked && operation != "CreateBucket" {
        return Err(Broken::NotBuilt(BUCKET_LOCK.to_owned()));
    }
    Ok(())
}

/// Refuses headers of a form with files that promise something, but for those that are `obeyed`. What is stored, and how, is
/// said by fields or not at all, and a digest would be the whole form's.
pub(crate) fn check_form(headers: &HeaderMap, operation: &str, obeyed: &[&str]) -> Result<(), Broken> {
    let is_known = |name: &str| OF_FORMS.contains(&name) || obeyed.contains(&name);
    let promises = |name: &&str| *name == "content-md5" || (name.starts_with("x-amz-") && !is_known(name));
    match headers.keys().map(http::HeaderName::as_str).find(promises) {
        Some(name) => Err(Broken::NotBuilt(name.to_owned())),
        None => check(headers, operation),
    }
}

/// Refuses headers that should be numbers and are none.
pub fn check_numbers(headers: &HeaderMap) -> Result<(), Broken> {
    let is_number = |value: &http::HeaderValue| value.to_str().is_ok_and(|text| text.parse::<i64>().is_ok());
    match NUMBERS.iter().find(|name| !headers.get_all(**name).iter().all(is_number)) {
        Some(name) => Err(Broken::NoNumber(name)),
        None => Ok(()),
    }
}

fn is_kept(name: &str, operation: &str) -> bool {
    KEPT.iter().any(|kept| kept.headers.contains(&name) && kept.operations.contains(&operation))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Broken, KEPT, check, check_form, check_numbers};
    use crate::auth::subresource::built;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    fn is_refused(operation: &str, name: &'static str, value: &'static str) -> bool {
        check(&headers(name, value), operation) == Err(Broken::NotBuilt(name.to_owned()))
    }

    #[test]
    fn what_is_not_built_is_refused() {
        for name in ["x-amz-server-side-encryption-of-tomorrow", "x-amz-object-lock-mode", "x-amz-mfa"] {
            assert!(is_refused("UploadPart", name, "x"), "{name}");
        }
        assert!(is_refused("UploadPart", "x-amz-bucket-object-lock-enabled", "true"));
    }

    #[test]
    fn what_an_operation_does_not_do_is_refused() {
        for (operation, name) in [
            ("RenameObject", "x-amz-server-side-encryption"),
            ("CompleteMultipartUpload", "x-amz-server-side-encryption-context"),
            ("CompleteMultipartUpload", "x-amz-object-lock-mode"),
            ("DeleteObject", "x-amz-server-side-encryption-customer-key"),
            ("PutObject", "x-amz-copy-source-server-side-encryption-customer-key"),
            ("CreateMultipartUpload", "x-amz-write-offset-bytes"),
            ("PutObject", "x-amz-rename-source"),
            ("PutObject", "if-unmodified-since"),
            ("DeleteObject", "if-modified-since"),
            ("PutObjectTagging", "if-match"),
            ("UploadPart", "if-none-match"),
            ("DeleteBucket", "if-match"),
        ] {
            assert!(is_refused(operation, name, "x"), "{operation} {name}");
        }
    }

    #[test]
    fn what_is_kept_passes_where_it_is_kept() {
        for kept in KEPT {
            for operation in kept.operations {
                assert!(built(operation).is_some(), "{operation}");
                for name in kept.headers {
                    assert_eq!(check(&headers(name, "x"), operation), Ok(()), "{operation} {name}");
                }
            }
        }
    }

    #[test]
    fn what_holds_anyway_passes() {
        for (name, value) in [
            ("x-amz-acl", "public-read"),
            ("x-amz-grant-read", "id=x"),
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-request-payer", "requester"),
            ("x-amz-bucket-object-lock-enabled", "False"),
            ("x-amz-meta-x-amz-mfa", "1"),
        ] {
            assert_eq!(check(&headers(name, value), "UploadPart"), Ok(()), "{name}");
        }
        assert_eq!(check(&headers("if-none-match", "x"), "ListObjectsV2"), Ok(()), "a page is sent in full");
    }

    #[test]
    fn a_form_promises_nothing_in_its_head() {
        for name in ["x-amz-acl", "x-amz-meta-a", "x-amz-tagging", "x-amz-mfa", "if-none-match", "content-md5"] {
            let refused = Err(Broken::NotBuilt(name.to_owned()));
            assert_eq!(check_form(&headers(name, "x"), "PostObject", &[]), refused, "{name}");
        }
        assert_eq!(check_form(&headers("x-amz-acl", "x"), "PostObject", &["x-amz-acl"]), Ok(()));
        for name in ["x-amz-date", "x-amzn-trace-id", "content-type", "origin"] {
            assert_eq!(check_form(&headers(name, "x"), "PostObject", &[]), Ok(()), "{name}");
        }
    }

    #[test]
    fn numbers_are_numbers_to_their_end() {
        for value in ["5", "0", "-1"] {
            assert_eq!(check_numbers(&headers("x-amz-write-offset-bytes", value)), Ok(()), "{value}");
        }
        for value in ["5x", "", "x", "1.5", "0x5"] {
            let wrong = Err(Broken::NoNumber("x-amz-write-offset-bytes"));
            assert_eq!(check_numbers(&headers("x-amz-write-offset-bytes", value)), wrong, "{value}");
        }
        assert_eq!(check_numbers(&headers("content-type", "5x")), Ok(()));
    }
}
