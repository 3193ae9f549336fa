//! What the tests share: clusters in this process and of real processes, and a client that says exactly what it is told to.

pub mod certificates;
pub mod client;
pub mod cluster;
pub mod history;
pub mod load;
pub mod processes;
pub mod wait;
pub mod webhook;
pub mod wire;
