//! A bare warp echo, which measures the cost of HTTP alone on this machine.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use warp::Filter;

/// Serves `POST /echo` until the bench ends.
pub(crate) fn start() -> SocketAddr {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            send.send(listener.local_addr().expect("an address")).expect("the bench waits");
            loop {
                let (stream, _) = listener.accept().await.expect("a client");
                stream.set_nodelay(true).expect("nodelay");
                let echo = warp::path("echo").and(warp::post()).and(warp::body::bytes());
                let echo = echo.map(|body: bytes::Bytes| body.to_vec());
                let service = TowerToHyperService::new(warp::service(echo));
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new()).http1_only();
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    });
    receive.recv().expect("the echo listens")
}
