//! Multipart uploads: the rules of S3, and what an object out of parts is.

use annulus_common::checksum::{
    ChecksumAlgorithm, ChecksumType, ChecksumValue, combine_composite, combine_full_object, md5,
};
use annulus_common::condition::{Conditions, ETagCondition};
use annulus_common::ids::{PartId, UploadId};
use annulus_common::map::ClusterMap;
use annulus_common::object::{ObjectAttributes, ObjectHeaders, Part, UploadedPart};

use super::{Bench, body_of, bytes_of, checksum_of, expecting};
use crate::client::testing::{Mishap, OWNER};
use crate::object::{
    ChecksumRequest, CompletePart, CompleteUpload, CopyPart, CreateUpload, Expected, ObjectError, ObjectKey,
    PartEncryption, PromisedChecksum, PutPart, UploadPath, Written,
};
use annulus_common::protocol::Refusal;

const MIN: usize = 5 << 20;

impl Bench {
    async fn begin(&self, checksum: Option<(ChecksumAlgorithm, ChecksumType)>) -> UploadId {
        let headers = ObjectHeaders { content_type: Some("a/b".into()), ..ObjectHeaders::default() };
        let attributes = ObjectAttributes::default();
        let create = CreateUpload {
            bucket: &self.bucket,
            key: "k",
            initiator: OWNER,
            owner: OWNER,
            headers,
            attributes,
            checksum,
            encrypt: None,
        };
        self.objects.create_upload(create).await.unwrap().id
    }

    fn path(&self, upload: UploadId) -> UploadPath<'_> {
        UploadPath { bucket: &self.bucket, key: "k", upload }
    }

    /// A part of no announced length that nobody asked to be encrypted.
    fn plain_part(&self, upload: UploadId, number: u16, digest: Expected) -> PutPart<'_> {
        PutPart {
            path: self.path(upload),
            number,
            content_length: None,
            held_back_max: 0,
            digest,
            encryption: PartEncryption::default(),
        }
    }

    async fn put_part(&self, upload: UploadId, number: u16, bytes: &[u8]) -> CompletePart {
        self.put_part_with(upload, number, bytes, ChecksumRequest::Default).await
    }

    async fn put_part_with(
        &self,
        upload: UploadId,
        number: u16,
        bytes: &[u8],
        checksum: ChecksumRequest,
    ) -> CompletePart {
        let put = self.plain_part(upload, number, expecting(checksum));
        let written = self.objects.put_part(put, body_of(bytes)).await.unwrap();
        CompletePart { number, etag: written.etag.to_string(), checksum: written.checksum }
    }

    fn completion(&self, upload: UploadId, parts: &[CompletePart]) -> CompleteUpload<'_> {
        CompleteUpload {
            path: self.path(upload),
            parts: parts.to_vec(),
            conditions: Conditions::default(),
            checksum: None,
            checksum_type: None,
            size: None,
            customer: None,
        }
    }

    async fn complete(&self, upload: UploadId, parts: &[CompletePart]) -> Result<Written, ObjectError> {
        self.objects.complete_upload(self.completion(upload, parts)).await
    }
}

fn multipart_etag(parts: &[&[u8]]) -> String {
    let md5s: Vec<u8> = parts.iter().flat_map(|part| md5(part)).collect();
    format!("{}-{}", hex::encode(md5(&md5s)), parts.len())
}

#[tokio::test]
async fn parts_become_an_object() {
    let bench = Bench::new().await;
    let upload = bench.begin(None).await;
    let (first, second, last) = (bytes_of(MIN), bytes_of(MIN + 1), bytes_of(10));
    bench.put_part(upload, 7, b"replaced").await;
    let parts = [
        bench.put_part(upload, 2, &first).await,
        bench.put_part(upload, 7, &second).await,
        bench.put_part(upload, 9_999, &last).await,
    ];
    bench.put_part(upload, 8, b"not listed").await;
    let page = bench.objects.list_parts(bench.path(upload), 2, 2).await.unwrap();
    assert_eq!(
        (page.parts.iter().map(|part| part.part.number).collect::<Vec<_>>(), page.truncated),
        (vec![7, 8], true)
    );
    let written = bench.complete(upload, &parts).await.unwrap();
    assert_eq!(written.etag.to_string(), multipart_etag(&[&first, &second, &last]));
    let whole = [first, second, last].concat();
    let checksum = written.checksum.unwrap();
    assert_eq!(
        (checksum.algorithm(), checksum.checksum_type()),
        (ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject)
    );
    assert_eq!(checksum.value(), checksum_of(ChecksumAlgorithm::Crc64Nvme, &whole));
    let version = bench.get("k").await.unwrap();
    assert_eq!(version.object.headers.content_type.as_deref(), Some("a/b"));
    assert!(bench.read(&version, 0..whole.len() as u64).await.unwrap() == whole);
    let across = MIN as u64 - 3..2 * MIN as u64 + 5;
    assert!(bench.read(&version, across.clone()).await.unwrap() == whole[across.start as usize..across.end as usize]);
    // Asked again it answers the same; its upload is gone for everything else.
    assert_eq!(bench.complete(upload, &parts).await.unwrap(), written);
    assert!(matches!(bench.objects.list_parts(bench.path(upload), 0, 1).await, Err(ObjectError::NoSuchUpload)));
    bench.put_bytes("k", b"newer").await.unwrap();
    assert!(matches!(bench.complete(upload, &parts).await, Err(ObjectError::NoSuchUpload)));
}

