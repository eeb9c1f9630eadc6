//! TLS with the semantics of libpq's `sslmode`.

use std::fs::{self, Metadata};
use std::path::Path;
use std::sync::Arc;

use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::{PostgresConfig, SslMode, invalid};
use crate::error::{BackendKind, Result};
use crate::tls;

/// The TLS connector of a configuration.
pub(super) fn connector(config: &PostgresConfig) -> Result<MakeRustlsConnect> {
    let builder = tls::builder(BackendKind::Postgres)?;
    let provider = Arc::clone(builder.crypto_provider());
    let roots = || match &config.ssl_root_cert {
        Some(file) => tls::authorities(BackendKind::Postgres, "sslrootcert", file),
        // The root certificates of Mozilla.
        None => Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }),
    };
    let unverified = |authorities| {
        let verifier = Arc::new(Verifier { provider, authorities });
        builder.clone().dangerous().with_custom_certificate_verifier(verifier)
    };
    let builder = match config.ssl_mode {
        SslMode::VerifyFull => builder.with_root_certificates(roots()?),
        SslMode::VerifyCa => unverified(Some(roots()?)),
        // As in libpq, `require` with an `sslrootcert` means `verify-ca`.
        SslMode::Require if config.ssl_root_cert.is_some() => unverified(Some(roots()?)),
        SslMode::Disable | SslMode::Prefer | SslMode::Require => unverified(None),
    };
    let tls = match (&config.ssl_cert, &config.ssl_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(
                tls::certificates(BackendKind::Postgres, "sslcert", certificate)?,
                private_key(config, key)?,
            )
            .map_err(|error| invalid("sslcert and sslkey cannot be used together").with_source(error))?,
        _ => return Err(invalid("sslcert requires sslkey, and sslkey requires sslcert")),
    };
    Ok(MakeRustlsConnect::new(tls))
}

/// The key of the client's certificate. Errors have no source, because it may contain a line of the file.
fn private_key(config: &PostgresConfig, file: &Path) -> Result<PrivateKeyDer<'static>> {
    let unreadable = || invalid("the file of sslkey cannot be read, or contains no key");
    if is_exposed(&fs::metadata(file).map_err(|_| unreadable())?) {
        return Err(invalid(
            "the file of sslkey is accessible to others: its mode must be 0600, or 0640 if root is the owner, or less",
        ));
    }
    let text = fs::read_to_string(file).map_err(|_| unreadable())?;
    if !text.contains("ENCRYPTED") {
        return PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| unreadable());
    }
    let password = config.ssl_password.as_ref().ok_or_else(|| invalid("sslkey is encrypted: set sslpassword"))?;
    let undecrypted = || invalid("sslkey cannot be decrypted with sslpassword: it must be PKCS #8 with PBES2");
    let (_, document) = SecretDocument::from_pem(&text).map_err(|_| undecrypted())?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| undecrypted())?;
    let key = encrypted.decrypt(password).map_err(|_| undecrypted())?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

/// Whether others can read the file of a key, by libpq's rule.
#[cfg(unix)]
fn is_exposed(file: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;

    file.mode() & (if file.uid() == 0 { 0o037 } else { 0o077 }) != 0
}

#[cfg(not(unix))]
fn is_exposed(_file: &Metadata) -> bool {
    false
}

/// Verifies the certificate only if there are authorities, and never the host name.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    authorities: Option<RootCertStore>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(authorities) = &self.authorities {
            let certificate = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, authorities, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
