//! One statement of a policy: what it is about, and whether it allows or forbids that.

use serde_json::{Map, Value};

use super::actions::meant_by;
use super::condition::Condition;
use super::document::Owner;
use super::error::PolicyError;
use super::keys::who_has;
use super::pattern::{Pattern, matches};
use super::principal::{Named, Principals};
use super::{Question, Verdict};

/// A statement. It says something about a request when all of its parts do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Statement {
    /// Its name, if it has one.
    pub(super) sid: Option<String>,
    pub(super) allows: bool,
    /// Whom it is about. A user's policy is about that user.
    pub(super) principals: Option<Listed<Principals>>,
    actions: Listed<Vec<String>>,
    resources: Listed<Vec<Pattern>>,
    pub(super) conditions: Vec<Condition>,
}

/// An element, or its opposite: `Action`, `NotAction`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Listed<T> {
    pub(super) not: bool,
    pub(super) of: T,
}

/// The elements of a statement.
const ELEMENTS: &[&str] =
    &["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"];

impl Statement {
    /// The statement that an object of JSON writes.
    pub(super) fn parse(element: &Value, owner: Owner<'_>, variables: bool) -> Result<Self, PolicyError> {
        let Value::Object(elements) = element else { return Err(PolicyError::Syntax) };
        if let Some(unknown) = elements.keys().find(|name| !ELEMENTS.contains(&name.as_str())) {
            return Err(PolicyError::Unknown(unknown.clone()));
        }
        let sid = match elements.get("Sid") {
            None => None,
            Some(Value::String(sid)) => Some(sid.clone()),
            Some(_) => return Err(PolicyError::Syntax),
        };
        let allows = effect(elements)?;
        let principals = principals(elements, owner, allows)?;
        let actions = actions(elements, owner)?;
        let resources = resources(elements, owner, variables)?;
        let conditions = match elements.get("Condition") {
            Some(conditions) => self::conditions(conditions, &actions, owner, variables)?,
            None => Vec::new(),
        };
        Ok(Self { sid, allows, principals, actions, resources, conditions })
    }

    /// A statement that forbids everything to everybody.
    pub(super) fn forbidding() -> Self {
        Self {
            sid: None,
            allows: false,
            principals: None,
            actions: Listed { not: false, of: vec!["*".to_owned()] },
            resources: Listed { not: true, of: Vec::new() },
            conditions: Vec::new(),
        }
    }

    /// What it says about a request.
    pub(super) fn judge(&self, question: &Question<'_>) -> Verdict {
        let named = self.names(question);
        let about = named != Named::No
            && self.actions.has(|actions| actions.iter().any(|action| matches(action, question.action, true)))
            && self.resources.has(|resources| {
                resources.iter().any(|resource| resource.matches_arn(question.resource, question.context))
            })
            && self.conditions.iter().all(|condition| condition.holds(question.context));
        match (about, self.allows, named) {
            (false, ..) => Verdict::Silent,
            (true, false, _) => Verdict::Deny,
            (true, true, Named::ByAccount) => Verdict::AllowAccount,
            (true, true, Named::BySession) => Verdict::AllowSession,
            (true, true, _) => Verdict::Allow,
        }
    }

    /// Whether it is about whoever asks.
    pub(super) fn is_about_everybody(&self) -> bool {
        self.principals.as_ref().is_some_and(|principals| principals.not || principals.of.is_everybody())
    }

    /// Whether one of its conditions is about one of these keys.
    pub(super) fn asks_for(&self, keys: &[&str]) -> bool {
        self.conditions.iter().any(|condition| keys.iter().any(|key| condition.key.eq_ignore_ascii_case(key)))
    }

    fn names(&self, question: &Question<'_>) -> Named {
        match &self.principals {
            None => Named::Itself,
            Some(Listed { not: false, of }) => of.name(question.principal),
            Some(Listed { not: true, of }) if !of.excepts(question.principal) => Named::Itself,
            Some(Listed { not: true, .. }) => Named::No,
        }
    }
}

impl<T> Listed<T> {
    fn has(&self, test: impl Fn(&T) -> bool) -> bool {
        test(&self.of) != self.not
    }
}

fn effect(elements: &Map<String, Value>) -> Result<bool, PolicyError> {
    match elements.get("Effect") {
        None => Err(PolicyError::Missing("Effect")),
        Some(Value::String(effect)) => match effect.as_str() {
            "Allow" => Ok(true),
            "Deny" => Ok(false),
            other => Err(PolicyError::Effect(other.to_owned())),
        },
        Some(_) => Err(PolicyError::Syntax),
    }
}

/// An element or its opposite, never both.
fn one_of<'a>(
    elements: &'a Map<String, Value>,
    name: &'static str,
    opposite: &str,
) -> Result<Option<Listed<&'a Value>>, PolicyError> {
    match (elements.get(name), elements.get(opposite)) {
        (Some(_), Some(_)) => Err(PolicyError::Syntax),
        (Some(of), None) => Ok(Some(Listed { not: false, of })),
        (None, Some(of)) => Ok(Some(Listed { not: true, of })),
        (None, None) => Ok(None),
    }
}

