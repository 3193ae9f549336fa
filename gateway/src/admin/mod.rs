//! The admin API under `/-/admin/v1`: JSON over signed requests of administrators. `model` is what is said, `client` the
//! commands' side; what is asked for is carried out by the object layer and the cluster map.

mod accounts;
pub mod audit;
mod buckets;
pub mod client;
mod copies;
mod error;
mod events;
mod kms;
mod layout;
pub mod model;
mod pace;
mod quotas;
mod status;

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::map::ClusterMap;
use annulus_common::object::UserId;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::auth::Accounts;
use crate::auth::sigv4::{self, SignedPayload};
use crate::http::{HandlerBody, Unread, read_whole};
use crate::kms::LocalKeys;
use crate::object::Objects;

use error::AdminProblem;
use pace::Pace;

/// The largest request body: accounts, keys and buckets are small.
const BODY_BYTES_MAX: usize = 64 << 10;

/// How long it may take to come.
const BODY_WAIT: Duration = Duration::from_secs(60);

/// The admin API.
pub struct Admin {
    objects: Arc<Objects>,
    keys: Arc<LocalKeys>,
    accounts: Accounts,
    clock: SharedClock,
    region: String,
    /// How far moves were when somebody asked last: what a rate is made of.
    pace: Pace,
}

/// A call whose signature holds and whose caller may administer.
struct Call {
    map: Arc<ClusterMap>,
    caller: UserId,
    method: Method,
    /// The path below the base, decoded.
    path: Vec<String>,
    /// What follows it, as it came.
    query: Option<String>,
    body: Bytes,
}

impl Admin {
    /// The admin API over the operations of a gateway.
    pub fn new(
        objects: Arc<Objects>,
        keys: Arc<LocalKeys>,
        accounts: Accounts,
        clock: SharedClock,
        region: String,
    ) -> Self {
        Self { objects, keys, accounts, clock, region, pace: Pace::default() }
    }

    /// Answers a request whose path is below [`model::BASE`].
    pub async fn handle(&self, request: Request<Incoming>) -> Response<HandlerBody> {
        match self.answer(request).await {
            Ok(response) => response,
            Err(problem) => problem.response(),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<HandlerBody>, AdminProblem> {
        let call = self.authenticate(request).await?;
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        match (call.method.as_str(), path.as_slice()) {
            ("GET", ["status"]) => json(StatusCode::OK, &self.status(&call.map).await),
            ("POST", ["layout"]) => json(StatusCode::OK, &self.change_layout(call.parse()?).await?),
            ("POST", ["moves"]) => self.pause_moves(call.parse()?).await.map(|()| done()),
            ("POST", ["audit", "copies"]) => json(StatusCode::OK, &self.audit_copy(&call.map, call.parse()?).await?),
            ("POST", ["audit", "metadata"]) => {
                json(StatusCode::OK, &self.audit_metadata(&call.map, call.parse()?).await?)
            }
            ("POST", ["audit", "names"]) => json(StatusCode::OK, &self.audit_names(&call.map, call.parse()?).await?),
            ("GET", ["users"]) => json(StatusCode::OK, &accounts::list_users(&call.map)),
            ("POST", ["users"]) => json(StatusCode::CREATED, &self.create_user(call.parse()?).await?),
            ("DELETE", ["users", name]) => self.delete_user(&call.map, name).await.map(|()| done()),
            ("GET", ["keys"]) => json(StatusCode::OK, &accounts::list_keys(&call.map)),
            ("POST", ["keys"]) => json(StatusCode::CREATED, &self.create_key(&call.map, call.parse()?).await?),
            ("DELETE", ["keys", id]) => self.delete_key(id).await.map(|()| done()),
            ("GET", ["buckets"]) => json(StatusCode::OK, &buckets::list(&call.map)),
            ("POST", ["buckets"]) => {
                json(StatusCode::CREATED, &self.create_bucket(&call.map, call.caller, call.parse()?).await?)
            }
            ("GET", ["buckets", name, "usage"]) => {
                let (prefix, after) = (call.parameter("prefix"), call.parameter("after"));
                json(StatusCode::OK, &self.bucket_usage(name, prefix, after).await?)
            }
            ("GET", ["buckets" | "users", _, "quota"]) => {
                json(StatusCode::OK, &self.quota(quotas::subject(&call.map, &path)?).await?)
            }
            ("POST", ["buckets" | "users", _, "quota"]) => {
                json(StatusCode::OK, &self.set_quota(quotas::subject(&call.map, &path)?, call.parse()?).await?)
            }
            ("DELETE", ["buckets", name]) => self.delete_bucket(name).await.map(|()| done()),
            ("GET", ["kms"]) => json(StatusCode::OK, &kms::list(&call.map)),
            ("POST", ["kms"]) => json(StatusCode::CREATED, &self.create_kms_key(call.parse()?).await?),
            ("POST", ["kms", name, action]) => json(StatusCode::OK, &self.change_kms_key(name, action).await?),
            ("POST", ["kms-rewrap"]) => json(StatusCode::OK, &self.rewrap_kms_keys().await?),
            _ => Err(AdminProblem::new(StatusCode::NOT_FOUND, "NoSuchCall", "there is no such call")),
        }
    }

    async fn authenticate(&self, request: Request<Incoming>) -> Result<Call, AdminProblem> {
        let (head, body) = request.into_parts();
        let map = self.accounts.map().await?;
        let signed = sigv4::verify(&map, &self.region, self.clock.now_ms(), &head)?;
        if !map.users.get(&signed.user).is_some_and(|user| user.admin) {
            return Err(AdminProblem::new(StatusCode::FORBIDDEN, "AccessDenied", "only administrators may do this"));
        }
        let body = read_whole(body, BODY_BYTES_MAX, BODY_WAIT).await.map_err(|why| match why {
            Unread::Broken => {
                AdminProblem::new(StatusCode::BAD_REQUEST, "BadBody", "the body is incomplete or longer than 64 KiB")
            }
            Unread::Late => AdminProblem::new(
                StatusCode::REQUEST_TIMEOUT,
                "RequestTimeout",
                format!("the body did not come within {} s", BODY_WAIT.as_secs()),
            ),
        })?;
        if let SignedPayload::Sha256(expected) = signed.payload
            && Sha256::digest(&body).as_slice() != expected
        {
            return Err(AdminProblem::new(StatusCode::BAD_REQUEST, "BadBody", "the body is not what was signed"));
        }
        let below = head.uri.path().strip_prefix(model::BASE).unwrap_or_default();
        let path = below
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
            .collect();
        let query = head.uri.query().map(str::to_owned);
        Ok(Call { map, caller: signed.user, method: head.method, path, query, body })
    }
}

impl Call {
    /// A parameter of the query, decoded.
    fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.as_deref()?.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()?;
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, AdminProblem> {
        serde_json::from_slice(&self.body).map_err(|error| {
            AdminProblem::new(StatusCode::BAD_REQUEST, "BadBody", format!("the body is not valid: {error}"))
        })
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Result<Response<HandlerBody>, AdminProblem> {
    let text = serde_json::to_vec(value)
        .map_err(|error| AdminProblem::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", error.to_string()))?;
    Ok(respond(status, text.into()))
}

fn done() -> Response<HandlerBody> {
    respond(StatusCode::NO_CONTENT, Bytes::new())
}

fn respond(status: StatusCode, body: Bytes) -> Response<HandlerBody> {
    crate::http::respond(status, "application/json", body)
}
