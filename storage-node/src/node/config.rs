//! What a node is told at start, and what of it is checked at once.

use std::path::PathBuf;
use std::time::Duration;

use annulus_common::config::ServerConfig;
use annulus_common::ids::InstanceId;
use annulus_common::lifecycle::Calendar;
use annulus_common::map::NodeProfile;

use super::StartError;
use crate::cluster::formation::{FormationSettings, RootKey};
use crate::kv::disk::disk_space;
use crate::repair::RepairSettings;

/// What a node is told at start.
#[derive(Clone)]
pub struct NodeConfig {
    /// `NODE_ID`.
    pub name: String,
    /// Where peers reach it.
    pub addr: String,
    /// The failure domain.
    pub zone: String,
    /// Bytes it offers; the size of the file system when absent.
    pub capacity_bytes: Option<u64>,
    /// Where everything is.
    pub data_dir: PathBuf,
    /// How a cluster is found or formed.
    pub formation: FormationSettings,
    /// The administrator's first key, drawn when absent. Of use only to a new cluster.
    pub root: Option<RootKey>,
    /// Memory for blocks of both databases.
    pub block_cache_bytes: usize,
    /// Bytes of the disk that chunks leave free; a default by the size of the disk when absent.
    pub disk_reserve_bytes: Option<u64>,
    /// Threads that drive Raft.
    pub raft_workers: usize,
    /// After how much silence a node is given up and its share is taken over by the others.
    pub dead_after: Duration,
    /// How fast repair goes.
    pub repair: RepairSettings,
    /// What a day of lifecycle rules is.
    pub calendar: Calendar,
}

impl NodeConfig {
    /// The node's part of a process's configuration.
    pub fn of(config: &ServerConfig) -> Self {
        Self {
            name: config.node_id.clone(),
            addr: config.advertised().to_string(),
            zone: config.zone.clone(),
            capacity_bytes: config.capacity_bytes,
            data_dir: config.data_dir.clone(),
            formation: FormationSettings {
                seeds: config.seeds.iter().map(ToString::to_string).collect(),
                replication_factor: config.replication_factor as u8,
                initial_nodes: config.initial_nodes as usize,
                partitions: config.partitions,
            },
            root: config.root.as_ref().map(|root| RootKey {
                access_key: root.access_key.clone(),
                secret_key: root.secret_key.expose().to_owned(),
            }),
            block_cache_bytes: config.block_cache_bytes as usize,
            disk_reserve_bytes: Some(config.disk_reserve_bytes),
            raft_workers: config.raft_workers as usize,
            dead_after: config.dead_after,
            repair: RepairSettings {
                bandwidth_bytes_per_second: config.repair_bandwidth,
                scrub_interval: config.scrub_interval,
                collect_grace: config.collect_grace,
                ..RepairSettings::default()
            },
            calendar: Calendar::of_day(config.lifecycle_day_seconds),
        }
    }
}

/// Refuses settings that contradict each other.
pub(super) fn check(config: &NodeConfig) -> Result<(), StartError> {
    let formation = &config.formation;
    if formation.initial_nodes < usize::from(formation.replication_factor) {
        let (nodes, replicas) = (formation.initial_nodes, formation.replication_factor);
        return Err(StartError::Settings(format!(
            "initial_nodes is {nodes}, but replication_factor {replicas} needs that many nodes from the beginning"
        )));
    }
    Ok(())
}

/// The node as the cluster map describes it.
pub(super) fn this_node(config: &NodeConfig, instance: InstanceId) -> Result<NodeProfile, StartError> {
    let capacity_bytes = match config.capacity_bytes {
        Some(bytes) => bytes,
        None => {
            let what = || format!("measuring the file system of {}", config.data_dir.display());
            let space = disk_space(&config.data_dir);
            space.map_err(|source| StartError::System { what: what(), source })?.total_bytes
        }
    };
    let (name, addr, zone) = (config.name.clone(), config.addr.clone(), config.zone.clone());
    Ok(NodeProfile { name, instance, addr, zone, capacity_bytes })
}
