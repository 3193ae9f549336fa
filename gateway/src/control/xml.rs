//! The documents of S3 Control about tags: one that is read, and one that is written.

use annulus_common::tags::Tags;
use quick_xml::escape::escape;
use serde::Deserialize;

use super::error::ControlError;

pub(super) const NAMESPACE: &str = "http://awss3control.amazonaws.com/doc/2018-08-20/";

/// `TagResourceRequest`. What is not in it here is not known, and refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TagResourceRequest {
    #[serde(rename = "@xmlns")]
    _namespace: Option<String>,
    #[serde(rename = "Tags")]
    tags: TagList,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TagList {
    #[serde(rename = "Tag", default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "Value")]
    value: String,
}

/// The tags of a `TagResourceRequest`, as they are listed.
pub(super) fn tags(body: &[u8]) -> Result<Vec<(String, String)>, ControlError> {
    let text = std::str::from_utf8(body).map_err(|_| ControlError::MalformedXml)?;
    let request: TagResourceRequest = quick_xml::de::from_str(text).map_err(|_| ControlError::MalformedXml)?;
    Ok(request.tags.tags.into_iter().map(|Tag { key, value }| (key, value)).collect())
}

/// The answer to ListTagsForResource.
pub(super) fn listed(tags: Option<&Tags>) -> String {
    let tag = |(key, value): (&String, &String)| {
        format!("<Tag><Key>{}</Key><Value>{}</Value></Tag>", escape(key.as_str()), escape(value.as_str()))
    };
    let tags: String = tags.into_iter().flatten().map(tag).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListTagsForResourceResult xmlns=\"{NAMESPACE}\"><Tags>{tags}</Tags>\
         </ListTagsForResourceResult>"
    )
}

#[cfg(test)]
mod tests {
    use super::{ControlError, listed, tags};

    fn request(tags: &str) -> String {
        format!("<TagResourceRequest xmlns=\"{}\"><Tags>{tags}</Tags></TagResourceRequest>", super::NAMESPACE)
    }

    #[test]
    fn tags_are_read_as_they_are_written() {
        let body = request("<Tag><Key>a</Key><Value> 1 &amp; 2 </Value></Tag><Tag><Key>b</Key><Value></Value></Tag>");
        let read = tags(body.as_bytes()).expect("a document");
        assert_eq!(read, [("a".to_owned(), " 1 & 2 ".to_owned()), ("b".to_owned(), String::new())]);
        let all = read.into_iter().collect();
        assert!(
            listed(Some(&all)).contains("<Tags><Tag><Key>a</Key><Value> 1 &amp; 2 </Value></Tag><Tag><Key>b</Key>")
        );
        assert!(listed(None).contains("<Tags></Tags>"));
        assert_eq!(tags(request("").as_bytes()), Ok(Vec::new()));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for wrong in [
            String::new(),
            "{}".to_owned(),
            request("<Tag><Key>a</Key></Tag>"),
            request("<Tag><Key>a</Key><Value>1</Value><More/></Tag>"),
            request("<Other/>"),
            request("<Tag>"),
        ] {
            assert_eq!(tags(wrong.as_bytes()), Err(ControlError::MalformedXml), "{wrong}");
        }
    }
}
