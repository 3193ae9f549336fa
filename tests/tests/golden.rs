//! The bytes that are stored and sent, pinned: nodes of this version and of the next one read each other's.
//!
//! Every record is made by the code that makes it in a node, and compared with a file of `golden/`, one record a line:
//! where it lies, its key and its value in hexadecimal. FORMATS.md draws them. When a test fails, a new version is due;
//! only before the first release may the files be made anew, with `ANNULUS_BLESS=1`. Frames, Raft's mail and the header of
//! a chunk are pinned where they are made.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::acl::{BucketAcl, Grant, Grantee, ObjectAcl, Permission};
use annulus_common::checksum::{ChecksumAlgorithm, ChecksumType, ChecksumValue, ETag, ObjectChecksum};
use annulus_common::chunk::{ChunkOwner, Digest, piece_crcs};
use annulus_common::clock::ManualClock;
use annulus_common::condition::{Conditions, ETagCondition};
use annulus_common::cors::{Cors, CorsMethod, CorsRule};
use annulus_common::encryption::{BucketEncryption, DefaultEncryption, Encryption, EncryptionMode, KmsUse, WrappedKey};
use annulus_common::iam::{
    EntityKey, FoldedName, Group, Iam, ManagedPolicy, Policies, PolicyVersion, Profile, Role, User as IamUser,
};
use annulus_common::ids::{
    BucketId, ChunkId, ClusterId, Epoch, GroupId, InstanceId, NodeId, PartId, PartitionId, RequestId, ShardId, UploadId,
};
use annulus_common::lifecycle::{Expiration, Filter, FilterForm, Lifecycle, NoncurrentExpiration, Rule};
use annulus_common::logging::{BucketLogging, LogDate, LogKeyFormat};
use annulus_common::map::change::{MapChange, MapEntry, MapRefusal, MapReply};
use annulus_common::map::size::SizeLimit;
use annulus_common::map::{
    AccessKey, Bucket, BucketConfig, BucketState, ClusterMap, KmsKey, KmsKeyVersion, LayoutChange, LayoutStep,
    MapVersion, MasterKeyId, Move, Moves, Node, NodeProfile, NodeState, User,
};
use annulus_common::notification::{
    Cause, Destination, EventId, EventName, Means, Notice, Notification, Rule as TellingRule,
};
use annulus_common::object::{
    AttributeChange, Data, DefaultRetention, KeyPath, NewObject, ObjectAttributes, ObjectHeaders, ObjectLock, Part,
    Retention, RetentionMode, RetentionPeriod, Upload, UserId, VersionId, Versioning,
};
use annulus_common::ownership::ObjectOwnership;
use annulus_common::policy::{BucketPolicy, IdentityPolicy, PublicAccessBlock, TrustPolicy, Whom};
use annulus_common::protocol::metadata::{
    AllowanceChange, Applied, Aside, BooksEntry, Command, DeleteOutcome, Deletion, Garbage, MetaReply, Mutation,
    OutboxChange, Query, QueryReply, QuotaReply, QuotaTerms, Serial, parts_fingerprint,
};
use annulus_common::protocol::outbox::WaitingOutbox;
use annulus_common::protocol::repair::VerifiedChunks;
use annulus_common::protocol::room::RoomFor;
use annulus_common::protocol::{
    Answer, ListedChunk, MapUpdate, MoveProgress, PartitionUsage, Progress, Purpose, Refusal, Request, Response, encode,
};
use annulus_common::tags::Tags;
use annulus_common::usage::{Payer, PayerKind, Quota, Usage};
use annulus_common::website::{Condition, Pages, Protocol, Redirect, Replace, RoutingRule, Website};
use annulus_storage_node::chunk::files::memory::MemoryFiles;
use annulus_storage_node::chunk::files::{ExtentFiles, PAGE_BYTES};
use annulus_storage_node::chunk::{Alarms, ChunkStore, Execution};
use annulus_storage_node::cluster::membership::Membership;
use annulus_storage_node::cluster::records::{self, Done};
use annulus_storage_node::kv::identity::NodeIdentity;
use annulus_storage_node::kv::memory::MemoryKv;
use annulus_storage_node::kv::{Batch, Durability, Kv, KvRead, Table};
use annulus_storage_node::metadata::{Partition, encode_command};
use annulus_storage_node::raft::StateMachine;
use annulus_storage_node::repair::hints::HintStore;
use bytes::Bytes;

const TIME_MS: u64 = 1_700_000_000_000;

