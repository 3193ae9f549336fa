//! Objects put, read, copied and deleted whole.

use annulus_common::checksum::{ChecksumAlgorithm, ChecksumType, md5};
use annulus_common::condition::{Conditions, ETagCondition};
use annulus_common::object::{Data, ObjectAttributes, ObjectHeaders};
use annulus_common::protocol::Request;
use annulus_common::protocol::metadata::Deletion;

use super::{Bench, body_of, broken_body, bytes_of, checksum_of, deletion, expecting};
use crate::client::testing::{Fault, OWNER};
use crate::object::{
    BODY_BYTES_MAX, BodyError, ChecksumRequest, CopyObject, Deleted, Expected, ObjectError, ObjectKey, PutObject,
    ReadError,
};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn what_was_put_is_read() {
    let bench = Bench::new().await;
    for length in [0, 1, 16 << 10, (16 << 10) + 1, 4 * MIB, 4 * MIB + 1, 21 * MIB + 7] {
        let bytes = bytes_of(length);
        let written = bench.put_bytes("k", &bytes).await.unwrap();
        let version = bench.get("k").await.unwrap();
        assert_eq!((written.size, version.object.size), (length as u64, length as u64));
        assert_eq!(version.object.etag.to_string(), hex::encode(md5(&bytes)));
        let checksum = version.object.checksum.unwrap();
        assert_eq!(
            (checksum.algorithm(), checksum.checksum_type()),
            (ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject)
        );
        assert_eq!(checksum.value(), checksum_of(ChecksumAlgorithm::Crc64Nvme, &bytes));
        assert_eq!(matches!(version.object.data, Data::Inline(_)), length <= 16 << 10);
        let read = bench.read(&version, 0..length as u64).await.unwrap();
        assert!(read == bytes, "{length} bytes come back as they were");
        for range in [0..length / 2, length / 3..length, length.saturating_sub(1)..length] {
            let read = bench.read(&version, range.start as u64..range.end as u64).await.unwrap();
            assert!(read == bytes[range.clone()], "{range:?} of {length}");
        }
        assert!(matches!(bench.read(&version, 0..length as u64 + 1).await, Err(ObjectError::InvalidRange { .. })));
    }
}

#[tokio::test]
async fn small_objects_write_no_chunk() {
    let bench = Bench::new().await;
    bench.put_bytes("k", &bytes_of(16 << 10)).await.unwrap();
    assert_eq!(bench.cluster.requests(|request| matches!(request, Request::PutChunk { .. })), 0);
}

#[tokio::test]
async fn a_put_goes_on_with_one_node_of_three_dead() {
    let bench = Bench::new().await;
    bench.cluster.fail(2, Fault::Down);
    // The metadata of partitions that the dead node led moves to another one.
    let map = bench.objects.client().watch().latest();
    for partition in 0..map.partitions() {
        let partition = annulus_common::ids::PartitionId(partition);
        let leader = map.replicas(partition).iter().find(|node| node.0 != 2).copied().unwrap();
        bench.cluster.state.lock().leaders.insert(partition, leader);
    }
    let bytes = bytes_of(9 * MIB);
    bench.put_bytes("k", &bytes).await.unwrap();
    let version = bench.get("k").await.unwrap();
    assert!(bench.read(&version, 0..bytes.len() as u64).await.unwrap() == bytes);
}

#[tokio::test]
async fn promises_are_compared_before_anything_is_named() {
    let bench = Bench::new().await;
    let bytes = bytes_of(5 * MIB);
    let right = checksum_of(ChecksumAlgorithm::Sha256, &bytes);
    let wrong = checksum_of(ChecksumAlgorithm::Sha256, b"other");
    let trailer =
        |value| ChecksumRequest::Trailer { algorithm: ChecksumAlgorithm::Sha256, read: Box::new(move || value) };
    let refused = [
        (Expected { md5: Some([0; 16]), checksum: ChecksumRequest::Default }, "md5"),
        (expecting(ChecksumRequest::Value(wrong)), "value"),
        (expecting(trailer(Ok(Some(wrong)))), "trailer"),
        (expecting(trailer(Ok(None))), "no trailer"),
        (expecting(trailer(Ok(Some(checksum_of(ChecksumAlgorithm::Crc32, &bytes))))), "another trailer"),
    ];
    for (digest, what) in refused {
        let error = bench.objects.put(PutObject { digest, ..bench.put("k") }, body_of(&bytes)).await.unwrap_err();
        let fits = match what {
            "md5" => matches!(error, ObjectError::BadDigest { .. }),
            "value" | "trailer" => {
                matches!(error, ObjectError::ChecksumMismatch { algorithm: ChecksumAlgorithm::Sha256 })
            }
            _ => matches!(error, ObjectError::Body(BodyError::Malformed)),
        };
        assert!(fits, "{what}: {error:?}");
        assert!(!bench.exists("k").await, "{what}");
    }
    let kept = [
        Expected { md5: Some(md5(&bytes)), checksum: ChecksumRequest::Compute(ChecksumAlgorithm::Sha256) },
        expecting(ChecksumRequest::Value(right)),
        expecting(trailer(Ok(Some(right)))),
    ];
    for digest in kept {
        let written = bench.objects.put(PutObject { digest, ..bench.put("k") }, body_of(&bytes)).await.unwrap();
        assert_eq!(written.checksum.unwrap().value(), right);
    }
}

