//! Adapters: what the machine has, which of it is used, and opening, checking and timing one.

pub mod entry;
pub mod identity;
pub mod select;

#[cfg(test)]
mod boxes;