#[tokio::test]
async fn checksums_of_parts_make_those_of_objects() {
    let bench = Bench::new().await;
    let (first, last) = (bytes_of(MIN), bytes_of(77));
    let kinds = [
        (ChecksumAlgorithm::Sha256, ChecksumType::Composite),
        (ChecksumAlgorithm::Crc32, ChecksumType::Composite),
        (ChecksumAlgorithm::Crc32, ChecksumType::FullObject),
        (ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject),
    ];
    for (algorithm, kind) in kinds {
        let upload = bench.begin(Some((algorithm, kind))).await;
        let values = [checksum_of(algorithm, &first), checksum_of(algorithm, &last)];
        let put = |number, bytes, value| bench.put_part_with(upload, number, bytes, ChecksumRequest::Value(value));
        let parts = [put(1, &first, values[0]).await, put(2, &last, values[1]).await];
        assert_eq!(parts.iter().map(|part| part.checksum).collect::<Vec<_>>(), values.map(Some));
        let expected = match kind {
            ChecksumType::Composite => combine_composite(&values).unwrap(),
            ChecksumType::FullObject => {
                combine_full_object(&[(values[0], first.len() as u64), (values[1], last.len() as u64)]).unwrap()
            }
        };
        let complete = |promised: Option<(ChecksumValue, Option<u16>)>, checksum_type| {
            let checksum = promised.map(|(value, parts)| PromisedChecksum { value, parts });
            let completion = bench.completion(upload, &parts);
            bench.objects.complete_upload(CompleteUpload { checksum, checksum_type, ..completion })
        };
        let other = if kind == ChecksumType::Composite { ChecksumType::FullObject } else { ChecksumType::Composite };
        assert!(matches!(complete(None, Some(other)).await, Err(ObjectError::ChecksumTypeMismatch { .. })));
        let said = (kind == ChecksumType::Composite).then_some(2);
        for wrong in [(values[0], said), (expected.value(), Some(3))] {
            assert!(matches!(complete(Some(wrong), None).await, Err(ObjectError::ChecksumMismatch { .. })));
        }
        let written = complete(Some((expected.value(), said)), Some(kind)).await.unwrap();
        let checksum = written.checksum.unwrap();
        assert_eq!((checksum.algorithm(), checksum.checksum_type()), (algorithm, kind));
        assert_eq!(checksum, expected);
        // Asked again, it answers to who says the same of it.
        assert_eq!(complete(Some((expected.value(), None)), None).await.unwrap(), written);
        let wrong = complete(Some((values[0], said)), None).await;
        assert!(matches!(wrong, Err(ObjectError::ChecksumMismatch { .. })));
    }
}

#[tokio::test]
async fn a_composite_checksum_is_of_parts_without_gaps_that_have_one() {
    let bench = Bench::new().await;
    let upload = bench.begin(Some((ChecksumAlgorithm::Crc32, ChecksumType::Composite))).await;
    let (first, last) = (bytes_of(MIN), bytes_of(7));
    let value = |bytes| ChecksumRequest::Value(checksum_of(ChecksumAlgorithm::Crc32, bytes));
    let put = bench.plain_part(upload, 1, Expected::default());
    let refused = bench.objects.put_part(put, body_of(&first)).await;
    assert!(matches!(refused, Err(ObjectError::ChecksumAlgorithmMismatch { actual: None, .. })), "{refused:?}");
    let one = bench.put_part_with(upload, 1, &first, value(&first)).await;
    let two = bench.put_part_with(upload, 2, &last, value(&last)).await;
    let three = bench.put_part_with(upload, 3, &last, value(&last)).await;
    for parts in [vec![two.clone()], vec![one.clone(), three]] {
        assert!(matches!(bench.complete(upload, &parts).await, Err(ObjectError::InvalidPartOrder)), "{parts:?}");
    }
    bench.complete(upload, &[one, two]).await.unwrap();
    // Of all bytes, it needs neither.
    let upload = bench.begin(Some((ChecksumAlgorithm::Crc32, ChecksumType::FullObject))).await;
    let parts = [bench.put_part(upload, 3, &first).await, bench.put_part(upload, 7, &last).await];
    bench.complete(upload, &parts).await.unwrap();
}

