//! The building blocks of operators: functions like numpy's, on tensors of a plan; and the limits of
//! a plan.

use super::step::{Binary, Compare, Op, Reduce, Unary};
use super::trace::{PlanTensor, Tracer};
use crate::{axes, literals};
use graph::elem::{Elem, Kind};
use graph::error::{OnnxError, Result};
use graph::raw::check_shape;

/// Runs of adjacent axes: the first one and their number.
fn adjacent(axes: &[usize]) -> Vec<(usize, usize)> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for axis in sorted {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == axis => *count += 1,
            _ => runs.push((axis, 1)),
        }
    }
    runs
}

impl Tracer<'_> {
    pub(crate) fn unary(&mut self, unary: Unary, x: &PlanTensor) -> Result<PlanTensor> {
        let float_only = !matches!(
            unary,
            Unary::Abs | Unary::Neg | Unary::Sign | Unary::Relu | Unary::BitNot | Unary::Not
        );
        if float_only && x.elem.kind() != Kind::Float {
            return Err(OnnxError::invalid(format!("{unary:?} is not supported for {}", x.elem)));
        }
        let boolean = matches!(unary, Unary::IsInf | Unary::IsNan);
        let elem = if boolean { Elem::Bool } else { x.elem };
        self.emit(Op::Unary(unary), &[x], elem, x.shape.clone())
    }

    /// An operation of two tensors of one type, which broadcast.
    pub(crate) fn binary(
        &mut self,
        binary: Binary,
        x: &PlanTensor,
        y: &PlanTensor,
    ) -> Result<PlanTensor> {
        // ONNX gives both inputs one type parameter and has no implicit conversions.
        same_type(x, y)?;
        let shape = axes::broadcast(&x.shape, &y.shape)?;
        // A constant number becomes the right operand, where the order does not matter.
        let turns = matches!(binary, Binary::Add | Binary::Mul);
        let (x, y) = if turns && x.is_constant() { (y, x) } else { (x, y) };
        if let Some(scalar) = scalar_of(self, binary, x, y, &shape)? {
            return self.emit(scalar, &[x], x.elem, shape);
        }
        // burn broadcasts axes of length 1, but does not add axes.
        let (x, y) =
            (axes::with_rank(self, x, shape.len())?, axes::with_rank(self, y, shape.len())?);
        self.emit(Op::Binary(binary), &[&x, &y], x.elem, shape)
    }

    pub(crate) fn compare(
        &mut self,
        compare: Compare,
        x: &PlanTensor,
        y: &PlanTensor,
    ) -> Result<PlanTensor> {
        same_type(x, y)?;
        let shape = axes::broadcast(&x.shape, &y.shape)?;
        let (x, y) =
            (axes::with_rank(self, x, shape.len())?, axes::with_rank(self, y, shape.len())?);
        self.emit(Op::Compare(compare), &[&x, &y], Elem::Bool, shape)
    }

    pub(crate) fn add(&mut self, x: &PlanTensor, y: &PlanTensor) -> Result<PlanTensor> {
        self.binary(Binary::Add, x, y)
    }

    pub(crate) fn sub(&mut self, x: &PlanTensor, y: &PlanTensor) -> Result<PlanTensor> {
        self.binary(Binary::Sub, x, y)
    }

    pub(crate) fn mul(&mut self, x: &PlanTensor, y: &PlanTensor) -> Result<PlanTensor> {
        self.binary(Binary::Mul, x, y)
    }

    pub(crate) fn div(&mut self, x: &PlanTensor, y: &PlanTensor) -> Result<PlanTensor> {
        self.binary(Binary::Div, x, y)
    }

    /// An operation with a number on the right.
    pub(crate) fn scalar(
        &mut self,
        binary: Binary,
        x: &PlanTensor,
        value: f64,
    ) -> Result<PlanTensor> {
        let number = self.number(x.elem, value)?;
        self.binary(binary, x, &number)
    }

    /// `x` where the condition is true, else `y`; all three broadcast.
    pub(crate) fn choose(
        &mut self,
        condition: &PlanTensor,
        x: &PlanTensor,
        y: &PlanTensor,
    ) -> Result<PlanTensor> {
        same_type(x, y)?;
        if condition.elem != Elem::Bool {
            return Err(OnnxError::invalid(format!(
                "the condition is {}, not bool",
                condition.elem
            )));
        }
        let shape = axes::broadcast(&axes::broadcast(&condition.shape, &x.shape)?, &y.shape)?;
        let condition = axes::expand(self, condition, &shape)?;
        let (x, y) = (axes::expand(self, x, &shape)?, axes::expand(self, y, &shape)?);
        self.emit(Op::Where, &[&condition, &x, &y], x.elem, shape)
    }

    pub(crate) fn reshape(&mut self, x: &PlanTensor, shape: &[usize]) -> Result<PlanTensor> {
        if x.shape == shape {
            return Ok(x.clone());
        }
        if x.len() != shape.iter().product::<usize>() {
            return Err(OnnxError::input(format!(
                "shape {:?} cannot be reshaped to {shape:?}",
                x.shape
            )));
        }
        self.emit(Op::Reshape(shape.to_vec()), &[x], x.elem, shape.to_vec())
    }

    /// A reduction over axes, which are kept with length 1. Adjacent axes are reduced as one.
    pub(crate) fn reduce(
        &mut self,
        reduce: Reduce,
        x: &PlanTensor,
        axes: &[usize],
    ) -> Result<PlanTensor> {
        let mut result = x.clone();
        for (first, count) in adjacent(axes) {
            let lengths = result.shape.get(first..first + count);
            let lengths = lengths.ok_or_else(|| {
                OnnxError::input(format!("axes {axes:?} are out of range for shape {:?}", x.shape))
            })?;
            if lengths.contains(&0) {
                return Err(OnnxError::internal("axes to reduce are missing"));
            }
            let mut flat = result.shape.clone();
            flat.splice(first..first + count, [lengths.iter().product()]);
            let mut shape = result.shape.clone();
            shape.splice(first..first + count, vec![1; count]);
            let whole = self.reshape(&result, &flat)?;
            flat.splice(first..=first, [1]);
            let reduced = self.emit(Op::Reduce(reduce, first), &[&whole], x.elem, flat)?;
            result = self.reshape(&reduced, &shape)?;
        }
        Ok(result)
    }
}

