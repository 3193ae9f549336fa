//! The policy of a form: what its signer allows others to upload. Pure: parsed from the text that was signed, judged
//! against the fields. See "Creating an HTML form" and "POST policy" in the S3 user guide; the messages are S3's.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fields::Fields;

/// Fields that no condition needs to name: the policy and its signature themselves, and, as a signer cannot know what a
/// checksum will be, those that only say what the bytes must be.
const EXEMPT: &[&str] = &["policy", "awsaccesskeyid", "signature", "x-amz-signature"];
const EXEMPT_PREFIXES: &[&str] = &["x-ignore-", "x-amz-checksum-"];

/// The field whose value is a list, each of which must begin as a condition says.
const LIST: &str = "content-type";

/// Why a form may not be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum PolicyError {
    /// The policy cannot be understood.
    Invalid(String),
    /// The policy does not allow it.
    Denied(String),
}

/// A policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Policy {
    expires_ms: i128,
    conditions: Vec<Condition>,
    file_bytes: RangeInclusive<u64>,
}

/// What must hold of a field.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Condition {
    rule: Rule,
    /// As the policy writes it, for people.
    written: String,
    /// In lower case.
    name: String,
    operand: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    Equals,
    StartsWith,
}

impl Policy {
    /// Reads the field `policy`.
    pub(super) fn parse(encoded: &str) -> Result<Self, PolicyError> {
        let text: String = encoded.split_ascii_whitespace().collect();
        let json = BASE64.decode(text).map_err(|_| invalid("Invalid Base64 encoding."))?;
        let Ok(Value::Object(mut document)) = serde_json::from_slice(&json) else {
            return Err(invalid("Invalid JSON."));
        };
        let expiration = document.remove("expiration").ok_or_else(|| invalid("Policy missing expiration."))?;
        let conditions = document.remove("conditions").ok_or_else(|| invalid("Policy missing conditions."))?;
        if let Some(unknown) = document.keys().next() {
            return Err(invalid(format!("Unexpected: '{unknown}'.")));
        }
        let Value::Array(conditions) = conditions else {
            return Err(invalid("Invalid 'conditions' value: must be a List."));
        };
        let mut policy =
            Self { expires_ms: expires_ms(&expiration)?, conditions: Vec::new(), file_bytes: 0..=u64::MAX };
        for condition in &conditions {
            policy.add(condition)?;
        }
        Ok(policy)
    }

    fn add(&mut self, condition: &Value) -> Result<(), PolicyError> {
        match condition {
            Value::Object(simple) => self.conditions.push(simple_condition(simple)?),
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(rule), least, most] if rule.eq_ignore_ascii_case("content-length-range") => {
                    let range = bytes(least)?..=bytes(most)?;
                    // Several conditions hold all.
                    let least = (*self.file_bytes.start()).max(*range.start());
                    self.file_bytes = least..=(*self.file_bytes.end()).min(*range.end());
                }
                [Value::String(rule), Value::String(variable), Value::String(operand)] => {
                    self.conditions.push(rule_condition(rule, variable, operand)?);
                }
                _ => return Err(invalid("Invalid Condition: wrong number of arguments.")),
            },
            _ => return Err(invalid("Invalid Condition: must be a List or a Simple-Condition.")),
        }
        Ok(())
    }

    /// Whether the policy allows the form, and how long its file may be.
    pub(super) fn judge(&self, fields: &Fields, now_ms: u64) -> Result<RangeInclusive<u64>, PolicyError> {
        if self.expires_ms <= i128::from(now_ms) {
            return Err(denied("Policy expired."));
        }
        if let Some(failed) = self.conditions.iter().find(|condition| !condition.holds(fields)) {
            return Err(denied(format!("Policy Condition failed: {}", failed.written)));
        }
        let is_covered = |name: &str| self.conditions.iter().any(|condition| condition.name == name);
        let extra: Vec<&str> =
            fields.iter().map(|(name, _)| name).filter(|name| !is_exempt(name) && !is_covered(name)).collect();
        if !extra.is_empty() {
            return Err(denied(format!("Extra input fields: {}", extra.join(", "))));
        }
        Ok(self.file_bytes.clone())
    }
}

impl Condition {
    /// A field that is not there meets no condition, not even that of beginning with nothing. But for how to encrypt: what the
    /// form does not say, the bucket's default does.
    fn holds(&self, fields: &Fields) -> bool {
        let Some(value) = fields.get(&self.name) else {
            let may_be_default = self.name.starts_with("x-amz-server-side-encryption");
            return may_be_default && self.rule == Rule::StartsWith && self.operand.is_empty();
        };
        match self.rule {
            Rule::Equals => value == self.operand,
            Rule::StartsWith if self.name == LIST => {
                value.split(',').all(|item| item.trim_start().starts_with(&self.operand))
            }
            Rule::StartsWith => value.starts_with(&self.operand),
        }
    }
}

