//! The original system's route: `curl -X POST -F 'file=@x' http://host:4000/upload`, and `GET /upload/NAME`.
//!
//! Files go into one bucket under their names, through the same object layer as S3. Who may: who signs as the bucket's owner, who
//! brings the upload token, and everybody where the operator allows it. No second way to store anything.

mod download;
mod error;
mod name;
mod receive;

use std::sync::Arc;

use annulus_common::clock::SharedClock;
use annulus_common::map::{Bucket, BucketConfig, ClusterMap};
use annulus_common::object::UserId;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use subtle::ConstantTimeEq;

use crate::auth::access::access_of_account;
use crate::auth::action::{Action, GET_OBJECT, PUT_OBJECT};
use crate::auth::{Access, Accounts, Carried, Operation, Signature, promise, sigv4, subresource};
use crate::http::{Handler, HandlerBody};
use crate::object::{ObjectError, Objects};
use crate::routes::UPLOAD_PATH;

use error::UploadError;

/// What the two ways of the route are called where headers are judged: names that no operation of S3's has, so that nothing of
/// what headers promise is taken for done.
const UPLOAD: &str = "Upload";
const DOWNLOAD: &str = "GetUpload";

/// What the operator decides.
#[derive(Clone)]
pub struct UploadConfig {
    /// The bucket that files go into; made when the first one comes.
    pub bucket: String,
    /// Whether credentials are needed at all.
    pub anonymous: bool,
    /// A bearer token that allows uploading, for clients that cannot sign.
    pub token: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
}

/// The route.
pub struct Upload {
    objects: Arc<Objects>,
    accounts: Accounts,
    clock: SharedClock,
    config: UploadConfig,
}

/// Who asks.
enum Caller {
    /// An account: only as the bucket's owner.
    User { id: UserId, signature: Signature },
    /// Somebody whom the operator lets use this route, and nothing else.
    Guest,
}

impl Upload {
    /// The route over the operations of a gateway.
    pub fn new(objects: Arc<Objects>, accounts: Accounts, clock: SharedClock, config: UploadConfig) -> Self {
        Self { objects, accounts, clock, config }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<HandlerBody>, UploadError> {
        let (mut head, body) = request.into_parts();
        let map = self.accounts.map().await?;
        let caller = self.authenticate(&map, &head)?;
        if !subresource::is_plain(head.uri.query()) {
            return Err(UploadError::NotBuilt("the query".to_owned()));
        }
        let below = head.uri.path().strip_prefix(UPLOAD_PATH).unwrap_or_default().trim_start_matches('/');
        match (&head.method, below.is_empty()) {
            (&Method::POST, true) => {
                promise::check_form(&head.headers, UPLOAD, &[])?;
                refuse_digest(&head.headers)?;
                let bucket = self.bucket_to_write(&map, &caller).await?;
                let access = self.access(&bucket, ("PutObject", PUT_OBJECT), &caller, &head);
                caller.is_known(&mut head, &access);
                self.receive(&head, body, &bucket, &access).await
            }
            (&Method::GET | &Method::HEAD, false) => {
                promise::check_form(&head.headers, DOWNLOAD, &[])?;
                let bucket = self.objects.bucket(&self.config.bucket).await?;
                permit(&caller, &bucket)?;
                let access = self.access(&bucket, ("GetObject", GET_OBJECT), &caller, &head);
                let key = name::decode(below)?;
                caller.is_known(&mut head, &access);
                self.download(&head, &bucket, &key, &access).await
            }
            _ => Err(UploadError::MethodNotAllowed),
        }
    }

    /// Everybody here acts for the bucket's owner, and what a policy forbids the owner it forbids them.
    fn access(&self, bucket: &Bucket, what: (&'static str, Action), caller: &Caller, head: &Parts) -> Access {
        let circumstances = (self.config.region.as_str(), self.clock.now_ms());
        access_of_account(bucket.owner, what, caller.signature(), head, circumstances)
    }

    /// A wrong signature or token is refused even where none is needed.
    fn authenticate(&self, map: &ClusterMap, head: &Parts) -> Result<Caller, UploadError> {
        if sigv4::is_signed(&head.headers) {
            let signed = sigv4::verify(map, &self.config.region, self.clock.now_ms(), head)?;
            return Ok(Caller::User {
                id: signed.user,
                signature: Signature { access_key: signed.access_key, token: None, carried: Carried::Header },
            });
        }
        match (bearer(&head.headers), &self.config.token) {
            (Some(given), Some(token)) if bool::from(given.as_bytes().ct_eq(token.as_bytes())) => Ok(Caller::Guest),
            (None, _) if self.config.anonymous => Ok(Caller::Guest),
            _ => Err(UploadError::AccessDenied),
        }
    }

    async fn bucket_to_write(&self, map: &ClusterMap, caller: &Caller) -> Result<Bucket, UploadError> {
        let owner = match caller {
            Caller::User { id, .. } => *id,
            Caller::Guest => first_admin(map).ok_or(UploadError::AccessDenied)?,
        };
        let bucket = match self.objects.bucket(&self.config.bucket).await {
            Err(ObjectError::NoSuchBucket) => {
                match self.objects.create_bucket(&self.config.bucket, owner, BucketConfig::default()).await {
                    Err(ObjectError::BucketExists(bucket)) => *bucket,
                    made => made?,
                }
            }
            found => found?,
        };
        permit(caller, &bucket)?;
        Ok(bucket)
    }
}

#[async_trait::async_trait]
impl Handler for Upload {
    async fn handle(&self, request: Request<Incoming>) -> Response<HandlerBody> {
        match self.answer(request).await {
            Ok(response) => response,
            Err(error) => error::response(&error, &[]),
        }
    }
}

impl Caller {
    fn signature(&self) -> Option<&Signature> {
        match self {
            Self::User { signature, .. } => Some(signature),
            Self::Guest => None,
        }
    }

    /// Says who it is to those who record requests and tell of them; a guest is nobody.
    fn is_known(&self, head: &mut Parts, access: &Access) {
        let Some(signature) = self.signature() else { return };
        if let Some(operation) = head.extensions.get::<Operation>() {
            operation.ask(access, Some(signature));
        }
        head.extensions.insert(access.clone());
    }
}

/// Files are stored as they arrive: a hash of the whole form would be judged too late.
fn refuse_digest(headers: &HeaderMap) -> Result<(), UploadError> {
    let digests = headers.get_all("x-amz-content-sha256");
    if digests.iter().all(|digest| digest == "UNSIGNED-PAYLOAD") { Ok(()) } else { Err(UploadError::SignedForm) }
}

fn permit(caller: &Caller, bucket: &Bucket) -> Result<(), UploadError> {
    match caller {
        Caller::User { id, .. } if *id != bucket.owner => Err(UploadError::AccessDenied),
        _ => Ok(()),
    }
}

fn first_admin(map: &ClusterMap) -> Option<UserId> {
    let admins = map.users.iter().filter(|(_, user)| user.admin);
    admins.min_by_key(|(id, user)| (user.created_ms, **id)).map(|(id, _)| *id)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
