//! Version ids on the wire.

use annulus_common::map::Bucket;
use annulus_common::object::{VersionId, Versioning};
use s3s::S3Result;

use super::error::invalid_argument;

/// Which version a request names.
pub(super) fn asked(version_id: Option<&str>) -> S3Result<Option<VersionId>> {
    match version_id {
        None => Ok(None),
        Some("") => Err(invalid_argument("versionId", "Version id cannot be the empty string")),
        Some(text) => match VersionId::parse(text) {
            Some(version) => Ok(Some(version)),
            None => Err(invalid_argument("versionId", "Invalid version id specified")),
        },
    }
}

/// The version id of what is read: said where the bucket has or had versions, or was asked for one.
pub(super) fn of_read(bucket: &Bucket, version: VersionId, asked: Option<&str>) -> Option<String> {
    let said = bucket.config.versioning != Versioning::Unversioned || asked.is_some();
    said.then(|| version.to_string())
}

/// The version id of what is written: S3 says none where it is the null version.
pub(super) fn of_write(version: VersionId) -> Option<String> {
    (version != VersionId::Null).then(|| version.to_string())
}

#[cfg(test)]
mod tests {
    use annulus_common::object::VersionId;

    use super::asked;

    #[test]
    fn an_id_is_null_or_one_of_ours() {
        assert_eq!(asked(None).expect("valid"), None);
        assert_eq!(asked(Some("null")).expect("valid"), Some(VersionId::Null));
        assert_eq!(asked(Some(&"a1".repeat(16))).expect("valid"), Some(VersionId::Id([0xa1; 16])));
        for malformed in ["", "x", "a1", "3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo"] {
            assert_eq!(asked(Some(malformed)).expect_err("malformed").code().as_str(), "InvalidArgument");
        }
    }
}
