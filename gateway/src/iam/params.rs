//! The parameters of a call: read from the form, and held to what IAM lets them be.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use annulus_common::iam::{is_name, is_path};
use annulus_common::tags::{self, TagError, Tags};
use percent_encoding::percent_decode_str;

use super::error::IamError;

/// Names of users, groups and roles; users and roles have at most 64 characters, the others 128.
pub(super) const NAME_CHARS_MAX: usize = 64;
pub(super) const LONG_NAME_CHARS_MAX: usize = 128;

/// Items of a page, where the client does not say.
const ITEMS_DEFAULT: usize = 100;
const ITEMS_MAX: usize = 1_000;

/// The longest description.
const DESCRIPTION_CHARS_MAX: usize = 1_000;

/// How long an ARN is.
pub(super) const ARN_CHARS: RangeInclusive<usize> = 20..=2_048;

/// The parameters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Params(BTreeMap<String, String>);

/// A page of a list.
pub(super) struct Page<T> {
    /// What is on it.
    pub(super) items: Vec<T>,
    /// Where the next one begins.
    pub(super) marker: Option<String>,
}

impl Params {
    /// The parameters of a form. One that is given twice might mean different things to different readers.
    pub(super) fn parse(body: &[u8]) -> Result<Self, IamError> {
        let text = std::str::from_utf8(body).map_err(|_| not_utf8())?;
        let mut params = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if params.insert(name.clone(), value).is_some() {
                return Err(IamError::Validation(format!("The parameter {name} is given twice.")));
            }
        }
        Ok(Self(params))
    }

    /// A parameter, if it is given.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// What the parameters are called; a list is one.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| name.split('.').next().unwrap_or_default())
    }

    /// A parameter that must be given.
    pub(super) fn required(&self, name: &str) -> Result<&str, IamError> {
        self.get(name).ok_or_else(|| missing(name))
    }

    /// A text that must be given, of so many characters.
    pub(super) fn text(&self, name: &str, chars: RangeInclusive<usize>) -> Result<&str, IamError> {
        let value = self.required(name)?;
        check_length(name, value, chars)?;
        Ok(value)
    }

    /// A text of letters, digits, underscores and the characters of that pattern.
    pub(super) fn words(
        &self,
        name: &str,
        chars: RangeInclusive<usize>,
        (pattern, more): (&str, &[u8]),
    ) -> Result<&str, IamError> {
        let value = self.text(name, chars)?;
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || more.contains(&byte);
        if value.bytes().all(is_good) { Ok(value) } else { Err(mismatch(name, value, pattern)) }
    }

    /// The ARN of a policy that must be given.
    pub(super) fn policy_arn(&self) -> Result<&str, IamError> {
        let arn = self.text("PolicyArn", ARN_CHARS)?;
        if arn.starts_with("arn:") {
            Ok(arn)
        } else {
            Err(IamError::Validation("Invalid ARN:  Could not be parsed!".to_owned()))
        }
    }

    /// One of these words, if it is given.
    pub(super) fn one_of<'a>(&'a self, name: &str, words: &[&'static str]) -> Result<Option<&'a str>, IamError> {
        match self.get(name) {
            Some(value) if !words.contains(&value) => {
                let rule = format!("Member must satisfy enum value set: [{}]", words.join(", "));
                Err(constraint(name, Some(value), &rule))
            }
            value => Ok(value),
        }
    }

    /// A name that must be given.
    pub(super) fn name(&self, parameter: &str, chars_max: usize) -> Result<&str, IamError> {
        let name = self.required(parameter)?;
        check_name(parameter, name, chars_max)
    }

    /// A name that may be given.
    pub(super) fn name_if(&self, parameter: &str, chars_max: usize) -> Result<Option<&str>, IamError> {
        self.get(parameter).map(|name| check_name(parameter, name, chars_max)).transpose()
    }

    /// A path that may be given.
    pub(super) fn path_if(&self, parameter: &str) -> Result<Option<&str>, IamError> {
        match self.get(parameter) {
            Some(path) if !is_path(path) => Err(IamError::Validation(format!(
                "The specified value for {} is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.",
                member(parameter)
            ))),
            path => Ok(path),
        }
    }

    /// What items of a list must have in their path's beginning.
    pub(super) fn path_prefix(&self) -> Result<&str, IamError> {
        match self.get("PathPrefix") {
            Some(prefix) if !prefix.starts_with('/') || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(mismatch("PathPrefix", prefix, "\\u002F[\\u0021-\\u007F]*"))
            }
            prefix => Ok(prefix.unwrap_or("/")),
        }
    }

    /// A description that may be given.
    pub(super) fn description(&self) -> Result<Option<&str>, IamError> {
        match self.get("Description") {
            Some(text) => check_length("Description", text, 0..=DESCRIPTION_CHARS_MAX).map(|()| Some(text)),
            None => Ok(None),
        }
    }

    /// A flag that may be given.
    pub(super) fn flag(&self, name: &str) -> Result<bool, IamError> {
        Ok(self.one_of(name, &["true", "false"])? == Some("true"))
    }

    /// A number that may be given.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, IamError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let wrong = |rule: String| Err(constraint(name, Some(text), &rule));
        match text.parse::<i64>() {
            Ok(number) if number < i64::from(*range.start()) => {
                wrong(format!("Member must have value greater than or equal to {}", range.start()))
            }
            Ok(number) if number > i64::from(*range.end()) => {
                wrong(format!("Member must have value less than or equal to {}", range.end()))
            }
            Ok(number) => Ok(u32::try_from(number).ok()),
            Err(_) => wrong("Member must be an integer".to_owned()),
        }
    }

    /// A list of texts: `NAME.member.1`, `NAME.member.2` and so on.
    pub(super) fn list(&self, name: &str) -> Result<Vec<&str>, IamError> {
        Ok(self.members(name, &[""])?.into_iter().filter_map(|fields| fields.get("").copied()).collect())
    }

    /// A list of texts that each stand in a field: `NAME.member.1.FIELD`.
    pub(super) fn list_of(&self, name: &str, field: &str) -> Result<Vec<&str>, IamError> {
        Ok(self.members(name, &[field])?.into_iter().filter_map(|fields| fields.get(field).copied()).collect())
    }

    /// `Tags.member.N.Key` with `Tags.member.N.Value`.
    pub(super) fn tags(&self, most: usize) -> Result<Tags, IamError> {
        let mut pairs = Vec::new();
        for (place, fields) in self.members("Tags", &["Key", "Value"])?.iter().enumerate() {
            let field = |name: &str| {
                let text = fields.get(name).map(|text| (*text).to_owned());
                text.ok_or_else(|| missing(&format!("tags.{}.member.{}", place + 1, member(name))))
            };
            pairs.push((field("Key")?, field("Value")?));
        }
        tags::tags(pairs, most).map_err(tag_error)
    }

    /// The members of a list, in order, each with its fields; the one field of those that have none has no name. One that
    /// stands behind a gap, or where no list has one, would be ignored.
    fn members(&self, name: &str, fields: &[&str]) -> Result<Vec<BTreeMap<&str, &str>>, IamError> {
        let mut members: BTreeMap<usize, BTreeMap<&str, &str>> = BTreeMap::new();
        for (key, value) in &self.0 {
            let Some(rest) = key.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) else { continue };
            let stray = || IamError::Validation(format!("{key} is no member of the list {name}"));
            let (number, field) = rest
                .strip_prefix("member.")
                .map(|rest| rest.split_once('.').unwrap_or((rest, "")))
                .ok_or_else(stray)?;
            let place = number.parse().ok().filter(|place: &usize| place.to_string() == number).ok_or_else(stray)?;
            if !fields.contains(&field) {
                return Err(stray());
            }
            members.entry(place).or_default().insert(field, value);
        }
        if members.keys().copied().ne(1..=members.len()) {
            return Err(IamError::Validation(format!("The members of the list {name} are not numbered from 1 on")));
        }
        Ok(members.into_values().collect())
    }

    /// The page of a list that is asked for. What is listed comes in the order of its keys.
    pub(super) fn page<T>(&self, items: impl Iterator<Item = (String, T)>) -> Result<Page<T>, IamError> {
        let most = self.number("MaxItems", 1..=ITEMS_MAX as u32)?.map_or(ITEMS_DEFAULT, |most| most as usize);
        let after = self.get("Marker").map(of_marker).transpose()?;
        let mut rest = items.skip_while(|(key, _)| after.as_ref().is_some_and(|after| key <= after)).peekable();
        let (mut page, mut last) = (Vec::new(), None);
        while page.len() < most
            && let Some((key, item)) = rest.next()
        {
            page.push(item);
            last = Some(key);
        }
        let marker = last.filter(|_| rest.peek().is_some()).map(hex::encode);
        Ok(Page { items: page, marker })
    }
}

