//! What the conditions of policies can ask about a request: values under names such as `aws:SourceIp`. Who fills it in
//! reads requests; this only keeps what was found.

use std::borrow::Cow;

/// The keys that a request has, with their values. What is not there was not in the request.
///
/// The names of keys are compared without regard to case, as AWS does; what comes after a slash in them, a tag's key, with
/// it, as S3 compares tags.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Context {
    /// A request has about a dozen of them: looking through is faster than hashing.
    values: Vec<(Cow<'static, str>, String)>,
}

impl Context {
    /// Adds a value to a key. A key that is given more than once has several values.
    pub fn add(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.values.push((key.into(), value.into()));
    }

    /// The same request with more facts.
    pub fn with(&self, more: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut context = self.clone();
        context.values.extend(more.into_iter().map(|(key, value)| (Cow::Owned(key), value)));
        context
    }

    /// The values of a key, in the order in which they were added.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> + Clone + 'a {
        self.values.iter().filter(move |(have, _)| same_key(have, key)).map(|(_, value)| value.as_str())
    }
}

/// Whether two names mean the same key.
pub(super) fn same_key(one: &str, other: &str) -> bool {
    let ((one, one_tag), (other, other_tag)) = (split(one), split(other));
    one.eq_ignore_ascii_case(other) && one_tag == other_tag
}

fn split(key: &str) -> (&str, Option<&str>) {
    match key.split_once('/') {
        Some((name, tag)) => (name, Some(tag)),
        None => (key, None),
    }
}

#[cfg(test)]
mod tests {
    use super::Context;

    #[test]
    fn keys_are_found_whatever_their_case_and_tags_are_not() {
        let mut context = Context::default();
        context.add("aws:SourceIp", "127.0.0.1");
        context.add("s3:ExistingObjectTag/Team", "red");
        let values = |key: &'static str| context.values(key).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(values("AWS:sourceip"), ["127.0.0.1"]);
        assert_eq!(values("S3:existingobjecttag/Team"), ["red"]);
        assert!(values("s3:ExistingObjectTag/team").is_empty());
        assert!(values("s3:ExistingObjectTag").is_empty());
    }

    #[test]
    fn a_key_may_have_several_values() {
        let mut context = Context::default();
        context.add("s3:RequestObjectTagKeys", "a");
        let more = context.with([("s3:RequestObjectTagKeys".to_owned(), "b".to_owned())]);
        assert_eq!(more.values("s3:RequestObjectTagKeys").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(context.values("s3:RequestObjectTagKeys").count(), 1);
    }
}
