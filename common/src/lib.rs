//! The vocabulary and the seams of Annulus: what the gateway and the storage node both speak. Pure where possible.

pub mod acl;
pub mod chunk;
pub mod clock;
pub mod ids;
pub mod rpc;
pub mod condition;
pub mod map;
pub mod object;
pub mod placement;
pub mod protocol;
pub mod checksum;
pub mod config;
pub mod ring;
pub mod telemetry;
