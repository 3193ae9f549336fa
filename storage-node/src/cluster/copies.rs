//! Whole maps as they are sent in pieces: encoded once for all who begin to watch at the same version, and kept for as long as
//! somebody fetches them. Which piece goes where is `common::map::whole`'s.

use std::collections::VecDeque;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::map::whole::piece;
use annulus_common::map::{ClusterMap, MapVersion};
use annulus_common::protocol;
use bytes::Bytes;
use parking_lot::Mutex;

/// How long a copy is kept after it was last asked for: longer than who fetches pieces waits for one, attempts included.
const KEPT_FOR: Duration = Duration::from_secs(20);

/// Copies that are kept: the one that those who begin now get, and those before it, which others may still be fetching.
const COPIES_MAX: usize = 4;

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

    /// What to begin with. Never an older copy: a node that has just registered would not find itself in it.
    pub fn begin(&self, map: &ClusterMap) -> Beginning {
        let mut kept = self.kept.lock();
        if kept.back().is_none_or(|copy| copy.version != map.version) {
            // Under the lock: who begins at the same time waits for this copy, instead of making another.
            let encoded = protocol::encode(map);
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
    use std::time::Duration;

    use annulus_common::clock::ManualClock;
    use annulus_common::ids::NodeId;
    use annulus_common::map::{ClusterMap, MapVersion};
    use annulus_common::protocol;

    use super::super::testing::map_of;
    use super::{Copies, KEPT_FOR};

    fn at(version: u64) -> ClusterMap {
        ClusterMap { version: MapVersion(version), ..map_of(vec![vec![NodeId(1)]]) }
    }

    #[test]
    fn those_who_begin_together_share_a_copy_and_nobody_gets_an_older_one() {
        let clock = ManualClock::at(Duration::from_secs(50));
        let copies = Copies::new(clock.clone());
        let (one, another) = (copies.begin(&at(100)).first, copies.begin(&at(100)).first);
        assert_eq!(one.as_ptr(), another.as_ptr());
        assert_eq!(protocol::decode::<ClusterMap>(&one).unwrap(), at(100));
        for version in [110, 120, 130] {
            assert_eq!(copies.begin(&at(version)).version, MapVersion(version));
        }
        assert!(copies.piece(MapVersion(100), 0).is_some(), "others may be fetching it");
        copies.begin(&at(140));
        assert_eq!(copies.piece(MapVersion(100), 0), None);
        clock.advance(KEPT_FOR - Duration::from_secs(1));
        let bytes = copies.begin(&at(140)).bytes;
        clock.advance(Duration::from_secs(1));
        copies.forget_unused();
        assert!(copies.piece(MapVersion(130), 0).is_none() && copies.piece(MapVersion(140), 0).is_some());
        assert_eq!(copies.piece(MapVersion(140), bytes), None, "nothing is behind the end");
    }
}
