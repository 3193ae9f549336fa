//! The headers of server-side encryption: what a request asks for, and what an answer says. See "Protecting data with
//! server-side encryption" in the S3 user guide; the messages are S3's.

use annulus_common::encryption::{DEFAULT_KMS_KEY, EncryptionMode, KmsUse};
use annulus_common::map::Bucket;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use md5::{Digest, Md5};
use s3s::{S3Error, S3Result, s3_error};

use super::Gateway;
use super::error::{detailed, invalid_argument, invalid_value};
use super::headers::text;
use crate::kms::{CustomerKey, SecretKey};
use crate::object::{Encrypt, PartEncryption, ServiceMethod};

/// Which key of the service, or that there is one.
const METHOD: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const CONTEXT: &str = "x-amz-server-side-encryption-context";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";

/// What a request with a client's key must say of it.
const MUST_PROVIDE_ALGORITHM: &str =
    "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm.";
const MUST_PROVIDE_KEY: &str =
    "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key.";
const MUST_PROVIDE_MD5: &str = "Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated MD5 of the secret key.";

/// What a request that names a key of the service must say, too.
const KMS_REQUIRES_METHOD: &str =
    "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms";

/// The one algorithm of SSE-C and SSE-S3.
pub(super) const AES256: &str = "AES256";

/// The method of SSE-KMS.
pub(super) const AWS_KMS: &str = "aws:kms";

/// The longest encryption context, as KMS says for keys and values together.
const CONTEXT_BYTES_MAX: usize = 8 << 10;

/// The headers of a key that the client sends.
pub(super) struct CustomerHeaders {
    algorithm: &'static str,
    key: &'static str,
    md5: &'static str,
}

/// The key of the object that a request is about.
pub(super) const OBJECT: CustomerHeaders = CustomerHeaders {
    algorithm: "x-amz-server-side-encryption-customer-algorithm",
    key: "x-amz-server-side-encryption-customer-key",
    md5: "x-amz-server-side-encryption-customer-key-md5",
};

/// The key of the object that a copy takes.
pub(super) const COPY_SOURCE: CustomerHeaders = CustomerHeaders {
    algorithm: "x-amz-copy-source-server-side-encryption-customer-algorithm",
    key: "x-amz-copy-source-server-side-encryption-customer-key",
    md5: "x-amz-copy-source-server-side-encryption-customer-key-md5",
};

/// The client's key.
pub(super) fn customer_key(
    gateway: &Gateway,
    headers: &HeaderMap,
    names: &CustomerHeaders,
) -> S3Result<Option<CustomerKey>> {
    let [algorithm, key, md5] = [text(headers, names.algorithm)?, text(headers, names.key)?, text(headers, names.md5)?];
    if algorithm.is_none() && key.is_none() && md5.is_none() {
        return Ok(None);
    }
    if !gateway.sse_c_without_tls {
        return Err(s3_error!(
            InvalidRequest,
            "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection."
        ));
    }
    match algorithm.as_deref() {
        Some(AES256) => {}
        None => return Err(invalid_key(MUST_PROVIDE_ALGORITHM)),
        Some(other) => {
            let message = "The Encryption request you specified is not valid. Supported value: AES256.";
            let error = s3_error!(InvalidEncryptionAlgorithmError, "{message}");
            return Err(detailed(error, &[("ArgumentName", METHOD), ("ArgumentValue", other)]));
        }
    }
    let key = key.ok_or_else(|| invalid_key(MUST_PROVIDE_KEY))?;
    let md5 = md5.ok_or_else(|| invalid_key(MUST_PROVIDE_MD5))?;
    let bytes: Option<[u8; 32]> = BASE64.decode(key).ok().and_then(|key| key.try_into().ok());
    let bytes = bytes.ok_or_else(|| invalid_key("The secret key was invalid for the specified algorithm."))?;
    if BASE64.encode(Md5::digest(bytes)) != md5 {
        return Err(invalid_key("The calculated MD5 hash of the key did not match the hash that was provided."));
    }
    Ok(Some(CustomerKey::new(SecretKey::new(bytes), md5)))
}

