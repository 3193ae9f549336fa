//! How much is stored, counted in the step that changes it: of each shard, and of every prefix down to a depth.

use annulus_common::object::KeyPath;
use annulus_common::usage::{Usage, counted_prefixes};

use super::Step;
use crate::kv::KvError;

impl Step<'_> {
    /// There is one more version of an object.
    pub(super) fn count(&mut self, path: &KeyPath, size: u64) -> Result<(), KvError> {
        self.recount(path, |usage| usage.plus(Usage::of_object(size)))
    }

    /// There is one less.
    pub(super) fn discount(&mut self, path: &KeyPath, size: u64) -> Result<(), KvError> {
        self.recount(path, |usage| usage.minus(Usage::of_object(size)))
    }

    fn recount(&mut self, path: &KeyPath, change: impl Fn(Usage) -> Usage) -> Result<(), KvError> {
        for (depth, prefix) in (0..).zip(counted_prefixes(&path.key)) {
            let key = self.keys.usage(path.bucket, path.shard, depth, prefix);
            match change(self.read(&key)?.unwrap_or_default()) {
                Usage::NONE => self.delete(key),
                usage => self.put(key, &usage),
            }
        }
        Ok(())
    }
}
