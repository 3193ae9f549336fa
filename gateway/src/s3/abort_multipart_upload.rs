//! AbortMultipartUpload.

use s3s::dto::{AbortMultipartUploadInput, AbortMultipartUploadOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::error::s3_error;
use super::upload_part::upload_id;
use super::{Gateway, access};
use crate::auth::Resource;
use crate::object::UploadPath;

pub(super) async fn abort_multipart_upload(
    gateway: &Gateway,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let access = access(&req.extensions)?;
    let input = req.input;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let path = UploadPath { bucket: &bucket, key: &input.key, upload: upload_id(&input.upload_id)? };
    let page = gateway.objects.list_parts(path, 0, 0).await.map_err(s3_error)?;
    let upload = Resource::upload(&input.bucket, &bucket, &input.key, page.upload.initiator);
    access.check(access.action(), &upload)?;
    gateway.objects.abort_upload(path).await.map_err(s3_error)?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}
