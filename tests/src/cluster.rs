//! A whole cluster in this process: storage nodes over memory, gateways on sockets of 127.0.0.1, and two accounts.
//!
//! Everything between the sockets and the databases is the product's own code. What is not: RocksDB, TCP between nodes and
//! the command line, which `processes` has. A node that is killed loses what it had not synced, and only that.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use annulus_common::clock::{SharedClock, SystemClock};
use annulus_common::config::{Secret, Webhook};
use annulus_common::ids::InstanceId;
use annulus_common::lifecycle::Calendar;
use annulus_common::map::watch::MapWatch;
use annulus_common::network::Network;
use annulus_common::rpc::fault::{Fault, Faulty};
use annulus_common::rpc::local::LocalNetwork;
use annulus_common::rpc::{PeerIdentity, Transport};
use annulus_common::telemetry::Metrics;
use annulus_gateway::admin::client::AdminClient;
use annulus_gateway::admin::model::{KeyReport, NewKey, NewUser, UserReport};
use annulus_gateway::events::WebhookTls;
use annulus_gateway::gateway::{Gateway, GatewaySeams, GatewaySettings};
use annulus_gateway::kms::{MasterKey, MasterKeys, SecretKey};
use annulus_gateway::sign::Signer;
use annulus_gateway::upload::UploadConfig;
use annulus_storage_node::chunk::Execution;
use annulus_storage_node::chunk::files::memory::MemoryFiles;
use annulus_storage_node::cluster::formation::{FormationSettings, RootKey};
use annulus_storage_node::kv::identity::NodeIdentity;
use annulus_storage_node::kv::memory::MemoryKv;
use annulus_storage_node::node::{NodeConfig, NodeData, StorageNode};
use annulus_storage_node::repair::RepairSettings;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::client::S3;
use crate::wait;
use crate::webhook::Receiver;

/// The domains under which buckets have host names.
pub const DOMAINS: [&str; 2] = ["s3.test", "objects.example"];

/// The region of every test.
pub const REGION: &str = "us-east-1";

/// The domain of every test's websites.
pub const WEBSITE_DOMAIN: &str = "web.test";

/// The e-mail address of the second account.
pub const ALT_EMAIL: &str = "alt@example.org";

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Storage nodes.
    pub nodes: usize,
    /// Gateways.
    pub gateways: usize,
    /// Replicas of everything.
    pub replication_factor: u8,
    /// Partitions of the ring: few, as each is a Raft group on two cores.
    pub partitions: u32,
    /// Whether `/upload` asks for no credentials.
    pub upload_anonymous: bool,
    /// Whether SSE-C is taken without TLS.
    pub sse_c_without_tls: bool,
    /// Whom gateways believe that they ask for others.
    pub trusted_proxies: Vec<Network>,
    /// How long a day of lifecycle rules is.
    pub lifecycle_day_seconds: u32,
    /// How much memory the requests of a gateway may hold.
    pub request_memory_bytes: u64,
    /// How many connections a gateway serves at once.
    pub connections_max: usize,
    /// Names and URLs of webhooks, each of which is given [`WEBHOOK_TOKEN`].
    pub webhooks: Vec<(&'static str, String)>,
    /// Which account alone may use such a webhook.
    pub webhook_accounts: Vec<(&'static str, &'static str)>,
    /// Who certifies those at `https://` URLs, as PEM.
    pub webhook_ca: Option<String>,
    /// How often one may refuse an event.
    pub webhook_tries: u32,
    /// After how much silence a node is given up.
    pub dead_after: Duration,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            nodes: 3,
            gateways: 2,
            replication_factor: 3,
            partitions: 4,
            upload_anonymous: false,
            sse_c_without_tls: true,
            trusted_proxies: Vec::new(),
            lifecycle_day_seconds: 86_400,
            request_memory_bytes: 1 << 30,
            connections_max: 4_096,
            webhooks: Vec::new(),
            webhook_accounts: Vec::new(),
            webhook_ca: None,
            webhook_tries: 50,
            dead_after: Duration::from_secs(600),
        }
    }
}

/// An access key and its secret.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The key's public id.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
}

impl Credentials {
    /// Signs with this key.
    pub fn signer(&self) -> Signer {
        let (access_key, secret_key) = (self.access_key.clone(), self.secret_key.clone());
        Signer { access_key, secret_key, region: REGION.to_owned(), token: None }
    }
}

/// A running cluster. It lives on threads of its own, whichever test uses it, and ends when it is dropped.
pub struct Cluster {
    /// The administrator.
    pub root: Credentials,
    /// An account that is no administrator and has an e-mail address.
    pub alt: Credentials,
    site: Arc<Site>,
    gateways: Vec<GatewayInProcess>,
    nodes: Vec<Option<NodeInProcess>>,
    disks: Vec<Disk>,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
}

