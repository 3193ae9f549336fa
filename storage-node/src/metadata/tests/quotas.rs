//! Quotas at the shards and in the books, against what must never be: more stored than the limit.

use annulus_common::protocol::metadata::{AllowanceChange, BooksEntry, QuotaReply};
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
}

fn an_act() -> impl Strategy<Value = Act> {
    let key = || "[a-d]";
    prop_oneof![
        8 => (0..SHARDS, key(), 0usize..40).prop_map(|(shard, key, bytes)| Act::Put { shard, key, bytes }),
        3 => (0..SHARDS, key()).prop_map(|(shard, key)| Act::Delete { shard, key }),
        4 => (0..SHARDS).prop_map(|shard| Act::Ask { shard }),
        8 => any::<Index>().prop_map(Act::Arrive),
        2 => (0..SHARDS).prop_map(|shard| Act::Recall { shard }),
        1 => (0u64..120).prop_map(Act::Limit),
    ]
}

/// A partition with the messages that gateways carry between its books and its shards.
struct Office {
    bench: Bench,
    under_way: Vec<Command>,
    /// What each shard was last short of.
    needs: [Usage; SHARDS as usize],
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

    fn put(&mut self, shard: u16, key: &str, bytes: usize, last: bool) -> MetaReply {
        let path = KeyPath { shard: ShardId(shard), ..path(key) };
        let (versioning, conditions) = (Versioning::Unversioned, Conditions::default());
        let quota = QuotaTerms { bucket: true, account: false, last };
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

    /// Sets a limit and counts, to the end.
    fn limit(&mut self, bytes: u64, version: u64) {
        let limit = Some(Usage { objects: u64::MAX, bytes });
        assert!(matches!(self.books(BooksEntry::Limit { limit, version }), QuotaReply::Granted { .. }));
        let shards = (0..SHARDS).map(|shard| (BUCKET, ShardId(shard))).collect();
        let QuotaReply::Recalled { serial } = self.books(BooksEntry::Recall { serial: None, shards }) else {
            panic!("nobody else recalls")
        };
        let left = (0..SHARDS).map(|shard| {
            let QuotaReply::Shrunk(used) = self.ask(allowance(shard, AllowanceChange::Shrink { serial })) else {
                panic!("nothing newer was said")
            };
            (BUCKET, ShardId(shard), used)
        });
        let left = left.collect();
        let returned = self.books(BooksEntry::Returned { serial, left, all: true });
        assert_eq!(returned, QuotaReply::Recalled { serial });
    }

    fn act(&mut self, act: Act, version: &mut u64) {
        match act {
            Act::Put { shard, key, bytes } => match self.put(shard, &key, bytes, false) {
                MetaReply::Quota(QuotaReply::Short { kind, needs }) => {
                    assert_eq!(kind, PayerKind::Bucket);
                    self.needs[usize::from(shard)] = needs;
                }
                reply => assert!(matches!(reply, MetaReply::Written { .. }), "{reply:?}"),
            },
            Act::Delete { shard, key } => self.delete(shard, &key),
            Act::Ask { shard } => {
                let needs = self.needs[usize::from(shard)];
                let grant = BooksEntry::Grant { bucket: BUCKET, shard: ShardId(shard), needs };
                match self.books(grant) {
                    QuotaReply::Granted { serial, limit } => {
                        self.under_way.push(allowance(shard, AllowanceChange::Set { serial, limit }));
                    }
                    reply => assert!(matches!(reply, QuotaReply::Exhausted { .. }), "{reply:?}"),
                }
            }
            Act::Recall { shard } => {
                let shards = vec![(BUCKET, ShardId(shard))];
                if let QuotaReply::Recalled { serial } = self.books(BooksEntry::Recall { serial: None, shards }) {
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
                *version += 1;
                self.limit(bytes, *version);
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
    /// Whatever gets lost, comes late or comes twice.
    #[test]
    fn nobody_is_ever_over_the_quota(acts in vec(an_act(), 1..120)) {
        let (bench, under_way) = (Bench::new(), Vec::new());
        let mut office = Office { bench, under_way, needs: [Usage::NONE; SHARDS as usize] };
        let mut version = 1;
        office.limit(100, version);
        let mut ceiling = 100;
        for act in acts {
            let used = office.used_by_all().bytes;
            // What was there before a limit fell may stay; it cannot grow.
            ceiling = match act {
                Act::Limit(bytes) => bytes.max(used),
                _ => ceiling,
            };
            let limit = act.clone();
            office.act(act, &mut version);
            let now = office.used_by_all().bytes;
            prop_assert!(now <= ceiling, "{now} of {ceiling} after {limit:?}");
        }
    }
}

fn office(limit_bytes: u64) -> Office {
    let mut office = Office { bench: Bench::new(), under_way: Vec::new(), needs: [Usage::NONE; SHARDS as usize] };
    office.limit(limit_bytes, 1);
    office
}

impl Office {
    /// Puts as a gateway does: asks for more as long as there is more.
    fn put_within(&mut self, shard: u16, key: &str, bytes: usize) -> bool {
        for _ in 0..2 {
            match self.put(shard, key, bytes, false) {
                MetaReply::Written { .. } => return true,
                MetaReply::Quota(QuotaReply::Short { needs, .. }) => {
                    let entry = BooksEntry::Grant { bucket: BUCKET, shard: ShardId(shard), needs };
                    let QuotaReply::Granted { serial, limit } = self.books(entry) else { return false };
                    self.ask(allowance(shard, AllowanceChange::Set { serial, limit }));
                }
                other => panic!("{other:?}"),
            }
        }
        false
    }
}

#[test]
fn the_last_byte_is_used_and_not_one_more() {
    let mut office = office(100);
    assert!(office.put_within(0, "a", 60));
    assert!(office.put_within(1, "b", 20));
    assert!(!office.put_within(2, "c", 20), "spare was granted to the others");
    assert_eq!(office.used_by_all(), Usage { objects: 2, bytes: 80 });
    // When the others give back what they do not use, it fits.
    let shards = vec![(BUCKET, ShardId(0)), (BUCKET, ShardId(1))];
    let QuotaReply::Recalled { serial } = office.books(BooksEntry::Recall { serial: None, shards }) else {
        panic!("nothing newer was said")
    };
    let left = [0, 1].map(|shard| match office.ask(allowance(shard, AllowanceChange::Shrink { serial })) {
        QuotaReply::Shrunk(used) => (BUCKET, ShardId(shard), used),
        other => panic!("{other:?}"),
    });
    office.books(BooksEntry::Returned { serial, left: left.into(), all: false });
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
    let mut office = office(10);
    let refused = |last| {
        let quota = QuotaTerms { bucket: true, account: false, last };
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
    let known = QuotaTerms { account: true, ..QuotaTerms::default() };
    let short = MetaReply::Quota(QuotaReply::Short { kind: PayerKind::Account, needs: Usage { objects: 1, bytes: 3 } });
    assert_eq!(bench.run(put(known)), short);
    assert!(matches!(bench.run(put(QuotaTerms::default())), MetaReply::Written { .. }));
    let shrink = Command::Allowance {
        bucket: BUCKET,
        shard: SHARD,
        kind: PayerKind::Account,
        change: AllowanceChange::Shrink { serial: 1 },
    };
    bench.run(shrink);
    let other = Command::Put {
        path: path("other"),
        versioning: Versioning::Unversioned,
        conditions: Conditions::default(),
        quota: QuotaTerms::default(),
        object: inline(1),
    };
    let short = MetaReply::Quota(QuotaReply::Short { kind: PayerKind::Account, needs: Usage { objects: 2, bytes: 6 } });
    assert_eq!(bench.run(other), short, "asked for before there was a quota, applied after");
}

#[test]
fn an_upload_that_does_not_fit_can_be_completed_when_there_is_room() {
    let mut office = office(10 << 20);
    let target = KeyPath { shard: ShardId(2), ..path("k") };
    let upload = office.bench.begin_upload("k", 7);
    for number in 1..=3 {
        let command = Command::PutPart { path: target.clone(), upload, part: part(number as u8, number) };
        assert_eq!(office.bench.run(command), MetaReply::Done);
    }
    let three: Vec<Part> = (1..=3).map(|number| part(number as u8, number)).collect();
    assert!(matches!(office.bench.complete("k", upload, &three), MetaReply::Quota(QuotaReply::Short { .. })));
    assert_eq!(office.bench.garbage(), BTreeSet::new());
    let needs = Usage { objects: 1, bytes: 10 << 20 };
    let entry = BooksEntry::Grant { bucket: BUCKET, shard: ShardId(2), needs };
    let QuotaReply::Granted { serial, limit } = office.books(entry) else { panic!("it is free") };
    office.ask(allowance(2, AllowanceChange::Set { serial, limit }));
    assert!(matches!(office.bench.complete("k", upload, &three), MetaReply::Quota(QuotaReply::Short { .. })));
    assert!(matches!(office.bench.complete("k", upload, &three[..2]), MetaReply::Written { .. }));
    assert_eq!(office.used(2), needs);
}
