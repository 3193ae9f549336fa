//! The master key, which wraps the keys of the key service: from the configuration, or from what a cluster has anyway.
//!
//! - `master_key` (or its file): the cluster's data and its secret together do not open an encrypted object.
//! - Else a key derived from the cluster secret. It protects disks and backups that leave the house, and nothing against
//!   somebody who knows the secret.
//! - Else, on a server alone, a key drawn into a file of the data directory: it protects copies of the database without it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use annulus_common::config::ServerConfig;
use annulus_common::map::MasterKeyId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tracing::info;

use super::SecretKey;
use super::secret::KEY_BYTES;

/// The drawn key, in the data directory.
const FILE_NAME: &str = "master-key";

/// A master key with the name by which wrapped keys refer to it.
#[derive(Clone, Debug)]
pub struct MasterKey {
    id: MasterKeyId,
    key: SecretKey,
}

/// The master key that wraps, and those that only unwrap what they wrapped before it.
#[derive(Clone, Debug)]
pub struct MasterKeys {
    current: MasterKey,
    previous: Vec<MasterKey>,
}

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The setting.
    #[error("{0} is not a key: 32 bytes as 64 hexadecimal digits or in base64, as `openssl rand -hex 32` gives them")]
    Malformed(&'static str),
    /// The file in the data directory.
    #[error("the master key in {path} cannot be read or written: {source}")]
    File {
        /// Which.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl MasterKey {
    /// A master key out of its bytes.
    pub fn new(key: SecretKey) -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(&key.expand(&[b"annulus master key id"]).expose()[..8]);
        Self { id: MasterKeyId(id), key }
    }

    pub(super) fn id(&self) -> MasterKeyId {
        self.id
    }

    pub(super) fn key(&self) -> &SecretKey {
        &self.key
    }
}

impl MasterKeys {
    /// One that wraps and others that unwrap.
    pub fn new(current: MasterKey, previous: Vec<MasterKey>) -> Self {
        Self { current, previous }
    }

    /// The master keys of a configuration. A process that was given neither a key nor a secret draws one.
    pub fn of(config: &ServerConfig) -> Result<Self, MasterKeyError> {
        let configured = parse_setting("master_key", config.master_key.as_ref().map(|key| key.expose()))?;
        let before = parse_setting("master_key_previous", config.master_key_previous.as_ref().map(|key| key.expose()))?;
        let derived = config.cluster_secret.as_ref().map(|secret| derive(secret.expose()));
        let path = config.data_dir.join(FILE_NAME);
        let mut drawn = read_file(&path)?;
        let source = match (&configured, &derived, &drawn) {
            (Some(_), _, _) => "the setting master_key",
            (None, Some(_), _) => "the cluster secret",
            (None, None, Some(_)) => "a file in the data directory",
            (None, None, None) => {
                drawn = Some(draw_file(&path)?);
                "a new file in the data directory"
            }
        };
        info!(source, "keys are wrapped by a master key");
        let mut keys = [configured, derived, drawn, before].into_iter().flatten().map(MasterKey::new);
        let current = keys.next().expect("a key is drawn where there is none");
        Ok(Self::new(current, keys.collect()))
    }

    /// A key for another purpose out of each of them, the current one's first.
    pub(crate) fn derived(&self, purpose: &[u8]) -> Vec<SecretKey> {
        [&self.current].into_iter().chain(&self.previous).map(|master| master.key.expand(&[purpose])).collect()
    }

    pub(super) fn current(&self) -> &MasterKey {
        &self.current
    }

    pub(super) fn find(&self, id: MasterKeyId) -> Option<&MasterKey> {
        [&self.current].into_iter().chain(&self.previous).find(|key| key.id == id)
    }
}

fn parse_setting(name: &'static str, text: Option<&str>) -> Result<Option<SecretKey>, MasterKeyError> {
    text.map(|text| parse(text).ok_or(MasterKeyError::Malformed(name))).transpose()
}

