//! The local key service: keys in the cluster map, wrapped by the master key, unwrapped for a moment when they are used.
//!
//! A key that is disabled is so everywhere when the call returns: the map that is read here has a lease. Keys are never
//! deleted, because nothing knows which objects still need one.

use std::sync::Arc;

use annulus_common::clock::SharedClock;
use annulus_common::encryption::{SSE_S3_KEY, WrappedKey};
use annulus_common::map::change::{MapChange, MapRefusal};
use annulus_common::map::{ClusterMap, KmsKey, KmsKeyVersion};
use async_trait::async_trait;

use super::{KeyError, KeyService, MasterKeys, SecretKey, envelope};
use crate::client::{ClientError, ClusterClient};

/// What the master key wraps keys of the service for, before the key's name.
const MATERIAL: &[u8] = b"kms key ";

/// The local key service.
pub struct LocalKeys {
    client: Arc<ClusterClient>,
    masters: MasterKeys,
    clock: SharedClock,
}

/// Why a key was not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyChangeError {
    /// The cluster map refused.
    #[error(transparent)]
    Refused(#[from] MapRefusal),
    /// Wrapping or reaching the map failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<ClientError> for KeyChangeError {
    fn from(error: ClientError) -> Self {
        KeyError::Unreachable(error).into()
    }
}

#[async_trait]
impl KeyService for LocalKeys {
    async fn generate(&self, key: &str, context: &[u8]) -> Result<(SecretKey, WrappedKey), KeyError> {
        let name = name_of(key);
        let map = self.map_with(name).await?;
        let found = usable(&map, name)?;
        let number = found.versions.len().checked_sub(1).ok_or(KeyError::Damaged)?;
        let material = self.material(name, &found.versions[number])?;
        let data_key = SecretKey::draw()?;
        let version = u32::try_from(number).map_err(|_| KeyError::Damaged)?;
        let wrapped = envelope::seal(&material, version, &data_key, context)?;
        Ok((data_key, wrapped))
    }

    async fn unwrap(&self, key: &str, wrapped: &WrappedKey, context: &[u8]) -> Result<SecretKey, KeyError> {
        let name = name_of(key);
        let map = self.client.map().await.map_err(KeyError::Unreachable)?;
        let version = usable(&map, name)?.versions.get(wrapped.version as usize).ok_or(KeyError::Damaged)?;
        let material = self.material(name, version)?;
        envelope::open(&material, wrapped, context).ok_or(KeyError::Damaged)
    }
}

impl LocalKeys {
    /// The service over the cluster map.
    pub fn new(client: Arc<ClusterClient>, masters: MasterKeys, clock: SharedClock) -> Self {
        Self { client, masters, clock }
    }

    /// Makes a key.
    pub async fn create(&self, name: &str) -> Result<KmsKey, KeyChangeError> {
        let now_ms = self.clock.now_ms();
        let key = KmsKey { created_ms: now_ms, enabled: true, versions: vec![self.draw_version(name)?] };
        self.client.change_map(MapChange::CreateKmsKey { name: name.to_owned(), key: key.clone() }).await??;
        Ok(key)
    }

    /// Gives a key a new version, which encrypts from now on; the earlier ones still decrypt.
    pub async fn rotate(&self, name: &str) -> Result<(), KeyChangeError> {
        let map = self.client.map().await?;
        let key = map.kms_keys.get(name).ok_or(MapRefusal::NoSuchKmsKey)?;
        let number = u32::try_from(key.versions.len()).map_err(|_| MapRefusal::KmsKeyChanged)?;
        self.put_version(name, number, self.draw_version(name)?).await
    }

    /// Lets a key be used, or not.
    pub async fn enable(&self, name: &str, enabled: bool) -> Result<(), KeyChangeError> {
        self.client.change_map(MapChange::EnableKmsKey { name: name.to_owned(), enabled }).await??;
        Ok(())
    }