fn of_marker(marker: &str) -> Result<String, IamError> {
    let key = hex::decode(marker).ok().and_then(|key| String::from_utf8(key).ok());
    key.ok_or_else(|| IamError::Validation("Invalid Marker.".to_owned()))
}

fn check_name<'a>(parameter: &str, name: &'a str, chars_max: usize) -> Result<&'a str, IamError> {
    check_length(parameter, name, 1..=chars_max)?;
    if !is_name(name, chars_max) {
        let rule = format!(
            "The specified value for {} is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-",
            member(parameter)
        );
        return Err(IamError::Validation(rule));
    }
    Ok(name)
}

fn decode(text: &str) -> Result<String, IamError> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8().map_err(|_| not_utf8())?;
    Ok(decoded.into_owned())
}

fn check_length(parameter: &str, value: &str, chars: RangeInclusive<usize>) -> Result<(), IamError> {
    let count = value.chars().count();
    if count < *chars.start() {
        let rule = format!("Member must have length greater than or equal to {}", chars.start());
        Err(constraint(parameter, Some(value), &rule))
    } else if count > *chars.end() {
        let rule = format!("Member must have length less than or equal to {}", chars.end());
        Err(constraint(parameter, Some(value), &rule))
    } else {
        Ok(())
    }
}

/// A list has more members than it may.
pub(super) fn too_many(parameter: &str, most: usize) -> IamError {
    let rule = format!("Member must have length less than or equal to {most}");
    IamError::Validation(format!(
        "1 validation error detected: Value at '{}' failed to satisfy constraint: {rule}",
        member(parameter)
    ))
}

