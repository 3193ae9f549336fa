//! Who watches the cluster map and until when: the arithmetic by which group 0's leader knows that a change is in force
//! everywhere. Values in, values out; the clock and the network are `watch`'s.
//!
//! A watcher's lease ends on this side when its last answer is `MAP_LEASE_MS` old. The watcher counts from before it asked,
//! so it stops earlier. What an earlier leader promised to watchers is not known here, but has run out one lease after
//! this leader took over.

use std::collections::HashMap;
use std::time::Duration;

use annulus_common::ids::InstanceId;
use annulus_common::map::{MAP_LEASE_MS, MapVersion};

/// Watchers that may hold a lease at once. Each polls three times in two seconds: a leader carries that many, not ten times.
pub const WATCHERS_MAX: usize = 10_000;

/// The lease of a watcher.
pub const LEASE: Duration = Duration::from_millis(MAP_LEASE_MS);

/// Too many watchers hold a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany;

/// The leases that the leader of one term gave.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    reign: Option<Reign>,
    watchers: HashMap<InstanceId, Watcher>,
    /// Silence before this is not held against anybody: it is not known, or it was not theirs.
    silence_counts_from: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Reign {
    term: u64,
    since: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Watcher {
    /// It has this version or a later one.
    has: MapVersion,
    asked_at: Duration,
    /// When its lease ends, or did: who has only a part of what it lacks is given none.
    until: Duration,
}

impl Leases {
    /// This node leads in `term`: from now on, if that is news.
    pub fn lead(&mut self, term: u64, now: Duration) {
        if self.reign.is_none_or(|reign| reign.term != term) {
            self.reign = Some(Reign { term, since: now });
            // What they held ends before the new reign's first lease does, and nothing is acknowledged until then.
            self.watchers.clear();
        }
    }

    /// This node leads, whatever the term: who was not seen leading before leads from now on.
    pub fn lead_at_least(&mut self, now: Duration) {
        self.reign.get_or_insert(Reign { term: 0, since: now });
    }

    /// A watcher says what it has.
    pub fn confirm(&mut self, watcher: InstanceId, has: Option<MapVersion>) {
        if let (Some(watcher), Some(has)) = (self.watchers.get_mut(&watcher), has) {
            watcher.has = watcher.has.max(has);
        }
    }

    /// A watcher is told all that it lacks: it may serve for another lease, from what it had when it asked at least.
    pub fn renew(&mut self, watcher: InstanceId, had: Option<MapVersion>, now: Duration) -> Result<(), TooMany> {
        self.heard(watcher, had, now)?.until = now + LEASE;
        Ok(())
    }

    /// A watcher is told a part of what it lacks. A lease that it has from before goes on.
    pub fn note(&mut self, watcher: InstanceId, had: Option<MapVersion>, now: Duration) -> Result<(), TooMany> {
        self.heard(watcher, had, now).map(drop)
    }

    fn heard(&mut self, watcher: InstanceId, had: Option<MapVersion>, now: Duration) -> Result<&mut Watcher, TooMany> {
        if !self.watchers.contains_key(&watcher) && self.watchers.len() >= WATCHERS_MAX {
            self.watchers.retain(|_, watcher| watcher.until > now);
            self.silence_counts_from = Some(now);
            if self.watchers.len() >= WATCHERS_MAX {
                return Err(TooMany);
            }
        }
        let had = had.unwrap_or_default();
        let entry = self.watchers.entry(watcher).or_insert(Watcher { has: had, asked_at: now, until: now });
        (entry.has, entry.asked_at) = (entry.has.max(had), now);
        Ok(entry)
    }

    /// How long it takes at most until `version` is in force everywhere, unless more watchers confirm it; nothing when it is.
    pub fn outstanding(&self, version: MapVersion, now: Duration) -> Option<Duration> {
        let behind = self.watchers.values().filter(|watcher| watcher.has < version).map(|watcher| watcher.until);
        // What leaders before this one promised, it does not know.
        let unknown = self.reign.map_or(now, |reign| reign.since) + LEASE;
        let until = behind.chain([unknown]).max()?;
        until.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Counts everybody's silence from now on.
    pub fn count_silence_from(&mut self, now: Duration) {
        self.silence_counts_from = Some(now);
    }

    /// For how long a watcher has not asked, as far as this reign knows.
    pub fn silence(&self, watcher: InstanceId, now: Duration) -> Duration {
        let asked_at = self.watchers.get(&watcher).map(|watcher| watcher.asked_at);
        let known_since = self.reign.map(|reign| reign.since).max(self.silence_counts_from);
        asked_at.max(known_since).map_or(Duration::ZERO, |at| now.saturating_sub(at))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use annulus_common::ids::InstanceId;
    use annulus_common::map::MapVersion;

    use super::{LEASE, Leases, TooMany, WATCHERS_MAX};

    const START: Duration = Duration::from_secs(100);
    const STEP: Duration = Duration::from_millis(500);

    fn watcher(number: u64) -> InstanceId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        InstanceId(id)
    }

    /// How many watchers hold a lease.
    fn watchers(leases: &Leases, now: Duration) -> usize {
        leases.watchers.values().filter(|watcher| watcher.until > now).count()
    }

    /// A leader whose first lease has passed, and the time then.
    fn settled() -> (Leases, Duration) {
        let mut leases = Leases::default();
        leases.lead(3, START);
        (leases, START + LEASE)
    }

    #[test]
    fn a_new_leader_waits_one_lease_whoever_watches() {
        let mut leases = Leases::default();
        leases.lead(3, START);
        assert_eq!(leases.outstanding(MapVersion(1), START), Some(LEASE));
        assert_eq!(leases.outstanding(MapVersion(1), START + LEASE - STEP), Some(STEP));
        leases.lead(3, START + STEP);
        assert_eq!(leases.outstanding(MapVersion(1), START + LEASE), None);
        leases.lead(4, START + LEASE);
        assert_eq!(leases.outstanding(MapVersion(1), START + LEASE), Some(LEASE));
    }

    #[test]
    fn who_was_never_seen_leading_waits_one_lease_and_no_longer() {
        let mut leases = Leases::default();
        leases.lead_at_least(START);
        leases.lead_at_least(START + STEP);
        assert_eq!(leases.outstanding(MapVersion(1), START + STEP), Some(LEASE - STEP));
        assert_eq!(leases.outstanding(MapVersion(1), START + LEASE), None);
    }

    #[test]
    fn a_watcher_with_a_lease_is_waited_for_until_it_confirms() {
        let (mut leases, now) = settled();
        leases.renew(watcher(1), Some(MapVersion(7)), now).unwrap();
        assert_eq!(leases.outstanding(MapVersion(7), now), None);
        assert_eq!(leases.outstanding(MapVersion(8), now), Some(LEASE));
        // The answer that carries version 8 is no confirmation of it.
        leases.renew(watcher(1), Some(MapVersion(7)), now + STEP).unwrap();
        assert_eq!(leases.outstanding(MapVersion(8), now + STEP), Some(LEASE));
        leases.confirm(watcher(1), Some(MapVersion(8)));
        assert_eq!(leases.outstanding(MapVersion(8), now + STEP), None);
        assert_eq!(leases.outstanding(MapVersion(9), now + STEP), Some(LEASE));
    }

    #[test]
    fn a_watcher_that_died_is_waited_for_until_its_lease_ends() {
        let (mut leases, now) = settled();
        leases.renew(watcher(1), Some(MapVersion(7)), now).unwrap();
        leases.renew(watcher(2), None, now + STEP).unwrap();
        leases.confirm(watcher(2), Some(MapVersion(8)));
        assert_eq!(leases.outstanding(MapVersion(8), now + STEP), Some(LEASE - STEP));
        assert_eq!(leases.outstanding(MapVersion(8), now + LEASE), None);
        assert_eq!(watchers(&leases, now + LEASE), 1);
    }

    #[test]
    fn who_catches_up_slowly_is_waited_for_no_longer_than_its_last_lease() {
        let (mut leases, now) = settled();
        leases.renew(watcher(1), Some(MapVersion(7)), now).unwrap();
        leases.note(watcher(1), Some(MapVersion(7)), now + STEP).unwrap();
        leases.note(watcher(2), None, now + STEP).unwrap();
        assert_eq!(leases.outstanding(MapVersion(9), now + STEP), Some(LEASE - STEP));
        leases.note(watcher(1), Some(MapVersion(8)), now + LEASE).unwrap();
        assert_eq!(leases.outstanding(MapVersion(9), now + LEASE), None);
        assert_eq!(leases.silence(watcher(1), now + LEASE + STEP), STEP, "it is not silent");
    }

    #[test]
    fn a_late_poll_takes_no_confirmation_back() {
        let (mut leases, now) = settled();
        leases.renew(watcher(1), Some(MapVersion(8)), now).unwrap();
        leases.renew(watcher(1), Some(MapVersion(7)), now).unwrap();
        leases.confirm(watcher(1), None);
        assert_eq!(leases.outstanding(MapVersion(8), now), None);
    }

    #[test]
    fn silence_is_counted_from_the_last_poll_or_the_beginning_of_the_reign() {
        let (mut leases, now) = settled();
        leases.renew(watcher(1), Some(MapVersion(7)), now).unwrap();
        assert_eq!(leases.silence(watcher(1), now + STEP), STEP);
        assert_eq!(leases.silence(watcher(2), now + STEP), LEASE + STEP, "since the reign began");
        leases.lead(4, now + STEP);
        assert_eq!(leases.silence(watcher(1), now + STEP), Duration::ZERO);
        leases.renew(watcher(1), Some(MapVersion(7)), now + STEP).unwrap();
        leases.count_silence_from(now + 3 * STEP);
        assert_eq!(leases.silence(watcher(1), now + 4 * STEP), STEP, "what was before is not counted");
        leases.renew(watcher(1), Some(MapVersion(7)), now + 5 * STEP).unwrap();
        assert_eq!(leases.silence(watcher(1), now + 7 * STEP), 2 * STEP);
    }

    #[test]
    fn watchers_are_bounded_and_the_dead_make_room() {
        let (mut leases, now) = settled();
        for number in 0..WATCHERS_MAX as u64 {
            leases.renew(watcher(number), None, now).unwrap();
        }
        let one_more = watcher(WATCHERS_MAX as u64);
        assert_eq!(leases.renew(one_more, None, now), Err(TooMany));
        assert_eq!(leases.renew(watcher(0), None, now + STEP), Ok(()));
        assert_eq!(leases.renew(one_more, None, now + LEASE), Ok(()));
        assert_eq!(watchers(&leases, now + LEASE), 2);
    }
}
