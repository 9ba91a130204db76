//! Cards of this machine that no graphics API lists, with the probable reason and a remedy. Linux
//! lists them in `/sys/bus/pci/devices` and `/dev/dri`; on other systems graphics APIs list all
//! cards.

use crate::entry::{AdapterEntry, Api, Class, MemoryLimits, Usability};
use crate::identity::{Facts, vendor_name};
use rustix::fs::{Access, access};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// PCI vendors of cards that compute. Others (the graphics of server boards and of virtual
/// machines) only drive displays.
const NVIDIA: u32 = 0x10de;
const AMD: u32 = 0x1002;
const INTEL: u32 = 0x8086;

/// Folders in which Vulkan's loader searches for installed drivers ("Driver Discovery" in its
/// documentation of drivers).
const MANIFESTS: [&str; 4] = [
    "usr/share/vulkan/icd.d",
    "usr/local/share/vulkan/icd.d",
    "etc/vulkan/icd.d",
    "usr/lib/x86_64-linux-gnu/GL/vulkan/icd.d",
];

/// Folders in which the dynamic linker of Linux distributions finds the Vulkan loader.
const LIBRARIES: [&str; 6] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/local/lib",
    "run/opengl-driver/lib",
];

/// Remedy for a machine without the Vulkan loader.
const NO_LOADER: &str = "the Vulkan loader (libvulkan.so.1) is not installed; install libvulkan1 and \
                         mesa-vulkan-drivers (Debian, Ubuntu), vulkan-loader (Fedora) or \
                         vulkan-icd-loader (Arch), and the driver of the card";

/// Returns a remedy if the Vulkan loader, through which all graphics cards are used, is missing.
pub fn missing_loader() -> Option<&'static str> {
    missing_loader_in(Path::new("/"))
}

fn missing_loader_in(root: &Path) -> Option<&'static str> {
    let is_there = |folder: &&str| root.join(folder).join("libvulkan.so.1").exists();
    (!LIBRARIES.iter().any(is_there)).then_some(NO_LOADER)
}

/// Variables that name the drivers explicitly.
const NAMED_DRIVERS: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

/// A card as listed by the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ListedCard {
    /// `None` for a device file that belongs to no PCI device.
    pci: Option<String>,
    vendor: u32,
    device: u32,
    /// The kernel driver that is bound to it.
    driver: Option<String>,
    /// The name of its render node in `/dev/dri`.
    node: Option<String>,
}

/// The surroundings of the process.
struct Surroundings<'a> {
    root: &'a Path,
    /// The value of a variable of the environment.
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// True if this user may read and write the file.
    may_open: &'a dyn Fn(&Path) -> bool,
}

/// The cards that no adapter in `facts` represents.
#[allow(clippy::disallowed_methods, reason = "variables of Vulkan's loader are not settings")]
pub fn cards(facts: &[Facts]) -> Vec<AdapterEntry> {
    let surroundings = Surroundings {
        root: Path::new("/"),
        variable: &|name| std::env::var(name).ok(),
        may_open: &|path| access(path, Access::READ_OK | Access::WRITE_OK).is_ok(),
    };
    surroundings.unlisted(facts)
}

