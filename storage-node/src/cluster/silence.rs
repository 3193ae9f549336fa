//! Nodes that have been silent for too long are given up: group 0's leader plans without them, where nodes suffice, and the
//! others take over what they held. A node that comes back finds itself taken for dead, registers again and is a spare.
//!
//! Silent is who does not ask for the map: every node does three times in two seconds. A new leader counts from when it began
//! to lead, and so does one that was stopped itself for a while (a virtual machine that was paused, all of them as a rule):
//! it would count its own absence against whoever goes on a little later. Who has lost sight of half of the nodes is more
//! likely cut off itself, and gives up nobody. Nobody is given up while moves are paused: whoever works on the machines can
//! say so.

use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{InstanceId, NodeId, RequestId};
use annulus_common::map::change::{MapChange, MapEntry, MapRefusal};
use annulus_common::map::watch::MapWatch;
use annulus_common::map::{ClusterMap, LayoutStep, NodeState};
use tracing::{debug, info, warn};

use super::watch::MapService;

/// How often it is looked for silent nodes.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long it may take to change the map. It is tried again at the next look.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// Looks for the dead for as long as it is polled; `service` is group 0's, where it is on this node.
pub async fn run(
    service: impl Fn() -> Option<std::sync::Arc<MapService>>,
    map: &MapWatch,
    clock: &SharedClock,
    dead_after: Duration,
) {
    let look_every = LOOK_EVERY.min(dead_after);
    let mut refused: Option<(NodeId, MapRefusal)> = None;
    let (mut looked_at, mut next_look_in) = (clock.monotonic(), look_every);
    loop {
        tokio::time::sleep(look_every).await;
        let since_last_look = clock.monotonic().saturating_sub(looked_at);
        let was_stopped = was_stopped(since_last_look, next_look_in);
        (looked_at, next_look_in) = (clock.monotonic(), look_every);
        let Some(service) = service() else { continue };
        if was_stopped {
            warn!("this node was stopped for a while: the silence of others counts from now on");
            service.forgive_silence();
        }
        let Some(map_now) = map.current() else { continue };
        let silence = |instance| service.silence(instance).unwrap_or_default();
        let Some(node) = find_dead(&map_now, silence, dead_after) else { continue };
        match map_now.plan(&LayoutStep::Dead(node)) {
            Ok(change) => {
                warn!(node = node.0, silent_for = ?dead_after, "node is given up: others take over what it held");
                next_look_in += CHANGE_DEADLINE;
                let now_ms = clock.now_ms();
                let change = MapChange::ChangeLayout(change);
                let entry = MapEntry { request: RequestId::generate(now_ms), time_ms: now_ms, change };
                match map.change(entry, CHANGE_DEADLINE).await {
                    Ok(Ok(_)) => info!(node = node.0, "planned without the node"),
                    Ok(Err(refusal)) => debug!(node = node.0, %refusal, "not planned without the node yet"),
                    Err(refusal) => debug!(node = node.0, %refusal, "not planned without the node yet"),
                }
            }
            Err(refusal) if refused.as_ref() != Some(&(node, refusal.clone())) => {
                warn!(node = node.0, %refusal, "node is silent, and nobody can take over what it held");
                refused = Some((node, refusal));
            }
            Err(_) => {}
        }
    }
}

/// Whether this node stood still between two looks: the second one came far too late. A machine that is merely busy is not harmed
/// by counting anew.
fn was_stopped(since_last_look: Duration, expected: Duration) -> bool {
    since_last_look > 2 * expected
}

