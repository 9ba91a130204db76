//! Every bound of the HTTP side, each with its unit and its reason.

use crate::api::keys::KeyRing;
use crate::api::tls::Tls;
use std::time::Duration;

/// What a client may ask of the HTTP side. Defaults live in the configuration.
#[derive(Clone, Debug)]
pub struct ApiLimits {
    /// Largest request body, in bytes; a larger one is answered 413.
    pub body_bytes_max: usize,
    /// All request bodies together that may be in memory, in bytes; beyond it new ones are
    /// answered 429. It bounds what many large uploads at once can hold.
    pub bodies_bytes_max: usize,
    /// Connections served at the same time; more are answered 503 and closed.
    pub connections_max: usize,
    /// Event streams open at the same time; they live long, and must leave room for requests.
    pub event_streams_max: usize,
    /// Largest request head (request line and headers), in bytes; a larger one is answered 431.
    pub headers_bytes_max: usize,
    /// How long a request head may take; also how long a kept-alive connection may stay idle, and
    /// how long a TLS handshake may take.
    pub header_timeout: Duration,
    /// How long a whole request body may take; answered 408 when it passes.
    pub body_timeout: Duration,
    /// How long a client may leave an answer unread before its connection is dropped.
    pub write_timeout: Duration,
    /// How long running exchanges may go on after shutdown began.
    pub shutdown_grace: Duration,
    /// Who may do what; every route but health and the static page asks.
    pub keys: KeyRing,
    /// The server's certificate; without it HTTP is spoken in clear.
    pub tls: Option<Tls>,
    /// Host names, without port, that a browser may reach this server by, besides IP addresses,
    /// single-label names, `*.local`, `*.internal` and `*.localhost`.
    pub hosts: Vec<String>,
    /// Origins whose pages may use the server, such as `https://app.example`; `*` for all.
    pub allow_origins: Vec<String>,
    /// Whether every exchange is logged.
    pub access_log: bool,
}
