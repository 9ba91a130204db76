//! Constants in a plan, and the values of tensors that must be known when it is made.

use super::host::HostTensor;
use super::trace::{T, Tracer};
use graph::elem::Elem;
use graph::error::Result;

/// A constant of integers in one dimension.
pub(crate) fn indices(t: &Tracer<'_>, values: Vec<i64>) -> Result<T> {
    t.constant(HostTensor::ints(Elem::I64, vec![values.len()], values))
}

/// The integers that a tensor holds.
pub(crate) fn ints(t: &mut Tracer<'_>, x: &T) -> Result<Vec<i64>> {
    Ok(t.look(x)?.to_i64())
}

/// The numbers that a tensor holds.
pub(crate) fn floats(t: &mut Tracer<'_>, x: &T) -> Result<Vec<f64>> {
    Ok(t.look(x)?.to_f64())
}

/// Lengths that a tensor holds.
pub(crate) fn lengths(t: &mut Tracer<'_>, x: &T) -> Result<Vec<usize>> {
    graph::raw::shape(&ints(t, x)?)
}