fn principals(
    elements: &Map<String, Value>,
    owner: Owner<'_>,
    allows: bool,
) -> Result<Option<Listed<Principals>>, PolicyError> {
    match (one_of(elements, "Principal", "NotPrincipal")?, owner) {
        (None, Owner::User) => Ok(None),
        (Some(Listed { of, .. }), Owner::User) => Err(PolicyError::Principal(of.to_string())),
        (None, Owner::Bucket(_) | Owner::Trust) => Err(PolicyError::Missing("Principal")),
        (Some(Listed { not: true, .. }), _) if allows => Err(PolicyError::AllowNotPrincipal),
        (Some(Listed { not, of }), _) => Ok(Some(Listed { not, of: Principals::parse(of)? })),
    }
}

fn actions(elements: &Map<String, Value>, owner: Owner<'_>) -> Result<Listed<Vec<String>>, PolicyError> {
    let Some(Listed { not, of }) = one_of(elements, "Action", "NotAction")? else {
        return Err(PolicyError::Missing("Action"));
    };
    let actions = texts(of).filter(|actions| !actions.is_empty()).ok_or(PolicyError::Missing("Action"))?;
    let is_action = |action: &String| match owner {
        Owner::Bucket(_) => meant_by(action).next().is_some(),
        // A user's policy may be about services that are not here.
        Owner::User => {
            action == "*"
                || action.split_once(':').is_some_and(|(service, name)| !service.is_empty() && !name.is_empty())
        }
        Owner::Trust => action.split_once(':').is_some_and(|(service, _)| service.eq_ignore_ascii_case("sts")),
    };
    match actions.iter().find(|action| !is_action(action)) {
        Some(unknown) => Err(PolicyError::Action(unknown.clone())),
        None => Ok(Listed { not, of: actions }),
    }
}

fn resources(
    elements: &Map<String, Value>,
    owner: Owner<'_>,
    variables: bool,
) -> Result<Listed<Vec<Pattern>>, PolicyError> {
    let Some(Listed { not, of }) = one_of(elements, "Resource", "NotResource")? else {
        return match owner {
            Owner::Trust => Ok(Listed { not: true, of: Vec::new() }),
            Owner::Bucket(_) | Owner::User => Err(PolicyError::Missing("Resource")),
        };
    };
    let resources = texts(of).filter(|resources| !resources.is_empty()).ok_or(PolicyError::Missing("Resource"))?;
    let is_resource = |resource: &String| match owner {
        Owner::Bucket(Some(bucket)) => is_in_bucket(resource, bucket),
        Owner::Bucket(None) => true,
        Owner::Trust => false,
        Owner::User => resource == "*" || resource.starts_with("arn:"),
    };
    if let Some(other) = resources.iter().find(|resource| !is_resource(resource)) {
        return Err(PolicyError::Resource(other.clone()));
    }
    let patterns = resources.iter().map(|resource| Pattern::parse(resource, variables)).collect::<Result<_, _>>()?;
    Ok(Listed { not, of: patterns })
}

/// Whether a resource can be the bucket or something in it.
fn is_in_bucket(resource: &str, bucket: &str) -> bool {
    let Some(named) = resource.strip_prefix("arn:aws:s3:::") else { return false };
    let named = named.split_once('/').map_or(named, |(bucket, _)| bucket);
    named.contains("${") || matches(named, bucket, false)
}

fn conditions(
    element: &Value,
    actions: &Listed<Vec<String>>,
    owner: Owner<'_>,
    variables: bool,
) -> Result<Vec<Condition>, PolicyError> {
    let Value::Object(operators) = element else { return Err(PolicyError::Syntax) };
    let mut conditions = Vec::new();
    for (operator, keys) in operators {
        let Value::Object(keys) = keys else { return Err(PolicyError::Syntax) };
        for (key, values) in keys {
            if let Owner::Bucket(_) = owner {
                check_key(key, actions)?;
            }
            conditions.push(Condition::parse(operator, key, values, variables)?);
        }
    }
    Ok(conditions)
}

/// A key must be one that all actions have that are named; of those that are meant by a wildcard, one.
fn check_key(key: &str, actions: &Listed<Vec<String>>) -> Result<(), PolicyError> {
    let has = who_has(key).ok_or_else(|| PolicyError::Key(key.to_owned()))?;
    let applies = |pattern: &String| meant_by(pattern).any(|action| has.includes(action));
    if actions.not || actions.of.iter().all(applies) { Ok(()) } else { Err(PolicyError::KeyOfOtherActions) }
}

/// One text or a list of them.
fn texts(element: &Value) -> Option<Vec<String>> {
    match element {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => list.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}
