//! Programs of element-wise steps, run piece by piece, so that intermediate results stay in the
//! first-level cache.

use super::{elementwise, in_rows, ordered, put, wrap};
use crate::step::{Binary, Instruction, Op, Operand, Program};
use crate::tensor::DeviceTensor;
use burn::backend::flex::FlexTensor;

/// Most elements of a piece.
const PIECE: usize = 1024;
/// Least length of an axis that is a run of its own: the overhead of a run is then low.
const SHORT: usize = 256;
/// Least elements for one thread.
const SHARE: usize = 16 * PIECE;

/// # Errors
/// The inputs, if they cannot be broadcast or are empty.
pub(super) fn run(
    program: &Program,
    inputs: Vec<DeviceTensor>,
) -> Result<DeviceTensor, Vec<DeviceTensor>> {
    let shapes: Vec<Vec<usize>> = inputs.iter().map(DeviceTensor::shape).collect();
    // Returned inputs make the caller use burn's operations.
    let Some(shape) = broadcast(&shapes) else { return Err(inputs) };
    let Some(walk) = ElementWalk::new(&shapes, &shape) else { return Err(inputs) };
    on(program, inputs, (&shapes, &shape), walk).ok_or_else(Vec::new)
}

fn on(
    program: &Program,
    inputs: Vec<DeviceTensor>,
    (shapes, shape): (&[Vec<usize>], &[usize]),
    walk: ElementWalk,
) -> Option<DeviceTensor> {
    let data = inputs.into_iter().map(ordered);
    let mut data: Vec<Option<FlexTensor>> =
        data.map(|flex| flex.map(Some)).collect::<Option<_>>()?;
    // The result is written to an input of its shape, if that has no other user.
    let fits = |(own, flex): (&Vec<usize>, &Option<FlexTensor>)| {
        own == shape && flex.as_ref().is_some_and(FlexTensor::is_unique)
    };
    let own = shapes.iter().zip(&data).position(fits);
    let target = own.and_then(|at| data.get_mut(at)).and_then(Option::take);
    let mut target = match target {
        Some(flex) => flex,
        None => ordered(put(vec![0.0; shape.iter().product()], shape))?,
    };
    let slices = data.iter().map(|flex| flex.as_ref().map_or(&[][..], |flex| flex.storage()));
    let job = ElementJob {
        program,
        places: ResultPlaces::of(program),
        slices: slices.collect(),
        own,
        walk,
    };
    // A long row is divided; short rows are grouped.
    let rows = (SHARE / job.walk.run).max(1);
    let single = job.walk.lengths.is_empty();
    // A share is a whole number of pieces, so that each begins with the first gathered offset.
    let pieces = SHARE / job.walk.piece * job.walk.piece;
    let share = if single { pieces } else { rows * job.walk.run };
    in_rows(target.storage_mut::<f32>(), share, |at, result| {
        let (row, begin) = if single { (0, at * share) } else { (at * rows, 0) };
        job.rows(row, begin, result);
    });
    Some(wrap(target))
}

fn broadcast(shapes: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut all = shapes.first()?.clone();
    for shape in shapes {
        for (most, length) in all.iter_mut().zip(shape) {
            // Lengths that differ are found by `axes`, which compares each input with this shape.
            *most = if *most == 1 { *length } else { *most };
        }
    }
    Some(all)
}

/// The iteration over inputs.
struct ElementWalk {
    /// Lengths of the outer axes of the result; adjacent axes with the same strides in all inputs
    /// are merged.
    lengths: Vec<usize>,
    /// Elements of a run: all inner axes. Several axes form a run if the last one is short.
    run: usize,
    /// Elements of a piece: a multiple of the product of the inner axes except the first.
    piece: usize,
    /// For each input: strides along `lengths`, and the course through a run.
    inputs: Vec<(Vec<usize>, Course)>,
}

/// The course of an input along a run.
enum Course {
    /// Consecutive elements.
    Contiguous,
    /// One element for the whole run.
    Fixed,
    /// Elements at `offsets`, then again `stride` further on. They are gathered piece by piece.
    Gathered { offsets: Vec<usize>, stride: usize },
}