#[tokio::test]
async fn a_body_that_fails_stores_nothing() {
    let bench = Bench::new().await;
    let bytes = bytes_of(5 * MIB);
    for error in
        [BodyError::Disconnected, BodyError::Truncated, BodyError::SignatureMismatch, BodyError::Sha256Mismatch]
    {
        let outcome = bench.objects.put(bench.put("k"), broken_body(&bytes, error)).await;
        assert!(matches!(outcome, Err(ObjectError::Body(found)) if found == error));
        assert!(!bench.exists("k").await);
    }
}

#[tokio::test]
async fn the_announced_length_is_kept_to() {
    let bench = Bench::new().await;
    for (announced, length) in
        [(0, 1), (1, 0), (10, 9), (5 << 20, (5 << 20) - 1), (5 << 20, (5 << 20) + 1), (5, 5 << 20)]
    {
        let put = PutObject { content_length: Some(announced), ..bench.put("k") };
        let outcome = bench.objects.put(put, body_of(&bytes_of(length))).await;
        assert!(matches!(outcome, Err(ObjectError::IncompleteBody { expected, .. }) if expected == announced));
    }
    let put = PutObject { content_length: Some(5 << 20), ..bench.put("k") };
    assert_eq!(bench.objects.put(put, body_of(&bytes_of(5 << 20))).await.unwrap().size, 5 << 20);
    let put = PutObject { content_length: Some(BODY_BYTES_MAX + 1), ..bench.put("k") };
    assert!(matches!(bench.objects.put(put, body_of(b"")).await, Err(ObjectError::EntityTooLarge { .. })));
}

#[tokio::test]
async fn keys_have_a_length() {
    let bench = Bench::new().await;
    for key in [String::new(), "k".repeat(1_025)] {
        assert!(matches!(bench.put_bytes(&key, b"x").await, Err(ObjectError::InvalidKey { .. })));
        assert!(matches!(bench.get(&key).await, Err(ObjectError::InvalidKey { .. })));
    }
    bench.put_bytes(&"k".repeat(1_024), b"x").await.unwrap();
}

#[tokio::test]
async fn conditions_are_judged_where_the_object_is() {
    let bench = Bench::new().await;
    let conditions = |if_match, if_none_match| Conditions { if_match, if_none_match, ..Conditions::default() };
    let put = |conditions| bench.objects.put(PutObject { conditions, ..bench.put("k") }, body_of(b"x"));
    assert!(matches!(put(conditions(Some(ETagCondition::Any), None)).await, Err(ObjectError::NoSuchKey)));
    let written = put(conditions(None, Some(ETagCondition::Any))).await.unwrap();
    assert!(matches!(put(conditions(None, Some(ETagCondition::Any))).await, Err(ObjectError::PreconditionFailed)));
    put(conditions(Some(ETagCondition::OneOf(vec![written.etag.to_string()])), None)).await.unwrap();
    let other = conditions(Some(ETagCondition::OneOf(vec!["other".into()])), None);
    let delete = |conditions| bench.delete(Deletion { conditions, ..deletion("k", None) });
    let outcome = delete(other).await;
    assert!(matches!(outcome, Err(ObjectError::PreconditionFailed)));
    delete(conditions(Some(ETagCondition::Any), None)).await.unwrap();
    assert!(!bench.exists("k").await);
}

