//! Faster implementations of steps that are slow in burn on the CPU: for 32-bit floats in host
//! memory. Each has an equivalent in burn, for all other devices and types.
//!
//! `pulp` runs a loop with the widest vectors that the processor has.

mod conv;
mod elements;
mod elementwise;
mod packed;
mod pool;
mod softmax;

use super::step::Op;
use super::tensor::{DeviceTensor, TensorPlace, on_host};
use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind};
use burn::tensor::{DType, TensorData};
use rayon::prelude::*;

/// Fewest elements for several threads.
const PARALLEL: usize = 1 << 15;

impl Op {
    /// The result, if there is a faster implementation for this step; else the inputs are returned.
    ///
    /// # Errors
    /// The inputs.
    pub(crate) fn run_fast(
        &self,
        mut inputs: Vec<DeviceTensor>,
    ) -> Result<DeviceTensor, Vec<DeviceTensor>> {
        if let Op::Packed(packed) = self {
            return packed::run(packed, inputs);
        }
        if !inputs.iter().all(|input| on_host(input) && input.dtype() == DType::F32) {
            return Err(inputs);
        }
        if let Op::Elements(program) = self {
            return elements::run(program, inputs);
        }
        let done = match (self, &inputs[..]) {
            (Op::Unary(unary), [_]) => match elementwise::function(*unary) {
                Some(function) => inputs.pop().and_then(|x| in_place(x, function)),
                None => None,
            },
            (Op::Clamp(least, most), [_]) => {
                let clamp = elementwise::clamp(*least, *most);
                inputs.pop().and_then(|x| in_place(x, clamp))
            }
            // Along other axes the elements of a row are not adjacent.
            (Op::Softmax(axis), [x]) if axis + 1 == x.shape().len() => {
                inputs.pop().and_then(softmax::run)
            }
            (Op::MaxPool(window, false), [x]) => pool::max(x, window),
            (Op::Conv(window), [x, weight]) => conv::run(x, weight, None, window),
            (Op::Conv(window), [x, weight, bias]) => conv::run(x, weight, Some(bias), window),
            _ => None,
        };
        done.ok_or(inputs)
    }
}

/// burn's own tensor of the CPU, with its elements in order.
fn ordered(tensor: DeviceTensor) -> Option<FlexTensor> {
    match tensor.inner.kind {
        DispatchTensorKind::Flex(BackendTensor::Float(flex)) => {
            // A view of a part may be contiguous too, but its storage has further elements.
            let whole = flex.is_contiguous()
                && flex.layout().start_offset() == 0
                && flex.bytes().len() == flex.layout().num_elements() * size_of::<f32>();
            Some(if whole { flex } else { flex.to_contiguous() })
        }
        _ => None,
    }
}

/// Changes a tensor's elements, in place if it has no other user.
fn in_place(
    tensor: DeviceTensor,
    change: impl Fn(&mut [f32]) + Send + Sync,
) -> Option<DeviceTensor> {
    let mut flex = ordered(tensor)?;
    in_pieces(flex.storage_mut::<f32>(), change);
    Some(wrap(flex))
}

fn wrap(flex: FlexTensor) -> DeviceTensor {
    DeviceTensor::new(DispatchTensor {
        kind: DispatchTensorKind::Flex(BackendTensor::Float(flex)),
        autodiff: DispatchAutodiffContext::Disabled,
    })
}

fn put(values: Vec<f32>, shape: &[usize]) -> DeviceTensor {
    DeviceTensor::upload(TensorData::new(values, shape.to_vec()), &TensorPlace::host().device)
}

/// Processes pieces of a long slice in parallel.
fn in_pieces(values: &mut [f32], run: impl Fn(&mut [f32]) + Send + Sync) {
    if values.len() < PARALLEL || rayon::current_num_threads() == 1 {
        return run(values);
    }
    // Two pieces for each thread, so that a slow thread leaves its second one to others.
    let piece = values.len().div_ceil(rayon::current_num_threads() * 2).max(1024);
    values.par_chunks_mut(piece).for_each(run);
}

/// Processes rows of this length, in parallel if there are enough of them.
fn in_rows(values: &mut [f32], length: usize, run: impl Fn(usize, &mut [f32]) + Send + Sync) {
    let length = length.max(1);
    if values.len() < PARALLEL || rayon::current_num_threads() == 1 {
        return values.chunks_mut(length).enumerate().for_each(|(at, row)| run(at, row));
    }
    values.par_chunks_mut(length).enumerate().for_each(|(at, row)| run(at, row));
}
