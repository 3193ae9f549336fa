//! What can change of an object version after it was written, and what its locks forbid. Pure: the state machine judges with
//! the time of the entry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::acl::ObjectAcl;

/// What can be changed of an object after it was written, without a new version.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ObjectAttributes {
    /// Who may read it beside its owner.
    pub acl: ObjectAcl,
    /// Its tags by key.
    pub tags: BTreeMap<String, String>,
    /// Until when this version may not be removed.
    pub retention: Option<Retention>,
    /// Whether this version may not be removed until it is said otherwise; nothing when nobody ever said.
    pub legal_hold: Option<bool>,
}

/// How a version is protected until a day: see "How S3 Object Lock works" in the Amazon S3 user guide.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Retention {
    /// Against whom.
    pub mode: RetentionMode,
    /// Until when, Unix milliseconds.
    pub until_ms: u64,
}

/// Against whom a retention protects.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RetentionMode {
    /// Against all but those who may bypass it and say so.
    Governance,
    /// Against everybody: it can only be made longer.
    Compliance,
}

/// A bucket whose versions can be locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ObjectLock {
    /// What a new version is given that comes without a retention of its own.
    pub default: Option<DefaultRetention>,
}

/// A retention that begins when a version is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DefaultRetention {
    /// Against whom.
    pub mode: RetentionMode,
    /// For how long.
    pub period: RetentionPeriod,
}

/// How long a default retention is, as it was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RetentionPeriod {
    /// So many days.
    Days(u32),
    /// So many years, of 365 days.
    Years(u32),
}

/// A change of an object's attributes. It says the whole of its part, so that asking again changes nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AttributeChange {
    /// Who may read it beside its owner.
    Acl(ObjectAcl),
    /// Its tags by key.
    Tags(BTreeMap<String, String>),
    /// Until when it may not be removed.
    Retention {
        /// From now on.
        retention: Option<Retention>,
        /// Whether the caller may, and wants to, weaken a [`RetentionMode::Governance`].
        bypass_governance: bool,
    },
    /// Whether it may not be removed.
    LegalHold(bool),
}

impl ObjectAttributes {
    /// Whether the version may not be removed at `now_ms`.
    pub fn is_locked(&self, now_ms: u64, bypass_governance: bool) -> bool {
        let retained = self.retention.is_some_and(|retention| retention.binds(now_ms, bypass_governance));
        self.legal_hold == Some(true) || retained
    }

    /// The attributes after a change; nothing when the retention that is in force at `now_ms` forbids it.
    pub fn changed(&self, change: AttributeChange, now_ms: u64) -> Option<Self> {
        let mut attributes = self.clone();
        match change {
            AttributeChange::Acl(acl) => attributes.acl = acl,
            AttributeChange::Tags(tags) => attributes.tags = tags,
            AttributeChange::LegalHold(legal_hold) => attributes.legal_hold = Some(legal_hold),
            AttributeChange::Retention { retention, bypass_governance } => {
                let binding = self.retention.filter(|current| current.binds(now_ms, bypass_governance));
                if binding.is_some_and(|binding| !retention.is_some_and(|new| new.extends(binding))) {
                    return None;
                }
                attributes.retention = retention;
            }
        }
        Some(attributes)
    }
}

impl DefaultRetention {
    /// The retention of a version that is written at `now_ms`.
    pub fn from(self, now_ms: u64) -> Retention {
        let days = match self.period {
            RetentionPeriod::Days(days) => u64::from(days),
            RetentionPeriod::Years(years) => u64::from(years) * 365,
        };
        Retention { mode: self.mode, until_ms: now_ms.saturating_add(days * 24 * 3_600_000) }
    }
}

impl RetentionMode {
    /// S3's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }

    /// The mode of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Governance, Self::Compliance].into_iter().find(|mode| mode.name() == name)
    }
}

impl Retention {
    /// Whether it is in force at `now_ms`, against someone who bypasses governance or does not.
    fn binds(self, now_ms: u64, bypass_governance: bool) -> bool {
        let bypassed = self.mode == RetentionMode::Governance && bypass_governance;
        self.until_ms > now_ms && !bypassed
    }

    /// Whether it protects in the same way, and as long or longer. Governance does not become compliance by the way: that
    /// takes from those who may bypass it, so they have to be asked.
    fn extends(self, current: Self) -> bool {
        self.mode == current.mode && self.until_ms >= current.until_ms
    }
}

#[cfg(test)]
mod tests {
    use super::{AttributeChange, ObjectAttributes, Retention, RetentionMode};

    const NOW_MS: u64 = 1_000;

    fn retention(mode: RetentionMode, until_ms: u64) -> Option<Retention> {
        Some(Retention { mode, until_ms })
    }

    fn may_change(from: Option<Retention>, to: Option<Retention>, bypass_governance: bool) -> bool {
        let attributes = ObjectAttributes { retention: from, ..ObjectAttributes::default() };
        let changed = attributes.changed(AttributeChange::Retention { retention: to, bypass_governance }, NOW_MS);
        changed.is_some_and(|changed| changed.retention == to)
    }

    #[test]
    fn compliance_is_only_made_longer() {
        let current = retention(RetentionMode::Compliance, 2_000);
        for bypass in [false, true] {
            assert!(may_change(current, current, bypass));
            assert!(may_change(current, retention(RetentionMode::Compliance, 2_001), bypass));
            assert!(!may_change(current, retention(RetentionMode::Compliance, 1_999), bypass));
            assert!(!may_change(current, retention(RetentionMode::Governance, 3_000), bypass));
            assert!(!may_change(current, None, bypass));
        }
    }

    #[test]
    fn governance_is_weakened_by_those_who_may_bypass_it() {
        let current = retention(RetentionMode::Governance, 2_000);
        let others = [None, retention(RetentionMode::Governance, 1_999), retention(RetentionMode::Compliance, 3_000)];
        for other in others {
            assert!(!may_change(current, other, false));
            assert!(may_change(current, other, true));
        }
        assert!(may_change(current, retention(RetentionMode::Governance, 2_001), false));
    }

    #[test]
    fn what_has_run_out_binds_nobody() {
        for mode in [RetentionMode::Governance, RetentionMode::Compliance] {
            assert!(may_change(retention(mode, NOW_MS), None, false));
            let attributes = ObjectAttributes { retention: retention(mode, NOW_MS), ..ObjectAttributes::default() };
            assert!(!attributes.is_locked(NOW_MS, false));
            assert!(attributes.is_locked(NOW_MS - 1, false));
            assert_eq!(attributes.is_locked(NOW_MS - 1, true), mode == RetentionMode::Compliance);
        }
    }

    #[test]
    fn a_legal_hold_binds_everybody_until_it_is_lifted() {
        let held = ObjectAttributes { legal_hold: Some(true), ..ObjectAttributes::default() };
        assert!(held.is_locked(NOW_MS, true));
        let lifted = held.changed(AttributeChange::LegalHold(false), NOW_MS).expect("a hold is not retention");
        assert!(!lifted.is_locked(NOW_MS, false));
    }
}
