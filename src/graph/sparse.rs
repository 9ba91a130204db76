//! Conversion of sparse tensors to dense ones, since burn has no sparse tensors.

use super::elem::Elem;
use super::raw::FileTensor;
use crate::error::{OnnxError, Result};
use bytes::{Bytes, BytesMut};

/// Puts the values at their indices in a tensor of zeros.
///
/// # Shapes
/// - values: `[count]`
/// - indices: `[count]` (in row-major order of the whole) or `[count, rank]`
///
/// # Errors
/// If values, indices and shape do not fit each other.
pub fn dense(values: &FileTensor, indices: &FileTensor, shape: &[usize]) -> Result<FileTensor> {
    let width = values.elem.bits() / 8;
    if width == 0 || indices.elem != Elem::I64 {
        return Err(OnnxError::invalid(
            "sparse tensors must have elements of at least a byte and int64 indices",
        ));
    }
    let size = shape.iter().product::<usize>().checked_mul(width);
    let size = size
        .filter(|size| *size <= 1 << 31)
        .ok_or_else(|| OnnxError::invalid("the sparse tensor is too large"))?;
    let mut bytes = BytesMut::zeroed(size);
    let (word, _) = indices.bytes.as_chunks::<8>();
    let numbers: Vec<i64> = word.iter().map(|word| i64::from_le_bytes(*word)).collect();
    let per = if indices.shape.len() == 2 { shape.len().max(1) } else { 1 };
    let count = values.bytes.len() / width;
    if numbers.len() != count * per {
        return Err(OnnxError::invalid(format!("{count} values, but {} indices", numbers.len())));
    }
    for (value, index) in values.bytes.chunks_exact(width).zip(numbers.chunks_exact(per)) {
        let at = place(index, shape, per)
            .ok_or_else(|| OnnxError::invalid(format!("index {index:?} is outside")))?;
        let target = bytes.get_mut(at * width..(at + 1) * width);
        target
            .ok_or_else(|| OnnxError::invalid(format!("index {index:?} is outside")))?
            .copy_from_slice(value);
    }
    let bytes: Bytes = bytes.freeze();
    Ok(FileTensor { elem: values.elem, shape: shape.to_vec(), bytes, text: Vec::new() })
}

fn place(index: &[i64], shape: &[usize], per: usize) -> Option<usize> {
    if per == 1 && shape.len() != 1 {
        return usize::try_from(*index.first()?).ok();
    }
    index.iter().zip(shape).try_fold(0, |at, (index, dim)| {
        let index = usize::try_from(*index).ok().filter(|index| index < dim)?;
        Some(at * dim + index)
    })
}
