//! ListObjects, the first version, and what all listings of objects make of a page.

use annulus_common::map::ClusterMap;
use annulus_common::object::ListedObject;
use annulus_common::protocol::metadata::Entry;
use s3s::dto::{self, CommonPrefix, ListObjectsInput, ListObjectsOutput, ObjectStorageClass};
use s3s::{S3Request, S3Response, S3Result};

use super::checksum::{dto_algorithm, dto_type};
use super::error::s3_error;
use super::headers::{STANDARD, timestamp};
use super::listing::{Names, check_optional_attributes, fits_xml, non_empty, page_size};
use super::{Gateway, dto_etag, dto_size, owner};
use crate::object::{ListObjects, ObjectPage};

pub(super) async fn list_objects(
    gateway: &Gateway,
    req: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    check_optional_attributes(&req.headers)?;
    let input = req.input;
    let max_keys = page_size(input.max_keys, "max-keys")?;
    let prefix = input.prefix.unwrap_or_default();
    let marker = input.marker.unwrap_or_default();
    let delimiter = non_empty(input.delimiter.as_ref());
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let list = ListObjects {
        bucket: &bucket,
        prefix: &prefix,
        delimiter,
        after: Some(marker.as_str()).filter(|marker| !marker.is_empty()),
        max_keys: max_keys.unsigned_abs(),
    };
    let page = gateway.objects.list(list).await.map_err(s3_error)?;
    let arguments = [prefix.as_str(), marker.as_str(), delimiter.unwrap_or_default()];
    let names = Names::choose(input.encoding_type.as_ref(), arguments.into_iter().chain(page_names(&page)))?;
    let map = gateway.accounts.map().await?;
    let (contents, common_prefixes) = split(&page, names, Some(&map));
    // Without a delimiter the last key is the next marker, and S3 does not say it.
    let next_marker = page.next.as_deref().filter(|_| delimiter.is_some()).map(|next| names.write(next));
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(write_prefix(names, &prefix)),
        marker: Some(names.write(&marker)),
        max_keys: Some(max_keys),
        is_truncated: Some(page.next.is_some()),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: delimiter.map(|delimiter| names.write(delimiter)),
        next_marker,
        encoding_type: names.encoding_type(),
        request_charged: None,
    }))
}

/// The prefix of the listing's first version is encoded only where a decoder would change it or XML cannot carry it: most
/// clients decode it, but botocore does not, and all of them shall read what was asked.
fn write_prefix(names: Names, prefix: &str) -> String {
    if prefix.contains(['%', '+']) || !fits_xml(prefix) { names.write(prefix) } else { prefix.to_owned() }
}

/// The names in a page.
pub(super) fn page_names(page: &ObjectPage) -> impl Iterator<Item = &str> {
    page.entries.iter().map(|entry| match entry {
        Entry::Item(object) => object.key.as_str(),
        Entry::Prefix(prefix) => prefix.as_str(),
    })
}

/// A page's objects and common prefixes, with the owners if a map to name them is given.
pub(super) fn split(
    page: &ObjectPage,
    names: Names,
    owners: Option<&ClusterMap>,
) -> (Vec<dto::Object>, Vec<CommonPrefix>) {
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    for entry in &page.entries {
        match entry {
            Entry::Item(object) => objects.push(dto_object(object, names, owners)),
            Entry::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(names.write(prefix)) }),
        }
    }
    (objects, prefixes)
}

fn dto_object(object: &ListedObject, names: Names, owners: Option<&ClusterMap>) -> dto::Object {
    let class = object.storage_class.clone().unwrap_or_else(|| STANDARD.to_owned());
    dto::Object {
        checksum_algorithm: object.checksum.map(|(algorithm, _)| vec![dto_algorithm(algorithm)]),
        checksum_type: object.checksum.map(|(_, kind)| dto_type(kind)),
        e_tag: Some(dto_etag(&object.etag)),
        key: Some(names.write(&object.key)),
        last_modified: Some(timestamp(object.modified_ms)),
        owner: owners.map(|map| owner(map, object.owner)),
        restore_status: None,
        size: Some(dto_size(object.size)),
        storage_class: Some(ObjectStorageClass::from(class)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Names, write_prefix};

    #[test]
    fn a_prefix_reads_the_same_decoded_or_not() {
        for plain in ["", "foo/", "a b", "é", "\n"] {
            assert_eq!(write_prefix(Names::Encoded, plain), plain);
        }
        assert_eq!(write_prefix(Names::Encoded, "a+b"), "a%2Bb");
        assert_eq!(write_prefix(Names::Encoded, "a%2B"), "a%252B");
        assert_eq!(write_prefix(Names::Encoded, "\u{1}"), "%01");
    }
}
