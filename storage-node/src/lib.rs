//! The storage node of Annulus: it keeps chunks and metadata on its disk and agrees with the other nodes about them.
//!
//! `node` puts the parts together, `server` gives each request to its part. `cluster` is group 0 (the cluster map), `metadata`
//! the groups of the partitions, both over `raft`, which knows neither; `chunk` stores bulk bytes; `kv` alone knows the disk.

pub mod chunk;
pub mod cluster;
mod counting;
pub mod kv;
pub mod lifecycle;
pub mod metadata;
pub mod node;
mod peers;
pub mod raft;
pub mod refusal;
pub mod repair;
mod server;
mod status;
