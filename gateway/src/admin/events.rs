//! Which events wait for webhooks, and which are never told, added up from what the leaders of partitions say. It is no part of the
//! cluster's health: events wait where it is the webhook that is down.

use std::collections::BTreeMap;

use annulus_common::ids::NodeId;
use annulus_common::protocol::NodeStatus;
use annulus_common::protocol::outbox::Backlog;

use super::model::{EventsReport, PartitionReport, WebhookReport};

type Answers = BTreeMap<NodeId, Option<NodeStatus>>;

/// `are_told` is whether any bucket has its events told: where none has, nothing is missed of a partition that says nothing.
pub(super) fn report(are_told: bool, partitions: &[PartitionReport], answers: &Answers, now_ms: u64) -> EventsReport {
    let told = || answers.values().flatten().map(|status| &status.backlogs);
    let mut of_each = BTreeMap::<&str, Backlog>::new();
    for backlog in told().flat_map(|told| &told.webhooks) {
        let known = of_each.remove(backlog.webhook.as_str()).unwrap_or_default();
        of_each.insert(&backlog.webhook, backlog.clone().and(&known));
    }
    let webhooks = of_each.into_values().filter_map(|backlog| webhook(backlog, now_ms));
    let is_all = partitions.iter().all(|group| group.leader.is_some()) && told().all(|told| told.is_all);
    EventsReport { complete: is_all || !are_told, webhooks: webhooks.collect() }
}

/// Nothing when nothing is to be told of it.
fn webhook(backlog: Backlog, now_ms: u64) -> Option<WebhookReport> {
    let untold = backlog.untold.of_late(now_ms);
    let has_missed = untold.given_up + untold.dropped > 0;
    (backlog.pending > 0 || has_missed).then_some(WebhookReport {
        webhook: backlog.webhook,
        waiting: backlog.pending,
        set_aside: backlog.aside,
        oldest_ms: backlog.oldest_ms,
        given_up: untold.given_up,
        dropped: untold.dropped,
        untold_ms: has_missed.then_some(untold.last_ms),
    })
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::NodeId;
    use annulus_common::map::ClusterMap;
    use annulus_common::protocol::NodeStatus;
    use annulus_common::protocol::outbox::{Backlog, UNTOLD_KEPT_MS, Untold};

    use super::super::model::{ClusterStatus, EventsReport, MovesReport};
    use super::super::status::summarize;
    use super::super::status::tests::answers;
    use super::{Answers, report};
    use crate::client::testing::map_of;

    const NOW_MS: u64 = 10 * UNTOLD_KEPT_MS;

    /// Nodes 1 and 2 say this; of three, those in `up` answer.
    fn status(map: &ClusterMap, up: &[u64], said: [Vec<Backlog>; 2]) -> ClusterStatus {
        let mut answers = answers(map, up);
        for (node, webhooks) in (1..).zip(said) {
            let status: Option<&mut NodeStatus> = answers.get_mut(&NodeId(node)).and_then(Option::as_mut);
            status.expect("it answers").backlogs.webhooks = webhooks;
        }
        summarize(map, &answers, MovesReport::default(), NOW_MS)
    }

    fn waiting(webhook: &str, pending: u64, oldest_ms: u64) -> Backlog {
        Backlog { webhook: webhook.to_owned(), pending, aside: 1, oldest_ms: Some(oldest_ms), ..Backlog::default() }
    }

    fn missed(webhook: &str, given_up: u64, last_ms: u64) -> Backlog {
        let untold = Untold { given_up, dropped: 2, last_ms };
        Backlog { webhook: webhook.to_owned(), untold, ..Backlog::default() }
    }

    #[test]
    fn what_waits_in_all_partitions_is_added_up_and_does_no_harm() {
        let map = map_of(3, 3);
        let said = [vec![waiting("b", 3, 70), waiting("a", 1, 50)], vec![waiting("b", 4, 60), missed("b", 5, NOW_MS)]];
        let status = status(&map, &[1, 2, 3], said);
        assert!(status.healthy && status.events.complete);
        let shown: Vec<_> = status.events.webhooks.iter().collect();
        let [a, b] = shown[..] else { panic!("two: {shown:?}") };
        assert_eq!((a.webhook.as_str(), a.waiting, a.set_aside, a.oldest_ms, a.untold_ms), ("a", 1, 1, Some(50), None));
        assert_eq!((b.webhook.as_str(), b.waiting, b.set_aside, b.oldest_ms), ("b", 7, 2, Some(60)));
        assert_eq!((b.given_up, b.dropped, b.untold_ms), (5, 2, Some(NOW_MS)));
    }

    #[test]
    fn what_is_empty_or_long_ago_is_not_shown() {
        let map = map_of(3, 3);
        let idle = Backlog { webhook: "idle".to_owned(), ..Backlog::default() };
        let said = [vec![idle], vec![missed("old", 1, NOW_MS - UNTOLD_KEPT_MS)]];
        assert_eq!(status(&map, &[1, 2, 3], said).events, EventsReport { complete: true, webhooks: Vec::new() });
    }

    #[test]
    fn it_is_said_when_more_may_wait() {
        let map = map_of(3, 3);
        let mut answers = answers(&map, &[1, 2, 3]);
        let complete = |are_told: bool, answers: &Answers| {
            let partitions = summarize(&map, answers, MovesReport::default(), NOW_MS).partitions;
            report(are_told, &partitions, answers, NOW_MS).complete
        };
        assert!(complete(true, &answers));
        answers.get_mut(&NodeId(3)).and_then(Option::as_mut).expect("it answers").backlogs.is_all = false;
        assert!(!complete(true, &answers), "it had too much to tell");
        answers.insert(NodeId(1), None);
        assert!(!complete(true, &answers), "it leads something");
        assert!(complete(false, &answers), "nobody is told");
    }
}