/// A running node and its way to the others, which can be disturbed.
struct NodeInProcess {
    node: StorageNode,
    transport: Arc<Faulty<dyn Transport>>,
}

/// A gateway's address and its way to the nodes, which can be disturbed.
struct GatewayInProcess {
    addr: SocketAddr,
    transport: Arc<Faulty<dyn Transport>>,
}

/// A node's databases: they outlive the node that uses them.
struct Disk {
    meta: Arc<MemoryKv>,
    chunks: Arc<MemoryKv>,
    extents: Arc<MemoryFiles>,
}

/// What the nodes and gateways of a cluster share.
struct Site {
    spec: Spec,
    network: LocalNetwork,
    clock: SharedClock,
    root: Credentials,
}

/// The cluster that the tests of one binary share: three nodes, two gateways. Every test has buckets of its own in it.
pub async fn shared() -> &'static Cluster {
    static SHARED: OnceCell<Cluster> = OnceCell::const_new();
    let webhooks = vec![("events", shared_webhook().url("/events")), ("dead", "http://127.0.0.1:9/".to_owned())];
    SHARED.get_or_init(|| Cluster::start(Spec { webhooks, ..Spec::default() })).await
}

/// The webhook `events` of the shared cluster, which takes everything. Nobody listens where its webhook `dead` should be.
pub fn shared_webhook() -> &'static Receiver {
    static RECEIVER: LazyLock<Receiver> = LazyLock::new(Receiver::start);
    &RECEIVER
}

