//! A whole policy: read from JSON, asked about requests.

use serde_json::Value;

use super::bound::Ids;
use super::error::PolicyError;
use super::principal::Principals;
use super::statement::Statement;
use super::{Question, Verdict, json, public};

/// The largest policy without its white space, as S3 says: 20 KB.
pub const POLICY_BYTES_MAX: usize = 20 << 10;

/// The largest one with it: a policy is kept as it was sent, and every gateway has all of them in memory.
pub const POLICY_TEXT_BYTES_MAX: usize = 4 * POLICY_BYTES_MAX;

/// A policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

/// Whose policy a document is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner<'a> {
    /// A bucket's: it says whom it is about, and is about nothing but that bucket. `None` for one that was judged before.
    Bucket(Option<&'a str>),
    /// A user's, a group's, a role's or a session's: it is about whom it belongs to.
    User,
    /// What a role trusts: it says who may assume the role, and is about nothing else.
    Trust,
}

/// The two versions of the language: the first has no variables, and is meant where none is named.
const VERSIONS: [(&str, bool); 2] = [("2008-10-17", false), ("2012-10-17", true)];

impl Policy {
    /// The policy that a document writes. A document with a mistake is none.
    pub fn parse(text: &str, owner: Owner<'_>) -> Result<Self, PolicyError> {
        if !text.starts_with('{') {
            return Err(PolicyError::NotJson);
        }
        if text.len() > POLICY_TEXT_BYTES_MAX {
            return Err(PolicyError::TooLarge);
        }
        let document = json::read(text).map_err(|_| PolicyError::InvalidJson)?;
        if document.to_string().len() > POLICY_BYTES_MAX {
            return Err(PolicyError::TooLarge);
        }
        let Value::Object(elements) = &document else { return Err(PolicyError::NotJson) };
        if let Some(unknown) = elements.keys().find(|name| !["Version", "Id", "Statement"].contains(&name.as_str())) {
            return Err(PolicyError::Unknown(unknown.clone()));
        }
        if elements.get("Id").is_some_and(|id| !id.is_string()) {
            return Err(PolicyError::Syntax);
        }
        let variables = variables(elements.get("Version"))?;
        let parse = |statement: &Value| Statement::parse(statement, owner, variables);
        let statements = match elements.get("Statement") {
            None => return Err(PolicyError::Missing("Statement")),
            Some(Value::Array(list)) if list.is_empty() => return Err(PolicyError::Empty),
            Some(Value::Array(list)) => list.iter().map(parse).collect::<Result<_, _>>()?,
            Some(one) => vec![parse(one)?],
        };
        Ok(Self { statements })
    }

    /// A policy that forbids everything to everybody.
    pub(super) fn forbidding() -> Self {
        Self { statements: vec![Statement::forbidding()] }
    }

    /// Whom its statements are about.
    pub(super) fn principals(&self) -> impl Iterator<Item = &Principals> {
        self.statements.iter().filter_map(|statement| statement.principals.as_ref()).map(|listed| &listed.of)
    }

    /// Says who they are.
    pub(super) fn bind(&mut self, ids: &Ids) {
        let principals = self.statements.iter_mut().filter_map(|statement| statement.principals.as_mut());
        principals.for_each(|listed| listed.of.bind(ids));
    }

    /// What the policy says about a request: the strongest that one of its statements says.
    pub fn judge(&self, question: &Question<'_>) -> Verdict {
        self.statements.iter().map(|statement| statement.judge(question)).max().unwrap_or(Verdict::Silent)
    }

    /// Whether the policy is what S3 calls public.
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(public::is_public)
    }
}

/// Whether the language has variables.
fn variables(version: Option<&Value>) -> Result<bool, PolicyError> {
    let Some(version) = version else { return Ok(VERSIONS[0].1) };
    let known = VERSIONS.iter().find(|(known, _)| version.as_str() == Some(known));
    known.map(|(_, variables)| *variables).ok_or(PolicyError::Version)
}