#[tokio::test]
async fn a_part_keeps_to_its_uploads_algorithm() {
    let bench = Bench::new().await;
    let upload = bench.begin(Some((ChecksumAlgorithm::Sha1, ChecksumType::Composite))).await;
    let put = |upload, number, checksum| {
        bench.objects.put_part(bench.plain_part(upload, number, expecting(checksum)), body_of(b"x"))
    };
    let value = |algorithm| ChecksumRequest::Value(ChecksumValue::of(algorithm, b"x"));
    let outcome = put(upload, 1, value(ChecksumAlgorithm::Crc32)).await;
    assert!(matches!(outcome, Err(ObjectError::ChecksumAlgorithmMismatch { .. })));
    put(upload, 1, value(ChecksumAlgorithm::Sha1)).await.unwrap();
    let wrong = ChecksumRequest::Value(ChecksumValue::of(ChecksumAlgorithm::Sha1, b"y"));
    assert!(matches!(put(upload, 2, wrong).await, Err(ObjectError::ChecksumMismatch { .. })));
    assert!(matches!(put(upload, 0, ChecksumRequest::Default).await, Err(ObjectError::InvalidPartNumber(0))));
    assert!(matches!(put(upload, 10_001, ChecksumRequest::Default).await, Err(ObjectError::InvalidPartNumber(_))));
    // An upload without an algorithm takes any, answers with it and keeps the default one.
    let free = bench.begin(None).await;
    let written = put(free, 1, value(ChecksumAlgorithm::Crc32)).await.unwrap();
    assert_eq!(written.checksum, Some(ChecksumValue::of(ChecksumAlgorithm::Crc32, b"x")));
    let part = CompletePart { number: 1, etag: written.etag.to_string(), checksum: written.checksum };
    let others =
        [(ChecksumAlgorithm::Crc32, b"y"), (ChecksumAlgorithm::Sha1, b"x"), (ChecksumAlgorithm::Crc64Nvme, b"y")];
    for (algorithm, bytes) in others {
        let wrong = CompletePart { checksum: Some(checksum_of(algorithm, bytes)), ..part.clone() };
        let refused = bench.complete(free, &[wrong]).await;
        assert!(matches!(refused, Err(ObjectError::InvalidPart { number: 1, .. })), "{algorithm:?}: {refused:?}");
    }
    let written = bench.complete(free, &[part]).await.unwrap();
    assert_eq!(written.checksum.unwrap().value(), checksum_of(ChecksumAlgorithm::Crc64Nvme, b"x"));
    let unsupported = CreateUpload {
        bucket: &bench.bucket,
        key: "k",
        initiator: OWNER,
        owner: OWNER,
        headers: ObjectHeaders::default(),
        attributes: ObjectAttributes::default(),
        checksum: Some((ChecksumAlgorithm::Sha256, ChecksumType::FullObject)),
        encrypt: None,
    };
    let outcome = bench.objects.create_upload(unsupported).await;
    assert!(matches!(outcome, Err(ObjectError::ChecksumTypeUnsupported { .. })));
}

#[tokio::test]
async fn the_list_of_parts_is_checked() {
    let bench = Bench::new().await;
    let upload = bench.begin(None).await;
    let small = bench.put_part(upload, 1, b"small").await;
    let last = bench.put_part(upload, 2, b"last").await;
    let complete = async |parts: &[CompletePart]| bench.complete(upload, parts).await.unwrap_err();
    assert!(matches!(complete(&[]).await, ObjectError::InvalidPartCount(0)));
    assert!(matches!(complete(&[last.clone(), small.clone()]).await, ObjectError::InvalidPartOrder));
    assert!(matches!(complete(&[small.clone(), small.clone()]).await, ObjectError::InvalidPartOrder));
    let absent = CompletePart { number: 3, ..last.clone() };
    assert!(matches!(complete(&[last.clone(), absent]).await, ObjectError::InvalidPart { number: 3, .. }));
    let other = CompletePart { etag: "0".repeat(32), ..last.clone() };
    assert!(matches!(complete(&[other]).await, ObjectError::InvalidPart { number: 2, .. }));
    let value = ChecksumValue::of(ChecksumAlgorithm::Crc64Nvme, b"other");
    let other = CompletePart { checksum: Some(value), ..last.clone() };
    assert!(matches!(complete(&[other]).await, ObjectError::InvalidPart { number: 2, .. }));
    let outcome = complete(&[small.clone(), last.clone()]).await;
    assert!(matches!(outcome, ObjectError::EntityTooSmall { number: 1, size: 5, .. }));
    let wrong_size = CompleteUpload { size: Some(5), ..bench.completion(upload, std::slice::from_ref(&last)) };
    let outcome = bench.objects.complete_upload(wrong_size).await;
    assert!(matches!(outcome, Err(ObjectError::SizeMismatch { expected: 5, actual: 4 })));
    let conditions = Conditions { if_match: Some(ETagCondition::Any), ..Conditions::default() };
    let conditional = CompleteUpload { conditions, ..bench.completion(upload, std::slice::from_ref(&last)) };
    assert!(matches!(bench.objects.complete_upload(conditional).await, Err(ObjectError::NoSuchKey)));
    // After all those refusals the upload is still there.
    bench.complete(upload, &[last]).await.unwrap();
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let bench = Bench::new().await;
    let upload = bench.begin(None).await;
    let part = bench.put_part(upload, 1, b"x").await;
    bench.objects.abort_upload(bench.path(upload)).await.unwrap();
    assert!(matches!(bench.objects.abort_upload(bench.path(upload)).await, Err(ObjectError::NoSuchUpload)));
    assert!(matches!(bench.complete(upload, &[part]).await, Err(ObjectError::NoSuchUpload)));
    let put = bench.plain_part(upload, 1, Expected::default());
    assert!(matches!(bench.objects.put_part(put, body_of(b"x")).await, Err(ObjectError::NoSuchUpload)));
    assert!(!bench.exists("k").await);
}

