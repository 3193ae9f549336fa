//! What can go wrong, by what the caller can tell the client. No status codes: the S3 layer has the one table.

use annulus_common::checksum::{ChecksumAlgorithm, ChecksumType};
use annulus_common::ids::ChunkId;
use annulus_common::map::Bucket;
use annulus_common::map::size::SizeLimit;
use annulus_common::object::DeleteMarker;

use crate::client::ClientError;
use crate::kms::KeyError;

/// Why an operation failed. Unless it says so, nothing visible happened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no such bucket (any more).
    #[error("no such bucket")]
    NoSuchBucket,
    /// There is no such object.
    #[error("no such key")]
    NoSuchKey,
    /// There is no such version of the key.
    #[error("no such version")]
    NoSuchVersion,
    /// The object is deleted: its newest version is this delete marker.
    #[error("the key is deleted")]
    Deleted(DeleteMarker),
    /// The version is this delete marker, and no object.
    #[error("the version is a delete marker")]
    IsDeleteMarker(DeleteMarker),
    /// The version's retention or legal hold forbids it.
    #[error("the version is locked")]
    Locked,
    /// There is no such multipart upload: completed, aborted or never begun.
    #[error("no such upload")]
    NoSuchUpload,
    /// The bucket's name is taken; the owner tells by whom.
    #[error("the bucket exists")]
    BucketExists(Box<Bucket>),
    /// What is configured of the bucket stands in the way of what is asked.
    #[error("the bucket is configured otherwise")]
    InvalidBucketState,
    /// The account owns as many buckets as it may.
    #[error("too many buckets")]
    TooManyBuckets,
    /// There is as much configured, by the account or by all, as may be.
    #[error(transparent)]
    TooMuchConfigured(SizeLimit),
    /// The bucket still holds objects.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// A condition on the object that is there does not hold.
    #[error("a precondition failed")]
    PreconditionFailed,
    /// The key is empty or longer than 1,024 bytes.
    #[error("the key is {bytes} bytes long")]
    InvalidKey {
        /// Its length.
        bytes: usize,
    },
    /// A range that lies outside the object.
    #[error("the range is not within the {size} bytes of the object")]
    InvalidRange {
        /// The object's size.
        size: u64,
    },
    /// A part's number is not 1 to 10,000.
    #[error("part number {0} is not within 1 to 10,000")]
    InvalidPartNumber(u16),
    /// A part that the client lists was not uploaded, or its entity tag or checksum is another.
    #[error("part {number} is not what was uploaded")]
    InvalidPart {
        /// Its number.
        number: u16,
        /// Its entity tag, as the client has it.
        etag: String,
    },
    /// The client lists the parts out of order.
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    /// The client lists no parts, or more than 10,000.
    #[error("{0} parts are listed")]
    InvalidPartCount(usize),
    /// A part other than the last is too small.
    #[error("part {number} has {size} bytes, fewer than {minimum}")]
    EntityTooSmall {
        /// Its number.
        number: u16,
        /// Its entity tag.
        etag: String,
        /// Its size.
        size: u64,
        /// The smallest it may be.
        minimum: u64,
    },
    /// The body or the object is too large.
    #[error("{size} bytes are more than {maximum}")]
    EntityTooLarge {
        /// Its size, or what of it was seen.
        size: u64,
        /// The largest it may be.
        maximum: u64,
    },
    /// The body does not have the `Content-MD5` that the client gave.
    #[error("the body does not match its Content-MD5")]
    BadDigest {
        /// What it was to hash to.
        expected: [u8; 16],
        /// What it does.
        calculated: [u8; 16],
    },
    /// The body or the object does not have the checksum that the client gave.
    #[error("the {algorithm:?} checksum does not match")]
    ChecksumMismatch {
        /// The checksum's algorithm.
        algorithm: ChecksumAlgorithm,
    },
    /// A checksum came in another algorithm than the upload was begun with, or none where each part must have one.
    #[error("the upload's checksum is {expected:?}, not {actual:?}")]
    ChecksumAlgorithmMismatch {
        /// The upload's.
        expected: Option<ChecksumAlgorithm>,
        /// The client's; none where it sent none.
        actual: Option<ChecksumAlgorithm>,
    },
    /// An object's checksum is asked for in another type than the upload was begun with.
    #[error("the upload's checksum type is {expected:?}, not {actual:?}")]
    ChecksumTypeMismatch {
        /// The upload's.
        expected: ChecksumType,
        /// The client's.
        actual: ChecksumType,
    },
    /// The algorithm cannot make a checksum of that type: a full-object one of a hash, or a composite CRC64NVME.
    #[error("{algorithm:?} cannot be {kind:?}")]
    ChecksumTypeUnsupported {
        /// The algorithm.
        algorithm: ChecksumAlgorithm,
        /// The type.
        kind: ChecksumType,
    },
    /// The object has another size than the client said.
    #[error("the object has {actual} bytes, not {expected}")]
    SizeMismatch {
        /// What the client said.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The body had fewer or more bytes than the client said.
    #[error("the body has {actual} bytes, not {expected}")]
    IncompleteBody {
        /// What the client said.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// The body could not be read to its end.
    #[error("the body failed: {0}")]
    Body(#[from] BodyError),
    /// Something else is being done to the same bucket or upload: ask again.
    #[error("a conflicting operation is in progress")]
    Conflict,
    /// The object is encrypted by a key of the client's, who did not send it.
    #[error("the object's key was not sent")]
    KeyRequired,
    /// The client's key is not the one that the object or upload is encrypted by.
    #[error("the key is another one than the object's")]
    KeyMismatch,
    /// The client sent a key for an object that is not encrypted by one.
    #[error("the object has no key of the client's")]
    KeyNotApplicable,
    /// The upload was begun with a key of the client's, who did not send it again.
    #[error("the upload's key was not sent")]
    UploadKeyRequired,
    /// The client takes it that parts are encrypted, and the upload was begun without.
    #[error("the upload is not encrypted")]
    UploadNotEncrypted,
    /// The key service.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The stored bytes could not be read.
    #[error("the object cannot be read: {0}")]
    Unreadable(#[from] ReadError),
    /// Too few nodes answer in time: ask again soon. A mutation may have been carried out.
    #[error("the cluster cannot serve this now: {0}")]
    Unavailable(ClientError),
    /// Bytes are to be added where the object does not end.
    #[error("the object does not end there")]
    InvalidWriteOffset,
    /// Nothing is to be added.
    #[error("nothing is to be added")]
    EmptyAppend,
    /// The object has as many parts as it may.
    #[error("the object has as many parts as it may")]
    TooManyParts,
    /// The bucket, or the account that owns it, may not hold as much.
    #[error("the quota is exceeded")]
    QuotaExceeded,
    /// Too many others want something of the same quota at this moment: ask again soon. Nothing has changed.
    #[error("too many others use the same quota now")]
    Busy,
    /// Other requests hold all the memory that there is for requests: ask again soon. Nothing has changed.
    #[error("other requests hold all the memory that there is for requests")]
    Overloaded,
    /// No space is left.
    #[error("no space is left")]
    Full,
    /// A bug or another version: the cluster refused what we sent.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Why a body could not be read. The S3 layer makes them out of what the wire says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BodyError {
    /// The client went away.
    #[error("the client went away")]
    Disconnected,
    /// The body ended before its announced length or its last frame.
    #[error("the body is truncated")]
    Truncated,
    /// The framing is wrong, or a trailer that was announced did not come.
    #[error("the body is malformed")]
    Malformed,
    /// A chunk's signature is wrong.
    #[error("a chunk's signature is wrong")]
    SignatureMismatch,
    /// The bytes do not have the SHA-256 that was signed.
    #[error("the body does not match its signed SHA-256")]
    Sha256Mismatch,
    /// It came in chunks of which one is larger than is held in memory until its signature is verified.
    #[error("a chunk of the body has more than {maximum} bytes")]
    ChunkTooLarge {
        /// The largest it may be.
        maximum: usize,
    },
    /// It came too slowly.
    #[error("the body came too slowly")]
    TimedOut,
    /// It is longer than the form's policy allows, or S3.
    #[error("the body has {size} bytes or more, and may have {maximum}")]
    TooLarge {
        /// What of it was seen.
        size: u64,
        /// The largest it may be.
        maximum: u64,
    },
    /// It is shorter than the form's policy allows.
    #[error("the body has {size} bytes, and must have {minimum}")]
    TooSmall {
        /// Its size.
        size: u64,
        /// The smallest it may be.
        minimum: u64,
    },
}

/// Why stored bytes could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// Holders did not answer in time: ask again.
    #[error("no holder of chunk {0:?} answers")]
    Unavailable(ChunkId),
    /// Every node answered, and none has a good copy.
    #[error("chunk {0:?} is missing or corrupt on every node")]
    Lost(ChunkId),
    /// What was read is not what was encrypted here: somebody changed it, checksums and all.
    #[error("the encrypted bytes of chunk {0:?} do not open")]
    Tampered(ChunkId),
    /// The bytes in the object's record do not open.
    #[error("the encrypted bytes of the object's record do not open")]
    RecordTampered,
}

impl From<ClientError> for ObjectError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Full => ObjectError::Full,
            ClientError::Refused(refusal) => ObjectError::Internal(format!("the cluster refused: {refusal}")),
            ClientError::ChunkUnavailable(chunk) => ReadError::Unavailable(chunk).into(),
            ClientError::ChunkLost(chunk) => ReadError::Lost(chunk).into(),
            error @ (ClientError::NoMap
            | ClientError::NoLeader { .. }
            | ClientError::Uncertain
            | ClientError::NoQuorum { .. }) => ObjectError::Unavailable(error),
        }
    }
}
