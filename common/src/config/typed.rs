//! From text to types: each setting is read, defaults that follow from others are filled in, and what must hold
//! between settings is checked.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, Origin};
use super::settings::{self, Default};
use super::sources::{Given, Layer, invalid, read_file};
use super::values::{
    Kind, Secret, parse_address, parse_bool, parse_bytes, parse_choice, parse_count, parse_duration, parse_host,
    parse_host_ports, parse_hosts, parse_ip, parse_networks, parse_port,
};
use super::webhooks::{add_accounts, add_tokens, parse_webhooks};
use super::{LogFormat, RootCredentials, ServerConfig, Webhook};

/// Node ids and zones appear in every map and log line.
const NAME_BYTES_MAX: usize = 63;
/// What an attacker on the network cannot guess.
const SHARED_SECRET_BYTES_MIN: usize = 16;
/// AWS's own minimum for a password; its secret keys have 40.
const SECRET_KEY_BYTES_MIN: usize = 8;
/// No shorter text is a key of 256 bits; which text is one, who reads it says.
const MASTER_KEY_BYTES_MIN: usize = 40;
/// Room for the largest request of each kind, several times: three copies of a document of 8 MiB, 12 MiB of an encrypted upload.
const REQUEST_MEMORY_BYTES_MIN: u64 = 128 << 20;
/// Far enough that the client ports of several nodes on one host do not meet their RPC ports.
const RPC_PORT_OFFSET: u16 = 1000;

pub(super) fn build(given: Layer, hostname: Option<String>) -> Result<ServerConfig, ConfigError> {
    let values = Values(given);
    let node_port = values.required("node_port", parse_port)?;
    let rpc_listen = values.required("rpc_listen", parse_ip)?;
    let seeds = values.required("seeds", parse_host_ports)?;
    let replication_factor = values.count("replication_factor")?.unwrap_or(1);
    let initial_nodes = values.count("initial_nodes")?.unwrap_or_else(|| replication_factor.max(seeds.len() as u32));
    let alone = seeds.is_empty() && initial_nodes == 1;
    let config = ServerConfig {
        node_id: values.optional("node_id", parse_name)?.unwrap_or_else(|| default_node_id(hostname)),
        node_port,
        listen: values.required("listen", parse_ip)?,
        rpc_port: values.optional("rpc_port", parse_port)?.map_or_else(|| default_rpc_port(node_port), Ok)?,
        rpc_listen,
        advertise: values.optional("advertise", parse_host)?.unwrap_or_else(|| default_advertise(rpc_listen)),
        seeds,
        replication_factor,
        initial_nodes,
        partitions: values.count("partitions")?.unwrap_or(if alone { 16 } else { 64 }),
        zone: values.required("zone", parse_name)?,
        capacity_bytes: values.optional("capacity_bytes", parse_capacity)?,
        data_dir: values.required("data_dir", |text| Ok(PathBuf::from(text)))?,
        cluster_secret: values.secret("cluster_secret", SHARED_SECRET_BYTES_MIN)?,
        master_key: values.secret("master_key", MASTER_KEY_BYTES_MIN)?,
        master_key_previous: values.secret("master_key_previous", MASTER_KEY_BYTES_MIN)?,
        sse_c_without_tls: values.required("sse_c_without_tls", parse_bool)?,
        root: values.root_credentials()?,
        region: values.required("region", parse_name)?,
        upload_bucket: values.required("upload_bucket", parse_upload_bucket)?,
        upload_anonymous: values.required("upload_anonymous", parse_bool)?,
        upload_token: values.secret("upload_token", SHARED_SECRET_BYTES_MIN)?,
        domains: values.optional("domain", parse_hosts)?.unwrap_or_default(),
        website_domain: values.optional("website_domain", parse_host)?,
        trusted_proxies: values.optional("trusted_proxies", parse_networks)?.unwrap_or_default(),
        request_memory_bytes: values.required("request_memory_bytes", parse_request_memory)?,
        connections_max: values.count("connections_max")?.unwrap_or(4_096),
        access_log_wait: values.required("access_log_seconds", parse_duration)?,
        webhooks: values.webhooks()?,
        webhook_ca_file: values.optional("webhook_ca_file", |text| Ok(PathBuf::from(text)))?,
        webhook_tries: values.count("webhook_tries")?.unwrap_or(50),
        internal_listen: values.optional("internal_listen", parse_address)?,
        log_format: if values.choice("log_format")? == "json" { LogFormat::Json } else { LogFormat::Text },
        log_level: values.choice("log_level")?,
        block_cache_bytes: values.required("block_cache_bytes", parse_bytes)?,
        raft_workers: values.count("raft_workers")?.unwrap_or(1),
        shutdown_grace: values.required("shutdown_grace_seconds", parse_duration)?,
        disk_reserve_bytes: values.required("disk_reserve_bytes", parse_bytes)?,
        dead_after: values.required("dead_after_seconds", parse_duration)?,
        repair_bandwidth: values.required("repair_bandwidth", parse_rate)?,
        scrub_interval: days(values.count("scrub_interval_days")?.unwrap_or(30)),
        collect_grace: values.required("collect_grace_seconds", parse_duration)?,
        lifecycle_day_seconds: values.count("lifecycle_day_seconds")?.unwrap_or(86_400),
        origins: values.0.iter().map(|(name, given)| (*name, given.origin.clone())).collect(),
    };
    check(&config, &values, alone)?;
    Ok(config)
}