fn is_exempt(name: &str) -> bool {
    EXEMPT.contains(&name) || EXEMPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// `{"acl": "private"}`
fn simple_condition(condition: &Map<String, Value>) -> Result<Condition, PolicyError> {
    let mut entries = condition.iter();
    match (entries.next(), entries.next()) {
        (Some((name, Value::String(value))), None) => rule_condition("eq", &format!("${name}"), value),
        (Some(_), None) => Err(invalid("Invalid Simple-Condition: value must be a string.")),
        _ => Err(invalid("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.")),
    }
}

/// `["starts-with", "$key", "user/"]`
fn rule_condition(rule: &str, variable: &str, operand: &str) -> Result<Condition, PolicyError> {
    let known = match rule.to_ascii_lowercase().as_str() {
        "eq" => Rule::Equals,
        "starts-with" => Rule::StartsWith,
        _ => return Err(invalid(format!("Invalid Condition: unknown operation '{rule}'."))),
    };
    let name = variable.strip_prefix('$').filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| invalid("Invalid Condition: the field must begin with '$'."))?;
    Ok(Condition {
        rule: known,
        written: format!("[\"{rule}\", \"{variable}\", \"{operand}\"]"),
        name: name.to_ascii_lowercase(),
        operand: operand.to_owned(),
    })
}

/// A number of bytes, which some clients write as a string.
fn bytes(value: &Value) -> Result<u64, PolicyError> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| invalid("Invalid content-length-range: not a number of bytes."))
}

/// `2007-12-01T12:00:00.000Z`
fn expires_ms(value: &Value) -> Result<i128, PolicyError> {
    // RFC 3339 would allow a space in the middle and any offset; S3 does not.
    let text = value.as_str().filter(|text| text.as_bytes().get(10) == Some(&b'T') && text.ends_with('Z'));
    let time = text.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let time = time.ok_or_else(|| invalid(format!("Invalid 'expiration' value: {value}")))?;
    Ok(time.unix_timestamp_nanos() / 1_000_000)
}

fn invalid(reason: impl Into<String>) -> PolicyError {
    PolicyError::Invalid(reason.into())
}

