//! Cross-origin resource sharing: what pages of other origins may ask of a bucket. Pure: rules in, the rule that holds out.
//!
//! It opens nothing: it only tells a browser what it may show to a page. See "Using cross-origin resource sharing (CORS)" in
//! the Amazon S3 user guide.

use serde::{Deserialize, Serialize};

/// Rules of one bucket, as S3 says.
pub const RULES_MAX: usize = 100;

/// The longest document that sets them, as S3 says.
pub const DOCUMENT_BYTES_MAX: u64 = 64 << 10;

/// The longest name of a rule, as S3 says.
pub const ID_CHARS_MAX: usize = 255;

/// What stands for any characters in an origin or a header's name.
const WILDCARD: char = '*';

/// The rules of a bucket. The first that fits is the one that holds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cors {
    /// In the order in which they were given.
    pub rules: Vec<CorsRule>,
}

/// What pages of some origins may ask.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CorsRule {
    /// A name for people.
    pub id: Option<String>,
    /// The headers that a page may send, with at most one `*` each.
    pub allowed_headers: Vec<String>,
    /// The methods.
    pub allowed_methods: Vec<CorsMethod>,
    /// The origins, with at most one `*` each.
    pub allowed_origins: Vec<String>,
    /// The headers of the answer that a page may see.
    pub expose_headers: Vec<String>,
    /// How long a browser may remember the answer to a preflight.
    pub max_age_seconds: Option<u32>,
}

/// The methods that rules know.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CorsMethod {
    /// `GET`
    Get,
    /// `PUT`
    Put,
    /// `POST`
    Post,
    /// `DELETE`
    Delete,
    /// `HEAD`
    Head,
}

/// Why a rule makes no sense.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CorsError {
    /// An origin has several wildcards.
    #[error("AllowedOrigin \"{0}\" can not have more than one wildcard.")]
    Origin(String),
    /// A header has several wildcards.
    #[error("AllowedHeader \"{0}\" can not have more than one wildcard.")]
    Header(String),
    /// A header to expose has a wildcard.
    #[error("ExposeHeader \"{0}\" contains wildcard. We currently do not support wildcard for ExposeHeader.")]
    Expose(String),
    /// The rule's name is too long.
    #[error("The ID of a rule can not be longer than {ID_CHARS_MAX} characters.")]
    Id,
}

impl CorsMethod {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Get, Self::Put, Self::Post, Self::Delete, Self::Head];

    /// HTTP's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
            Self::Head => "HEAD",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

impl Cors {
    /// The rule for a request of a page of `origin`.
    pub fn rule(&self, origin: &str, method: CorsMethod) -> Option<&CorsRule> {
        self.rules.iter().find(|rule| rule.permits(origin, method))
    }

    /// The rule for a request that a browser asks about in advance: it wants to send these headers too.
    pub fn preflight_rule(&self, origin: &str, method: CorsMethod, headers: &[&str]) -> Option<&CorsRule> {
        self.rules
            .iter()
            .find(|rule| rule.permits(origin, method) && headers.iter().all(|header| rule.permits_header(header)))
    }
}

impl CorsRule {
    /// Whether the rule makes sense.
    pub fn check(&self) -> Result<(), CorsError> {
        let wildcards = |text: &str| text.matches(WILDCARD).count();
        if self.id.as_ref().is_some_and(|id| id.chars().count() > ID_CHARS_MAX) {
            return Err(CorsError::Id);
        }
        if let Some(origin) = self.allowed_origins.iter().find(|origin| wildcards(origin) > 1) {
            return Err(CorsError::Origin(origin.clone()));
        }
        if let Some(header) = self.allowed_headers.iter().find(|header| wildcards(header) > 1) {
            return Err(CorsError::Header(header.clone()));
        }
        match self.expose_headers.iter().find(|header| wildcards(header) > 0) {
            Some(header) => Err(CorsError::Expose(header.clone())),
            None => Ok(()),
        }
    }

