//! The devices of adapters: lists adapters in a process of its own, opens, checks and times one. The
//! serving process never loads what is here.

pub mod check;
pub mod child;
mod kernel;
pub mod list;
pub mod open;
pub mod probe;
