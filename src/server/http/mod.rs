//! Connections and exchanges: sockets, TLS, limits, access, bodies, errors.

pub(crate) mod access;
pub(crate) mod automatic;
pub(crate) mod blocking;
pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod connections_over_cap;
pub(crate) mod cors;
pub(crate) mod drain;
pub(crate) mod encoding;
pub(crate) mod fields;
pub(crate) mod front;
pub(crate) mod growing;
pub(crate) mod guard;
pub(crate) mod host;
pub mod keys;
pub(crate) mod limits;
pub(crate) mod object;
pub(crate) mod preface;
pub(crate) mod respond;
pub(crate) mod server;
pub(crate) mod slots;
pub mod tls;
