//! Requests that s3s understands only half: they take two passes through it. The first verifies the signature over what
//! the client sent; then the request is mended, its signature taken off, and sent through again as that of the key that
//! was verified.
//!
//! That is the way of XML bodies, which s3s does not compare with what the client promised of them, of which it passes over
//! what it does not know, and which it cannot read when they come `aws-chunked`; of presigned URLs that have headers in them;
//! and of `Range` and `If-Modified-Since` headers that S3 ignores and s3s refuses. All other requests, those with large bodies
//! above all, take one pass.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Uri};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::dto::{Range, Timestamp, TimestampFormat};
use s3s::route::S3Route;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Request, S3Response, S3Result, s3_error};

use super::addressing::{Addressing, Target};
use super::documents::{IsReserved, announced_bytes};
use super::{GatewayHttpConfig, hoisted, presigned, xml};
use crate::auth::access::Gatekeeper;
use crate::auth::{Accounts, Signature};
use crate::budget::{MemoryBudget, Share};
use crate::events::Webhooks;
use crate::object::{BODY_BYTES_MAX, Objects};
use crate::query;
use crate::s3::{BucketNames, Gateway, body, check_named};

/// The largest XML body: `DeleteObjects` of 1,000 keys of 1,024 bytes, all of them escaped, stays below.
const XML_BYTES_MAX: usize = 8 << 20;

/// The largest XML body of who did not sign: nobody has asked yet whether they may, and what they may is small.
const ANONYMOUS_XML_BYTES_MAX: usize = 1 << 20;

/// How long such a body may take. S3 closes connections that are slower.
const ANONYMOUS_XML_WAIT: Duration = Duration::from_secs(60);

/// What s3s takes for malformed XML in every operation.
const MALFORMED: &[u8] = b"<";

/// The query keys of documents that are put to a key.
const OBJECT_DOCUMENTS: &[&str] = &["acl", "legal-hold", "retention", "tagging"];

/// S3 over the operations.
pub(super) fn s3_service(
    config: &GatewayHttpConfig,
    objects: Arc<Objects>,
    accounts: Accounts,
    clock: SharedClock,
    addressing: &Addressing,
    webhooks: Arc<Webhooks>,
) -> S3Service {
    let budget = objects.budget().clone();
    let gatekeeper = Gatekeeper::new(accounts.clone(), clock, config.region.clone());
    let gateway = Gateway::new(objects, accounts.clone(), webhooks, config.region.clone(), config.sse_c_without_tls);
    let s3s = Arc::new(StaticConfigProvider::new(Arc::new(s3s_config(config))));
    let builder = || {
        let mut builder = S3ServiceBuilder::new(gateway.clone());
        builder.set_config(s3s.clone());
        builder.set_auth(accounts.clone());
        builder.set_access(gatekeeper.clone());
        builder.set_validation(BucketNames);
        builder.set_host(addressing.clone());
        builder
    };
    let mut first = builder();
    first.set_route(SecondPass { again: builder().build(), addressing: addressing.clone(), budget });
    first.build()
}

fn s3s_config(config: &GatewayHttpConfig) -> S3Config {
    let mut s3s = S3Config::default();
    s3s.xml_max_body_size = XML_BYTES_MAX;
    // XML has a bound of its own.
    s3s.custom_route_max_body_size = Some(BODY_BYTES_MAX);
    s3s.put_object_max_size = Some(BODY_BYTES_MAX);
    s3s.aws_chunked_stream_max_chunk_size = body::SIGNED_CHUNK_BYTES_MAX as usize;
    // Forms become puts before they come here.
    s3s.post_object_max_file_size = 0;
    s3s.form_max_fields_size = 0;
    s3s.expected_region = s3s::region::Region::new(config.region.clone().into()).ok();
    s3s.sig_v4_allowed_services = vec!["s3".to_owned()];
    s3s.enable_sig_v2 = false;
    s3s.presigned_url_max_expires_secs = presigned::SECONDS_MAX;
    // What the client says about its operation in `x-id` is not trusted to choose it.
    s3s.operation_id_routing = false;
    s3s
}

/// The route that leads to it.
struct SecondPass {
    again: S3Service,
    addressing: Addressing,
    budget: Arc<MemoryBudget>,
}

#[async_trait::async_trait]
impl S3Route for SecondPass {
    fn is_match(&self, method: &Method, uri: &Uri, headers: &HeaderMap, _: &mut Extensions) -> bool {
        has_xml_body(method, uri, &self.addressing.target(headers, uri))
            || hoisted::is_any(uri)
            || headers_to_drop(method, headers).next().is_some()
    }

