//! GetObjectLegalHold and PutObjectLegalHold.

use annulus_common::object::AttributeChange;
use s3s::dto::{
    GetObjectLegalHoldInput, GetObjectLegalHoldOutput, ObjectLockLegalHold, ObjectLockLegalHoldStatus,
    PutObjectLegalHoldInput, PutObjectLegalHoldOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::s3_error;
use super::find_object::{Place, find_object};
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
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    let (bucket, found) = find_object(gateway, access, place, access.action()).await?;
    lock::check_bucket(&bucket)?;
    let change = AttributeChange::LegalHold(asked(input.legal_hold.as_ref())?);
    gateway.objects.set_attributes(&bucket, place.key, &found, change).await.map_err(s3_error)?;
    Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
}

fn asked(legal_hold: Option<&ObjectLockLegalHold>) -> S3Result<bool> {
    let status = legal_hold.and_then(|legal_hold| legal_hold.status.as_ref());
    match status.map(ObjectLockLegalHoldStatus::as_str) {
        Some(ObjectLockLegalHoldStatus::ON) => Ok(true),
        Some(ObjectLockLegalHoldStatus::OFF) => Ok(false),
        _ => Err(s3_error!(MalformedXML)),
    }
}