impl Surroundings<'_> {
    fn unlisted(&self, facts: &[Facts]) -> Vec<AdapterEntry> {
        let cards = self.cards();
        let unlisted = cards.iter().filter(|card| !facts.iter().any(|facts| card.is(facts)));
        unlisted.map(|card| card.entry(self.reason(card))).collect()
    }

    /// Cards on the PCI bus, then render nodes without a PCI device (in a container, or on a
    /// board).
    fn cards(&self) -> Vec<ListedCard> {
        let mut cards: Vec<ListedCard> = names(&self.path("sys/bus/pci/devices"))
            .into_iter()
            .filter_map(|address| self.controller(address))
            .collect();
        for node in names(&self.path("dev/dri")) {
            let is_known = cards.iter().any(|card| card.node.as_ref() == Some(&node));
            if node.starts_with("renderD") && !is_known {
                cards.extend(self.loose(node));
            }
        }
        cards
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A display controller of a vendor of cards that compute.
    fn controller(&self, address: String) -> Option<ListedCard> {
        let folder = self.path("sys/bus/pci/devices").join(&address);
        let is_display = number(&folder.join("class"))? >> 16 == 0x03;
        let vendor = number(&folder.join("vendor"))?;
        if !is_display || ![NVIDIA, AMD, INTEL].contains(&vendor) {
            return None;
        }
        let nodes = names(&folder.join("drm"));
        Some(ListedCard {
            pci: Some(address),
            vendor,
            device: number(&folder.join("device")).unwrap_or_default(),
            driver: link(&folder.join("driver")),
            node: nodes.into_iter().find(|name| name.starts_with("renderD")),
        })
    }

    /// A render node that belongs to no display controller; `None` for the nodes of drivers that
    /// only drive displays.
    fn loose(&self, node: String) -> Option<ListedCard> {
        let device = self.path("sys/class/drm").join(&node).join("device");
        let driver = link(&device.join("driver"));
        if driver.as_deref().is_some_and(|driver| ["vgem", "vkms"].contains(&driver)) {
            return None;
        }
        let vendor = number(&device.join("vendor")).unwrap_or_default();
        let number = number(&device.join("device")).unwrap_or_default();
        Some(ListedCard { pci: None, vendor, device: number, driver, node: Some(node) })
    }

    /// The reason why no graphics API lists a card, and a remedy.
    fn reason(&self, card: &ListedCard) -> String {
        match card.driver.as_deref() {
            None if card.pci.is_some() => format!(
                "no kernel driver is bound to it; install the driver of {}",
                vendor_name(card.vendor)
            ),
            Some("vfio-pci") => "it is reserved for virtual machines (vfio-pci); bind it to its \
                                 driver to use it here"
                .to_owned(),
            Some("nvidia") => {
                self.closed_files(&self.nvidia_files(card)).unwrap_or_else(|| self.nvidia())
            }
            driver => self.open_reason(card, driver),
        }
    }

    /// The reason for a card with a driver that offers render nodes.
    fn open_reason(&self, card: &ListedCard, driver: Option<&str>) -> String {
        let Some(node) = &card.node else {
            let driver = driver.unwrap_or("of the kernel");
            return format!(
                "its kernel driver ({driver}) offers no render node; update the kernel"
            );
        };
        if let Some(closed) = self.closed_files(&[format!("dev/dri/{node}")]) {
            return closed;
        }
        if driver == Some("nouveau") {
            return "it runs with nouveau, and the Vulkan driver of nouveau does not list it; install \
                    NVIDIA's driver"
                .to_owned();
        }
        self.no_vulkan(card)
    }

    /// The reason if device files are missing or closed to this user.
    fn closed_files(&self, files: &[String]) -> Option<String> {
        let missing = |file: &&String| !self.path(file).exists();
        if let Some(file) = files.iter().find(missing) {
            let nvidia = file.contains("nvidia");
            let option = if nvidia { "--gpus all" } else { "--device /dev/dri" };
            return Some(format!("/{file} is missing; start the container with {option}"));
        }
        let closed = files.iter().find(|file| !(self.may_open)(&self.path(file)))?;
        Some(format!("this user may not open /{closed}{}", self.remedy(&self.path(closed))))
    }

    /// A remedy for a file that this user may not open.
    fn remedy(&self, file: &Path) -> String {
        let Some((group, mode)) = owner(file) else { return String::new() };
        // Bits of the group: to read and to write.
        if mode & 0o060 != 0o060 || group == 0 {
            return format!(" (mode {:04o}); let it read and write the file", mode & 0o7777);
        }
        let name = self.group_name(group);
        let named = name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        let user = name.unwrap_or_else(|| group.to_string());
        format!(
            ", gid {group}{named} may; add it to the group (usermod -aG {user} USER, or --group-add \
             {group} for a container)"
        )
    }

    fn group_name(&self, group: u32) -> Option<String> {
        let text = std::fs::read_to_string(self.path("etc/group")).ok()?;
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, fields.nth(1)?);
            (id.parse() == Ok(group)).then(|| name.to_owned())
        })
    }

    /// The files that NVIDIA's driver opens for a card.
    fn nvidia_files(&self, card: &ListedCard) -> [String; 2] {
        let pci = card.pci.as_deref().unwrap_or_default();
        let text = self.path("proc/driver/nvidia/gpus").join(pci).join("information");
        let text = std::fs::read_to_string(text).unwrap_or_default();
        let minor = text.lines().find_map(|line| line.strip_prefix("Device Minor:"));
        let minor = minor.map_or("0", str::trim);
        ["dev/nvidiactl".to_owned(), format!("dev/nvidia{minor}")]
    }

    fn nvidia(&self) -> String {
        let capabilities = (self.variable)("NVIDIA_DRIVER_CAPABILITIES");
        let is_container =
            ["run/.containerenv", ".dockerenv"].iter().any(|file| self.path(file).exists());
        let grants = |all: &String| all.split(',').any(|one| ["all", "graphics"].contains(&one));
        let lacks = match &capabilities {
            Some(all) => !grants(all),
            // The container toolkit grants "utility,compute" by default.
            None => is_container && !self.has_manifest(&["nvidia"]),
        };
        if lacks {
            let value = capabilities.unwrap_or_else(|| "not set".to_owned());
            return format!(
                "the container lacks the graphics part of the driver (NVIDIA_DRIVER_CAPABILITIES: \
                 {value}); set NVIDIA_DRIVER_CAPABILITIES=all"
            );
        }
        self.no_vulkan(&ListedCard { vendor: NVIDIA, ..ListedCard::default() })
    }

    /// The reason if the device files are accessible.
    fn no_vulkan(&self, card: &ListedCard) -> String {
        let vendor = match card.vendor {
            0 => "it".to_owned(),
            vendor => vendor_name(vendor),
        };
        if let Some(name) = NAMED_DRIVERS.into_iter().find(|name| (self.variable)(name).is_some()) {
            return format!("no Vulkan driver that {name} names lists it; add that of {vendor}");
        }
        let (names, package): (&[&str], &str) = match card.vendor {
            NVIDIA => (&["nvidia"], "the driver of NVIDIA with its part for graphics"),
            AMD => (&["radeon", "amd"], "mesa-vulkan-drivers (Arch: vulkan-radeon)"),
            INTEL => (&["intel"], "mesa-vulkan-drivers (Arch: vulkan-intel)"),
            _ => (&[""], "mesa-vulkan-drivers"),
        };
        if self.has_manifest(names) {
            return format!(
                "the Vulkan driver of {vendor} does not list it; `vulkaninfo --summary` has details"
            );
        }
        format!("no Vulkan driver for {vendor} is installed; install {package}")
    }

    /// True if a Vulkan driver is installed with a file name that begins with one of these
    /// prefixes.
    fn has_manifest(&self, begins: &[&str]) -> bool {
        let files = MANIFESTS.iter().flat_map(|folder| names(&self.path(folder)));
        let mut hardware = files.filter(|file| !file.starts_with("lvp"));
        hardware.any(|file| begins.iter().any(|begin| file.starts_with(begin)))
    }
}

