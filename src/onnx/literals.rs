//! Constants in a plan, and the values of tensors that are needed when it is made.

use super::host::HostTensor;
use super::trace::{PlanTensor, Tracer};
use graph::elem::Elem;
use graph::error::Result;

/// A constant of integers with one axis.
pub(crate) fn indices(t: &Tracer<'_>, values: Vec<i64>) -> Result<PlanTensor> {
    t.constant(HostTensor::ints(Elem::I64, vec![values.len()], values))
}

/// The elements of a tensor as integers.
pub(crate) fn ints(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<Vec<i64>> {
    Ok(t.read_value(x)?.to_i64())
}

/// The elements of a tensor as floats.
pub(crate) fn floats(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<Vec<f64>> {
    Ok(t.read_value(x)?.to_f64())
}

/// The elements of a tensor as lengths.
pub(crate) fn lengths(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<Vec<usize>> {
    graph::raw::shape(&ints(t, x)?)
}
