//! The memory size of cards and of the machine, as reported by the operating system. Graphics APIs
//! report it only through unsafe code, and buffer limits do not depend on it.

use crate::cgroup;
use crate::entry::{Api, Class};
use crate::in_use::InUse;
use std::path::Path;

/// The folder in which Linux describes the devices on the PCI bus.
const PCI_DEVICES: &str = "/sys/bus/pci/devices";

/// The memory for an adapter's tensors, in bytes; `None` if the platform does not report it.
///
/// For a card its own memory; for the CPU and software adapters that of the machine or of this
/// process's container (control group). `pci` is an address such as `0000:01:00.0`.
pub fn bytes_of(api: Api, class: Class, pci: Option<&str>) -> Option<u64> {
    if api == Api::Cpu || class == Class::Software {
        return host_bytes();
    }
    card_bytes(Path::new(PCI_DEVICES), class, pci?)
}

/// The file in which Linux describes the memory of the machine.
const MEMINFO: &str = "/proc/meminfo";

/// The memory available to this process: that of the machine, or less if its control groups (a
/// container) limit it.
pub fn host_bytes() -> Option<u64> {
    let machine = total(&std::fs::read_to_string(MEMINFO).ok()?)?;
    let group = cgroup::memory(Path::new("/")).map(|group| group.total);
    Some(group.map_or(machine, |group| machine.min(group)))
}

/// The same, with the part of it that is in use and cannot be allocated without taking it from
/// programs.
pub fn host_in_use() -> Option<InUse> {
    let machine = in_use(&std::fs::read_to_string(MEMINFO).ok()?)?;
    Some(cgroup::memory(Path::new("/")).map_or(machine, |group| machine.within(group)))
}

/// The number of processes of this control group and of the machine that the kernel has killed
/// because memory ran out.
pub fn kills() -> u64 {
    cgroup::kills(Path::new("/"))
}

fn total(meminfo: &str) -> Option<u64> {
    bytes(meminfo, "MemTotal:").filter(|bytes| *bytes > 0)
}

fn in_use(meminfo: &str) -> Option<InUse> {
    let (total, available) = (total(meminfo)?, bytes(meminfo, "MemAvailable:")?);
    Some(InUse { total, used: total.saturating_sub(available) })
}

fn bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The memory of a card, as reported by the amdgpu driver. An integrated card uses a reserved part
/// of the machine's memory and can borrow more.
fn card_bytes(devices: &Path, class: Class, pci: &str) -> Option<u64> {
    // The address comes from a driver and becomes a path.
    let plain = pci.chars().all(|c| c.is_ascii_hexdigit() || c == ':' || c == '.');
    if !plain || pci.contains("..") {
        return None;
    }
    let folder = devices.join(pci);
    let read = |name: &str| -> Option<u64> {
        std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    let own = read("mem_info_vram_total")?;
    let borrowed = if class == Class::Integrated { read("mem_info_gtt_total") } else { None };
    Some(own.saturating_add(borrowed.unwrap_or(0))).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read_or_unknown() {
        let text = "MemFree:  8 kB\nMemTotal:       16384 kB\nSwapTotal: 4 kB\n";
        assert_eq!(total(text), Some(16 << 20));
        for broken in ["", "MemTotal: 0 kB", "MemTotal: 16384", "MemTotal: x kB"] {
            assert_eq!(total(broken), None, "{broken}");
        }
        assert_eq!(total(&format!("MemTotal: {} kB", u64::MAX)), None);
        assert_eq!(in_use(text), None);
        let text = format!("{text}MemAvailable:   6144 kB\n");
        assert_eq!(in_use(&text), Some(InUse { total: 16 << 20, used: 10 << 20 }));
        let group = |total, used| InUse { total, used };
        let machine = group(100, 60);
        assert_eq!(machine.within(group(50, 5)), group(50, 10));
        assert_eq!(machine.within(group(50, 45)), group(50, 45));
        assert_eq!(machine.within(group(200, 5)), group(100, 60));
        let odd = "MemTotal: 1 kB\nMemAvailable: 2 kB\n";
        assert_eq!(in_use(odd), Some(InUse { total: 1024, used: 0 }));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_processor_and_software_have_the_machines_memory() {
        let host = host_bytes().unwrap();
        assert!(host > 64 << 20, "{host}");
        assert_eq!(bytes_of(Api::Cpu, Class::Cpu, None), Some(host));
        assert_eq!(bytes_of(Api::Vulkan, Class::Software, None), Some(host));
        assert_eq!(bytes_of(Api::Vulkan, Class::Discrete, None), None);
    }

    #[test]
    fn a_cards_memory_is_found_by_its_address() {
        let name = format!("concertina-pci-{}", std::process::id());
        let devices = std::env::temp_dir().join(name);
        let folder = devices.join("0000:0a:00.0");
        std::fs::create_dir_all(&folder).unwrap();
        let bytes = |class, pci: &str| card_bytes(&devices, class, pci);
        assert_eq!(bytes(Class::Discrete, "0000:0a:00.0"), None);
        std::fs::write(folder.join("mem_info_vram_total"), "17163091968\n").unwrap();
        std::fs::write(folder.join("mem_info_gtt_total"), "1000\n").unwrap();
        assert_eq!(bytes(Class::Discrete, "0000:0a:00.0"), Some(17_163_091_968));
        assert_eq!(bytes(Class::Integrated, "0000:0a:00.0"), Some(17_163_092_968));
        assert_eq!(bytes(Class::Discrete, "0000:0b:00.0"), None);
        // The path must not leave the folder.
        for odd in ["..", "0000:0a:00.0/../0000:0a:00.0", "", "."] {
            assert_eq!(bytes(Class::Discrete, odd), None, "{odd}");
        }
        std::fs::write(folder.join("mem_info_vram_total"), "0\n").unwrap();
        assert_eq!(bytes(Class::Discrete, "0000:0a:00.0"), None);
        std::fs::remove_dir_all(devices).unwrap();
    }
}
