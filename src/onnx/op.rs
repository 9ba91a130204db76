//! The steps that a plan is made of: each an operation of burn, or a function of the host.

use super::elem::Kind;
use super::host::Host;
use super::tensor::{Tensor, at_least_1d};
use burn::backend::ops::{
    ActivationOps, AttentionModuleOptions, BoolTensorOps, ConvOptions, ConvTransposeOptions,
    DeformConvOptions, FloatTensorOps, IntTensorOps, InterpolateMode, InterpolateOptions,
    ModuleOps, PadMode,
};
use burn::backend::{Dispatch, DispatchTensor, Scalar};
use burn::tensor::{DType, IndexingUpdateOp, Shape, Slice};
use std::fmt;
use std::sync::Arc;

/// Of one tensor, element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    BitNot,
    Ceil,
    Cos,
    Cosh,
    Erf,
    Exp,
    Floor,
    Gelu,
    IsInf,
    IsNan,
    Log,
    Neg,
    Not,
    Recip,
    Relu,
    Round,
    Sigmoid,
    Sign,
    Sin,
    Sinh,
    Sqrt,
    Tan,
    Tanh,
}

/// Of two tensors of one type, element by element, broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    /// Toward zero for integers.
    Div,
    Max,
    Min,
    Pow,
    /// With the sign of the divisor.
    Rem,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
    And,
    Or,
    Xor,
}

/// Comparisons; the answer is boolean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

/// Over one axis, which stays with length 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduce {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
}

/// Windows that slide over the last axes (one to three).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) kernel: Vec<usize>,
    pub(crate) stride: Vec<usize>,
    /// Before and behind.
    pub(crate) padding: Vec<(usize, usize)>,
    pub(crate) dilation: Vec<usize>,
    pub(crate) groups: usize,
}

type HostFn = dyn Fn(&[Host]) -> Result<Vec<Host>, String> + Send + Sync;

/// A function of the host in the middle of a plan: what it takes is read back, what it gives is
/// uploaded.
#[derive(Clone)]
pub(crate) struct HostOp {
    pub(crate) name: &'static str,
    pub(crate) run: Arc<HostFn>,
}

impl fmt::Debug for HostOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// One step, on tensors that are all on one device.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Unary(Unary),
    Binary(Binary),
    /// With a number on the right.
    Scalar(Binary, f64),
    Clamp(Option<f64>, Option<f64>),
    Compare(Compare),
    /// Condition, where it holds, where not.
    Where,
    Cast(DType),
    Reshape(Vec<usize>),
    Permute(Vec<usize>),
    Expand(Vec<usize>),
    Slice(Vec<Slice>),
    Cat(usize),
    Flip(Vec<usize>),
    /// Numbers before and behind, per axis, filled with a constant.
    Pad(Vec<(usize, usize)>, f64),
    /// Whole slices along an axis by an index of one dimension.
    Select(usize),
    /// Elements along an axis, by an index of the same rank.
    Gather(usize),
    /// Data, indices, updates; elements along an axis.
    Scatter(usize, IndexingUpdateOp),
    /// Data, indices, updates; the index's last axis names a place.
    ScatterNd(IndexingUpdateOp),
    GatherNd,
    Reduce(Reduce, usize),
    ArgMax(usize),
    ArgMin(usize),
    CumSum(usize),
    CumProd(usize),
    MatMul,
    /// Data, weights, perhaps bias.
    Conv(Window),
    /// Data, weights, perhaps bias; more at the end of each axis.
    ConvTranspose(Window, Vec<usize>),
    /// Data, weights, offsets, perhaps bias, perhaps mask (the flags say which).
    DeformConv(Window, usize, bool, bool),
    MaxPool(Window, bool),
    AveragePool(Window, bool, bool),
    GlobalAveragePool,
    /// Size of the last two axes, bilinear or nearest, corners aligned.
    Interpolate([usize; 2], bool, bool),
    Softmax(usize),
    LogSoftmax(usize),
    /// Over the last axis: data, scale, perhaps bias.
    LayerNorm(f64),
    /// Query, key, value, perhaps what is added to the scores; scale, causal.
    Attention(f64, bool),
    Host(HostOp),
}

