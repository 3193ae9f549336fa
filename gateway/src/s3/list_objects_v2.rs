//! ListObjectsV2.

use s3s::dto::{ListObjectsV2Input, ListObjectsV2Output};
use s3s::{S3Request, S3Response, S3Result};

use super::Gateway;
use super::error::s3_error;
use super::list_objects::{page_names, split};
use super::listing::{Names, check_optional_attributes, non_empty, page_size, parse_token, token};
use crate::object::ListObjects;

pub(super) async fn list_objects_v2(
    gateway: &Gateway,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    check_optional_attributes(&req.headers)?;
    let input = req.input;
    let max_keys = page_size(input.max_keys, "max-keys")?;
    let prefix = input.prefix.unwrap_or_default();
    let delimiter = non_empty(input.delimiter.as_ref());
    // A token goes on from a page that began after `start-after`.
    let token_after = non_empty(input.continuation_token.as_ref()).map(parse_token).transpose()?;
    let after = token_after.as_deref().or(non_empty(input.start_after.as_ref()));
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let list = ListObjects { bucket: &bucket, prefix: &prefix, delimiter, after, max_keys: max_keys.unsigned_abs() };
    let page = gateway.objects.list(list).await.map_err(s3_error)?;
    let start_after = input.start_after.as_deref().unwrap_or_default();
    let arguments = [prefix.as_str(), delimiter.unwrap_or_default(), start_after];
    let names = Names::choose(input.encoding_type.as_ref(), arguments.into_iter().chain(page_names(&page)))?;
    let map = match input.fetch_owner {
        Some(true) => Some(gateway.accounts.map().await?),
        _ => None,
    };
    let (contents, common_prefixes) = split(&page, names, map.as_deref());
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(names.write(&prefix)),
        max_keys: Some(max_keys),
        key_count: i32::try_from(page.entries.len()).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.as_deref().map(token),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: delimiter.map(|delimiter| names.write(delimiter)),
        encoding_type: names.encoding_type(),
        start_after: input.start_after.map(|start| names.write(&start)),
        request_charged: None,
    }))
}
