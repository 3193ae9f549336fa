//! TLS towards others: by version 1.2 or 1.3, with chain, name and dates of certificates verified. Who may certify is said by who
//! connects.

use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// Those whom the host trusts. Whatever an administrator put there: a certificate among many that cannot be used is no reason to use
/// none.
pub(crate) fn roots_of_host() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Connects to `http://` URLs, and to `https://` ones of servers that these certify.
pub(crate) fn connector(roots: Arc<RootCertStore>) -> HttpsConnector<HttpConnector> {
    let versions = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let versions = versions.with_safe_default_protocol_versions().expect("ring can do both");
    let config = versions.with_root_certificates(roots).with_no_client_auth();
    HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build()
}
