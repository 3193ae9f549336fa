//! Version ids on buckets that have no versions: `null` is the one there is.

use s3s::{S3Result, s3_error};

/// The id of every version, until versioning comes.
pub(super) const NULL: &str = "null";

/// Whether an object's only version is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// None, or `null`.
    Current,
    /// One that cannot exist.
    Other,
}

/// Which version a request is about.
pub(super) fn asked(version_id: Option<&str>) -> S3Result<Asked> {
    match version_id {
        None | Some(NULL) => Ok(Asked::Current),
        Some("") => Err(s3_error!(InvalidArgument, "Version id cannot be the empty string")),
        Some(id) if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Ok(Asked::Other),
        Some(_) => Err(s3_error!(InvalidArgument, "Invalid version id specified")),
    }
}

/// For reads: only the version that there is.
pub(super) fn current(version_id: Option<&str>) -> S3Result {
    match asked(version_id)? {
        Asked::Current => Ok(()),
        Asked::Other => Err(s3_error!(NoSuchVersion)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, asked, current};

    #[test]
    fn null_is_the_one_version() {
        assert_eq!(asked(None).expect("valid"), Asked::Current);
        assert_eq!(asked(Some("null")).expect("valid"), Asked::Current);
        assert_eq!(current(Some(&"a1".repeat(16))).expect_err("unknown").code().as_str(), "NoSuchVersion");
        assert_eq!(current(Some("x")).expect_err("malformed").code().as_str(), "InvalidArgument");
        assert_eq!(current(Some("")).expect_err("malformed").code().as_str(), "InvalidArgument");
    }
}
