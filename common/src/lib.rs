//! The vocabulary and the seams of Annulus: what the gateway and the storage node both speak. Pure where possible.

pub mod acl;
pub mod attributes;
pub mod checksum;
pub mod chunk;
pub mod clock;
pub mod condition;
pub mod config;
pub mod cors;
pub mod encryption;
pub mod iam;
pub mod ids;
pub mod lifecycle;
pub mod logging;
pub mod map;
pub mod object;
pub mod ownership;
pub mod placement;
pub mod policy;
pub mod protocol;
pub mod ring;
pub mod rpc;
pub mod tags;
pub mod telemetry;
pub mod usage;
pub mod version;
pub mod website;
