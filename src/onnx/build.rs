//! The building blocks that operators are written with: like numpy's, on tensors of a plan.

use super::elem::{Elem, Kind};
use super::host::Host;
use super::op::{Binary, Compare, Op, Reduce, Unary};
use super::trace::{T, Tracer};
use burn::tensor::Slice;

/// One axis of a slice: begin, end (not included) and step, which may be negative. All of it
/// lies within the axis: with a negative step, `begin` is the last element and `end` may be -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) begin: i64,
    pub(crate) end: i64,
    pub(crate) step: i64,
}

impl Cut {
    pub(crate) fn all(length: usize) -> Cut {
        Cut { begin: 0, end: i64::try_from(length).unwrap_or(i64::MAX), step: 1 }
    }

    pub(crate) fn range(begin: usize, end: usize) -> Cut {
        let number = |at: usize| i64::try_from(at).unwrap_or(i64::MAX);
        Cut { begin: number(begin), end: number(end), step: 1 }
    }

    pub(crate) fn len(&self) -> usize {
        let (distance, step) = (self.end - self.begin, self.step);
        if step == 0 || distance.signum() != step.signum() {
            return 0;
        }
        usize::try_from((distance.abs() + step.abs() - 1) / step.abs()).unwrap_or(0)
    }

    fn lies_within(&self, length: usize) -> bool {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        self.len() == 0 || (0..length).contains(&self.begin) && (-1..=length).contains(&self.end)
    }
}

/// The shape that two shapes broadcast to (multidirectional broadcasting of ONNX).
///
/// # Errors
/// If two lengths differ and neither is 1.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], at: usize| {
        (at + shape.len()).checked_sub(rank).and_then(|at| shape.get(at)).copied().unwrap_or(1)
    };
    let both = |at| match (dim(a, at), dim(b, at)) {
        (x, y) if x == y => Ok(x),
        (1, y) => Ok(y),
        (x, 1) => Ok(x),
        _ => Err(format!("shapes {a:?} and {b:?} do not broadcast")),
    };
    (0..rank).map(both).collect()
}

/// An axis counted from the front.
///
/// # Errors
/// If there is no such axis.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let rank_number = i64::try_from(rank).unwrap_or(i64::MAX);
    let at = if axis < 0 { axis + rank_number } else { axis };
    let at = usize::try_from(at).ok().filter(|at| *at < rank);
    at.ok_or_else(|| format!("axis {axis} of a tensor with {rank} dimensions"))
}

