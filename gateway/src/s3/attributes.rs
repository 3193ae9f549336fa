//! Whose an object to be is, and its attributes, out of the request that makes it.

use annulus_common::acl::ObjectAcl;
use annulus_common::map::Bucket;
use annulus_common::object::{ObjectAttributes, UserId};
use annulus_common::ownership::ObjectOwnership;
use http::HeaderMap;
use s3s::S3Result;

use super::grants::{self, Asked};
use super::{Gateway, lock, tags};

/// Whose a new object that `writer` puts into `bucket` will be, and what the request says of its attributes.
pub(super) async fn of_request(
    gateway: &Gateway,
    headers: &HeaderMap,
    bucket: &Bucket,
    writer: UserId,
) -> S3Result<(UserId, ObjectAttributes)> {
    let map = gateway.accounts.map().await?;
    let (owner, acl) = owner_and_acl(grants::of_headers(headers, &map)?, bucket, writer)?;
    grants::check_public(acl.is_public(), bucket)?;
    let lock::Locks { retention, legal_hold } = lock::of_request(headers, bucket, gateway.objects.now_ms())?;
    Ok((owner, ObjectAttributes { acl, tags: tags::of_request(headers)?, retention, legal_hold }))
}

/// Whose the object will be, as the bucket's object ownership says, and its list.
fn owner_and_acl(asked: Asked, bucket: &Bucket, writer: UserId) -> S3Result<(UserId, ObjectAcl)> {
    match bucket.config.ownership {
        Some(ObjectOwnership::BucketOwnerEnforced) if asked.leaves_all_to(bucket.owner) => {
            Ok((bucket.owner, ObjectAcl::default()))
        }
        Some(ObjectOwnership::BucketOwnerEnforced) => Err(grants::not_supported()),
        Some(ObjectOwnership::BucketOwnerPreferred) => {
            let acl = asked.object_acl(writer, bucket.owner)?;
            let is_given = acl == ObjectAcl::BucketOwnerFullControl;
            Ok((if is_given { bucket.owner } else { writer }, acl))
        }
        Some(ObjectOwnership::ObjectWriter) | None => Ok((writer, asked.object_acl(writer, bucket.owner)?)),
    }
}
