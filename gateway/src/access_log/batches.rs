//! Lines of records, gathered by bucket until they are an object's worth. Pure: lines and times in, batches out.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use annulus_common::object::UserId;

use super::Source;

/// An object of a log holds about so much: larger ones would be unwieldy, and lost at once.
const BATCH_BYTES_MAX: usize = 2 << 20;

/// What may wait in memory while nothing can be written: some 60,000 records. What comes then is dropped.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// What may wait of one account's buckets: when their logs can be written nowhere, there is room for others'.
const OF_ACCOUNT_BYTES_MAX: usize = WAITING_BYTES_MAX / 2;

/// What may wait of one bucket: a batch that is being written, and the next one.
const OF_BUCKET_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;

/// How often it is tried to write a batch: for an hour, where records are gathered for five minutes.
const TRIES_MAX: u32 = 12;

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3600 * 1000;

/// What was gathered of one bucket, under one configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Batch {
    pub(super) source: Source,
    /// When the day of its records began, Unix milliseconds: a batch is of one day.
    pub(super) day_ms: u64,
    pub(super) lines: String,
    pub(super) records: u64,
    /// When the first came, or delivery failed last.
    since: Duration,
    /// How often delivery failed.
    tries: u32,
}

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pushed {
    /// It waits.
    Gathered,
    /// It waits, and its batch is full.
    Full,
    /// Too much waits already.
    Dropped,
}

/// What was gathered of all buckets.
pub(super) struct Batches {
    open: HashMap<(Source, u64), Batch>,
    /// Full ones, and those that could not be delivered.
    closed: Vec<Batch>,
    /// What all of them have, those too that are being delivered, until it is said that they are done.
    waiting: Waiting,
    wait: Duration,
}

impl Batches {
    pub(super) fn new(wait: Duration) -> Self {
        Self { open: HashMap::new(), closed: Vec::new(), waiting: Waiting::default(), wait }
    }

    /// Takes a line of what was asked of a bucket then.
    pub(super) fn push(&mut self, source: &Source, event_ms: u64, line: &str, now: Duration) -> Pushed {
        if !self.waiting.add(source, line.len()) {
            return Pushed::Dropped;
        }
        let day_ms = event_ms - event_ms % DAY_MS;
        let key = (source.clone(), day_ms);
        let empty = || Batch { source: source.clone(), day_ms, lines: String::new(), records: 0, since: now, tries: 0 };
        let batch = self.open.entry(key.clone()).or_insert_with(empty);
        batch.lines.push_str(line);
        batch.records += 1;
        if batch.lines.len() < BATCH_BYTES_MAX {
            return Pushed::Gathered;
        }
        if let Some(mut full) = self.open.remove(&key) {
            full.since = Duration::ZERO;
            self.closed.push(full);
        }
        Pushed::Full
    }

    /// The batches that have waited long enough.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<Batch> {
        let wait = self.wait;
        self.take(|batch| now.saturating_sub(batch.since) >= wait || batch.since.is_zero())
    }

    /// All batches.
    pub(super) fn take_all(&mut self) -> Vec<Batch> {
        self.take(|_| true)
    }

    /// How long it takes at most until the next one is due, if there is one.
    pub(super) fn next_due(&self, now: Duration) -> Option<Duration> {
        let all = self.open.values().chain(&self.closed);
        all.map(|batch| (batch.since + self.wait).saturating_sub(now)).min()
    }

    /// Says that a batch was delivered, or given up.
    pub(super) fn done(&mut self, batch: &Batch) {
        self.waiting.remove(&batch.source, batch.lines.len());
    }

    /// Takes a batch back that could not be delivered: it waits once more.
    pub(super) fn put_back(&mut self, batch: Batch, now: Duration) {
        self.closed.push(Batch { since: now, tries: batch.tries + 1, ..batch });
    }

    fn take(&mut self, is_due: impl Fn(&Batch) -> bool) -> Vec<Batch> {
        let mut due: Vec<Batch> = self.closed.extract_if(.., |batch| is_due(batch)).collect();
        due.extend(self.open.extract_if(|_, batch| is_due(batch)).map(|(_, batch)| batch));
        due
    }
}

