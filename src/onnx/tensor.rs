//! Tensors of burn without a rank in their type, and their operations.
//!
//! burn's own operations are typed by rank; this module calls the underlying operations, which
//! exist once for all ranks. A scalar is held as `[1]`; callers keep the shape in ONNX.

use super::host::{Data, HostTensor};
use burn::backend::ops::{BoolTensorOps, FloatTensorOps, IntTensorOps};
use burn::backend::{
    Dispatch, DispatchDevice, DispatchTensor, DispatchTensorKind, ExecutionError, TensorMetadata,
};
use burn::tensor::TensorData;
use burn::tensor::{AllocationProperty, BoolDType, BoolStore, Bytes, DType, Device, Shape};
use graph::elem::{Elem, Kind};
use graph::error::{OnnxError, Result};
use graph::raw::FileTensor;
use half::{bf16, f16};

/// A tensor on some device.
#[derive(Clone, Debug)]
pub(crate) struct DeviceTensor {
    pub(crate) inner: DispatchTensor,
}

/// A device for tensors, and its representation of booleans.
#[derive(Clone, Debug)]
pub struct TensorPlace {
    pub(crate) device: DispatchDevice,
    bools: BoolStore,
    /// True for host memory, which holds every type directly.
    pub(crate) host: bool,
}

impl TensorPlace {
    pub fn of(device: &Device) -> TensorPlace {
        let device = device.as_dispatch().clone();
        let host = matches!(device, DispatchDevice::Flex(_));
        let bools = match bool_dtype(&device) {
            BoolDType::Native => BoolStore::Native,
            BoolDType::U8 => BoolStore::U8,
            BoolDType::U32 => BoolStore::U32,
        };
        TensorPlace { device, bools, host }
    }

    pub fn host() -> TensorPlace {
        TensorPlace::of(&Device::flex())
    }
}

/// The type in which a place holds the elements of a type.
pub(crate) fn held(elem: Elem, place: &TensorPlace) -> DType {
    let host = place.host;
    match elem {
        Elem::F64 if host => DType::F64,
        Elem::Bool => DType::Bool(place.bools),
        Elem::I8 | Elem::I4 | Elem::I2 if host => DType::I8,
        Elem::U8 | Elem::U4 | Elem::U2 if host => DType::U8,
        Elem::I16 if host => DType::I16,
        Elem::U16 if host => DType::U16,
        Elem::I64 if host => DType::I64,
        Elem::U64 if host => DType::U64,
        Elem::U32 if host => DType::U32,
        _ if elem.is_float() => DType::F32,
        // Graphics cards compute with 32 bits; indices and tokens fit.
        _ => DType::I32,
    }
}

impl DeviceTensor {
    pub(crate) fn new(inner: DispatchTensor) -> DeviceTensor {
        DeviceTensor { inner }
    }

    pub(crate) fn dtype(&self) -> DType {
        self.inner.dtype()
    }

    /// burn's family of operations for the tensor. The element type does not determine it: results
    /// of a boolean tensor may be held as bytes.
    pub(crate) fn kind(&self) -> Kind {
        let name = match &self.inner.kind {
            DispatchTensorKind::Cube(tensor) => tensor.name(),
            DispatchTensorKind::Flex(tensor) => tensor.name(),
            #[allow(unreachable_patterns, reason = "burn has further variants with other features")]
            _ => "Float",
        };
        match name {
            "Bool" => Kind::Bool,
            "Int" => Kind::Int,
            _ => Kind::Float,
        }
    }

    pub(crate) fn shape(&self) -> Vec<usize> {
        self.inner.shape().as_slice().to_vec()
    }

    pub(crate) fn device(&self) -> DispatchDevice {
        self.inner.device()
    }

    /// The representation of booleans on this tensor's device.
    pub(crate) fn bool_dtype(&self) -> BoolDType {
        bool_dtype(&self.device())
    }

    /// Uploads data, already in the representation of the device.
    pub(crate) fn upload(data: TensorData, device: &DispatchDevice) -> DeviceTensor {
        let dtype = data.dtype();
        DeviceTensor::new(match dtype {
            DType::Bool(_) => Dispatch::bool_from_data(data, device),
            dtype if dtype.is_float() => Dispatch::float_from_data(data, device),
            _ => Dispatch::int_from_data(data, device),
        })
    }

    /// Reads the elements back. Waits for the device.
    ///
    /// # Errors
    /// If the device fails, in this step or in an earlier one.
    pub(crate) fn read(self) -> Result<TensorData> {
        let (kind, host) = (self.kind(), on_host(&self));
        let data = match kind {
            Kind::Bool => pollster::block_on(Dispatch::bool_into_data(self.inner)),
            Kind::Float => pollster::block_on(Dispatch::float_into_data(self.inner)),
            _ => pollster::block_on(Dispatch::int_into_data(self.inner)),
        };
        data.map_err(|error| failed(&error, host))
    }

    pub(crate) fn reshape(self, shape: &[usize]) -> DeviceTensor {
        let shape = Shape::from(shape.to_vec());
        DeviceTensor::new(match self.kind() {
            Kind::Bool => Dispatch::bool_reshape(self.inner, shape),
            Kind::Float => Dispatch::float_reshape(self.inner, shape),
            _ => Dispatch::int_reshape(self.inner, shape),
        })
    }
}

/// burn's error as an error of the device. The CPU does not fail: an error there is one of the
/// plan.
fn failed(error: &ExecutionError, host: bool) -> OnnxError {
    match host {
        true => OnnxError::internal(error.to_string()),
        false => OnnxError::device(error.to_string()),
    }
}

/// Returns true if a tensor is in host memory.
pub(crate) fn on_host(tensor: &DeviceTensor) -> bool {
    matches!(tensor.device(), DispatchDevice::Flex(_))
}

