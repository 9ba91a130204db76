//! Stable, printable ids of adapters. Pure: no wgpu, no I/O, no clock.
//!
//! An id depends only on the adapters of the same graphics API, so that a worker which
//! enumerates that one API finds the same ids as the listing, which enumerates them all.

use crate::entry::{Api, Class, MemoryLimits};
use std::cmp::Ordering;
use std::collections::HashMap;

/// The id of burn's CPU backend.
pub const CPU_ID: &str = "cpu";

/// The description of an adapter by its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub api: Api,
    pub class: Class,
    pub name: String,
    /// PCI vendor id or Khronos vendor id; 0 if the API does not report it (Metal, most of GL).
    pub vendor_id: u32,
    /// 0 if the API does not report it (Metal, GL).
    pub device_id: u32,
    /// `domain:bus:device.function`, such as `0000:01:00.0`.
    pub pci: Option<String>,
    pub driver: String,
    pub driver_info: String,
    pub memory: MemoryLimits,
    /// The card's own memory; `None` if the platform does not report it.
    pub memory_bytes: Option<u64>,
}

/// The operating system, which determines the preferred graphics API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    Windows,
    Apple,
    /// Linux and everything else.
    Other,
}

impl Platform {
    /// The platform this program was built for.
    pub const fn current() -> Platform {
        if cfg!(windows) {
            Platform::Windows
        } else if cfg!(target_vendor = "apple") {
            Platform::Apple
        } else {
            Platform::Other
        }
    }

    /// The API of adapters with only a PCI address as their id, without the API's name.
    const fn pci_api(self) -> Api {
        match self {
            Platform::Windows => Api::Dx12,
            Platform::Apple => Api::Metal,
            Platform::Other => Api::Vulkan,
        }
    }

    /// Preference among the APIs of one card: lower is better.
    pub const fn rank(self, api: Api) -> u8 {
        match (self, api) {
            (_, Api::Metal) => 0,
            (Platform::Windows, Api::Dx12) => 1,
            (_, Api::Vulkan) => 2,
            (_, Api::Dx12) => 3,
            (_, Api::Gl) => 5,
            (_, Api::Cpu) => 6,
        }
    }
}

/// The id of each adapter, in the order given: unique, and the same for the same facts.
///
/// `pci-0000:01:00.0` where the PCI address is known (with the API's name behind it unless it is
/// the platform's preferred one: `pci-0000:01:00.0-vulkan` on Windows), else
/// `<api>-<vendor>-<device>-<n>` with hexadecimal numbers. `n` counts adapters that share the
/// rest of the id, ordered by their facts and only then by enumeration; a PCI address that an
/// API repeats gets `-1`, `-2` … from its second owner on.
pub fn identify(facts: &[Facts], platform: Platform) -> Vec<String> {
    let mut ids = vec![String::new(); facts.len()];
    let mut seen: HashMap<String, usize> = HashMap::new();
    for index in by_content(facts) {
        let stem = stem(&facts[index], platform);
        let count = seen.entry(stem.clone()).or_default();
        ids[index] = numbered(&facts[index], &stem, *count);
        *count += 1;
    }
    ids
}

/// The API that an id of [`identify`] belongs to; `None` if it is not such an id.
pub fn api_of(id: &str, platform: Platform) -> Option<Api> {
    if id == CPU_ID {
        return Some(Api::Cpu);
    }
    let (first, rest) = id.split_once('-')?;
    if first != "pci" {
        return api_named(first);
    }
    let named = rest.split('-').nth(1).and_then(api_named);
    Some(named.unwrap_or(platform.pci_api()))
}

/// Indices into `facts`, sorted by contents, so that the enumeration order matters only between
/// indistinguishable adapters.
pub(crate) fn by_content(facts: &[Facts]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..facts.len()).collect();
    order.sort_by(|&a, &b| compare(&facts[a], &facts[b]));
    order
}

