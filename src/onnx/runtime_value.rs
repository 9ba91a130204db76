//! Values while a plan runs, with their type and shape.

use super::host::HostTensor;
use super::tensor::DeviceTensor;
use graph::elem::Elem;
use std::sync::Arc;

/// A tensor on the device, or text, which is always on the host.
#[allow(clippy::large_enum_variant, reason = "nearly all are tensors")]
#[derive(Clone, Debug)]
pub(crate) enum RuntimeValue {
    Tensor(DeviceTensor),
    Text(Arc<HostTensor>),
}

/// The type and shape of a value in ONNX.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Form {
    pub(crate) elem: Elem,
    pub(crate) shape: Vec<usize>,
}

pub(crate) fn form(host: &HostTensor) -> Form {
    Form { elem: host.elem, shape: host.shape.clone() }
}
