//! Where websites send browsers: the address that a rule makes of the one that was asked for.

use annulus_common::website::{Protocol, Replace, RoutingRule};
use http::{Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::reply::Content;
use super::see;

/// What a key leaves as it is in a path.
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// What a rule's own text leaves as it is: it may have a fragment or a query, as single-page applications do.
const WRITTEN: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// The address that was asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Its path, decoded, without the first slash.
    pub(super) path: &'a str,
    /// By which it was asked for.
    pub(super) protocol: Protocol,
    /// Its host, with the port.
    pub(super) host: &'a str,
    /// Its query, as it came.
    pub(super) query: Option<&'a str>,
}

/// The answer of a rule that holds.
pub(super) fn by_rule(rule: &RoutingRule, asked: &Asked<'_>) -> Response<Content> {
    let redirect = &rule.redirect;
    let key = redirect.replace.as_ref().map(|replace| match replace {
        Replace::Key(key) => written(key),
        Replace::Prefix(prefix) => {
            format!("{}{}", written(prefix), encode_key(asked.path.strip_prefix(rule.prefix()).unwrap_or(asked.path)))
        }
    });
    let target = location(asked, redirect.protocol, redirect.host.as_deref(), key);
    let status = redirect.status.and_then(|status| StatusCode::from_u16(status).ok());
    see(status.unwrap_or(StatusCode::MOVED_PERMANENTLY), &target)
}

/// The address with another protocol, host or (encoded) key.
pub(super) fn location(
    asked: &Asked<'_>,
    protocol: Option<Protocol>,
    host: Option<&str>,
    key: Option<String>,
) -> String {
    let protocol = protocol.unwrap_or(asked.protocol).name();
    let host = host.unwrap_or(asked.host);
    let key = key.unwrap_or_else(|| encode_key(asked.path));
    let query = asked.query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{protocol}://{host}/{key}{query}")
}

/// A key as a path.
pub(super) fn encode_key(key: &str) -> String {
    utf8_percent_encode(key, KEY).to_string()
}

fn written(text: &str) -> String {
    utf8_percent_encode(text, WRITTEN).to_string()
}

#[cfg(test)]
mod tests {
    use annulus_common::website::{Condition, Protocol, Redirect, Replace, RoutingRule};

    use super::{Asked, by_rule, location};

    const ASKED: Asked<'static> =
        Asked { path: "docs/a b.html", protocol: Protocol::Http, host: "photos.web:80", query: Some("x=1") };

    fn target(redirect: Redirect) -> (u16, String) {
        let condition = Some(Condition { key_prefix: Some("docs/".to_owned()), error_status: None });
        let response = by_rule(&RoutingRule { condition, redirect }, &ASKED);
        let target = response.headers().get("location").and_then(|target| target.to_str().ok()).unwrap_or_default();
        (response.status().as_u16(), target.to_owned())
    }

    #[test]
    fn what_a_rule_does_not_say_stays_as_it_was() {
        let host = Redirect { host: Some("example.org".to_owned()), ..Redirect::default() };
        assert_eq!(target(host.clone()), (301, "http://example.org/docs/a%20b.html?x=1".to_owned()));
        let all = Redirect { protocol: Some(Protocol::Https), status: Some(307), ..host };
        assert_eq!(target(all), (307, "https://example.org/docs/a%20b.html?x=1".to_owned()));
    }

    #[test]
    fn a_key_is_replaced_whole_or_in_front() {
        let replace = |replace| target(Redirect { replace: Some(replace), ..Redirect::default() }).1;
        assert_eq!(replace(Replace::Key("gone.html".to_owned())), "http://photos.web:80/gone.html?x=1");
        assert_eq!(replace(Replace::Prefix("documents/".to_owned())), "http://photos.web:80/documents/a%20b.html?x=1");
        assert_eq!(replace(Replace::Prefix("#!/".to_owned())), "http://photos.web:80/#!/a%20b.html?x=1");
    }

    #[test]
    fn a_website_that_moved_keeps_its_paths() {
        assert_eq!(location(&ASKED, None, Some("example.org"), None), "http://example.org/docs/a%20b.html?x=1");
        let by_tls = Asked { protocol: Protocol::Https, ..ASKED };
        assert_eq!(location(&by_tls, None, Some("example.org"), None), "https://example.org/docs/a%20b.html?x=1");
    }
}
