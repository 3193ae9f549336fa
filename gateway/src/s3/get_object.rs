//! GetObject.

use s3s::dto::{GetObjectInput, GetObjectOutput, StreamingBlob};
use s3s::{S3Request, S3Response, S3Result};

use super::error::s3_error;
use super::find_object::Place;
use super::read::{Read, fill, find};
use super::{Gateway, access, with_headers};

pub(super) async fn get_object(
    gateway: &Gateway,
    req: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let input = req.input;
    let read = Read {
        access: access(&req.extensions)?,
        place: Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() },
        headers: &req.headers,
        modified_since: input.if_modified_since.as_ref(),
        unmodified_since: input.if_unmodified_since.as_ref(),
        range: input.range.as_ref(),
        part_number: input.part_number,
    };
    let found = find(gateway, read).await?;
    let (version, selection) = (&found.version, &found.selection);
    let key = gateway.objects.unlock(&found.bucket, version, found.customer.as_ref()).await.map_err(s3_error)?;
    let bytes = gateway.objects.read(version, selection.range.clone(), &key).await.map_err(s3_error)?;
    let mut output = GetObjectOutput { version_id: found.version_id.clone(), ..Default::default() };
    fill!(output, input.checksum_mode.as_ref(), version, selection);
    output.expiration = found.expiration(&input.key, input.version_id.as_deref());
    output.body = Some(StreamingBlob::wrap(bytes));
    Ok(with_headers(output, found.headers()))
}