/// What must hold between settings.
fn check(config: &ServerConfig, values: &Values, alone: bool) -> Result<(), ConfigError> {
    if config.initial_nodes < config.replication_factor {
        let reason = format!("{} nodes cannot hold {} replicas", config.initial_nodes, config.replication_factor);
        return Err(values.invalid("initial_nodes", reason));
    }
    if !alone && config.cluster_secret.is_none() {
        let reason = "a cluster of several processes needs one, the same for all";
        return Err(ConfigError::Missing { name: "cluster_secret", reason });
    }
    if config.node_port != 0 && config.node_port == config.rpc_port {
        return Err(values.invalid("rpc_port", "is the same as node_port"));
    }
    Ok(())
}

struct Values(Layer);

impl Values {
    /// The value, or the default in the table of settings; `None` if there is neither.
    fn optional<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        match (self.0.get(name), default(name)) {
            (Some(given), _) => {
                let empty = || invalid(&given.written, &given.origin, "is empty");
                let text =
                    Some(given.value.trim()).filter(|text| !text.is_empty() || name == "seeds").ok_or_else(empty)?;
                parse(text).map(Some).map_err(|reason| invalid(&given.written, &given.origin, reason))
            }
            (None, Default::Value(text)) => {
                parse(text).map(Some).map_err(|reason| invalid(name, &Origin::Default, reason))
            }
            (None, Default::Derived(_) | Default::None) => Ok(None),
        }
    }

    fn required<T>(&self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        let reason = "it has no default";
        self.optional(name, parse)?.ok_or(ConfigError::Missing { name, reason })
    }

    fn count(&self, name: &'static str) -> Result<Option<u32>, ConfigError> {
        let (least, most) = match kind(name) {
            Kind::Count(least, most) => (least, most),
            _ => (0, u32::MAX),
        };
        self.optional(name, |text| parse_count(text, least, most))
    }

    fn choice(&self, name: &'static str) -> Result<String, ConfigError> {
        let words = if let Kind::Choice(words) = kind(name) { words } else { &[] };
        self.required(name, |text| parse_choice(text, words).map(|()| text.to_owned()))
    }

    fn secret(&self, name: &'static str, bytes_min: usize) -> Result<Option<Secret>, ConfigError> {
        let Some(given) = self.0.get(name) else { return Ok(None) };
        let text = secret_text(given)?;
        if text.len() < bytes_min {
            return Err(invalid(&given.written, &given.origin, format!("is shorter than {bytes_min} characters")));
        }
        Ok(Some(Secret::new(text)))
    }

    fn root_credentials(&self) -> Result<Option<RootCredentials>, ConfigError> {
        let access_key = self.optional("root_access_key", parse_access_key)?;
        let secret_key = self.secret("root_secret_key", SECRET_KEY_BYTES_MIN)?;
        match (access_key, secret_key) {
            (Some(access_key), Some(secret_key)) => Ok(Some(RootCredentials { access_key, secret_key })),
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err(ConfigError::Missing { name: "root_secret_key", reason: "root_access_key is given" })
            }
            (None, Some(_)) => {
                Err(ConfigError::Missing { name: "root_access_key", reason: "root_secret_key is given" })
            }
        }
    }

    fn webhooks(&self) -> Result<Vec<Webhook>, ConfigError> {
        let mut webhooks = self.optional("webhooks", parse_webhooks)?.unwrap_or_default();
        if let Some(tokens) = self.secret("webhook_tokens", 0)? {
            let added = add_tokens(&mut webhooks, tokens.expose());
            added.map_err(|reason| self.invalid("webhook_tokens", reason))?;
        }
        if let Some(accounts) = self.optional("webhook_accounts", |text| Ok(text.to_owned()))? {
            let added = add_accounts(&mut webhooks, &accounts);
            added.map_err(|reason| self.invalid("webhook_accounts", reason))?;
        }
        Ok(webhooks)
    }

    fn invalid(&self, name: &'static str, reason: impl Into<String>) -> ConfigError {
        match self.0.get(name) {
            Some(given) => invalid(&given.written, &given.origin, reason),
            None => invalid(name, &Origin::Default, reason),
        }
    }
}

