//! HTTP: the Open Inference Protocol V2, the operator's routes, events and the web page.
//!
//! A handler is parse, ask the engine, render. Parsing and rendering are pure functions over
//! bytes; nothing here decides about adapters, and the engine knows no JSON.

mod absent;
mod access;
mod admin;
mod answer;
mod automatic;
mod beside;
mod binary;
mod body;
mod classification;
mod connection;
mod context;
mod cors;
mod current;
mod drain;
mod encoding;
mod events;
mod expect;
mod extensions;
mod fields;
mod front;
mod generate;
mod growing;
mod guard;
mod host;
#[doc(hidden)]
pub mod hostile;
pub mod keys;
mod kserve;
mod limits;
mod live;
mod load;
mod object;
mod openai;
mod openapi;
mod over_capacity;
mod preface;
mod rendered;
mod request;
mod respond;
mod routes;
mod server;
mod settings;
mod slots;
pub mod tls;
mod web;
mod whatif;

pub use current::Current;
pub use limits::ApiLimits;
pub use live::{LiveSettings, SettingChange};
pub use server::serve;

/// The name of the program, as clients are told it.
pub(crate) const PROGRAM: &str = "concertina";
