//! The keys of the local key service. What they are wrapped by and what they wrap is never told.

use annulus_common::encryption::SSE_S3_KEY;
use annulus_common::map::change::MapRefusal;
use annulus_common::map::{ClusterMap, KmsKey};
use http::StatusCode;

use super::Admin;
use super::error::AdminProblem;
use super::model::{KmsKeyReport, NewKmsKey, Rewrapped};
use crate::kms::KeyChangeError;

/// As long as AWS's aliases.
const NAME_CHARS_MAX: usize = 250;

pub(super) fn list(map: &ClusterMap) -> Vec<KmsKeyReport> {
    map.kms_keys.iter().map(|(name, key)| report(name, key)).collect()
}

impl Admin {
    pub(super) async fn create_kms_key(&self, new: NewKmsKey) -> Result<KmsKeyReport, AdminProblem> {
        check_name(&new.name)?;
        let key = self.keys.create(&new.name).await?;
        Ok(report(&new.name, &key))
    }

    /// `rotate`, `enable` or `disable`: answers what the key is then.
    pub(super) async fn change_kms_key(&self, name: &str, action: &str) -> Result<KmsKeyReport, AdminProblem> {
        match action {
            "rotate" => self.keys.rotate(name).await?,
            "enable" => self.keys.enable(name, true).await?,
            "disable" if name == SSE_S3_KEY => {
                let reason = "every object with SSE-S3 needs this key";
                return Err(AdminProblem::new(StatusCode::CONFLICT, "KmsKeyNeeded", reason));
            }
            "disable" => self.keys.enable(name, false).await?,
            _ => return Err(AdminProblem::new(StatusCode::NOT_FOUND, "NoSuchCall", "there is no such call")),
        }
        let map = self.objects.client().map().await?;
        map.kms_keys.get(name).map(|key| report(name, key)).ok_or_else(|| MapRefusal::NoSuchKmsKey.into())
    }

    pub(super) async fn rewrap_kms_keys(&self) -> Result<Rewrapped, AdminProblem> {
        Ok(Rewrapped { versions: self.keys.rewrap().await? })
    }
}

impl From<KeyChangeError> for AdminProblem {
    fn from(error: KeyChangeError) -> Self {
        match error {
            KeyChangeError::Refused(refusal) => refusal.into(),
            KeyChangeError::Key(error) => {
                AdminProblem::new(StatusCode::SERVICE_UNAVAILABLE, "KeyServiceUnavailable", error.to_string())
            }
        }
    }
}

/// What can be told from an alias or an ARN.
fn check_name(name: &str) -> Result<(), AdminProblem> {
    let fits = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte))
        && !name.starts_with("alias/")
        && !name.starts_with("key/")
        && name != SSE_S3_KEY;
    if fits {
        return Ok(());
    }
    let rule = "a key's name has 1 to 250 letters, digits or any of / _ -, does not begin with alias/ or key/, and is not sse-s3";
    Err(AdminProblem::new(StatusCode::BAD_REQUEST, "InvalidName", rule))
}

fn report(name: &str, key: &KmsKey) -> KmsKeyReport {
    KmsKeyReport {
        name: name.to_owned(),
        enabled: key.enabled,
        versions: key.versions.len() as u64,
        created_ms: key.created_ms,
        rotated_ms: key.versions.last().map_or(key.created_ms, |version| version.created_ms),
    }
}
