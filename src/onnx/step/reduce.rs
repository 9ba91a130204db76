//! Steps along one axis.

use super::{Reduce, wrap};
use crate::tensor::{DeviceTensor, on_host};
use burn::backend::Dispatch;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::tensor::IntDType;
use graph::elem::Kind;

impl Reduce {
    pub(super) fn run(self, tensor: DeviceTensor, axis: usize) -> DeviceTensor {
        let float = tensor.kind() == Kind::Float;
        let x = tensor.inner;
        wrap(match self {
            Reduce::Sum if float => Dispatch::float_sum_dim(x, axis),
            Reduce::Sum => Dispatch::int_sum_dim(x, axis),
            Reduce::Mean if float => Dispatch::float_mean_dim(x, axis),
            Reduce::Mean => Dispatch::int_mean_dim(x, axis),
            Reduce::Max if float => Dispatch::float_max_dim(x, axis),
            Reduce::Max => Dispatch::int_max_dim(x, axis),
            Reduce::Min if float => Dispatch::float_min_dim(x, axis),
            Reduce::Min => Dispatch::int_min_dim(x, axis),
            Reduce::Prod if float => Dispatch::float_prod_dim(x, axis),
            Reduce::Prod => Dispatch::int_prod_dim(x, axis),
        })
    }
}

pub(super) fn arg(tensor: DeviceTensor, axis: usize, max: bool) -> DeviceTensor {
    // Indices are as wide as the integers of the device (`tensor::held`).
    let host = tensor.dtype().size() == 8 || on_host(&tensor);
    let indices = if host { IntDType::I64 } else { IntDType::I32 };
    let float = tensor.kind() == Kind::Float;
    let x = tensor.inner;
    wrap(match (max, float) {
        (true, true) => Dispatch::float_argmax(x, axis, indices),
        (false, true) => Dispatch::float_argmin(x, axis, indices),
        (true, false) => Dispatch::int_argmax(x, axis),
        (false, false) => Dispatch::int_argmin(x, axis),
    })
}

pub(super) fn cumulate(x: DeviceTensor, axis: usize, product: bool) -> DeviceTensor {
    let float = x.kind() == Kind::Float;
    wrap(match (product, float) {
        (false, true) => Dispatch::float_cumsum(x.inner, axis),
        (false, false) => Dispatch::int_cumsum(x.inner, axis),
        (true, true) => Dispatch::float_cumprod(x.inner, axis),
        (true, false) => Dispatch::int_cumprod(x.inner, axis),
    })
}
