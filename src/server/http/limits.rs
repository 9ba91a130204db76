//! Limits of the HTTP server, each with its unit and its reason.

use crate::http::keys::KeyRing;
use crate::http::tls::Tls;
use crate::operator::live::LiveSettings;
use std::sync::Arc;
use std::time::Duration;

/// The limits of the HTTP server. Their defaults are in the configuration.
#[derive(Clone, Debug)]
pub struct ApiLimits {
    /// Maximum size of a request body, in bytes; a larger one is answered 413.
    pub body_bytes_max: usize,
    /// Maximum number of connections; further ones are answered 503 and closed.
    pub connections_max: usize,
    /// Maximum number of event streams; they are long, and must leave connections for requests.
    pub event_streams_max: usize,
    /// Maximum size of a request head (request line and headers), in bytes; a larger one is
    /// answered 431.
    pub headers_bytes_max: usize,
    /// Timeout of a request head, of an idle kept-alive connection, and of a TLS handshake.
    pub header_timeout: Duration,
    /// Timeout of a whole request body, after which the answer is 408.
    pub body_timeout: Duration,
    /// Maximum time for which a client may leave an answer unread; then its connection is closed.
    pub write_timeout: Duration,
    /// Maximum time for running exchanges after shutdown began.
    pub shutdown_grace: Duration,
    /// The API keys and their scopes; every route except health checks and the static page checks
    /// them.
    pub keys: KeyRing,
    /// The server's certificate; without it the server uses plain HTTP.
    pub tls: Option<Tls>,
    /// Host names, without port, by which a browser may reach this server, in addition to IP
    /// addresses, single-label names, `*.local`, `*.internal` and `*.localhost`.
    pub hosts: Vec<String>,
    /// Origins from which pages may use the server, such as `https://app.example`; `*` for all.
    pub allow_origins: Vec<String>,
    /// True if every exchange is logged.
    pub access_log: bool,
    /// The settings that an operator may change while the server runs.
    pub settings: Option<Arc<dyn LiveSettings>>,
}
