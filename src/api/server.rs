//! Accepts connections and serves them within their bounds, until told to stop.
//!
//! Over the connection cap a client is told so: a few more connections are taken only to answer
//! 503, and beyond those a connection is closed at once. Waiting in the accept queue instead
//! would leave clients and health checks without any answer.

use crate::api::access::{Access, Caller};
use crate::api::connection::Connection;
use crate::api::limits::ApiLimits;
use crate::api::respond::{Response, render};
use crate::api::routes::{Api, routes};
use crate::engine::EngineHandle;
use crate::error::Error;
use crate::telemetry::Traces;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Connections over the cap that are answered 503 at the same time.
const REFUSALS_MAX: usize = 64;

/// A refused client must come with its request soon.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// When a refused client may try again.
const REFUSAL_RETRY: Duration = Duration::from_secs(1);

/// Pause after an accept error that will not go away by itself, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Read and write buffer of one connection, in bytes; what a slow client can make us hold
/// besides its body and its answer.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Serves until `shutdown` completes; then running exchanges may end within the grace period.
///
/// Never fails: what goes wrong on a connection ends that connection, and what goes wrong when
/// accepting is logged and tried again.
pub async fn serve(
    listener: TcpListener,
    engine: EngineHandle,
    traces: Traces,
    limits: ApiLimits,
    shutdown: impl Future<Output = ()>,
) {
    let closing = CancellationToken::new();
    let api = Api::new(engine, &limits, traces, closing.clone());
    let service = TowerToHyperService::new(warp::service(routes(api)));
    run(listener, service, &limits, closing, shutdown).await;
}

/// Serves `service`; `closing` is cancelled as soon as shutdown begins.
async fn run<S>(
    listener: TcpListener,
    service: S,
    limits: &ApiLimits,
    closing: CancellationToken,
    shutdown: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    let mut server = Server::new(service, limits);
    server.accept_until(&listener, shutdown).await;
    // New clients are turned away by the system from here on.
    drop(listener);
    closing.cancel();
    server.drain(limits.shutdown_grace).await;
}

/// The connections, and what they share.
struct Server<S> {
    service: S,
    http: http1::Builder,
    refusal: http1::Builder,
    write_timeout: Duration,
    access_log: bool,
    slots: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    graceful: GracefulShutdown,
    connections: JoinSet<()>,
}

impl<S> Server<S>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
{
    fn new(service: S, limits: &ApiLimits) -> Server<S> {
        let slots = limits.connections_max.min(Semaphore::MAX_PERMITS);
        let mut refusal = http_builder(limits, REFUSAL_TIMEOUT);
        refusal.keep_alive(false);
        Server {
            service,
            http: http_builder(limits, limits.header_timeout),
            refusal,
            write_timeout: limits.write_timeout,
            access_log: limits.access_log,
            slots: Arc::new(Semaphore::new(slots)),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
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

    fn take(&mut self, stream: TcpStream, address: SocketAddr) {
        let caller = Caller { address, is_logged: self.access_log };
        if let Ok(slot) = self.slots.clone().try_acquire_owned() {
            let (http, service) = (self.http.clone(), self.service.clone());
            let service = Access::new(service, caller);
            self.spawn(stream, &http, service, slot);
        } else if let Ok(slot) = self.refusals.clone().try_acquire_owned() {
            let http = self.refusal.clone();
            self.spawn(stream, &http, Access::new(service_fn(refuse), caller), slot);
        } else {
            debug!("closed a connection over the cap without an answer");
        }
    }

    fn spawn<T>(
        &mut self,
        stream: TcpStream,
        http: &http1::Builder,
        service: T,
        slot: OwnedSemaphorePermit,
    ) where
        T: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send>,
        T: Send + 'static,
    {
        let stream = TokioIo::new(Connection::new(stream, self.write_timeout));
        let connection = self.graceful.watch(http.serve_connection(stream, service));
        self.connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection broke off");
            }
            drop(slot);
        });
    }

    /// Lets running exchanges end; what is left after `grace` is dropped.
    async fn drain(mut self, grace: Duration) {
        let running = self.connections.len();
        match tokio::time::timeout(grace, self.graceful.shutdown()).await {
            Ok(()) => debug!(running, "all connections have ended"),
            Err(_) => info!(?grace, "dropped the connections left after the grace period"),
        }
        self.connections.shutdown().await;
    }
}

fn http_builder(limits: &ApiLimits, header_timeout: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_header_size(limits.headers_bytes_max)
        .max_buf_size(BUFFER_BYTES_MAX.max(limits.headers_bytes_max));
    http
}

async fn refuse(_: Request<Incoming>) -> Result<Response, Infallible> {
    let error = Error::unavailable("all connections are taken; try again soon");
    Ok(render(Err(error.retry_after(REFUSAL_RETRY).into())))
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        warn!(%error, "a connection's task broke");
    }
}

/// A client that went away before it was accepted is its own affair; anything else (too many
/// open files, no memory) would come back at once and make the loop spin.
async fn pause_after(error: io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
    {
        return debug!(%error, "a client went away before it was accepted");
    }
    warn!(%error, "cannot accept connections");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

#[cfg(test)]
mod tests;
