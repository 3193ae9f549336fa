//! Signs requests that our own clients send: the admin commands and the tests. Verifying is `auth`'s and s3s's.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use http::Request;

/// Who signs, and for which region.
#[derive(Clone)]
pub struct Signer {
    /// The access key's public id.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// The region in the signature's scope.
    pub region: String,
    /// What goes with a temporary key.
    pub token: Option<String>,
}

/// Why a request could not be signed: it holds something that has no canonical form.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be signed: {0}")]
pub struct SignError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Signer {
    /// Adds `Authorization`, `x-amz-date` and `x-amz-content-sha256` to a request whose URI, headers (`Host` too) and body are final.
    pub fn sign<B>(&self, request: &mut Request<B>, body: SignableBody<'_>, now: SystemTime) -> Result<(), SignError> {
        self.sign_for("s3", request, body, now)
    }

    /// The same for another service.
    pub fn sign_for<B>(
        &self,
        service: &str,
        request: &mut Request<B>,
        body: SignableBody<'_>,
        now: SystemTime,
    ) -> Result<(), SignError> {
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = Credentials::new(&self.access_key, &self.secret_key, self.token.clone(), None, "annulus").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(now)
            .settings(settings)
            .build()
            .map_err(|error| SignError(error.into()))?
            .into();
        let headers = request
            .headers()
            .iter()
            .map(|(name, value)| value.to_str().map(|value| (name.as_str(), value)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| SignError(error.into()))?;
        let signable =
            SignableRequest::new(request.method().as_str(), request.uri().to_string(), headers.into_iter(), body)
                .map_err(|error| SignError(error.into()))?;
        let (instructions, _) = sign(signable, &params).map_err(|error| SignError(error.into()))?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}
