//! Products with weights of a few bits, of which some columns at a time are unpacked.

use super::{Binary, Op};
use crate::tensor::DeviceTensor;
use burn::backend::DispatchDevice;
use burn::tensor::{DType, Slice, TensorData};
use graph::error::{OnnxError, Result};

/// Most bytes of unpacked weights during a product.
pub(crate) const CHUNK: usize = 32 << 20;

/// Weights `[columns, blocks, words]` of a few bits each, the first in the lowest bits of a word.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packed {
    /// Bits of a weight: 2, 4 or 8.
    pub(crate) bits: usize,
    /// Bits of a word: 8 or 32.
    pub(crate) word: usize,
    /// Weights with a common scale and zero point.
    pub(crate) block: usize,
    /// Weights of a column; the last block may be longer, and the rest is ignored.
    pub(crate) inner: usize,
    pub(crate) columns: usize,
}

impl Packed {
    /// The default zero point.
    pub(crate) fn middle(&self) -> f32 {
        f32::from(1u8 << (self.bits.clamp(1, 8) - 1))
    }

    /// The number of columns that are unpacked at once.
    pub(crate) fn step(&self) -> usize {
        (CHUNK / size_of::<f32>() / self.inner.max(1)).clamp(1, self.columns.max(1))
    }

    /// `x [rows, inner]`, packed weights, scales and optional zero points `[columns, blocks]`.
    pub(super) fn run(&self, inputs: Vec<DeviceTensor>) -> Result<DeviceTensor> {
        let mut inputs = inputs.into_iter();
        let (Some(x), Some(codes), Some(scales)) = (inputs.next(), inputs.next(), inputs.next())
        else {
            return Err(OnnxError::internal("a product of packed weights has too few inputs"));
        };
        let zeros = inputs.next();
        let mut parts = Vec::new();
        for begin in (0..self.columns).step_by(self.step()) {
            let end = (begin + self.step()).min(self.columns);
            let cut = |x: &DeviceTensor| rows(x.clone(), begin, end);
            let zeros = zeros.as_ref().map(cut).transpose()?;
            let weights = self.unpacked(cut(&codes)?, cut(&scales)?, zeros)?;
            let turned = Op::Permute(vec![1, 0]).run(vec![weights])?;
            parts.push(Op::MatMul.run(vec![x.clone(), turned])?);
        }
        // Concatenation would copy the product.
        if parts.len() == 1 {
            return parts.pop().ok_or_else(|| OnnxError::internal("columns are missing"));
        }
        Op::Cat(1).run(parts)
    }

    /// Unpacked weights of some columns, `[columns, inner]`.
    fn unpacked(
        &self,
        codes: DeviceTensor,
        scales: DeviceTensor,
        zeros: Option<DeviceTensor>,
    ) -> Result<DeviceTensor> {
        let across = |x: DeviceTensor| {
            let shape: Vec<usize> = x.shape().into_iter().chain([1]).collect();
            x.reshape(&shape)
        };
        let codes = unpack(codes, self.bits, self.word)?;
        let moved = match zeros {
            Some(zeros) => Op::Binary(Binary::Sub).run(vec![codes, across(zeros)])?,
            None => Op::Scalar(Binary::Sub, self.middle().into()).run(vec![codes])?,
        };
        let values = Op::Binary(Binary::Mul).run(vec![moved, across(scales)])?;
        let shape = values.shape();
        let columns = shape.first().copied().unwrap_or(0);
        let flat = values.reshape(&[columns, shape.iter().skip(1).product()]);
        let all = |end: usize| Slice::new(0, isize::try_from(end).ok(), 1);
        Op::Slice(vec![all(columns), all(self.inner)]).run(vec![flat])
    }
}

/// A slice of the first axis.
fn rows(x: DeviceTensor, begin: usize, end: usize) -> Result<DeviceTensor> {
    let number = |at: usize| isize::try_from(at).unwrap_or(isize::MAX);
    let shape = x.shape();
    let cut = |(axis, length): (usize, &usize)| match axis {
        0 => Slice::new(number(begin), Some(number(end)), 1),
        _ => Slice::new(0, Some(number(*length)), 1),
    };
    Op::Slice(shape.iter().enumerate().map(cut).collect()).run(vec![x])
}

