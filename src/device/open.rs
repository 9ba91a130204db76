//! Opens one adapter on its one graphics API, and hands an opened device to burn.

use crate::list::{adapters, facts_of, instance};
use adapter::entry::{AdapterEntry, Api};
use adapter::identity::{Facts, Platform, api_of, identify};
use burn::tensor::wgpu::WgpuSetup;
use std::sync::Arc;

/// An open device and what it came from. Dropping it closes the device.
#[derive(Debug)]
pub struct Opened {
    pub instance: wgpu::Instance,
    pub adapter: wgpu::Adapter,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub backend: wgpu::Backend,
}

/// Why an adapter could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The CPU is burn's own backend and needs no opening.
    #[error("adapter {id} is not reached through a graphics API")]
    NotGraphics { id: String },
    /// The card or its driver went away, or the id is mistyped.
    #[error("adapter {id} is not there; {}", there(found))]
    NotFound { id: String, found: Vec<String> },
    /// The driver refused.
    #[error("adapter {id} did not open: {message}")]
    Refused { id: String, message: String },
    /// burn cannot use the device.
    #[error("burn did not take the device: {message}")]
    Register { message: String },
}

fn there(found: &[String]) -> String {
    if found.is_empty() {
        return "its graphics API has no adapters".to_owned();
    }
    format!("its graphics API has {}", found.join(", "))
}

/// Opens the adapter with all features that are safe to ask for and its own limits.
///
/// Blocks while the driver loads and opens the device, commonly 10 to 250 ms.
pub fn open(entry: &AdapterEntry) -> Result<Opened, OpenError> {
    open_on(entry.api, &entry.id)
}

/// Like [`open`], for an adapter of which only the id is known.
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
    // Experimental features make drivers that offer them refuse the device, and mapping primary
    // buffers is slow on cards with memory of their own.
    let features = adapter.features()
        - wgpu::Features::MAPPABLE_PRIMARY_BUFFERS
        - wgpu::Features::all_experimental_mask();
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("concertina"),
        required_features: features,
        required_limits: adapter.limits(),
        // burn pools buffers itself; large blocks below it would be held twice.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
        .map_err(|error| OpenError::Refused { id: id.to_owned(), message: error.to_string() })?;
    // wgpu's own handler panics; burn puts its handler here once the device is registered.
    device.on_uncaptured_error(Arc::new(|error| tracing::error!(%error, "device error")));
    Ok((device, queue))
}

/// Gives the device to burn. Run the check and the probe first: burn takes over the device's
/// error callbacks. A device must be registered once only.
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
    fn an_id_that_is_none_is_not_looked_for() {
        let error = open_id("toaster").err().map(|error| error.to_string());
        let expected = "adapter toaster is not there; its graphics API has no adapters";
        assert_eq!(error.as_deref(), Some(expected));
    }
}
