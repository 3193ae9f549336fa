//! Encrypted objects: what is stored is not what was sent, and what is read is.

use annulus_common::checksum::md5;
use annulus_common::encryption::{EncryptionMode, KmsUse};
use annulus_common::object::{Data, ObjectHeaders, ObjectVersion};
use bytes::Bytes;
use futures::StreamExt;

use super::{Bench, body_of, bytes_of};
use crate::client::testing::OWNER;
use crate::kms::{CustomerKey, KeyError, SecretKey};
use crate::object::crypt::{SEALED_CHUNK_BYTES, SEGMENT_BYTES};
use crate::object::{
    CompletePart, CompleteUpload, CopyPart, CreateUpload, Encrypt, Expected, ObjectError, ObjectKey, PartEncryption,
    PutObject, PutPart, ReadError, ServiceMethod, UploadPath, Written,
};

const MIN: usize = 5 << 20;

fn customer(byte: u8) -> CustomerKey {
    CustomerKey::new(SecretKey::new([byte; 32]), format!("md5 of {byte}"))
}

fn by_kms(key: &str) -> Encrypt {
    Encrypt::Kms(KmsUse { key: key.to_owned(), context: None, bucket_key: false })
}

impl Bench {
    async fn put_encrypted(&self, key: &str, bytes: &[u8], encrypt: Encrypt) -> Result<Written, ObjectError> {
        self.objects.put(PutObject { encrypt: Some(encrypt), ..self.put(key) }, body_of(bytes)).await
    }

    async fn read_with(
        &self,
        version: &ObjectVersion,
        range: std::ops::Range<u64>,
        key: Option<&CustomerKey>,
    ) -> Result<Vec<u8>, ObjectError> {
        let key = self.objects.unlock(&self.bucket, version, key).await?;
        let mut stream = self.objects.read(version, range, &key).await?;
        let mut bytes = Vec::new();
        while let Some(frame) = stream.next().await {
            bytes.extend_from_slice(&frame?);
        }
        Ok(bytes)
    }
}

#[tokio::test]
async fn every_length_and_range_is_read_back() {
    let bench = Bench::new().await;
    let (segment, chunk) = (SEGMENT_BYTES as usize, SEALED_CHUNK_BYTES as usize);
    for length in [0, 1, 16 << 10, (16 << 10) + 1, segment, segment + 1, chunk - 1, chunk, chunk + 1, 2 * chunk + 7] {
        let bytes = bytes_of(length);
        let written = bench.put_encrypted("k", &bytes, Encrypt::S3).await.unwrap();
        assert_eq!(written.etag.to_string(), hex::encode(md5(&bytes)), "SSE-S3 keeps the MD5");
        let version = bench.get("k").await.unwrap();
        assert_eq!(version.object.size, length as u64);
        for (from, to) in
            [(0, length), (length / 3, length / 2), (length.saturating_sub(1), length), (segment, chunk + 1)]
        {
            let (from, to) = (from.min(length), to.min(length));
            let read = bench.read_with(&version, from as u64..to as u64, None).await.unwrap();
            assert!(read == bytes[from..to], "{from}..{to} of {length}");
        }
    }
}

#[tokio::test]
async fn nothing_that_is_stored_is_what_was_sent() {
    let bench = Bench::new().await;
    for (key, bytes) in [("inline", vec![b'A'; 5_000]), ("chunks", vec![b'A'; 5 << 20])] {
        bench.put_encrypted(key, &bytes, Encrypt::Customer(customer(1))).await.unwrap();
        let version = bench.get(key).await.unwrap();
        assert_ne!(version.object.etag.to_string(), hex::encode(md5(&bytes)), "the MD5 would tell what it is");
        if let Data::Inline(stored) = &version.object.data {
            assert!(!stored.windows(8).any(|window| window == b"AAAAAAAA"));
        }
    }
    let state = bench.cluster.state.lock();
    let stored: Vec<_> = state.chunks.values().flat_map(|chunks| chunks.values()).collect();
    assert!(!stored.is_empty());
    assert!(!stored.iter().any(|chunk| chunk.windows(8).any(|window| window == b"AAAAAAAA")));
}

