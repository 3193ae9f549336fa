//! The data directory of a node: its two databases and the place of its extents, made together or not at all, and opened as
//! one.
//!
//! DIR/db/meta holds Raft logs and metadata, DIR/db/chunks the index of chunks: apart, as the one is synced all the time and
//! the other seldom. DIR/db/extents is for the files that chunks lie in; it may be a mount point, so it says whose it is. All
//! are made in DIR/db.new, which is renamed when they are complete: a crash in between leaves nothing that could be taken for
//! a node. What is in the extents is not known here.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annulus_common::chunk::crc32c;
use annulus_common::ids::InstanceId;

use super::KvError;
use super::disk::{DiskKv, DiskOptions, OpenMode};
use super::identity::{IdentityError, NodeIdentity};

/// Both databases of a node, open.
pub struct NodeDirectory {
    /// Raft logs and metadata.
    pub meta: Arc<DiskKv>,
    /// The index of chunks.
    pub chunks: Arc<DiskKv>,
    /// The directory of the extents.
    pub extents: PathBuf,
    /// Whose they are, as it was at the start.
    pub identity: NodeIdentity,
}

/// How the databases of a node are opened.
pub struct DirectoryOptions {
    /// Whether a directory without databases becomes a new node.
    pub mode: OpenMode,
    /// The name of the node, as configured.
    pub name: String,
    /// Who a new node is.
    pub instance: InstanceId,
    /// For [`NodeDirectory::meta`].
    pub meta: DiskOptions,
    /// For [`NodeDirectory::chunks`].
    pub chunks: DiskOptions,
}

impl NodeDirectory {
    /// Opens the databases in `directory`; makes them where there are none and the mode allows it.
    pub fn open(directory: &Path, options: &DirectoryOptions) -> Result<Self, IdentityError> {
        let paths = Paths::of(directory);
        match (DiskKv::exists(&paths.meta)?, DiskKv::exists(&paths.chunks)?) {
            (true, true) => {}
            (true, false) => return Err(missing(&paths.chunks, &paths.meta)),
            (false, true) => return Err(missing(&paths.meta, &paths.chunks)),
            (false, false) => create(&paths, options)?,
        }
        let meta = DiskKv::open(&paths.meta, OpenMode::Existing, &options.meta)?;
        let chunks = DiskKv::open(&paths.chunks, OpenMode::Existing, &options.chunks)?;
        let identity = identity_of(&meta, &paths.meta)?;
        identity.check_name(&display(&paths.meta), &options.name)?;
        // The cluster and the number in it are written to the metadata alone, as they become known.
        if identity_of(&chunks, &paths.chunks)?.instance != identity.instance {
            return Err(IdentityError::OtherInstance { place: display(&paths.meta) });
        }
        check_owner(&paths, identity.instance)?;
        Ok(Self { meta: Arc::new(meta), chunks: Arc::new(chunks), extents: paths.extents, identity })
    }
}

struct Paths {
    parent: PathBuf,
    /// What exists exactly when the node does.
    complete: PathBuf,
    incomplete: PathBuf,
    meta: PathBuf,
    chunks: PathBuf,
    extents: PathBuf,
}

const META: &str = "meta";
const CHUNKS: &str = "chunks";
const EXTENTS: &str = "extents";

/// The file that says whose extents these are.
const OWNER: &str = "owner";

impl Paths {
    fn of(directory: &Path) -> Self {
        let complete = directory.join("db");
        Self {
            parent: directory.to_owned(),
            incomplete: directory.join("db.new"),
            meta: complete.join(META),
            chunks: complete.join(CHUNKS),
            extents: complete.join(EXTENTS),
            complete,
        }
    }
}

