//! Events: made by the step that does what they tell, waiting in order, taken out, held, and dropped when there are too many.

use annulus_common::notification::{ACCESS_LOG, Cause, Destination, Event, EventId, EventName, Means, Rule};
use annulus_common::protocol::metadata::{
    ASIDE_MAX, Aside, CLAIM_MS_MAX, EVENTS_PER_QUERY_MAX, OutboxChange, OutboxPage, after_prefix,
};
use annulus_common::protocol::outbox::{Backlog, UNTOLD_KEPT_MS, Untold, WaitingOutbox};

use super::*;
use crate::kv::{KvRead as _, Table};
use crate::metadata::schema::keys::Keys;
use crate::metadata::schema::records::{Outbox, Record as _};
use crate::metadata::{backlogs, waiting};

const HOLDER: RequestId = RequestId([0xaa; 16]);
const OTHER: RequestId = RequestId([0xbb; 16]);

fn nothing(holder: RequestId) -> OutboxChange {
    let (done, given_up, aside) = (Vec::new(), Vec::new(), Vec::new());
    OutboxChange { holder, done, given_up, aside, passed: None, dropped: 0, until_ms: None }
}

fn refused(tries: u32) -> Aside {
    Aside { tries, failed_ms: 1, next_ms: 7_777 }
}

fn notice(means: Means, events: &[EventName]) -> Option<Box<Notice>> {
    let rule = Rule {
        id: "one".to_owned(),
        destination: Destination::Queue,
        arn: "arn:aws:sqs:::hook".to_owned(),
        webhook: "hook".to_owned(),
        events: events.to_vec(),
        prefix: None,
        suffix: None,
    };
    Some(Box::new(Notice { cause: Cause::of_service(means), rules: vec![Arc::new(rule)] }))
}

fn everything(means: Means) -> Option<Box<Notice>> {
    use EventName::{LifecycleExpiration, ObjectAclPut, ObjectCreated, ObjectRemoved, ObjectTagging};
    notice(means, &[ObjectCreated, ObjectRemoved, ObjectTagging, ObjectAclPut, LifecycleExpiration])
}

impl Bench {
    fn tell(&mut self, means: Means, command: Command) -> MetaReply {
        let request = RequestId(rand::random());
        self.run_telling(request, command, everything(means))
    }

    fn outbox(&self) -> OutboxPage {
        match self.ask(&Query::Outbox { webhook: "hook".to_owned() }) {
            QueryReply::Outbox(page) => page,
            other => panic!("{other:?}"),
        }
    }

    fn told(&self) -> Vec<(EventName, String)> {
        self.outbox().events.into_iter().map(|(_, event)| (event.name, event.key)).collect()
    }

    fn waiting(&self) -> Vec<WaitingOutbox> {
        waiting(self.kv.as_ref(), &[PARTITION]).expect("memory answers")
    }

    /// What a status says of the webhook, if anything.
    fn backlog(&self) -> Option<Backlog> {
        let mut told = backlogs(self.kv.as_ref(), &[PARTITION]).expect("memory answers");
        assert!(told.is_all && told.webhooks.len() < 2);
        told.webhooks.pop()
    }

    fn change(&mut self, holder: RequestId, done: &[EventId], until_ms: Option<u64>) -> MetaReply {
        self.change_outbox(OutboxChange { done: done.to_vec(), until_ms, ..nothing(holder) })
    }

    fn change_outbox(&mut self, change: OutboxChange) -> MetaReply {
        self.run(Command::Outbox { webhook: "hook".to_owned(), change })
    }

    /// Puts these keys, one after the other, and holds the outbox.
    fn hold_puts(&mut self, keys: &[&str]) -> Vec<EventId> {
        for key in keys {
            self.tell(Means::Put, put(key, Conditions::default(), inline(1)));
        }
        let until_ms = self.now_ms() + CLAIM_MS_MAX;
        assert_eq!(self.change(HOLDER, &[], Some(until_ms)), MetaReply::Held(true));
        self.outbox().events.into_iter().map(|(id, _)| id).collect()
    }

    /// What is set aside, by key and tries.
    fn aside(&self) -> Vec<(String, u32)> {
        self.outbox().aside.into_iter().map(|(_, aside, event)| (event.key, aside.tries)).collect()
    }

