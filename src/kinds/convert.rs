//! The only conversion between tensors of the protocol (little-endian bytes) and burn's data.

use burn::cubecl::bytes::Reader;
use burn::tensor::{BoolStore, Bytes as BurnBytes, DType, TensorData};
use bytes::Bytes;
use graph::is_out_of_memory;
use model::ModelError;
use types::tensor::{Datatype, Tensor};

#[cfg(target_endian = "big")]
compile_error!(
    "the target must be little-endian: tensors are passed to burn without conversion of bytes"
);

/// burn's type for a datatype; `None` for `BYTES`, which burn lacks.
pub fn dtype(datatype: Datatype) -> Option<DType> {
    Some(match datatype {
        Datatype::Bool => DType::Bool(BoolStore::Native),
        Datatype::Uint8 => DType::U8,
        Datatype::Uint16 => DType::U16,
        Datatype::Uint32 => DType::U32,
        Datatype::Uint64 => DType::U64,
        Datatype::Int8 => DType::I8,
        Datatype::Int16 => DType::I16,
        Datatype::Int32 => DType::I32,
        Datatype::Int64 => DType::I64,
        Datatype::Fp16 => DType::F16,
        Datatype::Bf16 => DType::BF16,
        Datatype::Fp32 => DType::F32,
        Datatype::Fp64 => DType::F64,
        Datatype::Bytes => return None,
    })
}

/// The datatype for burn's type; `None` for types that the protocol lacks.
pub fn datatype(dtype: DType) -> Option<Datatype> {
    Datatype::ALL.into_iter().find(|datatype| self::dtype(*datatype) == Some(dtype))
}

/// A tensor as burn data of the same shape: one copy, into memory aligned for its elements.
///
/// # Errors
/// [`ModelError::Input`] for `BYTES`, and if the data do not fit the shape.
pub fn to_data(tensor: &Tensor) -> Result<TensorData, ModelError> {
    let name = &tensor.name;
    let none = || ModelError::Input(format!("tensor '{name}': BYTES cannot be moved to a device"));
    let dtype = dtype(tensor.datatype).ok_or_else(none)?;
    let data = TensorData::try_from_bytes(aligned(tensor), tensor.shape.clone(), dtype);
    data.map_err(|error| ModelError::Input(format!("tensor '{name}': {error}")))
}

fn aligned(tensor: &Tensor) -> BurnBytes {
    // Any byte except 0 is true; burn accepts 0 and 1 only.
    if tensor.datatype == Datatype::Bool {
        return BurnBytes::from_elems(
            tensor.data.iter().map(|byte| u8::from(*byte != 0)).collect(),
        );
    }
    BurnBytes::from_bytes_vec(tensor.data.to_vec())
}

/// Burn data as a tensor. Waits for `data` if the device is still computing or copying them.
///
/// # Errors
/// [`ModelError::Device`] if reading fails; [`ModelError::Broken`] for a type that the protocol
/// lacks.
pub fn from_data(name: &str, data: TensorData) -> Result<Tensor, ModelError> {
    let dtype = data.dtype();
    let broken = |detail: String| ModelError::Broken(format!("output '{name}': {detail}"));
    let shape = data.shape().as_slice().to_vec();
    let (datatype, data) = match dtype {
        DType::Bool(store) => (Datatype::Bool, read_bool(store, data)?),
        _ => {
            let none = || broken(format!("{dtype:?} has no name in the protocol"));
            (datatype(dtype).ok_or_else(none)?, Bytes::copy_from_slice(read(&data)?))
        }
    };
    Tensor::new(name, datatype, shape, data).map_err(|error| broken(error.to_string()))
}

/// The values of data that must be FP32. Waits for the device.
///
/// # Errors
/// [`ModelError::Device`] if reading fails or the data have another type.
pub fn read_f32(data: &TensorData) -> Result<Vec<f32>, ModelError> {
    let values = data.as_slice::<f32>();
    values.map(<[f32]>::to_vec).map_err(|error| ModelError::Device(error.to_string()))
}

/// burn's error of a failed execution as a device error, on one line.
pub fn device_error(error: impl std::fmt::Display) -> ModelError {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    device_failure(lines.join(" "))
}

/// The error for an error text of burn or a driver: of the device's memory, or of the device.
pub fn device_failure(text: String) -> ModelError {
    match is_out_of_memory(&text) {
        true => ModelError::Memory(text),
        false => ModelError::Device(text),
    }
}

fn read(data: &TensorData) -> Result<&[u8], ModelError> {
    data.bytes().read(Reader::new()).map_err(device_error)
}

/// Booleans are stored as bytes or as 32-bit words, depending on the device.
fn read_bool(store: BoolStore, data: TensorData) -> Result<Bytes, ModelError> {
    let width = if store == BoolStore::U32 { 4 } else { 1 };
    let words = read(&data)?.chunks_exact(width);
    Ok(words.map(|word| u8::from(word.iter().any(|byte| *byte != 0))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Bool, Device, Int};

    #[test]
    fn every_datatype_except_bytes_round_trips() {
        for datatype in Datatype::ALL {
            let Some(size) = datatype.size() else { continue };
            let data: Vec<u8> = (0..6 * size).map(|at| (at % 2) as u8).collect();
            // One byte in front makes the slice unaligned.
            let shifted = [vec![9], data].concat();
            let data = Bytes::from(shifted).slice(1..);
            let tensor = Tensor::new("x", datatype, vec![2, 3], data).unwrap();
            let there = to_data(&tensor).unwrap();
            assert_eq!(self::datatype(there.dtype()), Some(datatype));
            assert_eq!(from_data("x", there).unwrap(), tensor, "{datatype}");
        }
    }

    #[test]
    fn bytes_stay_on_the_host() {
        let data = Bytes::from_static(&[0; 4]);
        let tensor = Tensor::new("x", Datatype::Bytes, vec![1], data).unwrap();
        assert!(matches!(to_data(&tensor), Err(ModelError::Input(_))));
        assert_eq!(dtype(Datatype::Bytes), None);
    }

    #[test]
    fn tensors_of_a_device_have_datatypes_of_the_protocol() {
        let device = Device::flex();
        let flags =
            Tensor::new("x", Datatype::Bool, vec![3], Bytes::from_static(&[0, 7, 1])).unwrap();
        let there = burn::tensor::Tensor::<1, Bool>::from_data(to_data(&flags).unwrap(), &device);
        let back = from_data("y", there.try_into_data().unwrap()).unwrap();
        assert_eq!((back.datatype, &back.data[..]), (Datatype::Bool, &[0u8, 1, 1][..]));
        let counts = burn::tensor::Tensor::<1, Int>::from_data([1i64, -2], (&device, DType::I64));
        let back = from_data("y", counts.try_into_data().unwrap()).unwrap();
        assert_eq!((back.datatype, back.shape), (Datatype::Int64, vec![2]));
    }

    #[test]
    fn words_of_booleans_become_bytes() {
        let words: Vec<u32> = vec![0, 1, 256];
        let data = BurnBytes::from_elems(words);
        let data = TensorData::try_from_bytes(data, [3], DType::Bool(BoolStore::U32)).unwrap();
        assert_eq!(&from_data("x", data).unwrap().data[..], [0, 1, 1]);
    }
}
