//! GetObjectAttributes.

use annulus_common::object::{Data, ObjectVersion, Part};
use s3s::dto::{
    Checksum, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts, ObjectAttributes,
    ObjectPart, StorageClass,
};
use s3s::{S3Request, S3Response, S3Result};

use super::checksum::{dto_type, set_checksum, value_text};
use super::encryption;
use super::error::{invalid_argument, s3_error};
use super::find_object::{Place, find_object};
use super::headers::{STANDARD, timestamp};
use super::listing::page_size;
use super::{Gateway, access, dto_etag, dto_size, version};
use crate::auth::Resource;
use crate::auth::action::GET_OBJECT;

const ATTRIBUTES: &[&str] = &["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];

pub(super) async fn get_object_attributes(
    gateway: &Gateway,
    req: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let access = access(&req.extensions)?;
    let input = req.input;
    let asked = attributes(&input.object_attributes)?;
    let parts_max = page_size(input.max_parts, "max-parts")?;
    let marker = input.part_number_marker.unwrap_or(0);
    if marker < 0 {
        return Err(invalid_argument("x-amz-part-number-marker", "A part number marker cannot be negative"));
    }
    encryption::refuse_on_read(&req.headers)?;
    let customer = encryption::customer_key(gateway, &req.headers, &encryption::OBJECT)?;
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    // S3 asks for both permissions.
    let (bucket, found) = find_object(gateway, access, place, GET_OBJECT).await?;
    let object = Resource::object(place.bucket, &bucket, place.key, &found).of_version(place.version_id.is_some());
    access.check(access.action(), &object)?;
    gateway.objects.check_key(&bucket, &found, customer.as_ref()).await.map_err(s3_error)?;
    let is_asked = |name: &str| asked.iter().any(|asked| asked == name);
    let class = found.object.headers.storage_class.clone().unwrap_or_else(|| STANDARD.to_owned());
    Ok(S3Response::new(GetObjectAttributesOutput {
        checksum: dto_checksum(&found).filter(|_| is_asked("Checksum")),
        e_tag: is_asked("ETag").then(|| dto_etag(&found.object.etag)),
        last_modified: Some(timestamp(found.modified_ms)),
        object_parts: dto_parts(&found, marker, parts_max).filter(|_| is_asked("ObjectParts")),
        object_size: is_asked("ObjectSize").then(|| dto_size(found.object.size)),
        storage_class: is_asked("StorageClass").then(|| StorageClass::from(class)),
        version_id: version::of_read(&bucket, found.version, place.version_id),
        ..Default::default()
    }))
}

/// What is asked for: one header with a list, or several.
fn attributes(headers: &[ObjectAttributes]) -> S3Result<Vec<String>> {
    let names = headers.iter().flat_map(|header| header.as_str().split(',')).map(|name| name.trim().to_owned());
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    if names.is_empty() || !names.iter().all(|name| ATTRIBUTES.contains(&name.as_str())) {
        return Err(invalid_argument("x-amz-object-attributes", "Invalid attribute name specified."));
    }
    Ok(names)
}

fn dto_checksum(found: &ObjectVersion) -> Option<Checksum> {
    let checksum = found.object.checksum.as_ref()?;
    let mut output = Checksum { checksum_type: Some(dto_type(checksum.checksum_type())), ..Default::default() };
    set_checksum!(output, checksum.algorithm(), checksum.to_string());
    Some(output)
}

/// The parts of an object that was uploaded in parts.
fn dto_parts(found: &ObjectVersion, marker: i32, parts_max: i32) -> Option<GetObjectAttributesParts> {
    let total = found.object.etag.parts?;
    let Data::Parts(parts) = &found.object.data else { return None };
    let start = usize::try_from(marker).unwrap_or(usize::MAX).min(parts.len());
    let end = (start + usize::try_from(parts_max).unwrap_or(0)).min(parts.len());
    let page: Vec<ObjectPart> =
        parts[start..end].iter().zip(start..).map(|(part, place)| dto_part(found, part, place + 1)).collect();
    let truncated = end < parts.len();
    Some(GetObjectAttributesParts {
        is_truncated: Some(truncated),
        max_parts: Some(parts_max),
        next_part_number_marker: i32::try_from(end).ok(),
        part_number_marker: Some(marker),
        parts: Some(page),
        total_parts_count: Some(i32::from(total)),
    })
}

fn dto_part(found: &ObjectVersion, part: &Part, number: usize) -> ObjectPart {
    let mut output =
        ObjectPart { part_number: i32::try_from(number).ok(), size: Some(dto_size(part.length)), ..Default::default() };
    if let (Some(value), Some(checksum)) = (&part.checksum, &found.object.checksum) {
        set_checksum!(output, checksum.algorithm(), value_text(value));
    }
    output
}

#[cfg(test)]
mod tests {
    use s3s::dto::ObjectAttributes;

    use super::attributes;

    #[test]
    fn attributes_come_in_one_header_or_several() {
        let header = |text: &str| ObjectAttributes::from(text.to_owned());
        assert_eq!(
            attributes(&[header("ETag,Checksum"), header(" ObjectSize")]).expect("known"),
            ["ETag", "Checksum", "ObjectSize"]
        );
        assert!(attributes(&[header("ETag,Colour")]).is_err());
        assert!(attributes(&[]).is_err());
    }
}
