//! Answers as IAM and STS write them.

use std::fmt::Display;

use annulus_common::tags::Tags;
use quick_xml::escape::escape;
use time::OffsetDateTime;
use time::macros::format_description;

/// Actions whose answer has a result although it says nothing: clients look for it.
const EMPTY_RESULTS: &[&str] = &["UpdateRole"];

/// What an answer or a part of it says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Xml(String);

impl Xml {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds a text.
    pub(super) fn text(mut self, name: &str, value: impl Display) -> Self {
        self.0.push_str(&format!("<{name}>{}</{name}>", escape(value.to_string().as_str())));
        self
    }

    /// Adds a text where there is one.
    pub(super) fn text_if(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// Adds a time.
    pub(super) fn time(self, name: &str, unix_ms: u64) -> Self {
        self.text(name, time_text(unix_ms))
    }

    /// Adds an element with others in it.
    pub(super) fn inside(mut self, name: &str, inner: Self) -> Self {
        self.0.push_str(&format!("<{name}>{}</{name}>", inner.0));
        self
    }

    /// Adds a list.
    pub(super) fn list(self, name: &str, members: impl IntoIterator<Item = Self>) -> Self {
        let members: String = members.into_iter().map(|member| format!("<member>{}</member>", member.0)).collect();
        self.inside(name, Self(members))
    }

    /// Adds a list of texts.
    pub(super) fn texts(self, name: &str, members: impl IntoIterator<Item = impl Display>) -> Self {
        self.list(name, members.into_iter().map(|member| Self(escape(member.to_string().as_str()).into_owned())))
    }

    /// Adds tags.
    pub(super) fn tags(self, tags: &Tags) -> Self {
        self.list("Tags", tags.iter().map(|(key, value)| Self::new().text("Key", key).text("Value", value)))
    }

    /// The whole answer to an action.
    pub(super) fn in_envelope(&self, namespace: &str, action: &str, request_id: &str) -> String {
        let (result, action) = (&self.0, escape(action));
        let has_result = !result.is_empty() || EMPTY_RESULTS.contains(&&*action);
        let result = if has_result { format!("<{action}Result>{result}</{action}Result>") } else { String::new() };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><{action}Response xmlns=\"{namespace}\">{result}<ResponseMetadata>\
             <RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
        )
    }
}

/// `2026-01-31T12:00:00Z`
fn time_text(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Xml;

    #[test]
    fn an_answer_is_in_its_envelope() {
        let user = Xml::new().text("UserName", "a<b").time("CreateDate", 1_700_000_000_000);
        let answer = Xml::new().list("Users", [user]).text("IsTruncated", false);
        assert_eq!(
            answer.in_envelope("urn:x", "ListUsers", "7"),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListUsersResponse xmlns=\"urn:x\"><ListUsersResult><Users><member>\
             <UserName>a&lt;b</UserName><CreateDate>2023-11-14T22:13:20Z</CreateDate></member></Users>\
             <IsTruncated>false</IsTruncated></ListUsersResult><ResponseMetadata><RequestId>7</RequestId>\
             </ResponseMetadata></ListUsersResponse>"
        );
        assert!(!Xml::new().in_envelope("urn:x", "DeleteUser", "7").contains("Result"));
        assert!(Xml::new().in_envelope("urn:x", "UpdateRole", "7").contains("<UpdateRoleResult></UpdateRoleResult>"));
    }
}
