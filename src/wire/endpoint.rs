//! Where a worker reaches its server.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a worker reaches its server: any pair of byte streams will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// A socket file, or a named pipe on Windows.
    Local(PathBuf),
    /// A TCP address. What passes there is not encrypted; the token proves who connects.
    Tcp(SocketAddr),
}

impl Endpoint {
    /// Whether the worker may run on another machine, with other files.
    pub fn may_be_elsewhere(&self) -> bool {
        matches!(self, Endpoint::Tcp(_))
    }
}

/// For tests: a worker that connects over TCP, through whatever listens at `connect` and passes on to
/// `listen`. One worker at a time: for servers with one adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestLink {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// Where the worker connects to.
    pub connect: SocketAddr,
}