#[tokio::test]
async fn many_are_deleted_each_for_itself() {
    let bench = Bench::new().await;
    let keys: Vec<String> = (0..200).map(|number| format!("{number}-{}", "x".repeat(900))).collect();
    for key in &keys {
        bench.put_bytes(key, b"x").await.unwrap();
    }
    let wrong = Conditions { if_match: Some(ETagCondition::OneOf(vec!["no".into()])), ..Conditions::default() };
    let mut asked: Vec<_> = keys.iter().map(|key| deletion(key, None)).collect();
    asked[3].conditions = wrong;
    asked[5].key = String::new();
    asked.push(deletion("never was", None));
    let outcomes = bench.objects.delete_many(bench.deletions(asked)).await;
    for (place, outcome) in outcomes.iter().enumerate() {
        match place {
            3 => assert!(matches!(outcome, Err(ObjectError::PreconditionFailed))),
            5 => assert!(matches!(outcome, Err(ObjectError::InvalidKey { .. }))),
            _ => assert!(outcome.is_ok(), "{place}: {outcome:?}"),
        }
    }
    for (place, key) in keys.iter().enumerate() {
        assert_eq!(bench.exists(key).await, place == 3 || place == 5);
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_an_error_at_once() {
    let bench = Bench::new().await;
    let bytes = bytes_of(9 * MIB);
    bench.put_bytes("k", &bytes).await.unwrap();
    let version = bench.get("k").await.unwrap();
    bench.cluster.wait_until(|state| state.chunks.values().map(|chunks| chunks.len()).sum::<usize>() == 9).await;
    bench.cluster.state.lock().chunks.values_mut().for_each(|chunks| chunks.retain(|id, _| id.index == 0));
    // The second chunk is lost: the stream breaks off with an error, and the first one is right.
    let outcome = bench.read(&version, 0..9 << 20).await;
    assert!(matches!(outcome, Err(ObjectError::Unreadable(ReadError::Lost(id))) if id.index == 1));
    let outcome = bench.objects.read(&version, 4 << 20..5 << 20, &ObjectKey::NONE).await.err();
    assert!(matches!(outcome, Some(ObjectError::Unreadable(ReadError::Lost(_)))));
    assert!(bench.read(&version, 5..1 << 20).await.unwrap() == bytes[5..MIB]);
}

#[tokio::test]
async fn a_copy_is_an_object_of_its_own() {
    let bench = Bench::new().await;
    let bytes = bytes_of(5 * MIB);
    let headers = ObjectHeaders { content_type: Some("a/b".into()), ..ObjectHeaders::default() };
    let digest = expecting(ChecksumRequest::Compute(ChecksumAlgorithm::Crc32c));
    bench.objects.put(PutObject { headers, digest, ..bench.put("k") }, body_of(&bytes)).await.unwrap();
    let source = bench.get("k").await.unwrap();
    let copy = |key, headers, checksum| {
        let conditions = Conditions::default();
        bench.objects.copy(CopyObject {
            source: &source,
            source_key: &ObjectKey::NONE,
            bucket: &bench.bucket,
            key,
            owner: OWNER,
            headers,
            attributes: ObjectAttributes::default(),
            conditions,
            checksum,
            encrypt: None,
            request: None,
        })
    };
    let written = copy("same", None, None).await.unwrap();
    assert_eq!(written.checksum.unwrap().value(), checksum_of(ChecksumAlgorithm::Crc32c, &bytes));
    let written = copy("other", Some(ObjectHeaders::default()), Some(ChecksumAlgorithm::Sha1)).await.unwrap();
    assert_eq!(written.checksum.unwrap().algorithm(), ChecksumAlgorithm::Sha1);
    bench.delete(deletion("k", None)).await.unwrap();
    let (same, other) = (bench.get("same").await.unwrap(), bench.get("other").await.unwrap());
    assert_eq!(same.object.headers.content_type.as_deref(), Some("a/b"));
    assert_eq!(other.object.headers.content_type, None);
    assert_ne!(same.object.data, source.object.data, "no chunk is shared");
    assert!(bench.read(&same, 0..5 << 20).await.unwrap() == bytes);
}

#[tokio::test]
async fn deletions_that_are_put_off_are_asked_for_again() {
    let bench = Bench::new().await;
    // More than there are shards: some share one.
    let keys: Vec<String> = (0..50).map(|number| format!("k{number}")).collect();
    for key in &keys {
        bench.put_bytes(key, b"x").await.unwrap();
    }
    bench.cluster.state.lock().metadata.deletions_max = Some(1);
    let deletions: Vec<_> = keys.iter().map(|key| deletion(key, None)).collect();
    let outcomes = bench.objects.delete_many(bench.deletions(deletions)).await;
    assert_eq!(outcomes.len(), keys.len());
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Deleted::Gone))), "{outcomes:?}");
    for key in &keys {
        assert!(!bench.exists(key).await, "{key}");
    }
}
