//! ListObjectVersions.

use annulus_common::map::ClusterMap;
use annulus_common::object::{DeleteMarker, ListedItem, ListedObject};
use annulus_common::protocol::metadata::Entry;
use s3s::dto::{
    CommonPrefix, DeleteMarkerEntry, ListObjectVersionsInput, ListObjectVersionsOutput, ObjectVersion,
    ObjectVersionStorageClass,
};
use s3s::{S3Request, S3Response, S3Result};

use super::checksum::{dto_algorithm, dto_type};
use super::error::{invalid_argument, s3_error};
use super::headers::{STANDARD, timestamp};
use super::listing::{Names, check_optional_attributes, non_empty, page_size};
use super::version::asked;
use super::{Gateway, dto_etag, dto_size, owner};
use crate::object::{ListVersions, VersionPage};

pub(super) async fn list_object_versions(
    gateway: &Gateway,
    req: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    check_optional_attributes(&req.headers)?;
    let input = req.input;
    let max_keys = page_size(input.max_keys, "max-keys")?;
    let prefix = input.prefix.unwrap_or_default();
    let delimiter = non_empty(input.delimiter.as_ref());
    let after_key = non_empty(input.key_marker.as_ref());
    let version_marker = non_empty(input.version_id_marker.as_ref());
    if version_marker.is_some() && after_key.is_none() {
        let message = "A version-id marker cannot be specified without a key marker.";
        return Err(invalid_argument("version-id-marker", message));
    }
    let after_version = asked(version_marker)?;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let max = max_keys.unsigned_abs();
    let list = ListVersions { bucket: &bucket, prefix: &prefix, delimiter, after_key, after_version, max_keys: max };
    let page = gateway.objects.list_versions(list).await.map_err(s3_error)?;
    let key_marker = input.key_marker.unwrap_or_default();
    let arguments = [prefix.as_str(), delimiter.unwrap_or_default(), key_marker.as_str()];
    let names = Names::choose(input.encoding_type.as_ref(), arguments.into_iter().chain(page_names(&page)))?;
    let map = gateway.accounts.map().await?;
    let listed = split(&page, names, &map);
    let (next_key, next_version) = page.next.unzip();
    Ok(S3Response::new(ListObjectVersionsOutput {
        common_prefixes: Some(listed.common_prefixes),
        delete_markers: Some(listed.markers),
        delimiter: delimiter.map(|delimiter| names.write(delimiter)),
        encoding_type: names.encoding_type(),
        is_truncated: Some(next_key.is_some()),
        key_marker: Some(names.write(&key_marker)),
        max_keys: Some(max_keys),
        name: Some(input.bucket),
        next_key_marker: next_key.map(|next| names.write(&next)),
        next_version_id_marker: next_version.flatten().map(|version| version.to_string()),
        prefix: Some(names.write(&prefix)),
        request_charged: None,
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        versions: Some(listed.versions),
    }))
}

fn page_names(page: &VersionPage) -> impl Iterator<Item = &str> {
    page.entries.iter().map(|entry| match entry {
        Entry::Item(version) => version.item.key(),
        Entry::Prefix(prefix) => prefix.as_str(),
    })
}

/// A page by kind: that is how s3s writes it.
#[derive(Default)]
struct Listed {
    versions: Vec<ObjectVersion>,
    markers: Vec<DeleteMarkerEntry>,
    common_prefixes: Vec<CommonPrefix>,
}

fn split(page: &VersionPage, names: Names, map: &ClusterMap) -> Listed {
    let mut listed = Listed::default();
    for entry in &page.entries {
        match entry {
            Entry::Prefix(prefix) => {
                listed.common_prefixes.push(CommonPrefix { prefix: Some(names.write(prefix)) });
            }
            Entry::Item(version) => match &version.item {
                ListedItem::Object(object) => {
                    let is_latest = Some(version.is_latest);
                    listed.versions.push(ObjectVersion { is_latest, ..dto_version(object, names, map) });
                }
                ListedItem::Marker { key, marker } => {
                    let is_latest = Some(version.is_latest);
                    listed.markers.push(DeleteMarkerEntry { is_latest, ..dto_marker(key, marker, names, map) });
                }
            },
        }
    }
    listed
}

fn dto_version(object: &ListedObject, names: Names, map: &ClusterMap) -> ObjectVersion {
    let class = object.storage_class.clone().unwrap_or_else(|| STANDARD.to_owned());
    ObjectVersion {
        checksum_algorithm: object.checksum.map(|(algorithm, _)| vec![dto_algorithm(algorithm)]),
        checksum_type: object.checksum.map(|(_, kind)| dto_type(kind)),
        e_tag: Some(dto_etag(&object.etag)),
        is_latest: None,
        key: Some(names.write(&object.key)),
        last_modified: Some(timestamp(object.modified_ms)),
        owner: Some(owner(map, object.owner)),
        restore_status: None,
        size: Some(dto_size(object.size)),
        storage_class: Some(ObjectVersionStorageClass::from(class)),
        version_id: Some(object.version.to_string()),
    }
}

fn dto_marker(key: &str, marker: &DeleteMarker, names: Names, map: &ClusterMap) -> DeleteMarkerEntry {
    DeleteMarkerEntry {
        is_latest: None,
        key: Some(names.write(key)),
        last_modified: Some(timestamp(marker.modified_ms)),
        owner: Some(owner(map, marker.owner)),
        version_id: Some(marker.version.to_string()),
    }
}
