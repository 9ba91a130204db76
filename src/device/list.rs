//! The listing of the machine's adapters through wgpu. It loads every graphics driver, so it must
//! never be called in the serving process.

use adapter::entry::{AdapterEntry, Api, Class, MemoryLimits};
use adapter::identity::Facts;
use adapter::memory;
use adapter::select::{Rules, select};

/// All adapters of the machine and its CPU, used or not, with the reason; then the cards that no
/// graphics API lists.
pub fn list(rules: &Rules) -> Vec<AdapterEntry> {
    let mut facts = enumerate();
    facts.push(cpu_facts());
    let mut entries = select(&facts, rules);
    #[cfg(target_os = "linux")]
    entries.extend(adapter::unreachable::cards(&facts));
    entries
}

/// The adapters that the drivers of all graphics APIs report.
pub fn enumerate() -> Vec<Facts> {
    // One API after the other, each with its own instance, because some loaders crash if two Vulkan
    // instances are created at the same time.
    [Api::Metal, Api::Dx12, Api::Vulkan, Api::Gl].into_iter().flat_map(enumerate_api).collect()
}

fn enumerate_api(api: Api) -> Vec<Facts> {
    let adapters = adapters(&instance(api), api);
    adapters.iter().filter_map(facts_of).collect()
}

/// A wgpu instance for this API only; for [`Api::Cpu`] it has no backend.
pub(crate) fn instance(api: Api) -> wgpu::Instance {
    // Without this flag drivers without conformance tests are hidden. All adapters must be listed;
    // the known-answer check detects wrong results.
    let flags = wgpu::InstanceFlags::from_build_config()
        | wgpu::InstanceFlags::ALLOW_UNDERLYING_NONCOMPLIANT_ADAPTER;
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: backends(api),
        flags,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

/// The adapters of one API in the driver's order.
pub(crate) fn adapters(instance: &wgpu::Instance, api: Api) -> Vec<wgpu::Adapter> {
    pollster::block_on(instance.enumerate_adapters(backends(api)))
}

fn backends(api: Api) -> wgpu::Backends {
    match api {
        Api::Vulkan => wgpu::Backends::VULKAN,
        Api::Metal => wgpu::Backends::METAL,
        Api::Dx12 => wgpu::Backends::DX12,
        Api::Gl => wgpu::Backends::GL,
        Api::Cpu => wgpu::Backends::empty(),
    }
}

/// The facts of one adapter; `None` for a backend that is not supported.
pub(crate) fn facts_of(adapter: &wgpu::Adapter) -> Option<Facts> {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let (api, class) = (api_of(info.backend)?, class_of(info.device_type));
    let pci = Some(info.device_pci_bus_id).filter(|address| !address.is_empty());
    Some(Facts {
        api,
        class,
        name: info.name,
        vendor_id: info.vendor,
        device_id: info.device,
        memory_bytes: memory::bytes_of(api, class, pci.as_deref()),
        pci,
        driver: info.driver,
        driver_info: info.driver_info,
        memory: MemoryLimits {
            max_buffer_bytes: limits.max_buffer_size,
            max_storage_binding_bytes: limits.max_storage_buffer_binding_size,
            max_workgroup_storage_bytes: u64::from(limits.max_compute_workgroup_storage_size),
        },
    })
}

fn api_of(backend: wgpu::Backend) -> Option<Api> {
    match backend {
        wgpu::Backend::Vulkan => Some(Api::Vulkan),
        wgpu::Backend::Metal => Some(Api::Metal),
        wgpu::Backend::Dx12 => Some(Api::Dx12),
        wgpu::Backend::Gl => Some(Api::Gl),
        wgpu::Backend::Noop | wgpu::Backend::BrowserWebGpu => None,
    }
}

fn class_of(kind: wgpu::DeviceType) -> Class {
    match kind {
        wgpu::DeviceType::DiscreteGpu => Class::Discrete,
        wgpu::DeviceType::IntegratedGpu => Class::Integrated,
        wgpu::DeviceType::VirtualGpu => Class::Virtual,
        wgpu::DeviceType::Cpu => Class::Software,
        wgpu::DeviceType::Other => Class::Other,
    }
}

/// The processor as burn's CPU backend uses it. Loads no driver.
pub fn cpu_facts() -> Facts {
    let memory_bytes = memory::host_bytes();
    let memory = memory_bytes.unwrap_or(0);
    Facts {
        api: Api::Cpu,
        class: Class::Cpu,
        name: processor_name(),
        vendor_id: 0,
        device_id: 0,
        pci: None,
        driver: "burn-flex".to_owned(),
        driver_info: String::new(),
        memory: MemoryLimits {
            max_buffer_bytes: memory,
            max_storage_binding_bytes: memory,
            max_workgroup_storage_bytes: 0,
        },
        memory_bytes,
    }
}

/// The name of the processor from the kernel, otherwise its architecture.
fn processor_name() -> String {
    let named = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        field(&text, "model name").or_else(|| field(&text, "Model")).map(str::to_owned)
    });
    named.unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH))
}

/// The value of the first line `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        let value = value.trim();
        (key.trim() == name && !value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 85\nmodel name\t: Some CPU @ 2.00GHz\nMemTotal:   16 kB\nempty:\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2.00GHz"));
        assert_eq!(field(text, "MemTotal"), Some("16 kB"));
        assert_eq!(field(text, "empty"), None);
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn the_processor_always_has_a_name() {
        assert!(!cpu_facts().name.is_empty());
    }
}
