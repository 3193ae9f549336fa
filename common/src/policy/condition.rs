//! Conditions: an operator, a key, and values to compare with. See "IAM JSON policy elements: Condition operators" and
//! "Single-valued vs. multivalued context keys" in the IAM user guide.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::context::Context;
use super::error::PolicyError;
use super::pattern::Pattern;
use super::value::{moment, number, truth};
use crate::network::Network;

/// One condition of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Condition {
    /// What is asked for.
    pub(super) key: String,
    /// How its values are compared.
    pub(super) test: Test,
    /// Whether the test holds where the values do not compare.
    pub(super) negated: bool,
    /// Which of a request's values must pass.
    pub(super) which: Which,
    /// `...IfExists`: whether it holds where the request does not have the key.
    pub(super) if_exists: bool,
}

/// Which of the values that a request has for a key must pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    /// One; of a negated operator all.
    Usual,
    /// All, if there are any.
    All,
    /// One at least.
    Any,
}

/// How values are compared, and with what: with one of these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Test {
    /// `StringEquals`, `StringLike`.
    Text { wanted: Vec<Pattern>, wildcards: bool, ignore_case: bool },
    /// `ArnEquals` and `ArnLike`, which are the same.
    Arn(Vec<Pattern>),
    /// `NumericEquals` and so on.
    Number(Comparison, Vec<i128>),
    /// `DateEquals` and so on.
    Moment(Comparison, Vec<i128>),
    /// `Bool`.
    Truth(Vec<bool>),
    /// `BinaryEquals`.
    Binary(Vec<Vec<u8>>),
    /// `IpAddress`.
    Address(Vec<Network>),
    /// `Null`: whether the request does not have the key.
    Absent(Vec<bool>),
}

/// How a request's number is compared with a policy's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What the operators compare, by the part of their name that says it.
#[derive(Clone, Copy)]
enum Kind {
    Text { wildcards: bool, ignore_case: bool },
    Arn,
    Number(Comparison),
    Moment(Comparison),
    Truth,
    Binary,
    Address,
    Absent,
}

/// All operators, with whether they are negated.
const OPERATORS: &[(&str, Kind, bool)] = &[
    ("StringEquals", Kind::Text { wildcards: false, ignore_case: false }, false),
    ("StringNotEquals", Kind::Text { wildcards: false, ignore_case: false }, true),
    ("StringEqualsIgnoreCase", Kind::Text { wildcards: false, ignore_case: true }, false),
    ("StringNotEqualsIgnoreCase", Kind::Text { wildcards: false, ignore_case: true }, true),
    ("StringLike", Kind::Text { wildcards: true, ignore_case: false }, false),
    ("StringNotLike", Kind::Text { wildcards: true, ignore_case: false }, true),
    ("NumericEquals", Kind::Number(Comparison::Equal), false),
    ("NumericNotEquals", Kind::Number(Comparison::Equal), true),
    ("NumericLessThan", Kind::Number(Comparison::Less), false),
    ("NumericLessThanEquals", Kind::Number(Comparison::LessOrEqual), false),
    ("NumericGreaterThan", Kind::Number(Comparison::Greater), false),
    ("NumericGreaterThanEquals", Kind::Number(Comparison::GreaterOrEqual), false),
    ("DateEquals", Kind::Moment(Comparison::Equal), false),
    ("DateNotEquals", Kind::Moment(Comparison::Equal), true),
    ("DateLessThan", Kind::Moment(Comparison::Less), false),
    ("DateLessThanEquals", Kind::Moment(Comparison::LessOrEqual), false),
    ("DateGreaterThan", Kind::Moment(Comparison::Greater), false),
    ("DateGreaterThanEquals", Kind::Moment(Comparison::GreaterOrEqual), false),
    ("Bool", Kind::Truth, false),
    ("BinaryEquals", Kind::Binary, false),
    ("IpAddress", Kind::Address, false),
    ("NotIpAddress", Kind::Address, true),
    ("ArnEquals", Kind::Arn, false),
    ("ArnLike", Kind::Arn, false),
    ("ArnNotEquals", Kind::Arn, true),
    ("ArnNotLike", Kind::Arn, true),
    ("Null", Kind::Absent, false),
];

