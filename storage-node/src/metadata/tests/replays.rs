//! Mutations that come again. Those that come so late that their answers may be forgotten are not carried out. Names that clients
//! give may come anew even then: whatever they meet, nothing of what is there becomes garbage, and nothing is counted twice.

use super::super::schema::keys::Keys;
use super::*;
use crate::kv::{KvRead, Table};

impl Bench {
    /// As if so much had been carried out meanwhile that both generations of answers were gone.
    fn forget_answers(&mut self) {
        let keys = Keys::of(GroupId::from(PARTITION));
        let mut batch = Batch::default();
        batch.delete_range(Table::Meta, keys.answers(0), keys.answers(u64::MAX));
        self.kv.write(batch, Durability::Buffered).expect("memory holds it");
    }

    /// Everything but the answers.
    fn state(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let keys = Keys::of(GroupId::from(PARTITION));
        let (lower, upper) = keys.all();
        let answers = keys.answers(0)..keys.answers(u64::MAX);
        let mut cursor = self.kv.cursor(Table::Meta, &lower, &upper).expect("memory answers");
        let mut state = Vec::new();
        cursor.seek(&lower).expect("memory answers");
        while let Some((key, value)) = cursor.entry() {
            if !answers.contains(&key.to_vec()) {
                state.push((key.to_vec(), value.to_vec()));
            }
            cursor.next().expect("memory answers");
        }
        state
    }

    /// Carries a mutation out, `between` after it, and then it again, as the client that was told nothing asks.
    fn replay(&mut self, command: &Command, between: impl FnOnce(&mut Self)) -> [MetaReply; 2] {
        let request = RequestId([0xee; 16]);
        let first = self.run_as(request, command.clone());
        between(self);
        self.forget_answers();
        let before = self.state();
        let again = self.run_as(request, command.clone());
        assert_eq!(self.state(), before, "{command:?}");
        [first, again]
    }
}

/// Entries for which an answer is remembered at least.
const REMEMBERED: u64 = 32_768;

impl Bench {
    /// The next entry, as if the log were there already.
    fn carry_out_at(&mut self, index: u64, mutation: &Mutation) -> MetaReply {
        assert!(index > self.index);
        self.index = index - 1;
        self.carry_out(mutation)
    }
}

fn asked_at(since: u64, request: u8, command: Command) -> Mutation {
    Mutation { request: RequestId([request; 16]), since: Some(since), time_ms: 1, command, notice: None }
}

fn put_inline(tag: u8) -> Command {
    put("k", Conditions::default(), inline(tag))
}

#[test]
fn a_put_that_comes_after_its_answer_is_forgotten_brings_no_old_object_back() {
    let mut bench = Bench::new();
    let lost = asked_at(0, 1, put_inline(1));
    bench.carry_out(&lost);
    bench.carry_out(&asked_at(1, 2, put_inline(2)));
    let newer = bench.object("k").expect("it was put");
    // Entries of others, until both generations of answers that could know of it are gone.
    for index in 3..=2 * REMEMBERED {
        bench.run(put("other", Conditions::default(), inline(3)));
        assert_eq!(bench.index, index);
    }
    let before = bench.state();
    assert_eq!(bench.carry_out(&lost), MetaReply::Expired);
    assert_eq!(bench.state(), before);
    assert_eq!(bench.object("k"), Some(newer));
}

#[test]
fn a_mutation_is_carried_out_only_where_its_answer_would_still_be_known() {
    for since in [0, 1, REMEMBERED - 1, REMEMBERED, 70_000] {
        let run = |index| Bench::new().carry_out_at(index, &asked_at(since, 1, put_inline(1)));
        for index in [since + 1, since + REMEMBERED] {
            assert!(matches!(run(index), MetaReply::Written { .. }), "{since} {index}");
        }
        assert_eq!(run(since + REMEMBERED + 1), MetaReply::Expired);
        if since > 0 {
            assert_eq!(run(since), MetaReply::Expired, "the sender saw another log");
        }
    }
    let whenever = Mutation { since: None, ..asked_at(0, 1, put_inline(1)) };
    assert!(matches!(Bench::new().carry_out_at(1 << 40, &whenever), MetaReply::Written { .. }));
}

