//! What a node stores about its place in the cluster, beside its identity, and which Raft groups follow from it.
//!
//! The identity with a number in it is written last: whoever finds one finds the rest too. No network, no Raft calls.

use annulus_common::ids::{GroupId, NodeId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::protocol;

use super::records;
use crate::kv::identity::NodeIdentity;
use crate::kv::{Batch, Durability, Kv, KvError, KvRead, Table};
use crate::raft::GroupSpec;

const FORMATION_KEY: &[u8] = b"cluster/formation";
pub(crate) const CONTACTS_KEY: &[u8] = b"cluster/contacts";

/// A node's place in the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// Its number.
    pub node: NodeId,
    /// The map that the cluster began with, for a node that it began with.
    pub formation: Option<ClusterMap>,
    /// Who is in the cluster as last heard: how a restarting node finds the others without seeds.
    pub contacts: ClusterMap,
}

impl Membership {
    /// What is stored; nothing for a node that is in no cluster yet.
    pub fn load(kv: &(impl KvRead + ?Sized), identity: &NodeIdentity) -> Result<Option<Self>, KvError> {
        let (Some(_), Some(node)) = (identity.cluster, identity.node) else { return Ok(None) };
        let contacts = read(kv, CONTACTS_KEY)?.ok_or_else(|| corrupt("a member without a map"))?;
        Ok(Some(Self { node, formation: load_formation(kv)?, contacts }))
    }

    /// Makes this the place of the node, durably. What is there from an interrupted try is the same and is overwritten.
    pub fn store(&self, kv: &dyn Kv, identity: &NodeIdentity) -> Result<NodeIdentity, KvError> {
        let mut batch = Batch::default();
        batch.put(Table::System, CONTACTS_KEY, protocol::encode(&self.contacts.skeleton()));
        if let Some(map) = &self.formation {
            batch.put(Table::System, FORMATION_KEY, protocol::encode(map));
            if map.map_voters.contains(&self.node) {
                records::put_whole(map, &mut batch);
            }
        }
        kv.write(batch, Durability::Synced)?;
        let identity = NodeIdentity { cluster: Some(self.contacts.cluster), node: Some(self.node), ..identity.clone() };
        identity.store(kv)?;
        Ok(identity)
    }

    /// The groups of this node by `map`, as they begin. A group that exists resumes whatever is said here.
    ///
    /// Partitions begin with the voters of the formation only when it is confirmed that the layout is still that one: a node that
    /// was cut off before it had begun them may have been removed from them since. The map's own group has nobody to confirm it
    /// where all nodes were cut off.
    pub fn groups(&self, map: &ClusterMap, is_confirmed: bool) -> Vec<GroupSpec> {
        // Once replicas have moved, an initial replica may have left and come back: it must not begin anew as a voter then.
        let formation = self.formation.as_ref().filter(|formation| formation.epoch == map.epoch);
        let spec = |group: GroupId, voters: Option<&[NodeId]>| GroupSpec {
            group,
            voters: voters.unwrap_or_default().to_vec(),
        };
        let mut groups = Vec::new();
        if map.map_voters.contains(&self.node) {
            groups.push(spec(GroupId::CLUSTER_MAP, formation.map(|formation| formation.map_voters.as_slice())));
        }
        if formation.is_some() && !is_confirmed {
            return groups;
        }
        for partition in (0..map.partitions()).map(PartitionId) {
            if map.replicas(partition).contains(&self.node) {
                groups.push(spec(partition.into(), formation.map(|formation| formation.replicas(partition))));
            }
        }
        groups
    }
}

/// The map that the cluster was decided to begin with, if it was here.
pub fn load_formation(kv: &(impl KvRead + ?Sized)) -> Result<Option<ClusterMap>, KvError> {
    read(kv, FORMATION_KEY)
}

/// Decides with which map the cluster begins, durably: from now on nothing else may be answered.
pub fn store_formation(kv: &dyn Kv, map: &ClusterMap) -> Result<(), KvError> {
    let mut batch = Batch::default();
    batch.put(Table::System, FORMATION_KEY, protocol::encode(map));
    kv.write(batch, Durability::Synced)
}

/// Remembers who is in the cluster.
pub fn store_contacts(kv: &dyn Kv, map: &ClusterMap) -> Result<(), KvError> {
    let mut batch = Batch::default();
    batch.put(Table::System, CONTACTS_KEY, protocol::encode(&map.skeleton()));
    kv.write(batch, Durability::Synced)
}

fn read(kv: &(impl KvRead + ?Sized), key: &[u8]) -> Result<Option<ClusterMap>, KvError> {
    let Some(record) = kv.get(Table::System, key)? else { return Ok(None) };
    protocol::decode(&record).map(Some).map_err(|error| corrupt(&error.to_string()))
}

fn corrupt(reason: &str) -> KvError {
    KvError::Corrupt { during: "reading the node's place in the cluster", reason: reason.to_owned() }
}
