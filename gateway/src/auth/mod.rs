//! Who asks, and whether they may.
//!
//! Signatures of S3 requests are verified by s3s with the secrets that [`keys`] finds; requests outside S3 by [`sigv4`].
//! Then every S3 request goes one way:
//!
//! 1. [`access`] finds out who asks, what the operation does ([`action`]) and all that conditions can ask ([`facts`]);
//! 2. what is done to the service, a bucket or a key is judged there, before the body is read;
//! 3. what is done to an object or an upload is judged by the operation that finds it, through [`Access`] and a
//!    [`Resource`]: they have owners and lists of their own;
//! 4. [`decide`] has the last word each time.
//!
//! Nothing here reads or writes an object.

pub mod access;
pub mod action;
mod caller;
pub(crate) mod client_keys;
pub(crate) mod copy_source;
mod decide;
mod facts;
pub(crate) mod form_signature;
mod keys;
mod log_delivery;
mod pipeline;
pub mod promise;
mod resource;
mod sessions;
pub mod sigv4;
pub(crate) mod subresource;
pub mod supported;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use annulus_common::map::ClusterMap;
use annulus_common::map::watch::MapWatch;
use parking_lot::Mutex;

use crate::kms::MasterKeys;
use crate::query;

pub(crate) use caller::{Caller, Unrecognised, session_arn};
pub(crate) use facts::{
    of_bucket_tags as facts_of_bucket_tags, of_retention as facts_of_retention, of_tags as facts_of_tags,
};
pub(crate) use log_delivery::{LogTarget, may_deliver_logs};
pub(crate) use pipeline::ANONYMOUS;
pub use pipeline::Access;
pub use resource::Resource;
pub(crate) use resource::bucket_arn;
pub use sessions::Sessions;
pub(crate) use sessions::{NoRandomness, Session, SessionOf};

/// How long a request waits for the map's lease to be renewed: an election of its leader takes 1.5 - 3 s.
const LEASE_WAIT: Duration = Duration::from_secs(8);

/// The operation that a request turned out to be: written where it is found out, read where it is counted.
#[derive(Clone, Default, Debug)]
pub(crate) struct Operation(Arc<Found>);

#[derive(Default, Debug)]
struct Found {
    name: OnceLock<&'static str>,
    charged: AtomicBool,
    access: OnceLock<Access>,
    signature: OnceLock<Signature>,
    deleted: Mutex<Vec<DeletedKey>>,
    stored: Mutex<Vec<StoredKey>>,
}

/// One key of a deletion of many, and how its deletion ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DeletedKey {
    pub(crate) key: String,
    pub(crate) version_id: Option<String>,
    /// Status and code of what went wrong.
    pub(crate) error: Option<(u16, String)>,
}

/// One key of a request that stores several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StoredKey {
    pub(crate) key: String,
    pub(crate) bytes: u64,
}

impl Operation {
    /// Says which operation it is; the first word counts.
    pub(crate) fn name_it(&self, name: &'static str) {
        let _ = self.0.name.set(name);
    }

    /// S3's name of it, or `unknown`.
    pub(crate) fn name(&self) -> &'static str {
        self.0.name.get().copied().unwrap_or("unknown")
    }

    /// Says that the requester pays for it.
    pub(crate) fn charge(&self) {
        self.0.charged.store(true, Ordering::Relaxed);
    }

    /// Says who asks, and with which signature.
    pub(crate) fn ask(&self, access: &Access, signature: Option<&Signature>) {
        let _ = self.0.access.set(access.clone());
        if let Some(signature) = signature {
            let _ = self.0.signature.set(signature.clone());
        }
    }

    /// Who asks, as far as that was found out.
    pub(crate) fn access(&self) -> Option<&Access> {
        self.0.access.get()
    }

    /// The signature that was verified.
    pub(crate) fn signature(&self) -> Option<&Signature> {
        self.0.signature.get()
    }

    /// Says which keys a deletion of many was about.
    pub(crate) fn delete(&self, deleted: Vec<DeletedKey>) {
        *self.0.deleted.lock() = deleted;
    }

    /// The keys that a deletion of many was about.
    pub(crate) fn take_deleted(&self) -> Vec<DeletedKey> {
        std::mem::take(&mut *self.0.deleted.lock())
    }

    /// Says which keys a request of many files has stored.
    pub(crate) fn store(&self, stored: Vec<StoredKey>) {
        *self.0.stored.lock() = stored;
    }

    /// The keys that a request of many files has stored.
    pub(crate) fn take_stored(&self) -> Vec<StoredKey> {
        std::mem::take(&mut *self.0.stored.lock())
    }

    /// Whether the requester pays for it: S3 says so in its answer.
    pub(crate) fn is_charged(&self) -> bool {
        self.0.charged.load(Ordering::Relaxed)
    }
}

