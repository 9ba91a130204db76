//! Tensors on the host, widened for all operators of ONNX: floats as `f64`, integers and booleans
//! as `i64` (`uint64` by its bits), text as text.

use super::tiny_floats;
use burn::tensor::{DType, TensorData};
use graph::elem::{Elem, Kind};
use graph::error::{OnnxError, Result};
use graph::raw::FileTensor;
use half::{bf16, f16};

/// A widened tensor on the host, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostTensor {
    pub(crate) elem: Elem,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Float(Vec<f64>),
    Int(Vec<i64>),
    Text(Vec<String>),
}

/// The first input of a function of the host.
///
/// # Errors
/// If the input is missing.
pub(crate) fn first<X>(inputs: &[X]) -> Result<&X> {
    inputs.first().ok_or_else(|| OnnxError::internal("an input is missing"))
}

impl HostTensor {
    pub(crate) fn floats(elem: Elem, shape: Vec<usize>, values: Vec<f64>) -> HostTensor {
        HostTensor { elem, shape, data: Data::Float(values) }
    }

    pub(crate) fn ints(elem: Elem, shape: Vec<usize>, values: Vec<i64>) -> HostTensor {
        HostTensor { elem, shape, data: Data::Int(values) }
    }

    pub(crate) fn bools(shape: Vec<usize>, values: impl IntoIterator<Item = bool>) -> HostTensor {
        let values = values.into_iter().map(i64::from).collect();
        HostTensor { elem: Elem::Bool, shape, data: Data::Int(values) }
    }

    pub(crate) fn text(shape: Vec<usize>, values: Vec<String>) -> HostTensor {
        HostTensor { elem: Elem::Text, shape, data: Data::Text(values) }
    }

    /// Numbers given as floats, in any type: rounded toward zero for integers.
    pub(crate) fn numbers(elem: Elem, shape: Vec<usize>, values: Vec<f64>) -> HostTensor {
        if elem.kind() == Kind::Float {
            return HostTensor::floats(elem, shape, values);
        }
        #[allow(clippy::cast_possible_truncation, reason = "saturates")]
        HostTensor::ints(elem, shape, values.into_iter().map(|value| value as i64).collect())
    }

    pub(crate) fn len(&self) -> usize {
        match &self.data {
            Data::Float(values) => values.len(),
            Data::Int(values) => values.len(),
            Data::Text(values) => values.len(),
        }
    }

