//! Static websites: which page a path means, and which requests are sent elsewhere. Pure: no HTTP, no storage.
//!
//! See "Hosting a static website using Amazon S3" and "(Optional) Configuring a webpage redirect" in the S3 user guide.

use serde::{Deserialize, Serialize};

/// Routing rules of one website, as S3 says.
pub const RULES_MAX: usize = 50;

/// The longest document that sets them, as S3 says.
pub const DOCUMENT_BYTES_MAX: u64 = 128 << 10;

/// What is configured of a bucket's website.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Website {
    /// It has moved.
    RedirectAll {
        /// To this host.
        host: String,
        /// By this protocol; the request's when nothing is said.
        protocol: Option<Protocol>,
    },
    /// It is served.
    Pages(Pages),
}

/// How pages are served.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pages {
    /// What is added to a path that ends in a slash.
    pub index_suffix: String,
    /// The object that is shown instead of an error of the 4xx class.
    pub error_key: Option<String>,
    /// The first that fits holds.
    pub rules: Vec<RoutingRule>,
}

/// Sends some requests elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoutingRule {
    /// Which requests; all of them when nothing is said.
    pub condition: Option<Condition>,
    /// Where.
    pub redirect: Redirect,
}

/// Which requests a rule is for: all that is said must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Condition {
    /// The key begins with it.
    pub key_prefix: Option<String>,
    /// The answer would be this error.
    pub error_status: Option<u16>,
}

/// Where requests are sent. What is not said stays as it was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Redirect {
    /// The protocol.
    pub protocol: Option<Protocol>,
    /// The host.
    pub host: Option<String>,
    /// What becomes of the key.
    pub replace: Option<Replace>,
    /// The status; 301 when nothing is said.
    pub status: Option<u16>,
}

/// What becomes of a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Replace {
    /// This takes the place of the prefix that the rule's condition names.
    Prefix(String),
    /// This takes the key's place.
    Key(String),
}

/// A protocol to send requests by.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Protocol {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Protocol {
    /// Its scheme.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The one of that scheme.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Http, Self::Https].into_iter().find(|protocol| protocol.name() == name)
    }
}

impl Pages {
    /// The object that a path means, without its leading slash.
    pub fn key_of(&self, path: &str) -> String {
        if path.is_empty() || path.ends_with('/') { format!("{path}{}", self.index_suffix) } else { path.to_owned() }
    }

    /// The index of a path that may be a folder's, written without its slash.
    pub fn folder_index(&self, path: &str) -> Option<String> {
        (!path.is_empty() && !path.ends_with('/')).then(|| format!("{path}/{}", self.index_suffix))
    }

    /// The rule for a request that has not been answered yet.
    pub fn rule_before(&self, path: &str) -> Option<&RoutingRule> {
        self.rules.iter().find(|rule| rule.error_status().is_none() && rule.is_for(path))
    }

    /// The rule for a request whose answer would be that error.
    pub fn rule_after(&self, path: &str, status: u16) -> Option<&RoutingRule> {
        self.rules.iter().find(|rule| rule.error_status() == Some(status) && rule.is_for(path))
    }
}

impl RoutingRule {
    /// The prefix that its condition names.
    pub fn prefix(&self) -> &str {
        self.condition.as_ref().and_then(|condition| condition.key_prefix.as_deref()).unwrap_or_default()
    }

    fn error_status(&self) -> Option<u16> {
        self.condition.as_ref().and_then(|condition| condition.error_status)
    }

    fn is_for(&self, path: &str) -> bool {
        path.starts_with(self.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::{Condition, Pages, Redirect, RoutingRule};

    fn rule(key_prefix: Option<&str>, error_status: Option<u16>, host: &str) -> RoutingRule {
        let condition = Condition { key_prefix: key_prefix.map(str::to_owned), error_status };
        let redirect = Redirect { host: Some(host.to_owned()), ..Redirect::default() };
        RoutingRule { condition: (condition != Condition::default()).then_some(condition), redirect }
    }

    fn pages(rules: Vec<RoutingRule>) -> Pages {
        Pages { index_suffix: "index.html".to_owned(), error_key: None, rules }
    }

    #[test]
    fn a_folder_means_its_index() {
        let pages = pages(vec![]);
        for (path, key) in [("", "index.html"), ("a/", "a/index.html"), ("a", "a"), ("a/b.html", "a/b.html")] {
            assert_eq!(pages.key_of(path), key);
        }
        assert_eq!(pages.folder_index("a").as_deref(), Some("a/index.html"));
        assert_eq!((pages.folder_index(""), pages.folder_index("a/")), (None, None));
    }

    #[test]
    fn the_first_rule_that_fits_holds() {
        let pages = pages(vec![
            rule(Some("docs/"), None, "docs"),
            rule(Some("docs/"), Some(404), "lost-docs"),
            rule(None, Some(404), "lost"),
        ]);
        let host = |rule: Option<&RoutingRule>| rule.and_then(|rule| rule.redirect.host.clone());
        assert_eq!(host(pages.rule_before("docs/a")).as_deref(), Some("docs"));
        assert_eq!(host(pages.rule_before("a")), None);
        assert_eq!(host(pages.rule_after("docs/a", 404)).as_deref(), Some("lost-docs"));
        assert_eq!(host(pages.rule_after("a", 404)).as_deref(), Some("lost"));
        assert_eq!(host(pages.rule_after("a", 403)), None);
    }
}
