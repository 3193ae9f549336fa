//! CopyObject.

use annulus_common::map::Bucket;
use annulus_common::notification::Means;
use annulus_common::object::{ObjectAttributes, ObjectHeaders, ObjectVersion};
use annulus_common::tags::Tags;
use http::HeaderMap;
use s3s::dto::{CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, Metadata};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::checksum::{self, dto_type, set_checksum};
use super::error::{error_at, invalid_argument, s3_error};
use super::find_object::{Place, check_compares, find_source, version_fact};
use super::headers::timestamp;
use super::{
    Gateway, access, attributes, condition, dto_etag, encryption, expiry, headers, tags, version, with_headers,
};
use crate::auth::action::{GET_OBJECT_TAGGING, PUT_OBJECT_TAGGING};
use crate::auth::{Access, Resource, facts_of_tags};
use crate::object::{BODY_BYTES_MAX, CopyObject, Written};

pub(super) async fn copy_object(
    gateway: &Gateway,
    req: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let access = access(&req.extensions)?;
    let input = req.input;
    let place = source_of(&input.copy_source)?;
    let replace = replaces_metadata(input.metadata_directive.as_ref().map(|directive| directive.as_str()))?;
    let asked = changes(&req.headers, input.metadata, replace)?;
    let tags = new_tags(&req.headers, input.tagging_directive.as_ref().map(|directive| directive.as_str()))?;
    let algorithm = input.checksum_algorithm.as_ref().map(|name| checksum::algorithm(name.as_str())).transpose()?;
    let source_customer = encryption::customer_key(gateway, &req.headers, &encryption::COPY_SOURCE)?;
    // An old version that is copied over the current one is brought back.
    let to_itself = place.bucket == input.bucket && place.key == input.key && place.version_id.is_none();
    let changes = replace || asked.changes_anything() || algorithm.is_some() || encryption::is_asked(&req.headers);
    if to_itself && !changes {
        return Err(s3_error!(
            InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes."
        ));
    }
    let source_conditions = condition::of_source(
        &req.headers,
        "x-amz-copy-source",
        input.copy_source_if_modified_since.as_ref(),
        input.copy_source_if_unmodified_since.as_ref(),
        gateway.objects.now_ms(),
    )?;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let encrypt = encryption::of_write(gateway, &req.headers, &bucket)?;
    let customer = encryption::customer_of(encrypt.as_ref()).cloned();
    let (owner, attributes) = attributes::of_request(gateway, &req.headers, &bucket, access.user()).await?;
    let (held_by, source) = find_source(gateway, access, place).await?;
    condition::judge_source(&source_conditions, &source, "x-amz-copy-source")?;
    if tags.is_none() && !source.object.attributes.tags.is_empty() {
        check_tags(access, (place, &held_by, &source), (&input.bucket, &bucket, &input.key))?;
    }
    let conditions = condition::of_write(&req.headers)?;
    check_compares(gateway, access, Place::current(&input.bucket, &input.key), &conditions).await?;
    if source.object.size > BODY_BYTES_MAX {
        return Err(s3_error!(
            InvalidRequest,
            "The specified copy source is larger than the maximum allowable size for a copy source: {BODY_BYTES_MAX}"
        ));
    }
    let source_key = gateway.objects.unlock(&held_by, &source, source_customer.as_ref()).await.map_err(s3_error)?;
    let copy = CopyObject {
        source: &source,
        source_key: &source_key,
        bucket: &bucket,
        key: &input.key,
        owner,
        headers: Some(asked.applied_to(&source)),
        attributes: ObjectAttributes {
            // A copy has the tags of its source, or others; nothing else that can be changed later is copied.
            tags: tags.unwrap_or_else(|| source.object.attributes.tags.clone()),
            ..attributes
        },
        conditions,
        checksum: algorithm,
        encrypt,
        request: None,
    };
    let tags = copy.attributes.tags.clone();
    let objects = gateway.telling(&req.extensions, &bucket, Means::Copy);
    let written = objects.copy(copy).await.map_err(|error| error_at(&input.key, error))?;
    let source_version = version::of_read(&held_by, source.version, place.version_id);
    let output = CopyObjectOutput {
        copy_object_result: Some(result(&written)),
        copy_source_version_id: source_version,
        version_id: version::of_write(written.version),
        expiration: expiry::of_facts(&bucket, &input.key, written.modified_ms, written.size, &tags),
        ..Default::default()
    };
    Ok(with_headers(output, encryption::answer_written(written.encryption.as_ref(), customer.as_ref())))
}

