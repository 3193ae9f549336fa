//! The Annulus gateway: S3 and `/upload` in front, the cluster behind. It holds no state of its own.

pub mod client;
pub mod object;
pub mod auth;
pub mod http;
mod s3;
pub mod admin;
pub mod cli;
pub mod embedded;
pub mod gateway;
pub mod operations;
pub mod sign;
pub mod upload;
