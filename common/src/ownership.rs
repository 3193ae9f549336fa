//! Object ownership: whose the objects of a bucket are, and whether access control lists mean anything in it. No HTTP, no
//! storage.
//!
//! See "Controlling ownership of objects and disabling ACLs for your bucket" in the Amazon S3 user guide. A bucket without
//! the setting behaves as [`ObjectOwnership::ObjectWriter`].

use serde::{Deserialize, Serialize};

/// Whose the objects of a bucket are.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ObjectOwnership {
    /// All of them the bucket's owner's, whoever wrote them, those too that are there already. Access control lists grant
    /// nothing, and none can be given.
    BucketOwnerEnforced,
    /// The writer's, or the bucket's owner's when the writer gives that one full control.
    BucketOwnerPreferred,
    /// The writer's.
    ObjectWriter,
}

impl ObjectOwnership {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::BucketOwnerEnforced, Self::BucketOwnerPreferred, Self::ObjectWriter];

    /// S3's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BucketOwnerEnforced => "BucketOwnerEnforced",
            Self::BucketOwnerPreferred => "BucketOwnerPreferred",
            Self::ObjectWriter => "ObjectWriter",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ownership| ownership.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::ObjectOwnership;

    #[test]
    fn each_is_known_by_its_name() {
        for ownership in ObjectOwnership::ALL {
            assert_eq!(ObjectOwnership::named(ownership.name()), Some(ownership));
        }
        assert_eq!(ObjectOwnership::named("Nobody"), None);
    }
}
