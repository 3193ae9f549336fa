//! `annulus node` and `annulus cluster`: who has a share, and how many copies there are.

use std::time::Duration;

use annulus_common::map::layout::REPLICATION_FACTOR_MAX;
use clap::{Args, Subcommand};

use super::progress::{self, Goal};
use super::{CliError, Target, output, parse_bytes};
use crate::admin::client::AdminClient;
use crate::admin::model::{ClusterStatus, LayoutRequest, NodeReport, PlanReport, StepRequest};

/// How long a data directory may take to get into the cluster: it asks every 200 ms.
const REGISTER_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    #[command(subcommand)]
    action: NodeAction,
}

#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    action: ClusterAction,
}

/// How a change is carried out.
#[derive(Debug, Args)]
struct Manner {
    /// Only say what would be moved, and the balance after.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Return when everything is moved, and tell of it meanwhile.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum NodeAction {
    /// List the nodes.
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Give nodes that have registered, or that were draining, a share of the data.
    Add {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        manner: Manner,
    },
    /// Move everything off a node. With --wait it is taken out of the cluster, too, and may be switched off then.
    Drain {
        /// Its name.
        name: String,
        #[command(flatten)]
        manner: Manner,
    },
    /// Take a node out of the cluster for good: one that was drained, or with --force one that is lost.
    Remove {
        /// Its name.
        name: String,
        /// Even though it holds data: says what that costs, and does it.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        manner: Manner,
    },
    /// Say in which zone a node is and how much it offers, in place of its own settings.
    Set {
        /// Its name.
        name: String,
        /// What fails together with it.
        #[arg(long)]
        zone: Option<String>,
        /// How much it may hold, as `500GiB` or `2TB`.
        #[arg(long, value_parser = parse_bytes)]
        capacity: Option<u64>,
        /// Let the node's own settings hold again where nothing else is said here.
        #[arg(long)]
        as_configured: bool,
        #[command(flatten)]
        manner: Manner,
    },
    /// Put a new node in the place of one that is lost. They may have the same name: the new one then waits for it.
    Replace {
        /// The lost node's name.
        old: String,
        /// The new node's name.
        new: String,
        /// Even though the old one answers.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        manner: Manner,
    },
    /// Place everything anew, by what the nodes offer now.
    Rebalance {
        #[command(flatten)]
        manner: Manner,
    },
}

#[derive(Debug, Subcommand)]
enum ClusterAction {
    /// Change what holds of the whole cluster.
    Set {
        /// How many nodes hold each object: 1 to 7.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(REPLICATION_FACTOR_MAX)))]
        replication_factor: u8,
        #[command(flatten)]
        manner: Manner,
    },
}

pub(super) async fn execute(args: NodeArgs) -> Result<(), CliError> {
    match args.action {
        NodeAction::List { target } => list(&target).await,
        NodeAction::Add { names, manner } => add(names, &manner).await,
        NodeAction::Drain { name, manner } => drain(name, &manner).await,
        NodeAction::Remove { name, force, manner } => {
            change(StepRequest::Remove { node: name, force }, &manner, Goal::Settled).await
        }
        NodeAction::Set { name, zone, capacity, as_configured, manner } => {
            if zone.is_none() && capacity.is_none() && !as_configured {
                return Err(CliError::Usage("say --zone, --capacity or --as-configured"));
            }
            let step = StepRequest::Set { node: name, zone, capacity_bytes: capacity, as_configured };
            change(step, &manner, Goal::Settled).await
        }
        NodeAction::Replace { old, new, force, manner } => replace(old, new, force, &manner).await,
        NodeAction::Rebalance { manner } => change(StepRequest::Rebalance {}, &manner, Goal::Settled).await,
    }
}

pub(super) async fn execute_cluster(args: ClusterArgs) -> Result<(), CliError> {
    let ClusterAction::Set { replication_factor, manner } = args.action;
    change(StepRequest::SetReplication { factor: replication_factor }, &manner, Goal::Settled).await
}

async fn list(target: &Target) -> Result<(), CliError> {
    let status: ClusterStatus = target.client()?.get("/status").await?;
    if target.json {
        output::json(&status.nodes)?;
    } else {
        let rows: Vec<[String; 7]> = status.nodes.iter().map(node_row).collect();
        output::table(["ID", "NAME", "ADDRESS", "ZONE", "CAPACITY", "STATE", "PARTITIONS"], &rows)?;
    }
    Ok(())
}

fn node_row(node: &NodeReport) -> [String; 7] {
    [
        node.id.to_string(),
        node.name.clone(),
        node.address.clone(),
        node.zone.clone(),
        output::bytes(node.capacity_bytes),
        format!("{}, {}", node.state, if node.up { "up" } else { "down" }),
        node.partitions.to_string(),
    ]
}

/// Plans or carries out, says what it comes to, and waits for it if that is asked.
async fn change(step: StepRequest, manner: &Manner, goal: Goal) -> Result<(), CliError> {
    let client = manner.target.client()?;
    let report = ask(&client, step, manner.dry_run).await?;
    carry_on(&client, &report, manner, goal).await
}

