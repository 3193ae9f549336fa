//! Whose an object to be is, and its attributes, out of the request that makes it.

use annulus_common::map::Bucket;
use annulus_common::object::{ObjectAttributes, UserId};
use http::HeaderMap;
use s3s::S3Result;

use super::{Gateway, grants, lock, tags};

/// Whose a new object that `writer` puts into `bucket` will be, and what the request says of its attributes.
pub(super) async fn of_request(
    gateway: &Gateway,
    headers: &HeaderMap,
    bucket: &Bucket,
    writer: UserId,
) -> S3Result<(UserId, ObjectAttributes)> {
    let map = gateway.accounts.map().await?;
    let acl = grants::of_headers(headers, &map)?.object_acl(writer, bucket.owner)?;
    grants::check_public(acl.is_public(), bucket)?;
    let lock::Locks { retention, legal_hold } = lock::of_request(headers, bucket, gateway.objects.now_ms())?;
    Ok((writer, ObjectAttributes { acl, tags: tags::of_request(headers)?, retention, legal_hold }))
}