pub(super) fn same_type(x: &PlanTensor, y: &PlanTensor) -> Result<()> {
    if x.elem == y.elem {
        return Ok(());
    }
    Err(OnnxError::invalid(format!("the types differ: {} and {}", x.elem, y.elem)))
}

/// Limits of a plan, checked while it is made.
impl Tracer<'_> {
    /// Most elements that a step of the host may process.
    pub(crate) fn most_work(&self) -> usize {
        self.constants.limits.work
    }

    /// Rejects tensors that are too large for memory. Every result is checked here, constants
    /// included, as are the intermediate results of operators, before they are made.
    ///
    /// # Errors
    /// If it is too large, or the limit of results is exceeded.
    pub(crate) fn fits(&self, elem: Elem, shape: &[usize]) -> Result<()> {
        self.count_node_run()?;
        check_shape(shape)?;
        let most = self.constants.limits.bytes;
        // Graphics cards hold narrower types in 32 bits; the limit is the same on all devices.
        let element = elem.bits().div_ceil(8).max(4);
        match shape.iter().try_fold(element, |size, dim| size.checked_mul(*dim)) {
            Some(bytes) if bytes <= most => Ok(()),
            _ => Err(OnnxError::limit(format!(
                "a result of shape {shape:?} needs more than {most} bytes"
            ))),
        }
    }
}

/// The operation with `y` as a number, if `y` is one.
fn scalar_of(
    t: &mut Tracer<'_>,
    binary: Binary,
    x: &PlanTensor,
    y: &PlanTensor,
    shape: &[usize],
) -> Result<Option<Op>> {
    let known =
        matches!(binary, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Pow);
    let fits = known && y.is_constant() && y.len() == 1 && x.shape == shape;
    // The number of such a step is a float, which cannot represent every 64-bit integer.
    if !fits || !x.elem.is_float() || x.is_constant() {
        return Ok(None);
    }
    Ok(literals::floats(t, y)?.first().map(|value| Op::Scalar(binary, *value)))
}

/// True for each element below zero.
pub(crate) fn compare_zero(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    let zero = t.number(x.elem, 0.0)?;
    t.compare(Compare::Less, x, &zero)
}

pub(crate) fn clamp(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    least: Option<f64>,
    most: Option<f64>,
) -> Result<PlanTensor> {
    t.emit(Op::Clamp(least, most), &[x], x.elem, x.shape.clone())
}