#[test]
fn an_answer_that_is_known_is_given_even_after_that() {
    let mut bench = Bench::new();
    let mutation = asked_at(0, 1, put_inline(1));
    let first = bench.carry_out_at(REMEMBERED, &mutation);
    assert!(matches!(first, MetaReply::Written { .. }), "{first:?}");
    assert_eq!(bench.carry_out_at(2 * REMEMBERED, &mutation), first);
}

proptest! {
    /// Wherever copies of a mutation stand in the log, with whatever place said in each that the log had reached before the first
    /// of them: at most one is carried out.
    #[test]
    fn of_all_copies_of_a_mutation_one_is_carried_out(
        begin in 0..3 * REMEMBERED, before in 0..2 * REMEMBERED, gaps in vec(1..REMEMBERED / 2, 1..8),
    ) {
        let mut bench = Bench::new();
        let mutation = asked_at(begin.saturating_sub(before), 1, put_inline(1));
        bench.index = begin;
        let mut carried_out = 0;
        for gap in gaps {
            bench.carry_out_at(bench.index + gap, &mutation);
            carried_out += u32::from(bench.object("k").is_some_and(|object| object.sequence == bench.index));
            // Somebody else's comes over it.
            bench.run(put_inline(2));
        }
        prop_assert!(carried_out <= 1, "{carried_out}");
    }
}

fn in_parts(id: u8) -> NewObject {
    object(id, Data::Parts(vec![part(id, 1)]))
}

fn append(sequence: u64, id: u8) -> Command {
    Command::Append {
        path: path("k"),
        sequence,
        conditions: Conditions::default(),
        quota: QuotaTerms::default(),
        parts: vec![part(id, 2)],
        size: 10 << 20,
        etag: ETag { md5: [id; 16], parts: Some(2) },
        checksum: None,
    }
}

#[test]
fn a_put_that_comes_again_leaves_its_object_whole() {
    for versioning in [Versioning::Unversioned, Versioning::Enabled, Versioning::Suspended] {
        for conditions in [Conditions::default(), if_absent()] {
            for new in [in_parts(1), inline(1)] {
                let mut bench = Bench::new();
                let [first, again] = bench.replay(&put_in(versioning, "k", conditions.clone(), new), |_| {});
                assert!(matches!(first, MetaReply::Written { .. }), "{first:?}");
                assert_eq!(first, again);
                assert_eq!(bench.garbage(), BTreeSet::new());
            }
        }
    }
}

#[test]
fn a_put_under_another_name_takes_nothing_from_the_object_that_has_its_parts() {
    for conditions in [Conditions::default(), if_absent()] {
        let mut bench = Bench::new();
        bench.run(put("k", conditions.clone(), in_parts(1)));
        let before = bench.state();
        assert_eq!(bench.run(put("k", conditions, in_parts(1))), MetaReply::PartsChanged);
        assert_eq!(bench.state(), before);
        assert!(bench.referenced(PartId([1; 16])) && bench.garbage().is_empty());
    }
}

#[test]
fn a_put_that_comes_again_takes_nothing_from_what_became_of_its_object() {
    // A newer version lies over it, it has grown, or it has another key.
    let over = |bench: &mut Bench| {
        bench.run(put_in(Versioning::Enabled, "k", Conditions::default(), in_parts(2)));
    };
    let mut bench = Bench::new();
    let [_, again] = bench.replay(&put_in(Versioning::Enabled, "k", if_absent(), in_parts(1)), over);
    assert_eq!(again, MetaReply::PartsChanged);
    let mut bench = Bench::new();
    let grow = |bench: &mut Bench| {
        let sequence = bench.object("k").expect("it was put").sequence;
        bench.run(append(sequence, 2));
    };
    assert_eq!(bench.replay(&put("k", Conditions::default(), in_parts(1)), grow)[1], MetaReply::PartsChanged);
    assert!([1, 2].into_iter().all(|id| bench.referenced(PartId([id; 16]))));
    let mut bench = Bench::new();
    let rename = |bench: &mut Bench| {
        let sequence = bench.object("k").expect("it was put").sequence;
        let (to, conditions) = ("l".to_owned(), Conditions::default());
        bench.run(Command::Rename { path: path("k"), sequence, to, conditions });
    };
    assert_eq!(bench.replay(&put("k", Conditions::default(), in_parts(1)), rename)[1], MetaReply::PartsChanged);
    assert!(bench.object("l").is_some() && bench.garbage().is_empty());
}

