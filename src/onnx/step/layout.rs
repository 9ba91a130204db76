//! Steps that move elements.

use super::{by_kind, wrap};
use crate::tensor::{DeviceTensor, at_least_1d};
use burn::backend::Dispatch;
use burn::backend::ops::{BoolTensorOps, FloatTensorOps, IntTensorOps, PadMode};
use burn::tensor::{Shape, Slice};
use graph::elem::Kind;

pub(super) fn permute(x: DeviceTensor, axes: &[usize]) -> DeviceTensor {
    wrap(by_kind!(
        x,
        Dispatch::float_permute(x.inner, axes),
        Dispatch::int_permute(x.inner, axes),
        Dispatch::bool_permute(x.inner, axes)
    ))
}

pub(super) fn expand(x: DeviceTensor, shape: &[usize]) -> DeviceTensor {
    let shape = Shape::from(at_least_1d(shape));
    wrap(by_kind!(
        x,
        Dispatch::float_expand(x.inner, shape),
        Dispatch::int_expand(x.inner, shape),
        Dispatch::bool_expand(x.inner, shape)
    ))
}

pub(super) fn slice(x: DeviceTensor, slices: &[Slice]) -> DeviceTensor {
    wrap(by_kind!(
        x,
        Dispatch::float_slice(x.inner, slices),
        Dispatch::int_slice(x.inner, slices),
        Dispatch::bool_slice(x.inner, slices)
    ))
}

pub(super) fn flip(x: DeviceTensor, axes: &[usize]) -> DeviceTensor {
    wrap(by_kind!(
        x,
        Dispatch::float_flip(x.inner, axes),
        Dispatch::int_flip(x.inner, axes),
        Dispatch::bool_flip(x.inner, axes)
    ))
}

pub(super) fn cat(parts: Vec<DeviceTensor>, axis: usize) -> DeviceTensor {
    let kind = parts.first().map_or(Kind::Float, DeviceTensor::kind);
    let parts: Vec<_> = parts.into_iter().map(|part| part.inner).collect();
    wrap(match kind {
        Kind::Float => Dispatch::float_cat(parts, axis),
        Kind::Int => Dispatch::int_cat(parts, axis),
        _ => Dispatch::bool_cat(parts, axis),
    })
}

pub(super) fn pad(x: DeviceTensor, padding: &[(usize, usize)], value: f64) -> DeviceTensor {
    #[allow(clippy::cast_possible_truncation, reason = "burn pads with floats of 32 bits")]
    wrap(Dispatch::float_pad(x.inner, padding, PadMode::Constant(value as f32)))
}

pub(super) fn select(x: DeviceTensor, axis: usize, indices: DeviceTensor) -> DeviceTensor {
    wrap(by_kind!(
        x,
        Dispatch::float_select(x.inner, axis, indices.inner),
        Dispatch::int_select(x.inner, axis, indices.inner),
        Dispatch::bool_select(x.inner, axis, indices.inner)
    ))
}

pub(super) fn gather(x: DeviceTensor, axis: usize, indices: DeviceTensor) -> DeviceTensor {
    wrap(by_kind!(
        x,
        Dispatch::float_gather(axis, x.inner, indices.inner),
        Dispatch::int_gather(axis, x.inner, indices.inner),
        Dispatch::bool_gather(axis, x.inner, indices.inner)
    ))
}
