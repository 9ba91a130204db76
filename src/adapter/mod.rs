//! Adapters: what the machine has, which of it is used, and opening, checking and timing one.

pub(crate) mod cgroup;
pub mod check;
pub mod child;
pub mod command;
pub mod entry;
pub mod identity;
pub(crate) mod in_use;
mod kernel;
pub mod list;
pub mod listing;
pub(crate) mod memory;
pub mod names;
pub mod open;
pub mod probe;
pub mod select;
pub mod sensors;
#[cfg(target_os = "linux")]
mod unreachable;

#[cfg(test)]
mod boxes;
