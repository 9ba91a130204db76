//! Readings of a card from Linux without a driver library: power, temperature, utilisation, memory.
//!
//! Files in sysfs by PCI address: `gpu_busy_percent` and `mem_info_vram_*` of amdgpu, and the
//! kernel's hardware monitors (`Documentation/hwmon/sysfs-interface.rst`: `power1_average` or
//! `power1_input` in microwatts, `energy1_input` in microjoules, `temp1_input` in thousandths of a
//! degree), which amdgpu, i915 and xe have. A suspended card is not read, since reading a monitor
//! would wake it.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder in which Linux describes the devices on the PCI bus.
const PCI_DEVICES: &str = "/sys/bus/pci/devices";

/// The current readings of a card. `None` means unknown, which differs from 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Share of the time that the card was busy with any program, between 0 and 1.
    pub utilisation: Option<f64>,
    /// Power of the whole card.
    pub power_watts: Option<f64>,
    pub temperature_celsius: Option<f64>,
    /// The card's own memory in use by all programs.
    pub memory_used_bytes: Option<u64>,
    pub memory_total_bytes: Option<u64>,
    /// True if the card is in a low-power state and was not woken for the reading.
    pub asleep: bool,
    /// The source: the kernel's driver (`amdgpu`, `i915`, …), or `nvml`.
    pub source: String,
}

impl Reading {
    /// True without any reading.
    pub fn is_empty(&self) -> bool {
        let readings = [self.utilisation, self.power_watts, self.temperature_celsius];
        let bytes = [self.memory_used_bytes, self.memory_total_bytes];
        !self.asleep && readings.iter().all(Option::is_none) && bytes.iter().all(Option::is_none)
    }
}

/// A card that is read periodically.
#[derive(Debug)]
pub struct SensorCard {
    folder: PathBuf,
    /// The last value of the energy counter in microjoules, and its time.
    energy: Option<(u64, Duration)>,
}

impl SensorCard {
    /// The card with this PCI address, such as `0000:01:00.0`. `None` if the address is invalid.
    pub fn at(pci: &str) -> Option<SensorCard> {
        SensorCard::in_folder(Path::new(PCI_DEVICES), pci)
    }

    fn in_folder(devices: &Path, pci: &str) -> Option<SensorCard> {
        // The address comes from a driver and becomes a path.
        let plain = pci.chars().all(|c| c.is_ascii_hexdigit() || c == ':' || c == '.');
        let safe = plain && !pci.contains("..") && pci.contains(':');
        safe.then(|| SensorCard { folder: devices.join(pci), energy: None })
    }

    /// The readings at the time `now` since the server's start; `None` if there are none.
    pub fn read(&mut self, now: Duration) -> Option<Reading> {
        let source = self.driver()?;
        if text(&self.folder.join("power/runtime_status")).as_deref() == Some("suspended") {
            self.energy = None;
            return Some(Reading { asleep: true, source, ..Reading::default() });
        }
        let monitor = monitor(&self.folder);
        let number = |name: &str| number(&monitor.as_ref()?.join(name));
        let power = number("power1_average").or_else(|| number("power1_input"));
        let energy = number("energy1_input");
        let reading = Reading {
            utilisation: self.own("gpu_busy_percent").map(|percent| percent.min(100) as f64 / 1e2),
            power_watts: power.map(|micro| micro as f64 / 1e6).or(self.spent(energy, now)),
            temperature_celsius: number("temp1_input").map(|milli| milli as f64 / 1e3),
            memory_used_bytes: self.own("mem_info_vram_used"),
            memory_total_bytes: self.own("mem_info_vram_total").filter(|bytes| *bytes > 0),
            asleep: false,
            source,
        };
        Some(reading).filter(|reading| !reading.is_empty())
    }

