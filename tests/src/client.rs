//! An S3 client for tests: it signs what it is given and shows the raw answer. It never retries, corrects or interprets.

use std::time::{Duration, SystemTime};

use annulus_gateway::sign::Signer;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use md5::{Digest, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// What a key's path leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// How long an endpoint may take: longer than anything that S3 clients wait for.
const ANSWER_WAIT: Duration = Duration::from_secs(120);

/// A key as a path, or a value as it stands in a query.
pub fn encode(text: impl AsRef<[u8]>) -> String {
    percent_encode(text.as_ref(), UNRESERVED).to_string()
}

/// A client of one endpoint with one account's key.
#[derive(Clone)]
pub struct S3 {
    endpoint: String,
    /// What requests name as their host, where it is not the endpoint.
    host: Option<String>,
    signer: Option<Signer>,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// A request on its way.
pub struct Call<'a> {
    s3: &'a S3,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
    signed_at: SystemTime,
    service: &'static str,
    /// What is signed instead of the body.
    signed_body: Option<SignableBody<'static>>,
}

/// Why there is no answer, in words.
#[derive(Debug)]
pub struct Unanswered(pub String);

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl S3 {
    /// A client that signs with a key of region `us-east-1`.
    pub fn new(endpoint: &str, access_key: &str, secret_key: &str) -> Self {
        let signer = Signer {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            region: "us-east-1".to_owned(),
            token: None,
        };
        Self { signer: Some(signer), ..Self::anonymous(endpoint) }
    }

    /// The same client with the token of a session.
    pub fn with_token(&self, token: &str) -> Self {
        let signer = self.signer.clone().map(|signer| Signer { token: Some(token.to_owned()), ..signer });
        Self { signer, ..self.clone() }
    }

    /// A call of IAM's or STS's: a form that is posted to `/`, signed for that service.
    pub fn action(&self, service: &'static str, action: &str, parameters: &[(&str, &str)]) -> Call<'_> {
        let mut form = format!("Action={action}");
        for (name, value) in parameters {
            form.push_str(&format!("&{name}={}", percent_encode(value.as_bytes(), NON_ALPHANUMERIC)));
        }
        let call = self.post("/").header("content-type", "application/x-www-form-urlencoded").body(form);
        Call { service, ..call }
    }

    /// A client that does not sign.
    pub fn anonymous(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            host: None,
            signer: None,
            http: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// The same client, whose requests name another host.
    pub fn at_host(&self, host: &str) -> Self {
        Self { host: Some(host.to_owned()), ..self.clone() }
    }

    fn host(&self, uri: &http::Uri) -> String {
        let authority = || uri.authority().expect("an endpoint has an authority").to_string();
        self.host.clone().unwrap_or_else(authority)
    }

    /// A `PUT` of `target`: a path, percent-encoded, with its query.
    pub fn put(&self, target: &str) -> Call<'_> {
        self.call(Method::PUT, target)
    }

    /// A `GET`.
    pub fn get(&self, target: &str) -> Call<'_> {
        self.call(Method::GET, target)
    }

    /// A `HEAD`.
    pub fn head(&self, target: &str) -> Call<'_> {
        self.call(Method::HEAD, target)
    }

    /// A `POST`.
    pub fn post(&self, target: &str) -> Call<'_> {
        self.call(Method::POST, target)
    }

    /// A `DELETE`.
    pub fn delete(&self, target: &str) -> Call<'_> {
        self.call(Method::DELETE, target)
    }

    fn call(&self, method: Method, target: &str) -> Call<'_> {
        Call {
            s3: self,
            method,
            target: target.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            signed_at: SystemTime::now(),
            service: "s3",
            signed_body: None,
        }
    }

    /// A presigned target: whoever has it may send that request until it expires.
    pub fn presign(&self, method: &Method, target: &str, signed_at: SystemTime, expires_in: Duration) -> String {
        let signer = self.signer.as_ref().expect("a presigned URL is signed by somebody");
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.expires_in = Some(expires_in);
        let identity =
            Credentials::new(&signer.access_key, &signer.secret_key, signer.token.clone(), None, "tests").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&signer.region)
            .name("s3")
            .time(signed_at)
            .settings(settings)
            .build()
            .expect("every parameter is given");
        let url = format!("{}{target}", self.endpoint);
        let uri: http::Uri = url.parse().expect("a test's target is valid");
        let host = self.host(&uri);
        let headers = [("host", host.as_str())];
        let signable = SignableRequest::new(method.as_str(), url, headers.into_iter(), SignableBody::UnsignedPayload);
        let signable = signable.expect("a test's request has a canonical form");
        let (instructions, _) = sign(signable, &params.into()).expect("a test's request signs").into_parts();
        let mut request = http::Request::builder().method(method).uri(uri).body(()).expect("its parts are valid");
        instructions.apply_to_request_http1x(&mut request);
        request.uri().path_and_query().expect("a target has a path").to_string()
    }
}