/// Whoever copies tags reads them there and writes them here.
fn check_tags(
    access: &Access,
    (place, held_by, source): (Place<'_>, &Bucket, &ObjectVersion),
    (name, bucket, key): (&str, &Bucket, &str),
) -> S3Result {
    let read = Resource::object(place.bucket, held_by, place.key, source).of_version(place.version_id.is_some());
    access.check_with(GET_OBJECT_TAGGING, &read, place.version_id.map(version_fact).into_iter().collect())?;
    let made = Resource::made(name, bucket, key, bucket.object_owner(access.user()));
    access.check_with(PUT_OBJECT_TAGGING, &made, facts_of_tags(&source.object.attributes.tags))
}

/// Where a source is.
pub(super) fn source_of(source: &CopySource) -> S3Result<Place<'_>> {
    match source {
        CopySource::Bucket { bucket, key, version_id } if !key.is_empty() => {
            Ok(Place { bucket, key, version_id: version_id.as_deref() })
        }
        CopySource::Bucket { .. } => Err(invalid_argument(
            "x-amz-copy-source",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
        )),
        CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => Err(s3_error!(NotImplemented)),
    }
}

/// The tags that the copy is to have instead of its source's.
fn new_tags(headers: &HeaderMap, directive: Option<&str>) -> S3Result<Option<Tags>> {
    match directive {
        None | Some("COPY") if headers.contains_key("x-amz-tagging") => Err(invalid_argument(
            "x-amz-tagging-directive",
            "The x-amz-tagging header can only be used with the REPLACE tagging directive.",
        )),
        None | Some("COPY") => Ok(None),
        Some("REPLACE") => tags::of_request(headers).map(Some),
        Some(_) => Err(invalid_argument("x-amz-tagging-directive", "Unknown tagging directive.")),
    }
}

fn replaces_metadata(directive: Option<&str>) -> S3Result<bool> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(invalid_argument("x-amz-metadata-directive", "Unknown metadata directive.")),
    }
}

/// How the copy's headers differ from the source's.
enum Changes {
    /// All of them are the request's.
    All(ObjectHeaders),
    /// Only these, which are never copied.
    Some { storage_class: Option<String>, website_redirect: Option<String>, class_is_named: bool },
}

fn changes(headers: &HeaderMap, metadata: Option<Metadata>, replace: bool) -> S3Result<Changes> {
    if replace {
        return headers::of_request(headers, metadata).map(Changes::All);
    }
    Ok(Changes::Some {
        storage_class: headers::storage_class(headers)?,
        website_redirect: headers::website_redirect(headers)?,
        class_is_named: headers.contains_key("x-amz-storage-class"),
    })
}

impl Changes {
    fn changes_anything(&self) -> bool {
        match self {
            Changes::All(_) => true,
            Changes::Some { website_redirect, class_is_named, .. } => *class_is_named || website_redirect.is_some(),
        }
    }

    fn applied_to(self, source: &ObjectVersion) -> ObjectHeaders {
        match self {
            Changes::All(headers) => headers,
            Changes::Some { storage_class, website_redirect, .. } => {
                ObjectHeaders { storage_class, website_redirect, ..source.object.headers.clone() }
            }
        }
    }
}

fn result(written: &Written) -> CopyObjectResult {
    let mut result = CopyObjectResult {
        e_tag: Some(dto_etag(&written.etag)),
        last_modified: Some(timestamp(written.modified_ms)),
        ..Default::default()
    };
    if let Some(checksum) = &written.checksum {
        set_checksum!(result, checksum.algorithm(), checksum.to_string());
        result.checksum_type = Some(dto_type(checksum.checksum_type()));
    }
    result
}
