//! Bounds of the HTTP server, each with its unit and its reason.

use crate::http::keys::KeyRing;
use crate::http::tls::Tls;
use crate::operator::live::LiveSettings;
use std::sync::Arc;
use std::time::Duration;

/// The limits of the HTTP server. Their defaults are in the configuration.
#[derive(Clone, Debug)]
pub struct ApiLimits {
    /// Largest request body, in bytes; a larger one is answered 413.
    pub body_bytes_max: usize,
    /// Most connections at the same time; further ones are answered 503 and closed.
    pub connections_max: usize,
    /// Most event streams at the same time; they are long, and must leave connections for requests.
    pub event_streams_max: usize,
    /// Largest request head (request line and headers), in bytes; a larger one is answered 431.
    pub headers_bytes_max: usize,
    /// Timeout of a request head, of an idle kept-alive connection, and of a TLS handshake.
    pub header_timeout: Duration,
    /// Timeout of a whole request body, after which the answer is 408.
    pub body_timeout: Duration,
    /// Longest time for which a client may leave an answer unread; then its connection is dropped.
    pub write_timeout: Duration,
    /// Longest time that running exchanges may take after shutdown began.
    pub shutdown_grace: Duration,
    /// The API keys and their scopes; every route but health and the static page checks them.
    pub keys: KeyRing,
    /// The server's certificate; without it the server uses plain HTTP.
    pub tls: Option<Tls>,
    /// Host names, without port, that a browser may reach this server by, besides IP addresses,
    /// single-label names, `*.local`, `*.internal` and `*.localhost`.
    pub hosts: Vec<String>,
    /// Origins whose pages may use the server, such as `https://app.example`; `*` for all.
    pub allow_origins: Vec<String>,
    /// True if every exchange is logged.
    pub access_log: bool,
    /// The settings that an operator may change while the server runs.
    pub settings: Option<Arc<dyn LiveSettings>>,
}
