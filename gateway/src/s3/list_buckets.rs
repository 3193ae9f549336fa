//! ListBuckets.

use annulus_common::map::Bucket;
use s3s::dto::{self, ListBucketsInput, ListBucketsOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::error::{invalid_argument, s3_error};
use super::headers::timestamp;
use super::listing::{non_empty, parse_token, token};
use super::{Gateway, caller, owner};

/// Buckets of a page, as S3 says.
const BUCKETS_MAX: usize = 10_000;

pub(super) async fn list_buckets(
    gateway: &Gateway,
    req: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let user = caller(&req.extensions)?;
    let input = req.input;
    let page_size = page_size(input.max_buckets)?;
    let after = non_empty(input.continuation_token.as_ref()).map(parse_token).transpose()?;
    let elsewhere = input.bucket_region.as_ref().is_some_and(|region| region.as_str() != gateway.region);
    let mut found = gateway.objects.list_buckets(user).await.map_err(s3_error)?;
    found.retain(|(name, _)| {
        let matches = input.prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix.as_str()));
        !elsewhere && matches && after.as_ref().is_none_or(|after| name > after)
    });
    let more = found.len() > page_size;
    found.truncate(page_size);
    let next = found.last().filter(|_| more).map(|(name, _)| token(name));
    let map = gateway.accounts.map().await?;
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(found.into_iter().map(dto_bucket).collect()),
        continuation_token: next,
        owner: Some(owner(&map, user)),
        prefix: input.prefix,
    }))
}

fn page_size(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.map_or(Ok(BUCKETS_MAX), usize::try_from).unwrap_or(0);
    match asked {
        1..=BUCKETS_MAX => Ok(asked),
        _ => Err(invalid_argument("max-buckets", "Argument max-buckets must be an integer between 1 and 10000")),
    }
}

fn dto_bucket((name, bucket): (String, Bucket)) -> dto::Bucket {
    dto::Bucket { name: Some(name), creation_date: Some(timestamp(bucket.created_ms)), ..Default::default() }
}