    /// The last event that waits.
    fn waiting_last(&self) -> Option<EventId> {
        let keys = Keys::of(PARTITION.into());
        let outbox = self.kv.get(Table::Meta, &keys.outbox("hook")).expect("memory answers").expect("something waits");
        Outbox::decode(&outbox).expect("it is one").last
    }

    fn now_ms(&self) -> u64 {
        self.index * 1000
    }
}

#[test]
fn each_step_tells_what_it_did_and_nothing_else() {
    let mut bench = Bench::new();
    bench.tell(Means::Copy, put("k", Conditions::default(), inline(1)));
    assert_eq!(bench.tell(Means::Put, put("k", if_absent(), inline(2))), MetaReply::PreconditionFailed);
    let sequence = bench.object("k").expect("it was put").sequence;
    let tags = |tags: &[(&str, &str)]| {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let change = AttributeChange::Tags(tags);
        Command::SetAttributes { path: path("k"), version: VersionId::Null, sequence, change }
    };
    bench.tell(Means::Put, tags(&[("a", "b")]));
    bench.tell(Means::Put, tags(&[]));
    bench.tell(Means::Put, delete("k", Conditions::default()));
    bench.tell(Means::Put, delete("k", Conditions::default()));
    bench.tell(Means::Put, put_in(Versioning::Enabled, "v", Conditions::default(), inline(3)));
    let expired = delete_in(Versioning::Enabled, vec![deletion("v", None, Conditions::default())]);
    bench.tell(Means::Lifecycle, expired);
    let names: Vec<_> = bench.told().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            EventName::ObjectCreatedCopy,
            EventName::ObjectTaggingPut,
            EventName::ObjectTaggingDelete,
            EventName::ObjectRemovedDelete,
            EventName::ObjectCreatedPut,
            EventName::LifecycleExpirationDeleteMarkerCreated,
        ]
    );
    let events = bench.outbox().events;
    assert!(events.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(events[0].1.content.map(|(size, _)| size), Some(inline(1).size));
    assert_eq!((events[3].1.content, events[3].1.version), (None, VersionId::Null));
    let [outbox] = &bench.waiting()[..] else { panic!("one outbox") };
    assert_eq!((outbox.pending, outbox.claim, outbox.webhook.as_str()), (6, None, "hook"));
}

#[test]
fn a_mutation_that_comes_twice_is_told_once() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        let told = everything(Means::Put);
        bench.run_telling(RequestId([7; 16]), put("k", Conditions::default(), inline(1)), told);
    }
    assert_eq!(bench.told().len(), 1);
    let deaf = notice(Means::Put, &[EventName::ObjectRemoved]);
    bench.run_telling(RequestId([8; 16]), put("k", Conditions::default(), inline(1)), deaf);
    assert_eq!(bench.told().len(), 1, "nobody asked for it");
}

#[test]
fn what_expires_is_told_and_recorded() {
    let mut bench = Bench::new();
    bench.run(put("k", Conditions::default(), inline(1)));
    let upload = bench.begin_upload("parts", 7);
    let mut told = everything(Means::Lifecycle);
    told.as_mut().expect("somebody is told").rules.push(Arc::new(Rule::of_access_log()));
    bench.run_telling(RequestId([7; 16]), delete("k", Conditions::default()), told.clone());
    bench.run_telling(RequestId([8; 16]), Command::AbortUpload { path: path("parts"), upload }, told);
    let waiting: Vec<_> = bench.waiting().into_iter().map(|outbox| (outbox.webhook, outbox.pending)).collect();
    assert_eq!(waiting, [(ACCESS_LOG.to_owned(), 2), ("hook".to_owned(), 1)], "uploads are only recorded");
    assert_eq!(bench.told(), [(EventName::LifecycleExpirationDelete, "k".to_owned())]);
}

#[test]
fn what_was_delivered_is_taken_out_and_an_empty_outbox_leaves_nothing() {
    let mut bench = Bench::new();
    for key in ["a", "b", "c"] {
        bench.tell(Means::Put, put(key, Conditions::default(), inline(1)));
    }
    let ids: Vec<EventId> = bench.outbox().events.into_iter().map(|(id, _)| id).collect();
    assert_eq!(bench.change(HOLDER, &ids[..2], None), MetaReply::Held(false));
    assert_eq!(bench.told(), [(EventName::ObjectCreatedPut, "c".to_owned())]);
    assert_eq!(bench.waiting()[0].pending, 1);
    bench.change(HOLDER, &ids[..2], None);
    assert_eq!(bench.waiting()[0].pending, 1, "what is taken out is gone");
    bench.change(HOLDER, &ids[2..], None);
    assert_eq!((bench.waiting(), bench.outbox()), (Vec::new(), OutboxPage::default()));
}

