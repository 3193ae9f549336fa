//! GetObjectTagging and GetObjectTorrent: no object has tags until setting them is built, and none has a torrent.

use annulus_common::acl::Permission;
use s3s::dto::{GetObjectTaggingInput, GetObjectTaggingOutput, GetObjectTorrentInput, GetObjectTorrentOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::find_object::find_object;
use super::{Gateway, caller, version};

pub(super) async fn get_object_tagging(
    gateway: &Gateway,
    req: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    version::current(req.input.version_id.as_deref())?;
    let (caller, place) = (caller(&req.extensions)?, (req.input.bucket.as_str(), req.input.key.as_str()));
    // No access control list of S3's grants tags to those who may only read.
    find_object(gateway, caller, place, Permission::FullControl).await?;
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set: Vec::new(), version_id: req.input.version_id }))
}

/// S3 has torrents no more: it answers that there is none, whoever asks for whichever object.
pub(super) async fn get_object_torrent(
    _: &Gateway,
    _: S3Request<GetObjectTorrentInput>,
) -> S3Result<S3Response<GetObjectTorrentOutput>> {
    Err(s3_error!(NoSuchKey))
}