/// A node with a share, or with one that it has not handed over yet, that has been silent for so long, if it is to be given up: the
/// longest silent one first. Moves wait for those who leave, too.
fn find_dead(map: &ClusterMap, silence: impl Fn(InstanceId) -> Duration, dead_after: Duration) -> Option<NodeId> {
    if map.moves.paused {
        return None;
    }
    let is_needed = |id: NodeId, state| match state {
        NodeState::Active => true,
        NodeState::Draining | NodeState::Spare => map.is_holding(id),
        NodeState::Dead => false,
    };
    let needed = map.nodes.iter().filter(|(id, node)| is_needed(**id, node.state));
    let needed: Vec<_> = needed.map(|(id, node)| (*id, silence(node.profile.instance))).collect();
    let silent: Vec<_> = needed.iter().filter(|(_, silent_for)| *silent_for >= dead_after).collect();
    if silent.len() * 2 >= needed.len() {
        return None;
    }
    silent.into_iter().max_by_key(|(_, silent_for)| *silent_for).map(|(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use annulus_common::ids::{InstanceId, NodeId};
    use annulus_common::map::{MapVersion, Node, NodeState};

    use super::super::leases::Leases;
    use super::super::testing::map_of;
    use super::{LOOK_EVERY, find_dead, was_stopped};

    const AFTER: Duration = Duration::from_secs(600);

    fn silent(numbers: &'static [u8]) -> impl Fn(InstanceId) -> Duration {
        move |instance| if numbers.contains(&instance.0[0]) { AFTER } else { Duration::from_secs(1) }
    }

    #[test]
    fn a_few_silent_nodes_are_dead_and_half_of_them_are_not() {
        let mut map = map_of(vec![(1..=5).map(NodeId).collect()]);
        assert_eq!(find_dead(&map, silent(&[]), AFTER), None);
        assert_eq!(find_dead(&map, silent(&[3]), AFTER), Some(NodeId(3)));
        assert!(find_dead(&map, silent(&[3, 4]), AFTER).is_some());
        assert_eq!(find_dead(&map, silent(&[3, 4, 5]), AFTER), None);
        map.moves.paused = true;
        assert_eq!(find_dead(&map, silent(&[3]), AFTER), None);
    }

    #[test]
    fn a_pause_of_all_machines_is_held_against_nobody() {
        let map = map_of(vec![(1..=3).map(NodeId).collect()]);
        let instance = |number: u8| InstanceId([number; 16]);
        let mut leases = Leases::default();
        let began = Duration::from_secs(100);
        leases.lead(1, began);
        (1..=3).for_each(|number| leases.renew(instance(number), Some(MapVersion(1)), began).unwrap());
        // All stand still for longer than a node may be silent. Two ask as soon as they go on, the third a little later.
        let resumed = began + LOOK_EVERY + 2 * AFTER;
        (1..=2).for_each(|number| leases.renew(instance(number), Some(MapVersion(1)), resumed).unwrap());
        let dead = |leases: &Leases, now| find_dead(&map, |instance| leases.silence(instance, now), AFTER);
        assert_eq!(dead(&leases, resumed), Some(NodeId(3)), "its silence counts the pause");
        assert!(was_stopped(resumed - began, LOOK_EVERY) && !was_stopped(2 * LOOK_EVERY, LOOK_EVERY));
        leases.count_silence_from(resumed);
        assert_eq!(dead(&leases, resumed + LOOK_EVERY), None);
        (1..=2).for_each(|number| leases.renew(instance(number), Some(MapVersion(1)), resumed + AFTER).unwrap());
        assert_eq!(dead(&leases, resumed + AFTER), Some(NodeId(3)), "it never came back");
    }

    #[test]
    fn who_has_nothing_is_not_given_up() {
        let mut map = map_of(vec![[1, 2, 4, 5].map(NodeId).to_vec()]);
        let node = Node { state: NodeState::Spare, ..map.nodes[&NodeId(1)].clone() };
        map.nodes.insert(NodeId(3), node);
        for state in [NodeState::Spare, NodeState::Draining, NodeState::Dead] {
            map.nodes.get_mut(&NodeId(3)).unwrap().state = state;
            assert_eq!(find_dead(&map, silent(&[1]), AFTER), Some(NodeId(1)));
        }
    }

    #[test]
    fn who_leaves_is_given_up_until_the_move_is_over() {
        let mut map = map_of(vec![(1..=5).map(NodeId).collect()]);
        map.nodes.get_mut(&NodeId(3)).unwrap().state = NodeState::Draining;
        assert_eq!(find_dead(&map, silent(&[3]), AFTER), Some(NodeId(3)));
        map.nodes.get_mut(&NodeId(3)).unwrap().state = NodeState::Dead;
        assert_eq!(find_dead(&map, silent(&[3]), AFTER), None);
    }
}