fn wrap(inner: DispatchTensor) -> Tensor {
    Tensor::new(inner)
}

/// Tells which of burn's three families of operations a tensor belongs to.
macro_rules! by_kind {
    ($tensor:expr, $float:expr, $int:expr, $bool:expr) => {
        match $tensor.kind() {
            Kind::Float => $float,
            Kind::Int => $int,
            _ => $bool,
        }
    };
}

impl Op {
    /// Runs the step on burn's tensors.
    ///
    /// # Errors
    /// If there are too few inputs. Panics where burn does.
    pub(crate) fn run(&self, inputs: Vec<Tensor>) -> Result<Tensor, String> {
        let mut inputs = inputs.into_iter();
        let short = || format!("{self:?} has too few inputs");
        if let Op::Cat(axis) = self {
            return Ok(cat(inputs.collect(), *axis));
        }
        let x = inputs.next().ok_or_else(short)?;
        if let Some(tensor) = self.of_one(&x) {
            return Ok(tensor);
        }
        let y = inputs.next();
        if let Some(tensor) = self.of_module(&x, y.as_ref(), &mut inputs) {
            return Ok(tensor);
        }
        let y = y.ok_or_else(short)?;
        Ok(match self {
            Op::Binary(binary) => binary.run(x, y),
            Op::Compare(compare) => compare.run(x, y),
            Op::Select(axis) => select(x, *axis, y),
            Op::Gather(axis) => gather(x, *axis, y),
            Op::GatherNd => wrap(by_kind!(
                x,
                Dispatch::float_gather_nd(x.inner, y.inner),
                Dispatch::int_gather_nd(x.inner, y.inner),
                return Err("gather_nd of booleans".to_owned())
            )),
            Op::MatMul => wrap(by_kind!(
                x,
                Dispatch::float_matmul(x.inner, y.inner),
                Dispatch::int_matmul(x.inner, y.inner),
                return Err("matmul of booleans".to_owned())
            )),
            Op::Where => {
                let z = inputs.next().ok_or_else(short)?;
                mask_where(z, x, y)
            }
            Op::Scatter(axis, update) => {
                let z = inputs.next().ok_or_else(short)?;
                scatter(x, *axis, y, z, *update)
            }
            Op::ScatterNd(update) => {
                let z = inputs.next().ok_or_else(short)?;
                wrap(by_kind!(
                    x,
                    Dispatch::float_scatter_nd(x.inner, y.inner, z.inner, *update),
                    Dispatch::int_scatter_nd(x.inner, y.inner, z.inner, *update),
                    return Err("scatter_nd of booleans".to_owned())
                ))
            }
            _ => return Err(format!("{self:?} cannot run on a device")),
        })
    }

    /// Steps of one tensor. Its elements are shared, not copied, when it is cloned.
    fn of_one(&self, x: &Tensor) -> Option<Tensor> {
        let x = || x.clone();
        Some(match self {
            Op::Unary(unary) => unary.run(x()),
            Op::Scalar(binary, value) => binary.run_scalar(x(), *value),
            Op::Clamp(least, most) => clamp(x(), *least, *most),
            Op::Cast(dtype) => cast(x(), *dtype),
            Op::Reshape(shape) => x().reshape(&at_least_1d(shape)),
            Op::Permute(axes) => permute(x(), axes),
            Op::Expand(shape) => expand(x(), shape),
            Op::Slice(slices) => slice(x(), slices),
            Op::Flip(axes) => flip(x(), axes),
            Op::Pad(padding, value) => pad(x(), padding, *value),
            Op::Reduce(reduce, axis) => reduce.run(x(), *axis),
            Op::ArgMax(axis) => arg(x(), *axis, true),
            Op::ArgMin(axis) => arg(x(), *axis, false),
            Op::CumSum(axis) => cumulate(x(), *axis, false),
            Op::CumProd(axis) => cumulate(x(), *axis, true),
            Op::Softmax(axis) => wrap(Dispatch::softmax(x().inner, *axis)),
            Op::LogSoftmax(axis) => wrap(Dispatch::log_softmax(x().inner, *axis)),
            Op::MaxPool(window, ceil) => max_pool(x(), window, *ceil),
            Op::AveragePool(window, counts, ceil) => average_pool(x(), window, *counts, *ceil),
            Op::GlobalAveragePool => wrap(Dispatch::adaptive_avg_pool2d(x().inner, [1, 1])),
            Op::Interpolate(size, bilinear, corners) => {
                let mode =
                    if *bilinear { InterpolateMode::Bilinear } else { InterpolateMode::Nearest };
                let options = InterpolateOptions::new(mode).with_align_corners(*corners);
                wrap(Dispatch::interpolate(x().inner, *size, options))
            }
            _ => return None,
        })
    }

