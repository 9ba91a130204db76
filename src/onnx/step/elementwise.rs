//! Element-wise steps.

use super::layout::expand;
use super::{Binary, Compare, Unary, by_kind, wrap};
use crate::tensor::{DeviceTensor, on_host};
use burn::backend::ops::{ActivationOps, BoolTensorOps, FloatTensorOps, IntTensorOps};
use burn::backend::{Dispatch, DispatchTensor, Scalar};
use burn::tensor::DType;
use graph::elem::Kind;

impl Unary {
    pub(super) fn run(self, tensor: DeviceTensor) -> DeviceTensor {
        let (kind, bools) = (tensor.kind(), tensor.bool_dtype());
        let host = on_host(&tensor);
        let x = tensor.inner;
        wrap(match (self, kind) {
            (Unary::Abs, Kind::Int) => Dispatch::int_abs(x),
            (Unary::Abs, _) => Dispatch::float_abs(x),
            (Unary::Acos, _) => Dispatch::float_acos(x),
            (Unary::Acosh, _) => Dispatch::float_acosh(x),
            (Unary::Asin, _) => Dispatch::float_asin(x),
            (Unary::Asinh, _) => Dispatch::float_asinh(x),
            (Unary::Atan, _) => Dispatch::float_atan(x),
            (Unary::Atanh, _) => Dispatch::float_atanh(x),
            (Unary::BitNot, _) => Dispatch::bitwise_not(x),
            (Unary::Ceil, _) => Dispatch::float_ceil(x),
            (Unary::Cos, _) => Dispatch::float_cos(x),
            (Unary::Cosh, _) => Dispatch::float_cosh(x),
            (Unary::Erf, _) => Dispatch::float_erf(x),
            (Unary::Exp, _) => Dispatch::float_exp(x),
            (Unary::Floor, _) => Dispatch::float_floor(x),
            (Unary::Gelu, _) => Dispatch::gelu(x),
            (Unary::IsInf, _) => Dispatch::float_is_inf(x, bools),
            (Unary::IsNan, _) => Dispatch::float_is_nan(x, bools),
            (Unary::Log, _) => Dispatch::float_log(x),
            (Unary::Neg, Kind::Int) => Dispatch::int_neg(x),
            (Unary::Neg, _) => Dispatch::float_neg(x),
            (Unary::Not, _) => Dispatch::bool_not(x),
            (Unary::Recip, _) => Dispatch::float_recip(x),
            (Unary::Relu, Kind::Int) => Dispatch::int_clamp_min(x, Scalar::Int(0)),
            (Unary::Relu, _) => Dispatch::relu(x),
            (Unary::Round, _) => Dispatch::float_round(x),
            (Unary::Sigmoid, _) => Dispatch::sigmoid(x),
            (Unary::Sign, Kind::Int) => Dispatch::int_sign(x),
            (Unary::Sign, _) => Dispatch::float_sign(x),
            (Unary::Sin, _) => Dispatch::float_sin(x),
            (Unary::Sinh, _) => Dispatch::float_sinh(x),
            (Unary::Sqrt, _) => Dispatch::float_sqrt(x),
            (Unary::Tan, _) => Dispatch::float_tan(x),
            // Some drivers compute exp(2 x), which overflows; beyond 15 the result does not change.
            (Unary::Tanh, _) if !host => {
                let inside = Dispatch::float_clamp(x, Scalar::Float(-15.0), Scalar::Float(15.0));
                Dispatch::float_tanh(inside)
            }
            (Unary::Tanh, _) => Dispatch::float_tanh(x),
        })
    }
}

