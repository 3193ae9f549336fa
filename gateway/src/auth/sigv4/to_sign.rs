//! What a request should have been signed over: S3 tells it to clients whose signature does not match, so that they find their
//! mistake by comparing. It all stands in the request; no secret is known here, and no signature computed.

use http::{HeaderMap, Method, Uri};

use super::{Authorization, canonical_path, canonical_request, header, signed_value, string_to_sign};
use crate::auth::client_keys::{has_client_key, is_client_key};
use crate::query;

/// What presigned URLs sign of the body.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The two texts that a signature is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ToSign {
    pub(crate) string: String,
    /// Nothing where it would repeat a key of the client's: answers end up in logs.
    pub(crate) canonical_request: Option<String>,
}

/// What is to be signed of a request with these parts; nothing where it does not say enough of its signature.
pub(crate) fn to_sign(method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<ToSign> {
    match header(headers, "authorization").ok()? {
        Some(authorization) => in_header(authorization, method, uri, headers),
        None => in_url(method, uri, headers),
    }
}

fn in_header(authorization: &str, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<ToSign> {
    let authorization = Authorization::parse(authorization).ok()?;
    let payload = header(headers, "x-amz-content-sha256").ok()??;
    let date = header(headers, "x-amz-date").ok()??;
    let signed = signed(headers, &authorization.signed_headers);
    let request = canonical_request(method, &canonical_path(uri.path()), uri.query(), &signed, payload);
    let has_key = repeats_key(uri, &signed);
    Some(texts(date, authorization.scope, request, has_key))
}

fn in_url(method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<ToSign> {
    let value = |wanted: &str| query::value(uri.query(), wanted);
    let (credential, names) = (value("X-Amz-Credential")?, value("X-Amz-SignedHeaders")?);
    let (_, scope) = credential.split_once('/')?;
    let signed = signed(headers, &names.split(';').collect::<Vec<_>>());
    let pairs = uri.query()?.split('&').filter(|pair| !pair.starts_with("X-Amz-Signature="));
    let query = pairs.collect::<Vec<_>>().join("&");
    let request = canonical_request(method, &canonical_path(uri.path()), Some(&query), &signed, UNSIGNED);
    let has_key = repeats_key(uri, &signed);
    Some(texts(&value("X-Amz-Date")?, scope, request, has_key))
}

/// The headers that are said to be signed; one that did not come has no value.
fn signed<'a>(headers: &HeaderMap, names: &[&'a str]) -> Vec<(&'a str, String)> {
    names.iter().map(|name| (*name, signed_value(headers, name).ok().flatten().unwrap_or_default())).collect()
}

fn repeats_key(uri: &Uri, signed: &[(&str, String)]) -> bool {
    has_client_key(uri.query()) || signed.iter().any(|(name, _)| is_client_key(name))
}

fn texts(date: &str, scope: &str, request: String, has_key: bool) -> ToSign {
    let string = string_to_sign(date, scope, &request);
    ToSign { string, canonical_request: (!has_key).then_some(request) }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

    use super::{ToSign, to_sign};

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn of(uri: &str, pairs: &[(&'static str, &str)]) -> Option<ToSign> {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let headers: HeaderMap = pairs.iter().map(pair).collect();
        to_sign(&Method::GET, &uri.parse::<Uri>().unwrap(), &headers)
    }

    fn authorization(names: &str) -> String {
        let credential = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
        format!("AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={names},Signature=ab")
    }

    /// "Example: GET Object" of "Signature Calculations for the Authorization Header" in the S3 API reference.
    #[test]
    fn the_published_example_is_told() {
        let told = of(
            "/test.txt",
            &[
                ("host", "examplebucket.s3.amazonaws.com"),
                ("range", "bytes=0-9"),
                ("x-amz-content-sha256", EMPTY),
                ("x-amz-date", "20130524T000000Z"),
                ("authorization", &authorization("host;range;x-amz-content-sha256;x-amz-date")),
            ],
        );
        let told = told.unwrap();
        let hash = "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972";
        assert_eq!(
            told.string,
            format!("AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n{hash}")
        );
        let request = format!(
            "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\nx-amz-content-sha256:{EMPTY}\n\
             x-amz-date:20130524T000000Z\n\nhost;range;x-amz-content-sha256;x-amz-date\n{EMPTY}"
        );
        assert_eq!(told.canonical_request, Some(request));
    }

    /// The example of "Authenticating Requests: Using Query Parameters" in the S3 API reference.
    #[test]
    fn the_published_url_is_told() {
        let url = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
            &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=ab";
        let told = of(url, &[("host", "examplebucket.s3.amazonaws.com")]).unwrap();
        let hash = "3bfa292879f6447bbcda7001decf97f4a54dc650c8942174ae0a9121cf58ad04";
        assert!(told.string.ends_with(&format!("\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n{hash}")));
        let request = told.canonical_request.unwrap();
        assert!(request.ends_with("host:examplebucket.s3.amazonaws.com\n\nhost\nUNSIGNED-PAYLOAD"), "{request}");
    }

    #[test]
    fn a_key_is_not_repeated() {
        let key = "x-amz-server-side-encryption-customer-key";
        let told = of(
            "/k",
            &[
                (key, "c2VjcmV0"),
                ("x-amz-content-sha256", EMPTY),
                ("x-amz-date", "20130524T000000Z"),
                ("authorization", &authorization(key)),
            ],
        );
        let told = told.unwrap();
        assert!(told.canonical_request.is_none() && !told.string.contains("c2VjcmV0"), "{told:?}");
        let url = "X-Amz-Credential=AK%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-SignedHeaders=host";
        let of_url = |more: &str| of(&format!("/k?{url}{more}"), &[("host", "h")]).unwrap().canonical_request;
        assert!(of_url("").is_some() && of_url(&format!("&{key}=c2VjcmV0")).is_none());
    }

    #[test]
    fn who_says_too_little_is_told_nothing() {
        assert_eq!(of("/k", &[]), None);
        assert_eq!(of("/k", &[("authorization", "nonsense")]), None);
        assert_eq!(of("/k", &[("authorization", &authorization("host"))]), None);
        assert_eq!(of("/k?X-Amz-Credential=AK", &[]), None);
    }
}