    /// Steps with weights.
    fn of_module(
        &self,
        x: &Tensor,
        y: Option<&Tensor>,
        rest: &mut impl Iterator<Item = Tensor>,
    ) -> Option<Tensor> {
        let x = x.inner.clone();
        let y = || y.map(|tensor| tensor.inner.clone());
        let mut next = || rest.next().map(|tensor| tensor.inner);
        Some(match self {
            Op::Conv(window) => conv(x, y()?, next(), window),
            Op::ConvTranspose(window, more) => conv_transpose(x, y()?, next(), window, more),
            Op::DeformConv(window, offset_groups, bias, mask) => {
                let offset = next()?;
                let bias = if *bias { next() } else { None };
                let mask = if *mask { next() } else { None };
                let (stride, padding) = (two(&window.stride)?, begin2(&window.padding)?);
                let dilation = two(&window.dilation)?;
                let groups = window.groups;
                let options =
                    DeformConvOptions::new(stride, padding, dilation, groups, *offset_groups);
                wrap(Dispatch::deform_conv2d(x, offset, y()?, mask, bias, options))
            }
            Op::LayerNorm(epsilon) => wrap(Dispatch::layer_norm(x, y()?, next(), *epsilon)),
            Op::Attention(scale, causal) => {
                let value = next()?;
                let options = AttentionModuleOptions {
                    scale: Some(*scale),
                    softcap: None,
                    is_causal: *causal,
                };
                wrap(Dispatch::attention(x, y()?, value, None, next(), options))
            }
            _ => return None,
        })
    }
}

impl Unary {
    fn run(self, tensor: Tensor) -> Tensor {
        let (kind, bools) = (tensor.kind(), tensor.bool_dtype());
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
            (Unary::Tanh, _) => Dispatch::float_tanh(x),
        })
    }
}