#[tokio::test]
async fn an_uncertain_completion_is_answered() {
    let bench = Bench::new().await;
    let upload = bench.begin(None).await;
    let part = bench.put_part(upload, 1, b"x").await;
    bench.cluster.mishap(Mishap::AnswerLost);
    let written = bench.complete(upload, std::slice::from_ref(&part)).await.unwrap();
    assert_eq!(bench.complete(upload, &[part]).await.unwrap(), written);
    bench.cluster.mishap(Mishap::Refused(Refusal::Uncertain));
    bench.put_bytes("l", b"x").await.unwrap();
}

#[tokio::test]
async fn a_part_is_copied_from_a_range() {
    let bench = Bench::new().await;
    let bytes = bytes_of(6 << 20);
    bench.put_bytes("source", &bytes).await.unwrap();
    let source = bench.get("source").await.unwrap();
    let upload = bench.begin(None).await;
    let copy = |number, range| {
        let (source, source_key) = (&source, &ObjectKey::NONE);
        let encryption = PartEncryption::default();
        bench.objects.copy_part(CopyPart { path: bench.path(upload), number, source, source_key, range, encryption })
    };
    let first = copy(1, None).await.unwrap();
    let second = copy(2, Some(5..4 << 20)).await.unwrap();
    assert!(matches!(copy(3, Some(0..(6 << 20) + 1)).await, Err(ObjectError::InvalidRange { .. })));
    let parts = [(1, first), (2, second)];
    let parts =
        parts.map(|(number, part)| CompletePart { number, etag: part.etag.to_string(), checksum: part.checksum });
    let written = bench.complete(upload, &parts).await.unwrap();
    assert_eq!(written.etag.to_string(), multipart_etag(&[&bytes, &bytes[5..4 << 20]]));
    // Copied whole, it becomes a plain object.
    let version = bench.get("k").await.unwrap();
    let whole = [&bytes[..], &bytes[5..4 << 20]].concat();
    assert!(bench.read(&version, 0..whole.len() as u64).await.unwrap() == whole);
}

#[tokio::test]
async fn ten_thousand_parts_are_an_object() {
    let bench = Bench::new().await;
    let upload = bench.begin(Some((ChecksumAlgorithm::Crc32c, ChecksumType::FullObject))).await;
    let path = ClusterMap::key_path(&bench.bucket, "k");
    let part = |number: u16| Part {
        id: PartId(u128::from(number).to_be_bytes()),
        number,
        length: MIN as u64,
        stored: MIN as u64,
        md5: u128::from(number).to_be_bytes(),
        checksum: Some(u32::from(number).to_be_bytes().to_vec()),
    };
    {
        let mut state = bench.cluster.state.lock();
        let (_, parts) = state.metadata.uploads.get_mut(&((path.bucket, path.shard), path.key, upload)).unwrap();
        parts.extend(
            (1..=10_000).map(|number| (number, UploadedPart { part: part(number), modified_ms: 0, sent: None })),
        );
    }
    let listed: Vec<CompletePart> = (1..=10_000)
        .map(|number| CompletePart { number, etag: hex::encode(part(number).md5), checksum: None })
        .collect();
    let written = bench.complete(upload, &listed).await.unwrap();
    assert_eq!((written.etag.parts, written.size), (Some(10_000), 10_000 * MIN as u64));
    let too_many = [&listed[..], &listed[..1]].concat();
    assert!(matches!(bench.complete(upload, &too_many).await, Err(ObjectError::InvalidPartCount(10_001))));
}
