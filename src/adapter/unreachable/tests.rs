use super::*;
use crate::test_machines::hybrid_laptop;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A root folder for tests.
struct Tree(PathBuf);

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Tree {
    fn new() -> Tree {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("concertina-cards-{}-{number}", std::process::id());
        Tree(std::env::temp_dir().join(name))
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A display controller, with its kernel driver and render node.
    fn card(&self, address: &str, ids: (&str, &str), driver: Option<&str>, node: Option<&str>) {
        let folder = format!("sys/bus/pci/devices/{address}");
        self.write(&format!("{folder}/class"), "0x030000\n");
        self.write(&format!("{folder}/vendor"), &format!("{}\n", ids.0));
        self.write(&format!("{folder}/device"), &format!("{}\n", ids.1));
        if let Some(driver) = driver {
            let link = self.0.join(&folder).join("driver");
            symlink(format!("../../drivers/{driver}"), link).unwrap();
        }
        if let Some(node) = node {
            self.write(&format!("{folder}/drm/{node}/dev"), "226:128\n");
        }
    }

    fn unlisted(&self, variables: &[(&str, &str)], facts: &[Facts]) -> Vec<AdapterEntry> {
        let variable = |name: &str| {
            let mut all = variables.iter();
            all.find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        // Root may open all files.
        let may_open = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o002 != 0;
        let surroundings = Surroundings { root: &self.0, variable: &variable, may_open: &may_open };
        surroundings.unlisted(facts)
    }

    fn reason(&self, variables: &[(&str, &str)]) -> String {
        let entries = self.unlisted(variables, &[]);
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries[0].reason.clone().unwrap()
    }

    fn close(&self, path: &str) {
        self.set_mode(path, 0o660);
    }

    fn open(&self, path: &str) {
        self.set_mode(path, 0o666);
    }

    fn set_mode(&self, path: &str, mode: u32) {
        let path = self.write(path, "");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

const AMD_CARD: (&str, &str) = ("0x1002", "0x744c");
const NVIDIA_CARD: (&str, &str) = ("0x10de", "0x2860");

#[test]
fn card_with_an_adapter_is_not_listed_again() {
    let tree = Tree::new();
    tree.card("0000:01:00.0", NVIDIA_CARD, Some("nvidia"), None);
    tree.card("0000:00:02.0", ("0x8086", "0xa7a0"), Some("i915"), Some("renderD128"));
    assert_eq!(tree.unlisted(&[], &hybrid_laptop()), []);
    // An older driver does not report the address.
    let without = |facts: Facts| Facts { pci: None, ..facts };
    let facts: Vec<Facts> = hybrid_laptop().into_iter().map(without).collect();
    assert_eq!(tree.unlisted(&[], &facts), []);
    let one = tree.unlisted(&[], &hybrid_laptop()[..1]);
    assert_eq!(one.len(), 1);
    let card = &one[0];
    assert_eq!((card.id.as_str(), card.vendor.as_str()), ("pci-0000:01:00.0", "NVIDIA"));
    assert!(card.unreachable && card.state == Usability::Unused);
    assert_eq!(card.name, "NVIDIA card at 0000:01:00.0 (10de:2860)");
}

#[test]
fn a_node_that_this_user_may_not_open_names_the_group_that_may() {
    let tree = Tree::new();
    tree.card("0000:03:00.0", AMD_CARD, Some("amdgpu"), Some("renderD128"));
    let missing = tree.reason(&[]);
    assert!(missing.contains("/dev/dri/renderD128 is missing"), "{missing}");
    assert!(missing.contains("--device /dev/dri"), "{missing}");
    tree.close("dev/dri/renderD128");
    // The group of the files of this user.
    let (group, _) = owner(&tree.0.join("dev/dri/renderD128")).unwrap();
    tree.write("etc/group", &format!("root:x:0:\nvideo:x:99999:\nrender:x:{group}:\n"));
    let closed = tree.reason(&[]);
    assert!(closed.contains("may not open /dev/dri/renderD128"), "{closed}");
    if group != 0 {
        assert!(closed.contains(&format!("gid {group} (render)")), "{closed}");
        assert!(closed.contains("usermod -aG render"), "{closed}");
    }
}

#[test]
fn a_node_without_a_pci_device_is_a_card_too() {
    let tree = Tree::new();
    tree.close("dev/dri/renderD128");
    tree.open("dev/dri/card0");
    let reason = tree.reason(&[]);
    assert!(reason.contains("may not open /dev/dri/renderD128"), "{reason}");
    assert_eq!(tree.unlisted(&[], &[])[0].id, "card-renderD128");
}

#[test]
fn a_vulkan_driver_that_is_missing_is_named_by_vendor() {
    let tree = Tree::new();
    tree.card("0000:03:00.0", AMD_CARD, Some("amdgpu"), Some("renderD128"));
    tree.open("dev/dri/renderD128");
    tree.write("usr/share/vulkan/icd.d/lvp_icd.x86_64.json", "{}");
    let reason = tree.reason(&[]);
    assert!(reason.contains("no Vulkan driver for AMD") && reason.contains("mesa-vulkan-drivers"));
    let named = tree.reason(&[("VK_ICD_FILENAMES", "/lvp.json")]);
    assert!(named.contains("VK_ICD_FILENAMES"), "{named}");
    tree.write("usr/share/vulkan/icd.d/radeon_icd.x86_64.json", "{}");
    assert!(tree.reason(&[]).contains("does not list it"), "{}", tree.reason(&[]));
}

#[test]
fn missing_graphics_part_of_nvidias_driver_in_a_container_is_reported() {
    let tree = Tree::new();
    tree.card("0000:01:00.0", NVIDIA_CARD, Some("nvidia"), None);
    assert!(tree.reason(&[]).contains("--gpus all"), "{}", tree.reason(&[]));
    tree.write(
        "proc/driver/nvidia/gpus/0000:01:00.0/information",
        "Model: x\nDevice Minor: \t 1\n",
    );
    tree.open("dev/nvidiactl");
    tree.open("dev/nvidia0");
    assert!(tree.reason(&[]).contains("/dev/nvidia1 is missing"), "{}", tree.reason(&[]));
    tree.open("dev/nvidia1");
    for variables in [&[("NVIDIA_DRIVER_CAPABILITIES", "compute,utility")][..], &[]] {
        tree.write(".dockerenv", "");
        let reason = tree.reason(variables);
        assert!(reason.contains("NVIDIA_DRIVER_CAPABILITIES=all"), "{reason}");
    }
    let all = tree.reason(&[("NVIDIA_DRIVER_CAPABILITIES", "all")]);
    assert!(all.contains("no Vulkan driver for NVIDIA"), "{all}");
}

#[test]
fn kernel_drivers_that_are_missing_or_others_are_named() {
    for (driver, node, expected) in [
        (None, None, "no kernel driver"),
        (Some("vfio-pci"), None, "virtual machines"),
        (Some("nouveau"), Some("renderD128"), "install NVIDIA's driver"),
        (Some("simpledrm"), None, "no render node"),
    ] {
        let tree = Tree::new();
        tree.card("0000:01:00.0", NVIDIA_CARD, driver, node);
        tree.open("dev/dri/renderD128");
        let entries = tree.unlisted(&[], &[]);
        let reason = entries[0].reason.clone().unwrap();
        assert!(reason.contains(expected), "{driver:?}: {reason}");
    }
}

#[test]
fn controllers_that_only_drive_displays_are_not_listed() {
    let tree = Tree::new();
    // The graphics of a server board, a network card, and files that contain no numbers.
    tree.card("0000:02:00.0", ("0x1a03", "0x2000"), Some("ast"), None);
    tree.card("0000:04:00.0", AMD_CARD, None, None);
    tree.write("sys/bus/pci/devices/0000:04:00.0/class", "0x020000\n");
    tree.write("sys/bus/pci/devices/0000:05:00.0/class", "display\n");
    tree.write("sys/class/drm/renderD129/x", "");
    assert_eq!(tree.unlisted(&[], &[]), []);
    assert_eq!(Tree::new().unlisted(&[], &[]), []);
}

#[test]
fn missing_vulkan_loader_is_reported_with_the_packages_that_contain_it() {
    let tree = Tree::new();
    assert!(missing_loader_in(&tree.0).unwrap().contains("libvulkan1"));
    tree.write("usr/lib64/libvulkan.so.1", "");
    assert_eq!(missing_loader_in(&tree.0), None);
}
