//! The command line of `annulus`: what a person types. Parsing only; each command is a file.

mod audit;
mod bucket;
mod key;
mod kms;
mod node;
mod output;
mod progress;
mod quota;
mod repair;
mod run;
mod status;
mod user;

use clap::{Args, Parser, Subcommand};

use crate::admin::client::{AdminClient, AdminError};
use crate::sign::Signer;

/// S3-compatible object storage over a ring of storage nodes.
#[derive(Debug, Parser)]
#[command(name = "annulus", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway and a storage node in one process.
    Server(run::RunArgs),
    /// Run a gateway alone.
    Gateway(run::RunArgs),
    /// Show nodes, partitions, leaders and redundancy.
    Status(status::StatusArgs),
    /// List, add, drain, remove and replace storage nodes.
    Node(node::NodeArgs),
    /// Change what holds of the whole cluster.
    Cluster(node::ClusterArgs),
    /// Pause and resume the moving of data, and show how far it is.
    Repair(repair::RepairArgs),
    /// Read everything on every node and look for everything that is named; fails when something is below target.
    Audit(audit::AuditArgs),
    /// Create, list and delete accounts.
    User(user::UserArgs),
    /// Create, list and delete access keys.
    Key(key::KeyArgs),
    /// Create, list, disable and rotate the keys of SSE-KMS.
    Kms(kms::KmsArgs),
    /// Create, list and delete buckets of any account.
    Bucket(bucket::BucketArgs),
}

/// Where the admin commands ask, and as whom. The secret comes from the environment alone.
#[derive(Debug, Args)]
struct Target {
    /// A gateway of the cluster.
    #[arg(long, env = "ANNULUS_ENDPOINT", default_value = "http://127.0.0.1:4000", value_name = "URL")]
    endpoint: String,
    /// The access key of an administrator. Its secret is read from AWS_SECRET_ACCESS_KEY.
    #[arg(long, env = "AWS_ACCESS_KEY_ID", value_name = "KEY")]
    access_key: Option<String>,
    /// The region that the gateway serves.
    #[arg(long, env = "AWS_DEFAULT_REGION", default_value = "us-east-1")]
    region: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Why a command failed, in one line for the person who typed it.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// No credentials.
    #[error("{0} is not set: the admin commands sign with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")]
    Credentials(&'static str),
    /// The gateway.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// What was typed asks for nothing.
    #[error("{0}")]
    Usage(&'static str),
    /// Starting or running a server.
    #[error("{0}")]
    Run(String),
    /// An audit found something.
    #[error("problems that the audit found: {0}")]
    Unsound(usize),
    /// Standard output is closed.
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
}

impl CliError {
    /// Whether whoever read the answer has had enough of it, as `head` does: nothing to complain about.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Print(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl Cli {
    /// Carries the command out.
    pub fn execute(self) -> Result<(), CliError> {
        match self.command {
            Command::Server(args) => run::server(args),
            Command::Gateway(args) => run::gateway(args),
            Command::Status(args) => ask(status::show(args)),
            Command::Node(args) => ask(node::execute(args)),
            Command::Cluster(args) => ask(node::execute_cluster(args)),
            Command::Repair(args) => ask(repair::execute(args)),
            Command::Audit(args) => ask(audit::execute(args)),
            Command::User(args) => ask(user::execute(args)),
            Command::Key(args) => ask(key::execute(args)),
            Command::Kms(args) => ask(kms::execute(args)),
            Command::Bucket(args) => ask(bucket::execute(args)),
        }
    }
}

/// One thread is enough to ask a question.
fn ask(question: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(question)
}

impl Target {
    fn client(&self) -> Result<AdminClient, CliError> {
        let access_key = self.access_key.clone().ok_or(CliError::Credentials("AWS_ACCESS_KEY_ID"))?;
        let secret_key =
            std::env::var("AWS_SECRET_ACCESS_KEY").map_err(|_| CliError::Credentials("AWS_SECRET_ACCESS_KEY"))?;
        let signer = Signer { access_key, secret_key, region: self.region.clone(), token: None };
        Ok(AdminClient::new(&self.endpoint, signer))
    }
}

/// A name as one segment of a URL's path.
fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A number of bytes with a unit, as settings take it.
fn parse_bytes(text: &str) -> Result<u64, String> {
    annulus_common::config::parse_bytes(text)
}