impl ElementWalk {
    fn new(shapes: &[Vec<usize>], shape: &[usize]) -> Option<ElementWalk> {
        if shape.contains(&0) {
            return None;
        }
        let axes = axes(shapes, shape)?;
        let lengths: Vec<usize> = axes.iter().map(|(length, _)| *length).collect();
        let (outer, inner) = lengths.split_at(first_inner(&lengths));
        let period: usize = inner.iter().skip(1).product();
        let course = |input| {
            let mut strides = strides(&axes, input);
            let course = Course::of(inner, &strides.split_off(outer.len()));
            (strides, course)
        };
        Some(ElementWalk {
            lengths: outer.to_vec(),
            run: inner.iter().product(),
            // The period is less than `SHORT`, so that a piece has several of them.
            piece: PIECE / period * period,
            inputs: (0..shapes.len()).map(course).collect(),
        })
    }
}

/// The axes of the result that are longer than 1, and for each, the inputs that have it.
fn axes(shapes: &[Vec<usize>], shape: &[usize]) -> Option<Vec<(usize, Vec<bool>)>> {
    let mut axes: Vec<(usize, Vec<bool>)> = Vec::new();
    for (at, length) in shape.iter().enumerate().filter(|(_, length)| **length > 1) {
        let has = |own: &Vec<usize>| match own.get(at) {
            Some(1) => Some(false),
            Some(found) if found == length => Some(true),
            _ => None,
        };
        let has = shapes.iter().map(has).collect::<Option<Vec<bool>>>()?;
        match axes.last_mut() {
            // Axes that the same inputs have are one axis: their elements are adjacent in each.
            Some((longer, same)) if *same == has => *longer *= length,
            _ => axes.push((*length, has)),
        }
    }
    Some(axes)
}

/// The first axis of a run: the run has as few axes as give `SHORT` elements.
fn first_inner(lengths: &[usize]) -> usize {
    let (mut first, mut run) = (lengths.len(), 1);
    for (at, length) in lengths.iter().enumerate().rev() {
        if run >= SHORT {
            break;
        }
        (first, run) = (at, run * length);
    }
    first
}

/// Strides of an input along the axes; 0 where it is broadcast.
fn strides(axes: &[(usize, Vec<bool>)], input: usize) -> Vec<usize> {
    let mut size = 1;
    let stride = |(length, has): &(usize, Vec<bool>)| {
        let has = has.get(input).copied().unwrap_or(false);
        let stride = if has { size } else { 0 };
        size *= if has { *length } else { 1 };
        stride
    };
    let mut strides: Vec<usize> = axes.iter().rev().map(stride).collect();
    strides.reverse();
    strides
}

/// The offset of an element with this index over the axes.
fn offset(lengths: &[usize], strides: &[usize], mut element: usize) -> usize {
    let mut offset = 0;
    for (length, stride) in lengths.iter().zip(strides).rev() {
        offset += (element % length) * stride;
        element /= length;
    }
    offset
}

impl Course {
    fn of(lengths: &[usize], strides: &[usize]) -> Course {
        let mut size = 1;
        let dense = lengths.iter().zip(strides).rev().all(|(length, stride)| {
            let is_dense = *stride == size;
            size *= length;
            is_dense
        });
        let [stride, within @ ..] = strides else { return Course::Contiguous };
        if dense {
            return Course::Contiguous;
        }
        if strides.iter().all(|stride| *stride == 0) {
            return Course::Fixed;
        }
        let lengths = lengths.get(1..).unwrap_or_default();
        let offsets = (0..lengths.iter().product()).map(|at| offset(lengths, within, at));
        Course::Gathered { offsets: offsets.collect(), stride: *stride }
    }
}

/// Fills a piece with elements of an input that begin at `start`; `from` is the position of the
/// piece in the run, a multiple of the number of offsets.
fn gather(
    input: &[f32],
    start: usize,
    from: usize,
    (offsets, stride): (&[usize], usize),
    to: &mut [f32],
) -> Option<()> {
    let first = from / offsets.len().max(1);
    for (at, to) in to.chunks_mut(offsets.len().max(1)).enumerate() {
        let input = input.get(start + (first + at) * stride..)?;
        for (to, offset) in to.iter_mut().zip(offsets) {
            *to = *input.get(*offset)?;
        }
    }
    Some(())
}

