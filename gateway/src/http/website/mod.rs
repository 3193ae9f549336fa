//! Buckets as static websites: under a domain of their own, for browsers. A page is an anonymous GetObject of the one S3
//! service there is, so policies, lists and conditions hold as everywhere; here is only what a website adds: indexes,
//! redirects, an error page, and errors in HTML.
//!
//! See "Website endpoints" and "Hosting a static website using Amazon S3" in the S3 user guide.

mod page;
mod redirect;

use annulus_common::website::{Pages, Protocol, Website};
use http::header::{HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LOCATION, RANGE};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use s3s::Body;
use s3s::service::S3Service;

use self::page::{Failure, error_page};
use self::redirect::{Asked, encode_key, location};
use super::addressing::{Addressing, Target};
use super::reply::Content;
use crate::auth::{Accounts, Operation};
use crate::request::{Peer, RequestId};

/// What the operation is called where requests are counted.
const OPERATION: &str = "WebsiteGetObject";

/// Headers of a request that GetObject is asked with too. Nothing else is passed on: no signature above all.
const PASSED: [HeaderName; 6] = [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];

/// An object's own redirect.
const REDIRECT_LOCATION: &str = "x-amz-website-redirect-location";

/// Serves buckets as websites.
pub(super) struct Websites {
    /// Gets the objects.
    pub(super) s3: S3Service,
    /// Knows the buckets.
    pub(super) accounts: Accounts,
    /// Knows the hosts: `BUCKET.DOMAIN` is a bucket's website. Without a domain there are none.
    pub(super) addressing: Addressing,
}

/// A request for a page.
struct Visit<'a> {
    method: Method,
    headers: HeaderMap,
    extensions: Extensions,
    bucket: &'a str,
    /// The path without its first slash, decoded: what conditions of rules are about.
    path: String,
    host: String,
    query: Option<String>,
}

impl Websites {
    /// The bucket whose website a request is for, and the path in it.
    pub(super) fn target<B>(&self, request: &Request<B>) -> Option<Target> {
        Some(self.addressing.target(request.headers(), request.uri())).filter(|target| target.by_host)
    }

    /// Answers a request for a page of a bucket's website. `host_id` is what errors show of this gateway.
    pub(super) async fn answer(&self, request: Request<Incoming>, target: &Target, host_id: &str) -> Response<Content> {
        let (head, _) = request.into_parts();
        if let Some(operation) = head.extensions.get::<Operation>() {
            operation.name_it(OPERATION);
        }
        let request_id = head.extensions.get::<RequestId>().map(|id| id.0.to_string()).unwrap_or_default();
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
        let path = percent_decode_str(&target.key).decode_utf8_lossy().into_owned();
        let visit = Visit {
            method: head.method,
            bucket: target.bucket.as_deref().unwrap_or_default(),
            path,
            host,
            query: head.uri.query().map(str::to_owned),
            headers: head.headers,
            extensions: head.extensions,
        };
        match self.serve(&visit).await {
            Ok(response) => response,
            Err(failure) => error_page(&failure, &request_id, host_id, visit.method == Method::HEAD),
        }
    }

    async fn serve(&self, visit: &Visit<'_>) -> Result<Response<Content>, Failure> {
        if visit.method != Method::GET && visit.method != Method::HEAD {
            return Err(Failure::method_not_allowed(visit.method.as_str()));
        }
        let map = self.accounts.map().await.map_err(|_| Failure::unavailable())?;
        let bucket = map.buckets.get(visit.bucket).ok_or_else(|| Failure::no_such_bucket(visit.bucket))?;
        let website = bucket.config.website.clone().ok_or_else(|| Failure::no_website(visit.bucket))?;
        drop(map);
        match &*website {
            Website::RedirectAll { host, protocol } => {
                let target = location(&visit.asked(), *protocol, Some(host), None);
                Ok(see(StatusCode::MOVED_PERMANENTLY, &target))
            }
            Website::Pages(pages) => self.page(visit, pages).await,
        }
    }

