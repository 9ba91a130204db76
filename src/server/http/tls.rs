//! TLS: the certificate and its key in files, and the beginning of a connection before its first
//! request.

use crate::http::connection::Connection;
use crate::operator::current::Current;
use anyhow::{Context, anyhow, ensure};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ParsedCertificate, ServerConfig, ServerSessionMemoryCache};
use rustls::{CertificateError, InconsistentKeys, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fs, io};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::warn;
use types::key_file;

/// The protocol inside TLS, as clients request it (ALPN).
const HTTP: &[u8] = b"http/1.1";

/// Maximum number of sessions that clients may resume without a whole handshake.
const SESSIONS_MAX: usize = 256;

/// The first byte of a client that uses TLS: the type of a handshake record.
const HANDSHAKE: u8 = 22;

/// The current certificate, and the TLS configuration.
pub type Tls = Current<ServerConfig>;

/// The beginning of a connection.
pub(crate) enum Hello {
    Tls(Box<TlsStream<Connection>>),
    /// No data of it have been read yet.
    Plain(Connection),
}

/// Waits for the first byte of a client and, if it uses TLS, for the end of the handshake.
///
/// # Errors
/// If the client disconnects or the handshake fails.
pub(crate) async fn handshake(tls: &Tls, stream: Connection) -> io::Result<Hello> {
    if stream.first_byte().await? != Some(HANDSHAKE) {
        return Ok(Hello::Plain(stream));
    }
    let stream = TlsAcceptor::from(tls.current()).accept(stream).await?;
    Ok(Hello::Tls(Box::new(stream)))
}

/// Reads a certificate, with the intermediate ones up to its authority, and its private key; both
/// files are PEM. Problems that do not prevent its use are logged.
///
/// # Errors
/// If a file cannot be read or has other content, or if the two do not belong together.
pub fn read(certificate: &Path, key: &Path) -> anyhow::Result<ServerConfig> {
    let chain = read_certificates(certificate)?;
    warn_of_dates(certificate, &chain);
    let private = read_key(key)?;
    key_file::warn_of_readers(key, "private key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
    let config = config.with_single_cert(chain, private);
    let mut config = config.map_err(|error| unusable(error, certificate, key))?;
    config.alpn_protocols = vec![HTTP.to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    Ok(config)
}

fn read_certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let name = path.display();
    let text = fs::read(path).with_context(|| format!("failed to read the certificate {name}"))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.with_context(|| format!("in the certificate {name}"))?;
    ensure!(
        !chain.is_empty(),
        "{name} contains no certificate; it must be a PEM file with 'BEGIN CERTIFICATE'"
    );
    Ok(chain)
}

fn read_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let name = path.display();
    let text = fs::read(path).with_context(|| format!("failed to read the private key {name}"))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => anyhow!(
            "{name} contains no private key; it must be a PEM file with 'BEGIN PRIVATE KEY', without a passphrase"
        ),
        error => anyhow!(error).context(format!("in the private key {name}")),
    })
}

/// Returns the reason why certificate and key cannot be used.
fn unusable(error: rustls::Error, certificate: &Path, key: &Path) -> anyhow::Error {
    let (certificate, key) = (certificate.display(), key.display());
    if error == rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
        return anyhow!(
            "the private key {key} does not belong to the first certificate of {certificate}: \
             set two files that belong together"
        );
    }
    anyhow!(error).context(format!("failed to use the certificate {certificate} and its key {key}"))
}

fn warn_of_dates(path: &Path, chain: &[CertificateDer<'_>]) {
    for (n, certificate) in chain.iter().enumerate() {
        if let Some(wrong) = wrong_date(certificate, UnixTime::now()) {
            let (n, path) = (n + 1, path.display());
            warn!("certificate {n} of {path} {wrong}; clients will reject it");
        }
    }
}

/// Returns the problem of a certificate's dates, if there is one. No library checks the dates of
/// the server's own certificate, but a verification without root certificates checks the dates first.
fn wrong_date(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<String> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    let no_anchors = RootCertStore::empty();
    let checked =
        verify_server_cert_signed_by_trust_anchor(&parsed, &no_anchors, &[], now, algorithms);
    match checked {
        Err(rustls::Error::InvalidCertificate(error)) => date_error(&error),
        _ => None,
    }
}

fn date_error(error: &CertificateError) -> Option<String> {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            Some(format!("has expired at {}", date(*not_after)))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            Some(format!("is not valid before {}", date(*not_before)))
        }
        _ => None,
    }
}

/// The years of certificates have four digits, as this form requires.
fn date(time: UnixTime) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    time.map_or_else(String::new, |time| humantime::format_rfc3339_seconds(time).to_string())
}

#[cfg(test)]
mod tests;
