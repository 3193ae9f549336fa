//! Placeholder.
pub mod chunk;
pub mod kv;
pub mod metadata;
pub mod raft;