#[tokio::test]
async fn a_client_s_key_opens_its_objects_alone() {
    let bench = Bench::new().await;
    for length in [100, 100_000] {
        let bytes = bytes_of(length);
        bench.put_encrypted("k", &bytes, Encrypt::Customer(customer(1))).await.unwrap();
        let version = bench.get("k").await.unwrap();
        assert!(bench.read_with(&version, 0..length as u64, Some(&customer(1))).await.unwrap() == bytes);
        let unlock = async |key: Option<&CustomerKey>| bench.objects.unlock(&bench.bucket, &version, key).await;
        assert!(matches!(unlock(None).await, Err(ObjectError::KeyRequired)));
        assert!(matches!(unlock(Some(&customer(2))).await, Err(ObjectError::KeyMismatch)));
        let check = bench.objects.check_key(&bench.bucket, &version, None).await;
        assert!(matches!(check, Err(ObjectError::KeyRequired)));
    }
    bench.put_bytes("plain", b"x").await.unwrap();
    bench.put_encrypted("s3", b"x", Encrypt::S3).await.unwrap();
    for key in ["plain", "s3"] {
        let version = bench.get(key).await.unwrap();
        let outcome = bench.objects.check_key(&bench.bucket, &version, Some(&customer(1))).await;
        assert!(matches!(outcome, Err(ObjectError::KeyNotApplicable)), "{key}");
    }
}

#[tokio::test]
async fn an_object_does_not_open_where_it_was_not_put() {
    let bench = Bench::new().await;
    let other = bench.objects.create_bucket("other", OWNER, Default::default()).await.unwrap();
    bench.put_encrypted("k", b"hello", Encrypt::S3).await.unwrap();
    let version = bench.get("k").await.unwrap();
    let outcome = bench.objects.unlock(&other, &version, None).await;
    assert!(matches!(outcome, Err(ObjectError::Key(KeyError::Damaged))));
}

#[tokio::test]
async fn what_somebody_changed_is_not_served() {
    let bench = Bench::new().await;
    bench.put_encrypted("inline", b"hello", Encrypt::S3).await.unwrap();
    let mut version = bench.get("inline").await.unwrap();
    let Data::Inline(stored) = &version.object.data else { panic!("a small object lies inline") };
    let mut stored = stored.to_vec();
    stored[0] ^= 1;
    version.object.data = Data::Inline(Bytes::from(stored));
    let outcome = bench.read_with(&version, 0..5, None).await;
    assert!(matches!(outcome, Err(ObjectError::Unreadable(ReadError::RecordTampered))), "{outcome:?}");
    // A part that is shorter in its record than it was: its last segment does not say that it is the last.
    bench.put_encrypted("chunks", &bytes_of(3 * SEGMENT_BYTES as usize), Encrypt::S3).await.unwrap();
    let mut version = bench.get("chunks").await.unwrap();
    let Data::Parts(parts) = &mut version.object.data else { panic!("it lies in chunks") };
    parts[0].id.0[15] ^= 1;
    let outcome = bench.read_with(&version, 0..5, None).await;
    assert!(matches!(outcome, Err(ObjectError::Unreadable(_))), "{outcome:?}");
}

#[tokio::test]
async fn the_key_service_has_its_say() {
    let bench = Bench::new().await;
    let outcome = bench.put_encrypted("k", b"x", by_kms("absent")).await;
    assert!(matches!(outcome, Err(ObjectError::Key(KeyError::NotFound(_)))));
    assert!(!bench.exists("k").await);
}

