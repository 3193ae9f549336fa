//! ListObjectVersions: every object is the one version of its key, with the id `null`.

use annulus_common::map::ClusterMap;
use annulus_common::object::ListedObject;
use annulus_common::protocol::metadata::Entry;
use s3s::dto::{
    CommonPrefix, ListObjectVersionsInput, ListObjectVersionsOutput, ObjectVersion, ObjectVersionStorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::checksum::{dto_algorithm, dto_type};
use super::error::s3_error;
use super::headers::{STANDARD, timestamp};
use super::list_objects::page_names;
use super::listing::{Names, non_empty, page_size};
use super::version::{NULL, asked};
use super::{Gateway, dto_etag, dto_size, owner};
use crate::object::{ListObjects, ObjectPage};

pub(super) async fn list_object_versions(
    gateway: &Gateway,
    req: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let input = req.input;
    let max_keys = page_size(input.max_keys, "max-keys")?;
    let prefix = input.prefix.unwrap_or_default();
    let delimiter = non_empty(input.delimiter.as_ref());
    let after = non_empty(input.key_marker.as_ref());
    if let Some(marker) = non_empty(input.version_id_marker.as_ref()) {
        if after.is_none() {
            return Err(s3_error!(InvalidArgument, "A version-id marker cannot be specified without a key marker."));
        }
        asked(Some(marker))?;
    }
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let list = ListObjects { bucket: &bucket, prefix: &prefix, delimiter, after, max_keys: max_keys.unsigned_abs() };
    let page = gateway.objects.list(list).await.map_err(s3_error)?;
    let key_marker = input.key_marker.unwrap_or_default();
    let arguments = [prefix.as_str(), delimiter.unwrap_or_default(), key_marker.as_str()];
    let names = Names::choose(input.encoding_type.as_ref(), arguments.into_iter().chain(page_names(&page)))?;
    let map = gateway.accounts.map().await?;
    let (versions, common_prefixes) = split(&page, names, &map);
    let ends_with_version = matches!(page.entries.last(), Some(Entry::Item(_)));
    Ok(S3Response::new(ListObjectVersionsOutput {
        common_prefixes: Some(common_prefixes),
        delete_markers: None,
        delimiter: delimiter.map(|delimiter| names.write(delimiter)),
        encoding_type: names.encoding_type(),
        is_truncated: Some(page.next.is_some()),
        key_marker: Some(names.write(&key_marker)),
        max_keys: Some(max_keys),
        name: Some(input.bucket),
        next_key_marker: page.next.as_deref().map(|next| names.write(next)),
        next_version_id_marker: (page.next.is_some() && ends_with_version).then(|| NULL.to_owned()),
        prefix: Some(names.write(&prefix)),
        request_charged: None,
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        versions: Some(versions),
    }))
}

fn split(page: &ObjectPage, names: Names, map: &ClusterMap) -> (Vec<ObjectVersion>, Vec<CommonPrefix>) {
    let (mut versions, mut prefixes) = (Vec::new(), Vec::new());
    for entry in &page.entries {
        match entry {
            Entry::Item(object) => versions.push(dto_version(object, names, map)),
            Entry::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(names.write(prefix)) }),
        }
    }
    (versions, prefixes)
}

fn dto_version(object: &ListedObject, names: Names, map: &ClusterMap) -> ObjectVersion {
    let class = object.storage_class.clone().unwrap_or_else(|| STANDARD.to_owned());
    ObjectVersion {
        checksum_algorithm: object.checksum.map(|(algorithm, _)| vec![dto_algorithm(algorithm)]),
        checksum_type: object.checksum.map(|(_, kind)| dto_type(kind)),
        e_tag: Some(dto_etag(&object.etag)),
        is_latest: Some(true),
        key: Some(names.write(&object.key)),
        last_modified: Some(timestamp(object.modified_ms)),
        owner: Some(owner(map, object.owner)),
        restore_status: None,
        size: Some(dto_size(object.size)),
        storage_class: Some(ObjectVersionStorageClass::from(class)),
        version_id: Some(object.version.to_string()),
    }
}
