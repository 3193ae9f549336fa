//! Certificates for servers of tests, right and wrong ones.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;

/// Somebody who certifies servers.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// When a certificate is of use.
#[derive(Clone, Copy, Debug)]
pub enum Validity {
    /// Now.
    Now,
    /// Not any more.
    Past,
    /// Not yet.
    Future,
}

impl Authority {
    /// Somebody of that name.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key can be drawn");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("a certificate can be made").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The certificate by which what it signed is verified.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// How a server of these names or addresses proves that it is the one.
    pub fn certify(&self, names: &[&str], validity: Validity) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key can be drawn");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("tests' names are names");
        let (from, to) = match validity {
            Validity::Now => (2020, 4000),
            Validity::Past => (2020, 2021),
            Validity::Future => (3999, 4000),
        };
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be made");
        let versions = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = versions.with_safe_default_protocol_versions().expect("ring can do both").with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.into()], key.into());
        Arc::new(config.expect("the key is the certificate's"))
    }
}
