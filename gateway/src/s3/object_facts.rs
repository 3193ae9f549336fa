//! GetObjectTagging and GetObjectTorrent: no object has tags until setting them is built, and none has a torrent.

use s3s::dto::{GetObjectTaggingInput, GetObjectTaggingOutput, GetObjectTorrentInput, GetObjectTorrentOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::find_object::{Place, find_object};
use super::{Gateway, access};

pub(super) async fn get_object_tagging(
    gateway: &Gateway,
    req: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let access = access(&req.extensions)?;
    let input = req.input;
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    find_object(gateway, access, place, access.action()).await?;
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set: Vec::new(), version_id: input.version_id }))
}

/// S3 has torrents no more: it answers that there is none, whoever asks for whichever object.
pub(super) async fn get_object_torrent(
    _: &Gateway,
    _: S3Request<GetObjectTorrentInput>,
) -> S3Result<S3Response<GetObjectTorrentOutput>> {
    Err(s3_error!(NoSuchKey))
}
