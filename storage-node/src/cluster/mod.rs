//! The cluster as a node is part of it: forming and joining it, the state machine of group 0, the service of those who watch
//! the cluster map, and the Raft groups that follow it. What the map means and how it changes is `common::map`'s.

pub mod ask;
pub mod balance;
pub mod conduct;
pub mod copies;
pub mod formation;
pub mod leases;
pub mod membership;
pub mod records;
pub mod register;
pub mod root_key;
pub mod silence;
pub mod state;
#[cfg(test)]
mod testing;
pub mod watch;
