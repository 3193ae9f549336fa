//! Quotas at the shards and in the books, against what must never be: more stored than the limit.

use annulus_common::protocol::metadata::{AllowanceChange, BooksEntry, QuotaReply, Serial};
use annulus_common::usage::{Payer, PayerKind, Usage};
use proptest::sample::Index;

use super::*;

const PAYER: Payer = Payer::Bucket(BUCKET);

/// Shards of the bucket that all lie in this one partition.
const SHARDS: u16 = 3;

/// What a gateway does, one step of it.
#[derive(Clone, Debug)]
enum Act {
    Put {
        shard: u16,
        key: String,
        bytes: usize,
        /// Whether the gateway's map is the latest, or one that knows the first limit.
        knows: bool,
    },
    Delete {
        shard: u16,
        key: String,
    },
    /// Asks the books for what a shard was short of; the answer is on its way.
    Ask {
        shard: u16,
    },
    /// What was on its way arrives, or arrives again.
    Arrive(Index),
    /// Begins to take back from a shard.
    Recall {
        shard: u16,
    },
    /// Another limit, whose shards are all counted.
    Limit(u64),
    /// Another limit, by a gateway that dies before all shards are counted.
    Begin(u64),
}

fn an_act() -> impl Strategy<Value = Act> {
    let key = || "[a-d]";
    prop_oneof![
        8 => (0..SHARDS, key(), 0usize..40, any::<bool>())
            .prop_map(|(shard, key, bytes, knows)| Act::Put { shard, key, bytes, knows }),
        3 => (0..SHARDS, key()).prop_map(|(shard, key)| Act::Delete { shard, key }),
        4 => (0..SHARDS).prop_map(|shard| Act::Ask { shard }),
        8 => any::<Index>().prop_map(Act::Arrive),
        2 => (0..SHARDS).prop_map(|shard| Act::Recall { shard }),
        1 => (0u64..120).prop_map(Act::Limit),
        1 => (0u64..120).prop_map(Act::Begin),
    ]
}

/// A partition with the messages that gateways carry between its books and its shards.
struct Office {
    bench: Bench,
    under_way: Vec<Command>,
    /// What each shard was last short of.
    needs: [Usage; SHARDS as usize],
    /// As the cluster map says it, and the version that does.
    limit: Usage,
    version: u64,
    /// The last limit for which all shards were counted.
    in_force: u64,
}