fn default(name: &str) -> Default {
    settings::find(name).map_or(Default::None, |setting| setting.default)
}

fn kind(name: &str) -> Kind {
    settings::find(name).map_or(Kind::Text, |setting| setting.kind)
}

/// The secret, or what is in its file without the line's end.
fn secret_text(given: &Given) -> Result<String, ConfigError> {
    if !given.in_file {
        return Ok(given.value.clone());
    }
    Ok(read_file(Path::new(&given.value))?.trim_end_matches(['\r', '\n']).to_owned())
}

fn parse_name(text: &str) -> Result<String, String> {
    if text.len() <= NAME_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not a name: at most {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"))
    }
}

/// What IAM allows in an access key id, and a few that other stores hand out.
fn parse_access_key(text: &str) -> Result<String, String> {
    if (3..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        Ok(text.to_owned())
    } else {
        Err("is not an access key: 3 to 128 letters, digits, `-`, `_` and `.`".to_owned())
    }
}

fn parse_capacity(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        0 => Err("a node without room is no storage node".to_owned()),
        bytes => Ok(bytes),
    }
}

fn parse_request_memory(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        bytes if bytes < REQUEST_MEMORY_BYTES_MIN => {
            Err("less than 128MiB is too little for large requests".to_owned())
        }
        bytes => Ok(bytes),
    }
}

fn days(count: u32) -> Duration {
    Duration::from_secs(u64::from(count) * 24 * 60 * 60)
}

fn parse_rate(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        0 => Err("nothing would ever be repaired; `annulus repair pause` stops it for a while".to_owned()),
        bytes => Ok(bytes),
    }
}

/// S3's rules for bucket names as far as they matter here; `upload` itself is the path of the upload door.
fn parse_upload_bucket(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    if !(3..=63).contains(&text.len())
        || !text.bytes().all(inner)
        || text.starts_with(['-', '.'])
        || text.ends_with(['-', '.'])
    {
        return Err(format!("`{text}` is not a bucket name: 3 to 63 lower-case letters, digits, `-` and `.`"));
    }
    if text == "upload" { Err("`upload` is reserved".to_owned()) } else { Ok(text.to_owned()) }
}

fn default_node_id(hostname: Option<String>) -> String {
    hostname.and_then(|name| parse_name(&name).ok()).unwrap_or_else(|| "node1".to_owned())
}

/// Port 0 lets the system choose, for both.
fn default_rpc_port(node_port: u16) -> Result<u16, ConfigError> {
    if node_port == 0 {
        return Ok(0);
    }
    let reason = "node_port + 1000 is not a port";
    node_port.checked_add(RPC_PORT_OFFSET).ok_or(ConfigError::Missing { name: "rpc_port", reason })
}

fn default_advertise(rpc_listen: IpAddr) -> String {
    if rpc_listen.is_unspecified() { "127.0.0.1".to_owned() } else { rpc_listen.to_string() }
}