fn create(paths: &Paths, options: &DirectoryOptions) -> Result<(), IdentityError> {
    // A database that lost its CURRENT, or a mount point without its disk: not a place for a new node.
    let taken = is_taken(&paths.complete).map_err(|error| failed(&paths.complete, &error))?;
    if taken || options.mode == OpenMode::Existing {
        return Err(IdentityError::Missing { missing: display(&paths.meta), present: display(&paths.parent) });
    }
    remove_incomplete(paths).map_err(|error| failed(&paths.incomplete, &error))?;
    let identity = NodeIdentity::new(options.name.clone(), options.instance);
    for (name, disk_options) in [(META, &options.meta), (CHUNKS, &options.chunks)] {
        let kv = DiskKv::open(&paths.incomplete.join(name), OpenMode::Create, disk_options)?;
        identity.store(&kv)?;
    }
    let extents = paths.incomplete.join(EXTENTS);
    create_extents(&extents, identity.instance).map_err(|error| failed(&extents, &error))?;
    complete(paths).map_err(|error| failed(&paths.complete, &error))?;
    Ok(())
}

fn create_extents(path: &Path, instance: InstanceId) -> io::Result<()> {
    fs::create_dir(path)?;
    let mut owner = File::create_new(path.join(OWNER))?;
    owner.write_all(&owner_record(instance))?;
    owner.sync_all()?;
    File::open(path)?.sync_all()
}

/// The instance's 16 bytes, and their CRC-32C: damage is not taken for another node.
fn owner_record(instance: InstanceId) -> Vec<u8> {
    [&instance.0[..], &crc32c(&instance.0).to_le_bytes()].concat()
}

fn is_owner_record(record: &[u8]) -> bool {
    record.first_chunk().is_some_and(|instance| record == owner_record(InstanceId(*instance)))
}

/// Refuses extents that are not there, as when their disk is not mounted, and those of another node.
fn check_owner(paths: &Paths, instance: InstanceId) -> Result<(), IdentityError> {
    match fs::read(paths.extents.join(OWNER)) {
        Ok(owner) if owner == owner_record(instance) => Ok(()),
        Ok(owner) if is_owner_record(&owner) => Err(IdentityError::OtherInstance { place: display(&paths.extents) }),
        Ok(_) => Err(IdentityError::Unknown { place: display(&paths.extents) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(&paths.extents, &paths.chunks)),
        Err(error) => Err(failed(&paths.extents, &error).into()),
    }
}

/// Whether anything is in `path`.
fn is_taken(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        entries => Ok(entries?.next().is_some()),
    }
}