/// Something is wrong with a client's key. S3 names another header, and so never repeats the key.
fn invalid_key(message: &'static str) -> S3Error {
    invalid_value(METHOD, "null", message)
}

/// How a request that makes an object in `bucket` wants it encrypted.
pub(super) fn of_write(gateway: &Gateway, headers: &HeaderMap, bucket: &Bucket) -> S3Result<Option<Encrypt>> {
    let method = text(headers, METHOD)?;
    let customer = customer_key(gateway, headers, &OBJECT)?;
    let kms_headers = [KMS_KEY, CONTEXT].into_iter().any(|name| headers.contains_key(name));
    match (method.as_deref(), customer) {
        (None, Some(customer)) if !kms_headers => {
            if bucket.config.encryption.as_ref().is_some_and(|config| config.blocks_customer_keys) {
                return Err(s3_error!(
                    AccessDenied,
                    "The bucket refuses objects encrypted with customer provided keys."
                ));
            }
            Ok(Some(Encrypt::Customer(customer)))
        }
        (method, Some(_)) => Err(invalid_value(
            METHOD,
            method.unwrap_or("null"),
            "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
        )),
        (method @ (None | Some(AES256)), None) if kms_headers => {
            Err(invalid_value(METHOD, method.unwrap_or("null"), KMS_REQUIRES_METHOD))
        }
        (None, None) => Ok(Encrypt::default_of(bucket).map(|default| with_bucket_key(default, headers)).transpose()?),
        (Some(AES256), None) => Ok(Some(Encrypt::S3)),
        (Some(AWS_KMS), None) => kms(headers, bucket).map(Some),
        (Some(method), None) => Err(unsupported(method)),
    }
}

fn unsupported(method: &str) -> S3Error {
    match method {
        "aws:kms:dsse" | "aws:fsx" => s3_error!(NotImplemented, "This encryption method is not implemented"),
        _ => invalid_value(METHOD, method, "The encryption method specified is not supported"),
    }
}

fn kms(headers: &HeaderMap, bucket: &Bucket) -> S3Result<Encrypt> {
    let key = text(headers, KMS_KEY)?.unwrap_or_else(|| DEFAULT_KMS_KEY.to_owned());
    let context = text(headers, CONTEXT)?;
    context.as_deref().map(check_context).transpose()?;
    let bucket_key = bucket.config.encryption.as_ref().and_then(|config| config.bucket_key).unwrap_or(false);
    with_bucket_key(Encrypt::Kms(KmsUse { key, context, bucket_key }), headers)
}

/// `x-amz-server-side-encryption-bucket-key-enabled` is said of one object.
fn with_bucket_key(encrypt: Encrypt, headers: &HeaderMap) -> S3Result<Encrypt> {
    let asked = match text(headers, BUCKET_KEY)?.as_deref() {
        None => return Ok(encrypt),
        Some(text) if text.eq_ignore_ascii_case("true") => true,
        Some(text) if text.eq_ignore_ascii_case("false") => false,
        Some(_) => {
            return Err(invalid_argument(BUCKET_KEY, "The value of the header must be true or false"));
        }
    };
    Ok(match encrypt {
        Encrypt::Kms(kms) => Encrypt::Kms(KmsUse { bucket_key: asked, ..kms }),
        other => other,
    })
}

/// Base64 of a JSON object of texts.
fn check_context(context: &str) -> S3Result {
    let json = BASE64.decode(context).ok().filter(|json| json.len() <= CONTEXT_BYTES_MAX);
    let parsed = json.and_then(|json| serde_json::from_slice::<std::collections::BTreeMap<String, String>>(&json).ok());
    match parsed {
        Some(_) => Ok(()),
        None => Err(invalid_argument(
            CONTEXT,
            "The header 'x-amz-server-side-encryption-context' shall be Base64-encoded UTF-8 string holding JSON which represents a string-string map",
        )),
    }
}

