//! Which requests are for what is served beside S3 on its port.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

/// Files go in here, and come out below it.
pub(crate) const UPLOAD_PATH: &str = "/upload";

/// Where AWS has S3 Control: its version.
pub(crate) const CONTROL_PATH: &str = "/v20180820/";

/// What every request of S3 Control says, and none of S3's own: so a bucket may have the name that the paths begin with.
pub(crate) const CONTROL_ACCOUNT: &str = "x-amz-account-id";

/// Whether a request that is posted to `/` is for IAM or STS: S3 has no forms there.
pub(crate) fn is_iam_call(headers: &HeaderMap) -> bool {
    let form = b"application/x-www-form-urlencoded";
    let given = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    given.get(..form.len()).is_some_and(|start| start.eq_ignore_ascii_case(form))
}

/// Whether a request is for S3 Control.
pub(crate) fn is_control_call(path: &str, headers: &HeaderMap) -> bool {
    path.starts_with(CONTROL_PATH) && headers.contains_key(CONTROL_ACCOUNT)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::is_control_call;

    #[test]
    fn calls_name_an_account() {
        let mut headers = HeaderMap::new();
        assert!(!is_control_call("/v20180820/tags/x", &headers), "a bucket may have that name");
        headers.insert("x-amz-account-id", HeaderValue::from_static("123456789012"));
        assert!(is_control_call("/v20180820/tags/x", &headers));
        assert!(!is_control_call("/v20180820", &headers) && !is_control_call("/b/v20180820/tags/x", &headers));
    }
}
