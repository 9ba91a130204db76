//! Conversion between single rows and tensors of floats and text.

use super::row::BadRow;
use bytes::{BufMut, Bytes, BytesMut};
use half::f16;
use types::tensor::{Datatype, Tensor, Tensors, byte_elements};

/// A row of numbers; `shape` is without the row axis.
pub(super) fn floats(
    name: &str,
    datatype: Datatype,
    shape: &[usize],
    values: impl Iterator<Item = f32>,
) -> Result<Tensor, BadRow> {
    let capacity = usize::try_from(bytes(datatype, shape)).map_err(|_| BadRow::Memory)?;
    let mut data = BytesMut::with_capacity(capacity);
    match datatype {
        Datatype::Fp32 => values.for_each(|value| data.put_f32_le(value)),
        Datatype::Fp16 => values.for_each(|value| data.put_u16_le(f16::from_f32(value).to_bits())),
        // Numbers out of range and NaN saturate.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, see above"
        )]
        Datatype::Uint8 => values.for_each(|value| data.put_u8(value.round() as u8)),
        #[allow(clippy::cast_possible_truncation, reason = "saturates, see above")]
        Datatype::Int32 => values.for_each(|value| data.put_i32_le(value.round() as i32)),
        #[allow(clippy::cast_possible_truncation, reason = "saturates, see above")]
        Datatype::Int64 => values.for_each(|value| data.put_i64_le(value.round() as i64)),
        other => return Err(BadRow::Input(format!("'{name}': {other} cannot be filled"))),
    }
    row(name, datatype, shape, data.freeze())
}

/// The bytes of a row of numbers, saturated at the maximum.
pub(super) fn bytes(datatype: Datatype, shape: &[usize]) -> u64 {
    let size = datatype.size().unwrap_or(4) as u64;
    shape.iter().fold(size, |bytes, dim| bytes.saturating_mul(*dim as u64))
}

/// A row of words.
pub(super) fn words<S: AsRef<[u8]>>(name: &str, words: &[S]) -> Result<Tensor, BadRow> {
    row(name, Datatype::Bytes, &[words.len()], byte_elements(words))
}

fn row(name: &str, datatype: Datatype, shape: &[usize], data: Bytes) -> Result<Tensor, BadRow> {
    let shape = std::iter::once(1).chain(shape.iter().copied()).collect();
    Tensor::new(name, datatype, shape, data).map_err(|error| BadRow::Input(error.to_string()))
}

/// The bytes of a file, which is the single element of a BYTES tensor of one row.
pub(super) fn file(inputs: &Tensors, name: &str) -> Result<Bytes, BadRow> {
    let tensor = inputs.get(name).map_err(|error| BadRow::Input(error.to_string()))?;
    match tensor.data.split_first_chunk::<4>() {
        Some(_) if tensor.shape == [1, 1] => Ok(tensor.data.slice(4..)),
        _ => Err(BadRow::Input(format!("input '{name}' does not hold a file"))),
    }
}

/// The numbers of an output, and its shape without the row axis.
pub(super) fn read<'a>(
    outputs: &'a Tensors,
    name: &str,
) -> Result<(&'a [usize], Vec<f32>), BadRow> {
    let bad = |detail: String| BadRow::Output(format!("output '{name}': {detail}"));
    let tensor = outputs.get(name).map_err(|error| bad(error.to_string()))?;
    let values = match tensor.datatype {
        Datatype::Fp32 => {
            let chunks = tensor.data.as_chunks::<4>().0;
            chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        Datatype::Fp16 => {
            let chunks = tensor.data.as_chunks::<2>().0;
            chunks.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
        }
        other => return Err(bad(format!("has datatype {other}, not FP32 or FP16"))),
    };
    Ok((tensor.shape.get(1..).unwrap_or_default(), values))
}