impl Call<'_> {
    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().expect("a test's header value is valid"));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Promises the MD5 of the body that was set.
    pub fn with_md5(self) -> Self {
        let md5 = BASE64.encode(Md5::digest(&self.body));
        self.header("content-md5", &md5)
    }

    /// Signs as at another time.
    pub fn signed_at(mut self, time: SystemTime) -> Self {
        self.signed_at = time;
        self
    }

    /// Signs something else than the body.
    pub fn signed_body(mut self, body: SignableBody<'static>) -> Self {
        self.signed_body = Some(body);
        self
    }

    /// The request, signed and ready to be sent or spoilt.
    pub fn prepare(self) -> Request<Bytes> {
        let uri: http::Uri = format!("{}{}", self.s3.endpoint, self.target).parse().expect("a test's target is valid");
        let host = self.s3.host(&uri);
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers;
        request.headers_mut().insert(HOST, host.parse().expect("an authority is a valid header value"));
        if let Some(signer) = &self.s3.signer {
            let body = self.signed_body.unwrap_or(SignableBody::Bytes(&self.body));
            signer.sign_for(self.service, &mut request, body, self.signed_at).expect("a test's request signs");
        }
        request
    }

    /// The request with the length of its body, which hyper leaves out where that is empty, and clients of S3 do not.
    fn sized(self) -> Request<Full<Bytes>> {
        let mut request = self.prepare();
        if request.body().is_empty() && [Method::PUT, Method::POST].contains(request.method()) {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        request.map(Full::new)
    }

    /// Sends the request. An endpoint that does not answer is an error, and so is an answer that breaks off.
    pub async fn try_send(self) -> Result<Reply, Unanswered> {
        self.try_send_within(ANSWER_WAIT).await
    }

    /// Sends the request and waits that long for the whole answer.
    pub async fn try_send_within(self, wait: Duration) -> Result<Reply, Unanswered> {
        let http = &self.s3.http;
        let exchange = async {
            let response = http.request(self.sized()).await.map_err(|error| format!("{error:?}"))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Reply { status: head.status, headers: head.headers, body })
        };
        let exchanged = tokio::time::timeout(wait, exchange).await;
        exchanged.unwrap_or_else(|_| Err(format!("nothing within {wait:?}"))).map_err(Unanswered)
    }

    /// Sends the request. Panics when the endpoint does not answer.
    pub async fn send(self) -> Reply {
        let what = format!("{} {}", self.method, self.target);
        self.try_send().await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// Sends the request and expects success.
    pub async fn ok(self) -> Reply {
        let what = format!("{} {}", self.method, self.target);
        let reply = self.send().await;
        assert!(reply.status.is_success(), "{what}: {} {}", reply.status, reply.text());
        reply
    }

    /// Sends the request and expects this error.
    pub async fn refused(self, status: u16, code: &str) -> Reply {
        let what = format!("{} {}", self.method, self.target);
        let reply = self.send().await;
        assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (status, Some(code)), "{what}: {}", reply.text());
        reply
    }
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// S3's error code.
    pub fn code(&self) -> Option<String> {
        self.element("Code")
    }

    /// The text of the first XML element of that name.
    pub fn element(&self, name: &str) -> Option<String> {
        self.elements(name).into_iter().next()
    }

    /// The texts of all XML elements of that name, unescaped, in order.
    pub fn elements(&self, name: &str) -> Vec<String> {
        let text = self.text();
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        text.split(&open).skip(1).filter_map(|rest| rest.split_once(&close).map(|(inner, _)| unescape(inner))).collect()
    }
}

fn unescape(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#13;", "\r"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character))
}