    /// Wraps every key by the master key that this process wraps with, and says how many versions were wrapped by another.
    pub async fn rewrap(&self) -> Result<u64, KeyChangeError> {
        let map = self.client.map().await?;
        let mut rewrapped = 0;
        for (name, key) in &map.kms_keys {
            for (number, version) in (0..).zip(&key.versions).filter(|(_, v)| v.master != self.masters.current().id()) {
                let material = self.material(name, version)?;
                let version = self.wrap(name, &material, version.created_ms)?;
                self.put_version(name, number, version).await?;
                rewrapped += 1;
            }
        }
        Ok(rewrapped)
    }

    async fn put_version(&self, name: &str, number: u32, version: KmsKeyVersion) -> Result<(), KeyChangeError> {
        self.client.change_map(MapChange::PutKmsKeyVersion { name: name.to_owned(), number, version }).await??;
        Ok(())
    }

    /// The map, with the key of SSE-S3 in it if that is the one: it is made when it is first needed.
    async fn map_with(&self, name: &str) -> Result<Arc<ClusterMap>, KeyError> {
        let map = self.client.map().await.map_err(KeyError::Unreachable)?;
        if name != SSE_S3_KEY || map.kms_keys.contains_key(name) {
            return Ok(map);
        }
        match self.create(name).await {
            // Another request made it at the same time.
            Ok(_) | Err(KeyChangeError::Refused(MapRefusal::KmsKeyExists)) => {}
            Err(KeyChangeError::Refused(_)) => return Err(KeyError::NotFound(name.to_owned())),
            Err(KeyChangeError::Key(error)) => return Err(error),
        }
        self.client.map().await.map_err(KeyError::Unreachable)
    }

    fn draw_version(&self, name: &str) -> Result<KmsKeyVersion, KeyError> {
        self.wrap(name, &SecretKey::draw()?, self.clock.now_ms())
    }

    fn wrap(&self, name: &str, material: &SecretKey, created_ms: u64) -> Result<KmsKeyVersion, KeyError> {
        let master = self.masters.current();
        let material = envelope::seal(master.key(), 0, material, &material_context(name))?;
        Ok(KmsKeyVersion { created_ms, master: master.id(), material })
    }

    fn material(&self, name: &str, version: &KmsKeyVersion) -> Result<SecretKey, KeyError> {
        let master = self.masters.find(version.master).ok_or_else(|| KeyError::OtherMaster(name.to_owned()))?;
        envelope::open(master.key(), &version.material, &material_context(name)).ok_or(KeyError::Damaged)
    }
}

fn usable<'a>(map: &'a ClusterMap, name: &str) -> Result<&'a KmsKey, KeyError> {
    match map.kms_keys.get(name) {
        None => Err(KeyError::NotFound(name.to_owned())),
        Some(key) if !key.enabled => Err(KeyError::Disabled(name.to_owned())),
        Some(key) => Ok(key),
    }
}

fn material_context(name: &str) -> Vec<u8> {
    [MATERIAL, name.as_bytes()].concat()
}

