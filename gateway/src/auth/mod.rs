//! Who asks, and whether they may: what an operation needs ([`permission`]) against the access control list of the bucket.
//! What is granted by an object's own list is decided by the operation, which finds the object.
//!
//! Signatures of S3 requests are verified by s3s with the secrets that [`keys`] finds; [`access`] decides before a body
//! is read. Requests outside S3 are verified by [`sigv4`]. Nothing here reads or writes an object.

pub mod access;
pub(crate) mod form_signature;
mod keys;
mod permission;
pub mod promise;
pub mod sigv4;
pub(crate) mod subresource;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use annulus_common::map::ClusterMap;
use annulus_common::map::watch::MapWatch;
use annulus_common::object::UserId;

/// How long a request waits for the map's lease to be renewed: an election of its leader takes 1.5 - 3 s.
const LEASE_WAIT: Duration = Duration::from_secs(8);

/// The account that signed the request, or [`UserId::ANONYMOUS`]. Every S3 operation finds it in the request's extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The account.
    pub user: UserId,
}

/// The operation that a request turned out to be: written where it is found out, read where it is counted.
#[derive(Clone, Default, Debug)]
pub(crate) struct Operation(Arc<OnceLock<&'static str>>);

impl Operation {
    /// Says which operation it is; the first word counts.
    pub(crate) fn name_it(&self, name: &'static str) {
        let _ = self.0.set(name);
    }

    /// S3's name of it, or `unknown`.
    pub(crate) fn name(&self) -> &'static str {
        self.0.get().copied().unwrap_or("unknown")
    }
}

/// The access key whose signature was verified in an earlier pass of the same request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct VerifiedKey(pub(crate) String);

/// Users, keys and buckets as the cluster map has them under its lease: what was revoked is not in force anywhere.
#[derive(Clone)]
pub struct Accounts {
    watch: MapWatch,
}

/// The map's lease ran out and could not be renewed in time: nobody can be recognised now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the cluster map cannot be reached")]
pub struct MapUnreachable;

impl Accounts {
    /// Accounts as the watched map has them.
    pub fn new(watch: MapWatch) -> Self {
        Self { watch }
    }

    /// The map, with every change that was acknowledged before this call.
    pub async fn map(&self) -> Result<Arc<ClusterMap>, MapUnreachable> {
        match self.watch.current() {
            Some(map) => Ok(map),
            None => tokio::time::timeout(LEASE_WAIT, self.watch.refresh()).await.map_err(|_| MapUnreachable),
        }
    }
}
