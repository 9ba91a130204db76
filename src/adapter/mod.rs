//! Adapters.
pub mod entry;