fn denied(reason: impl Into<String>) -> PolicyError {
    PolicyError::Denied(reason.into())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;

    use super::{Policy, PolicyError, denied};
    use crate::http::form::fields::Fields;

    /// 2015-12-30T11:59:59Z
    const NOW_MS: u64 = 1_451_476_799_000;

    fn policy(conditions: &str) -> Result<Policy, PolicyError> {
        parse(&format!("{{\"expiration\": \"2015-12-30T12:00:00.000Z\", \"conditions\": [{conditions}]}}"))
    }

    fn parse(json: &str) -> Result<Policy, PolicyError> {
        Policy::parse(&BASE64.encode(json))
    }

    fn judge<const N: usize>(conditions: &str, fields: [(&str, &str); N]) -> Result<(), String> {
        match policy(conditions).expect("a policy").judge(&Fields::from(fields), NOW_MS) {
            Ok(_) => Ok(()),
            Err(PolicyError::Denied(reason)) => Err(reason),
            Err(PolicyError::Invalid(reason)) => panic!("{reason}"),
        }
    }

    #[test]
    fn a_policy_that_is_none_is_refused_whole() {
        for json in [
            "",
            "[]",
            "{\"conditions\": []}",
            "{\"expiration\": \"2015-12-30T12:00:00Z\"}",
            "{\"EXPIRATION\": \"2015-12-30T12:00:00Z\", \"conditions\": []}",
            "{\"expiration\": \"2015-12-30T12:00:00Z\", \"CONDITIONS\": []}",
            "{\"expiration\": \"2015-12-30T12:00:00Z\", \"conditions\": [], \"more\": 1}",
            "{\"expiration\": \"2015-12-30 12:00:00+00:00\", \"conditions\": []}",
            "{\"expiration\": \"tomorrow\", \"conditions\": []}",
            "{\"expiration\": 12, \"conditions\": []}",
            "{\"expiration\": \"2015-12-30T12:00:00Z\", \"conditions\": {}}",
        ] {
            assert!(matches!(parse(json), Err(PolicyError::Invalid(_))), "{json}");
        }
        assert!(matches!(Policy::parse("%%%"), Err(PolicyError::Invalid(_))));
    }

    #[test]
    fn a_condition_that_is_none_makes_the_policy_none() {
        for condition in [
            "{}",
            "{\"acl\": 1}",
            "{\"acl\": \"private\", \"bucket\": \"b\"}",
            "\"acl\"",
            "[]",
            "[\"eq\", \"$acl\"]",
            "[\"eq\", \"acl\", \"private\"]",
            "[\"eq\", \"$\", \"private\"]",
            "[\"ends-with\", \"$acl\", \"private\"]",
            "[\"content-length-range\", 0]",
            "[\"content-length-range\", -1, 0]",
            "[\"content-length-range\", 0, 1.5]",
            "[\"content-length-range\", 0, 1, 2]",
        ] {
            assert!(matches!(policy(condition), Err(PolicyError::Invalid(_))), "{condition}");
        }
    }

    #[test]
    fn every_condition_must_hold() {
        let both = "{\"acl\": \"private\"}, [\"starts-with\", \"$key\", \"user/\"]";
        assert_eq!(judge(both, [("acl", "private"), ("key", "user/a")]), Ok(()));
        let failed = "Policy Condition failed: [\"starts-with\", \"$key\", \"user/\"]";
        assert_eq!(judge(both, [("acl", "private"), ("key", "a")]), Err(failed.to_owned()));
        let failed = "Policy Condition failed: [\"eq\", \"$acl\", \"private\"]";
        assert_eq!(judge(both, [("acl", "public-read"), ("key", "user/a")]), Err(failed.to_owned()));
        assert_eq!(judge("{\"AcL\": \"private\"}", [("acl", "private")]), Ok(()));
        assert!(judge("{\"acl\": \"private\"}", [("acl", "Private")]).is_err());
    }

    #[test]
    fn a_field_that_is_not_there_meets_nothing_but_for_encryption() {
        assert!(judge("[\"starts-with\", \"$x-amz-meta-a\", \"\"]", []).is_err());
        assert_eq!(judge("[\"starts-with\", \"$x-amz-server-side-encryption\", \"\"]", []), Ok(()));
        assert!(judge("[\"eq\", \"$x-amz-server-side-encryption\", \"\"]", []).is_err());
        assert!(judge("[\"eq\", \"$x-amz-meta-a\", \"\"]", []).is_err());
        assert_eq!(judge("[\"starts-with\", \"$x-amz-meta-a\", \"\"]", [("x-amz-meta-a", "1")]), Ok(()));
    }

    #[test]
    fn every_type_of_a_list_must_begin_as_asked() {
        let images = "[\"StArTs-WiTh\", \"$Content-Type\", \"image/\"]";
        assert_eq!(judge(images, [("content-type", "image/jpg,image/png, image/gif")]), Ok(()));
        assert!(judge(images, [("content-type", "image/jpg,text/html")]).is_err());
        // Only of types: a key with commas is one key.
        assert_eq!(judge("[\"starts-with\", \"$key\", \"a\"]", [("key", "a,b")]), Ok(()));
    }

    #[test]
    fn every_field_must_be_covered() {
        let extra = |names: &str| Err(format!("Extra input fields: {names}"));
        assert_eq!(judge("", [("acl", "private"), ("key", "k")]), extra("acl, key"));
        assert_eq!(judge("{\"key\": \"k\"}", [("key", "k"), ("submit", "Upload")]), extra("submit"));
        let exempt = [
            ("policy", "p"),
            ("signature", "s"),
            ("awsaccesskeyid", "a"),
            ("x-amz-signature", "s"),
            ("x-ignore-a", "1"),
            ("x-amz-checksum-sha256", "c"),
        ];
        assert_eq!(judge("", exempt), Ok(()));
        assert_eq!(judge("", [("x-amz-date", "d")]), extra("x-amz-date"));
    }

    #[test]
    fn it_ends_when_it_says() {
        let policy = policy("").expect("a policy");
        let nothing = Fields::default();
        assert_eq!(policy.judge(&nothing, NOW_MS), Ok(0..=u64::MAX));
        assert_eq!(policy.judge(&nothing, NOW_MS + 1_000), Err(denied("Policy expired.")));
    }

    #[test]
    fn lengths_are_the_narrowest() {
        let range = |text: &str| policy(text).expect("a policy").judge(&Fields::default(), NOW_MS).expect("allowed");
        assert_eq!(range("[\"content-length-range\", 1, 10]"), 1..=10);
        assert_eq!(range("[\"Content-Length-Range\", \"1\", \"10\"]"), 1..=10);
        assert_eq!(range("[\"content-length-range\", 1, 10], [\"content-length-range\", 5, 20]"), 5..=10);
    }
}
