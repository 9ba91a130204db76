//! Opens one adapter on its graphics API, and registers an opened device with burn.

use crate::list::{adapters, facts_of, instance};
use adapter::entry::{AdapterEntry, Api};
use adapter::identity::{Facts, Platform, api_of, identify};
use burn::tensor::wgpu::WgpuSetup;
use std::sync::Arc;

/// An open device with its instance and adapter. Dropping it closes the device.
#[derive(Debug)]
pub struct Opened {
    pub instance: wgpu::Instance,
    pub adapter: wgpu::Adapter,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub backend: wgpu::Backend,
}

/// The reason why an adapter could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The CPU is burn's own backend, which is not opened.
    #[error("adapter {id} is not reached through a graphics API")]
    NotGraphics { id: String },
    /// The card or its driver was removed, or the id is wrong.
    #[error("adapter {id} not found; {}", found_text(found))]
    NotFound { id: String, found: Vec<String> },
    /// The driver reported an error.
    #[error("failed to open adapter {id}: {message}")]
    Refused { id: String, message: String },
    /// burn cannot use the device.
    #[error("failed to register the device with burn: {message}")]
    Register { message: String },
}

fn found_text(found: &[String]) -> String {
    if found.is_empty() {
        return "its graphics API has no adapters".to_owned();
    }
    format!("its graphics API has {}", found.join(", "))
}

/// Opens the adapter with its own limits and all features that are safe to request.
///
/// Blocks while the driver loads and opens the device, commonly 10 to 250 ms.
pub fn open(entry: &AdapterEntry) -> Result<Opened, OpenError> {
    open_on(entry.api, &entry.id)
}

/// Like [`open`], for an adapter given only by its id.
pub fn open_id(id: &str) -> Result<Opened, OpenError> {
    let not_found = || OpenError::NotFound { id: id.to_owned(), found: Vec::new() };
    open_on(api_of(id, Platform::current()).ok_or_else(not_found)?, id)
}

fn open_on(api: Api, id: &str) -> Result<Opened, OpenError> {
    if api == Api::Cpu {
        return Err(OpenError::NotGraphics { id: id.to_owned() });
    }
    let instance = instance(api);
    let adapter = find(adapters(&instance, api), id)?;
    let (device, queue) = request(&adapter, id)?;
    let backend = adapter.get_info().backend;
    Ok(Opened { instance, adapter, device, queue, backend })
}

fn find(adapters: Vec<wgpu::Adapter>, id: &str) -> Result<wgpu::Adapter, OpenError> {
    let known = |adapter: wgpu::Adapter| facts_of(&adapter).map(|facts| (facts, adapter));
    let (facts, adapters): (Vec<Facts>, Vec<wgpu::Adapter>) =
        adapters.into_iter().filter_map(known).unzip();
    let found = identify(&facts, Platform::current());
    let adapter = adapters.into_iter().zip(&found).find(|(_, other)| *other == id);
    match adapter {
        Some((adapter, _)) => Ok(adapter),
        None => Err(OpenError::NotFound { id: id.to_owned(), found }),
    }
}

fn request(adapter: &wgpu::Adapter, id: &str) -> Result<(wgpu::Device, wgpu::Queue), OpenError> {
    // Drivers reject devices with experimental features, and mapping of primary buffers is slow on
    // cards with their own memory.
    let features = adapter.features()
        - wgpu::Features::MAPPABLE_PRIMARY_BUFFERS
        - wgpu::Features::all_experimental_mask();
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("concertina"),
        required_features: features,
        required_limits: adapter.limits(),
        // burn pools buffers itself, so large blocks of wgpu would waste memory.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
        .map_err(|error| OpenError::Refused { id: id.to_owned(), message: error.to_string() })?;
    // wgpu's default handler panics; burn replaces this one when the device is registered.
    device.on_uncaptured_error(Arc::new(|error| tracing::error!(%error, "device error")));
    Ok((device, queue))
}

/// Registers the device with burn. Check and probe must run before, since burn replaces the
/// device's error callbacks. A device must be registered only once.
pub fn register(opened: Opened) -> Result<burn::tensor::Device, OpenError> {
    let Opened { instance, adapter, device, queue, backend } = opened;
    let setup = WgpuSetup { instance, adapter, device, queue, backend };
    burn::tensor::Device::wgpu_options()
        .setup(setup)
        .init()
        .map_err(|error| OpenError::Register { message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_not_opened() {
        assert!(matches!(open_id("cpu"), Err(OpenError::NotGraphics { .. })));
    }

    #[test]
    fn invalid_id_is_an_error() {
        let error = open_id("toaster").err().map(|error| error.to_string());
        let expected = "adapter toaster not found; its graphics API has no adapters";
        assert_eq!(error.as_deref(), Some(expected));
    }
}