impl Office {
    fn ask(&mut self, command: Command) -> QuotaReply {
        match self.bench.run(command) {
            MetaReply::Quota(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn books(&mut self, entry: BooksEntry) -> QuotaReply {
        self.ask(Command::Books { payer: PAYER, entry })
    }

    fn new(limit_bytes: u64) -> Self {
        let (bench, under_way, needs) = (Bench::new(), Vec::new(), [Usage::NONE; SHARDS as usize]);
        let mut office = Self { bench, under_way, needs, limit: Usage::NONE, version: 0, in_force: 0 };
        office.set_limit(limit_bytes);
        office.settle();
        office
    }

    fn put(&mut self, shard: u16, key: &str, bytes: usize, version: u64) -> MetaReply {
        let path = KeyPath { shard: ShardId(shard), ..path(key) };
        let (versioning, conditions) = (Versioning::Unversioned, Conditions::default());
        let quota = QuotaTerms { bucket: Some(version), account: None, last: false };
        let object = object(1, Data::Inline(Bytes::from(vec![1; bytes])));
        self.bench.run(Command::Put { path, versioning, conditions, quota, object })
    }

    fn delete(&mut self, shard: u16, key: &str) {
        let deletions = vec![deletion(key, None, Conditions::default())];
        let (shard, versioning, owner) = (ShardId(shard), Versioning::Unversioned, UserId([1; 32]));
        self.bench.run(Command::Delete { bucket: BUCKET, shard, versioning, owner, deletions });
    }

    fn used(&self, shard: u16) -> Usage {
        let (shard, prefix) = (ShardId(shard), String::new());
        match self.bench.ask(&Query::Usage { bucket: BUCKET, shard, prefix, after: None, limit: 0 }) {
            QueryReply::Usage(page) => page.whole,
            other => panic!("{other:?}"),
        }
    }

    fn used_by_all(&self) -> Usage {
        (0..SHARDS).map(|shard| self.used(shard)).fold(Usage::NONE, Usage::plus)
    }

    fn grant(&mut self, shard: u16, needs: Usage) -> QuotaReply {
        let (shard, limit, version) = (ShardId(shard), Some(self.limit), self.version);
        self.books(BooksEntry::Grant { bucket: BUCKET, shard, needs, limit, version })
    }

    fn recall(&mut self, counting: Option<Serial>, shards: &[u16]) -> QuotaReply {
        let shards = shards.iter().map(|shard| (BUCKET, ShardId(*shard))).collect();
        self.books(BooksEntry::Recall { serial: counting, shards })
    }

    /// Only the cluster map has it yet.
    fn set_limit(&mut self, bytes: u64) {
        self.limit = Usage { objects: u64::MAX, bytes };
        self.version += 1;
    }

    /// Begins to bring the limit into force, unless it is, or somebody else does.
    fn begin(&mut self) -> Option<Serial> {
        match self.books(BooksEntry::Limit { limit: Some(self.limit), version: self.version }) {
            QuotaReply::Counting { serial } => {
                assert_eq!(self.recall(Some(serial), &[0, 1, 2]), QuotaReply::Recalled { serial });
                Some(serial)
            }
            QuotaReply::InForce => {
                self.in_force = self.limit.bytes;
                None
            }
            reply => {
                assert_eq!(reply, QuotaReply::Uncounted);
                None
            }
        }
    }

    /// Brings the limit into force, to the end.
    fn settle(&mut self) {
        let Some(serial) = self.begin() else { return };
        let left = (0..SHARDS).map(|shard| {
            let QuotaReply::Shrunk(used) = self.ask(allowance(shard, AllowanceChange::Shrink { serial })) else {
                panic!("nothing newer was said")
            };
            (BUCKET, ShardId(shard), used)
        });
        let left = left.collect();
        let returned = self.books(BooksEntry::Returned { serial, left, all: true });
        assert_eq!(returned, QuotaReply::Recalled { serial });
        self.in_force = self.limit.bytes;
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Put { shard, key, bytes, knows } => {
                match self.put(shard, &key, bytes, if knows { self.version } else { 1 }) {
                    MetaReply::Quota(QuotaReply::Short { kind, needs }) => {
                        assert_eq!(kind, PayerKind::Bucket);
                        self.needs[usize::from(shard)] = needs;
                    }
                    reply => assert!(matches!(reply, MetaReply::Written { .. }), "{reply:?}"),
                }
            }
            Act::Delete { shard, key } => self.delete(shard, &key),
            Act::Ask { shard } => match self.grant(shard, self.needs[usize::from(shard)]) {
                QuotaReply::Granted { serial, limit } => {
                    self.under_way.push(allowance(shard, AllowanceChange::Set { serial, limit }));
                }
                QuotaReply::Uncounted => self.settle(),
                reply => assert!(matches!(reply, QuotaReply::Exhausted { .. }), "{reply:?}"),
            },
            Act::Recall { shard } => {
                if let QuotaReply::Recalled { serial } = self.recall(None, &[shard]) {
                    self.under_way.push(allowance(shard, AllowanceChange::Shrink { serial }));
                }
            }
            Act::Arrive(_) if self.under_way.is_empty() => {}
            Act::Arrive(which) => {
                // It stays under way: a gateway may say it again much later.
                let message = which.get(&self.under_way).clone();
                let reply = self.ask_anything(message.clone());
                if let (Command::Allowance { shard, change: AllowanceChange::Shrink { serial }, .. }, Some(used)) =
                    (message, reply)
                {
                    let entry = BooksEntry::Returned { serial, left: vec![(BUCKET, shard, used)], all: false };
                    self.under_way.push(Command::Books { payer: PAYER, entry });
                }
            }
            Act::Limit(bytes) => {
                self.set_limit(bytes);
                self.settle();
            }
            Act::Begin(bytes) => {
                self.set_limit(bytes);
                if let Some(serial) = self.begin() {
                    let shrink = |shard| allowance(shard, AllowanceChange::Shrink { serial });
                    self.under_way.extend((0..SHARDS).map(shrink));
                }
            }
        }
    }

    /// What a shard is left with, where that is the answer.
    fn ask_anything(&mut self, message: Command) -> Option<Usage> {
        match self.ask(message) {
            QuotaReply::Shrunk(used) => Some(used),
            _ => None,
        }
    }
}

fn allowance(shard: u16, change: AllowanceChange) -> Command {
    Command::Allowance { bucket: BUCKET, shard: ShardId(shard), kind: PayerKind::Bucket, change }
}

proptest! {
    /// Whatever gets lost, comes late or comes twice. What was there before a limit fell stays, and cannot grow.
    #[test]
    fn nobody_is_ever_over_the_quota(acts in vec(an_act(), 1..120)) {
        let mut office = Office::new(100);
        for act in acts {
            let (before, limit) = (office.used_by_all().bytes, office.in_force);
            let said = format!("{act:?}");
            office.act(act);
            let now = office.used_by_all().bytes;
            prop_assert!(now <= before.max(limit), "{before} -> {now} of {limit} after {said}");
        }
        // And whoever dies leaves nothing behind: what is free can be used.
        office.settle_at_last();
        let free = office.limit.bytes.saturating_sub(office.used_by_all().bytes);
        if free > 0 {
            prop_assert!(office.put_at_last(2, "last", free as usize), "{free} are free");
            prop_assert_eq!(office.used_by_all().bytes, office.limit.bytes);
        }
    }
}

impl Office {
    /// Puts as a gateway does: asks for more as long as there is more.
    fn put_within(&mut self, shard: u16, key: &str, bytes: usize) -> bool {
        for _ in 0..2 {
            match self.put(shard, key, bytes, self.version) {
                MetaReply::Written { .. } => return true,
                MetaReply::Quota(QuotaReply::Short { needs, .. }) => {
                    let QuotaReply::Granted { serial, limit } = self.grant(shard, needs) else { return false };
                    self.ask(allowance(shard, AllowanceChange::Set { serial, limit }));
                }
                other => panic!("{other:?}"),
            }
        }
        false
    }

    /// Has these shards give back what they do not use.
    fn take_back(&mut self, shards: &[u16]) {
        let QuotaReply::Recalled { serial } = self.recall(None, shards) else { panic!("all are counted") };
        let left = shards.iter().map(|shard| match self.ask(allowance(*shard, AllowanceChange::Shrink { serial })) {
            QuotaReply::Shrunk(used) => (BUCKET, ShardId(*shard), used),
            other => panic!("{other:?}"),
        });
        let left = left.collect();
        self.books(BooksEntry::Returned { serial, left, all: false });
    }

    /// Brings the limit into force after whoever began to has been silent for long.
    fn settle_at_last(&mut self) {
        for _ in 0..10 {
            self.settle();
        }
        assert_eq!(self.in_force, self.limit.bytes);
    }

    fn put_at_last(&mut self, shard: u16, key: &str, bytes: usize) -> bool {
        self.put_within(shard, key, bytes) || {
            self.take_back(&[0, 1, 2]);
            self.put_within(shard, key, bytes)
        }
    }
}

#[test]
fn the_last_byte_is_used_and_not_one_more() {
    let mut office = Office::new(100);
    assert!(office.put_within(0, "a", 60));
    assert!(office.put_within(1, "b", 20));
    assert!(!office.put_within(2, "c", 20), "spare was granted to the others");
    assert_eq!(office.used_by_all(), Usage { objects: 2, bytes: 80 });
    // When the others give back what they do not use, it fits.
    office.take_back(&[0, 1]);
    assert!(office.put_within(2, "c", 20));
    assert!(!office.put_within(0, "d", 1));
    // What replaces makes room first, and what is deleted is free again.
    assert!(office.put_within(0, "a", 59) && office.put_within(0, "a", 60));
    assert!(!office.put_within(0, "a", 61));
    office.delete(0, "a");
    assert!(office.put_within(0, "d", 60));
    assert_eq!(office.used_by_all().bytes, 100);
}

#[test]
fn what_is_refused_for_good_leaves_garbage_and_what_may_come_again_does_not() {
    let mut office = Office::new(10);
    let refused = |last| {
        let quota = QuotaTerms { bucket: Some(1), account: None, last };
        let object = object(1, Data::Parts(vec![part(1, 1)]));
        let (versioning, conditions) = (Versioning::Unversioned, Conditions::default());
        Command::Put { path: path("k"), versioning, conditions, quota, object }
    };
    assert!(matches!(office.ask(refused(false)), QuotaReply::Short { .. }));
    assert_eq!(office.bench.garbage(), BTreeSet::new());
    assert_eq!(office.ask(refused(true)), QuotaReply::Exceeded);
    assert_eq!(office.bench.garbage(), BTreeSet::from([PartId([1; 16])]));
}

#[test]
fn a_shard_obeys_what_it_was_told_and_a_mutation_that_it_knows_nothing_of() {
    let mut bench = Bench::new();
    let put = |terms: QuotaTerms| {
        let Command::Put { path, versioning, conditions, object, .. } = put("k", Conditions::default(), inline(1))
        else {
            panic!("a put")
        };
        Command::Put { path, versioning, conditions, quota: terms, object }
    };
    let known = QuotaTerms { account: Some(1), ..QuotaTerms::default() };
    let short = MetaReply::Quota(QuotaReply::Short { kind: PayerKind::Account, needs: Usage { objects: 1, bytes: 3 } });
    assert_eq!(bench.run(put(known)), short);
    assert!(matches!(bench.run(put(QuotaTerms::default())), MetaReply::Written { .. }));
    let told = |number, change: fn(Serial) -> AllowanceChange| Command::Allowance {
        bucket: BUCKET,
        shard: SHARD,
        kind: PayerKind::Account,
        change: change(Serial { version: 1, number }),
    };
    bench.run(told(1, |serial| AllowanceChange::Shrink { serial }));
    let other = Command::Put {
        path: path("other"),
        versioning: Versioning::Unversioned,
        conditions: Conditions::default(),
        quota: QuotaTerms::default(),
        object: inline(1),
    };
    let short = MetaReply::Quota(QuotaReply::Short { kind: PayerKind::Account, needs: Usage { objects: 2, bytes: 6 } });
    assert_eq!(bench.run(other.clone()), short, "asked for before there was a quota, applied after");
    bench.run(told(2, |serial| AllowanceChange::Set { serial, limit: None }));
    assert!(matches!(bench.run(other), MetaReply::Written { .. }), "the quota has ended");
    // Somebody set one again, and died before the shard was told.
    let again = QuotaTerms { account: Some(2), ..QuotaTerms::default() };
    assert!(matches!(bench.run(put(again)), MetaReply::Written { .. }), "what replaces does not grow");
    let Command::Put { path, versioning, conditions, object, .. } = put(again) else { panic!("a put") };
    let third = KeyPath { key: "third".to_owned(), ..path };
    let third = Command::Put { path: third, versioning, conditions, quota: again, object };
    assert!(matches!(bench.run(third), MetaReply::Quota(QuotaReply::Short { .. })));
}

#[test]
fn an_upload_that_does_not_fit_can_be_completed_when_there_is_room() {
    let mut office = Office::new(10 << 20);
    let target = KeyPath { shard: ShardId(2), ..path("k") };
    let upload = office.bench.begin_upload("k", 7);
    for number in 1..=3 {
        let command = Command::PutPart { path: target.clone(), upload, part: part(number as u8, number), sent: None };
        assert_eq!(office.bench.run(command), MetaReply::Done);
    }
    let three: Vec<Part> = (1..=3).map(|number| part(number as u8, number)).collect();
    assert!(matches!(office.bench.complete("k", upload, &three), MetaReply::Quota(QuotaReply::Short { .. })));
    assert_eq!(office.bench.garbage(), BTreeSet::new());
    let needs = Usage { objects: 1, bytes: 10 << 20 };
    let QuotaReply::Granted { serial, limit } = office.grant(2, needs) else { panic!("it is free") };
    office.ask(allowance(2, AllowanceChange::Set { serial, limit }));
    assert!(matches!(office.bench.complete("k", upload, &three), MetaReply::Quota(QuotaReply::Short { .. })));
    assert!(matches!(office.bench.complete("k", upload, &three[..2]), MetaReply::Written { .. }));
    assert_eq!(office.used(2), needs);
}

#[test]
fn a_limit_that_the_books_never_heard_of_is_brought_into_force_by_who_meets_it() {
    let mut office = Office::new(100);
    assert!(office.put_within(0, "a", 60));
    office.set_limit(50);
    let version = office.version;
    let MetaReply::Quota(QuotaReply::Short { needs, .. }) = office.put(0, "b", 1, version) else {
        panic!("the shard was not told yet")
    };
    assert_eq!(office.grant(0, needs), QuotaReply::Uncounted);
    office.settle();
    assert_eq!(office.grant(0, needs), QuotaReply::Exhausted { limit: office.limit });
    assert!(office.put_within(0, "a", 59), "what is over may shrink");
    assert!(!office.put_within(0, "a", 60), "and not grow again");
    office.delete(0, "a");
    assert!(!office.put_within(0, "a", 60));
    assert!(!office.put_within(1, "b", 50), "the first has not given back what it does not use");
    office.take_back(&[0]);
    assert!(office.put_within(1, "b", 50));
    assert!(!office.put_within(0, "c", 1));
}

#[test]
fn one_counts_at_a_time_and_who_dies_amid_it_is_relieved() {
    let mut office = Office::new(100);
    office.set_limit(50);
    let serial = office.begin().expect("nobody else counts");
    assert_eq!(office.begin(), None, "somebody counts");
    assert_eq!(office.recall(None, &[0]), QuotaReply::Uncounted, "and is not disturbed");
    let relief = (0..5).find_map(|_| office.begin()).expect("seconds later it is somebody else's");
    assert!(relief > serial);
    let late = BooksEntry::Returned { serial, left: vec![(BUCKET, ShardId(0), Usage::NONE)], all: true };
    assert_eq!(office.books(late), QuotaReply::Superseded);
    assert_eq!(office.grant(0, Usage::of_object(1)), QuotaReply::Uncounted);
    office.set_limit(40);
    office.settle();
    assert!(office.put_within(0, "a", 40), "another limit waits for nobody");
    assert!(!office.put_within(1, "b", 1));
}