const TABLES: [Table; 6] = [Table::System, Table::Log, Table::Meta, Table::ChunkIndex, Table::Extent, Table::Hint];

/// Compares with what is pinned.
fn check(name: &str, lines: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("ANNULUS_BLESS").is_some() {
        std::fs::write(&path, lines).expect("a golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("a golden file can be read");
    for (number, (is, was)) in lines.lines().zip(golden.lines()).enumerate() {
        assert_eq!(is, was, "{name}, line {}", number + 1);
    }
    assert_eq!(lines.lines().count(), golden.lines().count(), "{name}: the number of records");
}

/// All that a database holds.
fn dump(kv: &MemoryKv) -> String {
    let mut lines = String::new();
    for table in TABLES {
        let mut cursor = kv.cursor(table, &[], &[0xff; 64]).expect("memory can be read");
        cursor.seek(&[]).expect("memory can be read");
        while let Some((key, value)) = cursor.entry() {
            writeln!(lines, "{table:?} {} {}", hex::encode(key), hex::encode(value)).expect("a string takes anything");
            cursor.next().expect("memory can be read");
        }
    }
    lines
}

/// All that is in extents, without the pages' zeros.
fn dump_files(files: &dyn ExtentFiles) -> String {
    let mut lines = String::new();
    for number in files.numbers().expect("memory can be read") {
        let length = files.length(number).expect("memory can be read");
        let bytes = files.read(number, 0, length as usize).expect("memory can be read");
        for (page, bytes) in bytes.chunks(PAGE_BYTES).enumerate() {
            let (body, crc) = bytes.split_at(PAGE_BYTES - 4);
            let end = body.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            let (body, crc) = (hex::encode(&body[..end]), hex::encode(crc));
            writeln!(lines, "Extent file {number} page {page} {body} .. {crc}").expect("a string takes anything");
        }
    }
    lines
}

fn request(number: u8) -> RequestId {
    RequestId([number; 16])
}

fn path(key: &str) -> KeyPath {
    KeyPath { bucket: BucketId(300), shard: ShardId(5), key: key.to_owned() }
}

fn headers() -> ObjectHeaders {
    ObjectHeaders {
        content_type: Some("text/plain".to_owned()),
        user: [("colour".to_owned(), "blue".to_owned())].into(),
        ..ObjectHeaders::default()
    }
}

fn attributes() -> ObjectAttributes {
    ObjectAttributes {
        acl: ObjectAcl::PublicRead,
        tags: [("team".to_owned(), "red".to_owned())].into(),
        retention: Some(Retention { mode: RetentionMode::Compliance, until_ms: TIME_MS + 1 }),
        legal_hold: Some(true),
    }
}

fn part(number: u16, length: u64) -> Part {
    Part {
        id: PartId([number as u8; 16]),
        number,
        length,
        stored: length,
        md5: [0xd5; 16],
        checksum: Some(vec![1, 2, 3, 4]),
    }
}

fn object(data: Data, size: u64) -> NewObject {
    NewObject {
        owner: UserId([0x0a; 32]),
        size,
        etag: ETag { md5: [0xe7; 16], parts: None },
        checksum: Some(ObjectChecksum::FullObject(ChecksumValue::of(ChecksumAlgorithm::Crc64Nvme, b"hello"))),
        headers: headers(),
        attributes: attributes(),
        encryption: None,
        data,
    }
}

fn wrapped(byte: u8) -> WrappedKey {
    WrappedKey { version: 2, salt: [byte; 16], sealed: [byte + 1; 32], tag: [byte + 2; 16] }
}

fn encryption(mode: EncryptionMode) -> Encryption {
    Encryption { mode, data_key: wrapped(0x50) }
}

fn kms() -> EncryptionMode {
    EncryptionMode::Kms(KmsUse { key: "alias/k".to_owned(), context: Some("e30=".to_owned()), bucket_key: true })
}

fn put(key: &str, object: NewObject) -> Command {
    put_in(Versioning::Unversioned, key, object)
}

fn put_in(versioning: Versioning, key: &str, object: NewObject) -> Command {
    let (conditions, quota) = (Conditions::default(), QuotaTerms::default());
    Command::Put { path: path(key), versioning, conditions, quota, object }
}

fn delete(versioning: Versioning, deletion: Deletion) -> Command {
    let (bucket, shard, owner) = (BucketId(300), ShardId(5), UserId([0x0a; 32]));
    Command::Delete { bucket, shard, versioning, owner, deletions: vec![deletion] }
}

fn deletion(key: &str, conditions: Conditions) -> Deletion {
    Deletion { key: key.to_owned(), version: None, conditions, bypass_governance: false, sequence: None }
}

fn set_attributes(change: AttributeChange) -> Command {
    Command::SetAttributes { path: path("inline"), version: VersionId::Null, sequence: 10, change }
}

fn upload(id: u8) -> Upload {
    Upload {
        id: UploadId([id; 16]),
        initiator: UserId([0x0b; 32]),
        owner: UserId([0x0a; 32]),
        initiated_ms: TIME_MS,
        headers: headers(),
        attributes: attributes(),
        checksum: Some((ChecksumAlgorithm::Crc32, ChecksumType::Composite)),
        encryption: Some(encryption(EncryptionMode::S3)),
    }
}

/// What the books of a quota keep.
const LIMIT: Option<Usage> = Some(Usage { objects: 1_000, bytes: 1 << 30 });

fn books(entry: BooksEntry) -> Command {
    Command::Books { payer: Payer::Account(UserId([0x0a; 32])), entry }
}

fn allowance(change: AllowanceChange) -> Command {
    Command::Allowance { bucket: BucketId(300), shard: ShardId(5), kind: PayerKind::Account, change }
}

fn rule() -> TellingRule {
    TellingRule {
        id: "one".to_owned(),
        destination: Destination::Queue,
        arn: "arn:aws:sqs:::orders".to_owned(),
        webhook: "orders".to_owned(),
        events: vec![EventName::ObjectCreated, EventName::ObjectTaggingPut],
        prefix: None,
        suffix: Some("e".to_owned()),
    }
}

fn aside() -> Aside {
    Aside { tries: 2, failed_ms: TIME_MS, next_ms: TIME_MS + 4_000 }
}

fn notice() -> Box<Notice> {
    let cause = Cause {
        means: Means::Copy,
        principal: "AWS:1".to_owned(),
        source: "192.0.2.3".to_owned(),
        request_id: "C3D1".to_owned(),
        host_id: "FMyU".to_owned(),
    };
    Box::new(Notice { cause, rules: vec![Arc::new(rule())] })
}

/// One of each kind of record of a partition.
fn mutations() -> Vec<Command> {
    let parts = [part(1, 5 << 20), part(2, 7)];
    let id = UploadId([0x1d; 16]);
    let sealed = Data::Inline(Bytes::from_static(&[0x5e; 19]));
    vec![
        put("inline", object(Data::Inline(Bytes::from_static(b"hello")), 5)),
        put("empty", object(Data::Inline(Bytes::new()), 0)),
        put("chunks", object(Data::Parts(vec![part(9, 5_000_000)]), 5_000_000)),
        put("encrypted", NewObject { encryption: Some(encryption(EncryptionMode::Customer)), ..object(sealed, 3) }),
        put(
            "encrypted/chunks",
            NewObject {
                encryption: Some(encryption(kms())),
                ..object(Data::Parts(vec![Part { stored: 20_016, ..part(7, 20_000) }]), 20_000)
            },
        ),
        put("replaced", object(Data::Parts(vec![part(8, 20_000)]), 20_000)),
        put("replaced", object(Data::Inline(Bytes::from_static(b"new")), 3)),
        Command::CreateUpload { path: path("parts"), upload: upload(0x1d) },
        Command::PutPart { path: path("parts"), upload: id, part: parts[0].clone(), sent: None },
        Command::PutPart { path: path("parts"), upload: id, part: parts[1].clone(), sent: None },
        Command::CompleteUpload {
            path: path("parts"),
            upload: id,
            versioning: Versioning::Unversioned,
            conditions: Conditions::default(),
            quota: QuotaTerms { bucket: Some(7), account: None, last: true },
            default_retention: Some(Retention { mode: RetentionMode::Governance, until_ms: TIME_MS + 3 }),
            parts: vec![1, 2],
            fingerprint: parts_fingerprint(&parts),
            etag: ETag { md5: [0xe8; 16], parts: Some(2) },
            checksum: None,
        },
        put_in(Versioning::Enabled, "inline", object(Data::Inline(Bytes::from_static(b"newer")), 5)),
        delete(Versioning::Enabled, deletion("inline", Conditions::default())),
        Command::CreateUpload { path: path("un\0finished"), upload: upload(0x2d) },
        Command::PutPart { path: path("un\0finished"), upload: UploadId([0x2d; 16]), part: part(3, 100), sent: None },
        books(BooksEntry::Limit { limit: LIMIT, version: 7 }),
        books(BooksEntry::Recall {
            serial: Some(Serial { version: 7, number: 1 }),
            shards: vec![(BucketId(300), ShardId(5))],
        }),
        allowance(AllowanceChange::Shrink { serial: Serial { version: 7, number: 1 } }),
        books(BooksEntry::Returned {
            serial: Serial { version: 7, number: 1 },
            left: vec![(BucketId(300), ShardId(5), Usage { objects: 9, bytes: 5_300_000 })],
            all: true,
        }),
        books(BooksEntry::Grant {
            bucket: BucketId(300),
            shard: ShardId(5),
            needs: Usage { objects: 10, bytes: 6_000_000 },
            limit: LIMIT,
            version: 7,
        }),
        allowance(AllowanceChange::Set {
            serial: Serial { version: 7, number: 2 },
            limit: Some(Usage { objects: 40, bytes: 40_000_000 }),
        }),
        Command::Fence { bucket: BucketId(301), shard: ShardId(6), token: request(0x7e) },
    ]
}

#[test]
fn a_partition_as_it_lies_on_disk() {
    let kv = Arc::new(MemoryKv::new());
    let mut partition = Partition::new(GroupId(3), kv.clone());
    // Whoever delivers holds the outbox, then sets the first event aside, and gives the second up.
    let none = OutboxChange {
        holder: request(8),
        done: Vec::new(),
        given_up: Vec::new(),
        aside: Vec::new(),
        passed: None,
        dropped: 0,
        until_ms: Some(TIME_MS + 20_000),
    };
    let first = EventId { index: 10, ordinal: 0 };
    let set_aside = OutboxChange { aside: vec![(first, aside())], passed: Some(first), ..none.clone() };
    let given_up = OutboxChange { given_up: vec![EventId { index: 21, ordinal: 0 }], ..none.clone() };
    let changes = [none, set_aside, given_up].map(|change| Command::Outbox { webhook: "orders".to_owned(), change });
    for (index, command) in (10..).zip(mutations().into_iter().chain(changes)) {
        let notice = [10, 21].contains(&index).then(notice);
        let (request, since, time_ms) = (request(index as u8), Some(index - 1), TIME_MS + index);
        let mutation = Mutation { request, since, time_ms, command, notice };
        let mut batch = Batch::default();
        partition.apply(index, &encode_command(&mutation), &mut batch);
        kv.write(batch, Durability::Synced).expect("memory takes what it is given");
    }
    check("partition.hex", &dump(&kv));
}

#[test]
fn the_commands_of_a_partition_as_they_lie_in_the_log() {
    let others = [
        delete(
            Versioning::Suspended,
            Deletion {
                version: Some(VersionId::Id([0x11; 16])),
                bypass_governance: true,
                ..deletion("inline", Conditions { if_match: Some(ETagCondition::Any), ..Conditions::default() })
            },
        ),
        Command::Append {
            path: path("chunks"),
            sequence: 12,
            conditions: Conditions::default(),
            quota: QuotaTerms::default(),
            parts: vec![part(10, 300)],
            size: 5_000_300,
            etag: ETag { md5: [0xe9; 16], parts: Some(2) },
            checksum: None,
        },
        Command::Rename {
            path: path("chunks"),
            sequence: 12,
            to: "pieces".to_owned(),
            conditions: Conditions::default(),
        },
        Command::AbortUpload { path: path("un\0finished"), upload: UploadId([0x2d; 16]) },
        Command::Unfence { bucket: BucketId(301), shard: ShardId(6), token: request(0x7e) },
        Command::Condemn(vec![PartId([7; 16])]),
        Command::Collected(vec![Garbage { since_ms: TIME_MS, part: PartId([8; 16]), length: 20_000 }]),
        set_attributes(AttributeChange::Acl(ObjectAcl::AuthenticatedRead)),
        set_attributes(AttributeChange::Acl(ObjectAcl::Grants(
            [Grant { grantee: Grantee::AuthenticatedUsers, permission: Permission::FullControl }].into(),
        ))),
        set_attributes(AttributeChange::Tags([("team".to_owned(), "blue".to_owned())].into())),
        set_attributes(AttributeChange::Retention {
            retention: Some(Retention { mode: RetentionMode::Governance, until_ms: TIME_MS + 2 }),
            bypass_governance: true,
        }),
        set_attributes(AttributeChange::LegalHold(true)),
        Command::Outbox {
            webhook: "orders".to_owned(),
            change: OutboxChange {
                holder: request(8),
                done: vec![EventId { index: 9, ordinal: 300 }],
                given_up: vec![EventId { index: 8, ordinal: 0 }],
                aside: vec![(EventId { index: 10, ordinal: 0 }, aside())],
                passed: Some(EventId { index: 10, ordinal: 0 }),
                dropped: 300,
                until_ms: Some(TIME_MS + 4),
            },
        },
        Command::Claim(request(0x7f)),
    ];
    let mut lines = String::new();
    for command in mutations().into_iter().chain(others) {
        let notice = matches!(command, Command::Rename { .. }).then(notice);
        // Those that are no different twice say no place.
        let since = (!matches!(command, Command::Collected(_) | Command::Condemn(_))).then_some(300);
        let mutation = Mutation { request: request(1), since, time_ms: TIME_MS, command, notice };
        writeln!(lines, "{}", hex::encode(encode_command(&mutation))).expect("a string takes anything");
    }
    check("commands.hex", &lines);
}

fn profile(number: u8) -> NodeProfile {
    NodeProfile {
        name: format!("node{number}"),
        instance: InstanceId([number; 16]),
        addr: format!("10.0.0.{number}:5000"),
        zone: "rack-1".to_owned(),
        capacity_bytes: 1 << 40,
    }
}

const POLICY: &str = r#"{"Statement": {"Effect": "Deny", "Principal": {"AWS": "arn:aws:iam:::user/x"}, "Action": "s3:*", "Resource": "arn:aws:s3:::music/*"}}"#;

fn music_policy() -> BucketPolicy {
    BucketPolicy::parse(POLICY.to_owned(), "music").and_then(|policy| policy.about(whom)).expect("a policy")
}

/// Whoever is named.
fn whom(_arn: &str) -> Whom {
    Whom::Somebody("AIDA".to_owned())
}

fn lifecycle() -> Lifecycle {
    let filter = Filter {
        form: FilterForm::And,
        prefix: Some("logs/".to_owned()),
        tags: [("team".to_owned(), "storage".to_owned())].into(),
        size_greater: Some(1),
        size_less: None,
    };
    let rule = Rule {
        id: "rule".to_owned(),
        enabled: true,
        filter,
        expiration: Some(Expiration::Days(30)),
        noncurrent: Some(NoncurrentExpiration { days: 7, newer: Some(3) }),
        abort_upload_days: None,
    };
    Lifecycle { rules: vec![rule] }
}

fn website() -> Website {
    let condition = Condition { key_prefix: Some("old/".to_owned()), error_status: Some(404) };
    let redirect = Redirect {
        protocol: Some(Protocol::Https),
        host: Some("example.org".to_owned()),
        replace: Some(Replace::Prefix("new/".to_owned())),
        status: Some(302),
    };
    Website::Pages(Pages {
        index_suffix: "index.html".to_owned(),
        error_key: Some("error.html".to_owned()),
        rules: vec![RoutingRule { condition: Some(condition), redirect }],
    })
}

fn cors() -> Cors {
    Cors {
        rules: vec![CorsRule {
            id: Some("pages".to_owned()),
            allowed_headers: vec!["x-amz-*".to_owned()],
            allowed_methods: vec![CorsMethod::Get, CorsMethod::Delete],
            allowed_origins: vec!["https://*.example.org".to_owned()],
            expose_headers: vec!["etag".to_owned()],
            max_age_seconds: Some(300),
        }],
    }
}

fn logging() -> BucketLogging {
    BucketLogging {
        target_bucket: "logs".to_owned(),
        target_prefix: "photos/".to_owned(),
        grants: vec![Grant { grantee: Grantee::User(UserId([0x0b; 32])), permission: Permission::Read }],
        key_format: LogKeyFormat::Partitioned(LogDate::Event),
    }
}

fn map() -> ClusterMap {
    let owner = UserId([0x0a; 32]);
    let user = User {
        name: "root".to_owned(),
        display_name: "Root".to_owned(),
        email: Some("root@example.org".to_owned()),
        admin: true,
        quota: Some(Quota { objects: None, bytes: Some(1 << 40), version: 6 }),
        created_ms: TIME_MS,
    };
    let bucket = Bucket {
        id: BucketId(1),
        owner,
        created_ms: TIME_MS,
        shards: 8,
        request: request(3),
        state: BucketState::Deleting { token: request(4), since_ms: TIME_MS },
        config: BucketConfig {
            acl: BucketAcl::of_grants(
                vec![
                    Grant { grantee: Grantee::LogDelivery, permission: Permission::Write },
                    Grant { grantee: Grantee::User(owner), permission: Permission::ReadAcl },
                ],
                owner,
            ),
            ownership: Some(ObjectOwnership::BucketOwnerPreferred),
            cors: Some(Arc::new(cors())),
            website: Some(Arc::new(website())),
            logging: Some(Arc::new(logging())),
            notification: Some(Arc::new(Notification { rules: vec![Arc::new(rule())] })),
            encryption: Some(Arc::new(BucketEncryption {
                default: Some(DefaultEncryption::Kms(Some("k".to_owned()))),
                bucket_key: Some(true),
                blocks_customer_keys: true,
            })),
            lifecycle: Some(Arc::new(lifecycle())),
            tags: Some(Arc::new(Tags::from([("team".to_owned(), "storage".to_owned())]))),
            requester_pays: true,
            acceleration_suspended: true,
            versioning: Versioning::Enabled,
            policy: Some(Arc::new(music_policy())),
            public_access_block: Some(PublicAccessBlock { block_public_acls: true, ..PublicAccessBlock::default() }),
            object_lock: Some(ObjectLock {
                default: Some(DefaultRetention { mode: RetentionMode::Compliance, period: RetentionPeriod::Years(7) }),
            }),
            quota: Some(Arc::new(Quota { objects: Some(1_000_000), bytes: None, version: 7 })),
        },
    };
    let version = KmsKeyVersion { created_ms: TIME_MS, master: MasterKeyId([0x3a; 8]), material: wrapped(0x60) };
    ClusterMap {
        cluster: ClusterId([0xc1; 16]),
        version: MapVersion(7),
        epoch: Epoch(2),
        replication_factor: 3,
        map_voters: vec![NodeId(1), NodeId(2), NodeId(3)],
        placement: vec![vec![NodeId(1), NodeId(2), NodeId(3)], vec![NodeId(2), NodeId(3), NodeId(1)]],
        moves: Moves {
            paused: false,
            partitions: [(
                PartitionId(1),
                Move { epoch: Epoch(2), leaving: vec![NodeId(4)], joining: vec![NodeId(1)] },
            )]
            .into(),
            map_group: Some(Move { epoch: Epoch(2), leaving: vec![NodeId(4)], joining: Vec::new() }),
        },
        nodes: (1..=3)
            .map(|number| (NodeId(u64::from(number)), Node::new(profile(number), NodeState::Active)))
            .collect(),
        next_node: NodeId(4),
        buckets: [("photos".to_owned(), bucket)].into(),
        next_bucket: BucketId(2),
        users: [(owner, user)].into(),
        keys: [("AKIA".to_owned(), AccessKey::of_account(owner, "secret".to_owned(), TIME_MS))].into(),
        kms_keys: [("k".to_owned(), KmsKey { created_ms: TIME_MS, enabled: true, versions: vec![version] })].into(),
        iam: iam(owner),
    }
}

/// A user in a group, a role and a policy.
fn iam(account: UserId) -> Iam {
    const ALLOW: &str =
        r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}"#;
    const TRUST: &str = r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam:::user/x"}, "Action": "sts:AssumeRole"}}"#;
    let trust = TrustPolicy::parse(TRUST.to_owned()).and_then(|policy| policy.about(whom)).expect("a trust policy");
    let policy = Arc::new(IdentityPolicy::parse(ALLOW.to_owned()).expect("a policy"));
    let profile = |id: &str, name: &str| Profile {
        id: id.to_owned(),
        name: name.to_owned(),
        path: "/staff/".to_owned(),
        created_ms: TIME_MS,
    };
    let policies = Policies {
        inline: [("own".to_owned(), policy.clone())].into(),
        attached: ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess".to_owned()].into(),
    };
    let tags = Tags::from([("team".to_owned(), "storage".to_owned())]);
    let group = Group { profile: profile("AGPA", "Readers"), policies: policies.clone() };
    let user = IamUser {
        profile: profile("AIDA", "Bob"),
        policies: policies.clone(),
        groups: [FoldedName::of("Readers")].into(),
        tags: tags.clone(),
    };
    let role = Role {
        profile: profile("AROA", "Auditor"),
        trust: Arc::new(trust),
        policies,
        description: Some("reads".to_owned()),
        session_seconds_max: 3_600,
        tags: tags.clone(),
    };
    let managed = ManagedPolicy {
        profile: profile("ANPA", "AllowS3"),
        description: None,
        versions: [(1, PolicyVersion { created_ms: TIME_MS, policy })].into(),
        default_version: 1,
        next_version: 2,
        updated_ms: TIME_MS,
        tags,
    };
    let key = |name: &str| EntityKey::new(account, name);
    Iam {
        users: [(key("Bob"), Arc::new(user))].into(),
        groups: [(key("Readers"), Arc::new(group))].into(),
        roles: [(key("Auditor"), Arc::new(role))].into(),
        policies: [(key("AllowS3"), Arc::new(managed))].into(),
    }
}

#[test]
fn the_cluster_map_as_it_lies_on_disk() {
    let (kv, mut map) = (MemoryKv::new(), map());
    let mut batch = Batch::default();
    records::put_whole(&map, &mut batch);
    let change =
        MapChange::CreateBucket { name: "music".to_owned(), owner: UserId([0x0a; 32]), config: Default::default() };
    let entry = MapEntry { request: request(5), time_ms: TIME_MS, change };
    let touched = records::touched(&map, &entry.change);
    let reply = map.apply(&entry).expect("the name is free");
    records::put_change(&map, &touched, &Done { entry, reply }, &mut batch);
    kv.write(batch, Durability::Synced).expect("memory takes what it is given");
    check("cluster-map.hex", &dump(&kv));
}

#[tokio::test]
async fn a_nodes_own_records_as_they_lie_on_disk() {
    let kv: Arc<MemoryKv> = Arc::new(MemoryKv::new());
    let clock = ManualClock::at(Duration::from_millis(TIME_MS));
    let identity = NodeIdentity::new("node1", InstanceId([1; 16]));
    identity.store(&*kv).expect("memory takes what it is given");
    let membership = Membership { node: NodeId(4), formation: Some(map()), contacts: map() };
    membership.store(&*kv, &identity).expect("memory takes what it is given");
    let hints = HintStore::open(kv.clone(), clock.clone()).expect("memory can be read");
    hints
        .add(vec![(NodeId(2), ChunkId { part: PartId([9; 16]), index: 1 })])
        .await
        .expect("memory takes what it is given");
    check("node.hex", &dump(&kv));

    let kv: Arc<MemoryKv> = Arc::new(MemoryKv::new());
    let files: Arc<MemoryFiles> = Arc::new(MemoryFiles::new());
    let alarms = Alarms { on_corrupt: Arc::new(|_| {}), on_failed: Arc::new(|_| {}) };
    let chunks = ChunkStore::open(kv.clone(), files.clone(), clock, Execution::Inline, alarms);
    let chunks = chunks.expect("memory can be read");
    let data = Bytes::from_static(b"a chunk is at most 4 MiB long");
    let (id, owner) =
        (ChunkId { part: PartId([9; 16]), index: 1 }, ChunkOwner { bucket: BucketId(300), shard: ShardId(5) });
    chunks.put(id, owner, piece_crcs(&data), data).await.expect("memory takes what it is given");
    check("chunks.hex", &(dump(&kv) + &dump_files(&*files)));
}

#[test]
fn requests_and_answers_as_they_travel() {
    let (id, owner) =
        (ChunkId { part: PartId([9; 16]), index: 1 }, ChunkOwner { bucket: BucketId(300), shard: ShardId(5) });
    let command = mutations().remove(0);
    let mutation = Mutation { request: request(1), since: Some(300), time_ms: TIME_MS, command, notice: None };
    let mutated = |reply| Ok(Response::Mutated(Applied { index: 301, reply }));
    let change = MapChange::RegisterNode { node: None, profile: profile(4) };
    let layout = MapChange::ChangeLayout(LayoutChange {
        based_on: Epoch(2),
        step: LayoutStep::Add(vec![NodeId(4)]),
        sets: vec![(PartitionId(1), vec![NodeId(2), NodeId(4)])],
        map_voters: vec![NodeId(1), NodeId(4)],
    });
    let requests = [
        Request::Join(profile(1)),
        Request::WatchMap { watcher: InstanceId([1; 16]), have: Some(MapVersion(7)), hold: true },
        Request::PeekMap,
        Request::ChangeMap(MapEntry { request: request(5), time_ms: TIME_MS, change: change.clone() }),
        Request::ChangeMap(MapEntry { request: request(6), time_ms: TIME_MS, change: layout }),
        Request::Mutate { partition: PartitionId(2), epoch: Epoch(2), mutation },
        Request::Query {
            epoch: Epoch(2),
            queries: vec![(PartitionId(2), Query::Object { path: path("inline"), version: Some(VersionId::Null) })],
        },
        Request::PutChunk {
            id,
            owner,
            piece_crcs: vec![0xdead_beef],
            hints: vec![NodeId(2)],
            purpose: Purpose::Client,
        },
        Request::AddHints { node: NodeId(2), chunks: vec![id] },
        Request::GetChunk { id, from: 0, to: 300_000, purpose: Purpose::Repair },
        Request::DeleteChunks(vec![id]),
        Request::HasChunks(vec![id]),
        Request::DigestChunks(vec![0..=u64::MAX]),
        Request::ListChunks { positions: 1..=2, after: Some(id) },
        Request::VerifyChunks { positions: 1..=2, after: Some(id) },
        Request::VerifyMetadata { from: Some((2, vec![1])) },
        Request::Snapshot(Bytes::from_static(b"piece")),
        Request::NodeStatus,
        Request::Progress(vec![PartitionId(2)]),
        Request::Usage(vec![PartitionId(2)]),
        Request::Members { epoch: Epoch(2), groups: vec![GroupId(3)] },
        Request::Query {
            epoch: Epoch(2),
            queries: vec![(PartitionId(2), Query::Outbox { webhook: "orders".to_owned() })],
        },
        Request::Outboxes,
        Request::FetchMap { version: MapVersion(7), from: 300_000 },
    ];
    let progress = Progress {
        epoch: Epoch(2),
        groups: vec![GroupId(3)],
        moves: vec![MoveProgress { partition: PartitionId(2), epoch: Epoch(2), complete: true }],
        clock_ms: TIME_MS,
        room: RoomFor::Markers,
    };
    let answers: [Answer; 28] = [
        Ok(Response::Done),
        mutated(MetaReply::Expired),
        mutated(MetaReply::Fenced(request(7))),
        mutated(MetaReply::Claimed(request(7))),
        mutated(MetaReply::Quota(QuotaReply::Exhausted { limit: Usage { objects: 1, bytes: 300 } })),
        Ok(Response::Queried(vec![Ok(QueryReply::Object(None)), Err(Refusal::NotHere)])),
        Ok(Response::Chunk { owner, first_piece: 0, piece_crcs: vec![0xdead_beef], length: 29 }),
        Ok(Response::HasChunks(vec![true, false])),
        Ok(Response::ChunkDigests(vec![Digest { chunks: 1, bytes: 29, sum: 7 }])),
        Ok(Response::ChunkList(vec![ListedChunk { id, owner, length: 29, sum: 7 }])),
        Ok(Response::ChunksVerified(VerifiedChunks { good: Digest::default(), damaged: vec![id], last: None })),
        Ok(Response::MetadataVerified { next: None }),
        Ok(Response::Snapshot { crc: 0xdead_beef }),
        Ok(Response::Progress(progress)),
        Ok(Response::Usage(vec![PartitionUsage { chunk_bytes: 300, metadata_bytes: 7 }])),
        Ok(Response::Members(vec![(GroupId(3), vec![NodeId(1), NodeId(4)])])),
        mutated(MetaReply::Held(true)),
        mutated(MetaReply::Deleted(vec![DeleteOutcome::Deleted, DeleteOutcome::NotYet])),
        Ok(Response::Outboxes(vec![WaitingOutbox {
            partition: PartitionId(2),
            webhook: "orders".to_owned(),
            pending: 300,
            aside: 2,
            due_ms: TIME_MS + 5,
            claim: Some((request(8), TIME_MS)),
        }])),
        Ok(Response::Map(MapUpdate::Whole { version: MapVersion(7), bytes: 300_000 })),
        Ok(Response::Map(MapUpdate::Changes {
            entries: vec![MapEntry { request: request(5), time_ms: TIME_MS, change }],
            more: true,
        })),
        Ok(Response::MapPiece),
        Ok(Response::MapChanged(Ok(MapReply::Deleting { id: BucketId(300), shards: 16 }))),
        Ok(Response::MapChanged(Err(MapRefusal::TooLarge(SizeLimit::Account)))),
        Err(Refusal::StaleEpoch(Epoch(2))),
        Err(Refusal::NotLeader { leader: Some(NodeId(1)) }),
        Err(Refusal::Full),
        Err(Refusal::CorruptChunk),
    ];
    let mut lines = String::new();
    for request in &requests {
        writeln!(lines, "request {}", hex::encode(encode(request))).expect("a string takes anything");
    }
    for answer in &answers {
        writeln!(lines, "answer {}", hex::encode(encode(answer))).expect("a string takes anything");
    }
    check("protocol.hex", &lines);
}