    async fn page(&self, visit: &Visit<'_>, pages: &Pages) -> Result<Response<Content>, Failure> {
        if let Some(rule) = pages.rule_before(&visit.path) {
            return Ok(redirect::by_rule(rule, &visit.asked()));
        }
        let key = pages.key_of(&visit.path);
        let failure = match self.get(visit, &visit.method, &key, passed(&visit.headers)).await {
            Ok(response) => return Ok(moved(&response).unwrap_or(response)),
            Err(failure) => failure,
        };
        if let Some(index) = pages.folder_index(&visit.path).filter(|_| failure.is_absence())
            && self.get(visit, &Method::HEAD, &index, HeaderMap::new()).await.is_ok()
        {
            return Ok(see(StatusCode::FOUND, &format!("/{}/", encode_key(&visit.path))));
        }
        if let Some(rule) = pages.rule_after(&visit.path, failure.status.as_u16()) {
            return Ok(redirect::by_rule(rule, &visit.asked()));
        }
        match pages.error_key.as_ref().filter(|_| failure.status.is_client_error()) {
            Some(error_key) => self.error_document(visit, error_key, failure).await,
            None => Err(failure),
        }
    }

    /// The website's own page for an error, with the error's status.
    async fn error_document(
        &self,
        visit: &Visit<'_>,
        key: &str,
        failure: Failure,
    ) -> Result<Response<Content>, Failure> {
        match self.get(visit, &visit.method, key, HeaderMap::new()).await {
            Ok(mut response) => {
                *response.status_mut() = failure.status;
                failure.add_headers(response.headers_mut());
                Ok(response)
            }
            Err(second) => Err(failure.because_of(second)),
        }
    }

    /// An object, as anybody gets it.
    async fn get(
        &self,
        visit: &Visit<'_>,
        method: &Method,
        key: &str,
        headers: HeaderMap,
    ) -> Result<Response<Content>, Failure> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method.clone();
        let uri = format!("/{}/{}", visit.bucket, encode_key(key)).parse();
        *request.uri_mut() = uri.map_err(|_| Failure::no_such_key(key))?;
        *request.headers_mut() = headers;
        *request.extensions_mut() = visit.extensions.clone();
        let response = self.s3.call(request).await.map_err(|_| Failure::unavailable())?;
        if response.status().is_client_error() || response.status().is_server_error() {
            return Err(Failure::of_response(response, key));
        }
        Ok(response.map(Content::S3))
    }
}

impl Visit<'_> {
    fn asked(&self) -> Asked<'_> {
        let protocol = self.extensions.get::<Peer>().map_or(Protocol::Http, |peer| peer.protocol);
        Asked { path: &self.path, protocol, host: &self.host, query: self.query.as_deref() }
    }
}

fn passed(headers: &HeaderMap) -> HeaderMap {
    let passed = PASSED.into_iter().filter_map(|name| headers.get(&name).map(|value| (name, value.clone())));
    passed.collect()
}

/// Where an object sends who asks for it.
fn moved(response: &Response<Content>) -> Option<Response<Content>> {
    let target = response.headers().get(REDIRECT_LOCATION)?;
    Some(see(StatusCode::MOVED_PERMANENTLY, target.to_str().ok()?))
}

/// Sends a browser elsewhere.
fn see(status: StatusCode, target: &str) -> Response<Content> {
    let mut response = Response::new(Content::S3(Body::empty()));
    *response.status_mut() = status;
    if let Ok(target) = HeaderValue::from_str(target) {
        response.headers_mut().insert(LOCATION, target);
    }
    response
}

#[cfg(test)]
mod tests {
    use http::header::{AUTHORIZATION, RANGE};
    use http::{HeaderMap, HeaderValue};

    use super::passed;

    #[test]
    fn nothing_is_passed_on_that_would_make_a_visit_somebodys() {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=0-1"));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("AWS4-HMAC-SHA256 x"));
        headers.insert("x-amz-date", HeaderValue::from_static("x"));
        let passed = passed(&headers);
        assert_eq!((passed.len(), passed.contains_key(RANGE)), (1, true));
    }
}