/// Compares facts. Those that change with a driver update come last.
fn compare(a: &Facts, b: &Facts) -> Ordering {
    let key = |f: &Facts| (f.api, f.class, f.vendor_id, f.device_id, f.memory.max_buffer_bytes);
    key(a)
        .cmp(&key(b))
        .then_with(|| a.pci.cmp(&b.pci))
        .then_with(|| a.name.cmp(&b.name))
        .then_with(|| a.driver.cmp(&b.driver))
        .then_with(|| memory_key(a).cmp(&memory_key(b)))
        .then_with(|| a.driver_info.cmp(&b.driver_info))
}

fn memory_key(facts: &Facts) -> (u64, u64) {
    (facts.memory.max_storage_binding_bytes, facts.memory.max_workgroup_storage_bytes)
}

/// The id without its count.
fn stem(facts: &Facts, platform: Platform) -> String {
    let api = api_name(facts.api);
    match &facts.pci {
        _ if facts.api == Api::Cpu => CPU_ID.to_owned(),
        Some(pci) if facts.api == platform.pci_api() => format!("pci-{pci}"),
        Some(pci) => format!("pci-{pci}-{api}"),
        None => format!("{api}-{:04x}-{:04x}", facts.vendor_id, facts.device_id),
    }
}

fn numbered(facts: &Facts, stem: &str, count: usize) -> String {
    let bare = facts.pci.is_some() || facts.api == Api::Cpu;
    if bare && count == 0 { stem.to_owned() } else { format!("{stem}-{count}") }
}

/// The API's name in ids and JSON.
pub const fn api_name(api: Api) -> &'static str {
    match api {
        Api::Vulkan => "vulkan",
        Api::Metal => "metal",
        Api::Dx12 => "dx12",
        Api::Gl => "gl",
        Api::Cpu => "cpu",
    }
}

fn api_named(name: &str) -> Option<Api> {
    [Api::Vulkan, Api::Metal, Api::Dx12, Api::Gl, Api::Cpu]
        .into_iter()
        .find(|&api| api_name(api) == name)
}

/// True for the translation layer that runs Vulkan on D3D12 (Mesa's Dozen).
pub fn is_dozen(facts: &Facts) -> bool {
    facts.api == Api::Vulkan
        && (facts.driver.to_lowercase().contains("dozen")
            || facts.name.starts_with("Microsoft Direct3D12 ("))
}

/// The card's name without parts that differ between APIs and drivers: lower case, the card inside
/// a translation layer's name, no text in parentheses, no `/PCIe/SSE2`, no leading `Mesa`.
pub fn normalised_name(name: &str) -> String {
    let name = name.to_lowercase();
    let inner = translated(&name).unwrap_or(&name);
    let bare = without_parentheses(inner);
    let bare = bare.split('/').next().unwrap_or_default();
    let words: Vec<&str> = bare.split_whitespace().collect();
    words.strip_prefix(&["mesa"]).unwrap_or(&words).join(" ")
}

/// The card's name inside `Microsoft Direct3D12 (…)`, `D3D12 (…)` or `ANGLE (vendor, …, …)`.
fn translated(name: &str) -> Option<&str> {
    let inner = |prefix: &str| name.strip_prefix(prefix)?.strip_suffix(')');
    if let Some(angle) = inner("angle (") {
        return angle.split(", ").nth(1);
    }
    inner("microsoft direct3d12 (").or_else(|| inner("d3d12 ("))
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    let mut kept = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(char),
            _ => {}
        }
    }
    kept
}

/// The vendor's name, or its number in hexadecimal if it is unknown.
pub fn vendor_name(vendor_id: u32) -> String {
    let known = match vendor_id {
        0x1002 | 0x1022 => "AMD",
        0x1010 => "Imagination",
        0x106b => "Apple",
        0x10de => "NVIDIA",
        0x13b5 => "Arm",
        0x1414 => "Microsoft",
        0x14e4 => "Broadcom",
        0x15ad => "VMware",
        0x1ae0 => "Google",
        0x5143 => "Qualcomm",
        0x8086 => "Intel",
        0x1_0001 => "Vivante",
        0x1_0002 => "VeriSilicon",
        0x1_0004 => "Codeplay",
        0x1_0005 => "Mesa",
        0x1_0006 => "PoCL",
        _ => return format!("0x{vendor_id:04x}"),
    };
    known.to_owned()
}