/// A signature that was verified, perhaps in an earlier pass of the same request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Signature {
    /// Whose it is.
    pub(crate) access_key: String,
    /// What came with it, where the key is a session's.
    pub(crate) token: Option<String>,
    /// Where it was.
    pub(crate) carried: Carried,
}

/// Where a signature was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carried {
    /// In the header `Authorization`.
    Header,
    /// In a presigned URL.
    Url {
        /// When it was signed, Unix milliseconds.
        signed_ms: u64,
    },
    /// In a browser's form.
    Form {
        /// Whether it is of version 2.
        version_2: bool,
    },
}

impl Signature {
    /// The signature of a request for `uri`, by that key.
    pub(crate) fn of_request(access_key: &str, uri: &http::Uri, headers: &http::HeaderMap) -> Self {
        // As s3s tells them apart: others of that name, in another case, mean nothing.
        let parameter = |wanted: &str| query::value(uri.query(), wanted);
        let token = session_token(uri, headers);
        let carried = match parameter("X-Amz-Signature") {
            Some(_) => {
                let signed_at = parameter("X-Amz-Date").and_then(|date| sigv4::parse_date(&date));
                Carried::Url { signed_ms: signed_at.unwrap_or_default() * 1000 }
            }
            None => Carried::Header,
        };
        Self { access_key: access_key.to_owned(), token, carried }
    }
}

/// The token of a session, in a header or in a presigned URL.
pub(crate) fn session_token(uri: &http::Uri, headers: &http::HeaderMap) -> Option<String> {
    let name = "x-amz-security-token";
    let in_header = headers.get(name).map(|token| String::from_utf8_lossy(token.as_bytes()).into_owned());
    let in_query = || query::pairs(uri.query()).find(|(key, _)| key.eq_ignore_ascii_case(name));
    in_header.or_else(|| in_query().map(|(_, token)| token.into_owned()))
}

/// Users, keys and buckets as the cluster map has them under its lease: what was revoked is not in force anywhere.
#[derive(Clone)]
pub struct Accounts {
    watch: MapWatch,
    sessions: Arc<Sessions>,
}

/// The map's lease ran out and could not be renewed in time: nobody can be recognised now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the cluster map cannot be reached")]
pub struct MapUnreachable;

impl Accounts {
    /// Accounts as the watched map has them, and the sessions of a cluster with these master keys.
    pub fn new(watch: MapWatch, masters: &MasterKeys) -> Self {
        Self { watch, sessions: Arc::new(Sessions::new(masters)) }
    }

    /// The temporary credentials that the cluster gives out.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// What a key signs with, if it is known: an account's, a user's, or a session's.
    pub(crate) fn secret_of(&self, map: &ClusterMap, access_key: &str) -> Option<String> {
        let lasting = map.active_key(access_key).map(|key| key.secret.clone());
        lasting.or_else(|| self.sessions.secret_of(access_key))
    }

    /// The map, if its lease holds now.
    pub fn current(&self) -> Option<Arc<ClusterMap>> {
        self.watch.current()
    }

    /// The map, with every change that was acknowledged before this call.
    pub async fn map(&self) -> Result<Arc<ClusterMap>, MapUnreachable> {
        match self.watch.current() {
            Some(map) => Ok(map),
            None => tokio::time::timeout(LEASE_WAIT, self.watch.refresh()).await.map_err(|_| MapUnreachable),
        }
    }
}