impl Cluster {
    /// Starts a cluster of fresh nodes and returns when every gateway serves.
    pub async fn start(spec: Spec) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("cluster")
            .enable_all()
            .build()
            .expect("threads can be started");
        let root = Credentials { access_key: "root-of-tests".to_owned(), secret_key: "secret-of-the-root".to_owned() };
        let (network, clock) = (LocalNetwork::new(), SystemClock::shared());
        let site = Arc::new(Site { spec, network, clock, root: root.clone() });
        let disks: Vec<Disk> = (0..site.spec.nodes).map(|node| Disk::new(&node_name(node))).collect();
        let entered = runtime.enter();
        let nodes = disks.iter().enumerate().map(|(node, disk)| Some(site.start_node(node, disk))).collect();
        drop(entered);
        let mut gateways = Vec::new();
        for _ in 0..site.spec.gateways {
            let started = runtime.spawn(start_gateway(Arc::clone(&site)));
            gateways.push(started.await.expect("a gateway starts"));
        }
        let alt = root.clone();
        let mut cluster = Self { root, alt, site, gateways, nodes, disks, runtime: Some(runtime) };
        for gateway in 0..cluster.gateways.len() {
            cluster.until_ready(gateway).await;
        }
        cluster.alt = cluster.create_account("alt", Some(ALT_EMAIL)).await;
        cluster
    }

    /// Makes an account with one key.
    pub async fn create_account(&self, name: &str, email: Option<&str>) -> Credentials {
        let admin = self.admin(0);
        let user = NewUser { name: name.to_owned(), display_name: None, email: email.map(str::to_owned), admin: false };
        let user: UserReport = admin.post("/users", &user).await.expect("an account is made");
        let key: KeyReport = admin.post("/keys", &NewKey { user: user.name }).await.expect("a key is made");
        let secret_key = key.secret_key.expect("a new key is told with its secret");
        Credentials { access_key: key.access_key, secret_key }
    }

    /// Where a gateway is: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self, gateway: usize) -> String {
        format!("http://{}", self.addr(gateway))
    }

    /// A gateway's socket address.
    pub fn addr(&self, gateway: usize) -> SocketAddr {
        self.gateways[gateway].addr
    }

    /// A client of a gateway with the administrator's key. To be made by the test that uses it: its connections live on that
    /// test's runtime.
    pub fn s3(&self, gateway: usize) -> S3 {
        S3::new(&self.endpoint(gateway), &self.root.access_key, &self.root.secret_key)
    }

    /// A client of the first gateway with the second account's key.
    pub fn alt(&self) -> S3 {
        S3::new(&self.endpoint(0), &self.alt.access_key, &self.alt.secret_key)
    }

    /// A client of the first gateway that does not sign.
    pub fn anonymous(&self) -> S3 {
        S3::anonymous(&self.endpoint(0))
    }

    /// The admin API of a gateway, as the administrator.
    pub fn admin(&self, gateway: usize) -> AdminClient {
        AdminClient::new(&self.endpoint(gateway), self.root.signer())
    }

    /// How a gateway reaches the nodes, whose addresses are their names (`n1`, `n2`, ...).
    pub fn transport(&self, gateway: usize) -> &Faulty<dyn Transport> {
        &self.gateways[gateway].transport
    }

    /// How many gateways there are.
    pub fn gateways(&self) -> usize {
        self.gateways.len()
    }

    /// From now on what one node sends another has this fault, until the nodes are [healed](Self::heal_nodes), or the
    /// sender is started again. Gateways reach both.
    pub fn disturb(&self, from: usize, to: usize, fault: Fault) {
        self.running(from).transport.set(&node_name(to), fault);
    }

    /// Cuts a node off from all other nodes, both ways.
    pub fn isolate(&self, node: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.disturb(node, other, Fault::Silent);
            self.disturb(other, node, Fault::Silent);
        }
    }

    /// From now on the nodes reach each other as they should.
    pub fn heal_nodes(&self) {
        self.nodes.iter().flatten().for_each(|running| running.transport.heal_all());
    }

    /// Whether a node's disk has no space left for chunks from now on. Metadata still goes there: its reserve is kept for that.
    pub fn set_disk_full(&self, node: usize, full: bool) {
        self.disks[node].extents.set_full(full);
    }

    fn running(&self, node: usize) -> &NodeInProcess {
        self.nodes[node].as_ref().expect("the node runs")
    }

    /// Ends a node as a crash would, and returns when nothing of it is left but what it had synced.
    pub async fn kill(&mut self, node: usize) {
        self.site.network.unregister(&node_name(node));
        self.nodes[node] = None;
        let disk = &self.disks[node];
        wait::until("the node has let go of its disk", async || {
            let held =
                [Arc::strong_count(&disk.meta), Arc::strong_count(&disk.chunks), Arc::strong_count(&disk.extents)];
            (held == [1; 3]).then_some(())
        })
        .await;
        disk.meta.crash();
        disk.chunks.crash();
        disk.extents.crash();
    }

    /// Starts a killed node on what it had synced, and returns when it serves.
    pub async fn restart(&mut self, node: usize) {
        self.start_node(node);
        self.until_nodes_ready().await;
    }

    /// Starts a fresh node, which registers as a spare, and returns its number and its name when it has.
    pub async fn start_spare(&mut self) -> (usize, String) {
        let node = self.nodes.len();
        let name = node_name(node);
        self.disks.push(Disk::new(&name));
        self.nodes.push(None);
        self.start_node(node);
        self.until_nodes_ready().await;
        (node, name)
    }

    /// Starts another gateway, and returns its number when it serves.
    pub async fn start_gateway(&mut self) -> usize {
        let runtime = self.runtime.as_ref().expect("the cluster runs");
        let started = runtime.spawn(start_gateway(Arc::clone(&self.site)));
        self.gateways.push(started.await.expect("a gateway starts"));
        let gateway = self.gateways.len() - 1;
        self.until_ready(gateway).await;
        gateway
    }

    /// Starts a killed node on an empty disk, under its old name, and returns when it has registered.
    pub async fn replace_disk(&mut self, node: usize) {
        self.disks[node] = Disk::new(&node_name(node));
        self.restart(node).await;
    }

    /// Starts every killed node. None of them needs to serve yet.
    pub fn start_killed(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_none() {
                self.start_node(node);
            }
        }
    }

    /// Waits until every node that was started serves.
    pub async fn until_nodes_ready(&self) {
        wait::until("the nodes serve", async || {
            self.nodes.iter().flatten().all(|running| running.node.is_ready()).then_some(())
        })
        .await;
    }

    fn start_node(&mut self, node: usize) {
        assert!(self.nodes[node].is_none(), "the node is down");
        let runtime = self.runtime.as_ref().expect("the cluster runs");
        let entered = runtime.enter();
        self.nodes[node] = Some(self.site.start_node(node, &self.disks[node]));
        drop(entered);
    }

    async fn until_ready(&self, gateway: usize) {
        let s3 = S3::anonymous(&self.endpoint(gateway));
        wait::until("the cluster serves", async || {
            let ready = s3.get("/-/health/ready").try_send().await.is_ok_and(|reply| reply.status.is_success());
            ready.then_some(())
        })
        .await;
        self.until_nodes_ready().await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let entered = self.runtime.as_ref().map(Runtime::enter);
        self.nodes.clear();
        drop(entered);
        if let Some(runtime) = self.runtime.take() {
            // Waiting for its tasks would block, which a test's own runtime does not allow.
            runtime.shutdown_background();
        }
    }
}

impl Disk {
    fn new(name: &str) -> Self {
        let meta = Arc::new(MemoryKv::new());
        let identity = NodeIdentity::new(name, InstanceId(rand::random()));
        identity.store(&*meta).expect("memory takes what it is given");
        Self { meta, chunks: Arc::new(MemoryKv::new()), extents: Arc::new(MemoryFiles::new()) }
    }

    fn data(&self) -> NodeData {
        let identity = NodeIdentity::load(&*self.meta, "memory").expect("memory can be read").expect("it was stored");
        NodeData::of(self.meta.clone(), self.chunks.clone(), self.extents.clone(), identity, Execution::Threads)
    }
}