    /// The elements as floats; empty for text.
    pub(crate) fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            Data::Float(values) => values.clone(),
            #[allow(clippy::cast_precision_loss, reason = "rounded to a float")]
            Data::Int(values) if self.elem == Elem::U64 => {
                values.iter().map(|value| value.cast_unsigned() as f64).collect()
            }
            #[allow(clippy::cast_precision_loss, reason = "rounded to a float")]
            Data::Int(values) => values.iter().map(|value| *value as f64).collect(),
            Data::Text(_) => Vec::new(),
        }
    }

    /// The elements as integers, floats rounded toward zero; empty for text.
    pub(crate) fn to_i64(&self) -> Vec<i64> {
        match &self.data {
            #[allow(clippy::cast_possible_truncation, reason = "saturates")]
            Data::Float(values) => values.iter().map(|value| *value as i64).collect(),
            Data::Int(values) => values.clone(),
            Data::Text(_) => Vec::new(),
        }
    }

    pub(crate) fn to_text(&self) -> &[String] {
        match &self.data {
            Data::Text(values) => values,
            _ => &[],
        }
    }

    /// The tensor of a file.
    pub(crate) fn from_raw(raw: &FileTensor) -> HostTensor {
        let data = match raw.elem.kind() {
            Kind::Text => Data::Text(raw.text.clone()),
            Kind::Float => Data::Float(floats(raw)),
            _ => Data::Int(ints(raw)),
        };
        HostTensor { elem: raw.elem, shape: raw.shape.clone(), data }
    }

    /// The tensor in the form of a file; elements narrower than a byte take one each.
    pub(crate) fn to_raw(&self) -> FileTensor {
        let (elem, shape) = (self.elem, self.shape.clone());
        FileTensor { elem, shape, bytes: self.to_bytes().into(), text: self.to_text().to_vec() }
    }

    /// Like [`HostTensor::from_raw`], for results of [`HostTensor::to_raw`]: at least a byte for
    /// each element.
    pub(crate) fn from_raw_wide(raw: &FileTensor) -> HostTensor {
        if raw.elem.bits() == 0 || raw.elem.bits() >= 8 {
            return HostTensor::from_raw(raw);
        }
        let shape = raw.shape.clone();
        let data = if raw.elem.is_float() {
            let decode = |code: &u8| f64::from(tiny_floats::decode(raw.elem, *code));
            Data::Float(raw.bytes.iter().map(decode).collect())
        } else {
            Data::Int(raw.bytes.iter().map(|byte| i64::from(byte.cast_signed())).collect())
        };
        HostTensor { elem: raw.elem, shape, data }
    }

    /// Data that a device returned, with their type and shape in ONNX.
    ///
    /// # Errors
    /// If reading it fails.
    pub(crate) fn from_data(elem: Elem, shape: Vec<usize>, data: TensorData) -> Result<HostTensor> {
        let failed = |error: burn::tensor::DataError| OnnxError::internal(error.to_string());
        let data = match data.dtype() {
            // Floats narrower than 64 bits are exact in 32 bits, integers except u64 in i64.
            DType::F64 => Data::Float(data.as_slice::<f64>().map_err(failed)?.to_vec()),
            dtype if dtype.is_float() => {
                let data = data.convert_dtype(DType::F32);
                Data::Float(
                    data.as_slice::<f32>().map_err(failed)?.iter().map(|v| f64::from(*v)).collect(),
                )
            }
            DType::U64 => {
                let values = data.as_slice::<u64>().map_err(failed)?;
                Data::Int(values.iter().map(|value| value.cast_signed()).collect())
            }
            _ => {
                let data = data.convert_dtype(DType::I64);
                Data::Int(data.as_slice::<i64>().map_err(failed)?.to_vec())
            }
        };
        Ok(HostTensor { elem, shape, data })
    }

    /// The elements in the form of a file or an answer, little-endian. Empty for text.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let ints = || self.to_i64().into_iter();
        #[allow(clippy::cast_possible_truncation, reason = "rounded to the type")]
        let singles = || self.to_f64().into_iter().map(|value| value as f32);
        match self.elem {
            Elem::F64 => self.to_f64().into_iter().flat_map(f64::to_le_bytes).collect(),
            Elem::F32 => singles().flat_map(f32::to_le_bytes).collect(),
            Elem::F16 => singles().flat_map(|v| f16::from_f32(v).to_le_bytes()).collect(),
            Elem::Bf16 => singles().flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect(),
            Elem::Text => Vec::new(),
            _ if self.elem.is_float() => {
                singles().map(|v| tiny_floats::encode(self.elem, v)).collect()
            }
            _ => {
                let width = self.elem.bits().div_ceil(8);
                ints().flat_map(|value| value.to_le_bytes().into_iter().take(width)).collect()
            }
        }
    }
}

fn floats(raw: &FileTensor) -> Vec<f64> {
    let bytes = &raw.bytes;
    let count = raw.shape.iter().product();
    let pairs = || bytes.as_chunks::<2>().0.iter();
    match raw.elem {
        Elem::F64 => {
            bytes.as_chunks::<8>().0.iter().map(|word| f64::from_le_bytes(*word)).collect()
        }
        Elem::F16 => pairs().map(|pair| f16::from_le_bytes(*pair).to_f64()).collect(),
        Elem::Bf16 => pairs().map(|pair| bf16::from_le_bytes(*pair).to_f64()).collect(),
        Elem::F4E2m1 => {
            let decode = |code| f64::from(tiny_floats::decode(raw.elem, code));
            packed(bytes, 4, count).map(decode).collect()
        }
        Elem::F32 => {
            let word = |word: &[u8; 4]| f64::from(f32::from_le_bytes(*word));
            bytes.as_chunks::<4>().0.iter().map(word).collect()
        }
        elem => bytes.iter().map(|code| f64::from(tiny_floats::decode(elem, *code))).collect(),
    }
}