impl Binary {
    pub(super) fn run(self, x: DeviceTensor, y: DeviceTensor) -> DeviceTensor {
        let (kind, bools) = (x.kind(), x.bool_dtype());
        let float = kind == Kind::Float;
        let (x, y) = (x.inner, y.inner);
        wrap(match self {
            Binary::Add if float => Dispatch::float_add(x, y),
            Binary::Add => Dispatch::int_add(x, y),
            Binary::Sub if float => Dispatch::float_sub(x, y),
            Binary::Sub => Dispatch::int_sub(x, y),
            Binary::Mul if float => Dispatch::float_mul(x, y),
            Binary::Mul => Dispatch::int_mul(x, y),
            Binary::Div if float => Dispatch::float_div(x, y),
            Binary::Div => Dispatch::int_div(x, y),
            Binary::Pow if float => Dispatch::float_powf(x, y),
            Binary::Pow => Dispatch::int_powi(x, y),
            Binary::Rem if float => Dispatch::float_remainder(x, y),
            Binary::Rem => Dispatch::int_remainder(x, y),
            // The greater of two; NaN is kept, as its comparison is false.
            Binary::Max if float => {
                let less = Dispatch::float_greater(y.clone(), x.clone(), bools);
                return nan_aware(x, y, less);
            }
            Binary::Min if float => {
                let less = Dispatch::float_lower(y.clone(), x.clone(), bools);
                return nan_aware(x, y, less);
            }
            Binary::Max => {
                let less = Dispatch::int_greater(y.clone(), x.clone(), bools);
                return mask_where_broadcast(wrap(x), wrap(less), wrap(y));
            }
            Binary::Min => {
                let less = Dispatch::int_lower(y.clone(), x.clone(), bools);
                return mask_where_broadcast(wrap(x), wrap(less), wrap(y));
            }
            Binary::BitAnd => Dispatch::bitwise_and(x, y),
            Binary::BitOr => Dispatch::bitwise_or(x, y),
            Binary::BitXor => Dispatch::bitwise_xor(x, y),
            Binary::ShiftLeft => Dispatch::bitwise_left_shift(x, y),
            Binary::ShiftRight => Dispatch::bitwise_right_shift(x, y),
            Binary::And => Dispatch::bool_and(x, y),
            Binary::Or => Dispatch::bool_or(x, y),
            Binary::Xor => Dispatch::bool_xor(x, y),
        })
    }

    pub(super) fn run_scalar(self, tensor: DeviceTensor, value: f64) -> DeviceTensor {
        let (x, value) = (tensor.inner, Scalar::Float(value));
        wrap(match self {
            Binary::Add => Dispatch::float_add_scalar(x, value),
            Binary::Sub => Dispatch::float_sub_scalar(x, value),
            Binary::Mul => Dispatch::float_mul_scalar(x, value),
            Binary::Div => Dispatch::float_div_scalar(x, value),
            Binary::Pow => Dispatch::float_powf_scalar(x, value),
            // Other operations are never made: see `Tracer::binary`.
            _ => x,
        })
    }
}

/// `y` where `mask`, else `x`, but NaN where `y` is NaN.
pub(super) fn nan_aware(
    x: DispatchTensor,
    y: DispatchTensor,
    mask: DispatchTensor,
) -> DeviceTensor {
    let bools = wrap(x.clone()).bool_dtype();
    let nan = Dispatch::float_is_nan(y.clone(), bools);
    let mask = broadcast_or(mask, nan);
    mask_where_broadcast(wrap(x), wrap(mask), wrap(y))
}

pub(super) fn broadcast_or(x: DispatchTensor, y: DispatchTensor) -> DispatchTensor {
    Dispatch::bool_or(x, y)
}

/// Like `mask_where`, for tensors that are smaller than the mask.
pub(super) fn mask_where_broadcast(
    x: DeviceTensor,
    mask: DeviceTensor,
    y: DeviceTensor,
) -> DeviceTensor {
    let shape = mask.shape();
    let fit = |tensor: DeviceTensor| {
        if tensor.shape() == shape { tensor } else { expand(tensor, &shape) }
    };
    mask_where(fit(x), mask, fit(y))
}