/// The buffers for the results of a program: several results share one.
struct ResultPlaces {
    of: Vec<usize>,
    count: usize,
}

impl ResultPlaces {
    fn of(program: &Program) -> ResultPlaces {
        let (mut of, mut free, mut count) = (Vec::new(), Vec::new(), 0);
        for (instruction, done) in program.instructions.iter().zip(program.last_uses()) {
            // A buffer that is used again is still in the first-level cache.
            let place = match in_place(instruction, &done).and_then(|result| of.get(result)) {
                Some(place) => *place,
                None => free.pop().unwrap_or_else(|| {
                    count += 1;
                    count - 1
                }),
            };
            let over = done.iter().filter_map(|result| of.get(*result)).copied();
            // A place that this result overwrites is in use again.
            free.extend(over.filter(|other| *other != place));
            of.push(place);
        }
        ResultPlaces { of, count }
    }
}

/// The result that an instruction may overwrite: its first operand, if this is the operand's last
/// use.
/// take it.
fn in_place(instruction: &Instruction, done: &[usize]) -> Option<usize> {
    match instruction.operands[..] {
        [Operand::Result(first), ref rest @ ..] if done.contains(&first) => {
            // `x * x` has one buffer as both operands, which cannot be read while it is written.
            (!rest.contains(&Operand::Result(first))).then_some(first)
        }
        _ => None,
    }
}

/// The inputs of a piece.
struct Inputs<'a> {
    /// For each input, its first element of the run.
    starts: &'a [usize],
    /// The position of the piece in the run.
    from: usize,
    /// For each gathered input, its piece.
    gathered: &'a [Vec<f32>],
}

/// The value of an operand.
#[derive(Clone, Copy)]
enum OperandValue<'a> {
    Slice(&'a [f32]),
    Number(f32),
}

struct ElementJob<'a> {
    program: &'a Program,
    places: ResultPlaces,
    slices: Vec<&'a [f32]>,
    /// The input that the result overwrites.
    own: Option<usize>,
    walk: ElementWalk,
}

