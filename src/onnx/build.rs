//! The building blocks that operators are written with: like numpy's, on tensors of a plan.

use super::elem::{Elem, Kind};
use super::host::{Data, Host};
use super::op::{Binary, Compare, Op, Reduce, Unary};
use super::tensor::held;
use super::tiny_floats::{self, Round};
use super::trace::{T, Tracer};
use burn::tensor::{DType, Slice};
use half::{bf16, f16};

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

impl Tracer<'_> {
    /// A constant of integers in one dimension.
    pub(crate) fn indices(&self, values: Vec<i64>) -> Result<T, String> {
        self.constant(Host::ints(Elem::I64, vec![values.len()], values))
    }

    /// One number, as a scalar of a type.
    pub(crate) fn number(&self, elem: Elem, value: f64) -> Result<T, String> {
        self.constant(Host::numbers(elem, vec![], vec![value]))
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
        if let Some(scalar) = self.scalar_of(binary, x, y, &shape)? {
            return self.emit(scalar, &[x], x.elem, shape);
        }
        let (x, y) = (self.to_rank(x, shape.len())?, self.to_rank(y, shape.len())?);
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
        let (x, y) = (self.to_rank(x, shape.len())?, self.to_rank(y, shape.len())?);
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

    /// To another type. Floats of 16 bits are rounded to what the type has; others to what holds
    /// them. Integers that do not fit keep their low bits.
    pub(crate) fn cast(&mut self, x: &T, to: Elem) -> Result<T, String> {
        self.cast_as(x, to, true, Round::Nearest)
    }

    /// Like [`Tracer::cast`]; for floats of eight bits: whether too large numbers become the
    /// largest, and how numbers between two are rounded.
    pub(crate) fn cast_as(
        &mut self,
        x: &T,
        to: Elem,
        saturate: bool,
        how: Round,
    ) -> Result<T, String> {
        if x.elem == to {
            return Ok(x.clone());
        }
        let text = x.elem == Elem::Text || to == Elem::Text;
        let tiny = to.is_float() && !matches!(to, Elem::F32 | Elem::F64);
        let narrow = to.is_int() && to != Elem::I64 && to != Elem::U64;
        let place = if x.is_constant() { self.host_place() } else { self.place().clone() };
        // On the host a cast keeps the low bits by itself, as long as the type is held as it is.
        let held_wider = narrow && DType::size(&held(to, &place)) * 8 != to.bits();
        let from_float = x.elem.is_float() && to.is_int();
        if text || tiny || held_wider || (from_float && to != Elem::I64 && narrow) {
            let shape = x.shape.clone();
            let convert = move |inputs: &[Host]| {
                let host = inputs.first().ok_or("no input")?;
                Ok(vec![convert(host, to, saturate, how)?])
            };
            let made = self.host_op("cast", &[x], &[(to, shape)], convert)?;
            return made.into_iter().next().ok_or_else(|| "no result".to_owned());
        }
        let dtype = held(to, &place);
        self.emit(Op::Cast(dtype), &[x], to, x.shape.clone())
    }

    pub(crate) fn reshape(&mut self, x: &T, shape: &[usize]) -> Result<T, String> {
        if x.shape == shape {
            return Ok(x.clone());
        }
        if x.len() != shape.iter().product::<usize>() {
            return Err(format!("shape {:?} does not become {shape:?}", x.shape));
        }
        if x.elem == Elem::Text {
            let host = self.look(x)?;
            return self.constant(Host::text(shape.to_vec(), host.to_text().to_vec()));
        }
        self.emit(Op::Reshape(shape.to_vec()), &[x], x.elem, shape.to_vec())
    }

    /// Ones in front until it has so many dimensions.
    fn to_rank(&mut self, x: &T, rank: usize) -> Result<T, String> {
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
        let x = self.to_rank(x, shape.len())?;
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
        let whole = cuts.iter().zip(&x.shape).all(|(cut, length)| *cut == Cut::all(*length));
        if whole && cuts.len() == x.rank() {
            return Ok(x.clone());
        }
        if x.elem == Elem::Text {
            return Err("slices of text are not supported".to_owned());
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
        if first.elem == Elem::Text {
            return self.cat_text(&full, shape, axis);
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

    fn cat_text(&mut self, parts: &[&T], shape: Vec<usize>, axis: usize) -> Result<T, String> {
        let outer: usize = shape.iter().take(axis).product();
        let hosts = parts.iter().map(|part| self.look(part)).collect::<Result<Vec<_>, _>>()?;
        let mut words = Vec::new();
        for at in 0..outer {
            for host in &hosts {
                let run = host.len() / outer.max(1);
                words.extend(host.to_text().iter().skip(at * run).take(run).cloned());
            }
        }
        self.constant(Host::text(shape, words))
    }

    /// Sums, maxima and the like over axes, which stay with length 1.
    pub(crate) fn reduce(&mut self, reduce: Reduce, x: &T, axes: &[usize]) -> Result<T, String> {
        let mut result = x.clone();
        for axis in axes {
            let mut shape = result.shape.clone();
            match shape.get_mut(*axis) {
                Some(length) if *length == 0 => return Err("reduces nothing".to_owned()),
                Some(length) => *length = 1,
                None => return Err(format!("axis {axis} of shape {:?}", x.shape)),
            }
            result = self.emit(Op::Reduce(reduce, *axis), &[&result], x.elem, shape)?;
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
        let shape: Vec<usize> = grown.map(|(length, (a, b))| length + a + b).collect();
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

    /// Whole slices along an axis, by an index of one dimension without negative numbers.
    pub(crate) fn select(&mut self, x: &T, axis: usize, indices: &T) -> Result<T, String> {
        let mut shape = x.shape.clone();
        match shape.get_mut(axis) {
            Some(length) => *length = indices.len(),
            None => return Err(format!("axis {axis} of shape {:?}", x.shape)),
        }
        if indices.len() == 0 {
            return self.constant(Host::numbers(x.elem, shape, vec![]));
        }
        self.emit(Op::Select(axis), &[x, indices], x.elem, shape)
    }

    /// Products of matrices in the last two axes, like numpy's `matmul`; those before broadcast.
    pub(crate) fn matmul(&mut self, x: &T, y: &T) -> Result<T, String> {
        same_type(x, y)?;
        let (row, column) = (x.rank() == 1, y.rank() == 1);
        let x = if row { self.unsqueeze(x, 0)? } else { x.clone() };
        let y = if column { self.unsqueeze(y, 1)? } else { y.clone() };
        let (xs, ys) = (x.shape.clone(), y.shape.clone());
        let ([x_batch @ .., rows, inner], [y_batch @ .., inner2, columns]) = (&xs[..], &ys[..])
        else {
            return Err(format!("shapes {xs:?} and {ys:?} do not multiply"));
        };
        if inner != inner2 {
            return Err(format!("shapes {xs:?} and {ys:?} do not multiply"));
        }
        let batch = broadcast(x_batch, y_batch)?;
        let shape: Vec<usize> = batch.iter().copied().chain([*rows, *columns]).collect();
        let product = self.matmul_of(&x, &y, (&batch, *rows, *inner, *columns), &shape)?;
        match (row, column) {
            (false, false) => Ok(product),
            _ => {
                let rank = product.rank();
                let rows = row.then_some(rank.saturating_sub(2));
                let columns = column.then_some(rank.saturating_sub(1));
                let axes: Vec<usize> = rows.into_iter().chain(columns).collect();
                self.squeeze(&product, &axes)
            }
        }
    }

    fn matmul_of(
        &mut self,
        x: &T,
        y: &T,
        (batch, rows, inner, columns): (&[usize], usize, usize, usize),
        shape: &[usize],
    ) -> Result<T, String> {
        if x.len() == 0 || y.len() == 0 {
            return self.full(x.elem, shape.to_vec(), 0.0);
        }
        // One matrix of weights for all rows of a batch: one large product instead of many.
        if y.rank() == 2 && x.rank() > 2 {
            let all: usize = batch.iter().product::<usize>() * rows;
            let flat = self.reshape(x, &[all, inner])?;
            let product = self.emit(Op::MatMul, &[&flat, y], x.elem, vec![all, columns])?;
            return self.reshape(&product, shape);
        }
        let (x, y) = (self.to_rank(x, shape.len())?, self.to_rank(y, shape.len())?);
        let with = |tail: [usize; 2]| batch.iter().copied().chain(tail).collect::<Vec<_>>();
        let x = self.expand(&x, &with([rows, inner]))?;
        let y = self.expand(&y, &with([inner, columns]))?;
        self.emit(Op::MatMul, &[&x, &y], x.elem, shape.to_vec())
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

fn same_type(x: &T, y: &T) -> Result<(), String> {
    if x.elem == y.elem {
        return Ok(());
    }
    Err(format!("the types differ: {} and {}", x.elem, y.elem))
}

/// To another type, on the host.
///
/// # Errors
/// For text that is no number.
pub(crate) fn convert(host: &Host, to: Elem, saturate: bool, how: Round) -> Result<Host, String> {
    let shape = host.shape.clone();
    if to == Elem::Text {
        return Ok(Host::text(shape, to_text(host)));
    }
    let numbers = if let Data::Text(words) = &host.data { parse(words, to)? } else { host.clone() };
    if to.is_float() {
        let values = numbers.to_f64().into_iter().map(|value| round_to(to, value, saturate, how));
        return Ok(Host::floats(to, shape, values.collect()));
    }
    if to == Elem::Bool {
        return Ok(Host::bools(shape, numbers.to_f64().into_iter().map(|value| value != 0.0)));
    }
    let values = numbers.to_i64().into_iter().map(|value| wrap_to(to, value)).collect();
    Ok(Host::ints(to, shape, values))
}

/// The nearest value that a type has.
#[allow(clippy::cast_possible_truncation, reason = "rounding is what it is for")]
pub(crate) fn round_to(to: Elem, value: f64, saturate: bool, how: Round) -> f64 {
    match to {
        Elem::F64 => value,
        Elem::F32 => f64::from(value as f32),
        Elem::F16 => f16::from_f32(value as f32).to_f64(),
        Elem::Bf16 => bf16::from_f32(value as f32).to_f64(),
        _ => f64::from(tiny_floats::round(to, value as f32, saturate, how)),
    }
}

/// The low bits of an integer, as the type reads them.
pub(crate) fn wrap_to(to: Elem, value: i64) -> i64 {
    let bits = u32::try_from(to.bits()).unwrap_or(64);
    if bits >= 64 {
        return value;
    }
    let shift = 64 - bits;
    let signed = to.range().is_some_and(|(least, _)| least < 0);
    if signed {
        (value << shift) >> shift
    } else {
        ((value << shift).cast_unsigned() >> shift).cast_signed()
    }
}

fn to_text(host: &Host) -> Vec<String> {
    match &host.data {
        Data::Text(words) => words.clone(),
        Data::Float(values) => values.iter().map(|value| float_text(*value)).collect(),
        Data::Int(values) => values.iter().map(ToString::to_string).collect(),
    }
}

fn float_text(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        _ if value.is_infinite() => if value > 0.0 { "INF" } else { "-INF" }.to_owned(),
        #[allow(clippy::cast_possible_truncation, reason = "as many digits as a float has")]
        _ => (value as f32).to_string(),
    }
}

fn parse(words: &[String], to: Elem) -> Result<Host, String> {
    let number =
        |word: &String| word.trim().parse::<f64>().map_err(|_| format!("'{word}' is no number"));
    let values = words.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    Ok(Host::numbers(if to.is_float() { Elem::F64 } else { Elem::I64 }, vec![words.len()], values))
}
