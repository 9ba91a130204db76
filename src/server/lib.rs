//! HTTP: the Open Inference Protocol V2, the operator's routes, events and the web page.
//!
//! A handler parses, calls the engine, and renders. Parsing and rendering are pure functions over
//! bytes; this crate decides nothing about adapters, and the engine does not depend on JSON.

mod context;
#[doc(hidden)]
pub mod hostile;
mod http;
mod operator;
mod routes;
mod v2;

pub use http::limits::ApiLimits;
pub use http::server::serve;
pub use operator::current::Current;
pub use operator::live::{LiveSettings, SettingChange};

/// The name of the program in answers to clients.
pub(crate) const PROGRAM: &str = "concertina";
pub use http::keys;
pub use http::tls;