    /// Whether every origin may ask, so that the answer need not name one.
    pub fn is_open_to(&self, origin: &str) -> bool {
        let first = self.allowed_origins.iter().find(|pattern| fits(pattern, origin));
        first.is_some_and(|pattern| pattern.len() == 1 && pattern.starts_with(WILDCARD))
    }

    fn permits(&self, origin: &str, method: CorsMethod) -> bool {
        self.allowed_methods.contains(&method) && self.allowed_origins.iter().any(|pattern| fits(pattern, origin))
    }

    fn permits_header(&self, header: &str) -> bool {
        let header = header.to_ascii_lowercase();
        self.allowed_headers.iter().any(|pattern| fits(&pattern.to_ascii_lowercase(), &header))
    }
}

/// Whether a text is what a pattern with at most one wildcard stands for.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once(WILDCARD) {
        None => pattern == text,
        Some((start, end)) => text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cors, CorsError, CorsMethod, CorsRule, fits};

    fn rule(origins: &[&str], methods: &[CorsMethod], headers: &[&str]) -> CorsRule {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        CorsRule {
            allowed_origins: owned(origins),
            allowed_methods: methods.to_vec(),
            allowed_headers: owned(headers),
            ..CorsRule::default()
        }
    }

    #[test]
    fn a_pattern_fits_what_its_wildcard_stands_for() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "http://a", true),
            ("*suffix", "foo.suffix", true),
            ("*suffix", "foo.suffix.get", false),
            ("start*end", "startend", true),
            ("start*end", "start12end", true),
            ("start*end", "0start12end", false),
            ("aba*ba", "aba", false),
            ("prefix*", "prefix", true),
            ("prefix*", "bla.prefix", false),
            ("http://a", "http://a", true),
            ("http://a", "http://A", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_holds() {
        let get = rule(&["http://a", "http://b"], &[CorsMethod::Get], &["x-amz-*", "Authorization"]);
        let any = rule(&["*"], &[CorsMethod::Get, CorsMethod::Put], &[]);
        let cors = Cors { rules: vec![get.clone(), any.clone()] };
        assert_eq!(cors.rule("http://a", CorsMethod::Get), Some(&get));
        assert_eq!(cors.rule("http://c", CorsMethod::Get), Some(&any));
        assert_eq!(cors.rule("http://a", CorsMethod::Put), Some(&any));
        assert_eq!(cors.rule("http://a", CorsMethod::Delete), None);
        let preflight = |origin, headers: &[&str]| cors.preflight_rule(origin, CorsMethod::Get, headers);
        assert_eq!(preflight("http://a", &["X-Amz-Date", "authorization"]), Some(&get));
        assert_eq!(preflight("http://a", &[]), Some(&get));
        assert_eq!(preflight("http://a", &["x-amz-date", "x-other"]), None);
        assert_eq!(preflight("http://c", &["x-amz-date"]), None, "no header is allowed there");
        assert!(any.is_open_to("http://c") && !get.is_open_to("http://a"));
    }

    #[test]
    fn wildcards_are_bounded() {
        let check = |rule: CorsRule| rule.check().expect_err("it makes no sense");
        assert_eq!(check(rule(&["*.*"], &[], &[])), CorsError::Origin("*.*".to_owned()));
        assert_eq!(check(rule(&["*"], &[], &["**"])), CorsError::Header("**".to_owned()));
        let exposed = CorsRule { expose_headers: vec!["x-*".to_owned()], ..CorsRule::default() };
        assert_eq!(check(exposed), CorsError::Expose("x-*".to_owned()));
        assert_eq!(check(CorsRule { id: Some("x".repeat(256)), ..CorsRule::default() }), CorsError::Id);
        assert_eq!(rule(&["http://*.a"], &[CorsMethod::Get], &["*"]).check(), Ok(()));
    }
}
