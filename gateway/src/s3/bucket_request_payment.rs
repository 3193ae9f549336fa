//! GetBucketRequestPayment and PutBucketRequestPayment: who pays for what is asked of a bucket. That others say so is
//! seen to by the access check.

use annulus_common::map::BucketChange;
use s3s::dto::{
    GetBucketRequestPaymentInput, GetBucketRequestPaymentOutput, Payer, PutBucketRequestPaymentInput,
    PutBucketRequestPaymentOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Gateway;
use super::error::s3_error;

pub(super) async fn get_bucket_request_payment(
    gateway: &Gateway,
    req: S3Request<GetBucketRequestPaymentInput>,
) -> S3Result<S3Response<GetBucketRequestPaymentOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let payer = if bucket.config.requester_pays { Payer::REQUESTER } else { Payer::BUCKET_OWNER };
    Ok(S3Response::new(GetBucketRequestPaymentOutput { payer: Some(Payer::from_static(payer)) }))
}

pub(super) async fn put_bucket_request_payment(
    gateway: &Gateway,
    req: S3Request<PutBucketRequestPaymentInput>,
) -> S3Result<S3Response<PutBucketRequestPaymentOutput>> {
    let input = req.input;
    let requester_pays = match input.request_payment_configuration.payer.as_str() {
        Payer::REQUESTER => true,
        Payer::BUCKET_OWNER => false,
        _ => return Err(s3_error!(MalformedXML)),
    };
    gateway.configure(&input.bucket, BucketChange::RequesterPays(requester_pays)).await?;
    Ok(S3Response::new(PutBucketRequestPaymentOutput::default()))
}
