//! Readings of the worker's card from NVIDIA's management library.
//!
//! Only workers use the library, since it opens the driver, which the serving process never does.
//! It is loaded if the card is NVIDIA's; if it is not installed, no readings are sent.

use adapter::entry::AdapterEntry;
use adapter::sensors::Reading;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::{Device, Nvml};
use std::time::Duration;
use wire::FromWorker;
use wire::client::WorkerSender;

/// PCI vendor number of NVIDIA.
const NVIDIA: u32 = 0x10de;
/// Time between two readings.
const INTERVAL: Duration = Duration::from_secs(1);

/// Sends readings of the card to the server until the worker ends, if the card is NVIDIA's.
pub(super) fn follow(entry: &AdapterEntry, sender: WorkerSender) {
    let Some(pci) = entry.pci.clone().filter(|_| entry.vendor_id == NVIDIA) else { return };
    let thread = std::thread::Builder::new().name("nvml".into());
    let spawned = thread.spawn(move || {
        if let Err(error) = report(&pci, &sender) {
            tracing::debug!("failed to read the card's sensors: {error}");
        }
    });
    if let Err(error) = spawned {
        tracing::warn!("failed to read the card's sensors: {error}");
    }
}

fn report(pci: &str, sender: &WorkerSender) -> anyhow::Result<()> {
    let nvml = Nvml::init()?;
    // The address identifies the card: NVML's order of devices need not be that of Vulkan.
    let device = nvml.device_by_pci_bus_id(pci)?;
    loop {
        let reading = read(&device);
        if reading.is_empty() {
            // A card that answers no query at first is not polled for the life of the worker.
            return Ok(());
        }
        sender.send(FromWorker::Reading(reading))?;
        std::thread::sleep(INTERVAL);
    }
}

/// Reads all values; a value that the card does not support is `None`.
fn read(device: &Device<'_>) -> Reading {
    let memory = device.memory_info().ok();
    let celsius = device.temperature(TemperatureSensor::Gpu).ok();
    Reading {
        // NVML reports percent and milliwatts; `Reading` has shares of 1 and watts.
        utilisation: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 1e2),
        power_watts: device.power_usage().ok().map(|milli| f64::from(milli) / 1e3),
        temperature_celsius: celsius.map(f64::from),
        memory_used_bytes: memory.as_ref().map(|memory| memory.used),
        memory_total_bytes: memory.as_ref().map(|memory| memory.total),
        // The worker has opened the card, which keeps it out of its low-power state.
        asleep: false,
        source: "nvml".to_owned(),
    }
}
