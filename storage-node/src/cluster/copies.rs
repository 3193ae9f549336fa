//! Whole maps as they are sent in pieces: encoded once for all who begin to watch at about the same time, and kept for as long as
//! somebody fetches them. Which piece goes where is `common::map::whole`'s.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::map::whole::piece;
use annulus_common::map::{ClusterMap, MapVersion};
use annulus_common::protocol;
use bytes::Bytes;
use parking_lot::Mutex;

/// How long a copy is kept after it was last asked for: longer than who fetches pieces waits for one, attempts included.
const KEPT_FOR: Duration = Duration::from_secs(20);

/// Copies that are kept: the one that those who begin now get, and the one before it, which others may still be fetching.
const COPIES_MAX: usize = 2;

/// The copies of the leader.
pub struct Copies {
    clock: SharedClock,
    /// The newest last.
    kept: Mutex<VecDeque<Copy>>,
}

struct Copy {
    version: MapVersion,
    encoded: Bytes,
    used_at: Duration,
}

/// What who lacks everything is told.
pub struct Beginning {
    /// The version that the pieces make.
    pub version: MapVersion,
    /// Their length together.
    pub bytes: u64,
    /// The first of them.
    pub first: Bytes,
}

impl Copies {
    /// None yet.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, kept: Mutex::default() }
    }

    /// What to begin with: a copy that is there, if the changes since then can be told for a good while yet (`told_since` is the
    /// oldest version of which they can be now), or one of this map.
    pub fn begin(&self, map: &Arc<ClusterMap>, told_since: MapVersion) -> Beginning {
        let mut kept = self.kept.lock();
        let fresh_since = MapVersion(told_since.0.midpoint(map.version.0));
        if kept.back().is_none_or(|copy| copy.version < fresh_since) {
            // Under the lock: who begins at the same time waits for this copy, instead of making another.
            let encoded = protocol::encode(&**map);
            kept.push_back(Copy { version: map.version, encoded, used_at: self.clock.monotonic() });
            while kept.len() > COPIES_MAX {
                kept.pop_front();
            }
        }
        let copy = kept.back_mut().expect("one is there, or was just made");
        copy.used_at = self.clock.monotonic();
        let first = piece(&copy.encoded, 0).expect("an encoded map has bytes");
        Beginning { version: copy.version, bytes: copy.encoded.len() as u64, first }
    }

    /// The piece of a copy that begins at `from`; nothing when it is not kept, or not as long.
    pub fn piece(&self, version: MapVersion, from: u64) -> Option<Bytes> {
        let mut kept = self.kept.lock();
        let copy = kept.iter_mut().find(|copy| copy.version == version)?;
        copy.used_at = self.clock.monotonic();
        piece(&copy.encoded, from)
    }

    /// Gives up the copies that nobody fetches any more.
    pub fn forget_unused(&self) {
        let now = self.clock.monotonic();
        self.kept.lock().retain(|copy| now.saturating_sub(copy.used_at) < KEPT_FOR);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use annulus_common::clock::ManualClock;
    use annulus_common::ids::NodeId;
    use annulus_common::map::{ClusterMap, MapVersion};
    use annulus_common::protocol;

    use super::super::testing::map_of;
    use super::{Copies, KEPT_FOR};

    fn at(version: u64) -> Arc<ClusterMap> {
        Arc::new(ClusterMap { version: MapVersion(version), ..map_of(vec![vec![NodeId(1)]]) })
    }

    #[test]
    fn those_who_begin_together_share_a_copy_until_it_is_old() {
        let clock = ManualClock::at(Duration::from_secs(50));
        let copies = Copies::new(clock.clone());
        let begun = |version, told_since| copies.begin(&at(version), MapVersion(told_since)).version.0;
        assert_eq!(begun(100, 80), 100);
        assert_eq!(begun(110, 90), 100, "the changes since then are told for another ten");
        assert_eq!(begun(121, 101), 121);
        assert!(copies.piece(MapVersion(100), 0).is_some(), "others may be fetching it");
        assert_eq!(begun(150, 130), 150);
        assert_eq!(copies.piece(MapVersion(100), 0), None);
        clock.advance(KEPT_FOR - Duration::from_secs(1));
        let first = copies.begin(&at(150), MapVersion(130)).first;
        assert_eq!(protocol::decode::<ClusterMap>(&first).unwrap(), *at(150));
        clock.advance(Duration::from_secs(1));
        copies.forget_unused();
        assert!(copies.piece(MapVersion(121), 0).is_none() && copies.piece(MapVersion(150), 0).is_some());
        assert_eq!(copies.piece(MapVersion(150), first.len() as u64), None, "nothing is behind the end");
    }
}