fn parse(text: &str) -> Option<SecretKey> {
    let text = text.trim();
    let bytes = if text.len() == 2 * KEY_BYTES { hex::decode(text).ok() } else { BASE64.decode(text).ok() }?;
    Some(SecretKey::new(bytes.try_into().ok()?))
}

fn derive(cluster_secret: &str) -> SecretKey {
    // The secret is text of any length: hashed by HKDF's first step, with a salt that says what for.
    let mut bytes = [0; KEY_BYTES];
    let tag = ring::hmac::sign(
        &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"annulus master key"),
        cluster_secret.as_bytes(),
    );
    bytes.copy_from_slice(tag.as_ref());
    SecretKey::new(bytes)
}

fn read_file(path: &Path) -> Result<Option<SecretKey>, MasterKeyError> {
    let failed = |source| MasterKeyError::File { path: path.display().to_string(), source };
    match fs::read_to_string(path) {
        Ok(text) => parse(&text).map(Some).ok_or_else(|| failed(io::Error::other("it holds no key"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Draws a key; it is on disk, for its owner's eyes only, when this returns.
fn draw_file(path: &Path) -> Result<SecretKey, MasterKeyError> {
    let failed = |source| MasterKeyError::File { path: path.display().to_string(), source };
    let key = SecretKey::draw().map_err(|error| failed(io::Error::other(error)))?;
    write_file(path, &key).map_err(failed)?;
    Ok(key)
}

fn write_file(path: &Path, key: &SecretKey) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let incomplete = directory.join(format!("{FILE_NAME}.new"));
    if let Err(error) = fs::remove_file(&incomplete)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&incomplete)?;
    writeln!(file, "{}", hex::encode(key.expose()))?;
    file.sync_all()?;
    fs::rename(&incomplete, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use annulus_common::config::{LoadInput, ServerConfig};

    use super::{FILE_NAME, MasterKeyError, MasterKeys};

    fn config(data_dir: &std::path::Path, settings: &[(&str, &str)]) -> ServerConfig {
        let own = [("ANNULUS_DATA_DIR", data_dir.to_str().unwrap())];
        let env = own.iter().chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ServerConfig::load(LoadInput { env, ..LoadInput::default() }).unwrap()
    }

    #[test]
    fn a_server_alone_draws_a_key_and_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = MasterKeys::of(&config(directory.path(), &[])).unwrap();
        let again = MasterKeys::of(&config(directory.path(), &[])).unwrap();
        assert_eq!(first.current().id(), again.current().id());
        let mode = std::fs::metadata(directory.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let secret = ("ANNULUS_CLUSTER_SECRET", "a-secret-of-some-length");
        let grown = MasterKeys::of(&config(directory.path(), &[secret])).unwrap();
        assert_ne!(grown.current().id(), first.current().id());
        assert!(grown.find(first.current().id()).is_some(), "what the drawn key wrapped still opens");
    }

    #[test]
    fn a_configured_key_comes_first_and_the_secret_still_opens() {
        let directory = tempfile::tempdir().unwrap();
        let secret = ("ANNULUS_CLUSTER_SECRET", "a-secret-of-some-length");
        let key = ("ANNULUS_MASTER_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
        let derived = MasterKeys::of(&config(directory.path(), &[secret])).unwrap();
        let configured = MasterKeys::of(&config(directory.path(), &[secret, key])).unwrap();
        assert_ne!(configured.current().id(), derived.current().id());
        assert!(configured.find(derived.current().id()).is_some());
        let base64 = ("ANNULUS_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let same = MasterKeys::of(&config(directory.path(), &[base64])).unwrap();
        assert_eq!(same.current().id(), configured.current().id());
        let short = ("ANNULUS_MASTER_KEY", "0001020304050607080900010203040506070809");
        let refused = MasterKeys::of(&config(directory.path(), &[short]));
        assert!(matches!(refused, Err(MasterKeyError::Malformed("master_key"))));
    }
}
