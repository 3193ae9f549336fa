//! The table of settings: the one place that says what can be configured. Names of variables and flags, keys of the
//! TOML file, `--help` and the reference all derive from it; [`super::ServerConfig`] gives the values their types.

use super::values::Kind;

/// One thing that can be configured.
#[derive(Debug)]
pub struct Setting {
    /// The key in TOML; the flag has dashes instead.
    pub name: &'static str,
    /// What a value looks like.
    pub kind: Kind,
    /// The value when none is given, as one would write it.
    pub default: Default,
    /// What it does, for people.
    pub doc: &'static str,
}

/// What holds when a setting is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// This value.
    Value(&'static str),
    /// A value that follows from others, in words.
    Derived(&'static str),
    /// Nothing: the feature is off, or another setting asks for it.
    None,
}

impl Setting {
    /// The environment variable: the three names of the original system as they were, all others with a prefix.
    pub fn env_name(&self) -> String {
        match self.name {
            "node_port" | "node_id" | "replication_factor" => self.name.to_uppercase(),
            name => format!("{ENV_PREFIX}{}", name.to_uppercase()),
        }
    }

    /// The flag, without its two dashes; secrets have none, because everyone on the machine reads command lines.
    pub fn flag_name(&self) -> Option<String> {
        (!self.is_secret()).then(|| self.name.replace('_', "-"))
    }

    /// Whether the value must not be shown.
    pub fn is_secret(&self) -> bool {
        self.kind == Kind::Secret
    }
}

/// Our variables begin with this, and every variable that does must be ours.
pub(super) const ENV_PREFIX: &str = "ANNULUS_";

/// Variables with our prefix that are for programs beside the server: the place of the TOML file, and how the
/// admin command line reaches a cluster.
pub(super) const ENV_NOT_SETTINGS: [&str; 2] = ["ANNULUS_CONFIG", "ANNULUS_ENDPOINT"];

const fn setting(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Setting {
    Setting { name, kind, default, doc }
}

/// Every setting, in the order in which one reads about them. Each secret also has a `..._file` twin beside it.
pub static SETTINGS: &[Setting] = &[
    setting(
        "node_id",
        Kind::Text,
        Default::Derived("the host's name, else `node1`"),
        "The name of this node, shown to people and unique in the cluster.",
    ),
    setting("node_port", Kind::Port, Default::Value("4000"), "The port that clients use, for S3 and for /upload."),
    setting(
        "listen",
        Kind::Ip,
        Default::Value("127.0.0.1"),
        "The address to serve clients on. Only this machine can connect until you say otherwise; `0.0.0.0` is every \
         IPv4 address, `::` every address.",
    ),
    setting(
        "rpc_port",
        Kind::Port,
        Default::Derived("node_port + 1000"),
        "The port that gateways and other nodes use.",
    ),
    setting(
        "rpc_listen",
        Kind::Ip,
        Default::Value("127.0.0.1"),
        "The address to serve gateways and other nodes on. Keep it inside your own network.",
    ),
    setting(
        "advertise",
        Kind::Host,
        Default::Derived("rpc_listen if it is one address, else 127.0.0.1"),
        "The host name or address under which other nodes and gateways reach this node.",
    ),
    setting(
        "seeds",
        Kind::HostPorts,
        Default::Value(""),
        "Where to find the cluster: `host:rpc_port` of some of its nodes, separated by commas. Every node of a new \
         cluster can name all of them, itself too.",
    ),
    setting(
        "replication_factor",
        Kind::Count(1, 7),
        Default::Value("1"),
        "How many nodes hold each object. A write is acknowledged when more than half of them have it on disk.",
    ),
    setting(
        "initial_nodes",
        Kind::Count(1, 1000),
        Default::Derived("replication_factor or the number of seeds, the larger"),
        "How many nodes form a new cluster: it begins to serve when this many have met. Ignored once it exists.",
    ),
    setting(
        "partitions",
        Kind::Count(1, 4096),
        Default::Derived("64, or 16 for a single node without seeds"),
        "How many parts the ring of a new cluster has, for ever. About 20 per node of the largest size it may reach.",
    ),
    setting(
        "zone",
        Kind::Text,
        Default::Value("default"),
        "What fails together with this node: a rack, a room, a data centre. Replicas are spread over zones first.",
    ),
    setting(
        "capacity_bytes",
        Kind::Bytes,
        Default::Derived("the size of the file system of data_dir"),
        "How much this node may hold, as `500GiB` or `2TB`. Nodes get shares of the data in proportion.",
    ),
    setting("data_dir", Kind::Path, Default::Value("./data"), "The directory that holds everything this node stores."),
    setting(
        "cluster_secret",
        Kind::Secret,
        Default::None,
        "What every node and gateway of the cluster knows and nobody else: at least 16 characters. Needed as soon as \
         there is more than one process.",
    ),
    setting(
        "master_key",
        Kind::Secret,
        Default::None,
        "The key that wraps all keys of encrypted objects (SSE-S3 and SSE-KMS): 32 bytes as 64 hexadecimal digits or in \
         base64, the same for every server and gateway. Without it one is derived from cluster_secret, or, for a server \
         alone, drawn into data_dir. Who loses it loses what it encrypts.",
    ),
    setting(
        "master_key_previous",
        Kind::Secret,
        Default::None,
        "The master key before this one, until `annulus kms rewrap` has wrapped every key by the new one.",
    ),
    setting(
        "sse_c_without_tls",
        Kind::Bool,
        Default::Value("false"),
        "Whether clients may send their own keys (SSE-C) over connections that are not encrypted here, because a proxy \
         in front does that or because nobody listens. S3 refuses them.",
    ),
    setting(
        "root_access_key",
        Kind::Text,
        Default::None,
        "The access key that may do everything. Given with root_secret_key; a cluster needs it once, to make users.",
    ),
    setting("root_secret_key", Kind::Secret, Default::None, "The secret of root_access_key: at least 8 characters."),
    setting("region", Kind::Text, Default::Value("us-east-1"), "The region that clients sign their requests for."),
    setting("upload_bucket", Kind::Text, Default::Value("uploads"), "The bucket that /upload puts files into."),
    setting(
        "upload_anonymous",
        Kind::Bool,
        Default::Value("false"),
        "Whether anyone who reaches the port may use /upload without credentials.",
    ),
    setting(
        "upload_token",
        Kind::Secret,
        Default::None,
        "A bearer token that allows /upload, for clients that cannot sign requests: at least 16 characters.",
    ),
    setting(
        "domain",
        Kind::Hosts,
        Default::None,
        "The domains under which buckets have host names, separated by commas: with `s3.example.org`, \
         `photos.s3.example.org` is the bucket `photos`. Paths name buckets too, whatever the host.",
    ),
    setting(
        "website_domain",
        Kind::Host,
        Default::None,
        "The domain under which buckets are served as websites: with `web.example.org`, `photos.web.example.org` is the \
         website of the bucket `photos`. Without it there are none.",
    ),
    setting(
        "trusted_proxies",
        Kind::Networks,
        Default::None,
        "The addresses or ranges (`10.0.0.0/8`) of proxies in front of the gateway, separated by commas. What they say by \
         X-Forwarded-For and X-Forwarded-Proto is believed: who asks, and whether by TLS. Nobody else is believed.",
    ),
    setting(
        "request_memory_bytes",
        Kind::Bytes,
        Default::Value("1GiB"),
        "How much memory all requests of clients may hold together, at least 128MiB. An upload needs 4 MiB of it at a time (8 MiB \
         where it is encrypted), a download 0.5 MiB; up to half of it makes them faster. What finds none for five seconds is \
         answered 503 SlowDown. Requests of up to 64 KiB are not counted.",
    ),
    setting(
        "connections_max",
        Kind::Count(4, 1_000_000),
        Default::Value("4096"),
        "How many connections of clients are served at once; further ones wait. One address is given no more than seven times as \
         many as are free: of 4096 it has 3584 while it is alone, as a proxy is, and fewer where others come.",
    ),
    setting(
        "access_log_seconds",
        Kind::Seconds,
        Default::Value("300"),
        "How long records of buckets with access logging are gathered before they are written to their target bucket. A \
         gateway that dies loses what it gathered.",
    ),
    setting(
        "webhooks",
        Kind::Webhooks,
        Default::None,
        "Who can be told of events in buckets, the same on every server and gateway: with `orders=http://10.0.0.7/s3`, \
         the bucket configuration that names `arn:aws:sqs:::orders` has its events posted to that URL.",
    ),
    setting(
        "webhook_tokens",
        Kind::Secret,
        Default::None,
        "What webhooks are given as `Authorization: Bearer`: `NAME=TOKEN`, separated by commas or each on a line.",
    ),
    setting(
        "webhook_accounts",
        Kind::Text,
        Default::None,
        "Whose buckets may name a webhook, where not everybody's may: `NAME=ACCOUNT ACCOUNT`, separated by commas, each account \
         by its name, number or canonical id. It is looked at when a bucket is configured.",
    ),
    setting(
        "webhook_ca_file",
        Kind::Path,
        Default::None,
        "A file with the certificates (PEM) of those who may certify webhooks at https:// URLs: then nobody else may. Without \
         it the roots are those that the host trusts. Certificates are always verified: chain, name and dates.",
    ),
    setting(
        "webhook_tries",
        Kind::Count(1, 1000),
        Default::Value("50"),
        "How often an event may be refused by its webhook, while that takes others, before it is given up. The pauses grow from \
         a second to ten minutes: 50 tries take seven hours. Until then only events of the same key wait for it.",
    ),
    setting(
        "internal_listen",
        Kind::Address,
        Default::None,
        "Moves everything under /-/ (health, metrics, admin) from the clients' port to this `ip:port`.",
    ),
    setting(
        "log_format",
        Kind::Choice(&["text", "json"]),
        Default::Value("text"),
        "How log lines are written to standard error.",
    ),
    setting(
        "log_level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        Default::Value("info"),
        "The least important log lines that are written.",
    ),
    setting("block_cache_bytes", Kind::Bytes, Default::Value("64MiB"), "Memory for blocks of the node's databases."),
    setting(
        "raft_workers",
        Kind::Count(1, 64),
        Default::Value("1"),
        "Threads that drive consensus. One serves tens of thousands of small writes a second.",
    ),
    setting(
        "shutdown_grace_seconds",
        Kind::Seconds,
        Default::Value("30"),
        "How long requests in flight may take to finish when the process is told to stop.",
    ),
    setting(
        "disk_reserve_bytes",
        Kind::Bytes,
        Default::Value("1GiB"),
        "Objects' bytes are refused when less than this is free, small objects, parts and uploads when less than half of it is, or \
         64 MiB, so that a full disk can still be read and emptied.",
    ),
    setting(
        "dead_after_seconds",
        Kind::Seconds,
        Default::Value("600"),
        "How long a node may be silent before the others take over what it held, where enough of them are left. The same \
         on all nodes; when it comes back, it is a spare.",
    ),
    setting(
        "repair_bandwidth",
        Kind::Bytes,
        Default::Value("64MiB"),
        "How many bytes a second this node moves at most to repair and rebalance, as `64MiB`. It steps back by itself when \
         clients wait.",
    ),
    setting(
        "scrub_interval_days",
        Kind::Count(0, 3650),
        Default::Value("30"),
        "How often everything on this node's disk is read and checked. 0 reads without a pause, as fast as repair may.",
    ),
    setting(
        "collect_grace_seconds",
        Kind::Seconds,
        Default::Value("900"),
        "How long bytes that no object refers to are kept, so that a slow upload is not collected under its feet.",
    ),
    setting(
        "lifecycle_day_seconds",
        Kind::Count(1, 86_400),
        Default::Value("86400"),
        "How long a day of lifecycle rules is. Anything but a day is for tests: objects expire so much earlier.",
    ),
];

/// The setting with this TOML key.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The reference of all settings as a Markdown table.
pub fn reference_markdown() -> String {
    let mut text = String::from("| setting | variable | value | default | |\n|---|---|---|---|---|\n");
    for setting in SETTINGS {
        let twin = if setting.is_secret() { format!(" or `{}_FILE`", setting.env_name()) } else { String::new() };
        let default = match setting.default {
            Default::Value("") | Default::None => String::new(),
            Default::Value(value) => format!("`{value}`"),
            Default::Derived(words) => words.to_owned(),
        };
        let (name, variable, kind, doc) = (setting.name, setting.env_name(), &setting.kind, setting.doc);
        text.push_str(&format!("| `{name}` | `{variable}`{twin} | {kind} | {default} | {doc} |\n"));
    }
    text
}
