//! Tags between headers, XML and the object layer.

use annulus_common::tags::{self, OBJECT_TAGS_MAX, TagError, Tags};
use http::HeaderMap;
use s3s::dto::{Tag, TagSet};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::error::{detailed, invalid_argument};
use super::headers::text;

/// `x-amz-tagging`.
pub(super) fn of_request(headers: &HeaderMap) -> S3Result<Tags> {
    match text(headers, "x-amz-tagging")? {
        Some(text) => tags::of_header(&text, OBJECT_TAGS_MAX).map_err(header_error),
        None => Ok(Tags::new()),
    }
}

/// The tags of an XML document.
pub(super) fn of_xml(listed: TagSet, most: usize) -> S3Result<Tags> {
    let pair = |tag: Tag| Some((tag.key?, tag.value?));
    let pairs = listed.into_iter().map(|tag| pair(tag).ok_or_else(|| s3_error!(MalformedXML)));
    tags::tags(pairs.collect::<S3Result<Vec<_>>>()?, most).map_err(|error| tag_error(error, most))
}

/// The tags as s3s writes them.
pub(super) fn dto_tags(tags: &Tags) -> TagSet {
    tags.iter().map(|(key, value)| Tag { key: Some(key.clone()), value: Some(value.clone()) }).collect()
}

/// `x-amz-tagging-count`, which says nothing where there are none.
pub(super) fn count(tags: &Tags) -> Option<i32> {
    i32::try_from(tags.len()).ok().filter(|count| *count > 0)
}

/// In a header, what is said twice is a mistake of the header's.
fn header_error(error: TagError) -> S3Error {
    match error {
        TagError::Duplicate(_) | TagError::Encoding => invalid_argument(
            "x-amz-tagging",
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.",
        ),
        error => tag_error(error, OBJECT_TAGS_MAX),
    }
}

/// See "Error responses" in the S3 API reference: every rule that a tag breaks is `InvalidTag`, and says which tag it is. `most`
/// is how many tags there may be, which is how S3 tells objects from buckets too.
fn tag_error(error: TagError, most: usize) -> S3Error {
    let of_object = most == OBJECT_TAGS_MAX;
    let message = match &error {
        TagError::TooMany(most) if of_object => format!("Object tags cannot be greater than {most}"),
        TagError::TooMany(most) => format!("Bucket tag count cannot be greater than {most}"),
        TagError::InvalidKey(_) => "The TagKey you have provided is invalid".to_owned(),
        TagError::InvalidValue { .. } | TagError::Encoding => "The TagValue you have provided is invalid".to_owned(),
        TagError::Duplicate(_) => "Cannot provide multiple Tags with the same key".to_owned(),
        TagError::Reserved(_) if of_object => "Your TagKey cannot be prefixed with aws:".to_owned(),
        TagError::Reserved(_) => "System tags cannot be added/updated by requester".to_owned(),
    };
    let refusal = S3Error::with_message(S3ErrorCode::InvalidTag, message);
    match error {
        TagError::InvalidKey(key) | TagError::Duplicate(key) | TagError::Reserved(key) => {
            detailed(refusal, &[("TagKey", &key)])
        }
        TagError::InvalidValue { key, value } => detailed(refusal, &[("TagKey", &key), ("TagValue", &value)]),
        TagError::TooMany(_) | TagError::Encoding => refusal,
    }
}

#[cfg(test)]
mod tests {
    use annulus_common::tags::{BUCKET_TAGS_MAX, OBJECT_TAGS_MAX};
    use http::{HeaderMap, HeaderValue};
    use s3s::dto::Tag;

    use super::{of_request, of_xml};

    fn header_code(text: &'static str) -> String {
        let headers =
            HeaderMap::from_iter([(http::HeaderName::from_static("x-amz-tagging"), HeaderValue::from_static(text))]);
        of_request(&headers).expect_err("refused").code().as_str().to_owned()
    }

    #[test]
    fn a_header_that_is_none_is_told_from_a_tag_that_is_none() {
        assert_eq!(header_code("a=1&a=2"), "InvalidArgument");
        assert_eq!(header_code("a=%ff"), "InvalidArgument");
        assert_eq!(header_code("aws:a=1"), "InvalidTag");
        assert_eq!(header_code("a=%21"), "InvalidTag");
        assert!(of_request(&HeaderMap::new()).expect("no tags").is_empty());
    }

    #[test]
    fn a_tag_has_a_key_and_a_value() {
        let tag = |key: Option<&str>, value: Option<&str>| Tag {
            key: key.map(str::to_owned),
            value: value.map(str::to_owned),
        };
        let code = |tag| of_xml(vec![tag], OBJECT_TAGS_MAX).expect_err("refused").code().as_str().to_owned();
        assert_eq!(code(tag(None, Some("v"))), "MalformedXML");
        assert_eq!(code(tag(Some("k"), None)), "MalformedXML");
        assert_eq!(code(tag(Some(""), Some(""))), "InvalidTag");
        let many = |count: usize| (0..count).map(|number| tag(Some(&number.to_string()), Some(""))).collect();
        assert_eq!(of_xml(many(50), BUCKET_TAGS_MAX).expect("as many as may be").len(), 50);
        assert!(of_xml(many(51), BUCKET_TAGS_MAX).is_err());
    }
}