#[test]
fn one_holds_an_outbox_until_it_lets_go_or_its_time_is_over() {
    let mut bench = Bench::new();
    assert_eq!(bench.change(HOLDER, &[], Some(5_000)), MetaReply::Held(false), "there is none");
    bench.tell(Means::Put, put("k", Conditions::default(), inline(1)));
    let until_ms = bench.now_ms() + 5_000;
    assert_eq!(bench.change(HOLDER, &[], Some(until_ms)), MetaReply::Held(true));
    assert_eq!(bench.change(OTHER, &[], Some(until_ms)), MetaReply::Held(false));
    assert_eq!(bench.waiting()[0].claim, Some((HOLDER, until_ms)));
    assert_eq!(bench.change(HOLDER, &[], None), MetaReply::Held(false), "it lets go");
    assert_eq!(bench.change(OTHER, &[], Some(until_ms)), MetaReply::Held(true));
    while bench.now_ms() < until_ms {
        assert_eq!(bench.change(HOLDER, &[], None), MetaReply::Held(false));
    }
    let until_ms = bench.now_ms() + 5_000;
    assert_eq!(bench.change(HOLDER, &[], Some(until_ms)), MetaReply::Held(true), "its time is over");
    // A clock that is far ahead holds nothing for long.
    let absurd = bench.now_ms() + 10 * CLAIM_MS_MAX;
    bench.change(HOLDER, &[], Some(absurd));
    assert_eq!(bench.change(OTHER, &[], Some(bench.now_ms() + 5_000)), MetaReply::Held(true));
}

#[test]
fn the_oldest_are_dropped_when_too_many_wait_and_it_is_known() {
    const MOST: u64 = 20_000;
    let mut bench = Bench::new();
    let mut told = 0;
    while told <= MOST {
        // Each deletion of a bucket that keeps versions leaves a marker, which is told.
        let deletions = (0..1_000).map(|number| deletion(&number.to_string(), None, Conditions::default()));
        bench.tell(Means::Put, delete_in(Versioning::Enabled, deletions.collect()));
        told += 1_000;
    }
    let [outbox] = &bench.waiting()[..] else { panic!("one outbox") };
    let page = bench.outbox();
    assert!(outbox.pending <= MOST && page.dropped > 0);
    assert_eq!(outbox.pending + page.dropped, told, "all are accounted for");
    let known = bench.backlog().expect("something waits").untold;
    assert_eq!((known.dropped, known.given_up), (page.dropped, 0));
    assert_eq!(page.events.len(), EVENTS_PER_QUERY_MAX as usize);
    assert!(page.events[0].0.index > 1, "the oldest are gone");
    bench.change_outbox(OutboxChange { dropped: page.dropped, ..nothing(HOLDER) });
    assert_eq!(bench.outbox().dropped, 0, "it was told");
}

#[test]
fn a_burst_takes_nobody_elses_place() {
    let mut bench = Bench::new();
    let quiet = BucketId(77);
    let told = |bench: &Bench, bucket| {
        let keys = Keys::of(PARTITION.into());
        let (lower, upper) = (keys.events("hook"), after_prefix(&keys.events("hook")).expect("it has one"));
        let mut cursor = bench.kv.cursor(Table::Meta, &lower, &upper).expect("memory answers");
        cursor.seek(&lower).expect("memory answers");
        let mut count = 0;
        while let Some((_, record)) = cursor.entry() {
            count += u64::from(Event::decode(record).expect("it is one").bucket == bucket);
            cursor.next().expect("memory answers");
        }
        count
    };
    for number in 0..10 {
        let mut command = put(&number.to_string(), Conditions::default(), inline(1));
        if let Command::Put { path, .. } = &mut command {
            path.bucket = quiet;
        }
        bench.tell(Means::Put, command);
    }
    while bench.outbox().dropped == 0 {
        let deletions = (0..1_000).map(|number| deletion(&number.to_string(), None, Conditions::default()));
        bench.tell(Means::Put, delete_in(Versioning::Enabled, deletions.collect()));
    }
    assert_eq!(told(&bench, quiet), 10, "they are the oldest, and few");
    assert_eq!(told(&bench, BUCKET) + 10, bench.waiting()[0].pending);
}