/// Runs of axes without gaps: the first and how many.
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
    /// A constant of integers in one dimension.
    pub(crate) fn indices(&self, values: Vec<i64>) -> Result<T, String> {
        self.constant(Host::ints(Elem::I64, vec![values.len()], values))
    }

    /// A constant of one number throughout.
    pub(crate) fn full(&mut self, elem: Elem, shape: Vec<usize>, value: f64) -> Result<T, String> {
        let one = self.number(elem, value)?;
        self.expand(&one, &shape)
    }

    /// The integers that a tensor holds.
    pub(crate) fn ints(&mut self, t: &T) -> Result<Vec<i64>, String> {
        Ok(self.look(t)?.to_i64())
    }

    /// The numbers that a tensor holds.
    pub(crate) fn floats(&mut self, t: &T) -> Result<Vec<f64>, String> {
        Ok(self.look(t)?.to_f64())
    }

    /// Lengths that a tensor holds.
    pub(crate) fn lengths(&mut self, t: &T) -> Result<Vec<usize>, String> {
        super::raw::shape(&self.ints(t)?)
    }

    pub(crate) fn unary(&mut self, unary: Unary, x: &T) -> Result<T, String> {
        let float_only = !matches!(
            unary,
            Unary::Abs | Unary::Neg | Unary::Sign | Unary::Relu | Unary::BitNot | Unary::Not
        );
        if float_only && x.elem.kind() != Kind::Float {
            return Err(format!("{unary:?} of {}", x.elem));
        }
        let boolean = matches!(unary, Unary::IsInf | Unary::IsNan);
        let elem = if boolean { Elem::Bool } else { x.elem };
        self.emit(Op::Unary(unary), &[x], elem, x.shape.clone())
    }

    /// Both of one type; broadcasts.
    pub(crate) fn binary(&mut self, binary: Binary, x: &T, y: &T) -> Result<T, String> {
        same_type(x, y)?;
        let shape = broadcast(&x.shape, &y.shape)?;
        // A number stands on the right, where that is the same.
        let turns = matches!(binary, Binary::Add | Binary::Mul);
        let (x, y) = if turns && x.is_constant() { (y, x) } else { (x, y) };
        if let Some(scalar) = self.scalar_of(binary, x, y, &shape)? {
            return self.emit(scalar, &[x], x.elem, shape);
        }
        let (x, y) = (self.with_rank(x, shape.len())?, self.with_rank(y, shape.len())?);
        self.emit(Op::Binary(binary), &[&x, &y], x.elem, shape)
    }

    /// The operation with `y` as a number, where that is one.
    fn scalar_of(
        &mut self,
        binary: Binary,
        x: &T,
        y: &T,
        shape: &[usize],
    ) -> Result<Option<Op>, String> {
        let known =
            matches!(binary, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Pow);
        let fits = known && y.is_constant() && y.len() == 1 && x.shape == shape;
        if !fits || !x.elem.is_float() || x.is_constant() {
            return Ok(None);
        }
        Ok(self.floats(y)?.first().map(|value| Op::Scalar(binary, *value)))
    }

    pub(crate) fn compare(&mut self, compare: Compare, x: &T, y: &T) -> Result<T, String> {
        same_type(x, y)?;
        let shape = broadcast(&x.shape, &y.shape)?;
        let (x, y) = (self.with_rank(x, shape.len())?, self.with_rank(y, shape.len())?);
        self.emit(Op::Compare(compare), &[&x, &y], Elem::Bool, shape)
    }

    pub(crate) fn add(&mut self, x: &T, y: &T) -> Result<T, String> {
        self.binary(Binary::Add, x, y)
    }

    pub(crate) fn sub(&mut self, x: &T, y: &T) -> Result<T, String> {
        self.binary(Binary::Sub, x, y)
    }

    pub(crate) fn mul(&mut self, x: &T, y: &T) -> Result<T, String> {
        self.binary(Binary::Mul, x, y)
    }

    pub(crate) fn div(&mut self, x: &T, y: &T) -> Result<T, String> {
        self.binary(Binary::Div, x, y)
    }

    /// With a number on the right.
    pub(crate) fn scalar(&mut self, binary: Binary, x: &T, value: f64) -> Result<T, String> {
        let number = self.number(x.elem, value)?;
        self.binary(binary, x, &number)
    }

    /// Whether each element is below zero.
    pub(crate) fn compare_zero(&mut self, x: &T) -> Result<T, String> {
        let zero = self.number(x.elem, 0.0)?;
        self.compare(Compare::Less, x, &zero)
    }

    /// `x` where the condition holds, else `y`; all three broadcast.
    pub(crate) fn choose(&mut self, condition: &T, x: &T, y: &T) -> Result<T, String> {
        same_type(x, y)?;
        if condition.elem != Elem::Bool {
            return Err(format!("the condition is {}, not bool", condition.elem));
        }
        let shape = broadcast(&broadcast(&condition.shape, &x.shape)?, &y.shape)?;
        let condition = self.expand(condition, &shape)?;
        let (x, y) = (self.expand(x, &shape)?, self.expand(y, &shape)?);
        self.emit(Op::Where, &[&condition, &x, &y], x.elem, shape)
    }

    pub(crate) fn clamp(
        &mut self,
        x: &T,
        least: Option<f64>,
        most: Option<f64>,
    ) -> Result<T, String> {
        self.emit(Op::Clamp(least, most), &[x], x.elem, x.shape.clone())
    }

    pub(crate) fn reshape(&mut self, x: &T, shape: &[usize]) -> Result<T, String> {
        if x.shape == shape {
            return Ok(x.clone());
        }
        if x.len() != shape.iter().product::<usize>() {
            return Err(format!("shape {:?} does not become {shape:?}", x.shape));
        }
        self.emit(Op::Reshape(shape.to_vec()), &[x], x.elem, shape.to_vec())
    }

    /// Ones in front until it has so many dimensions.
    pub(super) fn with_rank(&mut self, x: &T, rank: usize) -> Result<T, String> {
        let missing = rank.saturating_sub(x.rank());
        let shape: Vec<usize> = std::iter::repeat_n(1, missing).chain(x.shape.clone()).collect();
        self.reshape(x, &shape)
    }

    pub(crate) fn expand(&mut self, x: &T, shape: &[usize]) -> Result<T, String> {
        if x.shape == shape {
            return Ok(x.clone());
        }
        if broadcast(&x.shape, shape)? != shape {
            return Err(format!("shape {:?} does not expand to {shape:?}", x.shape));
        }
        let x = self.with_rank(x, shape.len())?;
        self.emit(Op::Expand(shape.to_vec()), &[&x], x.elem, shape.to_vec())
    }

    pub(crate) fn permute(&mut self, x: &T, axes: &[usize]) -> Result<T, String> {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if sorted != (0..x.rank()).collect::<Vec<_>>() {
            return Err(format!("{axes:?} is no order of {} axes", x.rank()));
        }
        if axes.iter().enumerate().all(|(at, axis)| at == *axis) {
            return Ok(x.clone());
        }
        let shape = axes.iter().filter_map(|axis| x.shape.get(*axis)).copied().collect();
        self.emit(Op::Permute(axes.to_vec()), &[x], x.elem, shape)
    }

    /// With two axes exchanged.
    pub(crate) fn swap(&mut self, x: &T, a: usize, b: usize) -> Result<T, String> {
        let mut axes: Vec<usize> = (0..x.rank()).collect();
        axes.swap(a, b);
        self.permute(x, &axes)
    }

    /// One cut for each axis.
    pub(crate) fn slice(&mut self, x: &T, cuts: &[Cut]) -> Result<T, String> {
        let shape: Vec<usize> = cuts.iter().map(Cut::len).collect();
        // Beyond its end, a graphics card would be blamed for what the graph asks.
        let mut both = cuts.iter().zip(&x.shape);
        if cuts.len() != x.rank() || !both.all(|(cut, length)| cut.lies_within(*length)) {
            return Err(format!("a part of shape {shape:?} of shape {:?}", x.shape));
        }
        let whole = cuts.iter().zip(&x.shape).all(|(cut, length)| *cut == Cut::all(*length));
        if whole && cuts.len() == x.rank() {
            return Ok(x.clone());
        }
        if shape.contains(&0) {
            return self.constant(Host::numbers(x.elem, shape, vec![]));
        }
        let slices = cuts.iter().zip(&shape).map(|(cut, length)| slice_of(cut, *length));
        self.emit(Op::Slice(slices.collect()), &[x], x.elem, shape)
    }

    /// A part of one axis.
    pub(crate) fn narrow(&mut self, x: &T, axis: usize, cut: Cut) -> Result<T, String> {
        let mut cuts: Vec<Cut> = x.shape.iter().map(|length| Cut::all(*length)).collect();
        if let Some(place) = cuts.get_mut(axis) {
            *place = cut;
        }
        self.slice(x, &cuts)
    }

    pub(crate) fn cat(&mut self, parts: &[T], axis: usize) -> Result<T, String> {
        // Parts without elements are given by some exporters for "nothing", of whatever shape.
        let full: Vec<&T> = parts.iter().filter(|part| part.len() > 0).collect();
        let Some(first) = full.first().copied().or(parts.first()) else {
            return Err("there is nothing to concatenate".to_owned());
        };
        if full.len() <= 1 && parts.len() == 1 || full.is_empty() {
            return self.cat_empty(parts, first, axis);
        }
        let mut shape = first.shape.clone();
        let mut length = 0;
        for part in &full {
            let fits = part.rank() == shape.len()
                && part
                    .shape
                    .iter()
                    .zip(&shape)
                    .enumerate()
                    .all(|(at, (a, b))| at == axis || a == b);
            if !fits || part.elem != first.elem {
                return Err(format!(
                    "{}{:?} and {}{:?} do not concatenate along axis {axis}",
                    first.elem, first.shape, part.elem, part.shape
                ));
            }
            length += part.shape.get(axis).copied().unwrap_or(0);
        }
        if let Some(place) = shape.get_mut(axis) {
            *place = length;
        }
        self.emit(Op::Cat(axis), &full, first.elem, shape)
    }

    /// Nothing but empty parts, or one part.
    fn cat_empty(&mut self, parts: &[T], first: &T, axis: usize) -> Result<T, String> {
        if parts.len() == 1 {
            return Ok(first.clone());
        }
        let mut shape = first.shape.clone();
        let length = parts.iter().filter_map(|part| part.shape.get(axis)).sum();
        if let Some(place) = shape.get_mut(axis) {
            *place = length;
        }
        self.constant(Host::numbers(first.elem, shape, vec![]))
    }

    /// Sums, maxima and the like over axes, which stay with length 1. Adjacent ones go as one.
    pub(crate) fn reduce(&mut self, reduce: Reduce, x: &T, axes: &[usize]) -> Result<T, String> {
        let mut result = x.clone();
        for (first, count) in adjacent(axes) {
            let lengths = result.shape.get(first..first + count);
            let lengths = lengths.ok_or_else(|| format!("axes {axes:?} of shape {:?}", x.shape))?;
            if lengths.contains(&0) {
                return Err("reduces nothing".to_owned());
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

    /// Without axes of length 1.
    pub(crate) fn squeeze(&mut self, x: &T, axes: &[usize]) -> Result<T, String> {
        let kept = x.shape.iter().enumerate().filter(|(at, _)| !axes.contains(at));
        let shape: Vec<usize> = kept.map(|(_, length)| *length).collect();
        self.reshape(x, &shape)
    }

    /// With a new axis of length 1.
    pub(crate) fn unsqueeze(&mut self, x: &T, axis: usize) -> Result<T, String> {
        let mut shape = x.shape.clone();
        shape.insert(axis.min(shape.len()), 1);
        self.reshape(x, &shape)
    }

    /// Filled with a number before and behind each axis. Negative widths are not for here.
    pub(crate) fn pad(
        &mut self,
        x: &T,
        padding: &[(usize, usize)],
        value: f64,
    ) -> Result<T, String> {
        if padding.iter().all(|pair| *pair == (0, 0)) {
            return Ok(x.clone());
        }
        let grown = x.shape.iter().zip(padding);
        let sum = |(length, (a, b)): (&usize, &(usize, usize))| {
            length.checked_add(*a).and_then(|sum| sum.checked_add(*b))
        };
        let shape: Option<Vec<usize>> = grown.map(sum).collect();
        let shape = shape.ok_or("pads that no memory would hold")?;
        if x.elem.is_float() && x.len() > 0 && value.abs() <= f64::from(f32::MAX) {
            return self.emit(Op::Pad(padding.to_vec(), value), &[x], x.elem, shape);
        }
        let mut result = x.clone();
        for (axis, (before, behind)) in padding.iter().enumerate() {
            let mut parts = Vec::new();
            for (width, inside) in [(*before, false), (0, true), (*behind, false)] {
                if inside {
                    parts.push(result.clone());
                } else if width > 0 {
                    let mut shape = result.shape.clone();
                    if let Some(length) = shape.get_mut(axis) {
                        *length = width;
                    }
                    parts.push(self.full(x.elem, shape, value)?);
                }
            }
            result = self.cat(&parts, axis)?;
        }
        Ok(result)
    }
}

fn slice_of(cut: &Cut, length: usize) -> Slice {
    let number = |at: i64| isize::try_from(at).unwrap_or(isize::MAX);
    if cut.step > 0 {
        return Slice::new(number(cut.begin), Some(number(cut.end)), number(cut.step));
    }
    // burn walks a range backwards: from the last element of it.
    let count = i64::try_from(length).unwrap_or(0);
    let last = cut.begin + (count - 1) * cut.step;
    Slice::new(number(last), Some(number(cut.begin + 1)), number(cut.step))
}

pub(super) fn same_type(x: &T, y: &T) -> Result<(), String> {
    if x.elem == y.elem {
        return Ok(());
    }
    Err(format!("the types differ: {} and {}", x.elem, y.elem))
}