    /// The name of the kernel's driver; `None` if the card has none.
    fn driver(&self) -> Option<String> {
        let link = fs::read_link(self.folder.join("driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    fn own(&self, name: &str) -> Option<u64> {
        number(&self.folder.join(name))
    }

    /// Average power in watts since the last reading, from an energy counter.
    fn spent(&mut self, energy: Option<u64>, now: Duration) -> Option<f64> {
        let last = std::mem::replace(&mut self.energy, energy.map(|energy| (energy, now)));
        let ((before, then), energy) = last.zip(energy)?;
        let seconds = now.checked_sub(then)?.as_secs_f64();
        // A counter that was reset gives no value.
        let micro = energy.checked_sub(before)?;
        (seconds > 0.0).then(|| micro as f64 / 1e6 / seconds)
    }
}

/// The folder of the card's hardware monitor; the first if it has several.
fn monitor(folder: &Path) -> Option<PathBuf> {
    let found = fs::read_dir(folder.join("hwmon")).ok()?;
    found.filter_map(|entry| Some(entry.ok()?.path())).min()
}

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A card in a folder of its own, removed at the end.
    struct Devices(PathBuf);

    impl Devices {
        fn new(name: &str, driver: &str) -> Devices {
            let name = format!("concertina-sensors-{}-{name}", std::process::id());
            let devices = Devices(std::env::temp_dir().join(name));
            fs::create_dir_all(devices.0.join("0000:03:00.0/power")).unwrap();
            symlink(format!("../../{driver}"), devices.0.join("0000:03:00.0/driver")).unwrap();
            devices
        }

        fn write(&self, name: &str, value: &str) {
            let path = self.0.join("0000:03:00.0").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }

        fn card(&self) -> SensorCard {
            SensorCard::in_folder(&self.0, "0000:03:00.0").unwrap()
        }
    }

    impl Drop for Devices {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn amdgpu_reports_all_readings() {
        let devices = Devices::new("amd", "amdgpu");
        for (name, value) in [
            ("power/runtime_status", "active"),
            ("gpu_busy_percent", "37"),
            ("mem_info_vram_used", "1000"),
            ("mem_info_vram_total", "4000"),
            ("hwmon/hwmon4/power1_average", "33500000"),
            ("hwmon/hwmon4/temp1_input", "51000"),
        ] {
            devices.write(name, value);
        }
        let expected = Reading {
            utilisation: Some(0.37),
            power_watts: Some(33.5),
            temperature_celsius: Some(51.0),
            memory_used_bytes: Some(1000),
            memory_total_bytes: Some(4000),
            asleep: false,
            source: "amdgpu".to_owned(),
        };
        assert_eq!(devices.card().read(SECOND), Some(expected));
    }

    #[test]
    fn a_sleeping_card_is_not_read() {
        let devices = Devices::new("asleep", "amdgpu");
        devices.write("power/runtime_status", "suspended");
        devices.write("gpu_busy_percent", "37");
        let reading = devices.card().read(SECOND).unwrap();
        assert_eq!((reading.asleep, reading.utilisation), (true, None));
    }

    #[test]
    fn a_counter_of_energy_gives_power_from_the_second_reading_on() {
        let devices = Devices::new("intel", "i915");
        let mut card = devices.card();
        devices.write("hwmon/hwmon1/energy1_input", "5000000");
        assert_eq!(card.read(SECOND), None);
        devices.write("hwmon/hwmon1/energy1_input", "65000000");
        let reading = card.read(3 * SECOND).unwrap();
        assert_eq!((reading.power_watts, &reading.source[..]), (Some(30.0), "i915"));
        devices.write("hwmon/hwmon1/energy1_input", "1");
        assert_eq!(card.read(4 * SECOND), None);
    }

    #[test]
    fn missing_readings_are_unknown() {
        let devices = Devices::new("bare", "vfio-pci");
        assert_eq!(devices.card().read(SECOND), None);
        devices.write("gpu_busy_percent", "many");
        assert_eq!(devices.card().read(SECOND), None);
        for odd in ["", "..", "0000:03:00.0/..", "/etc", "3"] {
            assert!(SensorCard::in_folder(&devices.0, odd).is_none(), "{odd}");
        }
        assert_eq!(SensorCard::in_folder(&devices.0, "0000:04:00.0").unwrap().read(SECOND), None);
    }
}