#[test]
fn an_append_that_comes_again_takes_nothing_from_the_object_that_grew() {
    let mut bench = Bench::new();
    bench.run(put("k", Conditions::default(), in_parts(1)));
    let sequence = bench.object("k").expect("it was put").sequence;
    let [first, again] = bench.replay(&append(sequence, 2), |_| {});
    assert!(matches!(first, MetaReply::Written { .. }), "{first:?}");
    assert_eq!(first, again);
    let mut bench = Bench::new();
    bench.run(put("k", Conditions::default(), in_parts(1)));
    let sequence = bench.object("k").expect("it was put").sequence;
    let grow = |bench: &mut Bench| {
        let sequence = bench.object("k").expect("it was put").sequence;
        bench.run(append(sequence, 3));
    };
    assert_eq!(bench.replay(&append(sequence, 2), grow)[1], MetaReply::PartsChanged);
    assert!((1..=3).all(|id| bench.referenced(PartId([id; 16]))) && bench.garbage().is_empty());
}

#[test]
fn a_rename_that_comes_again_finds_it_done() {
    let mut bench = Bench::new();
    bench.run(put("k", Conditions::default(), in_parts(1)));
    let sequence = bench.object("k").expect("it was put").sequence;
    let (to, conditions) = ("l".to_owned(), Conditions::default());
    let [first, again] = bench.replay(&Command::Rename { path: path("k"), sequence, to, conditions }, |_| {});
    assert_eq!(first, again);
}

#[test]
fn a_part_that_comes_again_takes_nothing_from_its_upload_or_the_object_made_of_it() {
    let put_part = |upload| Command::PutPart { path: path("k"), upload, part: part(2, 1), sent: None };
    let mut bench = Bench::new();
    let upload = bench.begin_upload("k", 1);
    assert_eq!(bench.replay(&put_part(upload), |_| {}), [MetaReply::Done, MetaReply::Done]);
    let mut bench = Bench::new();
    let upload = bench.begin_upload("k", 1);
    let complete = |bench: &mut Bench| {
        let completed = bench.complete("k", upload, &[part(2, 1)]);
        assert!(matches!(completed, MetaReply::Written { .. }), "{completed:?}");
    };
    assert_eq!(bench.replay(&put_part(upload), complete)[1], MetaReply::NoSuchUpload);
    assert!(bench.referenced(PartId([2; 16])) && bench.garbage().is_empty());
}

#[test]
fn a_completion_that_comes_again_finds_it_done() {
    let mut bench = Bench::new();
    let upload = bench.begin_upload("k", 1);
    bench.run(Command::PutPart { path: path("k"), upload, part: part(2, 1), sent: None });
    let first = bench.complete("k", upload, &[part(2, 1)]);
    bench.forget_answers();
    let before = bench.state();
    assert_eq!(bench.complete("k", upload, &[part(2, 1)]), first);
    assert_eq!(bench.state(), before);
}

#[test]
fn a_completion_of_other_parts_than_the_objects_is_of_no_upload() {
    let mut bench = Bench::new();
    let upload = bench.begin_upload("k", 1);
    for number in [1, 2] {
        bench.run(Command::PutPart { path: path("k"), upload, part: part(number as u8, number), sent: None });
    }
    assert!(matches!(bench.complete("k", upload, &[part(1, 1), part(2, 2)]), MetaReply::Written { .. }));
    let before = bench.state();
    assert_eq!(bench.complete("k", upload, &[part(1, 1)]), MetaReply::NoSuchUpload);
    assert_eq!(bench.state(), before);
}
