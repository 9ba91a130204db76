//! Convolutions and products without burn's search for the fastest kernel: it would compile and
//! time a dozen kernels for each shape, which takes minutes on software adapters.

use super::{Op, SlidingWindow, wrap};
use crate::tensor::DeviceTensor;
use burn::backend::ops::{ConvOptions, ConvTransposeOptions};
use burn::backend::{
    BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, ExecutionError,
};
use burn::cubecl::config::autotune::AutotuneLevel;
use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use burn_cubecl::CubeBackend;
use burn_cubecl::fusion::FusionCubeRuntime;
use burn_cubecl::kernel::conv::{
    ConvStrategy, ConvTranspose2dStrategy, conv_forward, conv_transpose2d,
};
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use burn_fusion::FusionTensor;
use burn_fusion::custom::{
    CustomOpIr, HandleContainer, Operation, OperationIr, StreamId, TensorIr,
};
use std::sync::LazyLock;

type Fused = FusionTensor<FusionCubeRuntime>;
type Handles = HandleContainer<<FusionCubeRuntime as burn_fusion::FusionRuntime>::FusionHandle>;

/// Returns true if this process limits the search, as workers of software adapters do.
pub(crate) fn is_wanted() -> bool {
    static WANTED: LazyLock<bool> = LazyLock::new(|| {
        matches!(CubeClRuntimeConfig::get().autotune.level, AutotuneLevel::Minimal)
    });
    *WANTED
}

/// The operation of a step in burn's stream.
#[derive(Clone, Debug)]
enum DirectOp {
    Conv(ConvOptions<2>),
    ConvTranspose(ConvTransposeOptions<2>),
    MatMul,
    Keep,
}

#[derive(Debug)]
struct Direct {
    op: DirectOp,
    ir: CustomOpIr,
}

impl Operation<FusionCubeRuntime> for Direct {
    fn execute(&self, handles: &mut Handles) -> Result<(), ExecutionError> {
        let inputs = self.ir.inputs.iter();
        let inputs: Vec<CubeTensor> =
            inputs.map(|input| handles.get_float_tensor::<CubeBackend>(input)).collect();
        let result = self.op.run(inputs)?;
        for output in &self.ir.outputs {
            handles.register_float_tensor::<CubeBackend>(&output.id, result.clone());
        }
        Ok(())
    }
}

impl DirectOp {
    fn run(&self, inputs: Vec<CubeTensor>) -> Result<CubeTensor, ExecutionError> {
        let mut inputs = inputs.into_iter();
        let short = || failed("too few inputs".to_owned());
        let (x, y) = (inputs.next().ok_or_else(short)?, inputs.next());
        match (self, y) {
            (DirectOp::Keep, _) => Ok(x),
            (_, None) => Err(short()),
            (DirectOp::Conv(options), Some(y)) => {
                conv_forward(x, y, inputs.next(), options.clone(), ConvStrategy::Direct)
                    .map_err(|error| failed(format!("{error:?}")))
            }
            (DirectOp::ConvTranspose(options), Some(y)) => {
                let strategy = ConvTranspose2dStrategy::Direct;
                conv_transpose2d(x, y, inputs.next(), options.clone(), strategy)
                    .map_err(|error| failed(format!("{error:?}")))
            }
            (DirectOp::MatMul, Some(y)) => {
                let dtype = x.dtype;
                matmul(x, y, None, MatmulStrategy::Cube, dtype)
                    .map_err(|error| failed(format!("{error:?}")))
            }
        }
    }
}

fn failed(reason: String) -> ExecutionError {
    ExecutionError::WithContext { reason }
}

impl Op {
    /// The result, if this step is of such a kind and the adapter needs it.
    pub(super) fn run_direct(&self, inputs: &[DeviceTensor]) -> Option<DeviceTensor> {
        match self {
            Op::Conv(window) if is_wanted() => conv(inputs, window),
            Op::ConvTranspose(window, more) if is_wanted() => conv_transpose(inputs, window, more),
            Op::MatMul if is_wanted() => product(inputs),
            _ => None,
        }
    }
}

/// The same tensor, as the beginning of a new group in burn's fusion. burn 0.22.1 fuses two
/// reductions and a step that uses both, `(x - mean(x)) / sqrt(mean(x * x) - mean(x) ^ 2)`, into
/// one kernel with wrong results.
pub(super) fn apart(x: DeviceTensor) -> DeviceTensor {
    let shape = x.shape();
    register(DirectOp::Keep, std::slice::from_ref(&x), &shape).unwrap_or(x)
}

fn conv(inputs: &[DeviceTensor], window: &SlidingWindow) -> Option<DeviceTensor> {
    let [x, weight, ..] = inputs else { return None };
    let (x, weight) = (x.shape(), weight.shape());
    let ([batch, _, lengths @ ..], [out, ..]) = (&x[..], &weight[..]) else { return None };
    let mut shape = vec![*batch, *out];
    for (axis, length) in lengths.iter().enumerate() {
        shape.push(window.places(axis, *length, false).ok()?);
    }
    // Custom operations exist for two axes only; burn runs convolutions of one or three.
    register(DirectOp::Conv(window.options::<2>()?), inputs, &shape)
}

fn conv_transpose(
    inputs: &[DeviceTensor],
    window: &SlidingWindow,
    more: &[usize],
) -> Option<DeviceTensor> {
    let [x, weight, ..] = inputs else { return None };
    let (x, weight) = (x.shape(), weight.shape());
    let ([batch, _, lengths @ ..], [_, out, ..]) = (&x[..], &weight[..]) else { return None };
    // Weights of a transposed convolution have the channels of one group in axis 1.
    let mut shape = vec![*batch, out * window.groups];
    for (axis, length) in lengths.iter().enumerate() {
        let (before, behind) = window.padding.get(axis)?;
        let whole = length.checked_sub(1)? * window.stride.get(axis)? + window.reach(axis);
        shape.push((whole + more.get(axis)?).checked_sub(before + behind)?);
    }
    register(DirectOp::ConvTranspose(window.transposed::<2>(more)?), inputs, &shape)
}

fn product(inputs: &[DeviceTensor]) -> Option<DeviceTensor> {
    let [x, y] = inputs else { return None };
    let (mut shape, y) = (x.shape(), y.shape());
    *shape.last_mut()? = *y.last()?;
    register(DirectOp::MatMul, inputs, &shape)
}

fn register(op: DirectOp, inputs: &[DeviceTensor], shape: &[usize]) -> Option<DeviceTensor> {
    let tensors = inputs.iter().map(fused).collect::<Option<Vec<_>>>()?;
    let (client, dtype) = tensors.first().map(|x| (x.client.clone(), x.dtype))?;
    let inputs: Vec<TensorIr> = tensors.into_iter().map(Fused::into_ir).collect();
    let output = TensorIr::uninit(client.create_empty_handle(), shape.into(), dtype);
    let ir = CustomOpIr::new("concertina_direct", &inputs, &[output]);
    let step = Direct { op, ir: ir.clone() };
    let outputs = client.register(StreamId::current(), OperationIr::Custom(ir), step);
    let kind = DispatchTensorKind::Cube(BackendTensor::Float(outputs.into_iter().next()?));
    Some(wrap(DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled }))
}

fn fused(tensor: &DeviceTensor) -> Option<Fused> {
    match &tensor.inner.kind {
        DispatchTensorKind::Cube(BackendTensor::Float(tensor)) => Some(tensor.clone()),
        _ => None,
    }
}