impl Condition {
    /// The condition that an operator makes of a key and its values.
    pub(super) fn parse(operator: &str, key: &str, values: &Value, variables: bool) -> Result<Self, PolicyError> {
        let (which, rest) = match operator.split_once(':') {
            Some(("ForAllValues", rest)) => (Which::All, rest),
            Some(("ForAnyValue", rest)) => (Which::Any, rest),
            _ => (Which::Usual, operator),
        };
        let (name, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |name| (name, true));
        let unknown = || PolicyError::Operator(operator.to_owned());
        let (_, kind, negated) = OPERATORS.iter().find(|(known, ..)| *known == name).ok_or_else(unknown)?;
        // Whether a key is there cannot depend on whether it is there.
        if if_exists && matches!(kind, Kind::Absent) {
            return Err(unknown());
        }
        let test = test(*kind, &texts(values)?, variables)?.ok_or_else(|| PolicyError::Value(operator.to_owned()))?;
        Ok(Self { key: key.to_owned(), test, negated: *negated, which, if_exists })
    }

    /// Whether it holds for a request.
    pub(super) fn holds(&self, context: &Context) -> bool {
        let mut values = context.values(&self.key);
        let absent = values.clone().next().is_none();
        if let Test::Absent(wanted) = &self.test {
            return wanted.contains(&absent);
        }
        if absent {
            return match self.which {
                _ if self.if_exists => true,
                Which::All => true,
                Which::Any => false,
                Which::Usual => self.negated,
            };
        }
        let passes = |value: &str| self.test.compares(value, context) != self.negated;
        match self.which {
            Which::All => values.all(passes),
            Which::Any => values.any(passes),
            Which::Usual if self.negated => values.all(passes),
            Which::Usual => values.any(passes),
        }
    }
}

impl Test {
    /// Whether a request's value compares with one of the policy's. A value of another kind does not.
    fn compares(&self, value: &str, context: &Context) -> bool {
        match self {
            Self::Text { wanted, wildcards: true, ignore_case } => {
                wanted.iter().any(|wanted| wanted.matches(value, context, *ignore_case))
            }
            Self::Text { wanted, wildcards: false, ignore_case } => {
                wanted.iter().any(|wanted| wanted.equals(value, context, *ignore_case))
            }
            Self::Arn(wanted) => wanted.iter().any(|wanted| wanted.matches_arn(value, context)),
            Self::Number(comparison, wanted) => {
                number(value).is_some_and(|value| wanted.iter().any(|wanted| comparison.holds(value, *wanted)))
            }
            Self::Moment(comparison, wanted) => {
                moment(value).is_some_and(|value| wanted.iter().any(|wanted| comparison.holds(value, *wanted)))
            }
            Self::Truth(wanted) => truth(value).is_some_and(|value| wanted.contains(&value)),
            Self::Binary(wanted) => BASE64.decode(value).is_ok_and(|value| wanted.contains(&value)),
            Self::Address(wanted) => {
                value.parse().is_ok_and(|address| wanted.iter().any(|network| network.contains(address)))
            }
            Self::Absent(_) => false,
        }
    }
}

impl Comparison {
    fn holds(self, value: i128, wanted: i128) -> bool {
        match self {
            Self::Equal => value == wanted,
            Self::Less => value < wanted,
            Self::LessOrEqual => value <= wanted,
            Self::Greater => value > wanted,
            Self::GreaterOrEqual => value >= wanted,
        }
    }
}

/// A test of that kind; `None` when a value is of another.
fn test(kind: Kind, values: &[String], variables: bool) -> Result<Option<Test>, PolicyError> {
    let patterns = || values.iter().map(|value| Pattern::parse(value, variables)).collect::<Result<Vec<_>, _>>();
    fn all<T>(values: &[String], read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
        values.iter().map(|value| read(value)).collect()
    }
    Ok(match kind {
        Kind::Text { wildcards, ignore_case } => Some(Test::Text { wanted: patterns()?, wildcards, ignore_case }),
        Kind::Arn => Some(Test::Arn(patterns()?)),
        Kind::Number(comparison) => all(values, number).map(|wanted| Test::Number(comparison, wanted)),
        Kind::Moment(comparison) => all(values, moment).map(|wanted| Test::Moment(comparison, wanted)),
        Kind::Truth => all(values, truth).map(Test::Truth),
        Kind::Binary => all(values, |value| BASE64.decode(value).ok()).map(Test::Binary),
        Kind::Address => all(values, Network::parse).map(Test::Address),
        Kind::Absent => all(values, truth).map(Test::Absent),
    })
}

/// One value or a list of them. Numbers and truths may stand without quotes.
fn texts(values: &Value) -> Result<Vec<String>, PolicyError> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(PolicyError::Syntax),
    };
    match values {
        Value::Array(list) => list.iter().map(text).collect(),
        one => text(one).map(|text| vec![text]),
    }
}

#[cfg(test)]
mod tests;
