//! Bytes 0..255 as floats 0..1, on the device: images are sent and uploaded as bytes.
//!
//! On wgpu devices that compile WGSL, a custom kernel (`shaders/normalise_u8.wgsl`) runs on burn
//! tensors; other devices use burn's own operations. Both are registered as one burn operation, so
//! that burn's fusion can order it among others.

use crate::convert::device_error;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::wgpu::{
    CubeBackend, CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous,
};
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::cubecl::prelude::KernelId;
use burn::cubecl::server::KernelArguments;
use burn::cubecl::{CubeCount, CubeDim};
use burn::tensor::{Bytes as BurnBytes, DType, Device, FloatDType, Int, Shape, Tensor, TensorData};
use model::ModelError;

/// Bytes in one word on the device.
const BYTES_PER_WORD: usize = 4;
/// Invocations of a workgroup; must equal the number in the shader.
const WORKGROUP: u32 = 64;
/// Most workgroups along one axis that every wgpu device supports.
const WORKGROUPS_MAX: u32 = 65_535;

/// SPIR-V and MSL devices reject WGSL, and cubecl chooses between them.
const WGSL: bool = !cfg!(any(feature = "spirv", feature = "metal"));

/// Divides each byte by 255 on the device. The result is flat and in the order of the bytes.
///
/// # Errors
/// [`ModelError::Device`] if the bytes cannot be uploaded to the device.
pub fn normalise_u8(bytes: &[u8], device: &Device) -> Result<Tensor<1>, ModelError> {
    let words = upload(bytes, device)?;
    let floats = Tensor::<1>::from_dispatch(Dispatch::normalise_words(words.into_dispatch()));
    // The last word may be padded.
    Ok(if bytes.len().is_multiple_of(BYTES_PER_WORD) {
        floats
    } else {
        floats.narrow(0, 0, bytes.len())
    })
}

fn upload(bytes: &[u8], device: &Device) -> Result<Tensor<1, Int>, ModelError> {
    let words = bytes.len().div_ceil(BYTES_PER_WORD);
    let mut filled = bytes.to_vec();
    filled.resize(words * BYTES_PER_WORD, 0);
    let data = TensorData::try_from_bytes(BurnBytes::from_bytes_vec(filled), [words], DType::U32);
    Ok(Tensor::from_data(data.map_err(device_error)?, (device, DType::U32)))
}

/// The operation for burn's backends.
#[backend_extension(Cube, Flex, Fusion)]
pub trait NormaliseOps: Backend {
    /// Four floats for each 32-bit word, from its lowest byte up.
    #[fusion(dtype = DType::F32, shape = unpacked(words))]
    fn normalise_words(words: IntTensor<Self>) -> FloatTensor<Self>;
}

fn unpacked(words: &Shape) -> Shape {
    Shape::from([words.num_elements() * BYTES_PER_WORD])
}

impl NormaliseOps for Flex {
    fn normalise_words(words: IntTensor<Self>) -> FloatTensor<Self> {
        plain::<Self>(words)
    }
}

impl NormaliseOps for CubeBackend {
    fn normalise_words(words: IntTensor<Self>) -> FloatTensor<Self> {
        if WGSL { launch(words) } else { plain::<Self>(words) }
    }
}

/// The same operation, made of burn's own operations.
fn plain<B: Backend>(words: IntTensor<B>) -> FloatTensor<B> {
    let length = words.shape().num_elements();
    let byte = |at: usize| {
        let shift = i64::try_from(8 * at).unwrap_or_default();
        let shifted = B::bitwise_right_shift_scalar(words.clone(), shift.into());
        B::int_reshape(B::bitwise_and_scalar(shifted, 255i64.into()), Shape::from([length, 1]))
    };
    let bytes = B::int_cat((0..BYTES_PER_WORD).map(byte).collect(), 1);
    let bytes = B::int_reshape(bytes, Shape::from([length * BYTES_PER_WORD]));
    B::float_div_scalar(B::int_into_float(bytes, FloatDType::F32), 255f64.into())
}

struct Shader;

impl KernelSource for Shader {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(include_str!("../../shaders/normalise_u8.wgsl"))
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>()
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

fn launch(words: CubeTensor) -> CubeTensor {
    let words = into_contiguous(words);
    let (client, device) = (words.client.clone(), words.device.clone());
    let length = words.shape().num_elements();
    let shape = Shape::from([length * BYTES_PER_WORD]);
    let buffer = client.empty(length * BYTES_PER_WORD * size_of::<f32>());
    let output = CubeTensor::new_contiguous(client.clone(), device, shape, buffer, DType::F32);
    let kernel = SourceKernel::new(Shader, CubeDim::new_1d(WORKGROUP));
    let buffers = vec![words.handle.binding(), output.handle.clone().binding()];
    let arguments = KernelArguments::new().with_buffers(buffers);
    client.launch(Box::new(kernel), workgroups(length), arguments);
    output
}

/// Workgroups with one invocation for each word, over two axes if one is too short.
fn workgroups(words: usize) -> CubeCount {
    let groups = u32::try_from(words.div_ceil(WORKGROUP as usize)).unwrap_or(u32::MAX);
    let x = groups.clamp(1, WORKGROUPS_MAX);
    CubeCount::Static(x, groups.div_ceil(x), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::DeviceKind;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + at / 256) as u8).collect()
    }

    /// Checks that every byte at every length gives the same result as on the host.
    fn check(device: &Device) {
        for length in [1, 3, 4, 256, 784, 1021, 64 * 4 + 1] {
            let bytes = bytes(length);
            let floats = normalise_u8(&bytes, device).unwrap();
            assert_eq!(floats.dims(), [length]);
            let floats = floats.try_into_data().unwrap();
            for (float, byte) in floats.as_slice::<f32>().unwrap().iter().zip(&bytes) {
                assert!((float - f32::from(*byte) / 255.0).abs() <= 1e-6, "{float} {byte}");
            }
        }
    }

    #[test]
    fn plain_operation_divides_by_255() {
        check(&Device::flex());
    }

    #[test]
    fn long_images_spread_over_two_axes() {
        let covered = |words: usize| match workgroups(words) {
            CubeCount::Static(x, y, 1) if x <= WORKGROUPS_MAX && y <= WORKGROUPS_MAX => {
                u64::from(x) * u64::from(y) * u64::from(WORKGROUP)
            }
            _ => panic!("{words} words"),
        };
        for words in [1, 64, 65, 4_194_240, 4_194_241, 1 << 28] {
            assert!(covered(words) >= words as u64, "{words}");
        }
    }

    /// Returns true if a Vulkan driver offers a software adapter on this machine.
    fn has_software_adapter() -> bool {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::VULKAN;
        let instance = wgpu::Instance::new(descriptor);
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
        adapters.iter().any(|adapter| adapter.get_info().device_type == wgpu::DeviceType::Cpu)
    }

    #[test]
    fn kernel_agrees_with_the_plain_operation() {
        if !has_software_adapter() {
            eprintln!("skipped: no software Vulkan adapter on this machine");
            return;
        }
        let device = Device::wgpu(DeviceKind::Cpu);
        check(&device);
        // The kernel among burn's own operations, in a fused stream.
        let image = bytes(784);
        let sum = |device: &Device| {
            let floats = normalise_u8(&image, device).unwrap() * 2.0 + 1.0;
            floats.sum().try_into_data().unwrap().as_slice::<f32>().unwrap()[0]
        };
        assert!((sum(&device) - sum(&Device::flex())).abs() < 1e-2);
    }
}
