//! Cross-origin requests: what a browser asks in advance, and the headers that tell it what a page may see. Both are outside
//! s3s, because errors must carry the headers too, or a page could not even read what went wrong.
//!
//! See "Using cross-origin resource sharing (CORS)" in the Amazon S3 user guide and the Fetch standard, section 3.2.

use std::sync::Arc;

use annulus_common::cors::{Cors, CorsMethod, CorsRule};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::addressing::Target;
use super::errors::{error_response, error_response_with};
use super::reply::Content;
use crate::auth::Accounts;

/// What the answer of a bucket with rules depends on, beside its address.
const VARIES_BY: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Headers, Access-Control-Request-Method");

/// What a request says that rules ask about.
pub(super) struct CrossOrigin {
    bucket: Option<String>,
    has_key: bool,
    origin: Option<String>,
    /// The request's own method.
    method: Method,
    /// The method that it announces, or names beside its own.
    requested_method: Option<String>,
    /// The headers that it announces.
    requested_headers: Option<String>,
}

impl CrossOrigin {
    /// Of any request.
    pub(super) fn of<B>(request: &Request<B>, target: &Target) -> Self {
        let text = |name: HeaderName| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
        Self {
            bucket: target.bucket.clone(),
            has_key: !target.key.is_empty(),
            origin: text(ORIGIN),
            method: request.method().clone(),
            requested_method: text(ACCESS_CONTROL_REQUEST_METHOD),
            requested_headers: text(ACCESS_CONTROL_REQUEST_HEADERS),
        }
    }

    /// Whether a browser asks in advance.
    pub(super) fn is_preflight(&self) -> bool {
        self.method == Method::OPTIONS
    }

    /// The answer to what a browser asks in advance. Nobody signs that, and it says nothing of what there is.
    pub(super) async fn preflight(&self, accounts: &Accounts) -> Response<Content> {
        let Some(origin) = &self.origin else {
            return bad_request("Insufficient information. Origin request header needed.");
        };
        let requested = self.requested_method.as_deref();
        let Some(method) = requested.and_then(CorsMethod::named) else {
            return bad_request(&format!("Invalid Access-Control-Request-Method: {}", requested.unwrap_or("null")));
        };
        let Ok(map) = accounts.map().await else {
            return error_response(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "Please reduce your request rate.",
            );
        };
        let Some(bucket) = self.bucket.as_ref().and_then(|name| map.buckets.get(name)) else {
            return self.forbidden(method, "CORSResponse: Bucket not found");
        };
        let Some(cors) = &bucket.config.cors else {
            return self.forbidden(method, "CORSResponse: CORS is not enabled for this bucket.");
        };
        match cors.preflight_rule(origin, method, &self.announced_headers()) {
            Some(rule) => self.permitted(rule, origin),
            None => self.forbidden(
                method,
                "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, \
                 request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted \
                 by the resource's CORS spec.",
            ),
        }
    }

    /// Gives the answer to a request the headers that its bucket's rules say, whether it succeeded or not.
    pub(super) async fn dress(&self, response: &mut Response<Content>, accounts: &Accounts) {
        let Some(cors) = self.rules(accounts).await else { return };
        // With rules the answer depends on the origin even where none is named: a cache must not give it to another.
        response.headers_mut().append(VARY, VARIES_BY);
        let method = self.requested_method.as_deref().unwrap_or(self.method.as_str());
        let (Some(origin), Some(method)) = (&self.origin, CorsMethod::named(method)) else { return };
        if let Some(rule) = cors.rule(origin, method) {
            add_headers(response.headers_mut(), rule, origin);
        }
    }

    async fn rules(&self, accounts: &Accounts) -> Option<Arc<Cors>> {
        let map = accounts.map().await.ok()?;
        map.buckets.get(self.bucket.as_ref()?)?.config.cors.clone()
    }

    fn announced_headers(&self) -> Vec<&str> {
        let headers = self.requested_headers.as_deref().unwrap_or_default().split(',');
        headers.map(str::trim).filter(|header| !header.is_empty()).collect()
    }

    fn permitted(&self, rule: &CorsRule, origin: &str) -> Response<Content> {
        let mut response = Response::new(Content::S3(s3s::Body::empty()));
        let headers = response.headers_mut();
        headers.insert(VARY, VARIES_BY);
        add_headers(headers, rule, origin);
        let announced = self.announced_headers().join(", ").to_ascii_lowercase();
        if !announced.is_empty() {
            insert(headers, ACCESS_CONTROL_ALLOW_HEADERS, &announced);
        }
        response
    }

    fn forbidden(&self, method: CorsMethod, message: &str) -> Response<Content> {
        let resource = if self.has_key { "OBJECT" } else { "BUCKET" };
        error_response_with(
            StatusCode::FORBIDDEN,
            "AccessForbidden",
            message,
            &[("Method", method.name()), ("ResourceType", resource)],
        )
    }
}

/// What a rule says to a page of `origin`.
fn add_headers(headers: &mut HeaderMap, rule: &CorsRule, origin: &str) {
    if rule.is_open_to(origin) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else {
        insert(headers, ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    let methods: Vec<&str> = rule.allowed_methods.iter().map(|method| method.name()).collect();
    insert(headers, ACCESS_CONTROL_ALLOW_METHODS, &methods.join(", "));
    if !rule.expose_headers.is_empty() {
        insert(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &rule.expose_headers.join(", "));
    }
    if let Some(seconds) = rule.max_age_seconds {
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds));
    }
}

/// A rule's texts come from XML and may be no header's value: such a header is left out.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn bad_request(message: &str) -> Response<Content> {
    error_response(StatusCode::BAD_REQUEST, "BadRequest", message)
}
