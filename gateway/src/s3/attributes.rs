//! The attributes of an object to be, out of the request that makes it.

use annulus_common::acl::ObjectAcl;
use annulus_common::object::ObjectAttributes;
use http::HeaderMap;
use s3s::{S3Result, s3_error};

use super::headers::text;

/// What a request says of the new object's attributes.
pub(super) fn of_request(headers: &HeaderMap) -> S3Result<ObjectAttributes> {
    Ok(ObjectAttributes { acl: acl(headers)?, ..ObjectAttributes::default() })
}

/// `x-amz-acl`.
fn acl(headers: &HeaderMap) -> S3Result<ObjectAcl> {
    match text(headers, "x-amz-acl")? {
        Some(name) => ObjectAcl::named(&name).ok_or_else(|| s3_error!(NotImplemented)),
        None => Ok(ObjectAcl::default()),
    }
}
