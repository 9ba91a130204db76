//! The steps of a plan: each is an operation of burn, or a function of the host.

mod direct;
mod elements;
mod elementwise;
mod layout;
mod module;
mod packed;
mod reduce;

use super::host::HostTensor;
use super::native_tensor::NativeTensor;
use super::tensor::{DeviceTensor, at_least_1d};
use burn::backend::ops::{
    ActivationOps, AttentionModuleOptions, DeformConvOptions, FloatTensorOps, IntTensorOps,
    ModuleOps,
};
use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::{DType, Slice};
use elementwise::{cast, clamp, mask_where};
use graph::elem::Kind;
use graph::error::{OnnxError, Result};
use layout::{cat, expand, flip, gather, pad, permute, select, slice};
use module::{average_pool, begin2, conv, conv_transpose, max_pool, two};
use reduce::{arg, cumulate};
use std::fmt;
use std::sync::Arc;

pub(crate) use direct::is_wanted as is_direct;
pub(crate) use elements::{INPUTS_MAX, INSTRUCTIONS_MAX, Instruction, Operand, Program};
pub(crate) use packed::Packed;

/// An element-wise operation of one tensor.
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

/// An element-wise operation of two tensors of one type, which broadcast.
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

/// A comparison; the result is boolean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

/// A reduction over one axis, which is kept with length 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduce {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
}

/// A window that slides over the last axes (one to three).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlidingWindow {
    pub(crate) kernel: Vec<usize>,
    pub(crate) stride: Vec<usize>,
    /// The padding before and behind each axis.
    pub(crate) padding: Vec<(usize, usize)>,
    pub(crate) dilation: Vec<usize>,
    pub(crate) groups: usize,
}

type WideFn = dyn Fn(&[HostTensor]) -> Result<Vec<HostTensor>> + Send + Sync;
type NativeFn = dyn Fn(&[NativeTensor]) -> Result<Vec<NativeTensor>> + Send + Sync;

/// The form in which a function of the host receives its tensors.
#[derive(Clone)]
pub(crate) enum HostRun {
    /// Widened to 64 bits.
    Wide(Arc<WideFn>),
    /// In their own types.
    Native(Arc<NativeFn>),
}

/// A function of the host in the middle of a plan: its inputs are read back from the device, and
/// its results are uploaded.
#[derive(Clone)]
pub(crate) struct HostOp {
    pub(crate) name: &'static str,
    pub(crate) run: HostRun,
}

impl fmt::Debug for HostOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// One step, on tensors of one device.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Unary(Unary),
    Binary(Binary),
    /// An operation with a number on the right.
    Scalar(Binary, f64),
    Clamp(Option<f64>, Option<f64>),
    Compare(Compare),
    /// The condition, the values where it is true, the values where it is false.
    Where,
    Cast(DType),
    Reshape(Vec<usize>),
    Permute(Vec<usize>),
    Expand(Vec<usize>),
    Slice(Vec<Slice>),
    Cat(usize),
    Flip(Vec<usize>),
    /// Widths before and behind each axis, filled with a number.
    Pad(Vec<(usize, usize)>, f64),
    /// Whole slices along an axis, by an index with one axis.
    Select(usize),
    /// Elements along an axis, by an index of the same rank.
    Gather(usize),
    Reduce(Reduce, usize),
    ArgMax(usize),
    ArgMin(usize),
    CumSum(usize),
    CumProd(usize),
    MatMul,
    /// Data, weights, optional bias.
    Conv(SlidingWindow),
    /// Data, weights, optional bias; the number is added at the end of each axis.
    ConvTranspose(SlidingWindow, Vec<usize>),
    /// Data, weights, offsets, optional bias, optional mask (the flags show which are given).
    DeformConv(SlidingWindow, usize, bool, bool),
    MaxPool(SlidingWindow, bool),
    AveragePool(SlidingWindow, bool, bool),
    Softmax(usize),
    LogSoftmax(usize),
    /// Over the last axis: data, scale, optional bias.
    LayerNorm(f64),
    /// Queries, keys and values `[batch, heads, length, size]`, an optional mask that is added to
    /// the scores; the scale, if it is not 1 / sqrt(size).
    Attention(Option<f64>),
    /// Data `[rows, inner]`, weights of a few bits, scales, optional zero points.
    Packed(Packed),
    /// Elements of a number of bits, unpacked from words of a number of bits to floats.
    Unpack(usize, usize),
    /// Bytes combined to words of 32 bits; of constants on the host.
    Words,
    /// Several element-wise steps.
    Elements(Arc<Program>),
    /// A step that takes this many of the first inputs; its result, reshaped, is the first input of
    /// a program, followed by the other inputs.
    Then(Arc<Op>, usize, Vec<usize>, Arc<Program>),
    Host(HostOp),
}

