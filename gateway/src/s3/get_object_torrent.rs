//! GetObjectTorrent: S3 has torrents no more, and answers that there is none, whoever asks for whichever object.

use s3s::dto::{GetObjectTorrentInput, GetObjectTorrentOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Gateway;

pub(super) async fn get_object_torrent(
    _: &Gateway,
    _: S3Request<GetObjectTorrentInput>,
) -> S3Result<S3Response<GetObjectTorrentOutput>> {
    Err(s3_error!(NoSuchKey))
}
