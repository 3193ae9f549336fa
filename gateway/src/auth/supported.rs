//! What of S3 is built, for those who list it. The answers are those that requests get.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{promise, subresource};

/// Whether the operation of that name is built.
pub fn is_operation(operation: &str) -> bool {
    subresource::built(operation).is_some()
}

/// Whether a request for the operation may have that header, whatever it says there.
pub fn takes_header(operation: &str, name: &'static str) -> bool {
    let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("true"))]);
    is_operation(operation) && promise::check(&headers, operation).is_ok()
}

/// Whether a request for the operation may have that key in its query.
pub fn takes_key(operation: &str, key: &str) -> bool {
    subresource::built(operation).is_some_and(|built| subresource::check(Some(key), built.taken).is_ok())
}

#[cfg(test)]
mod tests {
    use super::{is_operation, takes_header, takes_key};

    #[test]
    fn what_is_taken_is_what_requests_may_have() {
        assert!(is_operation("PutObject") && !is_operation("PutBucketReplication"));
        assert!(takes_header("PutObject", "x-amz-acl") && !takes_header("PutObject", "x-amz-checksum-sha512"));
        assert!(takes_key("GetObject", "versionId") && !takes_key("PutObject", "versionId"));
        assert!(!takes_header("PutBucketReplication", "x-amz-acl") && !takes_key("PutBucketReplication", "x"));
    }
}
