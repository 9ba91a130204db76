//! Accepts connections and serves them within their limits, until shutdown.
//!
//! Over the connection cap, a few more connections are accepted only to answer 503, and to answer
//! health checks; the oldest of them are ended for new ones. If they waited in the accept queue
//! instead, clients would receive no answer.
//!
//! A TLS handshake is made by the task of its connection and has a timeout: a slow or failed
//! handshake does not delay other connections.

use crate::context::ApiState;
use crate::http::access::{Access, Caller};
use crate::http::automatic::Automatic;
use crate::http::connection::{Connection, UnreadFlag};
use crate::http::connections_over_cap::{HealthOnly, RefusedConnections, refuse};
use crate::http::cors::Origins;
use crate::http::drain::Lent;
use crate::http::front::Front;
use crate::http::limits::ApiLimits;
use crate::http::preface::Http1;
use crate::http::respond::{Response, render};
use crate::http::slots::ConnectionSlots;
use crate::http::tls::{self, Hello, Tls};
use crate::routes::routes;
use engine::{EngineHandle, Memory};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use telemetry::Traces;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use types::error::Error;

/// Timeout of the request of a rejected client.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after a persistent error of accepting, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Read and write buffer of one connection, in bytes: the memory that a slow client can occupy in
/// addition to its body and its answer.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Serves until `shutdown` completes; then running exchanges may end within the grace period.
///
/// Never fails: an error on a connection ends that connection, and an error of accepting is logged
/// and accepting is retried.
pub async fn serve(
    listener: TcpListener,
    engine: EngineHandle,
    traces: Traces,
    limits: ApiLimits,
    shutdown: impl Future<Output = ()>,
) {
    let closing = CancellationToken::new();
    let memory = engine.memory().clone();
    let api = ApiState::new(engine, &limits, traces, closing.clone());
    let service = TowerToHyperService::new(warp::service(routes(api)));
    let service = Front::new(service, Origins::new(&limits.allow_origins), memory.clone());
    run(listener, (service, memory), &limits, closing, shutdown).await;
}

/// Serves `service`; `closing` is cancelled as soon as shutdown begins.
async fn run<S>(
    listener: TcpListener,
    (service, memory): (S, Memory),
    limits: &ApiLimits,
    closing: CancellationToken,
    shutdown: impl Future<Output = ()>,
) where
    S: Service<
            Request<Lent<Incoming>>,
            Response = Response,
            Error = Infallible,
            Future: Send + 'static,
        >,
    S: Clone + Send + 'static,
{
    let mut server = Server::new(service, memory, limits, &closing);
    server.accept_until(&listener, shutdown).await;
    // The system rejects new clients from now on.
    drop(listener);
    closing.cancel();
    server.drain(limits.shutdown_grace).await;
}

/// The connections, and the state that they share.
struct Server<S> {
    service: S,
    /// The treatment of connections within the cap, and of those over it.
    served: ConnectionMode,
    refused: ConnectionMode,
    slots: ConnectionSlots,
    over_cap: RefusedConnections,
    /// Origins from which pages may read the reason of a rejected connection.
    origins: Origins,
    memory: Memory,
    graceful: GracefulShutdown,
    connections: JoinSet<()>,
}

impl<S> Server<S>
where
    S: Service<
            Request<Lent<Incoming>>,
            Response = Response,
            Error = Infallible,
            Future: Send + 'static,
        >,
    S: Clone + Send + 'static,
{
    fn new(
        service: S,
        memory: Memory,
        limits: &ApiLimits,
        closing: &CancellationToken,
    ) -> Server<S> {
        let served = ConnectionMode::new(limits, limits.header_timeout, closing);
        let refused = ConnectionMode::new(limits, REFUSAL_TIMEOUT, closing).for_one_exchange();
        Server {
            service,
            served,
            refused,
            slots: ConnectionSlots::new(limits.connections_max),
            over_cap: RefusedConnections::within(limits.connections_max),
            origins: Origins::new(&limits.allow_origins),
            memory,
            graceful: GracefulShutdown::new(),
            connections: JoinSet::new(),
        }
    }

    async fn accept_until(&mut self, listener: &TcpListener, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                Some(ended) = self.connections.join_next() => note_end(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => self.take(stream, address),
                    Err(error) => pause_after(error).await,
                },
            }
        }
    }

    fn take(&mut self, stream: TcpStream, client: SocketAddr) {
        if let Some(slot) = self.slots.take(client.ip()) {
            let (manner, service) = (self.served.clone(), self.service.clone());
            self.spawn(stream, client, manner, service, slot);
        } else {
            let refused = Front::new(service_fn(refuse), self.origins.clone(), self.memory.clone());
            let service = HealthOnly { served: self.service.clone(), refused };
            let task = self.spawn(stream, client, self.refused.clone(), service, ());
            self.over_cap.add(task);
        }
    }

    fn spawn<T>(
        &mut self,
        stream: TcpStream,
        client: SocketAddr,
        manner: ConnectionMode,
        service: T,
        slot: impl Send + 'static,
    ) -> AbortHandle
    where
        T: Service<Request<Lent<Incoming>>, Response = Response, Error = Infallible, Future: Send>,
        T: Send + 'static,
    {
        let watcher = self.graceful.watcher();
        self.connections.spawn(async move {
            manner.serve(stream, client, service, watcher).await;
            drop(slot);
        })
    }

    /// Waits for running exchanges to end; those left after `grace` are dropped.
    async fn drain(mut self, grace: Duration) {
        let running = self.connections.len();
        match tokio::time::timeout(grace, self.graceful.shutdown()).await {
            Ok(()) => debug!(running, "all connections have ended"),
            Err(_) => info!(?grace, "dropped the connections left after the grace period"),
        }
        self.connections.shutdown().await;
    }
}

