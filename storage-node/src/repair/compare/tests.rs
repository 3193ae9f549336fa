//! What is compared with whom, in which order, and how a stretch of the ring is cut.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::Digest;
use annulus_common::ids::{NodeId, PartitionId};
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use super::{Difference, ListedChunk, Survey, Urgency, by_copies, cut, shared_with};
use crate::repair::tests::{OWNER, chunk_of, leaving, map_of};

fn digest(chunks: u64) -> Digest {
    Digest { chunks, bytes: chunks * 10, sum: chunks }
}

#[test]
fn everyone_who_holds_or_held_a_partition_is_compared_with() {
    let mut map = map_of(4, &[&[1, 2], &[2, 3], &[3, 1]]);
    map.moves.partitions.insert(PartitionId(2), leaving(4));
    let shared = shared_with(&map, NodeId(1));
    let expected = [(2, vec![0]), (3, vec![2]), (4, vec![2])];
    let expected = expected.map(|(node, at)| (NodeId(node), at.into_iter().map(PartitionId).collect()));
    assert_eq!(shared, BTreeMap::from(expected));
    assert!(!shared_with(&map, NodeId(4)).contains_key(&NodeId(1)), "who leaves fetches nothing");
}

#[test]
fn the_most_endangered_partition_comes_first() {
    let map = Arc::new(map_of(3, &[&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]]));
    let answers = |of: [u64; 2]| vec![(NodeId(2), digest(of[0])), (NodeId(3), digest(of[1]))];
    let survey = Survey {
        map,
        began: Duration::ZERO,
        took: Duration::ZERO,
        mine: [(0, 4), (1, 4), (2, 1)].map(|(at, chunks)| (PartitionId(at), digest(chunks))).into(),
        theirs: [(0, [5, 5]), (1, [5, 0]), (2, [9, 9])].map(|(at, of)| (PartitionId(at), answers(of))).into(),
        incomplete: false,
    };
    let mut differences: Vec<Difference> = survey
        .pairs()
        .filter(|(_, other, ..)| *other == NodeId(2))
        .map(|(partition, other, mine, theirs)| Difference { partition, other, mine, theirs })
        .collect();
    survey.sort_by_danger(&mut differences);
    // Of 1 there is one good copy, of the others two; 2 lacks more than 0.
    assert_eq!(differences.iter().map(|at| at.partition.0).collect::<Vec<_>>(), [1, 2, 0]);
    assert_eq!(differences[1].estimate().chunks, 8);
}

#[test]
fn last_copies_are_looked_for_where_no_other_node_has_the_same() {
    let map = Arc::new(map_of(3, &[&[1, 2, 3], &[1, 2, 3]]));
    let answers = |of: [u64; 2]| vec![(NodeId(2), digest(of[0])), (NodeId(3), digest(of[1]))];
    let survey = Survey {
        map,
        began: Duration::ZERO,
        took: Duration::ZERO,
        mine: BTreeMap::new(),
        theirs: [(0, [5, 5]), (1, [5, 4])].map(|(at, of)| (PartitionId(at), answers(of))).into(),
        incomplete: false,
    };
    let differences =
        survey.pairs().map(|(partition, other, mine, theirs)| Difference { partition, other, mine, theirs });
    let alone: Vec<bool> = differences.map(|difference| survey.may_have_last_copies(&difference)).collect();
    assert_eq!(alone, [false, false, true, true]);
    // Nobody else should have what the only holder has.
    let single = Survey { map: Arc::new(map_of(2, &[&[2], &[2]])), ..survey };
    let difference = Difference { partition: PartitionId(1), other: NodeId(2), mine: digest(0), theirs: digest(5) };
    assert!(!single.may_have_last_copies(&difference));
}

#[test]
fn what_nobody_else_has_comes_first_and_is_urgent() {
    let map = map_of(3, &[&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]]);
    let chunks: Vec<ListedChunk> =
        (0..3).map(|at| ListedChunk { id: chunk_of(&map, at), owner: OWNER, length: 1, sum: 0 }).collect();
    let order = |others: &[Vec<bool>]| -> Vec<(Urgency, u32)> {
        let ordered = by_copies(chunks.clone(), others).into_iter();
        ordered.map(|(urgency, chunk)| (urgency, map.partition_of_chunk(chunk.id).0)).collect()
    };
    let (usual, last) = (Urgency::Usual, Urgency::LastCopy);
    assert_eq!(order(&[vec![true, false, true]]), [(last, 1), (usual, 0), (usual, 2)]);
    assert_eq!(order(&[vec![true, false, false], vec![false, true, false]]), [(last, 2), (usual, 0), (usual, 1)]);
    assert_eq!(order(&[]), [(last, 0), (last, 1), (last, 2)], "who does not answer has nothing");
}

proptest! {
    #[test]
    fn the_parts_of_a_stretch_are_the_stretch(one: u64, other: u64) {
        let stretch = one.min(other)..=one.max(other);
        let parts = cut(&stretch);
        prop_assert!(parts.len() <= 16);
        prop_assert_eq!(parts[0].start(), stretch.start());
        prop_assert_eq!(parts.last().unwrap().end(), stretch.end());
        for pair in parts.windows(2) {
            prop_assert_eq!(pair[0].end() + 1, *pair[1].start());
        }
    }
}

#[test]
fn a_whole_ring_and_a_single_position_can_be_cut() {
    assert_eq!(cut(&(0..=u64::MAX)).len(), 16);
    assert_eq!(cut(&(7..=7)), [7..=7]);
}
