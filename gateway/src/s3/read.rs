//! What GetObject and HeadObject share: finding the object, judging conditions, choosing bytes, and the headers of both.

use annulus_common::map::Bucket;
use annulus_common::object::ObjectVersion;
use http::HeaderMap;
use s3s::S3Result;
use s3s::dto::{ChecksumMode, Range, Timestamp};

use super::checksum::value_text;
use super::condition;
use super::error::s3_error;
use super::find_object::{Place, find_object};
use super::headers::latin_metadata;
use super::range::{Selection, choose};
use super::{Gateway, encryption, expiry, version as version_ids};
use crate::auth::action::{GET_OBJECT, GET_OBJECT_LEGAL_HOLD, GET_OBJECT_RETENTION, GET_OBJECT_TAGGING};
use crate::auth::{Access, Resource};
use crate::kms::CustomerKey;

/// What a read asks for.
pub(super) struct Read<'a> {
    pub(super) access: &'a Access,
    pub(super) place: Place<'a>,
    pub(super) headers: &'a HeaderMap,
    pub(super) modified_since: Option<&'a Timestamp>,
    pub(super) unmodified_since: Option<&'a Timestamp>,
    pub(super) range: Option<&'a Range>,
    pub(super) part_number: Option<i32>,
}

/// The [`Read`] of a request: the inputs of both operations are types of their own with the same fields.
macro_rules! read_of {
    ($req:expr) => {{
        let (input, headers) = (&$req.input, &$req.headers);
        $crate::s3::read::Read {
            access: $crate::s3::access(&$req.extensions)?,
            place: $crate::s3::find_object::Place {
                bucket: &input.bucket,
                key: &input.key,
                version_id: input.version_id.as_deref(),
            },
            headers,
            modified_since: input.if_modified_since.as_ref(),
            unmodified_since: input.if_unmodified_since.as_ref(),
            range: input.range.as_ref(),
            part_number: input.part_number,
        }
    }};
}
pub(super) use read_of;

/// What a read found.
pub(super) struct Found {
    pub(super) bucket: Bucket,
    pub(super) version: ObjectVersion,
    /// The key that the client sent.
    pub(super) customer: Option<CustomerKey>,
    /// The version id to answer with.
    pub(super) version_id: Option<String>,
    /// Which bytes.
    pub(super) selection: Selection,
}

impl Found {
    /// What the answer says of the object beside what outputs have fields for.
    pub(super) fn headers(&self) -> HeaderMap {
        let mode = self.version.object.encryption.as_ref().map(|encryption| &encryption.mode);
        let mut headers = encryption::answer(mode, self.customer.as_ref());
        headers.extend(latin_metadata(&self.version));
        headers
    }
}

impl Found {
    /// When the object expires. Of a version that was asked for by its id it is not known whether it is the current one.
    pub(super) fn expiration(&self, key: &str, version_id: Option<&str>) -> Option<String> {
        if version_id.is_some() {
            return None;
        }
        expiry::of_object(&self.bucket, key, &self.version)
    }
}

/// The object and which bytes of it.
pub(super) async fn find(gateway: &Gateway, read: Read<'_>) -> S3Result<Found> {
    encryption::refuse_on_read(read.headers)?;
    let customer = encryption::customer_key(gateway, read.headers, &encryption::OBJECT)?;
    let now_ms = gateway.objects.now_ms();
    let conditions = condition::of_read(read.headers, read.modified_since, read.unmodified_since, now_ms)?;
    let place = read.place;
    let (bucket, mut version) = find_object(gateway, read.access, place, GET_OBJECT).await?;
    let object = Resource::object(place.bucket, &bucket, place.key, &version).of_version(place.version_id.is_some());
    // How many tags there are, and what locks, is told to those alone who may read them.
    let [tags, retention, legal_hold] = [GET_OBJECT_TAGGING, GET_OBJECT_RETENTION, GET_OBJECT_LEGAL_HOLD]
        .map(|action| read.access.may(action, &object));
    let shown = &mut version.object.attributes;
    shown.tags.retain(|_, _| tags);
    shown.retention = shown.retention.filter(|_| retention);
    shown.legal_hold = shown.legal_hold.filter(|_| legal_hold);
    condition::judge_read(&conditions, &version)?;
    // A part is asked for by its number alone, and S3 refuses a range beside it before it looks at either.
    let range = read.range.filter(|_| read.part_number.is_some() || condition::range_applies(read.headers, &version));
    let selection = choose(&version, range, read.part_number)?;
    // Last: a part that there is none of is said to be none, whether a key was sent or not.
    gateway.objects.check_key(&bucket, &version, customer.as_ref()).await.map_err(s3_error)?;
    let version_id = version_ids::of_read(&bucket, version.version, place.version_id);
    Ok(Found { bucket, version, customer, version_id, selection })
}

/// The checksum to answer with, where the client asks: the object's for all of it, a part's for that part.
pub(super) fn checksum_text(
    mode: Option<&ChecksumMode>,
    found: &ObjectVersion,
    selection: &Selection,
) -> Option<String> {
    let object = found.object.checksum.as_ref()?;
    let enabled = mode.is_some_and(|mode| mode.as_str().eq_ignore_ascii_case(ChecksumMode::ENABLED));
    match &selection.part {
        _ if !enabled => None,
        Some(part) => part.checksum.as_ref().map(|value| value_text(value)),
        None if selection.length() == found.object.size => Some(object.to_string()),
        None => None,
    }
}

/// Fills the fields that both outputs have.
macro_rules! fill {
    ($output:expr, $mode:expr, $found:expr, $selection:expr) => {{
        let (output, found, selection) = (&mut $output, $found, $selection);
        let headers = &found.object.headers;
        output.accept_ranges = Some("bytes".to_owned());
        output.cache_control = headers.cache_control.clone();
        output.content_disposition = headers.content_disposition.clone();
        output.content_encoding = headers.content_encoding.clone();
        output.content_language = headers.content_language.clone();
        output.content_length = Some($crate::s3::dto_size(selection.length()));
        output.content_range = selection.content_range(found.object.size);
        output.content_type = Some($crate::s3::headers::content_type(found));
        output.e_tag = Some($crate::s3::dto_etag(&found.object.etag));
        output.expires = headers.expires.clone();
        output.last_modified = Some($crate::s3::headers::timestamp(found.modified_ms));
        output.object_lock_legal_hold_status = $crate::s3::lock::dto_legal_hold(&found.object.attributes);
        output.object_lock_mode = $crate::s3::lock::dto_mode(&found.object.attributes);
        output.object_lock_retain_until_date =
            found.object.attributes.retention.map(|retention| $crate::s3::headers::timestamp(retention.until_ms));
        output.metadata = Some($crate::s3::headers::dto_metadata(found));
        output.parts_count = selection.parts_count.map(i32::from);
        output.tag_count = $crate::s3::tags::count(&found.object.attributes.tags);
        output.storage_class = $crate::s3::headers::dto_storage_class(headers.storage_class.as_ref());
        output.website_redirect_location = headers.website_redirect.clone();
        let text = $crate::s3::read::checksum_text($mode, found, selection);
        if let (Some(text), Some(checksum)) = (text, &found.object.checksum) {
            $crate::s3::checksum::set_checksum!(output, checksum.algorithm(), text);
            output.checksum_type = Some($crate::s3::checksum::dto_type(checksum.checksum_type()));
        }
    }};
}
pub(super) use fill;
