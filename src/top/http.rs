//! Sequential HTTP exchanges with one server, unencrypted or over TLS.

use super::text::{clean, span};
use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of an answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// An HTTP client of one server; it uses no proxy and follows no redirect, so that an API key is
/// sent only to this server.
pub(crate) struct Http {
    runtime: Runtime,
    /// Host for the connection, where an IPv6 address has no brackets.
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Http {
    /// Creates a client for the server of a URL. If its scheme is https, its certificate must be
    /// issued by an authority in the file `ca` (PEM), or else by one of this system.
    ///
    /// # Errors
    /// If the URL is neither http:// nor https://, or if no authority is known.
    pub(crate) fn new(url: &Url, ca: Option<&Path>) -> anyhow::Result<Http> {
        let secure = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => bail!("{} is neither http:// nor https://", clean(url.as_str())),
        };
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_or_known_default().unwrap_or(80);
        let tls = match secure {
            true => Some((connector(ca)?, ServerName::try_from(host.clone())?)),
            false => None,
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Http { runtime: runtime.context("failed to start the runtime")?, host, port, tls })
    }

    /// Sends a request on a new connection and waits for its answer.
    ///
    /// # Errors
    /// If no answer arrives in time, or the connection or its certificate is invalid.
    pub(crate) fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<HttpAnswer> {
        let exchange = async { within(ANSWER_TIMEOUT, self.send(request)).await };
        self.runtime.block_on(exchange)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<HttpAnswer> {
        let connecting = async { Ok(TcpStream::connect((self.host.as_str(), self.port)).await?) };
        let stream = within(CONNECT_PATIENCE, connecting).await?;
        match &self.tls {
            None => converse(stream, request).await,
            Some((connector, name)) => {
                let stream =
                    connector.connect(name.clone(), stream).await.map_err(handshake_error)?;
                converse(stream, request).await
            }
        }
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let late = || anyhow!("no answer within {}", span(limit.as_secs_f64() * 1000.0));
    timeout(limit, work).await.map_err(|_| late())?
}

async fn converse<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<HttpAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow!("the answer is incomplete: {error}"))?;
        Ok(HttpAnswer { status: head.status, body: body.to_bytes() })
    };
    tokio::select! {
        // After the answer has arrived, errors of the connection are irrelevant.
        biased;
        answer = answer => answer,
        Err(error) = connection => Err(error.into()),
    }
}

fn connector(ca: Option<&Path>) -> anyhow::Result<TlsConnector> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(authorities(ca)?).with_no_client_auth();
    Ok(Arc::new(config).into())
}

fn authorities(ca: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut known = RootCertStore::empty();
    let Some(path) = ca else {
        known.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        ensure!(
            !known.is_empty(),
            "this system has no certificate authorities; name one with --ca FILE"
        );
        return Ok(known);
    };
    let name = path.display();
    let file = || format!("failed to read the authority's certificate {name}");
    for certificate in CertificateDer::pem_file_iter(path).with_context(file)? {
        known.add(certificate.with_context(file)?).with_context(file)?;
    }
    ensure!(!known.is_empty(), "{name} contains no certificate; it must be a PEM file");
    Ok(known)
}

/// Returns the reason of a failed handshake; the most frequent mistakes have their own text.
fn handshake_error(error: io::Error) -> anyhow::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(wrong)) = inner else { return error.into() };
    if *wrong == CertificateError::UnknownIssuer {
        return anyhow!(
            "the server's certificate was issued by an unknown authority; \
             name the authority's file with --ca FILE"
        );
    }
    // Certificates of `openssl req -x509` result in this error, which can only be recognized by its
    // text.
    if wrong.to_string().contains("CaUsedAsEndEntity") {
        return anyhow!(
            "the server's certificate is an authority's own: \
             it must be made with basicConstraints=CA:FALSE"
        );
    }
    error.into()
}
