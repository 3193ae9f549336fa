//! Layers, names, refusals, and every setting's way from text to type.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::{
    ConfigError, HostPort, LoadInput, LogFormat, Origin, SETTINGS, Secret, ServerConfig, flags, parse_bytes,
    parse_duration, reference_markdown,
};

const SECRET: &str = "a secret of some length";

/// Files of one test, and what is loaded beside them.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn with_env(env: &[(&str, &str)]) -> Result<ServerConfig, ConfigError> {
    ServerConfig::load(LoadInput { env: pairs(env), ..LoadInput::default() })
}

fn with_flags(flags: &[(&str, &str)]) -> Result<ServerConfig, ConfigError> {
    ServerConfig::load(LoadInput { flags: pairs(flags), ..LoadInput::default() })
}

fn with_toml(text: &str) -> Result<ServerConfig, ConfigError> {
    let files = Files::new();
    ServerConfig::load(LoadInput { toml_file: Some(files.write("annulus.toml", text)), ..LoadInput::default() })
}

fn with_env_file(text: &str) -> Result<ServerConfig, ConfigError> {
    let files = Files::new();
    ServerConfig::load(LoadInput { env_file: Some(files.write(".env", text)), ..LoadInput::default() })
}

fn message(result: Result<ServerConfig, ConfigError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn nothing_given_is_a_single_node_on_loopback() {
    let config = with_env(&[("PATH", "/bin"), ("NODE_OPTIONS", "--x")]).unwrap();
    assert_eq!(config.client_address().to_string(), "127.0.0.1:4000");
    assert_eq!(config.advertised().to_string(), "127.0.0.1:5000");
    assert_eq!((config.node_id.as_str(), config.replication_factor), ("node1", 1));
    assert_eq!((config.initial_nodes, config.partitions), (1, 16));
    assert_eq!((config.capacity_bytes, config.block_cache_bytes), (None, 64 << 20));
    assert_eq!(config.origin("node_port"), Origin::Default);
    assert!(config.root.is_none() && config.cluster_secret.is_none() && !config.upload_anonymous);
}

#[test]
fn the_higher_layer_wins() {
    let files = Files::new();
    let mut input = LoadInput {
        toml_file: Some(
            files.write("annulus.toml", "node_port = 1\nzone = \"toml\"\nregion = \"toml\"\ndomain = \"toml\""),
        ),
        env_file: Some(files.write(".env", "NODE_PORT=2\nANNULUS_ZONE=envfile\nANNULUS_REGION=envfile\n")),
        env: pairs(&[("NODE_PORT", "3"), ("ANNULUS_ZONE", "env")]),
        flags: pairs(&[("--node-port", "4")]),
        hostname: Some("thor".to_owned()),
    };
    let config = ServerConfig::load(input.clone()).unwrap();
    assert_eq!((config.node_port, config.zone.as_str(), config.region.as_str()), (4, "env", "envfile"));
    assert_eq!((config.domains.join(" ").as_str(), config.node_id.as_str()), ("toml", "thor"));
    assert_eq!(config.origin("node_port"), Origin::Flag);
    assert_eq!(config.origin("zone"), Origin::Environment);
    assert_eq!(config.origin("region"), Origin::EnvFile(files.dir.path().join(".env")));
    assert_eq!(config.origin("domain"), Origin::TomlFile(files.dir.path().join("annulus.toml")));

    input.flags.clear();
    assert_eq!(ServerConfig::load(input.clone()).unwrap().node_port, 3);
    input.env.clear();
    assert_eq!(ServerConfig::load(input).unwrap().node_port, 2);
}

#[test]
fn the_names_of_the_original_system_work() {
    let env =
        [("NODE_PORT", "4100"), ("NODE_ID", "node7"), ("REPLICATION_FACTOR", "3"), ("ANNULUS_CLUSTER_SECRET", SECRET)];
    let config = with_env(&env).unwrap();
    assert_eq!((config.node_port, config.rpc_port, config.node_id.as_str()), (4100, 5100, "node7"));
    assert_eq!((config.replication_factor, config.initial_nodes, config.partitions), (3, 3, 64));
}

#[test]
fn unknown_names_are_refused_with_the_place_and_a_suggestion() {
    let unknown = message(with_env(&[("ANNULUS_LOG_LEVL", "debug")]));
    assert_eq!(unknown, "unknown setting `ANNULUS_LOG_LEVL` in the environment: did you mean `ANNULUS_LOG_LEVEL`?");
    assert!(message(with_env(&[("ANNULUS_NODE_PORT", "1")])).ends_with("did you mean `NODE_PORT`?"));
    assert!(message(with_env(&[("ANNULUS_QUUX", "1")])).ends_with("in the environment"));

    let toml = message(with_toml("nodeport = 1"));
    assert!(
        toml.contains("`nodeport`") && toml.contains("annulus.toml") && toml.ends_with("did you mean `node_port`?")
    );
    assert!(message(with_toml("[server]\nport = 1")).contains("unknown setting `server`"));

    let env_file = message(with_env_file("NODE_PROT=1"));
    assert!(env_file.contains(".env") && env_file.ends_with("did you mean `NODE_PORT`?"), "{env_file}");
    assert!(message(with_env_file("HOME=/root")).contains("unknown setting `HOME`"));
    assert!(message(with_flags(&[("--zones", "a")])).ends_with("in the command line: did you mean `zone`?"));
}

#[test]
fn variables_of_other_programs_and_empty_ones_are_passed_over() {
    let config = with_env(&[("ANNULUS_ENDPOINT", "http://x"), ("NODE_PORT", ""), ("ANNULUS_DOMAIN", "")]).unwrap();
    assert_eq!((config.node_port, config.domains), (4000, Vec::new()));
    assert!(message(with_flags(&[("domain", "")])).ends_with("is empty"));
}

#[test]
fn secrets_come_from_variables_and_files_and_never_from_flags() {
    let files = Files::new();
    let path = files.write("secret", &format!("{SECRET}\n"));
    let from_file = with_env(&[("ANNULUS_CLUSTER_SECRET_FILE", path.to_str().unwrap())]).unwrap();
    assert_eq!(from_file.cluster_secret, Some(Secret::new(SECRET)));
    let from_flag = with_flags(&[("--cluster-secret-file", path.to_str().unwrap())]).unwrap();
    assert_eq!(from_flag.cluster_secret, Some(Secret::new(SECRET)));

    let on_command_line = message(with_flags(&[("--cluster-secret", SECRET)]));
    assert!(on_command_line.contains("ANNULUS_CLUSTER_SECRET_FILE") && !on_command_line.contains(SECRET));
    let both = [("ANNULUS_CLUSTER_SECRET", SECRET), ("ANNULUS_CLUSTER_SECRET_FILE", "/x")];
    assert!(matches!(with_env(&both), Err(ConfigError::Twice { .. })));
    let nowhere = [("ANNULUS_CLUSTER_SECRET_FILE", "/nowhere/at/all")];
    assert!(matches!(with_env(&nowhere), Err(ConfigError::Unreadable { .. })));
}

#[test]
fn secrets_are_never_shown() {
    let root =
        [("ANNULUS_ROOT_ACCESS_KEY", "root"), ("ANNULUS_ROOT_SECRET_KEY", SECRET), ("ANNULUS_UPLOAD_TOKEN", SECRET)];
    let shown = format!("{:?}", with_env(&root).unwrap());
    assert!(shown.contains("***") && !shown.contains(SECRET));

    let short = message(with_env(&[("ANNULUS_CLUSTER_SECRET", "hush")]));
    assert!(short.contains("ANNULUS_CLUSTER_SECRET") && !short.contains("hush"), "{short}");
    let broken_toml = message(with_toml("zone = \"a\"\ncluster_secret = \"hush"));
    assert!(broken_toml.contains("line 2") && !broken_toml.contains("hush"), "{broken_toml}");
    let broken_env = message(with_env_file("ANNULUS_ZONE=a\nhush hush hush\n"));
    assert!(broken_env.contains("ANNULUS_ZONE") && !broken_env.contains("hush"), "{broken_env}");
    assert!(message(with_toml("cluster_secret = { a = \"hush\" }")).contains("table"));
}

#[test]
fn what_contradicts_itself_is_refused() {
    assert!(message(with_flags(&[("seeds", "a:5000,b:5000")])).contains("cluster_secret"));
    let too_few = [("REPLICATION_FACTOR", "3"), ("ANNULUS_INITIAL_NODES", "2"), ("ANNULUS_CLUSTER_SECRET", SECRET)];
    assert!(message(with_env(&too_few)).contains("`ANNULUS_INITIAL_NODES` in the environment: 2 nodes"));
    assert!(message(with_env(&[("ANNULUS_ROOT_ACCESS_KEY", "root")])).contains("root_secret_key"));
    assert!(message(with_flags(&[("node-port", "65000")])).contains("rpc_port"));
    assert!(message(with_flags(&[("rpc-port", "4000")])).contains("same as node_port"));
    assert!(message(with_flags(&[("zone", "a"), ("zone", "b")])).contains("both given"));
}

#[test]
fn wrong_values_are_refused_with_what_was_wanted() {
    for (name, value, expected) in [
        ("node_port", "70000", "not a port"),
        ("replication_factor", "0", "from 1 to 7"),
        ("replication_factor", "8", "from 1 to 7"),
        ("listen", "localhost", "not an IP address"),
        ("internal_listen", "127.0.0.1", "ip:port"),
        ("seeds", "host", "host:port"),
        ("seeds", "fe80::1:5000", "brackets"),
        ("capacity_bytes", "5 QB", "not a size"),
        ("capacity_bytes", "0", "without room"),
        ("upload_anonymous", "perhaps", "neither"),
        ("log_level", "loud", "error, warn, info"),
        ("upload_bucket", "upload", "reserved"),
        ("upload_bucket", "UP", "bucket name"),
        ("domain", "not a host", "host name"),
        ("zone", "a/b", "not a name"),
        ("collect_grace_seconds", "soon", "not a duration"),
        ("repair_bandwidth", "0", "nothing would ever be repaired"),
        ("webhooks", "orders=ftp://example.org/", "neither http"),
    ] {
        let message = message(with_flags(&[(name, value)]));
        assert!(message.contains(expected) && message.contains("command line"), "{name}={value}: {message}");
    }
}

#[test]
fn toml_values_may_have_their_own_types() {
    let text = format!(
        "node_port = 4200\nupload_anonymous = true\nseeds = [\"a:5000\", \"[::1]:5001\"]\ncapacity_bytes = \"1.5TB\"\n\
         cluster_secret = \"{SECRET}\"\nlog_format = \"json\"\nshutdown_grace_seconds = 5"
    );
    let config = with_toml(&text).unwrap();
    assert_eq!((config.node_port, config.upload_anonymous, config.log_format), (4200, true, LogFormat::Json));
    assert_eq!(config.seeds.iter().map(HostPort::to_string).collect::<Vec<_>>(), ["a:5000", "[::1]:5001"]);
    assert_eq!((config.initial_nodes, config.partitions), (2, 64));
    assert_eq!(config.capacity_bytes, Some(1_500_000_000_000));
    assert_eq!(config.shutdown_grace, Duration::from_secs(5));
}

/// The table and the typed configuration cannot drift apart: each setting changes something.
#[test]
fn every_setting_arrives() {
    let base = [
        ("ANNULUS_CLUSTER_SECRET", SECRET),
        ("ANNULUS_ROOT_ACCESS_KEY", "root"),
        ("ANNULUS_ROOT_SECRET_KEY", SECRET),
        ("ANNULUS_WEBHOOKS", "known=http://127.0.0.1:8/"),
    ];
    let described =
        |config: &ServerConfig| format!("{config:?} {:?}", config.cluster_secret.as_ref().map(Secret::expose));
    for setting in SETTINGS {
        let other = match setting.name {
            "listen" | "rpc_listen" => "127.0.0.2",
            "internal_listen" => "127.0.0.1:9000",
            "seeds" => "a:1",
            "capacity_bytes" | "block_cache_bytes" | "disk_reserve_bytes" => "7MiB",
            "request_memory_bytes" => "200MiB",
            "upload_anonymous" | "sse_c_without_tls" => "true",
            "log_format" => "json",
            "log_level" => "debug",
            "cluster_secret" | "root_secret_key" | "upload_token" => "another secret, long enough",
            "webhooks" => "orders=http://127.0.0.1:9/",
            "trusted_proxies" => "10.0.0.0/8, ::1",
            "webhook_accounts" => "known=alice bob",
            "webhook_tokens" => "known=token",
            "master_key" | "master_key_previous" => "another secret, long enough for a master key",
            "node_id" | "zone" | "advertise" | "data_dir" | "root_access_key" | "region" | "upload_bucket"
            | "domain" => "elsewhere",
            _ => "7",
        };
        let name = setting.env_name();
        let mut env = pairs(&base);
        env.retain(|(known, _)| *known != name);
        env.push((name.clone(), other.to_owned()));
        let config = ServerConfig::load(LoadInput { env, ..LoadInput::default() }).unwrap();
        assert_eq!(config.origin(setting.name), Origin::Environment);
        if setting.name == "root_secret_key" {
            assert_eq!(config.root.unwrap().secret_key.expose(), other);
        } else {
            assert_ne!(described(&config), described(&with_env(&base).unwrap()), "{name}");
        }
    }
}

#[test]
fn sizes_and_durations_are_read_as_people_write_them() {
    let sizes = [
        ("0", 0),
        ("1048576", 1 << 20),
        ("64MiB", 64 << 20),
        ("500 gib", 500 << 30),
        ("1.5TB", 1_500_000_000_000),
        ("0.5KiB", 512),
    ];
    for (text, expected) in sizes {
        assert_eq!(parse_bytes(text), Ok(expected), "{text}");
    }
    for wrong in ["", "GiB", "-1", "1.2.3", "1e9", "5 QB", "20000000PiB", "1,5TB", ".5", "5."] {
        assert!(parse_bytes(wrong).is_err(), "{wrong}");
    }
    let durations = [("30", 30_000), ("250ms", 250), ("15m", 900_000), ("1.5h", 5_400_000), ("1d", 86_400_000)];
    for (text, expected_ms) in durations {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(expected_ms)), "{text}");
    }
    assert!(parse_duration("5 weeks").is_err() && parse_duration("").is_err());
}

#[test]
fn flags_carry_every_setting_and_no_secret() {
    let command = flags::add_to(clap::Command::new("annulus"));
    command.clone().debug_assert();
    let arguments =
        ["annulus", "--config", "/x.toml", "--node-port", "4001", "--upload-anonymous", "--cluster-secret-file", "/s"];
    let (given, file) = flags::given(&command.clone().try_get_matches_from(arguments).unwrap());
    assert_eq!(given, pairs(&[("node-port", "4001"), ("cluster-secret-file", "/s"), ("upload-anonymous", "true")]));
    assert_eq!(file, Some(PathBuf::from("/x.toml")));
    assert!(command.try_get_matches_from(["annulus", "--cluster-secret", "x"]).is_err());
}

#[test]
fn the_reference_names_every_setting() {
    let reference = reference_markdown();
    assert_eq!(reference.lines().count(), SETTINGS.len() + 2);
    assert!(reference.contains("| `cluster_secret` | `ANNULUS_CLUSTER_SECRET` or `ANNULUS_CLUSTER_SECRET_FILE` |"));
}
