//! The cluster as a node is part of it: forming and joining it, the state machine of group 0, and the service of those who
//! watch the cluster map. What the map means and how it changes is `common::map`'s.

pub mod balance;
pub mod formation;
pub mod leases;
pub mod membership;
pub mod records;
pub mod root_key;
pub mod state;
pub mod watch;
