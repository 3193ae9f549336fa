//! What a day is: S3 counts to the midnight (UTC) after the days have passed; tests have no time for that.

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// What a day is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Calendar {
    /// A day of the world. What expires does so at a midnight.
    Days,
    /// A day of so many milliseconds, counted from the moment itself.
    Short(u64),
}

impl Calendar {
    /// The calendar with days of so many seconds.
    pub fn of_day(seconds: u32) -> Self {
        match u64::from(seconds) * 1_000 {
            DAY_MS => Calendar::Days,
            day_ms => Calendar::Short(day_ms.max(1)),
        }
    }

    /// So many days after a moment.
    pub fn after(self, ms: u64, days: u32) -> u64 {
        match self {
            Calendar::Days => (ms + u64::from(days) * DAY_MS).div_ceil(DAY_MS) * DAY_MS,
            Calendar::Short(day_ms) => ms + u64::from(days) * day_ms,
        }
    }

    /// How often what has expired is looked for.
    pub fn scan_ms(self) -> u64 {
        match self {
            Calendar::Days => DAY_MS,
            // Tests wait for a day at least; what is late by a quarter of it is still seen.
            Calendar::Short(day_ms) => (day_ms / 4).max(1),
        }
    }
}