impl Batch {
    /// Whether it was tried to deliver it for the last time.
    pub(super) fn is_last_try(&self) -> bool {
        self.tries + 1 >= TRIES_MAX
    }
}

/// Bytes of lines: of all, of each account's buckets, of each bucket.
#[derive(Default)]
struct Waiting {
    all: usize,
    of_accounts: HashMap<UserId, usize>,
    of_buckets: HashMap<String, usize>,
}

impl Waiting {
    /// Adds so much, unless it would be too much for anybody.
    fn add(&mut self, source: &Source, bytes: usize) -> bool {
        let of_account = self.of_accounts.get(&source.owner).copied().unwrap_or_default();
        let of_bucket = self.of_buckets.get(&source.bucket).copied().unwrap_or_default();
        let has_room = self.all + bytes <= WAITING_BYTES_MAX
            && of_account + bytes <= OF_ACCOUNT_BYTES_MAX
            && of_bucket + bytes <= OF_BUCKET_BYTES_MAX;
        if has_room {
            self.all += bytes;
            self.of_accounts.insert(source.owner, of_account + bytes);
            self.of_buckets.insert(source.bucket.clone(), of_bucket + bytes);
        }
        has_room
    }

    fn remove(&mut self, source: &Source, bytes: usize) {
        self.all -= bytes;
        subtract(&mut self.of_accounts, &source.owner, bytes);
        subtract(&mut self.of_buckets, &source.bucket, bytes);
    }
}

