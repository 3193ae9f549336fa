//! Headers in the query of a presigned URL. SDKs move what begins with `x-amz-` there when they sign, so that whoever has the
//! URL need not send it; S3 obeys it as it obeys headers. It is covered by the signature like the rest of the query, so once
//! that is verified it is put where operations look for it.
//!
//! S3 does not obey tags and locks there, and SDKs have stopped to move locks: a put that would have neither is refused. So are keys
//! of the client's, which S3 has sent as headers beside the URL ("Presigned URLs and SSE-C" in its user guide) and SDKs never move:
//! a URL ends up in logs, here and on its way.

use annulus_common::checksum::{ChecksumAlgorithm, ChecksumValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use s3s::{S3Result, s3_error};

use crate::auth::client_keys::is_client_key;
use crate::detail::detailed;
use crate::query;

/// What every header of S3's begins with.
const PREFIX: &str = "x-amz-";

/// The parameter that makes a URL a presigned one.
const SIGNATURE: &str = "x-amz-signature";

/// Parameters that are the signature's, or say something of the client alone.
const OF_THE_SIGNATURE: &[&str] = &[
    SIGNATURE,
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    // Promises nothing by itself: the checksum would.
    "x-amz-sdk-checksum-algorithm",
    "x-amz-security-token",
    "x-amz-signedheaders",
    "x-amz-user-agent",
];

/// Beginnings of headers that S3 does not obey in a query.
const REFUSED: &[&str] = &["x-amz-object-lock-", "x-amz-tagging"];

/// Whether the URL is presigned and has headers in it.
pub(super) fn is_any(uri: &Uri) -> bool {
    headers(uri).next().is_some() && parameters(uri).any(|(name, _)| name == SIGNATURE)
}

/// Puts them among the headers of a request whose signature was verified.
pub(super) fn unhoist(uri: &Uri, to: &mut HeaderMap) -> S3Result<()> {
    for (name, value) in headers(uri) {
        if is_client_key(&name) || REFUSED.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(detailed(s3_error!(NotImplemented), &[("Header", &name)]));
        }
        let invalid = || s3_error!(InvalidArgument, "invalid query: {name}");
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid())?;
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        // Two values that differ are told apart by whoever takes one.
        if !to.get_all(&header).iter().any(|there| *there == value) {
            to.append(header, value);
        }
    }
    Ok(())
}

fn headers(uri: &Uri) -> impl Iterator<Item = (String, String)> + '_ {
    parameters(uri).filter(|(name, value)| !OF_THE_SIGNATURE.contains(&name.as_str()) && !is_of_nothing(name, value))
}

/// Whether it is the checksum of no bytes: what SDKs put into a URL for a body that they have not seen, and S3 ignores.
fn is_of_nothing(name: &str, value: &str) -> bool {
    let algorithm = ChecksumAlgorithm::ALL.into_iter().find(|algorithm| algorithm.header_name() == name);
    algorithm.is_some_and(|algorithm| BASE64.encode(ChecksumValue::of(algorithm, b"").as_bytes()) == value)
}

/// The parameters that could be headers, their names in lower case.
fn parameters(uri: &Uri) -> impl Iterator<Item = (String, String)> + '_ {
    query::pairs(uri.query())
        .filter(|(name, _)| begins_as_headers(name))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned()))
}

/// Whether the pair of a query is S3's own, however it is written.
pub(super) fn has_prefix(pair: &str) -> bool {
    query::pairs(Some(pair)).any(|(name, _)| begins_as_headers(&name))
}

fn begins_as_headers(name: &str) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Uri};

    use super::{is_any, unhoist};

    const SIGNED: &str =
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders=host&X-Amz-Signature=ab";

    fn uri(query: &str) -> Uri {
        format!("/b/k?{query}").parse().expect("a URI")
    }

    fn unhoisted(query: &str) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        unhoist(&uri(query), &mut headers).expect("valid");
        let pairs = headers.iter();
        pairs.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
    }

    #[test]
    fn only_a_presigned_url_has_headers() {
        assert!(is_any(&uri(&format!("x-amz-acl=private&{SIGNED}"))));
        assert!(!is_any(&uri("x-amz-acl=private")));
        assert!(!is_any(&uri(&format!("x-id=PutObject&versionId=x&{SIGNED}"))));
        assert!(!is_any(&uri(&format!(
            "x-amz-sdk-checksum-algorithm=CRC32&x-amz-checksum-crc32=AAAAAA%3D%3D&{SIGNED}"
        ))));
        assert!(is_any(&uri(&format!("x-amz-checksum-crc32=y%2FQ5Jg%3D%3D&{SIGNED}"))));
        assert!(is_any(&uri(&format!("%78%2Damz-acl=private&{}", SIGNED.replace("X-Amz-S", "X-A%6Dz-S")))));
    }

    #[test]
    fn they_are_put_where_headers_are() {
        let query = format!("X-Amz-Meta-Colour=d%C3%A9j%C3%A0%20vu&x-amz-acl=public-read&x-id=PutObject&{SIGNED}");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(unhoisted(&format!("%78-%61mz-acl=private&{SIGNED}")), [pair("x-amz-acl", "private")]);
        assert_eq!(unhoisted(&query), [pair("x-amz-meta-colour", "déjà vu"), pair("x-amz-acl", "public-read")]);
    }

    #[test]
    fn what_is_there_already_is_not_repeated() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-acl", HeaderValue::from_static("private"));
        unhoist(&uri("x-amz-acl=private"), &mut headers).expect("valid");
        assert_eq!(headers.get_all("x-amz-acl").iter().count(), 1);
        unhoist(&uri("x-amz-acl=public-read"), &mut headers).expect("valid");
        assert_eq!(headers.get_all("x-amz-acl").iter().count(), 2, "to be refused");
    }

    #[test]
    fn what_cannot_be_a_header_is_refused() {
        for query in [
            "x-amz-tagging=a%3Db",
            "x-amz-object-lock-mode=GOVERNANCE",
            "x-amz-acl=a%0Ab",
            "x-amz-a%20b=c",
            "X-Amz-Server-Side-Encryption-Customer-Key=a",
            "x-amz-copy-source-server-side-encryption-customer%2Dkey=a",
        ] {
            assert!(unhoist(&uri(query), &mut HeaderMap::new()).is_err(), "{query}");
        }
    }
}
