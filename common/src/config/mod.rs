//! The configuration of a server, a gateway or a storage node: flags > environment > `.env` > TOML file > defaults.
//! Nothing is looked up behind the caller's back: [`ServerConfig::load`] sees what it is given, [`LoadInput::from_process`]
//! gathers that from the process.

mod error;
pub mod flags;
mod settings;
mod sources;
#[cfg(test)]
mod tests;
mod typed;
mod values;
mod webhooks;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, Origin};
pub use settings::{Default as SettingDefault, SETTINGS, Setting, reference_markdown};
pub use values::{HostPort, Kind, Secret, parse_bytes, parse_duration};
pub use webhooks::Webhook;

use crate::network::Network;

/// Everything that can be configured, checked. [`SETTINGS`] says what each field means.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field is a setting, described in the table of settings")]
pub struct ServerConfig {
    pub node_id: String,
    pub node_port: u16,
    pub listen: IpAddr,
    pub rpc_port: u16,
    pub rpc_listen: IpAddr,
    pub advertise: String,
    pub seeds: Vec<HostPort>,
    pub replication_factor: u32,
    pub initial_nodes: u32,
    pub partitions: u32,
    pub zone: String,
    /// `None`: the size of the file system.
    pub capacity_bytes: Option<u64>,
    pub data_dir: PathBuf,
    pub cluster_secret: Option<Secret>,
    pub master_key: Option<Secret>,
    pub master_key_previous: Option<Secret>,
    pub sse_c_without_tls: bool,
    pub root: Option<RootCredentials>,
    pub region: String,
    pub upload_bucket: String,
    pub upload_anonymous: bool,
    pub upload_token: Option<Secret>,
    pub domains: Vec<String>,
    pub website_domain: Option<String>,
    pub trusted_proxies: Vec<Network>,
    pub request_memory_bytes: u64,
    pub connections_max: u32,
    pub access_log_wait: Duration,
    pub webhooks: Vec<Webhook>,
    pub webhook_ca_file: Option<PathBuf>,
    pub webhook_tries: u32,
    pub internal_listen: Option<SocketAddr>,
    pub log_format: LogFormat,
    pub log_level: String,
    pub block_cache_bytes: u64,
    pub raft_workers: u32,
    pub shutdown_grace: Duration,
    pub disk_reserve_bytes: u64,
    pub dead_after: Duration,
    pub repair_bandwidth: u64,
    pub scrub_interval: Duration,
    pub collect_grace: Duration,
    pub lifecycle_day_seconds: u32,
    origins: BTreeMap<&'static str, Origin>,
}

/// The access key that may do everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootCredentials {
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object per line.
    Json,
}

/// All that a configuration is made of.
#[derive(Clone, Default)]
pub struct LoadInput {
    /// Names, with or without dashes, and values.
    pub flags: Vec<(String, String)>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// The `.env` file, which must exist. As in any such file `$NAME` in a value stands for a variable, of the file or of
    /// the process; single quotes prevent it.
    pub env_file: Option<PathBuf>,
    /// The TOML file, which must exist.
    pub toml_file: Option<PathBuf>,
    /// The host's name.
    pub hostname: Option<String>,
}

impl LoadInput {
    /// The environment of this process, `.env` in its directory if there is one, and the TOML file that was named by
    /// the caller or else by `ANNULUS_CONFIG`.
    pub fn from_process(flags: Vec<(String, String)>, toml_file: Option<PathBuf>) -> Self {
        // A name or value that is not UTF-8 cannot be one of ours.
        let env = std::env::vars_os().filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
        let env: Vec<(String, String)> = env.collect();
        let variable = |wanted: &str| env.iter().find(|(name, value)| name == wanted && !value.is_empty());
        let named = variable("ANNULUS_CONFIG").map(|(_, path)| PathBuf::from(path));
        Self {
            toml_file: toml_file.or(named),
            env_file: Some(PathBuf::from(".env")).filter(|path| path.is_file()),
            hostname: hostname(),
            flags,
            env,
        }
    }
}

impl ServerConfig {
    /// The configuration that the input amounts to.
    pub fn load(input: LoadInput) -> Result<Self, ConfigError> {
        let mut given = sources::Layer::new();
        given.extend(input.toml_file.as_deref().map_or(Ok(sources::Layer::new()), sources::read_toml)?);
        given.extend(input.env_file.as_deref().map_or(Ok(sources::Layer::new()), sources::read_env_file)?);
        given.extend(sources::read_environment(input.env)?);
        given.extend(sources::read_flags(input.flags)?);
        typed::build(given, input.hostname)
    }

    /// Where the value of a setting came from.
    pub fn origin(&self, name: &str) -> Origin {
        self.origins.get(name).cloned().unwrap_or(Origin::Default)
    }

    /// Where clients are served.
    pub fn client_address(&self) -> SocketAddr {
        SocketAddr::new(self.listen, self.node_port)
    }

    /// Where peers are served.
    pub fn rpc_address(&self) -> SocketAddr {
        SocketAddr::new(self.rpc_listen, self.rpc_port)
    }

    /// What peers are told to connect to.
    pub fn advertised(&self) -> HostPort {
        HostPort { host: self.advertise.clone(), port: self.rpc_port }
    }
}

fn hostname() -> Option<String> {
    let from_kernel = || std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).ok();
    let name = from_kernel().or_else(|| std::env::var("HOSTNAME").ok())?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