#[test]
fn what_is_set_aside_holds_back_its_key_alone() {
    let mut bench = Bench::new();
    let ids = bench.hold_puts(&["a", "b", "a", "c", "a"]);
    let until_ms = Some(bench.now_ms() + CLAIM_MS_MAX);
    // `b` is told; what is left of the page waits behind the first `a`, or was not looked at.
    let aside = vec![(ids[0], refused(4))];
    let change = OutboxChange { done: vec![ids[1]], aside, passed: Some(ids[2]), until_ms, ..nothing(HOLDER) };
    assert_eq!(bench.change_outbox(change), MetaReply::Held(true));
    let page = bench.outbox();
    let keys: Vec<_> = page.events.iter().map(|(id, event)| (*id, event.key.as_str())).collect();
    assert_eq!((keys, page.through), (vec![(ids[3], "c"), (ids[4], "a")], Some(ids[4])));
    assert_eq!(bench.aside(), [("a".to_owned(), 4)]);
    let waiting = |bench: &Bench| bench.waiting().first().map(|outbox| (outbox.pending, outbox.aside, outbox.due_ms));
    assert_eq!(waiting(&bench), Some((4, 1, 0)), "there is something new");
    let change = OutboxChange { done: vec![ids[3]], passed: page.through, until_ms, ..nothing(HOLDER) };
    bench.change_outbox(change);
    assert_eq!(waiting(&bench), Some((3, 1, 7_777)), "all that is left waits");
    // One that is given up leaves how it stood, one that was told does not.
    bench.change_outbox(OutboxChange { given_up: vec![ids[0]], until_ms, ..nothing(HOLDER) });
    assert_eq!((bench.aside(), bench.outbox().aside[0].0), (vec![("a".to_owned(), 4)], ids[2]));
    bench.change_outbox(OutboxChange { done: vec![ids[2]], until_ms, ..nothing(HOLDER) });
    assert_eq!((bench.aside(), waiting(&bench)), (vec![("a".to_owned(), 0)], Some((1, 1, 0))));
    bench.change_outbox(OutboxChange { done: vec![ids[4]], ..nothing(HOLDER) });
    assert_eq!((bench.waiting(), bench.outbox()), (Vec::new(), OutboxPage::default()));
}

#[test]
fn who_does_not_hold_the_outbox_sets_nothing_aside() {
    let mut bench = Bench::new();
    let ids = bench.hold_puts(&["a", "b"]);
    bench.change(HOLDER, &[], None);
    let late = OutboxChange { aside: vec![(ids[0], refused(1))], passed: Some(ids[1]), ..nothing(HOLDER) };
    bench.change_outbox(late.clone());
    assert_eq!((bench.aside(), bench.told().len()), (Vec::new(), 2), "it may not know what another set aside");
    bench.change_outbox(OutboxChange { done: vec![ids[0]], ..late });
    assert_eq!((bench.aside(), bench.told().len()), (Vec::new(), 1), "what was told was told");
}

