//! A cluster of real processes: the built `annulus` binary, each with a directory and an `.env` of its own, on loopback.
//!
//! They are killed when they are dropped. When a test fails, the end of every log is shown and the directory is kept.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use annulus_gateway::admin::audit::model::AuditReport;
use annulus_gateway::admin::client::AdminClient;
use annulus_gateway::admin::model::ClusterStatus;
use tempfile::TempDir;

use crate::client::S3;
use crate::cluster::Credentials;
use crate::history::History;
use crate::wait;

/// Lines of each log that a failed test shows.
const LOG_LINES_SHOWN: usize = 25;

/// Ports are looked for here: below those that Linux hands out to outgoing connections.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// How often it is looked whether a process has got somewhere.
const RECHECK: Duration = Duration::from_millis(50);

/// How long a process may take to say whether it serves: one that is in no cluster yet may not say it at all.
const READY_WAIT: Duration = Duration::from_secs(1);

/// How long the status may take: it asks every node, and waits for those that are down.
const STATUS_WAIT: Duration = Duration::from_secs(20);

/// Partitions, unless a test asks for others: few, as each is a Raft group on every server.
const PARTITIONS: &str = "8";

/// What every process of a cluster is told in secret.
#[derive(Clone)]
struct Secrets {
    cluster: String,
    root: Credentials,
}

/// What a process does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It is a gateway and a storage node.
    Server,
    /// It is a gateway alone.
    Gateway,
}

/// `annulus server` processes that form one cluster, and gateways beside them.
pub struct Processes {
    /// The administrator.
    pub root: Credentials,
    servers: Vec<Server>,
    secrets: Secrets,
    /// What all servers have in their `.env`.
    settings: BTreeMap<String, String>,
    directory: Option<TempDir>,
}

/// One process, running or not, and where it lives.
pub struct Server {
    name: String,
    role: Role,
    home: PathBuf,
    client_port: u16,
    secrets: Secrets,
    child: Option<Child>,
}

impl Processes {
    /// Writes the settings of `count` servers that hold everything `replication_factor` times. None is started.
    pub fn prepare(count: usize, replication_factor: usize) -> Self {
        Self::prepare_with(count, replication_factor, &[])
    }

    /// The same with these settings beside.
    pub fn prepare_with(count: usize, replication_factor: usize, settings: &[(&str, &str)]) -> Self {
        let directory =
            tempfile::Builder::new().prefix("annulus-processes.").tempdir().expect("a directory can be made");
        let root = Credentials { access_key: "root-of-tests".to_owned(), secret_key: random_secret() };
        let secrets = Secrets { cluster: random_secret(), root: root.clone() };
        let ports = free_ports(2 * count);
        let (client_ports, rpc_ports) = ports.split_at(count);
        let seeds: Vec<String> = rpc_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let (factor, seeds) = (replication_factor.to_string(), seeds.join(","));
        let common = [
            ("REPLICATION_FACTOR", factor.as_str()),
            ("ANNULUS_SEEDS", &seeds),
            ("ANNULUS_DATA_DIR", "data"),
            ("ANNULUS_PARTITIONS", PARTITIONS),
            ("ANNULUS_ROOT_ACCESS_KEY", &root.access_key),
        ];
        let settings =
            common.iter().chain(settings).map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut processes = Self { root, servers: Vec::new(), secrets, settings, directory: Some(directory) };
        for (client_port, rpc_port) in client_ports.iter().zip(rpc_ports) {
            processes.prepare_server(Role::Server, *client_port, *rpc_port);
        }
        processes
    }

    /// Writes the settings of one more server, which knows the others, and returns its number. It is not started.
    pub fn add_server(&mut self) -> usize {
        self.add(Role::Server)
    }

    /// The same of a gateway without a storage node.
    pub fn add_gateway(&mut self) -> usize {
        self.add(Role::Gateway)
    }

    fn add(&mut self, role: Role) -> usize {
        let ports = free_ports(2);
        self.prepare_server(role, ports[0], ports[1]);
        self.servers.len() - 1
    }

    fn prepare_server(&mut self, role: Role, client_port: u16, rpc_port: u16) {
        let name = format!("node{}", self.servers.len() + 1);
        let home = self.directory.as_ref().expect("it is there until it is dropped").path().join(&name);
        fs::create_dir(&home).expect("a directory can be made");
        let mut settings = format!("NODE_PORT={client_port}\nNODE_ID={name}\nANNULUS_RPC_PORT={rpc_port}\n");
        for (name, value) in &self.settings {
            settings.push_str(&format!("{name}={value}\n"));
        }
        fs::write(home.join(".env"), settings).expect("settings can be written");
        self.servers.push(Server { name, role, home, client_port, secrets: self.secrets.clone(), child: None });
    }

