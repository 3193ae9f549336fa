//! Signatures that hold, and signatures that must not.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use annulus_common::ids::ClusterId;
use annulus_common::map::{AccessKey, ClusterMap};
use annulus_common::object::UserId;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4::SigningParams;
use http::Request;
use http::request::Parts;
use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

use super::{SignatureError, SignedPayload, verify};

const USER: UserId = UserId([7; 32]);
const NOW_MS: u64 = 1_700_000_000_000;

fn map() -> ClusterMap {
    let key = AccessKey::of_account(USER, "secret".to_owned(), 0);
    let keys = BTreeMap::from([("AKIA".to_owned(), key)]);
    ClusterMap { keys, ..ClusterMap::formed(ClusterId([0; 16]), 1, Vec::new(), Vec::new(), BTreeMap::new()) }
}

/// A request as a client that knows `secret` signs it.
fn signed(uri: &str, secret: &str, body: SignableBody<'_>) -> Parts {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let identity = Credentials::new("AKIA", secret, None, None, "test").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("s3")
        .time(UNIX_EPOCH + Duration::from_millis(NOW_MS))
        .settings(settings)
        .build()
        .expect("all parameters are set")
        .into();
    let mut request = Request::post(uri).header("host", "localhost:4000").body(()).expect("the URI is valid");
    let headers = [("host", "localhost:4000")].into_iter();
    let signable = SignableRequest::new("POST", uri, headers, body).expect("the request is signable");
    let (instructions, _) = sign(signable, &params).expect("the request can be signed").into_parts();
    instructions.apply_to_request_http1x(&mut request);
    request.into_parts().0
}

fn verify_now(head: &Parts) -> Result<SignedPayload, SignatureError> {
    verify(&map(), "us-east-1", NOW_MS, head).map(|signed| {
        assert_eq!(signed.user, USER);
        signed.payload
    })
}

#[test]
fn a_clients_signature_holds() {
    let head = signed("http://localhost:4000/upload?b=2&a=1", "secret", SignableBody::UnsignedPayload);
    assert_eq!(verify_now(&head), Ok(SignedPayload::Unsigned));
    let head = signed("http://localhost:4000/upload", "secret", SignableBody::Bytes(b""));
    assert!(matches!(verify_now(&head), Ok(SignedPayload::Sha256([0xe3, 0xb0, ..]))));
}

#[test]
fn another_secret_request_or_time_does_not() {
    let head = signed("http://localhost:4000/upload", "other", SignableBody::UnsignedPayload);
    assert_eq!(verify_now(&head), Err(SignatureError::Mismatch));

    let mut head = signed("http://localhost:4000/upload", "secret", SignableBody::UnsignedPayload);
    head.uri = "http://localhost:4000/uploaded".parse().expect("the URI is valid");
    assert_eq!(verify_now(&head), Err(SignatureError::Mismatch));

    let head = signed("http://localhost:4000/upload", "secret", SignableBody::UnsignedPayload);
    assert_eq!(verify(&map(), "us-east-1", NOW_MS + 901_000, &head), Err(SignatureError::Skewed));
    assert_eq!(verify(&map(), "us-east-1", NOW_MS - 901_000, &head), Err(SignatureError::Skewed));
    assert_eq!(verify(&map(), "eu-west-1", NOW_MS, &head), Err(SignatureError::WrongScope));
}

#[test]
fn a_header_that_was_added_later_is_refused() {
    let mut head = signed("http://localhost:4000/upload", "secret", SignableBody::UnsignedPayload);
    head.headers.insert("x-amz-copy-source", http::HeaderValue::from_static("a/b"));
    assert_eq!(verify_now(&head), Err(SignatureError::UnsignedHeader));
}

#[test]
fn garbage_is_an_error() {
    for value in ["", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=, Signature=", "Basic eA=="] {
        let mut head = signed("http://localhost:4000/upload", "secret", SignableBody::UnsignedPayload);
        head.headers.insert("authorization", http::HeaderValue::from_static(value));
        assert!(verify_now(&head).is_err(), "{value}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the path and query hold, we canonicalise them as the client does.
    #[test]
    fn any_name_can_be_signed(name in "\\PC{1,20}", value in "\\PC{0,20}") {
        let encode = |text: &str| percent_encoding::utf8_percent_encode(text, super::UNRESERVED).to_string();
        let uri = format!("http://localhost:4000/upload/{}?key={}", encode(&name), encode(&value));
        let head = signed(&uri, "secret", SignableBody::UnsignedPayload);
        prop_assert_eq!(verify_now(&head), Ok(SignedPayload::Unsigned));
    }
}
