//! The parameters of a call: read from the form, and held to what IAM lets them be.

use std::collections::BTreeMap;

use annulus_common::iam::{is_name, is_path};
use annulus_common::tags::{self, Tags};
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
        let text = std::str::from_utf8(body).map_err(|_| invalid("the form is not UTF-8"))?;
        let mut params = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if params.insert(name.clone(), value).is_some() {
                return Err(invalid(&format!("the parameter {name} is given twice")));
            }
        }
        Ok(Self(params))
    }

    /// A parameter, if it is given.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A parameter that must be given.
    pub(super) fn required(&self, name: &str) -> Result<&str, IamError> {
        self.get(name).ok_or_else(|| {
            invalid(&format!("Value null at '{name}' failed to satisfy constraint: Member must not be null"))
        })
    }

    /// Parameters that ask for what is not built.
    pub(super) fn refuse(&self, names: &[&'static str]) -> Result<(), IamError> {
        let listed =
            |name: &str| self.0.keys().any(|key| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')));
        match names.iter().find(|name| self.get(name).is_some() || listed(name)) {
            Some(name) => Err(IamError::NotImplemented(name)),
            None => Ok(()),
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
                "The specified value for {parameter} is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters."
            ))),
            path => Ok(path),
        }
    }

    /// What items of a list must have in their path's beginning.
    pub(super) fn path_prefix(&self) -> Result<&str, IamError> {
        match self.get("PathPrefix") {
            Some(prefix) if !prefix.starts_with('/') => Err(invalid("PathPrefix begins with /")),
            prefix => Ok(prefix.unwrap_or("/")),
        }
    }

    /// A description that may be given.
    pub(super) fn description(&self) -> Result<Option<&str>, IamError> {
        match self.get("Description") {
            Some(text) if text.chars().count() > DESCRIPTION_CHARS_MAX => {
                Err(invalid(&format!("Description has at most {DESCRIPTION_CHARS_MAX} characters")))
            }
            text => Ok(text),
        }
    }

    /// A flag that may be given.
    pub(super) fn flag(&self, name: &str) -> Result<bool, IamError> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(invalid(&format!("{name} is true or false"))),
        }
    }

    /// A number that may be given.
    pub(super) fn number(&self, name: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>, IamError> {
        let parse = |text: &str| text.parse().ok().filter(|number| range.contains(number));
        let wrong = || invalid(&format!("{name} is a number from {} to {}", range.start(), range.end()));
        self.get(name).map(|text| parse(text).ok_or_else(wrong)).transpose()
    }

    /// A list: `NAME.member.1`, `NAME.member.2` and so on.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        (1..).map_while(|number| self.get(&format!("{name}.member.{number}"))).collect()
    }

    /// `Tags.member.N.Key` with `Tags.member.N.Value`.
    pub(super) fn tags(&self, most: usize) -> Result<Tags, IamError> {
        let key = |number: usize| self.get(&format!("Tags.member.{number}.Key"));
        let value = |number: usize| self.get(&format!("Tags.member.{number}.Value")).unwrap_or_default();
        let pairs = (1..).map_while(|number| key(number).map(|key| (key.to_owned(), value(number).to_owned())));
        tags::tags(pairs.collect::<Vec<_>>(), most).map_err(|error| IamError::InvalidInput(error.to_string()))
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
    key.ok_or_else(|| invalid("Invalid Marker."))
}

fn check_name<'a>(parameter: &str, name: &'a str, chars_max: usize) -> Result<&'a str, IamError> {
    if name.len() > chars_max || name.is_empty() {
        return Err(invalid(&format!("{parameter} has 1 to {chars_max} characters")));
    }
    if !is_name(name, chars_max) {
        let rule = format!(
            "The specified value for {parameter} is invalid. It must contain only alphanumeric characters and/or the following: \
             +=,.@_-"
        );
        return Err(IamError::Validation(rule));
    }
    Ok(name)
}

fn decode(text: &str) -> Result<String, IamError> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8().map_err(|_| invalid("the form is not UTF-8"))?;
    Ok(decoded.into_owned())
}

fn invalid(what: &str) -> IamError {
    IamError::Validation(format!("1 validation error detected: {what}"))
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
        assert_eq!(read.list("TagKeys"), ["x"]);
        assert!(read.required("Path").is_err());
        assert!(Params::parse(b"a=1&a=2").is_err());
        assert!(Params::parse(b"a=%ff").is_err());
        assert_eq!(read.refuse(&["Tags"]), Err(IamError::NotImplemented("Tags")));
        assert_eq!(read.refuse(&["Tag", "PermissionsBoundary"]), Ok(()));
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