/// The treatment of a connection.
#[derive(Clone)]
struct ConnectionMode {
    http: Builder,
    tls: Option<Tls>,
    /// Timeout of the handshake, and then of the head of each request.
    timeout: Duration,
    write_timeout: Duration,
    access_log: bool,
    /// True if a connection is for one exchange.
    is_last: bool,
    /// Cancelled when shutdown begins.
    closing: CancellationToken,
}

impl ConnectionMode {
    fn new(limits: &ApiLimits, timeout: Duration, closing: &CancellationToken) -> ConnectionMode {
        let mut http = Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(timeout)
            .max_header_size(limits.headers_bytes_max)
            .max_buf_size(BUFFER_BYTES_MAX.max(limits.headers_bytes_max));
        ConnectionMode {
            http,
            tls: limits.tls.clone(),
            timeout,
            write_timeout: limits.write_timeout,
            access_log: limits.access_log,
            is_last: false,
            closing: closing.clone(),
        }
    }

    fn for_one_exchange(mut self) -> ConnectionMode {
        self.http.keep_alive(false);
        self.is_last = true;
        self
    }

    /// Serves a connection to its end.
    async fn serve<T>(self, stream: TcpStream, client: SocketAddr, service: T, watcher: Watcher)
    where
        T: Service<Request<Lent<Incoming>>, Response = Response, Error = Infallible, Future: Send>,
        T: Send + 'static,
    {
        let stream = Connection::new(stream, self.write_timeout);
        let caller = Caller { address: client, is_logged: self.access_log, is_last: self.is_last };
        let unread = stream.unread();
        let service = Access::new(service, caller, unread.clone());
        let Some(tls) = &self.tls else {
            return self.serve_http(http1(stream, unread), service, watcher).await;
        };
        match self.handshake(tls, stream).await {
            Some(Hello::Tls(stream)) => {
                self.serve_http(http1(stream, unread), service, watcher).await;
            }
            Some(Hello::Plain(stream)) => {
                let caller = Caller { is_last: true, ..caller };
                let stream = http1(stream, unread.clone());
                let service = Access::new(service_fn(require_tls), caller, unread);
                self.for_one_exchange().serve_http(stream, service, watcher).await;
            }
            None => {}
        }
    }

    /// Makes the TLS handshake. A failure concerns only the client.
    async fn handshake(&self, tls: &Tls, stream: Connection) -> Option<Hello> {
        let greeting = timeout(self.timeout, tls::handshake(tls, stream));
        match self.closing.run_until_cancelled(greeting).await? {
            Ok(Ok(hello)) => return Some(hello),
            Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
            Err(_) => debug!("a TLS handshake took too long"),
        }
        None
    }

    /// Serves HTTP until the connection ends.
    async fn serve_http<I, T>(&self, stream: I, service: T, watcher: Watcher)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send>,
    {
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            debug!(%error, "a connection ended early");
        }
    }
}

/// A connection for hyper, which leaves some answers to it.
fn http1<I>(stream: I, unread: UnreadFlag) -> Http1<Automatic<I>> {
    Http1::new(Automatic::new(stream, unread.clone()), unread)
}

async fn require_tls<B>(_: Request<B>) -> Result<Response, Infallible> {
    Ok(render(Err(Error::malformed("this server requires TLS; use https://").into())))
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    // Connections over the cap are cancelled for new ones.
    if let Err(error) = ended
        && !error.is_cancelled()
    {
        warn!(%error, "the task of a connection failed");
    }
}

/// Pauses after an error of accepting that would recur at once and keep the loop busy, such as too
/// many open files. A client that left before it was accepted requires no pause.
async fn pause_after(error: io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
    {
        return debug!(%error, "a client left before it was accepted");
    }
    warn!(%error, "failed to accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

#[cfg(test)]
mod tests;