    /// Decided in the second pass, where the operation and its bucket are known.
    async fn check_access(&self, _request: &mut S3Request<Body>) -> S3Result<()> {
        Ok(())
    }

    async fn call(&self, mut request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let credentials = request.credentials.take();
        let target = self.addressing.target(&request.headers, &request.uri);
        let mut _share = Share::nothing();
        if has_xml_body(&request.method, &request.uri, &target) {
            let body = std::mem::take(&mut request.input);
            let bytes_max = if credentials.is_some() { XML_BYTES_MAX } else { ANONYMOUS_XML_BYTES_MAX };
            if request.extensions.get::<IsReserved>().is_none() {
                let bytes = announced_bytes(&request.headers, bytes_max);
                let reserved = match credentials {
                    Some(_) => self.budget.document(bytes).await,
                    None => self.budget.document_of_stranger(bytes).await,
                };
                _share = reserved.map_err(|_| s3_error!(SlowDown, "Please reduce your request rate."))?;
            }
            let read = body::read_whole(body, bytes_max);
            let bytes = match credentials {
                Some(_) => read.await?,
                None => {
                    tokio::time::timeout(ANONYMOUS_XML_WAIT, read).await.map_err(|_| s3_error!(RequestTimeout))??
                }
            };
            take_xml(&mut request, bytes)?;
        }
        if let Some(credentials) = credentials {
            request.extensions.insert(Signature::of_request(&credentials.access_key, &request.uri, &request.headers));
            if hoisted::is_any(&request.uri) {
                hoisted::unhoist(&request.uri, &mut request.headers)?;
            }
        }
        let dropped: Vec<_> = headers_to_drop(&request.method, &request.headers).collect();
        for name in dropped {
            request.headers.remove(name);
        }
        let response = self.again.call(unsigned(request)?).await.map_err(|error| s3_error!(error, InternalError))?;
        let (head, body) = response.into_parts();
        Ok(S3Response { output: body, status: Some(head.status), headers: head.headers, extensions: head.extensions })
    }
}

/// Whether the operation's body is a document: of all that is put to a bucket (its policy, which is JSON, goes the same
/// way), of [`OBJECT_DOCUMENTS`], `DeleteObjects` and `CompleteMultipartUpload`. Bodies of objects are put and posted to
/// keys otherwise, and those of forms never come here.
fn has_xml_body(method: &Method, uri: &Uri, target: &Target) -> bool {
    let is_bucket = target.bucket.is_some() && target.key.is_empty();
    match *method {
        Method::POST => asks(uri, "delete") || asks(uri, "uploadId"),
        Method::PUT => is_bucket || OBJECT_DOCUMENTS.iter().any(|key| asks(uri, key)),
        _ => false,
    }
}

/// Headers of a read that S3 ignores when they make no sense: several ranges, an inverted one, a date that is none.
fn headers_to_drop<'a>(method: &Method, headers: &'a HeaderMap) -> impl Iterator<Item = &'static str> + 'a {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let bad = |name: &str, is_good: fn(&str) -> bool| {
        headers.get(name).is_some_and(|value| !value.to_str().is_ok_and(is_good))
    };
    // s3s takes the lone dash for a suffix of no bytes.
    let range = bad("range", |text| text != "bytes=-" && Range::parse(text).is_ok()).then_some("range");
    let is_date = |text: &str| Timestamp::parse(TimestampFormat::HttpDate, text).is_ok();
    let modified = bad("if-modified-since", is_date).then_some("if-modified-since");
    let unmodified = bad("if-unmodified-since", is_date).then_some("if-unmodified-since");
    [range, modified, unmodified].into_iter().flatten().filter(move |_| is_read)
}

/// Compares the body with everything that the client promised of it, and makes it one that s3s reads to its end.
fn take_xml(request: &mut S3Request<Body>, bytes: Bytes) -> S3Result<()> {
    // The checksums in the head of CompleteMultipartUpload are the object's.
    let in_head = !asks(&request.uri, "uploadId");
    let trailers = request.trailing_headers.take().and_then(|trailers| trailers.take());
    if in_head {
        check_named(&request.headers, trailers.as_ref())?;
    }
    body::check_whole(&bytes, in_head.then_some(&request.headers), trailers.as_ref())?;
    body::check_content_md5(&bytes, &request.headers)?;
    // Policies are JSON.
    let bytes = if bytes.is_empty() || asks(&request.uri, "policy") { bytes } else { plain(&bytes) };
    request.headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    request.headers.remove(http::header::TRANSFER_ENCODING);
    request.input = Body::from(bytes);
    Ok(())
}

