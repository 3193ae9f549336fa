//! Disks without room: what grows is refused before the log cannot be written any more, what makes room is not.

use annulus_common::condition::Conditions;
use annulus_common::object::{Data, ETag, NewObject, Versioning};
use annulus_common::protocol::metadata::{DeleteOutcome, Deletion, QuotaTerms};

use super::*;

const BUCKET: BucketId = BucketId(1);

pub(super) fn put(bucket: BucketId, shard: ShardId, key: &str) -> Command {
    let object = NewObject {
        owner: UserId([0; 32]),
        size: 3,
        etag: ETag { md5: [1; 16], parts: None },
        checksum: None,
        headers: ObjectHeaders::default(),
        attributes: ObjectAttributes::default(),
        encryption: None,
        data: Data::Inline(Bytes::from_static(b"abc")),
    };
    let path = KeyPath { bucket, shard, key: key.to_owned() };
    let (conditions, quota) = (Conditions::default(), QuotaTerms::default());
    Command::Put { path, versioning: Versioning::Unversioned, conditions, quota, object }
}

fn delete(bucket: BucketId, shard: ShardId, versioning: Versioning) -> Command {
    let (key, conditions) = ("k".to_owned(), Conditions::default());
    let deletion = Deletion { key, version: None, conditions, bypass_governance: false, sequence: None };
    let (owner, deletions) = (UserId([0; 32]), vec![deletion]);
    Command::Delete { bucket, shard, versioning, owner, deletions }
}

/// Carries a command out at whoever leads; every node is asked until one does.
pub(super) async fn at_leader(
    site: &Site,
    node: &StorageNode,
    command: &Command,
    of: (BucketId, ShardId),
) -> Result<MetaReply, Refusal> {
    soon(async {
        loop {
            for addr in &site.seeds {
                let request = RequestId(rand::random());
                let time_ms = site.clock.now_ms();
                let mutation = Mutation { request, since: None, time_ms, command: command.clone(), notice: None };
                let map = map_of(node);
                let partition = map.partition_of_shard(of.0, of.1);
                let request = Request::Mutate { partition, epoch: map.epoch, mutation };
                match site.ask(addr, &request, Bytes::new()).await.0 {
                    Ok(Response::Mutated(applied)) => return Ok(applied.reply),
                    Err(Refusal::NotLeader { .. } | Refusal::NotReady(_)) => {}
                    Err(refusal) => return Err(refusal),
                    Ok(other) => panic!("{other:?}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Puts until the answer is, or is not, that there is no room: what nodes know of each other takes a while.
async fn until_full(site: &Site, node: &StorageNode, shard: ShardId, full: bool) {
    soon(async {
        while (at_leader(site, node, &put(BUCKET, shard, "probe"), (BUCKET, shard)).await == Err(Refusal::Full)) != full
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_takes_what_makes_room_and_nothing_else() {
    let (site, disks, nodes) = form(1).await;
    let shard = ShardId(0);
    let written = at_leader(&site, &nodes[0], &put(BUCKET, shard, "k"), (BUCKET, shard)).await;
    assert!(matches!(written, Ok(MetaReply::Written { .. })), "{written:?}");
    *disks[0].room.lock() = RoomFor::Markers;
    let path = KeyPath { bucket: BUCKET, shard, key: "k".to_owned() };
    let part = Part { id: PartId([1; 16]), number: 1, length: 9, stored: 9, md5: [1; 16], checksum: None };
    let upload = UploadId([1; 16]);
    for growing in [put(BUCKET, shard, "l"), Command::PutPart { path: path.clone(), upload, part, sent: None }] {
        assert_eq!(at_leader(&site, &nodes[0], &growing, (BUCKET, shard)).await, Err(Refusal::Full));
    }
    let aborted = at_leader(&site, &nodes[0], &Command::AbortUpload { path, upload }, (BUCKET, shard)).await;
    assert_eq!(aborted, Ok(MetaReply::NoSuchUpload));
    let deleted = at_leader(&site, &nodes[0], &delete(BUCKET, shard, Versioning::Unversioned), (BUCKET, shard)).await;
    assert_eq!(deleted, Ok(MetaReply::Deleted(vec![DeleteOutcome::Deleted])));
    // Markers are of any number: they end before what makes room does.
    let kept = BucketId(2);
    let marked = at_leader(&site, &nodes[0], &delete(kept, shard, Versioning::Enabled), (kept, shard)).await;
    assert!(matches!(&marked, Ok(MetaReply::Deleted(outcomes)) if matches!(outcomes[..], [DeleteOutcome::Marked(_)])));
    *disks[0].room.lock() = RoomFor::Release;
    for versioning in [Versioning::Enabled, Versioning::Suspended] {
        let refused = at_leader(&site, &nodes[0], &delete(kept, shard, versioning), (kept, shard)).await;
        assert_eq!(refused, Err(Refusal::Full));
    }
    let deleted = at_leader(&site, &nodes[0], &delete(BUCKET, shard, Versioning::Unversioned), (BUCKET, shard)).await;
    assert_eq!(deleted, Ok(MetaReply::Deleted(vec![DeleteOutcome::Deleted])));
    *disks[0].room.lock() = RoomFor::Growth;
    let written = at_leader(&site, &nodes[0], &put(BUCKET, shard, "l"), (BUCKET, shard)).await;
    assert!(matches!(written, Ok(MetaReply::Written { .. })), "{written:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_without_room_stop_growth_where_no_majority_is_left() {
    let (site, disks, nodes) = form(3).await;
    // A shard whose leader is at home on the third node, so that it stays there and only the others can tell it anything.
    let map = map_of(&nodes[0]);
    let group_of = |shard: ShardId| GroupId::from(map.partition_of_shard(BUCKET, shard));
    let is_at_home = |shard: &ShardId| map.replicas(map.partition_of_shard(BUCKET, *shard))[0] == NodeId(3);
    let shard = (0..64).map(ShardId).find(is_at_home).expect("each node is the first of some partition");
    let raft = nodes[2].shared.server().expect("it is ready").raft.clone();
    soon(async {
        while raft.status(group_of(shard)).is_none_or(|status| status.leader != Some(NodeId(3))) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    drop(raft);
    let written = at_leader(&site, &nodes[0], &put(BUCKET, shard, "k"), (BUCKET, shard)).await;
    assert!(matches!(written, Ok(MetaReply::Written { .. })), "{written:?}");
    disks[..2].iter().for_each(|disk| *disk.room.lock() = RoomFor::Release);
    until_full(&site, &nodes[0], shard, true).await;
    let deleted = at_leader(&site, &nodes[0], &delete(BUCKET, shard, Versioning::Unversioned), (BUCKET, shard)).await;
    assert_eq!(deleted, Ok(MetaReply::Deleted(vec![DeleteOutcome::Deleted])));
    // Two of three have room again.
    *disks[1].room.lock() = RoomFor::Growth;
    until_full(&site, &nodes[0], shard, false).await;
}
