//! What becomes of an event that its webhook does not take. Pure.
//!
//! What the webhook does not like, or what breaks it, is set aside, so that it holds back only its own key; a webhook that is down
//! fails everything, and is waited for. One answer does not tell which it is: a failure is held against an event only if
//! the webhook has taken another since the one before.

use std::time::Duration;

use annulus_common::protocol::metadata::{ASIDE_PAUSE_MS_MAX, Aside};

use super::webhook::Fault;

/// The pause after the first failure; each that counts doubles it.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Something that was not taken.
#[derive(Clone, Copy)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) now_ms: u64,
    /// How it stood with the event, if it was set aside.
    pub(super) before: Option<Aside>,
    /// When the webhook took something last.
    pub(super) taken_ms: u64,
    /// Whether it did while these events were told.
    pub(super) takes_others: bool,
    /// Whether one more can be set aside.
    pub(super) has_room: bool,
}

/// What becomes of the event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is set aside, or stays so.
    Aside(Aside),
    /// It is never told.
    GivenUp,
    /// Nothing.
    Stays,
}

/// What is made of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// Whether the next event is tried at once.
    pub(super) goes_on: bool,
    /// Whether it is held against the event; else the webhook may be to blame.
    pub(super) counts: bool,
}

impl Failure {
    pub(super) fn judge(self, tries_max: u32) -> Judged {
        match self.before {
            _ if self.fault == Fault::Webhook => Judged::of(Verdict::Stays, false),
            Some(before) => self.judge_again(before, tries_max),
            None => self.judge_first(),
        }
    }

    fn judge_first(self) -> Judged {
        let is_message = self.fault == Fault::Message;
        match self.has_room {
            true => Judged::of(Verdict::Aside(self.aside(0)), is_message),
            // So many others are refused as well, and some are taken.
            false if is_message && self.takes_others => Judged::of(Verdict::GivenUp, true),
            false => Judged::of(Verdict::Stays, false),
        }
    }

    fn judge_again(self, before: Aside, tries_max: u32) -> Judged {
        let counts = self.taken_ms > before.failed_ms;
        let tries = before.tries.saturating_add(u32::from(counts));
        match counts && tries >= tries_max {
            true => Judged { verdict: Verdict::GivenUp, goes_on: true, counts },
            false => {
                let (verdict, goes_on) = (Verdict::Aside(self.aside(tries)), counts || self.fault == Fault::Message);
                Judged { verdict, goes_on, counts }
            }
        }
    }

    fn aside(self, tries: u32) -> Aside {
        Aside { tries, failed_ms: self.now_ms, next_ms: self.now_ms + pause_ms(tries) }
    }
}

impl Judged {
    fn of(verdict: Verdict, goes_on: bool) -> Self {
        Self { verdict, goes_on, counts: false }
    }
}

/// Whether the time has come to try it again.
pub(super) fn is_due(next_ms: u64, now_ms: u64) -> bool {
    next_ms <= now_ms || next_ms > now_ms.saturating_add(ASIDE_PAUSE_MS_MAX)
}

fn pause_ms(tries: u32) -> u64 {
    let doubled = 1_u64.checked_shl(tries).unwrap_or(u64::MAX);
    (PAUSE_MIN.as_millis() as u64).saturating_mul(doubled).min(ASIDE_PAUSE_MS_MAX)
}

#[cfg(test)]
mod tests {
    use annulus_common::protocol::metadata::{ASIDE_PAUSE_MS_MAX, Aside};

    use super::{Failure, Judged, Verdict, is_due};
    use crate::events::webhook::Fault;

    const NOW: u64 = 1_000_000;

    fn failure(fault: Fault, before: Option<Aside>) -> Failure {
        Failure { fault, now_ms: NOW, before, taken_ms: 0, takes_others: false, has_room: true }
    }

    fn aside(tries: u32, pause_ms: u64) -> Verdict {
        Verdict::Aside(Aside { tries, failed_ms: NOW, next_ms: NOW + pause_ms })
    }

    #[test]
    fn what_may_be_the_events_fault_is_set_aside() {
        for (fault, judged) in [
            (Fault::Message, Judged::of(aside(0, 1_000), true)),
            (Fault::Unknown, Judged::of(aside(0, 1_000), false)),
            (Fault::Webhook, Judged::of(Verdict::Stays, false)),
        ] {
            assert_eq!(failure(fault, None).judge(50), judged, "{fault:?}");
            let full = Failure { has_room: false, ..failure(fault, None) };
            assert_eq!(full.judge(50), Judged::of(Verdict::Stays, false), "all are refused: {fault:?}");
        }
        let full = Failure { has_room: false, takes_others: true, ..failure(Fault::Message, None) };
        assert_eq!(full.judge(50), Judged::of(Verdict::GivenUp, true));
    }

    #[test]
    fn failures_count_while_others_are_taken() {
        let before = Aside { tries: 3, failed_ms: NOW - 10, next_ms: NOW };
        let down = failure(Fault::Unknown, Some(before));
        assert_eq!(down.judge(50), Judged::of(aside(3, 8_000), false));
        assert_eq!(down.judge(3), Judged::of(aside(3, 8_000), false), "however long it is down");
        let refuses = Failure { fault: Fault::Message, ..down };
        assert_eq!(refuses.judge(50), Judged::of(aside(3, 8_000), true));
        let works = Failure { taken_ms: NOW - 5, ..down };
        assert_eq!(works.judge(50), Judged { counts: true, ..Judged::of(aside(4, 16_000), true) });
        assert_eq!(works.judge(4), Judged { counts: true, ..Judged::of(Verdict::GivenUp, true) });
        let unreached = Failure { fault: Fault::Webhook, ..works };
        assert_eq!(unreached.judge(4), Judged::of(Verdict::Stays, false));
    }

    #[test]
    fn fifty_tries_take_seven_hours() {
        let (mut now_ms, mut before) = (0, None);
        for number in 1.. {
            let failed = Failure { now_ms, before, taken_ms: now_ms, ..failure(Fault::Message, None) };
            match failed.judge(50).verdict {
                Verdict::Aside(aside) => {
                    assert!(!is_due(aside.next_ms, now_ms) && aside.next_ms - now_ms <= ASIDE_PAUSE_MS_MAX);
                    (now_ms, before) = (aside.next_ms, Some(aside));
                }
                Verdict::GivenUp => {
                    assert_eq!((number, now_ms / 60_000), (51, 417), "the first, and fifty that counted");
                    return;
                }
                Verdict::Stays => panic!("there is room"),
            }
        }
    }

    #[test]
    fn a_clock_that_was_wrong_delays_nothing() {
        assert!(is_due(NOW, NOW) && is_due(0, NOW) && is_due(NOW + ASIDE_PAUSE_MS_MAX + 1, NOW));
        assert!(!is_due(NOW + 1, NOW) && !is_due(NOW + ASIDE_PAUSE_MS_MAX, NOW));
    }
}
