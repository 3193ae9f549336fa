//! GetObjectLegalHold and PutObjectLegalHold.

use annulus_common::object::AttributeChange;
use s3s::dto::{
    GetObjectLegalHoldInput, GetObjectLegalHoldOutput, ObjectLockLegalHold, ObjectLockLegalHoldStatus,
    PutObjectLegalHoldInput, PutObjectLegalHoldOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::s3_error;
use super::find_object::{Place, find_object, find_unmarked};
use super::{Gateway, access, lock};

pub(super) async fn get_object_legal_hold(
    gateway: &Gateway,
    req: S3Request<GetObjectLegalHoldInput>,
) -> S3Result<S3Response<GetObjectLegalHoldOutput>> {
    let (access, input) = (access(&req.extensions)?, &req.input);
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    let (bucket, found) = find_object(gateway, access, place, access.action()).await?;
    lock::check_bucket(&bucket)?;
    let status = lock::dto_legal_hold(&found.object.attributes).ok_or_else(lock::none)?;
    let legal_hold = Some(ObjectLockLegalHold { status: Some(status) });
    Ok(S3Response::new(GetObjectLegalHoldOutput { legal_hold }))
}

pub(super) async fn put_object_legal_hold(
    gateway: &Gateway,
    req: S3Request<PutObjectLegalHoldInput>,
) -> S3Result<S3Response<PutObjectLegalHoldOutput>> {
    let access = access(&req.extensions)?;
    lock::check_document_digest(&req.headers)?;
    let input = req.input;
    let (held, status) = asked(input.legal_hold.as_ref())?;
    // Policies may have conditions on what is to be.
    let facts = vec![("s3:object-lock-legal-hold".to_owned(), status.to_owned())];
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    let (bucket, found) = find_unmarked(gateway, access, place, facts).await?;
    lock::check_bucket(&bucket)?;
    let change = AttributeChange::LegalHold(held);
    gateway.objects.set_attributes(&bucket, place.key, &found, change).await.map_err(s3_error)?;
    Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
}

/// Whether it shall be held, and how S3 says so.
fn asked(legal_hold: Option<&ObjectLockLegalHold>) -> S3Result<(bool, &'static str)> {
    let status = legal_hold.and_then(|legal_hold| legal_hold.status.as_ref());
    match status.map(ObjectLockLegalHoldStatus::as_str) {
        Some(ObjectLockLegalHoldStatus::ON) => Ok((true, ObjectLockLegalHoldStatus::ON)),
        Some(ObjectLockLegalHoldStatus::OFF) => Ok((false, ObjectLockLegalHoldStatus::OFF)),
        _ => Err(s3_error!(MalformedXML)),
    }
}