/// `y` where the mask is true, else `x`.
pub(super) fn mask_where(x: DeviceTensor, mask: DeviceTensor, y: DeviceTensor) -> DeviceTensor {
    wrap(by_kind!(
        x,
        Dispatch::float_mask_where(x.inner, mask.inner, y.inner),
        Dispatch::int_mask_where(x.inner, mask.inner, y.inner),
        Dispatch::bool_mask_where(x.inner, mask.inner, y.inner)
    ))
}

impl Compare {
    pub(super) fn run(self, x: DeviceTensor, y: DeviceTensor) -> DeviceTensor {
        let (kind, bools) = (x.kind(), x.bool_dtype());
        let (x, y) = (x.inner, y.inner);
        wrap(match (self, kind) {
            (Compare::Equal, Kind::Float) => Dispatch::float_equal(x, y, bools),
            (Compare::Equal, Kind::Int) => Dispatch::int_equal(x, y, bools),
            (Compare::Equal, _) => Dispatch::bool_equal(x, y),
            (Compare::Greater, Kind::Float) => Dispatch::float_greater(x, y, bools),
            (Compare::Greater, _) => Dispatch::int_greater(x, y, bools),
            (Compare::GreaterEqual, Kind::Float) => Dispatch::float_greater_equal(x, y, bools),
            (Compare::GreaterEqual, _) => Dispatch::int_greater_equal(x, y, bools),
            (Compare::Less, Kind::Float) => Dispatch::float_lower(x, y, bools),
            (Compare::Less, _) => Dispatch::int_lower(x, y, bools),
            (Compare::LessEqual, Kind::Float) => Dispatch::float_lower_equal(x, y, bools),
            (Compare::LessEqual, _) => Dispatch::int_lower_equal(x, y, bools),
        })
    }
}

pub(super) fn clamp(tensor: DeviceTensor, least: Option<f64>, most: Option<f64>) -> DeviceTensor {
    let float = tensor.kind() == Kind::Float;
    let x = tensor.inner;
    #[allow(clippy::cast_possible_truncation, reason = "saturates")]
    let int = |value: f64| Scalar::Int(value as i64);
    let number = Scalar::Float;
    wrap(match (least, most) {
        (Some(least), Some(most)) if float => Dispatch::float_clamp(x, number(least), number(most)),
        (Some(least), None) if float => Dispatch::float_clamp_min(x, number(least)),
        (None, Some(most)) if float => Dispatch::float_clamp_max(x, number(most)),
        (Some(least), Some(most)) => Dispatch::int_clamp(x, int(least), int(most)),
        (Some(least), None) => Dispatch::int_clamp_min(x, int(least)),
        (None, Some(most)) => Dispatch::int_clamp_max(x, int(most)),
        (None, None) => x,
    })
}

/// A cast between any types; numbers become true booleans unless they are zero.
pub(super) fn cast(tensor: DeviceTensor, to: DType) -> DeviceTensor {
    if tensor.dtype() == to {
        return tensor;
    }
    let (from, bools) = (tensor.kind(), tensor.bool_dtype());
    let x = tensor.inner;
    let zero = Scalar::Int(0);
    wrap(match (from, to) {
        (Kind::Float, DType::Bool(_)) => {
            Dispatch::float_not_equal_elem(x, Scalar::Float(0.0), bools)
        }
        (Kind::Int, DType::Bool(_)) => Dispatch::int_not_equal_elem(x, zero, bools),
        (_, DType::Bool(_)) => x,
        (Kind::Float, to) if to.is_float() => Dispatch::float_cast(x, to.into()),
        (Kind::Float, to) => Dispatch::float_into_int(x, to.into()),
        (Kind::Int, to) if to.is_float() => Dispatch::int_into_float(x, to.into()),
        (Kind::Int, to) => Dispatch::int_cast(x, to.into()),
        (_, to) if to.is_float() => Dispatch::bool_into_float(x, to.into()),
        (_, to) => Dispatch::bool_into_int(x, to.into()),
    })
}
