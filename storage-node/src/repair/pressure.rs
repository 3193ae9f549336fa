//! What repair costs clients: how long requests take here, compared with how long they take when nothing is moved. When they
//! take much longer, repair gets a smaller share of its bandwidth, until they do not.
//!
//! Requests of other nodes' repair are measured like those of gateways: a disk that is slow for them is slow for everyone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use annulus_common::protocol::Request;

/// What every kind of request may take on average without anybody minding: a disk that syncs needs a few milliseconds.
const UNNOTICED: Duration = Duration::from_millis(50);

/// How many times as long as usual is too long.
const STRAINED_TIMES: u32 = 3;

/// The smallest share, in sixteenths: repair gets on even on a node that is always busy.
const SHARE_MIN: u32 = 1;
const SHARE_WHOLE: u32 = 16;

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
        Request::PutChunk { .. } => Some(1),
        Request::GetChunk { .. } => Some(2),
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
    usual: [Option<Duration>; KINDS],
}

impl Default for Share {
    fn default() -> Self {
        Self { sixteenths: SHARE_WHOLE, usual: [None; KINDS] }
    }
}

impl Share {
    /// Takes in how a second went. `moved` tells whether repair moved anything in it.
    pub(super) fn second(&mut self, foreground: &Foreground, moved: bool) {
        let means = foreground.means();
        if !moved {
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

    use super::{Foreground, Share};

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
    fn a_second_without_requests_is_a_quiet_one() {
        let mut share = Share::default();
        second(&mut share, 80, true);
        share.second(&Foreground::default(), true);
        assert_eq!(share.weigh(10), 16);
    }
}
