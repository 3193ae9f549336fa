//! Events: made by the step that does what they tell, waiting in order, taken out, held, and dropped when there are too many.

use annulus_common::notification::{ACCESS_LOG, Cause, Destination, EventId, EventName, Means, Rule};
use annulus_common::protocol::metadata::{CLAIM_MS_MAX, EVENTS_PER_QUERY_MAX, OutboxChange, OutboxPage};
use annulus_common::protocol::outbox::WaitingOutbox;

use super::*;
use crate::metadata::waiting;

const HOLDER: RequestId = RequestId([0xaa; 16]);
const OTHER: RequestId = RequestId([0xbb; 16]);

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

    fn change(&mut self, holder: RequestId, through: Option<EventId>, until_ms: Option<u64>) -> MetaReply {
        let change = OutboxChange { holder, through, dropped: 0, until_ms };
        self.run(Command::Outbox { webhook: "hook".to_owned(), change })
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
    assert_eq!(bench.change(HOLDER, Some(ids[1]), None), MetaReply::Held(false));
    assert_eq!(bench.told(), [(EventName::ObjectCreatedPut, "c".to_owned())]);
    assert_eq!(bench.waiting()[0].pending, 1);
    bench.change(HOLDER, Some(ids[1]), None);
    assert_eq!(bench.waiting()[0].pending, 1, "what is taken out is gone");
    bench.change(HOLDER, Some(ids[2]), None);
    assert_eq!((bench.waiting(), bench.outbox()), (Vec::new(), OutboxPage::default()));
}

#[test]
fn one_holds_an_outbox_until_it_lets_go_or_its_time_is_over() {
    let mut bench = Bench::new();
    assert_eq!(bench.change(HOLDER, None, Some(5_000)), MetaReply::Held(false), "there is none");
    bench.tell(Means::Put, put("k", Conditions::default(), inline(1)));
    let until_ms = bench.now_ms() + 5_000;
    assert_eq!(bench.change(HOLDER, None, Some(until_ms)), MetaReply::Held(true));
    assert_eq!(bench.change(OTHER, None, Some(until_ms)), MetaReply::Held(false));
    assert_eq!(bench.waiting()[0].claim, Some((HOLDER, until_ms)));
    assert_eq!(bench.change(HOLDER, None, None), MetaReply::Held(false), "it lets go");
    assert_eq!(bench.change(OTHER, None, Some(until_ms)), MetaReply::Held(true));
    while bench.now_ms() < until_ms {
        assert_eq!(bench.change(HOLDER, None, None), MetaReply::Held(false));
    }
    let until_ms = bench.now_ms() + 5_000;
    assert_eq!(bench.change(HOLDER, None, Some(until_ms)), MetaReply::Held(true), "its time is over");
    // A clock that is far ahead holds nothing for long.
    let absurd = bench.now_ms() + 10 * CLAIM_MS_MAX;
    bench.change(HOLDER, None, Some(absurd));
    assert_eq!(bench.change(OTHER, None, Some(bench.now_ms() + 5_000)), MetaReply::Held(true));
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
    assert_eq!(page.events.len(), EVENTS_PER_QUERY_MAX as usize);
    assert!(page.events[0].0.index > 1, "the oldest are gone");
    let change = OutboxChange { holder: HOLDER, through: None, dropped: page.dropped, until_ms: None };
    bench.run(Command::Outbox { webhook: "hook".to_owned(), change });
    assert_eq!(bench.outbox().dropped, 0, "it was told");
}
