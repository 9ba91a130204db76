//! Runs compute kernels with wgpu alone. Errors are values, and every wait has a timeout.

use std::sync::mpsc;
use std::time::Duration;

/// Time after which the device counts as hung. The slowest software adapter needs some
/// milliseconds, a first shader compilation up to a second.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(10);

/// An error of a kernel run.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("the device reported: {0}")]
    Device(String),
    #[error("the device did not answer within {} s", WAIT_MAX.as_secs())]
    Timeout,
    #[error("failed to read the result back: {0}")]
    Readback(String),
}

/// A device with its queue.
#[derive(Clone, Copy)]
pub(crate) struct Gpu<'a> {
    pub device: &'a wgpu::Device,
    pub queue: &'a wgpu::Queue,
}

/// A compute kernel that reads the buffer at binding 0 and writes the one at binding 1.
pub(crate) struct Kernel {
    layout: wgpu::BindGroupLayout,
    pipeline: wgpu::ComputePipeline,
}

impl Gpu<'_> {
    /// Runs `work` and returns the first error that the device reported during it.
    ///
    /// Without this, wgpu passes device errors to a handler that panics by default.
    pub(super) fn guarded<T>(
        &self,
        work: impl FnOnce() -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let result = work();
        // Scopes are a stack, so they are popped in reverse order.
        let errors = [internal, memory, validation].map(|scope| pollster::block_on(scope.pop()));
        match errors.into_iter().flatten().next() {
            Some(error) => Err(KernelError::Device(one_line(&error.to_string()))),
            None => result,
        }
    }

    pub(super) fn shader(&self, label: &str, source: &str) -> wgpu::ShaderModule {
        self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(label),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        })
    }

    pub(super) fn kernel(&self, shader: &wgpu::ShaderModule, entry: &str) -> Kernel {
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(entry),
            entries: &[layout_entry(0, true), layout_entry(1, false)],
        });
        let outer = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(entry),
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: Some(&outer),
            module: shader,
            entry_point: Some(entry),
            compilation_options: Default::default(),
            cache: None,
        });
        Kernel { layout, pipeline }
    }

    /// A storage buffer of zeros.
    pub(super) fn buffer(&self, bytes: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("concertina check"),
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    }

    /// Dispatches the kernel `times` times in one submission and waits for completion.
    pub(super) fn run(
        &self,
        kernel: &Kernel,
        input: &wgpu::Buffer,
        output: &wgpu::Buffer,
        groups: u32,
        times: u32,
    ) -> Result<(), KernelError> {
        let bindings = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &kernel.layout,
            entries: &[bind(0, input), bind(1, output)],
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&kernel.pipeline);
        pass.set_bind_group(0, &bindings, &[]);
        for _ in 0..times {
            pass.dispatch_workgroups(groups, 1, 1);
        }
        drop(pass);
        self.submit(encoder)
    }

    /// Copies a buffer back to the host, `length` words of 32 bits.
    pub(super) fn read(
        &self,
        buffer: &wgpu::Buffer,
        length: usize,
    ) -> Result<Vec<u32>, KernelError> {
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("concertina readback"),
            size: buffer.size(),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
        let (sender, receiver) = mpsc::channel();
        self.submit(encoder)?;
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver is dropped only if this wait has already failed.
            let _ = sender.send(result);
        });
        self.wait(None)?;
        let mapped = receiver.try_recv().map_err(|_| KernelError::Timeout)?;
        mapped.map_err(|error| KernelError::Readback(error.to_string()))?;
        let view = staging
            .get_mapped_range(..)
            .map_err(|error| KernelError::Readback(error.to_string()))?;
        Ok(bytemuck::pod_collect_to_vec::<u8, u32>(&view).into_iter().take(length).collect())
    }

    fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<(), KernelError> {
        let index = self.queue.submit([encoder.finish()]);
        self.wait(Some(index))
    }

    fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), KernelError> {
        let wait = wgpu::PollType::Wait { submission_index: submission, timeout: Some(WAIT_MAX) };
        match self.device.poll(wait) {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => Err(KernelError::Timeout),
            Err(error) => Err(KernelError::Device(error.to_string())),
        }
    }
}

fn layout_entry(binding: u32, read_only: bool) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}

fn bind(binding: u32, buffer: &wgpu::Buffer) -> wgpu::BindGroupEntry<'_> {
    wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }
}

/// Joins the lines of a device error, for a log line or a table cell.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_errors_become_one_line() {
        assert_eq!(
            one_line("Validation Error\n\nCaused by:\n  x\n"),
            "Validation Error Caused by: x"
        );
    }
}
