//! Who is believed to be a webhook at an `https://` URL. Chain, name and dates of its certificate are always verified: there is
//! no way to leave that out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use annulus_common::config::{ServerConfig, Webhook};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::tls;

/// Who may certify webhooks.
#[derive(Clone, Debug)]
pub struct WebhookTls {
    roots: Arc<RootCertStore>,
}

/// Why nobody could be verified.
#[derive(Debug, thiserror::Error)]
pub enum WebhookTlsError {
    /// The file cannot be read.
    #[error("the webhook_ca_file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the webhook_ca_file {} {reason}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The host trusts nobody.
    #[error(
        "a webhook is at an https:// URL, and this host has no root certificates to verify it by: install them (in most \
         distributions the package ca-certificates), or name a webhook_ca_file"
    )]
    NoRoots,
}

impl WebhookTls {
    /// Whom the configuration trusts. The host is asked only if somebody will be verified.
    pub fn of(config: &ServerConfig) -> Result<Self, WebhookTlsError> {
        match &config.webhook_ca_file {
            Some(path) => Self::of_file(path),
            None if config.webhooks.iter().any(Webhook::is_https) => Self::of_host(),
            None => Ok(Self::trusting_nobody()),
        }
    }

    /// With these nothing is verified successfully.
    pub fn trusting_nobody() -> Self {
        Self { roots: Arc::new(RootCertStore::empty()) }
    }

    /// Those whose certificates stand in the text, as PEM; what is wrong with it otherwise.
    pub fn trusting(pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| format!("is not PEM: {error}"))?;
            let number = roots.len() + 1;
            let useless = |error| format!("has a certificate, number {number}, of no use: {error}");
            roots.add(certificate).map_err(useless)?;
        }
        match roots.is_empty() {
            true => Err("has no certificate in it".to_owned()),
            false => Ok(Self { roots: Arc::new(roots) }),
        }
    }

    fn of_file(path: &Path) -> Result<Self, WebhookTlsError> {
        let path = path.to_owned();
        match std::fs::read(&path) {
            Ok(pem) => Self::trusting(&pem).map_err(|reason| WebhookTlsError::Malformed { path, reason }),
            Err(source) => Err(WebhookTlsError::Unreadable { path, source }),
        }
    }

    fn of_host() -> Result<Self, WebhookTlsError> {
        let roots = tls::roots_of_host();
        match roots.is_empty() {
            true => Err(WebhookTlsError::NoRoots),
            false => Ok(Self { roots: Arc::new(roots) }),
        }
    }

    /// Connects to `http://` URLs, and to `https://` ones by TLS 1.2 or 1.3.
    pub(super) fn connector(&self) -> HttpsConnector<HttpConnector> {
        tls::connector(Arc::clone(&self.roots))
    }
}

#[cfg(test)]
mod tests {
    use annulus_common::config::{LoadInput, ServerConfig};

    use super::WebhookTls;

    fn message(env: &[(&str, &str)]) -> String {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let config = ServerConfig::load(LoadInput { env, ..LoadInput::default() }).unwrap();
        WebhookTls::of(&config).map(|tls| tls.roots.len()).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_certifies_nothing_is_refused() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let empty = file("empty.pem", "no certificate\n");
        let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
        let useless = file("useless.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        for (path, reason) in [
            (empty.as_str(), "has no certificate in it"),
            (&broken, "is not PEM"),
            (&useless, "number 1, of no use"),
            ("/nowhere/at/all", "cannot be read"),
        ] {
            let message = message(&[("ANNULUS_WEBHOOK_CA_FILE", path)]);
            assert!(message.contains(path) && message.contains(reason), "{message}");
        }
    }
}