/// A key's name, out of what clients write: `NAME`, `alias/NAME`, `arn:aws:kms:REGION:ACCOUNT:key/NAME` or `...:alias/NAME`.
fn name_of(key: &str) -> &str {
    let resource = match key.strip_prefix("arn:") {
        Some(rest) => rest.splitn(5, ':').nth(4).unwrap_or(key),
        None => key,
    };
    let named = resource.strip_prefix("alias/").or_else(|| resource.strip_prefix("key/").filter(|_| resource != key));
    named.unwrap_or(resource)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use annulus_common::encryption::SSE_S3_KEY;
    use annulus_common::map::change::MapRefusal;

    use super::{KeyChangeError, LocalKeys, name_of};
    use crate::client::testing::{FakeCluster, TestClock};
    use crate::kms::{KeyError, KeyService, MasterKey, MasterKeys, SecretKey};

    fn master(byte: u8) -> MasterKey {
        MasterKey::new(SecretKey::new([byte; 32]))
    }

    struct Bench {
        cluster: Arc<FakeCluster>,
        clock: Arc<TestClock>,
    }

    impl Bench {
        fn new() -> Self {
            Self { cluster: FakeCluster::new(3, 3), clock: TestClock::shared() }
        }

        async fn keys(&self, masters: MasterKeys) -> LocalKeys {
            LocalKeys::new(self.cluster.client_with(self.clock.clone()).await, masters, self.clock.clone())
        }
    }

    #[test]
    fn keys_go_by_name_alias_and_arn() {
        for key in [
            "testkey-1",
            "alias/testkey-1",
            "arn:aws:kms:us-east-1:111122223333:key/testkey-1",
            "arn:aws:kms:us-east-1:111122223333:alias/testkey-1",
        ] {
            assert_eq!(name_of(key), "testkey-1");
        }
        assert_eq!(name_of("alias/aws/s3"), "aws/s3");
        assert_eq!(name_of("key/of/mine"), "key/of/mine");
        assert_eq!(name_of("arn:aws:kms"), "arn:aws:kms");
    }

    #[tokio::test]
    async fn what_an_old_version_wrapped_still_opens() {
        let keys = Bench::new().keys(MasterKeys::new(master(1), Vec::new())).await;
        keys.create("k").await.unwrap();
        let (old, old_wrapped) = keys.generate("k", b"context").await.unwrap();
        keys.rotate("k").await.unwrap();
        let (new, new_wrapped) = keys.generate("alias/k", b"context").await.unwrap();
        assert_eq!((old_wrapped.version, new_wrapped.version), (0, 1));
        for (key, wrapped) in [(old, old_wrapped), (new, new_wrapped)] {
            assert_eq!(keys.unwrap("k", &wrapped, b"context").await.unwrap().expose(), key.expose());
            assert!(matches!(keys.unwrap("k", &wrapped, b"other").await, Err(KeyError::Damaged)));
        }
    }

    #[tokio::test]
    async fn a_disabled_key_does_nothing_until_it_is_enabled() {
        let keys = Bench::new().keys(MasterKeys::new(master(1), Vec::new())).await;
        assert!(matches!(keys.generate("k", b"").await, Err(KeyError::NotFound(_))));
        keys.create("k").await.unwrap();
        let again = keys.create("k").await;
        assert!(matches!(again, Err(KeyChangeError::Refused(MapRefusal::KmsKeyExists))));
        let (_, wrapped) = keys.generate("k", b"").await.unwrap();
        keys.enable("k", false).await.unwrap();
        assert!(matches!(keys.generate("k", b"").await, Err(KeyError::Disabled(_))));
        assert!(matches!(keys.unwrap("k", &wrapped, b"").await, Err(KeyError::Disabled(_))));
        keys.enable("k", true).await.unwrap();
        keys.unwrap("k", &wrapped, b"").await.unwrap();
    }

    #[tokio::test]
    async fn the_key_of_sse_s3_makes_itself_once() {
        let bench = Bench::new();
        let one = bench.keys(MasterKeys::new(master(1), Vec::new())).await;
        let two = bench.keys(MasterKeys::new(master(1), Vec::new())).await;
        let (first, second) = tokio::join!(one.generate(SSE_S3_KEY, b""), two.generate(SSE_S3_KEY, b""));
        for (key, wrapped) in [first.unwrap(), second.unwrap()] {
            assert_eq!(one.unwrap(SSE_S3_KEY, &wrapped, b"").await.unwrap().expose(), key.expose());
            assert_eq!(two.unwrap(SSE_S3_KEY, &wrapped, b"").await.unwrap().expose(), key.expose());
        }
    }

    #[tokio::test]
    async fn the_master_key_can_be_replaced() {
        let bench = Bench::new();
        let old = bench.keys(MasterKeys::new(master(1), Vec::new())).await;
        old.create("k").await.unwrap();
        old.rotate("k").await.unwrap();
        let (key, wrapped) = old.generate("k", b"").await.unwrap();
        let both = bench.keys(MasterKeys::new(master(2), vec![master(1)])).await;
        assert_eq!(both.unwrap("k", &wrapped, b"").await.unwrap().expose(), key.expose());
        assert_eq!(both.rewrap().await.unwrap(), 2);
        assert_eq!(both.rewrap().await.unwrap(), 0);
        let new = bench.keys(MasterKeys::new(master(2), Vec::new())).await;
        assert_eq!(new.unwrap("k", &wrapped, b"").await.unwrap().expose(), key.expose());
        assert!(matches!(old.unwrap("k", &wrapped, b"").await, Err(KeyError::OtherMaster(_))));
    }
}
