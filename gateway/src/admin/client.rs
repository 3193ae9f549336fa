//! The admin API from the commands' side: signed JSON calls to a gateway.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::SignableBody;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::model::{BASE, Problem};
use crate::cause::root_cause;
use crate::sign::{SignError, Signer};
use crate::tls;

/// How long a call may take: longer than a leader's election and a bucket's deletion.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// The largest answer: a cluster of a thousand nodes, or ten thousand buckets.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A gateway to ask.
pub struct AdminClient {
    endpoint: String,
    signer: Signer,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The endpoint is not a URL of this kind.
    #[error("the endpoint {0} is neither an http:// nor an https:// URL")]
    Endpoint(String),
    /// No gateway answered.
    #[error("no answer from {endpoint}: {reason}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The gateway refused.
    #[error("{message} ({code})")]
    Refused {
        /// A word for programs.
        code: String,
        /// A sentence for people.
        message: String,
    },
    /// The gateway's answer is not understood: it is of another version.
    #[error("the answer is not understood: {0}")]
    Answer(#[source] serde_json::Error),
    /// The request could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl AdminClient {
    /// A client for the gateway at `endpoint`, like `http://127.0.0.1:4000`. One at an `https://` URL is verified by what the host
    /// trusts.
    pub fn new(endpoint: &str, signer: Signer) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let roots = if endpoint.starts_with("https://") { tls::roots_of_host() } else { RootCertStore::empty() };
        let http = Client::builder(TokioExecutor::new()).build(tls::connector(Arc::new(roots)));
        Self { endpoint, signer, http }
    }

    /// Reads something.
    pub async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, AdminError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// Makes something.
    pub async fn post<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<A, AdminError> {
        let body = serde_json::to_vec(body).map_err(AdminError::Answer)?;
        self.call(Method::POST, path, body.into()).await
    }

    /// Removes something.
    pub async fn delete(&self, path: &str) -> Result<(), AdminError> {
        self.call::<serde_json::Value>(Method::DELETE, path, Bytes::new()).await.map(|_| ())
    }

    async fn call<A: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<A, AdminError> {
        let request = self.request(method, path, body)?;
        let (status, answer) = match tokio::time::timeout(CALL_DEADLINE, self.exchange(request)).await {
            Ok(exchanged) => exchanged?,
            Err(_) => return Err(self.unreachable(format!("nothing within {CALL_DEADLINE:?}"))),
        };
        if status.is_success() {
            let answer: &[u8] = if answer.is_empty() { b"null" } else { &answer };
            return serde_json::from_slice(answer).map_err(AdminError::Answer);
        }
        let Problem { code, message } = serde_json::from_slice(&answer).unwrap_or_else(|_| {
            let hint = match status {
                StatusCode::NOT_FOUND => ": the admin API is at ANNULUS_INTERNAL_LISTEN where that is set",
                _ => "",
            };
            let message = format!("{} answered {status}{hint}", self.endpoint);
            Problem { code: status.as_u16().to_string(), message }
        });
        Err(AdminError::Refused { code, message })
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, AdminError> {
        let endpoint = || AdminError::Endpoint(self.endpoint.clone());
        let uri: Uri = format!("{}{BASE}{path}", self.endpoint).parse().map_err(|_| endpoint())?;
        let host =
            uri.authority().filter(|_| matches!(uri.scheme_str(), Some("http" | "https"))).ok_or_else(endpoint)?;
        let host = host.to_string();
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.clone()))
            .map_err(|_| endpoint())?;
        self.signer.sign(&mut request, SignableBody::Bytes(&body), SystemTime::now())?;
        Ok(request)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), AdminError> {
        let response = self.http.request(request).await.map_err(|error| self.unreachable(root_cause(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| self.unreachable(error.to_string()))?.to_bytes()))
    }

    fn unreachable(&self, reason: String) -> AdminError {
        AdminError::Unreachable { endpoint: self.endpoint.clone(), reason }
    }
}
