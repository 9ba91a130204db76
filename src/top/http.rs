//! One HTTP exchange after the other with one server, in clear or over TLS.

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
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What came back.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// A server that can be asked; no proxy is in between, and no redirect is followed, so that an
/// API key goes to nobody else.
pub(crate) struct Http {
    runtime: Runtime,
    /// For the connection: an IPv6 address has no brackets.
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Http {
    /// The server of a URL. If that is https://, its certificate must come from an authority of
    /// the file `ca` (PEM), or else from one that this system knows.
    ///
    /// # Errors
    /// If the URL is neither http:// nor https://, or if there is no authority.
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
        Ok(Http { runtime: runtime.context("cannot start the runtime")?, host, port, tls })
    }

    /// Sends a request on a connection of its own and waits for its answer.
    ///
    /// # Errors
    /// If none comes in time, or the connection or its certificate is no good.
    pub(crate) fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<HttpAnswer> {
        let asked = async { within(ANSWER_PATIENCE, self.ask(request)).await };
        self.runtime.block_on(asked)
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> anyhow::Result<HttpAnswer> {
        let connecting = async { Ok(TcpStream::connect((self.host.as_str(), self.port)).await?) };
        let stream = within(CONNECT_PATIENCE, connecting).await?;
        match &self.tls {
            None => converse(stream, request).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(refused)?;
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
        let body = body.map_err(|error| anyhow!("the answer broke off: {error}"))?;
        Ok(HttpAnswer { status: head.status, body: body.to_bytes() })
    };
    tokio::select! {
        // Once it is there, it is no matter how the connection ended.
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
        ensure!(!known.is_empty(), "this system knows no authorities: name one with --ca FILE");
        return Ok(known);
    };
    let name = path.display();
    let file = || format!("cannot read the authority's certificate {name}");
    for certificate in CertificateDer::pem_file_iter(path).with_context(file)? {
        known.add(certificate.with_context(file)?).with_context(file)?;
    }
    ensure!(!known.is_empty(), "{name} holds no certificate: PEM is needed");
    Ok(known)
}

/// Why the handshake failed; the likeliest mistakes in words of ours.
fn refused(error: io::Error) -> anyhow::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(wrong)) = inner else { return error.into() };
    if *wrong == CertificateError::UnknownIssuer {
        return anyhow!(
            "the server's certificate comes from an authority that is not known here: \
             name the authority's file with --ca FILE"
        );
    }
    // So does `openssl req -x509` make them, and there is no better way to tell.
    if wrong.to_string().contains("CaUsedAsEndEntity") {
        return anyhow!(
            "the server's certificate is an authority's own: \
             it must be made with basicConstraints=CA:FALSE"
        );
    }
    error.into()
}
