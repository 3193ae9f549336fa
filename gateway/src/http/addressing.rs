//! Where a request goes: the bucket that its host names, or its path. With the domain `s3.example.org`, what is asked of
//! `photos.s3.example.org` is asked of the bucket `photos`, and the whole path is the key; every other host leaves it to
//! the path. See "Virtual hosting of general purpose buckets" in the S3 user guide.
//!
//! Signatures are over the host and the path as they came: nothing here rewrites a request.

use http::header::HOST;
use http::{HeaderMap, Uri};
use percent_encoding::percent_decode_str;
use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// The domains under which buckets have host names.
#[derive(Clone, Debug, Default)]
pub(super) struct Addressing {
    /// In lower case, without ports, longest first: of two that both end a host's name the longer one is meant.
    domains: Vec<String>,
}

/// What a request is about, as host and path say it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Target {
    /// The bucket, decoded.
    pub(super) bucket: Option<String>,
    /// The key as it stands in the path, encoded.
    pub(super) key: String,
    /// Whether the host names the bucket.
    pub(super) by_host: bool,
}

impl Addressing {
    pub(super) fn new(domains: &[String]) -> Self {
        let mut domains: Vec<String> = domains.iter().map(|domain| domain.to_ascii_lowercase()).collect();
        domains.sort_by_key(|domain| std::cmp::Reverse(domain.len()));
        Self { domains }
    }

    /// Where the request goes.
    pub(super) fn target(&self, headers: &HeaderMap, uri: &Uri) -> Target {
        let path = uri.path().strip_prefix('/').unwrap_or_default();
        if let Some(bucket) = host(headers, uri).and_then(|host| self.bucket(host)) {
            return Target { bucket: Some(bucket), key: path.to_owned(), by_host: true };
        }
        let (bucket, key) = split_bucket(path);
        let bucket = percent_decode_str(bucket).decode_utf8_lossy().into_owned();
        Target { bucket: Some(bucket).filter(|bucket| !bucket.is_empty()), key: key.to_owned(), by_host: false }
    }

    /// The bucket that a host names.
    fn bucket(&self, host: &str) -> Option<String> {
        let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
        if self.domains.contains(&name) {
            return None;
        }
        let bucket = self.domains.iter().find_map(|domain| name.strip_suffix(domain.as_str())?.strip_suffix('.'));
        bucket.filter(|bucket| !bucket.is_empty()).map(str::to_owned)
    }
}

impl S3Host for Addressing {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let all = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => all.with_bucket(bucket),
            None => all,
        })
    }
}

/// A path's bucket and its key, both encoded. s3s decodes a path before it looks for the slash between them, so one that is
/// written `%2F` divides them, too.
fn split_bucket(path: &str) -> (&str, &str) {
    let bytes = path.as_bytes();
    let encoded = bytes.windows(3).position(|at| at.eq_ignore_ascii_case(b"%2F"));
    let plain = bytes.iter().position(|byte| *byte == b'/');
    match (plain, encoded) {
        (plain, Some(at)) if plain.is_none_or(|plain| at < plain) => (&path[..at], &path[at + 3..]),
        (Some(at), _) => (&path[..at], &path[at + 1..]),
        _ => (path, ""),
    }
}

/// The host that the request names: its target may say it in full.
fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(|authority| authority.as_str()))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // An IPv6 address is in brackets, and names no bucket.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{Addressing, Target};

    fn target(host: &'static str, path: &str) -> Target {
        let domains = ["example.org", "s3.example.org", "Objects.Test"].map(str::to_owned);
        let headers = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static(host))]);
        Addressing::new(&domains).target(&headers, &path.parse().expect("a path"))
    }

    fn by_host(bucket: &str, key: &str) -> Target {
        Target { bucket: Some(bucket.to_owned()), key: key.to_owned(), by_host: true }
    }

    fn by_path(bucket: &str, key: &str) -> Target {
        Target { bucket: Some(bucket.to_owned()).filter(|name| !name.is_empty()), key: key.to_owned(), by_host: false }
    }

    #[test]
    fn a_host_under_a_domain_names_a_bucket() {
        assert_eq!(target("photos.s3.example.org", "/a/b"), by_host("photos", "a/b"));
        assert_eq!(target("photos.s3.example.org:4000", "/"), by_host("photos", ""));
        assert_eq!(target("a.b.s3.example.org", "/%20"), by_host("a.b", "%20"));
        assert_eq!(target("Photos.OBJECTS.test.", "//x"), by_host("photos", "/x"));
        assert_eq!(target("photos.example.org", "/photos/x"), by_host("photos", "photos/x"));
    }

    #[test]
    fn any_other_host_leaves_it_to_the_path() {
        for host in [
            "s3.example.org",
            "example.org:80",
            "127.0.0.1:4000",
            "[::1]:4000",
            "localhost",
            "notexample.org",
            ".example.org",
        ] {
            assert_eq!(target(host, "/photos/a%2Fb"), by_path("photos", "a%2Fb"), "{host}");
        }
        assert_eq!(target("s3.example.org", "/"), by_path("", ""));
        assert_eq!(target("s3.example.org", "/photos"), by_path("photos", ""));
        assert_eq!(target("s3.example.org", "/photos/"), by_path("photos", ""));
    }

    #[test]
    fn an_encoded_slash_divides_bucket_and_key_as_well() {
        for (path, bucket, key) in [
            ("/b%2Fk/x", "b", "k/x"),
            ("/b%2fk%2Fx", "b", "k%2Fx"),
            ("/b/k%2Fx", "b", "k%2Fx"),
            ("/%62%2F", "b", ""),
            ("/b%252Fk", "b%2Fk", ""),
            ("/b%2", "b%2", ""),
        ] {
            assert_eq!(target("s3.example.org", path), by_path(bucket, key), "{path}");
        }
    }

    #[test]
    fn without_domains_the_path_says_everything() {
        let headers = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("photos.example.org"))]);
        let target = Addressing::default().target(&headers, &"/b/k".parse().expect("a path"));
        assert_eq!(target, by_path("b", "k"));
    }
}
