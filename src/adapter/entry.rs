//! The description of an adapter as plain data, independent of wgpu.

use serde::{Deserialize, Serialize};

/// Graphics API through which an adapter is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    Vulkan,
    Metal,
    Dx12,
    Gl,
    /// No graphics API: burn's own CPU backend.
    Cpu,
}

/// The kind of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    Discrete,
    Integrated,
    Virtual,
    Other,
    /// A software rasterizer behind a graphics API.
    Software,
    /// burn's own CPU backend.
    Cpu,
}

/// Largest resources that the adapter allows, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimits {
    pub max_buffer_bytes: u64,
    pub max_storage_binding_bytes: u64,
    pub max_workgroup_storage_bytes: u64,
}

/// Results of the speed probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Fused multiply-adds counted as two operations, in 10^9 per second.
    pub gflops: f64,
    /// Bytes read plus bytes written by a copy kernel, in 10^9 per second.
    pub copy_gbytes_per_s: f64,
}

/// The permission of the server to use an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usability {
    Usable,
    Unused,
}

/// One adapter, used or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterEntry {
    /// Stable, printable id, used in the configuration and the API.
    pub id: String,
    pub name: String,
    pub api: Api,
    pub class: Class,
    /// Name of the vendor, or its number in hexadecimal if unknown.
    pub vendor: String,
    pub vendor_id: u32,
    pub device_id: u32,
    pub pci: Option<String>,
    pub driver: String,
    pub driver_info: String,
    pub memory: MemoryLimits,
    /// The card's own memory, or the machine's for the CPU and software adapters; `None` if the
    /// platform does not report it.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    pub state: Usability,
    /// The reason why it is not used; `None` if it is used.
    pub reason: Option<String>,
    /// True if it serves only while no other adapter can.
    pub fallback: bool,
    /// True if it also serves, while others start, the models that it answers within their targets.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub bridge: bool,
    /// True for a card that no graphics API lists.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unreachable: bool,
    /// Result of `adapters --probe`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub probe: Option<Probe>,
}

impl AdapterEntry {
    /// Copies the fields that depend on settings from a new listing of the same adapter.
    pub fn adopt(&mut self, listed: AdapterEntry) {
        (self.fallback, self.bridge) = (listed.fallback, listed.bridge);
        self.name = listed.name;
    }
}

/// Power of one adapter above its power when it is off, in watts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watts {
    /// With an open device and no work.
    pub idle: f64,
    /// While computing.
    pub active: f64,
    /// While starting.
    pub start: f64,
}

/// Logs ids in the settings that no adapter has, which are typing errors or removed cards.
pub fn warn_of_unknown(entries: &[AdapterEntry], named: &[String]) {
    for id in unknown_ids(entries, named) {
        tracing::warn!(
            "no adapter has the id '{id}' that the settings name; `concertina adapters` lists them"
        );
    }
}

pub(super) fn unknown_ids<'a>(entries: &[AdapterEntry], named: &'a [String]) -> Vec<&'a String> {
    named.iter().filter(|id| entries.iter().all(|entry| entry.id != **id)).collect()
}