impl ListedCard {
    /// True if an adapter represents this card. Without an address of both, vendor and device are
    /// compared; if neither has one, the adapter is that of a board without PCI.
    fn is(&self, facts: &Facts) -> bool {
        let is_hardware = !matches!(facts.class, Class::Software | Class::Cpu);
        let is_same = match (&self.pci, &facts.pci) {
            (Some(own), Some(other)) => own == other,
            (Some(_), None) => (self.vendor, self.device) == (facts.vendor_id, facts.device_id),
            (None, Some(_)) => {
                self.vendor != 0 && (self.vendor, self.device) == (facts.vendor_id, facts.device_id)
            }
            (None, None) => true,
        };
        is_hardware && facts.api != Api::Gl && is_same
    }

    fn entry(&self, reason: String) -> AdapterEntry {
        let vendor = match self.vendor {
            0 => "unknown".to_owned(),
            vendor => vendor_name(vendor),
        };
        let place = self.pci.clone().or_else(|| self.node.clone()).unwrap_or_default();
        let id = self.pci.as_ref().map_or(format!("card-{place}"), |pci| format!("pci-{pci}"));
        let name = match self.vendor {
            0 => format!("Card at {place}"),
            _ => format!("{vendor} card at {place} ({:04x}:{:04x})", self.vendor, self.device),
        };
        AdapterEntry {
            id,
            name,
            api: Api::Vulkan,
            class: Class::Other,
            vendor,
            vendor_id: self.vendor,
            device_id: self.device,
            pci: self.pci.clone(),
            driver: self.driver.clone().unwrap_or_default(),
            driver_info: String::new(),
            memory: MemoryLimits::default(),
            memory_bytes: None,
            state: Usability::Unused,
            reason: Some(reason),
            fallback: false,
            bridge: false,
            unreachable: true,
            probe: None,
        }
    }
}

/// Names in a folder, in order; none if it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// A number such as `0x10de` in a file of sysfs.
fn number(file: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(file).ok()?;
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

/// The file name of a link's target.
fn link(link: &Path) -> Option<String> {
    std::fs::read_link(link).ok()?.file_name()?.to_str().map(str::to_owned)
}

/// Group and mode of a file.
fn owner(file: &Path) -> Option<(u32, u32)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.gid(), metadata.mode()))
}

#[cfg(test)]
mod tests;