/// A text that does not have the form that it should.
pub(super) fn mismatch(parameter: &str, value: &str, pattern: &str) -> IamError {
    constraint(parameter, Some(value), &format!("Member must satisfy regular expression pattern: {pattern}"))
}

fn missing(parameter: &str) -> IamError {
    constraint(parameter, None, "Member must not be null")
}

/// As AWS says it, of the first mistake that is found.
fn constraint(parameter: &str, value: Option<&str>, rule: &str) -> IamError {
    let value = value.map_or_else(|| "null".to_owned(), |value| format!("'{value}'"));
    let name = member(parameter);
    IamError::Validation(format!(
        "1 validation error detected: Value {value} at '{name}' failed to satisfy constraint: {rule}"
    ))
}

/// What AWS's messages call a parameter: `roleArn`.
fn member(parameter: &str) -> String {
    let (first, rest) = parameter.split_at(parameter.chars().next().map_or(0, char::len_utf8));
    first.to_ascii_lowercase() + rest
}

fn tag_error(error: TagError) -> IamError {
    match error {
        TagError::TooMany(most) => too_many("Tags", most),
        TagError::InvalidKey(key) => mismatch("tags.member.key", &key, "[\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]+"),
        TagError::InvalidValue { value, .. } => {
            mismatch("tags.member.value", &value, "[\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*")
        }
        TagError::Duplicate(_) => {
            let message = "Duplicate tag keys found. Please note that Tag keys are case insensitive.";
            IamError::InvalidInput(message.to_owned())
        }
        TagError::Reserved(key) => {
            IamError::InvalidInput(format!("The tag key {key} begins with aws:, which is reserved."))
        }
        TagError::Encoding => not_utf8(),
    }
}

