//! The rules for names of buckets, as s3s asks for them.

use s3s::validation::NameValidation;

use crate::bucket_name::is_bucket_name;

/// The rules.
pub(crate) struct BucketNames;

impl NameValidation for BucketNames {
    fn validate_bucket_name(&self, name: &str) -> bool {
        is_bucket_name(name)
    }
}