/// Unpacks the elements of words along the last axis, as floats.
///
/// # Errors
/// If the words are not integers.
pub(super) fn unpack(words: DeviceTensor, bits: usize, word: usize) -> Result<DeviceTensor> {
    let shape = words.shape();
    let count = word / bits.max(1);
    let device = words.device();
    let words = Op::Cast(DType::I32).run(vec![words])?;
    let apart: Vec<usize> = shape.iter().copied().chain([1]).collect();
    let words = words.reshape(&apart);
    let mut line = vec![1; apart.len()];
    line.last_mut().into_iter().for_each(|length| *length = count);
    let shifts = (0..count).filter_map(|at| i32::try_from(at * bits).ok()).collect();
    let shifts = ints(shifts, line, &device);
    let shifted = Op::Binary(Binary::ShiftRight).run(vec![words, shifts])?;
    // The mask also removes the sign bits that the arithmetic shift of a word adds.
    let mask = ints(vec![(1 << bits) - 1], vec![1; apart.len()], &device);
    let codes = Op::Binary(Binary::BitAnd).run(vec![shifted, mask])?;
    let codes = Op::Cast(DType::F32).run(vec![codes])?;
    let mut whole = shape;
    whole.last_mut().into_iter().for_each(|length| *length *= count);
    Ok(codes.reshape(&whole))
}

fn ints(values: Vec<i32>, shape: Vec<usize>, device: &DispatchDevice) -> DeviceTensor {
    DeviceTensor::upload(TensorData::new(values, shape), device)
}

/// Combines bytes to words of 32 bits, the first byte in the lowest bits.
///
/// # Errors
/// If the number of bytes is not a multiple of four.
pub(super) fn words(x: DeviceTensor) -> Result<DeviceTensor> {
    let (mut shape, device) = (x.shape(), x.device());
    let data = x.read()?;
    let bytes = data.as_slice::<u8>();
    let bytes = bytes.map_err(|error| OnnxError::internal(error.to_string()))?;
    let (words, []) = bytes.as_chunks::<4>() else {
        return Err(OnnxError::internal(format!("{} bytes are not whole words", bytes.len())));
    };
    let words = words.iter().map(|word| i32::from_le_bytes(*word)).collect();
    shape.last_mut().into_iter().for_each(|length| *length /= 4);
    Ok(ints(words, shape, &device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::TensorPlace;

    fn floats(values: Vec<f32>, shape: &[usize]) -> DeviceTensor {
        DeviceTensor::upload(TensorData::new(values, shape.to_vec()), &TensorPlace::host().device)
    }

    fn read(x: DeviceTensor) -> Vec<f32> {
        x.read().unwrap().as_slice::<f32>().unwrap().to_vec()
    }

    /// Weights in bytes and in words, with the implementation for the CPU and that for other
    /// devices, for few rows and for many.
    #[test]
    fn packed_products_agree_with_plain_ones() {
        let (columns, inner, block) = (5usize, 40usize, 16usize);
        let blocks = inner.div_ceil(block);
        for (bits, rows) in [(2, 1), (4, 3), (8, 3), (4, 40)] {
            let count = columns * blocks * block * bits / 8;
            let bytes: Vec<u8> = (0..count).map(|at| (at * 37 % 251) as u8).collect();
            let scales: Vec<f32> = (0..columns * blocks).map(|at| 0.1 + at as f32 / 9.0).collect();
            let zeros: Vec<f32> = (0..columns * blocks).map(|at| (at % 3) as f32).collect();
            let x: Vec<f32> = (0..rows * inner).map(|at| (at % 7) as f32 - 3.0).collect();
            let weight = |column: usize, at: usize| {
                let (own, place) = (column * blocks + at / block, column * blocks * block + at);
                let code =
                    bytes[place * bits / 8] >> (place * bits % 8) & ((1u16 << bits) - 1) as u8;
                (f32::from(code) - zeros[own]) * scales[own]
            };
            let expected = (0..rows).flat_map(|row| {
                let x = &x;
                (0..columns).map(move |column| {
                    (0..inner).map(|at| x[row * inner + at] * weight(column, at)).sum::<f32>()
                })
            });
            let expected: Vec<f32> = expected.collect();
            let shape = vec![columns, blocks, block * bits / 8];
            let data = TensorData::new(bytes.clone(), shape);
            let codes = DeviceTensor::upload(data, &TensorPlace::host().device);
            for word in [8, 32] {
                let codes = if word == 8 { codes.clone() } else { words(codes.clone()).unwrap() };
                let packed = Packed { bits, word, block, inner, columns };
                let spread = [columns, blocks];
                let inputs = vec![
                    floats(x.clone(), &[rows, inner]),
                    codes,
                    floats(scales.clone(), &spread),
                    floats(zeros.clone(), &spread),
                ];
                let found = read(Op::Packed(packed).run(inputs).unwrap());
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * b.abs().max(1.0);
                assert!(
                    found.iter().zip(&expected).all(near),
                    "{bits} bits in {word}, {rows} rows"
                );
                assert_eq!(found.len(), expected.len());
            }
        }
    }
}