/// The client's key, where it is what encrypts.
pub(super) fn customer_of(encrypt: Option<&Encrypt>) -> Option<&CustomerKey> {
    match encrypt {
        Some(Encrypt::Customer(customer)) => Some(customer),
        _ => None,
    }
}

/// What the request of a part says. S3 has the method in the request that begins the upload; that some clients repeat it is
/// taken as what they believe of the upload. Which key they name is not compared: ceph/s3-tests names others.
pub(super) fn of_part<'a>(headers: &HeaderMap, customer: Option<&'a CustomerKey>) -> S3Result<PartEncryption<'a>> {
    let method = text(headers, METHOD)?;
    let by_service = match (method.as_deref(), headers.contains_key(KMS_KEY)) {
        (None, false) => None,
        (Some(AES256), false) => Some(ServiceMethod::S3),
        (None | Some(AWS_KMS), _) => Some(ServiceMethod::Kms),
        (Some(AES256), true) => return Err(invalid_value(METHOD, AES256, KMS_REQUIRES_METHOD)),
        (Some(method), _) => return Err(unsupported(method)),
    };
    Ok(PartEncryption { customer, by_service })
}

/// Whether what a request says of an upload's encryption is what the upload was begun with.
pub(super) fn is_repeated(headers: &HeaderMap, begun: Option<&EncryptionMode>) -> bool {
    let begun = answer(begun, None);
    [METHOD, KMS_KEY].into_iter().all(|name| headers.get(name).is_none_or(|said| begun.get(name) == Some(said)))
}

/// Whether a request says how it wants an object encrypted, or half of it.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    [METHOD, KMS_KEY, CONTEXT, BUCKET_KEY, OBJECT.algorithm, OBJECT.key, OBJECT.md5]
        .into_iter()
        .any(|name| headers.contains_key(name))
}

/// Reads do not ask how an object is to be encrypted.
pub(super) fn refuse_on_read(headers: &HeaderMap) -> S3Result {
    match [METHOD, KMS_KEY, CONTEXT, BUCKET_KEY].into_iter().find(|name| headers.contains_key(*name)) {
        Some(name) => Err(invalid_argument(name, format!("{name} header is not supported for this operation."))),
        None => Ok(()),
    }
}

/// What an answer says of an object's encryption: the client's key is named by its MD5.
pub(super) fn answer(mode: Option<&EncryptionMode>, customer: Option<&CustomerKey>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut say = |name: &'static str, value: &str| {
        headers.extend(HeaderValue::from_str(value).ok().map(|value| (HeaderName::from_static(name), value)));
    };
    match (mode, customer) {
        (None, _) | (Some(EncryptionMode::Customer), None) => {}
        (Some(EncryptionMode::Customer), Some(customer)) => {
            say(OBJECT.algorithm, AES256);
            say(OBJECT.md5, &customer.md5);
        }
        (Some(EncryptionMode::S3), _) => say(METHOD, AES256),
        (Some(EncryptionMode::Kms(kms)), _) => {
            say(METHOD, AWS_KMS);
            say(KMS_KEY, &kms.key);
            if kms.bucket_key {
                say(BUCKET_KEY, "true");
            }
        }
    }
    headers
}

/// The same, to who wrote it: with the encryption context.
pub(super) fn answer_written(mode: Option<&EncryptionMode>, customer: Option<&CustomerKey>) -> HeaderMap {
    let mut headers = answer(mode, customer);
    if let Some(EncryptionMode::Kms(KmsUse { context: Some(context), .. })) = mode {
        let value = HeaderValue::from_str(context).ok();
        headers.extend(value.map(|value| (HeaderName::from_static(CONTEXT), value)));
    }
    headers
}