/// The document, or one that is refused in its turn: S3 says that a document is malformed to those who may send it, and of
/// a bucket that is there.
fn plain(document: &[u8]) -> Bytes {
    xml::plain(document).map_or(Bytes::from_static(MALFORMED), Bytes::from)
}

/// Whether the request's query has that key, however it is written: s3s, which chooses the operation, reads it decoded.
fn asks(uri: &Uri, wanted: &str) -> bool {
    query::has(uri.query(), wanted)
}

/// The request without its signature, so that s3s does not look for one over what has changed.
fn unsigned(request: S3Request<Body>) -> S3Result<Request<Body>> {
    let uri = without_signature(&request.uri)?;
    let mut again = Request::new(request.input);
    *again.method_mut() = request.method;
    *again.uri_mut() = uri;
    *again.headers_mut() = request.headers;
    again.headers_mut().remove(http::header::AUTHORIZATION);
    *again.extensions_mut() = request.extensions;
    Ok(again)
}

fn without_signature(uri: &Uri) -> S3Result<Uri> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let query: Vec<&str> = pairs.filter(|pair| !pair.is_empty() && !hoisted::has_prefix(pair)).collect();
    let text = if query.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), query.join("&")) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(text.parse().map_err(|error| s3_error!(error, InvalidURI))?);
    Uri::from_parts(parts).map_err(|error| s3_error!(error, InvalidURI))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

    use super::super::addressing::Addressing;
    use super::{headers_to_drop, without_signature};

    fn uri(text: &str) -> Uri {
        text.parse().expect("a URI")
    }

    fn has_xml_body(method: &Method, uri: &Uri) -> bool {
        super::has_xml_body(method, uri, &Addressing::default().target(&HeaderMap::new(), uri))
    }

    fn dropped(name: &'static str, value: &'static str) -> Vec<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        headers_to_drop(&Method::GET, &headers).collect()
    }

    #[test]
    fn xml_bodies_are_known_by_their_request() {
        assert!(has_xml_body(&Method::POST, &uri("/b?delete")));
        assert!(has_xml_body(&Method::POST, &uri("/b?%64elete")));
        assert!(has_xml_body(&Method::POST, &uri("/b/k?uploadId=1")));
        assert!(has_xml_body(&Method::PUT, &uri("/b")));
        assert!(has_xml_body(&Method::PUT, &uri("/b/")));
        assert!(!has_xml_body(&Method::POST, &uri("/b/k?uploads")));
        assert!(has_xml_body(&Method::PUT, &uri("/b/k?acl")));
        assert!(has_xml_body(&Method::PUT, &uri("/b/k?versionId=null&%61%63l=")));
        assert!(!has_xml_body(&Method::PUT, &uri("/b/k")));
        assert!(!has_xml_body(&Method::PUT, &uri("/")));
        assert!(!has_xml_body(&Method::PUT, &uri("/b/k?partNumber=1&uploadId=1")));
        assert!(!has_xml_body(&Method::GET, &uri("/b")));
    }

    #[test]
    fn headers_that_s3_ignores_are_dropped() {
        assert_eq!(dropped("range", "bytes=0-1,3-4"), ["range"]);
        assert_eq!(dropped("range", "bytes=5-4"), ["range"]);
        assert_eq!(dropped("range", "lines=1-2"), ["range"]);
        assert_eq!(dropped("range", "bytes=-"), ["range"]);
        assert_eq!(dropped("if-modified-since", "yesterday"), ["if-modified-since"]);
        assert!(dropped("range", "bytes=0-1").is_empty());
        assert!(dropped("range", "bytes=-5").is_empty());
        assert!(dropped("if-modified-since", "Sat, 29 Oct 1994 19:43:31 GMT").is_empty());
    }

    #[test]
    fn a_presigned_url_keeps_what_it_asks() {
        let signed = uri("/b/k?uploadId=1&X-Amz-Signature=ab&X-Amz-Date=x&versionId=null");
        assert_eq!(without_signature(&signed).expect("a URI"), uri("/b/k?uploadId=1&versionId=null"));
        let disguised = uri("/b/k?a=%26x-amz-b&%58-amz-acl=private&X-Amz%2DSignature=ab");
        assert_eq!(without_signature(&disguised).expect("a URI"), uri("/b/k?a=%26x-amz-b"));
        assert_eq!(without_signature(&uri("/b/k?X-Amz-Signature=ab")).expect("a URI"), uri("/b/k"));
    }
}