    /// Starts that many servers with these settings and returns when all serve.
    pub async fn start_with(count: usize, replication_factor: usize, settings: &[(&str, &str)]) -> Self {
        let mut processes = Self::prepare_with(count, replication_factor, settings);
        processes.start_all();
        processes.until_all_ready().await;
        processes
    }

    /// Starts that many servers and returns when all serve.
    pub async fn start(count: usize, replication_factor: usize) -> Self {
        Self::start_with(count, replication_factor, &[]).await
    }

    /// Starts every server that is not running.
    pub fn start_all(&mut self) {
        self.servers.iter_mut().filter(|server| server.child.is_none()).for_each(Server::start);
    }

    /// Kills every server with SIGKILL, at once.
    pub fn kill_all(&mut self) {
        for child in self.servers.iter_mut().filter_map(|server| server.child.as_mut()) {
            // One that has ended by itself cannot be killed, which is as well.
            let _ = child.kill();
        }
        self.servers.iter_mut().for_each(Server::kill);
    }

    /// Waits until every server serves.
    pub async fn until_all_ready(&mut self) {
        for server in &mut self.servers {
            server.until_ready().await;
        }
    }

    /// A server by its number, from 0.
    pub fn server(&mut self, number: usize) -> &mut Server {
        &mut self.servers[number]
    }

    /// Where clients reach a server.
    pub fn endpoint(&self, number: usize) -> String {
        self.servers[number].endpoint()
    }

    /// Where a server keeps everything.
    pub fn data(&self, number: usize) -> PathBuf {
        self.servers[number].data()
    }

    /// How many servers there are, running or not.
    pub fn count(&self) -> usize {
        self.servers.len()
    }

    /// A client of one server.
    pub fn s3(&self, number: usize) -> S3 {
        S3::new(&self.servers[number].endpoint(), &self.root.access_key, &self.root.secret_key)
    }

    /// Whether a server serves clients now.
    pub async fn is_ready(&self, number: usize) -> bool {
        self.servers[number].is_ready().await
    }

    /// What each server has logged since it was first started.
    pub fn logs(&self) -> Vec<String> {
        self.servers.iter().map(Server::log).collect()
    }

    /// The administrator's way to a server.
    pub fn admin(&self, number: usize) -> AdminClient {
        AdminClient::new(&self.servers[number].endpoint(), self.root.signer())
    }

    /// What a server says of the cluster, unless it cannot.
    pub async fn status(&self, number: usize) -> Option<ClusterStatus> {
        tokio::time::timeout(STATUS_WAIT, self.admin(number).get("/status")).await.ok()?.ok()
    }

    /// Waits until a server says that the cluster is healthy.
    pub async fn until_healthy(&self, asked: usize) {
        wait::until("the cluster is healthy", async || self.status(asked).await?.healthy.then_some(())).await;
    }

    /// Reads a history again, through every server.
    pub async fn verify(&self, history: &History) {
        for server in 0..self.servers.len() {
            history.verify(&self.s3(server)).await;
        }
    }

    /// An `annulus` command that asks a server, ready to be run.
    pub fn annulus(&self, asked: usize, arguments: &[&str]) -> Command {
        annulus(&self.servers[asked].endpoint(), &self.root, arguments)
    }

    /// What `annulus audit` finds, asked of a server, and whether it ends well.
    pub fn audit(&self, number: usize) -> (AuditReport, bool) {
        let begun = Instant::now();
        loop {
            let audit = self.annulus(number, &["audit", "--json"]).output().expect("the binary starts");
            if let Ok(report) = serde_json::from_slice(&audit.stdout) {
                return (report, audit.status.success());
            }
            // While the cluster map has no leader a gateway says so, and nothing is reported.
            let errors = String::from_utf8_lossy(&audit.stderr);
            let may_pass = errors.contains("(ServiceUnavailable)") && begun.elapsed() < wait::PATIENCE;
            assert!(may_pass, "no report: {errors}");
            std::thread::sleep(RECHECK);
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.kill_all();
        if !std::thread::panicking() {
            return;
        }
        for server in &self.servers {
            let log = server.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            eprintln!("--- the end of {}'s log\n{tail}", server.name);
        }
        if let Some(directory) = self.directory.take() {
            eprintln!("--- data and logs are kept in {}", directory.keep().display());
        }
    }
}

impl Server {
    /// `NODE_ID`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts the process. It may take a while until it serves.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} is not running", self.name);
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log can be opened");
        let inherited = std::env::vars().filter(|(name, _)| !is_setting(name));
        let child = Command::new(binary("annulus"))
            .arg(match self.role {
                Role::Server => "server",
                Role::Gateway => "gateway",
            })
            .current_dir(&self.home)
            .env_clear()
            .envs(inherited)
            .env("ANNULUS_CLUSTER_SECRET", &self.secrets.cluster)
            .env("ANNULUS_ROOT_SECRET_KEY", &self.secrets.root.secret_key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
    }

