//! Webhooks as operators write them: names with URLs, with tokens, and with the accounts that may use them. A URL may hold a secret,
//! so none is shown.

use std::collections::BTreeSet;

use super::values::{Secret, parse_host, parse_port};

/// A name is part of keys of stored events, and of what bucket owners write.
const NAME_BYTES_MAX: usize = 64;

/// What some servers take at most.
const URL_BYTES_MAX: usize = 2_048;

/// Who can be told of events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Webhook {
    /// Its name: what buckets call it by.
    pub name: String,
    /// Where events are posted to: an `http://` or `https://` URL.
    pub url: Secret,
    /// Goes with each as `Authorization: Bearer`.
    pub token: Option<Secret>,
    /// The accounts that may use it, by name, number or canonical id; none of them: all may.
    pub accounts: Vec<String>,
}

impl Webhook {
    /// Whether it is reached by TLS.
    pub fn is_https(&self) -> bool {
        self.url.expose().starts_with(HTTPS)
    }
}

const HTTPS: &str = "https://";

/// `NAME=URL`, separated by commas.
pub(super) fn parse_webhooks(text: &str) -> Result<Vec<Webhook>, String> {
    let mut webhooks: Vec<Webhook> = Vec::new();
    for (name, url) in pairs(text)? {
        check_url(url).map_err(|reason| format!("the URL of `{name}` {reason}"))?;
        webhooks.push(Webhook { name: name.to_owned(), url: Secret::new(url), token: None, accounts: Vec::new() });
    }
    Ok(webhooks)
}

/// Gives the webhooks their tokens: `NAME=TOKEN`, separated by commas or each on a line.
pub(super) fn add_tokens(webhooks: &mut [Webhook], text: &str) -> Result<(), String> {
    for (name, token) in pairs(text)? {
        let webhook = webhooks.iter_mut().find(|webhook| webhook.name == name);
        let webhook = webhook.ok_or_else(|| format!("`{name}` is none of the webhooks"))?;
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("the token of `{name}` is not of visible ASCII characters"));
        }
        webhook.token = Some(Secret::new(token));
    }
    Ok(())
}

/// Says which accounts may use webhooks: `NAME=ACCOUNT ACCOUNT`, separated by commas or each on a line.
pub(super) fn add_accounts(webhooks: &mut [Webhook], text: &str) -> Result<(), String> {
    for (name, accounts) in pairs(text)? {
        let webhook = webhooks.iter_mut().find(|webhook| webhook.name == name);
        let webhook = webhook.ok_or_else(|| format!("`{name}` is none of the webhooks"))?;
        webhook.accounts = accounts.split_whitespace().map(str::to_owned).collect();
    }
    Ok(())
}

/// Each name once, with what follows it.
fn pairs(text: &str) -> Result<Vec<(&str, &str)>, String> {
    let items = text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty());
    let mut names = BTreeSet::new();
    let mut pairs = Vec::new();
    for item in items {
        let (name, value) = item.split_once('=').ok_or("is not `NAME=...`, separated by commas")?;
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_inner) {
            return Err(format!("has a name that is not 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"));
        }
        if value.is_empty() || !names.insert(name) {
            return Err(format!("names `{name}` twice, or with nothing behind it"));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// Messages never show the URL.
fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix(HTTPS));
    let rest = rest.ok_or("is neither http://... nor https://...")?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+;=%".contains(&byte);
    if url.len() > URL_BYTES_MAX || !rest.bytes().all(is_allowed) {
        return Err("is too long, or has characters that must be percent-encoded");
    }
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    if authority.contains('@') {
        return Err("has credentials in it: give them as a token");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_port = |port: &str| parse_port(port).is_ok_and(|port| port != 0);
    match parse_host(host).is_ok() && port.is_none_or(is_port) {
        true => Ok(()),
        false => Err("has no valid host and port"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Secret, Webhook, add_accounts, add_tokens, parse_webhooks};

    #[test]
    fn names_urls_and_tokens_belong_together() {
        let mut webhooks = parse_webhooks("a=http://h:80/x?y=z, b.2=https://[::1]:9/,c=http://10.0.0.1").unwrap();
        add_tokens(&mut webhooks, "b.2=x=y\na=t\n").unwrap();
        let tokens: Vec<_> = webhooks.iter().map(|hook| hook.token.as_ref().map(Secret::expose)).collect();
        assert_eq!(tokens, [Some("t"), Some("x=y"), None]);
        assert_eq!(webhooks[0].url.expose(), "http://h:80/x?y=z");
        assert!(!format!("{webhooks:?}").contains("http"));
        assert_eq!(webhooks.iter().map(Webhook::is_https).collect::<Vec<_>>(), [false, true, false]);
        add_accounts(&mut webhooks, "a=alice  bob,c=carol").unwrap();
        let accounts: Vec<_> = webhooks.iter().map(|hook| hook.accounts.join("|")).collect();
        assert_eq!(accounts, ["alice|bob", "", "carol"]);
        assert!(add_accounts(&mut webhooks, "d=alice").is_err() && add_accounts(&mut webhooks, "a=").is_err());
        assert!(add_tokens(&mut webhooks, "d=t").is_err() && add_tokens(&mut webhooks, "a=t t").is_err());
    }

    #[test]
    fn what_cannot_be_told_is_refused_without_showing_it() {
        for (wrong, reason) in [
            ("http://hidden", "NAME="),
            ("a=ftp://hidden", "is neither http"),
            ("a=https:hidden", "is neither http"),
            ("a=https://hidden:x/", "host and port"),
            ("a=http://u:hidden@h/", "credentials"),
            ("a=http://h:0/hidden", "host and port"),
            ("a=http:///hidden", "host and port"),
            ("a=http://h/hidden x", "percent-encoded"),
            ("a=http://h/hidden,a=http://h/", "twice"),
            ("a b=http://h/hidden", "has a name"),
        ] {
            let message = parse_webhooks(wrong).unwrap_err();
            assert!(message.contains(reason) && !message.contains("hidden"), "{wrong}: {message}");
        }
    }
}
