//! AbortMultipartUpload.

use s3s::dto::{AbortMultipartUploadInput, AbortMultipartUploadOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::error::s3_error;
use super::find_object::{Place, find_upload};
use super::{Gateway, access};
use crate::object::UploadPath;

pub(super) async fn abort_multipart_upload(
    gateway: &Gateway,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let access = access(&req.extensions)?;
    let input = req.input;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let place = Place::current(&input.bucket, &input.key);
    let (upload, _) = find_upload(gateway, access, (&bucket, place), &input.upload_id, (0, 0)).await?;
    let path = UploadPath { bucket: &bucket, key: &input.key, upload };
    gateway.objects.abort_upload(path).await.map_err(s3_error)?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}