async fn carry_on(client: &AdminClient, report: &PlanReport, manner: &Manner, goal: Goal) -> Result<(), CliError> {
    if manner.wait {
        print_unless_json(report, manner)?;
        progress::wait(client, goal, !manner.target.json).await?;
    }
    finish(report, manner)
}

async fn ask(client: &AdminClient, step: StepRequest, dry_run: bool) -> Result<PlanReport, CliError> {
    Ok(client.post("/layout", &LayoutRequest { step, dry_run }).await?)
}

fn print_unless_json(report: &PlanReport, manner: &Manner) -> Result<(), CliError> {
    if !manner.target.json {
        print(report)?;
    }
    Ok(())
}

/// A report that was not printed before the waiting is printed at the end.
fn finish(report: &PlanReport, manner: &Manner) -> Result<(), CliError> {
    match (manner.target.json, manner.wait) {
        (true, _) => output::json(report)?,
        (false, true) => {}
        (false, false) => print(report)?,
    }
    Ok(())
}

/// With --wait also for nodes that have just been started, and have not registered yet.
async fn add(names: Vec<String>, manner: &Manner) -> Result<(), CliError> {
    if manner.wait {
        let client = manner.target.client()?;
        let is_there = |status: &ClusterStatus, name: &String| status.nodes.iter().any(|node| node.is_named(name));
        progress::until("the nodes are registered", REGISTER_WAIT, async || {
            let status: ClusterStatus = client.get("/status").await?;
            Ok(names.iter().all(|name| is_there(&status, name)).then_some(()))
        })
        .await?;
    }
    change(StepRequest::Add { nodes: names }, manner, Goal::Settled).await
}

async fn drain(name: String, manner: &Manner) -> Result<(), CliError> {
    let client = manner.target.client()?;
    let report = ask(&client, StepRequest::Drain { node: name.clone() }, manner.dry_run).await?;
    if manner.wait {
        print_unless_json(&report, manner)?;
        progress::wait(&client, Goal::Empty(name.clone()), !manner.target.json).await?;
        let removed = ask(&client, StepRequest::Remove { node: name.clone(), force: false }, false).await;
        // Somebody else may have removed it meanwhile.
        if let Err(error) = removed
            && !is_gone(&client, &name).await?
        {
            return Err(error);
        }
    }
    finish(&report, manner)
}

async fn is_gone(client: &AdminClient, name: &str) -> Result<bool, CliError> {
    let status: ClusterStatus = client.get("/status").await?;
    Ok(!status.nodes.iter().any(|node| node.is_named(name)))
}

/// A new node that is not there yet is waited for, and added.
async fn replace(old: String, new: String, force: bool, manner: &Manner) -> Result<(), CliError> {
    let client = manner.target.client()?;
    let report = ask(&client, StepRequest::Replace { old: old.clone(), new, force }, manner.dry_run).await?;
    let Some(new) = report.awaited.clone().filter(|_| report.carried_out) else {
        return carry_on(&client, &report, manner, Goal::Settled).await;
    };
    print_unless_json(&report, manner)?;
    let what = format!(
        "{new} is registered. {old} is out of the cluster: start {new}, then `annulus node add {new} --wait` gives it its share"
    );
    let is_spare = |node: &NodeReport| node.name == new && node.state == "spare";
    progress::until(&what, REGISTER_WAIT, async || {
        let status: ClusterStatus = client.get("/status").await?;
        Ok(status.nodes.iter().any(is_spare).then_some(()))
    })
    .await?;
    change(StepRequest::Add { nodes: vec![new] }, manner, Goal::Settled).await
}

fn print(report: &PlanReport) -> std::io::Result<()> {
    let verb = if report.carried_out { "planned" } else { "would be planned" };
    output::line(&format!(
        "epoch {} {verb}: {} partitions change, {} replicas to fill; {} of chunks and about {} of metadata to move",
        report.epoch,
        report.partitions_to_move,
        report.replicas_to_fill,
        output::bytes(report.chunk_bytes_to_move),
        output::bytes(report.metadata_bytes_to_move),
    ))?;
    if report.partitions_unknown > 0 {
        output::line(&format!(
            "  ! the size of {} partitions is not known: no node that has them answers",
            report.partitions_unknown
        ))?;
    }
    for cost in &report.costs {
        output::line(&format!("  ! {cost}"))?;
    }
    let rows: Vec<[String; 8]> = report.nodes.iter().map(plan_row).collect();
    let heading = ["ID", "NAME", "STATE", "CAPACITY", "PARTITIONS", "DATA NOW", "DATA AFTER", "COMES IN"];
    output::table(heading, &rows)
}

fn plan_row(node: &crate::admin::model::NodePlan) -> [String; 8] {
    [
        node.id.to_string(),
        node.name.clone(),
        node.state.clone(),
        output::bytes(node.capacity_bytes),
        format!("{} -> {}", node.partitions_before, node.partitions_after),
        output::bytes(node.chunk_bytes_before),
        output::bytes(node.chunk_bytes_after),
        output::bytes(node.chunk_bytes_in),
    ]
}