/// Who has nothing left is forgotten: buckets come and go.
fn subtract<K: Hash + Eq>(waiting: &mut HashMap<K, usize>, key: &K, bytes: usize) {
    if let Some(left) = waiting.get_mut(key) {
        *left -= bytes;
        if *left == 0 {
            waiting.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use annulus_common::logging::{BucketLogging, LogKeyFormat};
    use annulus_common::object::UserId;

    use super::{
        BATCH_BYTES_MAX, Batches, DAY_MS, OF_ACCOUNT_BYTES_MAX, OF_BUCKET_BYTES_MAX, Pushed, Source, TRIES_MAX,
        WAITING_BYTES_MAX,
    };

    const WAIT: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000 + seconds)
    }

    fn source(bucket: &str) -> Source {
        source_of(1, bucket)
    }

    fn source_of(owner: u8, bucket: &str) -> Source {
        let logging = BucketLogging {
            target_bucket: "logs".to_owned(),
            target_prefix: String::new(),
            grants: Vec::new(),
            key_format: LogKeyFormat::Simple,
        };
        Source { bucket: bucket.to_owned(), owner: UserId([owner; 32]), logging: Arc::new(logging) }
    }

    #[test]
    fn lines_of_a_bucket_and_a_day_wait_together() {
        let mut batches = Batches::new(WAIT);
        for (bucket, event_ms, line, second) in
            [("a", 5, "1\n", 0), ("b", 5, "2\n", 1), ("a", DAY_MS - 1, "3\n", 2), ("a", DAY_MS, "4\n", 3)]
        {
            assert_eq!(batches.push(&source(bucket), event_ms, line, at(second)), Pushed::Gathered);
        }
        assert!(batches.take_due(at(9)).is_empty());
        assert_eq!(batches.next_due(at(9)), Some(Duration::from_secs(1)));
        let due = batches.take_due(at(10));
        assert_eq!(due.iter().map(|batch| batch.lines.as_str()).collect::<Vec<_>>(), ["1\n3\n"]);
        assert_eq!((due[0].records, due[0].day_ms), (2, 0));
        let rest = batches.take_all();
        assert_eq!(rest.len(), 2);
        assert!(rest.iter().any(|batch| batch.lines == "4\n" && batch.day_ms == DAY_MS));
    }

    #[test]
    fn a_full_batch_waits_no_longer() {
        let mut batches = Batches::new(WAIT);
        let half = "x".repeat(BATCH_BYTES_MAX / 2);
        assert_eq!(batches.push(&source("a"), 0, &half, at(0)), Pushed::Gathered);
        assert_eq!(batches.push(&source("a"), 0, &half, at(0)), Pushed::Full);
        assert_eq!(batches.push(&source("a"), 0, "next", at(0)), Pushed::Gathered);
        assert_eq!(batches.take_due(at(0)).iter().map(|batch| batch.records).collect::<Vec<_>>(), [2]);
    }

    /// Fills batches of these buckets of an account until no more is taken, and says how much was.
    fn fill(batches: &mut Batches, owner: u8, buckets: std::ops::Range<u32>) -> usize {
        let line = "x".repeat(BATCH_BYTES_MAX);
        let mut taken = 0;
        for bucket in buckets {
            while batches.push(&source_of(owner, &format!("{owner}-{bucket}")), 0, &line, at(0)) != Pushed::Dropped {
                taken += line.len();
            }
        }
        taken
    }

    #[test]
    fn nobody_takes_the_place_of_others() {
        let mut batches = Batches::new(WAIT);
        assert_eq!(fill(&mut batches, 1, 0..1), OF_BUCKET_BYTES_MAX);
        assert_eq!(fill(&mut batches, 1, 1..100), OF_ACCOUNT_BYTES_MAX - OF_BUCKET_BYTES_MAX);
        assert_eq!(fill(&mut batches, 2, 0..2), 2 * OF_BUCKET_BYTES_MAX, "another account has room");
        assert_eq!(fill(&mut batches, 3, 0..100), WAITING_BYTES_MAX - OF_ACCOUNT_BYTES_MAX - 2 * OF_BUCKET_BYTES_MAX);
        assert_eq!(fill(&mut batches, 4, 0..100), 0);
        for batch in batches.take_all() {
            batches.done(&batch);
        }
        assert!(batches.waiting.of_accounts.is_empty() && batches.waiting.of_buckets.is_empty());
        assert_eq!(fill(&mut batches, 4, 0..1), OF_BUCKET_BYTES_MAX);
    }

    #[test]
    fn what_waits_is_bounded_and_what_failed_waits_once_more() {
        let mut batches = Batches::new(WAIT);
        let line = "x".repeat(BATCH_BYTES_MAX);
        for _ in 0..OF_BUCKET_BYTES_MAX / BATCH_BYTES_MAX {
            assert_eq!(batches.push(&source("a"), 0, &line, at(0)), Pushed::Full);
        }
        assert_eq!(batches.push(&source("a"), 0, "x", at(0)), Pushed::Dropped);
        let mut due = batches.take_due(at(0)).into_iter();
        assert_eq!(batches.push(&source("a"), 0, "x", at(0)), Pushed::Dropped, "it is still in memory");
        batches.done(&due.next().expect("they are full"));
        batches.put_back(due.next().expect("they are full"), at(5));
        assert_eq!(batches.push(&source("a"), 0, "x", at(5)), Pushed::Gathered);
        assert!(batches.take_due(at(14)).is_empty());
        assert_eq!(batches.take_due(at(15)).len(), 2);
    }

    #[test]
    fn what_fails_is_tried_so_often() {
        let mut batches = Batches::new(Duration::ZERO);
        batches.push(&source("a"), 0, "x", at(0));
        let mut tries = 1;
        loop {
            let batch = batches.take_all().pop().expect("it was put back");
            if batch.is_last_try() {
                break;
            }
            batches.put_back(batch, at(0));
            tries += 1;
        }
        assert_eq!(tries, TRIES_MAX);
    }
}
