//! Errors as browsers see them: S3's codes and messages in HTML, and in headers.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use quick_xml::escape::{escape, unescape};

use super::super::reply::Content;

/// What a header leaves as it is.
const HEADER: &AsciiSet = &CONTROLS.add(b'%');

/// Why there is no page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    code: String,
    message: String,
    /// What S3 tells beside code and message, by its name.
    details: Vec<(&'static str, String)>,
    /// Why the website's own page for errors could not be shown.
    cause: Option<Box<Failure>>,
}

impl Failure {
    fn new(status: StatusCode, code: &str, message: &str, details: &[(&'static str, &str)]) -> Self {
        let details = details.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        Self { status, code: code.to_owned(), message: message.to_owned(), details, cause: None }
    }

    /// Websites are only read.
    pub(super) fn method_not_allowed(method: &str) -> Self {
        let message = "The specified method is not allowed against this resource.";
        let details = [("Method", method), ("ResourceType", "OBJECT")];
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message, &details)
    }

    /// There is no bucket of that name.
    pub(super) fn no_such_bucket(bucket: &str) -> Self {
        let message = "The specified bucket does not exist";
        Self::new(StatusCode::NOT_FOUND, "NoSuchBucket", message, &[("BucketName", bucket)])
    }

    /// The bucket is no website.
    pub(super) fn no_website(bucket: &str) -> Self {
        let message = "The specified bucket does not have a website configuration";
        Self::new(StatusCode::NOT_FOUND, "NoSuchWebsiteConfiguration", message, &[("BucketName", bucket)])
    }

    /// There is no such object.
    pub(super) fn no_such_key(key: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.", &[("Key", key)])
    }

    /// Nobody can be asked now.
    pub(super) fn unavailable() -> Self {
        let message = "Please reduce your request rate.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message, &[])
    }

    /// What GetObject answered instead of the object.
    pub(super) fn of_response(response: Response<s3s::Body>, key: &str) -> Self {
        let status = response.status();
        let xml = response.into_body().bytes().unwrap_or_default();
        let xml = String::from_utf8_lossy(&xml);
        let element = |name: &str| {
            let inner = xml.split_once(&format!("<{name}>"))?.1.split_once(&format!("</{name}>"))?.0;
            Some(unescape(inner).map_or_else(|_| inner.to_owned(), |text| text.into_owned()))
        };
        let reason = status.canonical_reason().unwrap_or_default();
        let code = element("Code").unwrap_or_else(|| reason.replace(' ', ""));
        let message = element("Message").unwrap_or_else(|| reason.to_owned());
        let details: &[(&'static str, &str)] = if code == "NoSuchKey" { &[("Key", key)] } else { &[] };
        Self::new(status, &code, &message, details)
    }

    /// Whether there is no object, or nobody may know.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN)
    }

    /// The same, where the website's own page could not be shown either.
    pub(super) fn because_of(self, second: Failure) -> Self {
        Self { cause: Some(Box::new(second)), ..self }
    }

    /// What a program is told.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        let mut insert = |name: &str, text: &str| {
            let text = utf8_percent_encode(text, HEADER).to_string();
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&text)) {
                headers.insert(name, value);
            }
        };
        insert("x-amz-error-code", &self.code);
        insert("x-amz-error-message", &self.message);
        for (name, text) in &self.details {
            insert(&format!("x-amz-error-detail-{}", name.to_ascii_lowercase()), text);
        }
    }

    fn items(&self) -> String {
        let all = [("Code", &self.code), ("Message", &self.message)].into_iter();
        let all = all.chain(self.details.iter().map(|(name, text)| (*name, text)));
        all.map(|(name, text)| format!("<li>{name}: {}</li>\n", escape(text.as_str()))).collect()
    }
}

/// The page that says what went wrong.
pub(super) fn error_page(failure: &Failure, request_id: &str, host_id: &str, is_head: bool) -> Response<Content> {
    let reason = failure.status.canonical_reason().unwrap_or_default();
    let title = format!("{} {reason}", failure.status.as_u16());
    let cause = failure.cause.as_ref().map(|cause| {
        format!(
            "<h3>An Error Occurred While Attempting to Retrieve a Custom Error Document</h3>\n<ul>\n{}</ul>\n",
            cause.items()
        )
    });
    let html = format!(
        "<html>\n<head><title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n<ul>\n{}<li>RequestId: {request_id}</li>\n\
         <li>HostId: {host_id}</li>\n</ul>\n{}<hr/>\n</body>\n</html>\n",
        failure.items(),
        cause.unwrap_or_default()
    );
    let mut response = Response::new(Content::from(if is_head { Bytes::new() } else { Bytes::from(html) }));
    *response.status_mut() = failure.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    failure.add_headers(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use http::{Response, StatusCode};

    use super::{Failure, error_page};

    #[test]
    fn a_page_says_what_went_wrong_and_why_its_own_page_is_missing() {
        let xml = "<Error><Code>NoSuchKey</Code><Message>a &lt;b&gt;</Message></Error>".to_owned();
        let mut response = Response::new(s3s::Body::from(xml));
        *response.status_mut() = StatusCode::NOT_FOUND;
        let failure = Failure::of_response(response, "<k>").because_of(Failure::no_such_key("error.html"));
        let page = error_page(&failure, "17", "H", false);
        assert_eq!(page.status(), StatusCode::NOT_FOUND);
        assert_eq!(page.headers()["x-amz-error-code"], "NoSuchKey");
        assert_eq!(page.headers()["x-amz-error-detail-key"], "<k>");
        let super::Content::S3(body) = page.into_body() else { panic!("it is here") };
        let html = body.bytes().expect("it is whole");
        let html = std::str::from_utf8(&html).expect("it is text");
        for expected in [
            "<title>404 Not Found</title>",
            "<li>Code: NoSuchKey</li>",
            "<li>Message: a &lt;b&gt;</li>",
            "<li>Key: &lt;k&gt;</li>",
            "<li>RequestId: 17</li>",
            "<h3>An Error Occurred While Attempting to Retrieve a Custom Error Document</h3>",
            "<li>Key: error.html</li>",
        ] {
            assert!(html.contains(expected), "{expected}: {html}");
        }
    }
}
