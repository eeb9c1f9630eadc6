//! TLS: the trusted authorities and the client's certificate.

use std::env;
use std::path::Path;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::config::{ClickHouseConfig, invalid};
use crate::error::{BackendKind, Result};
use crate::tls;

/// The variables with other authorities than those of the system.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The TLS configuration of the HTTP client.
///
/// # Errors
///
/// `InvalidArgument` if a file cannot be read or is not what it should be, or if there are files but no TLS.
pub(super) fn client_config(config: &ClickHouseConfig) -> Result<ClientConfig> {
    let ClickHouseConfig { ca_file, cert_file, key_file, .. } = config;
    let has_tls = config.server.scheme() == "https";
    if !has_tls && [ca_file, cert_file, key_file].into_iter().any(Option::is_some) {
        return Err(invalid("ca_file, cert_file and key_file require clickhouse+https://"));
    }
    let authorities = if has_tls { authorities(ca_file.as_deref())? } else { RootCertStore::empty() };
    let builder = tls::builder(BackendKind::ClickHouse)?.with_root_certificates(authorities);
    let Some(cert_file) = cert_file else {
        return match key_file {
            None => Ok(builder.with_no_client_auth()),
            Some(_) => Err(invalid("key_file requires cert_file")),
        };
    };
    let key = PrivateKeyDer::from_pem_file(key_file.as_ref().unwrap_or(cert_file))
        .map_err(|error| invalid("the private key of the client's certificate cannot be read").with_source(error))?;
    let certificates = tls::certificates(BackendKind::ClickHouse, "cert_file", cert_file)?;
    builder.with_client_auth_cert(certificates, key).map_err(|error| invalid("cannot configure TLS").with_source(error))
}

/// The authorities of a file; else those of the environment or the system; else, without any, those of Mozilla.
fn authorities(file: Option<&Path>) -> Result<RootCertStore> {
    if let Some(file) = file {
        return tls::authorities(BackendKind::ClickHouse, "ca_file", file);
    }
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if authorities.is_empty() {
        if VARIABLES.iter().any(|name| env::var_os(name).is_some()) {
            return Err(invalid("SSL_CERT_FILE and SSL_CERT_DIR have no readable certificate"));
        }
        authorities.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(authorities)
}
