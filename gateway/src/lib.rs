//! The Annulus gateway: S3 and `/upload` in front, the cluster behind. It holds no state of its own.

pub mod access_log;
pub mod admin;
pub mod auth;
mod bucket_name;
mod budget;
mod cause;
pub mod cli;
pub mod client;
pub mod control;
mod detail;
pub mod embedded;
pub mod events;
mod gate;
pub mod gateway;
pub mod http;
pub mod iam;
pub mod kms;
pub mod object;
pub mod operations;
mod query;
mod request;
mod routes;
mod s3;
pub mod sign;
mod steady;
mod tls;
pub mod upload;
