//! GetObject.

use s3s::dto::{GetObjectInput, GetObjectOutput, StreamingBlob};
use s3s::{S3Request, S3Response, S3Result};

use super::error::s3_error;
use super::read::{fill, find, read_of};
use super::{Gateway, with_headers};

pub(super) async fn get_object(
    gateway: &Gateway,
    req: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let found = find(gateway, read_of!(req)).await?;
    let input = req.input;
    let (version, selection) = (&found.version, &found.selection);
    let key = gateway.objects.unlock(&found.bucket, version, found.customer.as_ref()).await.map_err(s3_error)?;
    let bytes = gateway.objects.read(version, selection.range.clone(), &key).await.map_err(s3_error)?;
    let mut output = GetObjectOutput { version_id: found.version_id.clone(), ..Default::default() };
    fill!(output, input.checksum_mode.as_ref(), version, selection);
    output.expiration = found.expiration(&input.key, input.version_id.as_deref());
    output.body = Some(StreamingBlob::wrap(bytes));
    Ok(with_headers(output, found.headers()))
}