impl Site {
    fn start_node(&self, node: usize, disk: &Disk) -> NodeInProcess {
        let data = disk.data();
        let transport = Faulty::new(self.network.transport(data.identity()));
        let started = StorageNode::start(self.node_config(node), data, transport.clone(), self.clock.clone());
        let started = started.expect("a node starts on memory");
        self.network.register(&node_name(node), started.service(), started.identity());
        NodeInProcess { node: started, transport }
    }

    fn node_config(&self, node: usize) -> NodeConfig {
        NodeConfig {
            name: node_name(node),
            addr: node_name(node),
            zone: format!("zone-{node}"),
            capacity_bytes: Some(1 << 30),
            // Nothing is put there: the databases are in memory, and the root key is given.
            data_dir: std::env::temp_dir(),
            formation: FormationSettings {
                seeds: self.seeds(),
                replication_factor: self.spec.replication_factor,
                initial_nodes: self.spec.nodes,
                partitions: self.spec.partitions,
            },
            root: Some(RootKey { access_key: self.root.access_key.clone(), secret_key: self.root.secret_key.clone() }),
            block_cache_bytes: 0,
            disk_reserve_bytes: None,
            raft_workers: 1,
            dead_after: self.spec.dead_after,
            repair: RepairSettings::default(),
            calendar: Calendar::of_day(self.spec.lifecycle_day_seconds),
        }
    }

    fn seeds(&self) -> Vec<String> {
        (0..self.spec.nodes).map(node_name).collect()
    }

    fn webhook(&self, name: &str, url: &str) -> Webhook {
        let accounts = self.spec.webhook_accounts.iter().filter(|(webhook, _)| *webhook == name);
        let accounts = accounts.map(|(_, account)| (*account).to_owned()).collect();
        Webhook { name: name.to_owned(), url: Secret::new(url), token: Some(Secret::new(WEBHOOK_TOKEN)), accounts }
    }

    fn gateway_settings(&self) -> GatewaySettings {
        GatewaySettings {
            drain_wait: Duration::from_secs(30),
            region: REGION.to_owned(),
            domains: DOMAINS.map(str::to_owned).to_vec(),
            website_domain: Some(WEBSITE_DOMAIN.to_owned()),
            trusted_proxies: self.spec.trusted_proxies.clone(),
            request_memory_bytes: self.spec.request_memory_bytes,
            connections_max: self.spec.connections_max,
            access_log_wait: Duration::from_secs(1),
            webhooks: self.spec.webhooks.iter().map(|(name, url)| self.webhook(name, url)).collect(),
            webhook_tls: self.spec.webhook_ca.as_deref().map_or_else(WebhookTls::trusting_nobody, |pem| {
                WebhookTls::trusting(pem.as_bytes()).expect("a test's certificate is one")
            }),
            webhook_tries: self.spec.webhook_tries,
            upload: UploadConfig {
                bucket: "uploads".to_owned(),
                anonymous: self.spec.upload_anonymous,
                token: Some(UPLOAD_TOKEN.to_owned()),
                region: REGION.to_owned(),
            },
            master_keys: MasterKeys::new(MasterKey::new(SecretKey::new([0x3a; 32])), Vec::new()),
            sse_c_without_tls: self.spec.sse_c_without_tls,
            operations_on_client_port: true,
        }
    }
}

/// The bearer token that webhooks are given.
pub const WEBHOOK_TOKEN: &str = "a-token-for-webhooks-of-tests";

/// The bearer token that allows `/upload`.
pub const UPLOAD_TOKEN: &str = "a-token-for-uploads-of-tests";

async fn start_gateway(site: Arc<Site>) -> GatewayInProcess {
    let instance = InstanceId(rand::random());
    let identity = PeerIdentity { instance, node: None, cluster: None };
    let transport = Faulty::new(site.network.transport(Arc::new(move || identity.clone())));
    let watch = MapWatch::connect(site.seeds(), instance, transport.clone(), site.clock.clone()).await;
    let seams = GatewaySeams {
        transport: transport.clone(),
        watch,
        clock: site.clock.clone(),
        metrics: Metrics::new(),
        ready: Arc::new(|| true),
        refresh: Arc::new(|| Box::pin(async {})),
    };
    let gateway = Gateway::new(site.gateway_settings(), seams);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let addr = listener.local_addr().expect("a listener has an address");
    tokio::spawn(gateway.log_delivery.run(std::future::pending()));
    tokio::spawn(gateway.event_delivery.run(std::future::pending()));
    tokio::spawn(annulus_gateway::http::serve(listener, gateway.clients, std::future::pending()));
    GatewayInProcess { addr, transport }
}

fn node_name(node: usize) -> String {
    format!("n{}", node + 1)
}
