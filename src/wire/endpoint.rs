//! The endpoint of the server for its workers.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The endpoint at which a worker connects to its server. Any pair of byte streams is sufficient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// A socket file, or a named pipe on Windows.
    Local(PathBuf),
    /// A TCP address. The connection is not encrypted; the token authenticates the worker.
    Tcp(SocketAddr),
}

impl Endpoint {
    /// True if the worker may run on another machine, with other files.
    pub fn may_be_elsewhere(&self) -> bool {
        matches!(self, Endpoint::Tcp(_))
    }
}

/// For tests: workers connect over TCP to a proxy at `connect`, which forwards to `listen`. It
/// supports one worker at a time, so it is for servers with one adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestLink {
    /// The address on which the server listens.
    pub listen: SocketAddr,
    /// The address to which the worker connects.
    pub connect: SocketAddr,
}
