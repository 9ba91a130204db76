//! The adapters of a machine as plain data: names, limits, memory and sensors, the selection of
//! those that are used, and locks that prevent two servers from using one adapter. The crate
//! `device` opens adapters.

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
#[cfg(test)]
mod test_machines;
#[cfg(target_os = "linux")]
pub mod unreachable;
