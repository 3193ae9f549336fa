//! Server access logging: where the records of a bucket's requests go, and under which keys. No HTTP, no storage, no record.
//!
//! See "Logging requests with server access logging" in the Amazon S3 user guide.

use serde::{Deserialize, Serialize};

use crate::acl::Grant;

/// The longest prefix. What the longest key adds to it (an account, a region, a bucket's name, times) must fit behind it in
/// the 1,024 bytes of a key.
pub const PREFIX_BYTES_MAX: usize = 768;

/// Where the records of a bucket's requests go.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct BucketLogging {
    /// The bucket that takes them.
    pub target_bucket: String,
    /// What their keys begin with.
    pub target_prefix: String,
    /// What is granted on the objects that hold them, beside what the target bucket's owner may.
    pub grants: Vec<Grant>,
    /// How their keys go on.
    pub key_format: LogKeyFormat,
}

/// How the keys of log objects go on behind the prefix.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum LogKeyFormat {
    /// With the time of delivery.
    #[default]
    Simple,
    /// With account, region, bucket and day, as partitions of a table, and then the time.
    Partitioned(LogDate),
}

/// Which day and time the key of a log object names.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum LogDate {
    /// The moment of its delivery.
    #[default]
    Delivery,
    /// The day of its records, which are then all of one day.
    Event,
}

impl LogDate {
    /// S3's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivery => "DeliveryTime",
            Self::Event => "EventTime",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Delivery, Self::Event].into_iter().find(|date| date.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::LogDate;

    #[test]
    fn each_date_is_known_by_its_name() {
        for date in [LogDate::Delivery, LogDate::Event] {
            assert_eq!(LogDate::named(date.name()), Some(date));
        }
        assert_eq!(LogDate::named("deliverytime"), None);
    }
}