/// What an interrupted creation left was never in use.
fn remove_incomplete(paths: &Paths) -> io::Result<()> {
    match fs::remove_dir_all(&paths.incomplete) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn complete(paths: &Paths) -> io::Result<()> {
    File::open(&paths.incomplete)?.sync_all()?;
    fs::rename(&paths.incomplete, &paths.complete)?;
    File::open(&paths.parent)?.sync_all()
}

fn identity_of(kv: &DiskKv, path: &Path) -> Result<NodeIdentity, IdentityError> {
    let place = display(path);
    NodeIdentity::load(kv, &place)?.ok_or(IdentityError::Unknown { place })
}

fn missing(missing: &Path, present: &Path) -> IdentityError {
    IdentityError::Missing { missing: display(missing), present: display(present) }
}

fn failed(path: &Path, error: &io::Error) -> KvError {
    KvError::Failed { during: "making a data directory", reason: format!("{}: {error}", path.display()) }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use annulus_common::ids::{ClusterId, InstanceId};
    use tempfile::TempDir;

    use super::{DirectoryOptions, NodeDirectory};
    use crate::kv::disk::{BlockCache, DiskOptions, OpenMode};
    use crate::kv::identity::{IdentityError, NodeIdentity};

    fn options(name: &str, instance: u8) -> DirectoryOptions {
        let cache = BlockCache::new(1 << 20);
        DirectoryOptions {
            mode: OpenMode::Create,
            name: name.to_owned(),
            instance: InstanceId([instance; 16]),
            meta: DiskOptions::metadata(cache.clone()),
            chunks: DiskOptions::chunks(cache),
        }
    }

    fn refused(directory: &Path, options: &DirectoryOptions) -> IdentityError {
        match NodeDirectory::open(directory, options) {
            Ok(_) => panic!("opened"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_node_is_made_once_and_keeps_its_identity() {
        let directory = TempDir::new().unwrap();
        let first = NodeDirectory::open(directory.path(), &options("n1", 1)).unwrap();
        let joined = NodeIdentity { cluster: Some(ClusterId([5; 16])), ..first.identity.clone() };
        joined.store(&*first.meta).unwrap();
        drop(first);
        let second = NodeDirectory::open(directory.path(), &options("n1", 2)).unwrap();
        assert_eq!(second.identity, joined);
    }

    #[test]
    fn what_an_interrupted_creation_left_is_made_anew() {
        let directory = TempDir::new().unwrap();
        fs::create_dir_all(directory.path().join("db.new/meta")).unwrap();
        fs::write(directory.path().join("db.new/meta/CURRENT"), "half").unwrap();
        NodeDirectory::open(directory.path(), &options("n1", 1)).unwrap();
        assert!(!directory.path().join("db.new").exists());
    }

    #[test]
    fn a_lost_database_is_never_replaced_by_an_empty_one() {
        for lost in ["db/meta", "db/chunks", "db/extents"] {
            let directory = TempDir::new().unwrap();
            drop(NodeDirectory::open(directory.path(), &options("n1", 1)).unwrap());
            let lost = directory.path().join(lost);
            fs::remove_dir_all(&lost).unwrap();
            let error = refused(directory.path(), &options("n1", 1));
            assert!(matches!(error, IdentityError::Missing { .. }), "{error}");
            assert!(error.to_string().starts_with(&lost.display().to_string()), "{error}");
            assert!(!lost.exists());
        }
    }

    #[test]
    fn a_database_that_lost_its_root_is_not_replaced() {
        let directory = TempDir::new().unwrap();
        drop(NodeDirectory::open(directory.path(), &options("n1", 1)).unwrap());
        fs::remove_file(directory.path().join("db/meta/CURRENT")).unwrap();
        fs::remove_file(directory.path().join("db/chunks/CURRENT")).unwrap();
        assert!(matches!(refused(directory.path(), &options("n1", 1)), IdentityError::Missing { .. }));
    }

    #[test]
    fn an_existing_node_is_not_made() {
        let directory = TempDir::new().unwrap();
        let options = DirectoryOptions { mode: OpenMode::Existing, ..options("n1", 1) };
        assert!(matches!(refused(directory.path(), &options), IdentityError::Missing { .. }));
        assert!(!directory.path().join("db").exists());
    }

    #[test]
    fn other_names_and_mixed_pairs_are_refused() {
        let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        drop(NodeDirectory::open(one.path(), &options("n1", 1)).unwrap());
        drop(NodeDirectory::open(two.path(), &options("n1", 2)).unwrap());
        assert!(matches!(refused(one.path(), &options("n2", 1)), IdentityError::OtherName { .. }));
        fs::remove_dir_all(one.path().join("db/chunks")).unwrap();
        fs::rename(two.path().join("db/chunks"), one.path().join("db/chunks")).unwrap();
        assert!(matches!(refused(one.path(), &options("n1", 1)), IdentityError::OtherInstance { .. }));
        fs::rename(one.path().join("db/chunks"), two.path().join("db/chunks")).unwrap();
        fs::remove_dir_all(two.path().join("db/extents")).unwrap();
        fs::rename(one.path().join("db/extents"), two.path().join("db/extents")).unwrap();
        assert!(matches!(refused(two.path(), &options("n1", 2)), IdentityError::OtherInstance { .. }));
        fs::write(two.path().join("db/extents/owner"), [2; 16]).unwrap();
        assert!(matches!(refused(two.path(), &options("n1", 2)), IdentityError::Unknown { .. }));
    }

    #[test]
    fn a_directory_serves_one_process() {
        let directory = TempDir::new().unwrap();
        let _open = NodeDirectory::open(directory.path(), &options("n1", 1)).unwrap();
        let error = refused(directory.path(), &options("n1", 1));
        assert!(error.to_string().contains("in use by another process"), "{error}");
    }
}
