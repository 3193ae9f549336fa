//! What a mutation carries for those who are told of events: who asked, and the configurations that its keys may meet. The
//! partition finds out what happens, and tells it.

use annulus_common::map::Bucket;
use annulus_common::notification::{Cause, Means, Notice};
use annulus_common::protocol::metadata::Command;

use super::Objects;

impl Objects {
    /// Nothing for a bucket that tells nobody.
    pub(super) fn notice(&self, bucket: &Bucket, command: &Command) -> Option<Box<Notice>> {
        let notification = bucket.config.notification.as_ref()?;
        let cause = || self.cause.as_deref().cloned().unwrap_or_else(|| Cause::of_service(Means::Put));
        match command {
            Command::Put { path, .. }
            | Command::Append { path, .. }
            | Command::CompleteUpload { path, .. }
            | Command::SetAttributes { path, .. } => notification.notice(cause(), [path.key.as_str()].into_iter()),
            Command::Rename { path, to, .. } => notification.notice(cause(), [path.key.as_str(), to].into_iter()),
            Command::Delete { deletions, .. } => {
                notification.notice(cause(), deletions.iter().map(|deletion| deletion.key.as_str()))
            }
            _ => None,
        }
    }
}
