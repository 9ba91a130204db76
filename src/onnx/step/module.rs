//! Convolutions and pools.

use super::{SlidingWindow, wrap};
use crate::tensor::DeviceTensor;
use burn::backend::ops::{ConvOptions, ConvTransposeOptions, ModuleOps};
use burn::backend::{Dispatch, DispatchTensor};

pub(super) fn two(values: &[usize]) -> Option<[usize; 2]> {
    values.try_into().ok()
}

pub(super) fn begin2(padding: &[(usize, usize)]) -> Option<[usize; 2]> {
    match padding {
        [(first, _), (second, _)] => Some([*first, *second]),
        _ => None,
    }
}

impl SlidingWindow {
    pub(super) fn options<const N: usize>(&self) -> Option<ConvOptions<N>> {
        let stride = self.stride.as_slice().try_into().ok()?;
        let padding = self.padding.as_slice().try_into().ok()?;
        let dilation = self.dilation.as_slice().try_into().ok()?;
        Some(ConvOptions::new_with_padding(stride, padding, dilation, self.groups))
    }

    pub(super) fn transposed<const N: usize>(
        &self,
        more: &[usize],
    ) -> Option<ConvTransposeOptions<N>> {
        let stride = self.stride.as_slice().try_into().ok()?;
        let dilation = self.dilation.as_slice().try_into().ok()?;
        let begin: Vec<usize> = self.padding.iter().map(|(begin, _)| *begin).collect();
        let padding = begin.as_slice().try_into().ok()?;
        let more = more.try_into().ok()?;
        Some(ConvTransposeOptions::new(stride, padding, more, dilation, self.groups))
    }
}

pub(super) fn conv(
    x: DispatchTensor,
    weight: DispatchTensor,
    bias: Option<DispatchTensor>,
    window: &SlidingWindow,
) -> DeviceTensor {
    if let Some(options) = window.options::<2>() {
        return wrap(Dispatch::conv2d(x, weight, bias, options));
    }
    if let Some(options) = window.options::<1>() {
        return wrap(Dispatch::conv1d(x, weight, bias, options));
    }
    match window.options::<3>() {
        Some(options) => wrap(Dispatch::conv3d(x, weight, bias, options)),
        // Other windows are rejected when the plan is made.
        None => wrap(x),
    }
}

pub(super) fn conv_transpose(
    x: DispatchTensor,
    weight: DispatchTensor,
    bias: Option<DispatchTensor>,
    window: &SlidingWindow,
    more: &[usize],
) -> DeviceTensor {
    if let Some(options) = window.transposed::<2>(more) {
        return wrap(Dispatch::conv_transpose2d(x, weight, bias, options));
    }
    if let Some(options) = window.transposed::<1>(more) {
        return wrap(Dispatch::conv_transpose1d(x, weight, bias, options));
    }
    match window.transposed::<3>(more) {
        Some(options) => wrap(Dispatch::conv_transpose3d(x, weight, bias, options)),
        // Other windows are rejected when the plan is made.
        None => wrap(x),
    }
}

/// Maximum pooling over two axes with equal padding at both ends.
pub(super) fn max_pool(x: DeviceTensor, window: &SlidingWindow, ceil: bool) -> DeviceTensor {
    let parts = (two(&window.kernel), two(&window.stride), begin2(&window.padding));
    match (parts, two(&window.dilation)) {
        ((Some(kernel), Some(stride), Some(padding)), Some(dilation)) => {
            wrap(Dispatch::max_pool2d(x.inner, kernel, stride, padding, dilation, ceil))
        }
        _ => x,
    }
}

/// Average pooling over two axes with equal padding at both ends.
pub(super) fn average_pool(
    x: DeviceTensor,
    window: &SlidingWindow,
    counts: bool,
    ceil: bool,
) -> DeviceTensor {
    match (two(&window.kernel), two(&window.stride), begin2(&window.padding)) {
        (Some(kernel), Some(stride), Some(padding)) => {
            wrap(Dispatch::avg_pool2d(x.inner, kernel, stride, padding, counts, ceil))
        }
        _ => x,
    }
}