    /// Kills the process with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended by itself cannot be killed, which is as well.
            let _ = child.kill();
            child.wait().expect("a killed child ends");
        }
    }

    /// Whether the process serves clients now.
    pub async fn is_ready(&self) -> bool {
        let s3 = S3::anonymous(&self.endpoint());
        let reply = s3.get("/-/health/ready").try_send_within(READY_WAIT).await;
        reply.is_ok_and(|reply| reply.status.is_success())
    }

    /// Waits until the process serves clients.
    pub async fn until_ready(&mut self) {
        let begun = Instant::now();
        while !self.is_ready().await {
            if let Some(status) = self.exit_status() {
                panic!("{} ended with {status}", self.name);
            }
            assert!(begun.elapsed() < wait::PATIENCE, "waited in vain until {} serves", self.name);
            tokio::time::sleep(RECHECK).await;
        }
    }

    /// Waits until the process has ended by itself.
    pub async fn until_ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("the process was started");
        let ended = async {
            loop {
                if let Some(status) = child.try_wait().expect("a child can be waited for") {
                    return status;
                }
                tokio::time::sleep(RECHECK).await;
            }
        };
        let status = tokio::time::timeout(wait::PATIENCE, ended).await.expect("the process ends in time");
        self.child = None;
        status
    }

    /// Whether it has ended by itself, and how.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("a child can be waited for")
    }

    /// Empties the data directory of a process that is not running.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "{} is not running", self.name);
        fs::remove_dir_all(self.data()).expect("the data directory can be removed");
    }

    /// Gives the process another cluster secret from its next start on, and tells which.
    pub fn change_secret(&mut self) -> String {
        self.secrets.cluster = random_secret();
        self.secrets.cluster.clone()
    }

    /// Asks the process to end, as an init system does.
    pub fn ask_to_stop(&self) {
        self.signal("-TERM");
    }

    /// Stops the process in its tracks: its connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("the process is running");
        let told = Command::new("kill").arg(signal).arg(child.id().to_string()).status();
        assert!(told.is_ok_and(|status| status.success()), "{} can be sent {signal}", self.name);
    }

    /// Where the node keeps everything.
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// What the process has logged since it was first started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    fn log_path(&self) -> PathBuf {
        self.home.join("log")
    }
}

/// An `annulus` command that asks a gateway with that key, ready to be run.
pub fn annulus(endpoint: &str, credentials: &Credentials, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("annulus"));
    command
        .args(arguments)
        .args(["--endpoint", endpoint])
        .env("AWS_ACCESS_KEY_ID", &credentials.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &credentials.secret_key);
    command
}

/// A binary of this build: it lies beside the directory of the test that runs now.
fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its binary");
    let beside = || test.parent().and_then(Path::parent).expect("a test lies in target/PROFILE/deps").to_owned();
    let path = std::env::var_os("ANNULUS_BIN_DIR").map_or_else(beside, PathBuf::from).join(name);
    assert!(
        path.exists(),
        "{} is not there; build first: cargo build --release --ignore-rust-version --bins",
        path.display()
    );
    path
}

/// Variables that would configure a process beside its `.env`.
fn is_setting(name: &str) -> bool {
    name.starts_with("ANNULUS_") || ["NODE_PORT", "NODE_ID", "REPLICATION_FACTOR"].contains(&name)
}

fn random_secret() -> String {
    let secret: u128 = rand::random();
    format!("{secret:032x}")
}

/// Ports that nobody listens at now.
fn free_ports(count: usize) -> Vec<u16> {
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = rand::random_range(PORTS);
        if !ports.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    ports
}