impl ElementJob<'_> {
    /// Computes rows of the result from `row` on; `begin` is their offset in the last axis.
    fn rows(&self, row: usize, begin: usize, result: &mut [f32]) {
        let size = self.walk.piece.min(result.len());
        // One buffer more, for the copy of the input that the result overwrites.
        let mut memory = vec![vec![0.0; size]; self.places.count + 1];
        let mut gathered: Vec<Vec<f32>> = self.walk.inputs.iter().map(|_| Vec::new()).collect();
        for (at, result) in result.chunks_mut(self.walk.run).enumerate() {
            let start =
                |(strides, _): &(Vec<usize>, Course)| offset(&self.walk.lengths, strides, row + at);
            let starts: Vec<usize> = self.walk.inputs.iter().map(start).collect();
            for (piece, result) in result.chunks_mut(self.walk.piece).enumerate() {
                let from = begin + piece * self.walk.piece;
                self.gather(&starts, (piece == 0, from), result.len(), &mut gathered);
                let inputs = Inputs { starts: &starts, from, gathered: &gathered };
                self.piece(&inputs, result, &mut memory);
            }
        }
    }

    /// Fills the pieces of gathered inputs. Pieces that repeat are filled once per run.
    fn gather(
        &self,
        starts: &[usize],
        (is_first, from): (bool, usize),
        length: usize,
        gathered: &mut [Vec<f32>],
    ) -> Option<()> {
        let inputs = self.walk.inputs.iter().zip(&self.slices).zip(starts).zip(gathered);
        for ((((_, course), input), start), to) in inputs {
            if let Course::Gathered { offsets, stride } = course
                // With a stride of 0 all pieces of a run have the same elements.
                && (is_first || *stride > 0)
            {
                to.resize(length, 0.0);
                gather(input, *start, from, (offsets, *stride), to)?;
            }
        }
        Some(())
    }

    /// Computes a piece; `None` for an invalid program: an instruction without operands, or one
    /// that is not element-wise.
    fn piece(
        &self,
        inputs: &Inputs<'_>,
        result: &mut [f32],
        memory: &mut [Vec<f32>],
    ) -> Option<()> {
        let length = result.len();
        if self.own.is_some() {
            // The input that the result overwrites is still needed.
            memory.get_mut(self.places.count)?.get_mut(..length)?.copy_from_slice(result);
        }
        let last = self.program.instructions.len().checked_sub(1)?;
        for (at, instruction) in self.program.instructions.iter().enumerate() {
            let place = *self.places.of.get(at)?;
            let [first, ref rest @ ..] = instruction.operands[..] else { return None };
            let keeps = at != last
                && matches!(first, Operand::Result(r) if self.places.of.get(r) == Some(&place));
            let mut own =
                // Taken out of the list, so that other buffers can be read while this one is
                // written.
                if at == last { Vec::new() } else { std::mem::take(memory.get_mut(place)?) };
            let to = if at == last { &mut *result } else { own.get_mut(..length)? };
            let source = |operand| self.source(operand, inputs, length, memory);
            if !keeps {
                match source(first)? {
                    OperandValue::Slice(slice) => to.copy_from_slice(slice),
                    OperandValue::Number(number) => to.fill(number),
                }
            }
            let other = match rest.first() {
                Some(operand) => Some(source(*operand)?),
                None => None,
            };
            apply(&instruction.op, to, other)?;
            if at != last {
                *memory.get_mut(place)? = own;
            }
        }
        Some(())
    }

    fn source<'m>(
        &'m self,
        operand: Operand,
        inputs: &Inputs<'m>,
        length: usize,
        memory: &'m [Vec<f32>],
    ) -> Option<OperandValue<'m>> {
        let slice = match operand {
            Operand::Result(at) => memory.get(*self.places.of.get(at)?)?.get(..length)?,
            Operand::Input(at) if self.own == Some(at) => {
                memory.get(self.places.count)?.get(..length)?
            }
            Operand::Input(at) => {
                let (start, slice) = (*inputs.starts.get(at)?, self.slices.get(at)?);
                match self.walk.inputs.get(at)?.1 {
                    Course::Fixed => return Some(OperandValue::Number(*slice.get(start)?)),
                    Course::Gathered { .. } => inputs.gathered.get(at)?.get(..length)?,
                    Course::Contiguous => {
                        let begin = start + inputs.from;
                        slice.get(begin..begin + length)?
                    }
                }
            }
        };
        Some(OperandValue::Slice(slice))
    }
}

/// Applies an instruction to `to` in place; `other` is its second operand.
fn apply(op: &Op, to: &mut [f32], other: Option<OperandValue<'_>>) -> Option<()> {
    #[allow(clippy::cast_possible_truncation, reason = "the tensor has floats of 32 bits")]
    match (op, other) {
        (Op::Unary(unary), None) => elementwise::function(*unary)?(to),
        (Op::Clamp(least, most), None) => elementwise::clamp(*least, *most)(to),
        // `powf` is a library call for each element; a square is one product.
        (Op::Scalar(Binary::Pow, power), None) if *power == 2.0 => elementwise::map(to, |x| x * x),
        (Op::Scalar(binary, value), None) => {
            of_two(*binary, to, OperandValue::Number(*value as f32))?
        }
        (Op::Binary(binary), Some(other)) => of_two(*binary, to, other)?,
        _ => return None,
    }
    Some(())
}

fn of_two(binary: Binary, to: &mut [f32], other: OperandValue<'_>) -> Option<()> {
    match binary {
        Binary::Add => with(to, other, |x, y| x + y),
        Binary::Sub => with(to, other, |x, y| x - y),
        Binary::Mul => with(to, other, |x, y| x * y),
        Binary::Div => with(to, other, |x, y| x / y),
        // NaN is kept.
        Binary::Max => with(to, other, |x, y| if (y > x) | y.is_nan() { y } else { x }),
        Binary::Min => with(to, other, |x, y| if (y < x) | y.is_nan() { y } else { x }),
        Binary::Pow => with(to, other, f32::powf),
        _ => return None,
    }
    Some(())
}

#[inline(always)]
fn with(to: &mut [f32], other: OperandValue<'_>, function: impl Fn(f32, f32) -> f32) {
    match other {
        OperandValue::Number(number) => elementwise::map(to, |x| function(x, number)),
        OperandValue::Slice(slice) => elementwise::map_with(to, slice, function),
    }
}

#[cfg(test)]
mod tests;
