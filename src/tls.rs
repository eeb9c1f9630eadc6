//! TLS of the servers: certificates in files.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::error::{BackendKind, Error, Operation, Result};

/// A TLS configuration without authorities and a certificate.
pub(crate) fn builder(backend: BackendKind) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(backend, "cannot configure TLS").with_source(error))
}

/// The certificates in the file of a key of the address.
pub(crate) fn certificates(backend: BackendKind, key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = || invalid(backend, &format!("the file of {key} has no readable certificate"));
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable().with_source(error))?;
    if certificates.is_empty() { Err(unreadable()) } else { Ok(certificates) }
}

/// The authorities in the file of a key of the address.
pub(crate) fn authorities(backend: BackendKind, key: &str, file: &Path) -> Result<RootCertStore> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(backend, key, file)? {
        let invalid =
            |error| invalid(backend, &format!("the file of {key} has an invalid certificate")).with_source(error);
        authorities.add(certificate).map_err(invalid)?;
    }
    Ok(authorities)
}

fn invalid(backend: BackendKind, message: &str) -> Error {
    Error::invalid(Operation::Connect, message).with_backend(backend)
}