impl Binary {
    fn run(self, x: Tensor, y: Tensor) -> Tensor {
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
            // The greater of two; one that is NaN stays NaN, as its comparison is false.
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

    fn run_scalar(self, tensor: Tensor, value: f64) -> Tensor {
        let (x, value) = (tensor.inner, Scalar::Float(value));
        wrap(match self {
            Binary::Add => Dispatch::float_add_scalar(x, value),
            Binary::Sub => Dispatch::float_sub_scalar(x, value),
            Binary::Mul => Dispatch::float_mul_scalar(x, value),
            Binary::Div => Dispatch::float_div_scalar(x, value),
            Binary::Pow => Dispatch::float_powf_scalar(x, value),
            // Others are never made: see `Tracer::binary`.
            _ => x,
        })
    }
}

/// `y` where `mask`, else `x`, but NaN where `y` is.
fn nan_aware(x: DispatchTensor, y: DispatchTensor, mask: DispatchTensor) -> Tensor {
    let bools = wrap(x.clone()).bool_dtype();
    let nan = Dispatch::float_is_nan(y.clone(), bools);
    let mask = broadcast_or(mask, nan);
    mask_where_broadcast(wrap(x), wrap(mask), wrap(y))
}

fn broadcast_or(x: DispatchTensor, y: DispatchTensor) -> DispatchTensor {
    Dispatch::bool_or(x, y)
}

/// Like `mask_where`, for tensors that the mask is larger than.
fn mask_where_broadcast(x: Tensor, mask: Tensor, y: Tensor) -> Tensor {
    let shape = mask.shape();
    let fit =
        |tensor: Tensor| if tensor.shape() == shape { tensor } else { expand(tensor, &shape) };
    mask_where(fit(x), mask, fit(y))
}

/// `y` where the mask holds, else `x`.
fn mask_where(x: Tensor, mask: Tensor, y: Tensor) -> Tensor {
    wrap(by_kind!(
        x,
        Dispatch::float_mask_where(x.inner, mask.inner, y.inner),
        Dispatch::int_mask_where(x.inner, mask.inner, y.inner),
        Dispatch::bool_mask_where(x.inner, mask.inner, y.inner)
    ))
}

impl Compare {
    fn run(self, x: Tensor, y: Tensor) -> Tensor {
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

impl Reduce {
    fn run(self, tensor: Tensor, axis: usize) -> Tensor {
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

fn arg(tensor: Tensor, axis: usize, max: bool) -> Tensor {
    let host = tensor.dtype().size() == 8 || super::tensor::on_host(&tensor);
    let indices = if host { burn::tensor::IntDType::I64 } else { burn::tensor::IntDType::I32 };
    let float = tensor.kind() == Kind::Float;
    let x = tensor.inner;
    wrap(match (max, float) {
        (true, true) => Dispatch::float_argmax(x, axis, indices),
        (false, true) => Dispatch::float_argmin(x, axis, indices),
        (true, false) => Dispatch::int_argmax(x, axis),
        (false, false) => Dispatch::int_argmin(x, axis),
    })
}

fn cumulate(x: Tensor, axis: usize, product: bool) -> Tensor {
    let float = x.kind() == Kind::Float;
    wrap(match (product, float) {
        (false, true) => Dispatch::float_cumsum(x.inner, axis),
        (false, false) => Dispatch::int_cumsum(x.inner, axis),
        (true, true) => Dispatch::float_cumprod(x.inner, axis),
        (true, false) => Dispatch::int_cumprod(x.inner, axis),
    })
}

fn clamp(tensor: Tensor, least: Option<f64>, most: Option<f64>) -> Tensor {
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

/// Between all types; numbers become booleans by not being zero.
fn cast(tensor: Tensor, to: DType) -> Tensor {
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

fn permute(x: Tensor, axes: &[usize]) -> Tensor {
    wrap(by_kind!(
        x,
        Dispatch::float_permute(x.inner, axes),
        Dispatch::int_permute(x.inner, axes),
        Dispatch::bool_permute(x.inner, axes)
    ))
}

pub(crate) fn expand(x: Tensor, shape: &[usize]) -> Tensor {
    let shape = Shape::from(at_least_1d(shape));
    wrap(by_kind!(
        x,
        Dispatch::float_expand(x.inner, shape),
        Dispatch::int_expand(x.inner, shape),
        Dispatch::bool_expand(x.inner, shape)
    ))
}

fn slice(x: Tensor, slices: &[Slice]) -> Tensor {
    wrap(by_kind!(
        x,
        Dispatch::float_slice(x.inner, slices),
        Dispatch::int_slice(x.inner, slices),
        Dispatch::bool_slice(x.inner, slices)
    ))
}

fn flip(x: Tensor, axes: &[usize]) -> Tensor {
    wrap(by_kind!(
        x,
        Dispatch::float_flip(x.inner, axes),
        Dispatch::int_flip(x.inner, axes),
        Dispatch::bool_flip(x.inner, axes)
    ))
}

fn cat(parts: Vec<Tensor>, axis: usize) -> Tensor {
    let kind = parts.first().map_or(Kind::Float, Tensor::kind);
    let parts: Vec<_> = parts.into_iter().map(|part| part.inner).collect();
    wrap(match kind {
        Kind::Float => Dispatch::float_cat(parts, axis),
        Kind::Int => Dispatch::int_cat(parts, axis),
        _ => Dispatch::bool_cat(parts, axis),
    })
}

fn pad(x: Tensor, padding: &[(usize, usize)], value: f64) -> Tensor {
    #[allow(clippy::cast_possible_truncation, reason = "burn pads with floats of 32 bits")]
    wrap(Dispatch::float_pad(x.inner, padding, PadMode::Constant(value as f32)))
}

fn select(x: Tensor, axis: usize, indices: Tensor) -> Tensor {
    wrap(by_kind!(
        x,
        Dispatch::float_select(x.inner, axis, indices.inner),
        Dispatch::int_select(x.inner, axis, indices.inner),
        Dispatch::bool_select(x.inner, axis, indices.inner)
    ))
}

fn gather(x: Tensor, axis: usize, indices: Tensor) -> Tensor {
    wrap(by_kind!(
        x,
        Dispatch::float_gather(axis, x.inner, indices.inner),
        Dispatch::int_gather(axis, x.inner, indices.inner),
        Dispatch::bool_gather(axis, x.inner, indices.inner)
    ))
}

fn scatter(x: Tensor, axis: usize, at: Tensor, value: Tensor, how: IndexingUpdateOp) -> Tensor {
    wrap(by_kind!(
        x,
        Dispatch::float_scatter(axis, x.inner, at.inner, value.inner, how),
        Dispatch::int_scatter(axis, x.inner, at.inner, value.inner, how),
        Dispatch::bool_scatter_or(axis, x.inner, at.inner, value.inner)
    ))
}

fn two(values: &[usize]) -> Option<[usize; 2]> {
    values.try_into().ok()
}

fn begin2(padding: &[(usize, usize)]) -> Option<[usize; 2]> {
    match padding {
        [(first, _), (second, _)] => Some([*first, *second]),
        _ => None,
    }
}

impl Window {
    fn options<const N: usize>(&self) -> Option<ConvOptions<N>> {
        let stride = self.stride.as_slice().try_into().ok()?;
        let padding = self.padding.as_slice().try_into().ok()?;
        let dilation = self.dilation.as_slice().try_into().ok()?;
        Some(ConvOptions::new_with_padding(stride, padding, dilation, self.groups))
    }

    fn transposed<const N: usize>(&self, more: &[usize]) -> Option<ConvTransposeOptions<N>> {
        let stride = self.stride.as_slice().try_into().ok()?;
        let dilation = self.dilation.as_slice().try_into().ok()?;
        let begin: Vec<usize> = self.padding.iter().map(|(begin, _)| *begin).collect();
        let padding = begin.as_slice().try_into().ok()?;
        let more = more.try_into().ok()?;
        Some(ConvTransposeOptions::new(stride, padding, more, dilation, self.groups))
    }
}

fn conv(
    x: DispatchTensor,
    weight: DispatchTensor,
    bias: Option<DispatchTensor>,
    window: &Window,
) -> Tensor {
    if let Some(options) = window.options::<2>() {
        return wrap(Dispatch::conv2d(x, weight, bias, options));
    }
    if let Some(options) = window.options::<1>() {
        return wrap(Dispatch::conv1d(x, weight, bias, options));
    }
    match window.options::<3>() {
        Some(options) => wrap(Dispatch::conv3d(x, weight, bias, options)),
        // Others are refused when the plan is made.
        None => wrap(x),
    }
}

fn conv_transpose(
    x: DispatchTensor,
    weight: DispatchTensor,
    bias: Option<DispatchTensor>,
    window: &Window,
    more: &[usize],
) -> Tensor {
    if let Some(options) = window.transposed::<2>(more) {
        return wrap(Dispatch::conv_transpose2d(x, weight, bias, options));
    }
    if let Some(options) = window.transposed::<1>(more) {
        return wrap(Dispatch::conv_transpose1d(x, weight, bias, options));
    }
    match window.transposed::<3>(more) {
        Some(options) => wrap(Dispatch::conv_transpose3d(x, weight, bias, options)),
        // Others are refused when the plan is made.
        None => wrap(x),
    }
}

/// Of two axes, padded alike before and behind.
fn max_pool(x: Tensor, window: &Window, ceil: bool) -> Tensor {
    let parts = (two(&window.kernel), two(&window.stride), begin2(&window.padding));
    match (parts, two(&window.dilation)) {
        ((Some(kernel), Some(stride), Some(padding)), Some(dilation)) => {
            wrap(Dispatch::max_pool2d(x.inner, kernel, stride, padding, dilation, ceil))
        }
        _ => x,
    }
}

/// Of two axes, padded alike before and behind.
fn average_pool(x: Tensor, window: &Window, counts: bool, ceil: bool) -> Tensor {
    match (two(&window.kernel), two(&window.stride), begin2(&window.padding)) {
        (Some(kernel), Some(stride), Some(padding)) => {
            wrap(Dispatch::avg_pool2d(x.inner, kernel, stride, padding, counts, ceil))
        }
        _ => x,
    }
}