fn not_utf8() -> IamError {
    IamError::Validation("The form is not UTF-8.".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{IamError, Params};

    fn params(form: &str) -> Params {
        Params::parse(form.as_bytes()).unwrap()
    }

    #[test]
    fn forms_are_read() {
        let read =
            params("Action=TagUser&UserName=a%2Bb&Tags.member.1.Key=k&Tags.member.1.Value=a+b&TagKeys.member.1=x");
        assert_eq!(read.name("UserName", 64), Ok("a+b"));
        assert_eq!(read.tags(50).unwrap().into_iter().collect::<Vec<_>>(), [("k".to_owned(), "a b".to_owned())]);
        assert_eq!(read.list("TagKeys").unwrap(), ["x"]);
        assert_eq!(read.names().collect::<Vec<_>>(), ["Action", "TagKeys", "Tags", "Tags", "UserName"]);
        assert!(read.required("Path").is_err());
        assert!(Params::parse(b"a=1&a=2").is_err());
        assert!(Params::parse(b"a=%ff").is_err());
    }

    #[test]
    fn no_member_of_a_list_is_ignored() {
        let texts = |form: &str| params(form).list("L").map(|texts| texts.join(","));
        assert_eq!(texts("L.member.2=b&L.member.1=a&M.member.7=x").unwrap(), "a,b");
        assert_eq!(texts("").unwrap(), "");
        for stray in ["L.member.2=a", "L.member.0=a", "L.member.01=a", "L.1=a", "L.member.1.Key=a", "L.member.x=a"] {
            assert!(texts(stray).is_err(), "{stray}");
        }
        assert!(params("Tags.member.1.Key=a").tags(50).is_err(), "a tag has a value");
    }

    #[test]
    fn mistakes_are_told_as_aws_tells_them() {
        let told = |error: IamError| error.to_string();
        let read = params("RoleArn=x&MaxItems=0&RoleSessionName=a:b&Status=Maybe");
        let begin = "1 validation error detected: Value ";
        assert_eq!(
            told(read.text("RoleArn", 20..=30).unwrap_err()),
            format!(
                "{begin}'x' at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20"
            )
        );
        assert_eq!(
            told(read.number("MaxItems", 1..=10).unwrap_err()),
            format!(
                "{begin}'0' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1"
            )
        );
        assert_eq!(
            told(read.words("RoleSessionName", 2..=64, ("[\\w+=,.@-]*", b"+=,.@-")).unwrap_err()),
            format!(
                "{begin}'a:b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*"
            )
        );
        assert_eq!(
            told(read.one_of("Status", &["Active", "Inactive"]).unwrap_err()),
            format!(
                "{begin}'Maybe' at 'status' failed to satisfy constraint: Member must satisfy enum value set: [Active, Inactive]"
            )
        );
        assert_eq!(
            told(read.required("PolicyArn").unwrap_err()),
            format!("{begin}null at 'policyArn' failed to satisfy constraint: Member must not be null")
        );
    }

    #[test]
    fn names_and_paths_are_held_to_their_rules() {
        for wrong in ["a b", "", "a/b", "ä", &"x".repeat(65)] {
            assert!(params(&format!("UserName={wrong}")).name("UserName", 64).is_err(), "{wrong}");
        }
        for (path, fits) in [("/", true), ("/a/b/", true), ("a/", false), ("/a", false), ("/a b/", false)] {
            assert_eq!(params(&format!("Path={path}")).path_if("Path").is_ok(), fits, "{path}");
        }
    }

    #[test]
    fn pages_follow_one_another() {
        let items = || ["a", "b", "c"].into_iter().map(|key| (key.to_owned(), key));
        let first = params("MaxItems=2").page(items()).unwrap();
        assert_eq!(first.items, ["a", "b"]);
        let second = params(&format!("MaxItems=2&Marker={}", first.marker.unwrap())).page(items()).unwrap();
        assert_eq!((second.items, second.marker), (vec!["c"], None));
        assert_eq!(params("MaxItems=3").page(items()).unwrap().marker, None, "nothing follows");
        assert!(params("MaxItems=0").page(items()).is_err());
        assert!(params("Marker=zz").page(items()).is_err());
    }
}