#[tokio::test]
async fn an_upload_has_one_key_and_its_parts_one_each() {
    let bench = Bench::new().await;
    let (bucket, key, other) = (&bench.bucket, customer(1), customer(2));
    let create = CreateUpload {
        bucket,
        key: "k",
        initiator: OWNER,
        owner: OWNER,
        headers: ObjectHeaders::default(),
        attributes: Default::default(),
        checksum: None,
        encrypt: Some(Encrypt::Customer(key.clone())),
    };
    let path = UploadPath { bucket, key: "k", upload: bench.objects.create_upload(create).await.unwrap().id };
    let put = |number, customer| PutPart {
        path,
        number,
        content_length: None,
        held_back_max: 0,
        digest: Expected::default(),
        encryption: PartEncryption { customer, by_service: None },
    };
    let bytes = bytes_of(2 * MIN + 10);
    let refused = bench.objects.put_part(put(1, None), body_of(&bytes[..MIN])).await;
    assert!(matches!(refused, Err(ObjectError::UploadKeyRequired)));
    let refused = bench.objects.put_part(put(1, Some(&other)), body_of(&bytes[..MIN])).await;
    assert!(matches!(refused, Err(ObjectError::KeyMismatch)));
    let first = bench.objects.put_part(put(1, Some(&key)), body_of(&bytes[..MIN])).await.unwrap();
    let again = bench.objects.put_part(put(1, Some(&key)), body_of(&bytes[..MIN])).await.unwrap();
    assert_eq!(first.etag, again.etag, "the same part again has the same tag");
    // The other part is a copy out of an object with another key.
    bench.put_encrypted("source", &bytes, Encrypt::S3).await.unwrap();
    let source = bench.get("source").await.unwrap();
    let source_key: ObjectKey = bench.objects.unlock(bucket, &source, None).await.unwrap();
    let copy = CopyPart {
        path,
        number: 2,
        source: &source,
        source_key: &source_key,
        range: Some(MIN as u64..bytes.len() as u64),
        encryption: PartEncryption { customer: Some(&key), by_service: None },
    };
    let second = bench.objects.copy_part(copy).await.unwrap();
    let listed = |(number, etag): (u16, &annulus_common::object::ETag)| CompletePart {
        number,
        etag: etag.to_string(),
        checksum: None,
    };
    let complete = |customer| CompleteUpload {
        path,
        parts: [(1, &first.etag), (2, &second.etag)].map(listed).to_vec(),
        conditions: Default::default(),
        checksum: None,
        checksum_type: None,
        size: None,
        customer,
    };
    let refused = bench.objects.complete_upload(complete(Some(&other))).await;
    assert!(matches!(refused, Err(ObjectError::KeyMismatch)));
    let refused = bench.objects.complete_upload(complete(None)).await;
    assert!(matches!(refused, Err(ObjectError::UploadKeyRequired)));
    bench.objects.complete_upload(complete(Some(&key))).await.unwrap();
    let version = bench.get("k").await.unwrap();
    assert_eq!(version.object.size, bytes.len() as u64);
    for range in [0..bytes.len(), MIN - 1..MIN + 1, MIN - 70_000..MIN + 70_000] {
        let read = bench.read_with(&version, range.start as u64..range.end as u64, Some(&key)).await.unwrap();
        assert!(read == bytes[range]);
    }
}

#[tokio::test]
async fn a_part_that_is_believed_encrypted_is_not_stored_plain() {
    let bench = Bench::new().await;
    let create = || CreateUpload {
        bucket: &bench.bucket,
        key: "k",
        initiator: OWNER,
        owner: OWNER,
        headers: ObjectHeaders::default(),
        attributes: Default::default(),
        checksum: None,
        encrypt: None,
    };
    let plain = bench.objects.create_upload(CreateUpload { encrypt: None, ..create() }).await.unwrap().id;
    let sealed = bench.objects.create_upload(CreateUpload { encrypt: Some(Encrypt::S3), ..create() }).await.unwrap().id;
    let put = async |upload, by_service| {
        let put = PutPart {
            path: UploadPath { bucket: &bench.bucket, key: "k", upload },
            number: 1,
            content_length: None,
            held_back_max: 0,
            digest: Expected::default(),
            encryption: PartEncryption { customer: None, by_service: Some(by_service) },
        };
        bench.objects.put_part(put, body_of(b"x")).await
    };
    for method in [ServiceMethod::S3, ServiceMethod::Kms] {
        assert!(matches!(put(plain, method).await, Err(ObjectError::UploadNotEncrypted)));
    }
    assert!(matches!(put(sealed, ServiceMethod::Kms).await, Err(ObjectError::KeyMismatch)));
    assert_eq!(put(sealed, ServiceMethod::S3).await.unwrap().encryption, Some(EncryptionMode::S3));
}