/// The vendor of an adapter, taken from its name if the API reports no number.
pub fn vendor_of(facts: &Facts) -> String {
    if facts.vendor_id != 0 {
        return vendor_name(facts.vendor_id);
    }
    let name = facts.name.to_lowercase();
    ["Apple", "NVIDIA", "AMD", "Intel", "Qualcomm", "Arm"]
        .into_iter()
        .find(|vendor| name.split_whitespace().any(|word| is_brand(word, vendor)))
        .unwrap_or("unknown")
        .to_owned()
}

/// `Intel(R)` names Intel; `warm` does not name Arm.
fn is_brand(word: &str, vendor: &str) -> bool {
    without_parentheses(word) == vendor.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_differs_between_apis() {
        let same = |a: &str, b: &str| assert_eq!(normalised_name(a), normalised_name(b));
        same("llvmpipe", "llvmpipe (LLVM 15.0.6, 256 bits)");
        same("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090/PCIe/SSE2");
        same("Intel(R) UHD Graphics 620 (KBL GT2)", "Mesa Intel(R) UHD Graphics 620 (KBL GT2)");
        same(
            "AMD Radeon RX 6800 XT (RADV NAVI21)",
            "AMD Radeon RX 6800 XT (radeonsi, navi21, LLVM 15.0.7)",
        );
        same("NVIDIA GeForce RTX 3080", "Microsoft Direct3D12 (NVIDIA GeForce RTX 3080)");
        same("NVIDIA GeForce RTX 3080", "D3D12 (NVIDIA GeForce RTX 3080)");
        assert_eq!(
            normalised_name("ANGLE (NVIDIA, NVIDIA GeForce RTX 3080, D3D11)"),
            "nvidia geforce rtx 3080"
        );
        assert_ne!(normalised_name("Radeon RX 7900 XT"), normalised_name("Radeon RX 7900 XTX"));
    }

    #[test]
    fn odd_names_do_not_break_normalising() {
        assert_eq!(normalised_name(""), "");
        assert_eq!(normalised_name("((("), "");
        assert_eq!(normalised_name(")x("), "x");
        assert_eq!(normalised_name("ANGLE ()"), "angle");
        assert_eq!(normalised_name("Microsoft Direct3D12 ("), "microsoft direct3d12");
    }

    #[test]
    fn vendors_have_names_or_numbers() {
        assert_eq!(vendor_name(0x10de), "NVIDIA");
        assert_eq!(vendor_name(0x1_0005), "Mesa");
        assert_eq!(vendor_name(0xbeef), "0xbeef");
    }

    #[test]
    fn the_api_can_be_read_from_an_id() {
        let other = |id| api_of(id, Platform::Other);
        let windows = |id| api_of(id, Platform::Windows);
        assert_eq!(other("pci-0000:01:00.0"), Some(Api::Vulkan));
        assert_eq!(other("pci-0000:01:00.0-1"), Some(Api::Vulkan));
        assert_eq!(windows("pci-0000:01:00.0-2"), Some(Api::Dx12));
        assert_eq!(windows("pci-0000:01:00.0-vulkan"), Some(Api::Vulkan));
        assert_eq!(windows("pci-0000:01:00.0-vulkan-3"), Some(Api::Vulkan));
        assert_eq!(other("gl-10005-0000-0"), Some(Api::Gl));
        assert_eq!(other("cpu"), Some(Api::Cpu));
        assert_eq!(other("toaster-1-2-3"), None);
        assert_eq!(other(""), None);
    }
}
