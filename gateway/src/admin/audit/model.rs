//! What an audit asks and says, in JSON.

use serde::{Deserialize, Serialize};

/// Problems that one answer lists; the number says how many there are.
pub const PROBLEMS_MAX: usize = 1_000;

/// Asks for the next part of a node's copy of a partition to be read and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyRequest {
    /// The node.
    pub node: u64,
    /// The partition.
    pub partition: u32,
    /// Where to go on: what the last answer said.
    #[serde(default)]
    pub after: Option<String>,
}

/// What was read of a node's copy of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPage {
    /// Chunks that are as they were written.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their digest; those of pages are added with wrap-around. Complete copies of a partition have the same.
    pub digest: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Where to go on, when there may be more.
    pub next: Option<String>,
}

/// Asks for the next part of a node's metadata to be read and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetadataRequest {
    /// The node.
    pub node: u64,
    /// Where to go on: what the last answer said.
    #[serde(default)]
    pub after: Option<String>,
}

/// What was read of a node's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataPage {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Where to go on, when there may be more.
    pub next: Option<String>,
}

/// Asks for the next names of a partition to be looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamesRequest {
    /// The partition.
    pub partition: u32,
    /// Where to go on: what the last answer said.
    #[serde(default)]
    pub after: Option<String>,
}

/// What a partition names, and what of it is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesPage {
    /// Objects and parts of uploads.
    pub named: u64,
    /// Bytes of them that lie in the metadata.
    pub inline_bytes: u64,
    /// Chunks that they are made of.
    pub chunks: u64,
    /// Copies of these chunks that there should be.
    pub copies_expected: u64,
    /// Copies that are not there.
    pub copies_missing: u64,
    /// What is wrong, the first [`PROBLEMS_MAX`] of it.
    pub problems: Vec<Problem>,
    /// Where to go on, when there may be more.
    pub next: Option<String>,
}

impl NamesPage {
    /// Adds what follows, of the same partition or of another.
    pub fn add(&mut self, page: NamesPage) {
        self.named += page.named;
        self.inline_bytes += page.inline_bytes;
        self.chunks += page.chunks;
        self.copies_expected += page.copies_expected;
        self.copies_missing += page.copies_missing;
        self.problems.extend(page.problems);
        self.next = page.next;
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `damaged`, `missing`, `unreadable`, `silent`, `behind` or `moving`.
    pub kind: String,
    /// The node where it is, if it is one's.
    pub node: Option<u64>,
    /// The partition, if it is one's.
    pub partition: Option<u32>,
    /// The chunk, if it is one: its part's id and its place.
    pub chunk: Option<String>,
    /// Whose it is, where that is known: bucket and key.
    pub of: Option<String>,
    /// What is wrong, in words.
    pub message: String,
}

/// A node's copy of a partition, read and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyReport {
    /// The partition.
    pub partition: u32,
    /// The node.
    pub node: u64,
    /// Chunks that are as they were written.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their digest, in hexadecimal.
    pub digest: String,
}

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// The cluster's id.
    pub cluster: String,
    /// When it began, Unix milliseconds.
    pub began_ms: u64,
    /// When it ended, Unix milliseconds.
    pub ended_ms: u64,
    /// The epoch by which it was done.
    pub epoch: u64,
    /// Replicas that there should be.
    pub replication_factor: u8,
    /// Nothing is below target, and nothing is damaged.
    pub sound: bool,
    /// Objects and parts of uploads.
    pub named: u64,
    /// Bytes of them that lie in the metadata.
    pub inline_bytes: u64,
    /// Chunks that they are made of.
    pub chunks: u64,
    /// Copies of these chunks that there should be.
    pub copies_expected: u64,
    /// Copies that are missing or damaged, and replicas of metadata that are: what is below target.
    pub below_target: u64,
    /// What was read, by partition and node. Complete copies of a partition have the same count, bytes and digest, unless
    /// something was written or collected meanwhile.
    pub copies: Vec<CopyReport>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}
