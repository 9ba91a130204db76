//! What adapters a machine has, as plain data: their names, limits, memory and sensors, which of them
//! are used, and the locks that keep two servers off one adapter. No wgpu: see the crate `device`.

#[cfg(test)]
mod boxes;
pub mod cgroup;
pub mod entry;
pub mod identity;
pub mod in_use;
pub mod listing;
pub mod lock;
pub mod memory;
pub mod names;
pub mod select;
pub mod sensors;
pub mod table;
#[cfg(target_os = "linux")]
pub mod unreachable;
