//! Who a database belongs to: the record that each of a node's databases carries, and what is checked against it.
//!
//! It keeps a node from starting on the data of another, or with a program that is too old for it. It opens no database.

use annulus_common::ids::{ClusterId, InstanceId, NodeId};
use serde::{Deserialize, Serialize};

use super::{Batch, Durability, Kv, KvError, KvRead, Table};

/// The layout of what this program stores. A node refuses data of a later one.
pub const FORMAT_VERSION: u32 = 1;

/// Fixed for ever: the key is how any version finds the version.
const IDENTITY_KEY: &[u8] = b"identity";

/// Who a database belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// The layout of the database.
    pub format_version: u32,
    /// This life of the data directory.
    pub instance: InstanceId,
    /// The name that the operator gave the node.
    pub name: String,
    /// The cluster, once the node is in one.
    pub cluster: Option<ClusterId>,
    /// The number in it, once the cluster has given one.
    pub node: Option<NodeId>,
}

/// Why a node must not start on a data directory. Every text names the way out.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A later program wrote it.
    #[error(
        "{place} has format version {found}, this program knows {FORMAT_VERSION} at most; start the version that wrote it"
    )]
    NewerFormat {
        /// The database.
        place: String,
        /// Its version.
        found: u32,
    },
    /// The node is configured under another name.
    #[error(
        "{place} belongs to the node named {stored:?}, but the configured name is {configured:?}; correct the name or the \
         data directory"
    )]
    OtherName {
        /// The database.
        place: String,
        /// The name in it.
        stored: String,
        /// The name asked for.
        configured: String,
    },
    /// The databases, or the extents, are not of one node.
    #[error("{place} and its sibling belong to different nodes; put back the directory that was there before")]
    OtherInstance {
        /// One of them.
        place: String,
    },
    /// One database of the two is gone, or the extents are.
    #[error(
        "{missing} is missing while {present} is there; a node never starts empty in its place: put it back (is a disk not \
         mounted?), or move the whole data directory away and let the node join again as a new one"
    )]
    Missing {
        /// What should be there.
        missing: String,
        /// What is.
        present: String,
    },
    /// There is a database, but nothing says whose.
    #[error(
        "{place} does not say whose it is; it was not made by this program, or it is damaged: then move this data directory \
         away and let the node join again under a new id, its replicas have the data"
    )]
    Unknown {
        /// The database.
        place: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] KvError),
}

impl NodeIdentity {
    /// The identity of a node that has just been made.
    pub fn new(name: impl Into<String>, instance: InstanceId) -> Self {
        Self { format_version: FORMAT_VERSION, instance, name: name.into(), cluster: None, node: None }
    }

    /// What the database at `place` (for messages) says, or nothing when it says nothing yet.
    pub fn load(kv: &(impl KvRead + ?Sized), place: &str) -> Result<Option<Self>, IdentityError> {
        let Some(record) = kv.get(Table::System, IDENTITY_KEY)? else { return Ok(None) };
        // The version stands first and alone, so that it can be read whatever follows it.
        let (found, _) = postcard::take_from_bytes::<u32>(&record).map_err(|_| unreadable(place))?;
        if found > FORMAT_VERSION {
            return Err(IdentityError::NewerFormat { place: place.to_owned(), found });
        }
        let identity: Self = postcard::from_bytes(&record).map_err(|_| unreadable(place))?;
        Ok(Some(identity))
    }

    /// Writes the identity, durably.
    pub fn store(&self, kv: &(impl Kv + ?Sized)) -> Result<(), KvError> {
        let record = postcard::to_stdvec(self)
            .map_err(|error| KvError::Failed { during: "encoding the identity", reason: error.to_string() })?;
        let mut batch = Batch::default();
        batch.put(Table::System, IDENTITY_KEY, record);
        kv.write(batch, Durability::Synced)
    }

    /// Refuses a database that belongs to a node of another name.
    pub fn check_name(&self, place: &str, configured: &str) -> Result<(), IdentityError> {
        if self.name == configured {
            return Ok(());
        }
        Err(IdentityError::OtherName {
            place: place.to_owned(),
            stored: self.name.clone(),
            configured: configured.to_owned(),
        })
    }
}

fn unreadable(place: &str) -> IdentityError {
    IdentityError::Unknown { place: place.to_owned() }
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::{ClusterId, InstanceId, NodeId};

    use super::{FORMAT_VERSION, IDENTITY_KEY, IdentityError, NodeIdentity};
    use crate::kv::memory::MemoryKv;
    use crate::kv::{Batch, Durability, Kv, Table};

    fn identity() -> NodeIdentity {
        NodeIdentity {
            cluster: Some(ClusterId([3; 16])),
            node: Some(NodeId(7)),
            ..NodeIdentity::new("n1", InstanceId([9; 16]))
        }
    }

    #[test]
    fn what_is_stored_is_loaded_after_a_crash() {
        let kv = MemoryKv::new();
        assert_eq!(NodeIdentity::load(&kv, "db").unwrap(), None);
        identity().store(&kv).unwrap();
        kv.crash();
        assert_eq!(NodeIdentity::load(&kv, "db").unwrap(), Some(identity()));
    }

    #[test]
    fn a_later_format_is_refused_whatever_follows_it() {
        let kv = MemoryKv::new();
        let mut batch = Batch::default();
        batch.put(Table::System, IDENTITY_KEY, vec![FORMAT_VERSION as u8 + 1, 0xff]);
        kv.write(batch, Durability::Synced).unwrap();
        let error = NodeIdentity::load(&kv, "/data/meta").unwrap_err();
        assert!(matches!(error, IdentityError::NewerFormat { found, .. } if found == FORMAT_VERSION + 1));
        assert!(error.to_string().contains("/data/meta"));
    }

    #[test]
    fn another_name_is_refused() {
        assert!(identity().check_name("db", "n1").is_ok());
        let error = identity().check_name("db", "n2").unwrap_err();
        assert!(matches!(error, IdentityError::OtherName { .. }));
    }

    #[test]
    fn garbage_is_not_an_identity() {
        let kv = MemoryKv::new();
        let mut batch = Batch::default();
        batch.put(Table::System, IDENTITY_KEY, vec![FORMAT_VERSION as u8, 1]);
        kv.write(batch, Durability::Synced).unwrap();
        assert!(matches!(NodeIdentity::load(&kv, "db"), Err(IdentityError::Unknown { .. })));
    }
}
