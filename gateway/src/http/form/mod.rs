//! Uploads from browser forms: POST Object. The fields before the file are read and judged here, against the policy that
//! they carry and its signature; then the file is put as it arrives, by the one PutObject there is, with the fields as its
//! headers. So whatever a put honours or refuses, a form does too.
//!
//! See "POST Object" and "Browser-Based Uploads Using POST" in the S3 API reference.

mod answer;
mod error;
mod fields;
mod policy;
mod put;

use std::ops::RangeInclusive;

use annulus_common::clock::SharedClock;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use s3s::service::S3Service;
use tracing::error;

use self::answer::Success;
use self::error::FormError;
use self::fields::{Fields, Form};
use self::policy::Policy;
use super::addressing::Target;
use super::reply::Content;
use crate::auth::form_signature::{FormSignature, FormSignatureError};
use crate::auth::{Accounts, Carried, Operation, Signature, promise};
use crate::bucket_name::is_bucket_name;
use crate::object::BODY_BYTES_MAX;
use crate::request::{FORM, HostId, Peer, RequestId, origin};

/// The header by which a form, like any request, says whose bucket it means.
const EXPECTED_OWNER: &str = "x-amz-expected-bucket-owner";

/// Takes forms.
pub(super) struct Forms {
    /// Puts their files.
    pub(super) s3: S3Service,
    /// Knows who signs.
    pub(super) accounts: Accounts,
    /// What version 4 signatures are for.
    pub(super) region: String,
    /// Knows whether a policy has expired.
    pub(super) clock: SharedClock,
}

/// What a form may do, once it is known who sent it.
struct Granted {
    /// What signs its policy; nothing signs a form without one.
    signature: Option<Signature>,
    /// How long its file may be.
    file_bytes: RangeInclusive<u64>,
}

/// Whether a request's body is a form.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    content_type.get(..19).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/form-data"))
}

impl Forms {
    /// Takes a form that was posted to a bucket.
    pub(super) async fn take(&self, request: Request<Incoming>, target: &Target) -> Response<Content> {
        self.put(request, target).await.unwrap_or_else(|error| error.response())
    }

    async fn put(&self, request: Request<Incoming>, target: &Target) -> Result<Response<Content>, FormError> {
        let bucket = target.bucket.as_deref().unwrap_or_default();
        let (head, body) = request.into_parts();
        let operation = head.extensions.get::<Operation>().cloned().unwrap_or_default();
        operation.name_it(FORM);
        // The put is asked for by a URL that names the bucket: what is no name could make it ask for something else.
        if !is_bucket_name(bucket) {
            return Err(FormError::InvalidBucketName);
        }
        promise::check_form(&head.headers, FORM, &[EXPECTED_OWNER])
            .map_err(|broken| FormError::HeaderNotBuilt(broken.header()))?;
        let mut form = Form::read(&head.headers, body).await?;
        form.fields.settle(bucket, &form.file.name)?;
        let key = form.fields.key()?.to_owned();
        let granted = self.judge(&form.fields).await?;
        let success = Success::asked(&form.fields);
        let mut put = put::request(bucket, &key, form, granted.file_bytes)?;
        for owner in head.headers.get_all(EXPECTED_OWNER) {
            // Who expects two owners is wrong about one of them.
            if put.headers_mut().insert(EXPECTED_OWNER, owner.clone()).is_some_and(|other| other != *owner) {
                return Err(FormError::OtherOwner);
            }
        }
        put.extensions_mut().insert(operation);
        if let Some(id) = head.extensions.get::<RequestId>() {
            put.extensions_mut().insert(id.clone());
        }
        if let Some(id) = head.extensions.get::<HostId>() {
            put.extensions_mut().insert(id.clone());
        }
        if let Some(peer) = head.extensions.get::<Peer>() {
            put.extensions_mut().insert(*peer);
        }
        if let Some(signature) = granted.signature {
            put.extensions_mut().insert(signature);
        }
        let response = self.s3.call(put).await.map_err(|failure| {
            error!(error = %failure, "the reply to a form could not be made");
            FormError::Internal
        })?;
        if !response.status().is_success() {
            return Ok(response.map(Content::S3));
        }
        Ok(success.response(&response, origin(&head.headers, &head.extensions).as_deref(), target, &key))
    }

    /// Who sent the form, and what its policy allows. Without a policy it is nobody's.
    async fn judge(&self, fields: &Fields) -> Result<Granted, FormError> {
        let Some((text, signature)) = signature(fields)? else {
            return Ok(Granted { signature: None, file_bytes: 0..=BODY_BYTES_MAX });
        };
        let map = self.accounts.map().await.map_err(|_| FormError::Unavailable)?;
        let secret_of = |access_key: &str| self.accounts.secret_of(&map, access_key);
        let access_key = signature.verify(secret_of, &self.region, text).map_err(|error| match error {
            FormSignatureError::Mismatch => FormError::mismatch(&signature, text),
            error => FormError::Signature(error),
        })?;
        let policy = Policy::parse(text)?;
        let file_bytes = policy.judge(fields, self.clock.now_ms())?;
        let most = (*file_bytes.end()).min(BODY_BYTES_MAX);
        let carried = Carried::Form { version_2: matches!(signature, FormSignature::V2 { .. }) };
        let token = fields.get("x-amz-security-token").map(str::to_owned);
        Ok(Granted {
            signature: Some(Signature { access_key: access_key.to_owned(), token, carried }),
            file_bytes: *file_bytes.start()..=most,
        })
    }
}

/// The policy and what signs it: all of it or nothing.
fn signature(fields: &Fields) -> Result<Option<(&str, FormSignature<'_>)>, FormError> {
    const V2: [&str; 2] = ["awsaccesskeyid", "signature"];
    const V4: [&str; 4] = ["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"];
    let any = |names: &[&str]| names.iter().any(|name| fields.get(name).is_some());
    if !any(&["policy"]) && !any(&V2) && !any(&V4) {
        return Ok(None);
    }
    let field = |name: &'static str| fields.get(name).ok_or(FormError::Missing(name));
    let signature = if any(&V4) {
        FormSignature::V4 {
            algorithm: field("x-amz-algorithm")?,
            credential: field("x-amz-credential")?,
            date: field("x-amz-date")?,
            signature: field("x-amz-signature")?,
        }
    } else {
        FormSignature::V2 { access_key: field("awsaccesskeyid")?, signature: field("signature")? }
    };
    Ok(Some((field("policy")?, signature)))
}
