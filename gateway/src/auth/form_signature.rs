//! Verifies the signature of a browser form: over its policy, as it stands in the form. Both kinds that S3 knows: version 4
//! ("Authenticating Requests in Browser-Based Uploads Using POST" in the S3 API reference), and version 2, which many
//! form generators still write. What the policy says is not judged here.

use std::time::{Duration, UNIX_EPOCH};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use super::sigv4::{ALGORITHM, parse_date};

/// The fields of a form that sign it, as they came.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FormSignature<'a> {
    /// `AWSAccessKeyId` and `signature`.
    V2 {
        /// The key's public id.
        access_key: &'a str,
        /// HMAC-SHA-1 of the policy, in base 64.
        signature: &'a str,
    },
    /// `x-amz-algorithm`, `x-amz-credential`, `x-amz-date` and `x-amz-signature`.
    V4 {
        /// Always `AWS4-HMAC-SHA256`.
        algorithm: &'a str,
        /// `KEY/DATE/REGION/s3/aws4_request`
        credential: &'a str,
        /// `20150830T123600Z`
        date: &'a str,
        /// HMAC-SHA-256 of the policy, in hexadecimal digits.
        signature: &'a str,
    },
}

/// Why a form's signature does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum FormSignatureError {
    /// This field cannot be read, or is for another region or service.
    #[error("the field {0} is malformed")]
    Malformed(&'static str),
    /// The key is not known (any more).
    #[error("the access key is not known")]
    UnknownKey,
    /// Another secret, or another policy.
    #[error("the signature does not match")]
    Mismatch,
}

impl<'a> FormSignature<'a> {
    /// The key that signed `policy`, whose secret `secret_of` knows.
    pub(crate) fn verify(
        &self,
        secret_of: impl Fn(&str) -> Option<String>,
        region: &str,
        policy: &str,
    ) -> Result<&'a str, FormSignatureError> {
        let secret = |access_key| secret_of(access_key).ok_or(FormSignatureError::UnknownKey);
        let (access_key, matches) = match *self {
            Self::V2 { access_key, signature } => (access_key, v2_matches(&secret(access_key)?, policy, signature)),
            Self::V4 { algorithm, credential, date, signature } => {
                if algorithm != ALGORITHM {
                    return Err(FormSignatureError::Malformed("x-amz-algorithm"));
                }
                let access_key = key_of_credential(credential, date, region)?;
                let signed_at = parse_date(date).ok_or(FormSignatureError::Malformed("x-amz-date"))?;
                let time = UNIX_EPOCH + Duration::from_secs(signed_at);
                let signing_key = generate_signing_key(&secret(access_key)?, time, region, "s3");
                let computed = calculate_signature(signing_key, policy.as_bytes());
                (access_key, computed.as_bytes().ct_eq(signature.as_bytes()).into())
            }
        };
        if matches { Ok(access_key) } else { Err(FormSignatureError::Mismatch) }
    }
}

fn v2_matches(secret: &str, policy: &str, signature: &str) -> bool {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(policy.as_bytes());
    let given = BASE64.decode(signature.trim()).unwrap_or_default();
    mac.verify_slice(&given).is_ok()
}

/// The key of a credential, whose scope must be ours.
fn key_of_credential<'a>(credential: &'a str, date: &str, region: &str) -> Result<&'a str, FormSignatureError> {
    let [access_key, day, scope_region, "s3", "aws4_request"] = credential.split('/').collect::<Vec<_>>()[..] else {
        return Err(FormSignatureError::Malformed("x-amz-credential"));
    };
    if day.len() == 8 && date.starts_with(day) && scope_region == region {
        Ok(access_key)
    } else {
        Err(FormSignatureError::Malformed("x-amz-credential"))
    }
}

#[cfg(test)]
mod tests {
    use super::{FormSignature, FormSignatureError};

    /// The example of "Examples: Browser-Based Upload using HTTP POST (Using AWS Signature Version 4)".
    const POLICY: &str = "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9";
    const SIGNATURE: &str = "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e";
    const CREDENTIAL: &str = "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request";
    const DATE: &str = "20151229T000000Z";

    fn secret_of(access_key: &str) -> Option<String> {
        (access_key == "AKIAIOSFODNN7EXAMPLE").then(|| "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned())
    }

    fn v4<'a>(credential: &'a str, date: &'a str, signature: &'a str) -> FormSignature<'a> {
        FormSignature::V4 { algorithm: "AWS4-HMAC-SHA256", credential, date, signature }
    }

    #[test]
    fn the_published_example_verifies() {
        let signed = v4(CREDENTIAL, DATE, SIGNATURE);
        assert_eq!(signed.verify(secret_of, "us-east-1", POLICY), Ok("AKIAIOSFODNN7EXAMPLE"));
        assert_eq!(signed.verify(secret_of, "us-east-1", &POLICY[1..]), Err(FormSignatureError::Mismatch));
    }

    #[test]
    fn version_2_verifies() {
        // openssl dgst -sha1 -hmac KEY -binary | base64, over the text `policy`.
        let signature = "RDbpo48fznv4y75aJ1A4eQxc9AA=";
        let signed = FormSignature::V2 { access_key: "AKIAIOSFODNN7EXAMPLE", signature };
        assert_eq!(signed.verify(secret_of, "us-east-1", "policy"), Ok("AKIAIOSFODNN7EXAMPLE"));
        assert_eq!(signed.verify(secret_of, "us-east-1", "another"), Err(FormSignatureError::Mismatch));
        let unknown = FormSignature::V2 { access_key: "AKIA", signature };
        assert_eq!(unknown.verify(secret_of, "us-east-1", "policy"), Err(FormSignatureError::UnknownKey));
    }

    #[test]
    fn a_scope_that_is_not_ours_is_refused() {
        let refused = |credential, date| v4(credential, date, SIGNATURE).verify(secret_of, "us-east-1", POLICY);
        let malformed = Err(FormSignatureError::Malformed("x-amz-credential"));
        assert_eq!(refused("AKIAIOSFODNN7EXAMPLE/20151229/eu-west-1/s3/aws4_request", DATE), malformed);
        assert_eq!(refused("AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/sts/aws4_request", DATE), malformed);
        assert_eq!(refused("AKIAIOSFODNN7EXAMPLE", DATE), malformed);
        assert_eq!(refused(CREDENTIAL, "20151230T000000Z"), malformed);
        assert_eq!(refused(CREDENTIAL, "20151229"), Err(FormSignatureError::Malformed("x-amz-date")));
    }
}
