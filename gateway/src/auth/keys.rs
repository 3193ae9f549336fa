//! The secret of an access key, for s3s to verify signatures with.

use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use super::{Accounts, MapUnreachable};

#[async_trait::async_trait]
impl S3Auth for Accounts {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let map = self.map().await?;
        let secret = self.secret_of(&map, access_key).ok_or_else(|| s3_error!(InvalidAccessKeyId))?;
        Ok(SecretKey::from(secret))
    }
}

impl From<MapUnreachable> for s3s::S3Error {
    fn from(unreachable: MapUnreachable) -> Self {
        s3_error!(unreachable, ServiceUnavailable, "Please reduce your request rate.")
    }
}