fn ints(raw: &FileTensor) -> Vec<i64> {
    let bytes = &raw.bytes;
    let count = raw.shape.iter().product();
    let signed = raw.elem.range().is_some_and(|(least, _)| least < 0);
    match raw.elem.bits() {
        bits @ (2 | 4) => {
            let half = 1i64 << (bits - 1);
            let sign = |code: u8| {
                let value = i64::from(code);
                if signed && value >= half { value - 2 * half } else { value }
            };
            packed(bytes, bits, count).map(sign).collect()
        }
        bits => {
            // Text has 0 bits, for which a chunk would have no bytes and panic.
            let width = bits / 8;
            bytes.chunks_exact(width.max(1)).map(|word| int(word, signed)).collect()
        }
    }
}

/// A little-endian integer of one to eight bytes.
fn int(word: &[u8], signed: bool) -> i64 {
    let negative = signed && word.last().is_some_and(|byte| byte & 0x80 != 0);
    // A negative number in two's complement is extended with ones.
    let mut bytes = [if negative { 0xff } else { 0 }; 8];
    for (to, from) in bytes.iter_mut().zip(word) {
        *to = *from;
    }
    i64::from_le_bytes(bytes)
}

/// Elements narrower than a byte, the first in the lowest bits.
fn packed(bytes: &[u8], bits: usize, count: usize) -> impl Iterator<Item = u8> + '_ {
    let mask = (1u8 << bits) - 1;
    let codes = bytes
        .iter()
        .flat_map(move |byte| (0..8 / bits).map(move |at| (byte >> (at * bits)) & mask));
    // The last byte may have bits without an element.
    codes.take(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn raw(elem: Elem, shape: &[usize], bytes: &'static [u8]) -> HostTensor {
        let bytes = Bytes::from_static(bytes);
        HostTensor::from_raw(&FileTensor { elem, shape: shape.to_vec(), bytes, text: Vec::new() })
    }

    #[test]
    fn narrow_elements_are_unpacked() {
        assert_eq!(raw(Elem::U4, &[3], &[0x21, 0x0f]).to_i64(), [1, 2, 15]);
        assert_eq!(raw(Elem::I4, &[3], &[0x21, 0x0f]).to_i64(), [1, 2, -1]);
        assert_eq!(raw(Elem::I2, &[5], &[0b11_10_01_00, 1]).to_i64(), [0, 1, -2, -1, 1]);
        assert_eq!(raw(Elem::F4E2m1, &[2], &[0xf7]).to_f64(), [6.0, -6.0]);
        assert_eq!(raw(Elem::I16, &[2], &[0xff, 0xff, 1, 0]).to_i64(), [-1, 1]);
        assert_eq!(raw(Elem::U16, &[1], &[0xff, 0xff]).to_i64(), [65535]);
    }

    #[test]
    fn bytes_match_the_type() {
        assert_eq!(
            HostTensor::ints(Elem::I16, vec![2], vec![-1, 1]).to_bytes(),
            [0xff, 0xff, 1, 0]
        );
        assert_eq!(HostTensor::floats(Elem::F16, vec![1], vec![1.0]).to_bytes(), [0, 0x3c]);
        let numbers = HostTensor::numbers(Elem::U8, vec![2], vec![2.9, 300.0]);
        assert_eq!(numbers.to_i64(), [2, 300]);
    }
}