#[test]
fn so_many_are_set_aside_and_no_more() {
    let mut bench = Bench::new();
    let keys: Vec<String> = (0..=ASIDE_MAX).map(|number| number.to_string()).collect();
    let mut ids = bench.hold_puts(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    ids.truncate(ASIDE_MAX);
    let until_ms = Some(bench.now_ms() + CLAIM_MS_MAX);
    let aside: Vec<_> = ids.iter().map(|id| (*id, refused(0))).collect();
    let passed = ids.last().copied();
    bench.change_outbox(OutboxChange { aside: aside.clone(), passed, until_ms, ..nothing(HOLDER) });
    let [(last, event)] = &bench.outbox().events[..] else { panic!("one was not looked at") };
    assert_eq!((bench.aside().len(), event.key.as_str()), (ASIDE_MAX, keys[ASIDE_MAX].as_str()));
    let one_more = OutboxChange { aside: vec![(*last, refused(0))], passed: Some(*last), until_ms, ..nothing(HOLDER) };
    bench.change_outbox(one_more);
    assert_eq!((bench.aside().len(), bench.told().len()), (ASIDE_MAX, 1), "it stays where it is");
    let again = vec![(ids[0], refused(1))];
    bench.change_outbox(OutboxChange { aside: again, ..nothing(HOLDER) });
    assert_eq!(bench.aside()[0], ("0".to_owned(), 1), "one of them is tried again");
}

#[test]
fn what_waits_is_next_when_what_it_waits_for_is_dropped() {
    let mut bench = Bench::new();
    let ids = bench.hold_puts(&["a"]);
    let aside = vec![(ids[0], refused(3))];
    let until_ms = Some(bench.now_ms() + CLAIM_MS_MAX);
    bench.change_outbox(OutboxChange { aside, passed: Some(ids[0]), until_ms, ..nothing(HOLDER) });
    let mut others = 0;
    while bench.outbox().dropped == 0 {
        let deletions = (0..1_000).map(|number| deletion(&number.to_string(), None, Conditions::default()));
        bench.tell(Means::Put, delete_in(Versioning::Enabled, deletions.collect()));
        bench.tell(Means::Put, put("a", Conditions::default(), inline(1)));
        others += 1;
        // All are looked at: the first of `a` holds the others back.
        let (passed, until_ms) = (bench.waiting_last(), Some(bench.now_ms() + CLAIM_MS_MAX));
        bench.change_outbox(OutboxChange { passed, until_ms, ..nothing(HOLDER) });
    }
    assert!(others > 2);
    let page = bench.outbox();
    assert_eq!(bench.aside(), [("a".to_owned(), 3)]);
    assert!(page.aside[0].0 > ids[0], "the next of the key");
}

#[test]
fn a_status_knows_since_when_the_oldest_waits() {
    let mut bench = Bench::new();
    let waits = |bench: &Bench| bench.backlog().map(|backlog| (backlog.pending, backlog.aside, backlog.oldest_ms));
    assert_eq!(waits(&bench), None);
    // The first step is at 1,000 ms.
    let ids = bench.hold_puts(&["a", "b", "a", "c"]);
    assert_eq!(waits(&bench), Some((4, 0, Some(1_000))));
    let until_ms = Some(bench.now_ms() + CLAIM_MS_MAX);
    let aside = vec![(ids[1], refused(1))];
    let change = OutboxChange { done: vec![ids[0]], aside, passed: Some(ids[2]), until_ms, ..nothing(HOLDER) };
    bench.change_outbox(OutboxChange { done: vec![ids[0], ids[2]], ..change });
    assert_eq!(waits(&bench), Some((2, 1, Some(2_000))), "what is set aside waits longer");
    bench.change_outbox(OutboxChange { done: vec![ids[1]], until_ms, ..nothing(HOLDER) });
    assert_eq!(waits(&bench), Some((1, 0, Some(4_000))));
    bench.change(HOLDER, &ids[3..], None);
    assert_eq!(waits(&bench), None);
    // Records for access logs are no events.
    let told = Some(Box::new(Notice {
        cause: Cause::of_service(Means::Lifecycle),
        rules: vec![Arc::new(Rule::of_access_log())],
    }));
    bench.run_telling(RequestId([7; 16]), delete("a", Conditions::default()), told);
    assert_eq!((bench.waiting().len(), waits(&bench)), (1, None));
}

#[test]
fn what_is_never_told_is_remembered_for_a_week() {
    let mut bench = Bench::new();
    let untold = |bench: &Bench| bench.backlog().map(|backlog| backlog.untold);
    let ids = bench.hold_puts(&["a", "b", "c"]);
    assert_eq!(untold(&bench), Some(Untold::default()));
    let given_up = OutboxChange { given_up: vec![ids[0], ids[1]], ..nothing(HOLDER) };
    bench.change_outbox(given_up.clone());
    let known = Some(Untold { given_up: 2, dropped: 0, last_ms: bench.now_ms() });
    assert_eq!(untold(&bench), known);
    bench.change_outbox(OutboxChange { done: vec![ids[2]], ..given_up });
    assert_eq!((bench.waiting(), untold(&bench)), (Vec::new(), known), "they were given up before, and stay so");
    let ids = bench.hold_puts(&["d", "e"]);
    bench.change_outbox(OutboxChange { given_up: vec![ids[0]], ..nothing(HOLDER) });
    assert_eq!(untold(&bench), Some(Untold { given_up: 3, dropped: 0, last_ms: bench.now_ms() }));
    bench.index += UNTOLD_KEPT_MS / 1_000;
    bench.change_outbox(OutboxChange { given_up: vec![ids[1]], ..nothing(HOLDER) });
    assert_eq!(untold(&bench), Some(Untold { given_up: 1, dropped: 0, last_ms: bench.now_ms() }), "it begins anew");
}
