//! What is known of one adapter, as plain data that any part may hold. No wgpu in it.

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

/// What kind of part an adapter is.
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

/// Measured by the speed probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Fused multiply-adds counted as two operations, in 10^9 per second.
    pub gflops: f64,
    /// Bytes read plus bytes written by a copy kernel, in 10^9 per second.
    pub copy_gbytes_per_s: f64,
}

/// Whether the server may use an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usability {
    Usable,
    Unused,
}

/// One adapter, used or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterEntry {
    /// Stable and printable; what config and the API name it by.
    pub id: String,
    pub name: String,
    pub api: Api,
    pub class: Class,
    /// Vendor by name, or its number in hexadecimal where unknown.
    pub vendor: String,
    pub vendor_id: u32,
    pub device_id: u32,
    pub pci: Option<String>,
    pub driver: String,
    pub driver_info: String,
    pub memory: MemoryLimits,
    /// The card's own memory, or the machine's for the CPU and software adapters; `None` where the
    /// platform does not tell.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    pub state: Usability,
    /// Why it is not used; `None` where it is.
    pub reason: Option<String>,
    /// Whether it joins only while nothing else can serve.
    pub fallback: bool,
    /// Whether it serves besides, while others start, the models that it answers within their
    /// targets.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub bridge: bool,
    /// True for a card that no graphics API lists.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unreachable: bool,
    /// Outcome of `adapters --probe`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub probe: Option<Probe>,
}

impl AdapterEntry {
    /// Takes what settings decide from a new listing of the same adapter.
    pub fn adopt(&mut self, listed: AdapterEntry) {
        (self.fallback, self.bridge) = (listed.fallback, listed.bridge);
        self.name = listed.name;
    }
}

/// Power of one adapter above its power when it is off, in watts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watts {
    /// With a device open and nothing to do.
    pub idle: f64,
    /// Computing.
    pub active: f64,
    /// Starting.
    pub start: f64,
}

/// Says which ids named in the settings no adapter has: most likely a slip of the pen, or a card
/// that is gone.
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