fn bool_dtype(device: &DispatchDevice) -> BoolDType {
    if matches!(device, DispatchDevice::Flex(_)) {
        return BoolDType::Native;
    }
    Device::new(device.clone()).settings().bool_dtype
}

/// A shape in burn: a scalar has one axis with one element.
pub(crate) fn at_least_1d(shape: &[usize]) -> Vec<usize> {
    if shape.is_empty() { vec![1] } else { shape.to_vec() }
}

/// The tensor of a file or client in the representation of a place.
///
/// # Errors
/// For text, which burn does not support.
pub(crate) fn from_raw(raw: &FileTensor, place: &TensorPlace) -> Result<TensorData> {
    let shape = at_least_1d(&raw.shape);
    let dtype = held(raw.elem, place);
    let bytes = &raw.bytes;
    // Every device holds 16-bit floats in 32 bits, also the host.
    let half = |of: fn([u8; 2]) -> f32| -> Vec<f32> {
        bytes.as_chunks::<2>().0.iter().map(|pair| of(*pair)).collect()
    };
    match raw.elem {
        Elem::F16 => Ok(TensorData::new(half(|pair| f16::from_le_bytes(pair).to_f32()), shape)),
        Elem::Bf16 => Ok(TensorData::new(half(|pair| bf16::from_le_bytes(pair).to_f32()), shape)),
        Elem::Text => Err(OnnxError::unsupported("text cannot be held by a device")),
        elem if same_bits(elem, dtype) => TensorData::try_from_bytes(own(bytes), shape, dtype)
            .map_err(|error| OnnxError::internal(error.to_string())),
        _ => to_data(&HostTensor::from_raw(raw), place),
    }
}

/// The same bytes, if they are aligned for numbers of 64 bits; else an aligned copy.
fn own(bytes: &bytes::Bytes) -> Bytes {
    if bytes.as_ptr().addr().is_multiple_of(8) && !bytes.is_empty() {
        return Bytes::from_shared(bytes.clone(), AllocationProperty::Other);
    }
    Bytes::from_bytes_vec(bytes.to_vec())
}

/// Returns true if elements have the same representation in files.
fn same_bits(elem: Elem, dtype: DType) -> bool {
    let same_kind = match elem.kind() {
        Kind::Float => dtype.is_float() && elem.bits() >= 32,
        Kind::Int => dtype.is_int() || dtype.is_uint(),
        Kind::Bool | Kind::Text => false,
    };
    same_kind && dtype.size() * 8 == elem.bits()
}

/// Data that a device returned, in the form of files.
///
/// # Errors
/// If reading it fails.
pub(crate) fn to_raw(elem: Elem, shape: Vec<usize>, data: TensorData) -> Result<FileTensor> {
    let text = Vec::new();
    if same_bits(elem, data.dtype()) {
        let bytes = data.bytes().read(burn::cubecl::bytes::Reader::new());
        let bytes = bytes.map_err(|error| OnnxError::device(error.to_string()))?;
        return Ok(FileTensor { elem, shape, bytes: bytes::Bytes::copy_from_slice(bytes), text });
    }
    let host = HostTensor::from_data(elem, shape.clone(), data)?;
    Ok(FileTensor { elem, shape, bytes: host.to_bytes().into(), text })
}

/// Numbers of the host in the representation of a device (or the host). Integers that 32 bits
/// cannot hold become the nearest possible ones.
///
/// # Errors
/// For text.
pub(crate) fn to_data(host: &HostTensor, place: &TensorPlace) -> Result<TensorData> {
    let shape = at_least_1d(&host.shape);
    let dtype = held(host.elem, place);
    #[allow(clippy::cast_possible_truncation, reason = "the type contains them")]
    let data = match (&host.data, dtype) {
        (Data::Float(values), DType::F64) => TensorData::new(values.clone(), shape),
        (Data::Float(values), _) => {
            TensorData::new(values.iter().map(|value| *value as f32).collect::<Vec<_>>(), shape)
        }
        (Data::Int(values), DType::Bool(BoolStore::Native)) => {
            TensorData::new(values.iter().map(|value| *value != 0).collect::<Vec<_>>(), shape)
        }
        (Data::Int(values), DType::Bool(store)) => {
            let bytes = if store == BoolStore::U32 {
                Bytes::from_elems(values.iter().map(|v| u32::from(*v != 0)).collect())
            } else {
                Bytes::from_elems(values.iter().map(|v| u8::from(*v != 0)).collect())
            };
            return TensorData::try_from_bytes(bytes, shape, DType::Bool(store))
                .map_err(|error| OnnxError::internal(error.to_string()));
        }
        (Data::Int(values), DType::I32) if !place.host => {
            let least = |value: &i64| (*value).clamp(i32::MIN.into(), i32::MAX.into()) as i32;
            TensorData::new(values.iter().map(least).collect::<Vec<_>>(), shape)
        }
        (Data::Int(values), dtype) => TensorData::new(values.clone(), shape).convert_dtype(dtype),
        (Data::Text(_), _) => {
            return Err(OnnxError::unsupported("text cannot be held by a device"));
        }
    };
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::error::FailureKind;

    #[test]
    fn burn_errors_are_device_errors_except_on_the_cpu() {
        let error = |reason: &str| ExecutionError::WithContext { reason: reason.to_owned() };
        let lost = error("Device lost: Unknown");
        assert_eq!(failed(&lost, false).kind, FailureKind::Device);
        assert_eq!(failed(&lost, true).kind, FailureKind::Internal);
        let full = error("can't allocate buffer of size: 17179869184");
        assert_eq!(failed(&full, false).kind, FailureKind::Memory);
    }
}
