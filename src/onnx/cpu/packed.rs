//! Products with weights of a few bits: a column is unpacked when it is multiplied.

use super::{ordered, put};
use crate::step::{Op, Packed};
use crate::tensor::{DeviceTensor, on_host};
use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchTensorKind};
use burn::tensor::DType;
use pulp::Arch;
use rayon::prelude::*;

/// Most rows for which columns are multiplied one by one; for more rows, a product of matrices of
/// some columns at a time is faster.
const ROWS_MAX: usize = 16;
/// Fewest multiplications for several threads.
const PARALLEL: usize = 1 << 16;

/// # Errors
/// The inputs, if they are not bytes and floats on the CPU.
pub(super) fn run(
    packed: &Packed,
    inputs: Vec<DeviceTensor>,
) -> Result<DeviceTensor, Vec<DeviceTensor>> {
    let fits = match &inputs[..] {
        [x, codes, rest @ ..] => {
            let floats = |x: &DeviceTensor| on_host(x) && x.dtype() == DType::F32;
            floats(x) && on_host(codes) && codes.dtype() == DType::U8 && rest.iter().all(floats)
        }
        _ => false,
    };
    if !fits || packed.word != 8 {
        return Err(inputs);
    }
    on(packed, inputs).ok_or_else(Vec::new)
}

fn on(packed: &Packed, inputs: Vec<DeviceTensor>) -> Option<DeviceTensor> {
    let mut inputs = inputs.into_iter();
    let (x, codes) = (inputs.next()?, bytes(inputs.next()?)?);
    let scales = ordered(inputs.next()?)?;
    let zeros = match inputs.next() {
        Some(zeros) => Some(ordered(zeros)?),
        None => None,
    };
    let weights = PackedWeights {
        packed,
        codes: codes.storage(),
        scales: scales.storage(),
        zeros: zeros.as_ref().map(FlexTensor::storage),
    };
    let rows = x.shape().first().copied()?;
    if rows <= ROWS_MAX {
        return weights.by_column(&ordered(x)?, rows);
    }
    let mut parts = Vec::new();
    for begin in (0..packed.columns).step_by(packed.step()) {
        let end = (begin + packed.step()).min(packed.columns);
        // Weights are stored by columns; the second factor of a product has its inner axis first.
        let turned = Op::Permute(vec![1, 0]).run(vec![weights.columns(begin, end)]).ok()?;
        parts.push(Op::MatMul.run(vec![x.clone(), turned]).ok()?);
    }
    if parts.len() == 1 { parts.pop() } else { Op::Cat(1).run(parts).ok() }
}

/// burn's own tensor of the CPU, with its bytes in order.
fn bytes(tensor: DeviceTensor) -> Option<FlexTensor> {
    match tensor.inner.kind {
        DispatchTensorKind::Flex(BackendTensor::Int(flex)) => {
            let whole = flex.is_contiguous()
                && flex.layout().start_offset() == 0
                && flex.bytes().len() == flex.layout().num_elements();
            Some(if whole { flex } else { flex.to_contiguous() })
        }
        _ => None,
    }
}

struct PackedWeights<'a> {
    packed: &'a Packed,
    codes: &'a [u8],
    scales: &'a [f32],
    zeros: Option<&'a [f32]>,
}

impl PackedWeights<'_> {
    /// The product with a few rows.
    fn by_column(&self, x: &FlexTensor, rows: usize) -> Option<DeviceTensor> {
        let (inner, columns) = (self.packed.inner, self.packed.columns);
        let x: &[f32] = x.storage();
        let mut turned = vec![0.0f32; columns.checked_mul(rows)?];
        // Each thread processes several columns, so that it allocates memory once.
        let several = rayon::current_num_threads() > 1 && turned.len() * inner >= PARALLEL;
        let share =
            // Four shares for each thread, so that a slow thread leaves some of its own to others.
            if several { columns.div_ceil(rayon::current_num_threads() * 4) } else { columns };
        let job = |(at, results): (usize, &mut [f32])| {
            let mut column = vec![0.0f32; inner];
            for (offset, results) in results.chunks_mut(rows.max(1)).enumerate() {
                Arch::new().dispatch(|| self.column(at * share + offset, &mut column));
                for (row, result) in x.chunks(inner.max(1)).zip(results) {
                    *result = Arch::new().dispatch(|| dot(row, &column));
                }
            }
        };
        let length = (share * rows).max(1);
        match several {
            true => turned.par_chunks_mut(length).enumerate().for_each(job),
            false => turned.chunks_mut(length).enumerate().for_each(job),
        }
        let product = put(turned, &[columns, rows]);
        match rows {
            // One row has the same order of elements in both layouts.
            1 => Some(product.reshape(&[rows, columns])),
            _ => Op::Permute(vec![1, 0]).run(vec![product]).ok(),
        }
    }

    /// Unpacked weights `[columns, inner]`.
    fn columns(&self, begin: usize, end: usize) -> DeviceTensor {
        let inner = self.packed.inner;
        let mut all = vec![0.0f32; (end - begin) * inner];
        all.par_chunks_mut(inner.max(1)).enumerate().for_each(|(at, column)| {
            Arch::new().dispatch(|| self.column(begin + at, column));
        });
        put(all, &[end - begin, inner])
    }

    #[inline(always)]
    fn column(&self, at: usize, column: &mut [f32]) {
        let Packed { bits, block, inner, .. } = *self.packed;
        let (blocks, size) = (inner.div_ceil(block.max(1)), block * bits / 8);
        let codes = self.codes.chunks(size.max(1)).skip(at * blocks);
        let scales = self.scales.iter().skip(at * blocks);
        for (place, ((codes, scale), values)) in
            codes.zip(scales).zip(column.chunks_mut(block.max(1))).enumerate()
        {
            let own = self.zeros.and_then(|zeros| zeros.get(at * blocks + place));
            let zero = own.copied().unwrap_or(self.packed.middle());
            unpack(codes, bits, values);
            values.iter_mut().for_each(|value| *value = (*value - zero) * scale);
        }
    }
}

#[inline(always)]
fn unpack(codes: &[u8], bits: usize, values: &mut [f32]) {
    if bits == 8 {
        values.iter_mut().zip(codes).for_each(|(value, code)| *value = f32::from(*code));
        return;
    }
    let mask = (1u8 << bits) - 1;
    for (values, code) in values.chunks_mut(8 / bits.max(1)).zip(codes) {
        let mut code = *code;
        for value in values {
            *value = f32::from(code & mask);
            code >>= bits;
        }
    }
}

/// Lanes of the widest vectors, which are summed separately.
const LANES: usize = 16;

#[inline(always)]
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let ((xs, x), (ys, y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (x, y) in xs.iter().zip(ys) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    let rest: f32 = x.iter().zip(y).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}
