//! What repair costs clients: how long their requests take here, compared with how long they take when nothing is moved. When
//! they take much longer, repair gets a smaller share of its bandwidth, until they do not.
//!
//! What stays slow while repair all but stands still is not slow because of it: that is what is usual then. Otherwise a busy
//! machine would hold up a move for ever. Other nodes' repair is not measured: it would step back for itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use annulus_common::protocol::{Purpose, Request};

/// What every kind of request may take on average without anybody minding: a disk that syncs needs a few milliseconds.
const UNNOTICED: Duration = Duration::from_millis(50);

/// How many times as long as usual is too long.
const STRAINED_TIMES: u32 = 3;

/// The smallest share, in sixteenths: repair gets on even on a node that is always busy.
const SHARE_MIN: u32 = 1;
const SHARE_WHOLE: u32 = 16;

/// After so many seconds of the smallest share it is not repair that makes requests slow.
const PATIENCE_SECONDS: u32 = 10;

/// What a quiet second adds to the share.
const SHARE_STEP: u32 = 2;

/// How much a second changes what is taken for usual.
const USUAL_WEIGHT: u32 = 8;

/// The requests that are measured apart from each other, as they take differently long.
const KINDS: usize = 3;

/// How long the requests of a node have taken since they were looked at last.
#[derive(Debug, Default)]
pub struct Foreground {
    kinds: [Taken; KINDS],
}

#[derive(Debug, Default)]
struct Taken {
    requests: AtomicU64,
    micros: AtomicU64,
}

/// Which kind a request is of; nothing for those that are not measured.
pub(crate) fn kind_of(request: &Request) -> Option<usize> {
    match request {
        Request::Mutate { .. } => Some(0),
        Request::PutChunk { purpose: Purpose::Client, .. } => Some(1),
        Request::GetChunk { purpose: Purpose::Client, .. } => Some(2),
        _ => None,
    }
}

impl Foreground {
    /// Counts a request that has been answered.
    pub(crate) fn took(&self, kind: usize, took: Duration) {
        let taken = &self.kinds[kind];
        taken.requests.fetch_add(1, Ordering::Relaxed);
        taken.micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// The means since the last call.
    fn means(&self) -> [Option<Duration>; KINDS] {
        self.kinds.each_ref().map(|taken| {
            let (requests, micros) =
                (taken.requests.swap(0, Ordering::Relaxed), taken.micros.swap(0, Ordering::Relaxed));
            micros.checked_div(requests).map(Duration::from_micros)
        })
    }
}

/// The share of its bandwidth that repair may use.
#[derive(Debug)]
pub(super) struct Share {
    sixteenths: u32,
    /// Strained seconds in a row with the smallest share.
    in_vain: u32,
    usual: [Option<Duration>; KINDS],
}

impl Default for Share {
    fn default() -> Self {
        Self { sixteenths: SHARE_WHOLE, in_vain: 0, usual: [None; KINDS] }
    }
}

impl Share {
    /// Takes in how a second went. `moved` tells whether repair moved anything in it.
    pub(super) fn second(&mut self, foreground: &Foreground, moved: bool) {
        let means = foreground.means();
        if !moved || self.in_vain >= PATIENCE_SECONDS {
            for (usual, mean) in self.usual.iter_mut().zip(means) {
                let learn = |usual: Duration, mean| (usual * (USUAL_WEIGHT - 1) + mean) / USUAL_WEIGHT;
                *usual = mean.map(|mean| usual.map_or(mean, |usual| learn(usual, mean))).or(*usual);
            }
        }
        let too_long = |(mean, usual): (&Option<Duration>, &Option<Duration>)| {
            let bearable = usual.map_or(UNNOTICED, |usual| UNNOTICED.max(usual * STRAINED_TIMES));
            mean.is_some_and(|mean| mean > bearable)
        };
        let strained = means.iter().zip(&self.usual).any(too_long);
        self.in_vain = if strained && self.sixteenths == SHARE_MIN { self.in_vain + 1 } else { 0 };
        self.sixteenths = match strained {
            true => (self.sixteenths / 2).max(SHARE_MIN),
            false => (self.sixteenths + SHARE_STEP).min(SHARE_WHOLE),
        };
    }

    /// What `bytes` count as, at this share.
    pub(super) fn weigh(&self, bytes: u64) -> u64 {
        bytes * u64::from(SHARE_WHOLE) / u64::from(self.sixteenths)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use annulus_common::ids::{ChunkId, PartId};
    use annulus_common::protocol::{Purpose, Request};

    use super::{Foreground, Share, kind_of};

    fn second(share: &mut Share, took_ms: u64, moved: bool) -> u64 {
        let foreground = Foreground::default();
        foreground.took(1, Duration::from_millis(took_ms));
        share.second(&foreground, moved);
        share.weigh(1)
    }

    #[test]
    fn repair_steps_back_when_clients_wait_and_comes_back_when_they_do_not() {
        let mut share = Share::default();
        assert_eq!(second(&mut share, 10, false), 1);
        assert_eq!([80, 80, 80, 80, 80, 80].map(|took| second(&mut share, took, true)), [2, 4, 8, 16, 16, 16]);
        let back: Vec<u64> = (0..8).map(|_| second(&mut share, 10, true)).collect();
        assert_eq!((back[0], back[7]), (5, 1));
    }

    #[test]
    fn what_is_slow_without_repair_is_not_held_against_it() {
        let mut share = Share::default();
        assert_eq!([100, 100, 100].map(|took| second(&mut share, took, false)), [1, 1, 1]);
        assert_eq!([200, 250].map(|took| second(&mut share, took, true)), [1, 1]);
        assert_eq!(second(&mut share, 310, true), 2);
    }

    #[test]
    fn what_stays_slow_without_repair_to_speak_of_becomes_usual() {
        let mut share = Share::default();
        let stepping_back: Vec<u64> = (0..4).map(|_| second(&mut share, 400, true)).collect();
        assert_eq!(stepping_back, [2, 4, 8, 16]);
        let seconds = (0..60).take_while(|_| second(&mut share, 400, true) == 16).count();
        assert!((10..20).contains(&seconds), "{seconds}");
        let back: Vec<u64> = (0..8).map(|_| second(&mut share, 400, true)).collect();
        assert_eq!(back[7], 1);
        assert_eq!(second(&mut share, 1_300, true), 2, "three times what is usual now is too long again");
    }

    #[test]
    fn the_repair_of_others_is_no_client() {
        let get =
            |purpose| Request::GetChunk { id: ChunkId { part: PartId([1; 16]), index: 0 }, from: 0, to: 1, purpose };
        assert!(kind_of(&get(Purpose::Client)).is_some());
        assert!(kind_of(&get(Purpose::Repair)).is_none());
    }

    #[test]
    fn a_second_without_requests_is_a_quiet_one() {
        let mut share = Share::default();
        second(&mut share, 80, true);
        share.second(&Foreground::default(), true);
        assert_eq!(share.weigh(10), 16);
    }
}