fn wrap(inner: DispatchTensor) -> DeviceTensor {
    DeviceTensor::new(inner)
}

/// Calls the function of one of burn's three families of operations, by the tensor's family.
macro_rules! by_kind {
    ($tensor:expr, $float:expr, $int:expr, $bool:expr) => {
        match $tensor.kind() {
            Kind::Float => $float,
            Kind::Int => $int,
            _ => $bool,
        }
    };
}

use by_kind;

impl Op {
    /// Returns true if the step computes something instead of only changing the view.
    pub(crate) fn is_launch(&self) -> bool {
        !matches!(self, Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) | Op::Host(_))
    }

    /// Returns true if a program can run on parts of its result before all of it is computed.
    pub(crate) fn is_anchor(&self) -> bool {
        matches!(
            self,
            Op::Conv(_)
                | Op::ConvTranspose(..)
                | Op::DeformConv(..)
                | Op::MatMul
                | Op::LayerNorm(_)
                | Op::Attention(_)
                | Op::MaxPool(..)
                | Op::AveragePool(..)
                | Op::Reduce(..)
                | Op::Softmax(_)
        )
    }

    /// The name of the kind of step.
    pub(crate) fn name(&self) -> String {
        let text = format!("{self:?}");
        match self {
            Op::Elements(program) => program.name(),
            Op::Then(op, _, _, program) => format!("{} > {}", op.name(), program.name()),
            Op::Unary(unary) => format!("{unary:?}"),
            Op::Binary(binary) | Op::Scalar(binary, _) => format!("{binary:?}"),
            Op::Reduce(reduce, _) => format!("Reduce{reduce:?}"),
            Op::Host(host) => format!("{} (host)", host.name),
            _ => text.split('(').next().unwrap_or_default().to_owned(),
        }
    }

    /// Runs the step on burn's tensors.
    ///
    /// # Errors
    /// If inputs are missing. Panics where burn does.
    pub(crate) fn run(&self, inputs: Vec<DeviceTensor>) -> Result<DeviceTensor> {
        // Inputs are moved, so that a step may work in place if they have no other user.
        let inputs = match self.run_fast(inputs) {
            Ok(fast) => return Ok(fast),
            Err(inputs) => inputs,
        };
        match self {
            // These steps take any number of inputs.
            Op::Cat(axis) => return Ok(cat(inputs, *axis)),
            Op::Elements(program) => return program.run(inputs),
            Op::Packed(packed) => return packed.run(inputs),
            Op::Then(op, count, shape, program) => return then(op, *count, shape, program, inputs),
            _ => {}
        }
        if let Some(result) = self.run_direct(&inputs) {
            return Ok(result);
        }
        let mut inputs = inputs.into_iter();
        let short = || OnnxError::internal(format!("{self:?} has too few inputs"));
        let x = inputs.next().ok_or_else(short)?;
        match self {
            Op::Unpack(bits, word) => return packed::unpack(x, *bits, *word),
            Op::Words => return packed::words(x),
            _ => {}
        }
        let x = match self.of_one(x) {
            Ok(tensor) => return Ok(tensor),
            Err(x) => x,
        };
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
            Op::MatMul => wrap(by_kind!(
                x,
                Dispatch::float_matmul(x.inner, y.inner),
                Dispatch::int_matmul(x.inner, y.inner),
                return Err(OnnxError::unsupported("MatMul of booleans is not supported"))
            )),
            Op::Where => {
                let z = inputs.next().ok_or_else(short)?;
                // burn takes the values for false first, ONNX's Where those for true.
                mask_where(z, x, y)
            }
            _ => return Err(OnnxError::unsupported(format!("{self:?} cannot run on a device"))),
        })
    }

    /// Runs a step of one tensor; returns the tensor if the step is of another kind.
    #[allow(clippy::result_large_err, reason = "the tensor is used further, it is not an error")]
    fn of_one(&self, x: DeviceTensor) -> Result<DeviceTensor, DeviceTensor> {
        Ok(match self {
            Op::Unary(unary) => unary.run(x),
            Op::Scalar(binary, value) => binary.run_scalar(x, *value),
            Op::Clamp(least, most) => clamp(x, *least, *most),
            Op::Cast(dtype) => cast(x, *dtype),
            Op::Reshape(shape) => x.reshape(&at_least_1d(shape)),
            Op::Permute(axes) => permute(x, axes),
            Op::Expand(shape) => expand(x, shape),
            Op::Slice(slices) => slice(x, slices),
            Op::Flip(axes) => flip(x, axes),
            Op::Pad(padding, value) => pad(x, padding, *value),
            // burn 0.22.1 fuses two reductions into one kernel with wrong results.
            Op::Reduce(reduce, axis) => direct::apart(reduce.run(x, *axis)),
            Op::ArgMax(axis) => arg(x, *axis, true),
            Op::ArgMin(axis) => arg(x, *axis, false),
            Op::CumSum(axis) => cumulate(x, *axis, false),
            Op::CumProd(axis) => cumulate(x, *axis, true),
            Op::Softmax(axis) => wrap(Dispatch::softmax(x.inner, *axis)),
            Op::LogSoftmax(axis) => wrap(Dispatch::log_softmax(x.inner, *axis)),
            Op::MaxPool(window, ceil) => max_pool(x, window, *ceil),
            Op::AveragePool(window, counts, ceil) => average_pool(x, window, *counts, *ceil),
            _ => return Err(x),
        })
    }

    /// Runs a step with weights.
    fn of_module(
        &self,
        x: &DeviceTensor,
        y: Option<&DeviceTensor>,
        rest: &mut impl Iterator<Item = DeviceTensor>,
    ) -> Option<DeviceTensor> {
        let x = x.inner.clone();
        let y = || y.map(|tensor| tensor.inner.clone());
        let mut next = || rest.next().map(|tensor| tensor.inner);
        Some(match self {
            Op::Conv(window) => conv(x, y()?, next(), window),
            Op::ConvTranspose(window, more) => conv_transpose(x, y()?, next(), window, more),
            Op::DeformConv(window, offset_groups, bias, mask) => {
                // ONNX orders the inputs as offset, bias, mask, and burn as offset, mask, bias.
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
            Op::Attention(scale) => {
                let (key, value) = (y()?, next()?);
                let options =
                    AttentionModuleOptions { scale: *scale, softcap: None, is_causal: false };
                wrap(Dispatch::attention(x, key, value, None, next(), options))
            }
            Op::LayerNorm(epsilon) => wrap(Dispatch::layer_norm(x, y()?, next(), *epsilon)),
            _ => return None,
        })
    }
}

fn then(
    op: &Op,
    count: usize,
    shape: &[usize],
    program: &Arc<Program>,
    mut inputs: Vec<DeviceTensor>,
) -> Result<DeviceTensor> {
    // `split_off` would panic.
    if inputs.len() < count {
        return Err(OnnxError::internal(format!("{op:?} has too few inputs")));
    }
    let rest = inputs.split_off(count);
    let mut result = op.run(inputs)?;
    if result.shape() != shape {
        result = result.reshape(&at_least_1d(shape));
    }
    let inputs = std::iter::once(result).chain(rest).collect();
    Op::Elements(program.clone()).run(inputs)
}
