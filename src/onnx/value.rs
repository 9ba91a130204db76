//! The values of a graph's names while a plan is made.

use super::host::HostTensor;
use super::runtime_value::{Form, RuntimeValue};
use super::tensor::{DeviceTensor, TensorPlace, from_raw};
use graph::elem::Elem;
use graph::error::Result;
use graph::raw::FileTensor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A tensor of a plan that is being made. Clones are cheap.
#[derive(Clone, Debug)]
pub(crate) struct PlanTensor {
    pub(crate) elem: Elem,
    pub(crate) shape: Vec<usize>,
    pub(super) slot: TensorSlot,
}

#[derive(Clone, Debug)]
pub(super) enum TensorSlot {
    Constant(Arc<Constant>),
    Var(usize),
}

/// A constant, on the host.
#[derive(Debug)]
pub(crate) struct Constant {
    pub(super) id: u64,
    pub(super) held: RuntimeValue,
    /// The constant belongs to the model, not only to one plan.
    pub(super) shared: bool,
}

/// The value of a name of the graph.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Tensor(PlanTensor),
    Sequence(Vec<Value>),
    Optional(Option<Box<Value>>),
}

impl PlanTensor {
    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn is_constant(&self) -> bool {
        matches!(self.slot, TensorSlot::Constant(_))
    }

    pub(super) fn constant(
        elem: Elem,
        shape: Vec<usize>,
        held: RuntimeValue,
        shared: bool,
    ) -> PlanTensor {
        // Only uniqueness matters, not the order between threads.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        PlanTensor {
            elem,
            shape,
            slot: TensorSlot::Constant(Arc::new(Constant { id, held, shared })),
        }
    }

    /// A tensor of the file.
    ///
    /// # Errors
    /// If its data do not fit its type.
    pub(crate) fn of_file(raw: &FileTensor) -> Result<PlanTensor> {
        let held = if raw.elem == Elem::Text {
            RuntimeValue::Text(Arc::new(HostTensor::from_raw(raw)))
        } else {
            RuntimeValue::Tensor(DeviceTensor::upload(
                from_raw(raw, &TensorPlace::host())?,
                &TensorPlace::host().device,
            ))
        };
        Ok(PlanTensor::constant(raw.elem, raw.shape.clone(), held, true))
    }

    pub(crate) fn form(&self) -> Form {
        Form { elem: self.elem, shape: self.shape.clone() }
    }

    /// Returns true if both are the same tensor.
    pub(crate) fn is(&self, other: &PlanTensor) -> bool {
        match (&self.slot, &other.slot) {
            (TensorSlot::Var(one), TensorSlot::Var(two)) => one == two,
            (TensorSlot::Constant(one), TensorSlot::Constant(two)) => {
                one.id == two.id && self.shape == other.shape
            }
            _ => false,
        }
    }

    /// The variable of the result, unless it is a constant.
    pub(crate) fn var(&self) -> Option<usize> {
        match self.slot {
            TensorSlot::Var(var) => Some(var),
            TensorSlot::Constant(_) => None,
        }
    }

    /// The constant, if it is one.
    pub(super) fn own(&self) -> Option<Arc<Constant>> {
        match &self.slot {
            TensorSlot::Constant(constant) => Some(constant.clone()),
            TensorSlot::Var(_) => None,
        }
    }
}
