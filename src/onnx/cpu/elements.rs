//! Programs of steps element by element: piece by piece, so that what is between the steps stays
//! in the nearest cache.

use super::{elementwise, in_rows, ordered, put, wrap};
use crate::onnx::op::{Binary, Instruction, Op, Operand, Program};
use crate::onnx::tensor::Tensor;
use burn::backend::flex::FlexTensor;

/// Elements of a piece.
const PIECE: usize = 1024;
/// Elements that one thread does at least.
const SHARE: usize = 16 * PIECE;

/// # Errors
/// The inputs, if they do not broadcast or are empty.
pub(super) fn run(program: &Program, inputs: Vec<Tensor>) -> Result<Tensor, Vec<Tensor>> {
    let shapes: Vec<Vec<usize>> = inputs.iter().map(Tensor::shape).collect();
    let Some(shape) = broadcast(&shapes) else { return Err(inputs) };
    let Some(walk) = Walk::new(&shapes, &shape) else { return Err(inputs) };
    on(program, inputs, (&shapes, &shape), walk).ok_or_else(Vec::new)
}

fn on(
    program: &Program,
    inputs: Vec<Tensor>,
    (shapes, shape): (&[Vec<usize>], &[usize]),
    walk: Walk,
) -> Option<Tensor> {
    let data = inputs.into_iter().map(ordered);
    let mut data: Vec<Option<FlexTensor>> =
        data.map(|flex| flex.map(Some)).collect::<Option<_>>()?;
    // The result goes where an input of its shape is, if nobody else needs that.
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
    let job = Job { program, places: Places::of(program), slices: slices.collect(), own, walk };
    // A long row is cut, of short ones there are several.
    let rows = (SHARE / job.walk.run).max(1);
    let single = job.walk.lengths.is_empty();
    let share = if single { SHARE } else { rows * job.walk.run };
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
            *most = if *most == 1 { *length } else { *most };
        }
    }
    Some(all)
}

/// How inputs are gone through.
struct Walk {
    /// Lengths of the axes of the result but the last; axes that all inputs go through alike count
    /// as one.
    lengths: Vec<usize>,
    /// Length of the last axis.
    run: usize,
    /// Of each input: strides along `lengths`, and along the last axis; 0 where it is broadcast.
    strides: Vec<(Vec<usize>, usize)>,
}

impl Walk {
    fn new(shapes: &[Vec<usize>], shape: &[usize]) -> Option<Walk> {
        if shape.contains(&0) {
            return None;
        }
        let mut axes: Vec<(usize, Vec<bool>)> = Vec::new();
        for (at, length) in shape.iter().enumerate().filter(|(_, length)| **length > 1) {
            let has = |own: &Vec<usize>| match own.get(at) {
                Some(1) => Some(false),
                Some(found) if found == length => Some(true),
                _ => None,
            };
            let has = shapes.iter().map(has).collect::<Option<Vec<bool>>>()?;
            match axes.last_mut() {
                Some((longer, same)) if *same == has => *longer *= length,
                _ => axes.push((*length, has)),
            }
        }
        let (run, last) = axes.pop().unwrap_or((1, vec![true; shapes.len()]));
        let strides = last.iter().enumerate().map(|(input, moves)| {
            let mut size = if *moves { run } else { 1 };
            let mut strides = Vec::with_capacity(axes.len());
            for (length, has) in axes.iter().rev() {
                let has = has.get(input).copied().unwrap_or(false);
                strides.push(if has { size } else { 0 });
                size *= if has { *length } else { 1 };
            }
            strides.reverse();
            (strides, usize::from(*moves))
        });
        let strides = strides.collect();
        Some(Walk { lengths: axes.into_iter().map(|(length, _)| length).collect(), run, strides })
    }

    /// Where an input is at the begin of a run of the last axis.
    fn start(&self, strides: &[usize], mut row: usize) -> usize {
        let mut start = 0;
        for (length, stride) in self.lengths.iter().zip(strides).rev() {
            start += (row % length) * stride;
            row /= length;
        }
        start
    }
}

/// Which of a few pieces of memory each result of a program is in.
struct Places {
    of: Vec<usize>,
    count: usize,
}

impl Places {
    fn of(program: &Program) -> Places {
        let (mut of, mut free, mut count) = (Vec::new(), Vec::new(), 0);
        for (instruction, done) in program.instructions.iter().zip(program.last_uses()) {
            let place = match in_place(instruction, &done).and_then(|result| of.get(result)) {
                Some(place) => *place,
                None => free.pop().unwrap_or_else(|| {
                    count += 1;
                    count - 1
                }),
            };
            let over = done.iter().filter_map(|result| of.get(*result)).copied();
            free.extend(over.filter(|other| *other != place));
            of.push(place);
        }
        Places { of, count }
    }
}

/// The result that an instruction may change into its own: its first operand, if it is the last to
/// take it.
fn in_place(instruction: &Instruction, done: &[usize]) -> Option<usize> {
    match instruction.operands[..] {
        [Operand::Result(first), ref rest @ ..] if done.contains(&first) => {
            (!rest.contains(&Operand::Result(first))).then_some(first)
        }
        _ => None,
    }
}

/// What an instruction finds at an operand's place.
#[derive(Clone, Copy)]
enum Source<'a> {
    Slice(&'a [f32]),
    Number(f32),
}

struct Job<'a> {
    program: &'a Program,
    places: Places,
    slices: Vec<&'a [f32]>,
    /// The input that is where the result goes.
    own: Option<usize>,
    walk: Walk,
}

impl Job<'_> {
    /// Rows of the result from `row` on; `begin` is where in the last axis they begin.
    fn rows(&self, row: usize, begin: usize, result: &mut [f32]) {
        let size = PIECE.min(result.len());
        let mut memory = vec![vec![0.0; size]; self.places.count + 1];
        for (at, result) in result.chunks_mut(self.walk.run).enumerate() {
            let start = |(strides, last): &(Vec<usize>, usize)| {
                (self.walk.start(strides, row + at) + begin * last, *last)
            };
            let starts: Vec<(usize, usize)> = self.walk.strides.iter().map(start).collect();
            for (piece, result) in result.chunks_mut(PIECE).enumerate() {
                self.piece(&starts, piece * PIECE, result, &mut memory);
            }
        }
    }

    /// `None` for what no program has: an instruction without operands, or one not by element.
    fn piece(
        &self,
        starts: &[(usize, usize)],
        from: usize,
        result: &mut [f32],
        memory: &mut [Vec<f32>],
    ) -> Option<()> {
        let length = result.len();
        if self.own.is_some() {
            // What is there is still needed when the result is written.
            memory.get_mut(self.places.count)?.get_mut(..length)?.copy_from_slice(result);
        }
        let last = self.program.instructions.len().checked_sub(1)?;
        for (at, instruction) in self.program.instructions.iter().enumerate() {
            let place = *self.places.of.get(at)?;
            let [first, ref rest @ ..] = instruction.operands[..] else { return None };
            let keeps = at != last
                && matches!(first, Operand::Result(r) if self.places.of.get(r) == Some(&place));
            let mut own =
                if at == last { Vec::new() } else { std::mem::take(memory.get_mut(place)?) };
            let to = if at == last { &mut *result } else { own.get_mut(..length)? };
            let source = |operand| self.source(operand, starts, from, length, memory);
            if !keeps {
                match source(first)? {
                    Source::Slice(slice) => to.copy_from_slice(slice),
                    Source::Number(number) => to.fill(number),
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
        starts: &[(usize, usize)],
        from: usize,
        length: usize,
        memory: &'m [Vec<f32>],
    ) -> Option<Source<'m>> {
        let slice = match operand {
            Operand::Result(at) => memory.get(*self.places.of.get(at)?)?.get(..length)?,
            Operand::Input(at) if self.own == Some(at) => {
                memory.get(self.places.count)?.get(..length)?
            }
            Operand::Input(at) => {
                let (start, last) = *starts.get(at)?;
                let slice = self.slices.get(at)?;
                if last == 0 {
                    return Some(Source::Number(*slice.get(start)?));
                }
                slice.get(start + from..start + from + length)?
            }
        };
        Some(Source::Slice(slice))
    }
}

/// Changes what is there by an instruction; `other` is its second operand.
fn apply(op: &Op, to: &mut [f32], other: Option<Source<'_>>) -> Option<()> {
    #[allow(clippy::cast_possible_truncation, reason = "the tensor has floats of 32 bits")]
    match (op, other) {
        (Op::Unary(unary), None) => elementwise::function(*unary)?(to),
        (Op::Clamp(least, most), None) => elementwise::clamp(*least, *most)(to),
        (Op::Scalar(Binary::Pow, power), None) if *power == 2.0 => elementwise::map(to, |x| x * x),
        (Op::Scalar(binary, value), None) => of_two(*binary, to, Source::Number(*value as f32))?,
        (Op::Binary(binary), Some(other)) => of_two(*binary, to, other)?,
        _ => return None,
    }
    Some(())
}

fn of_two(binary: Binary, to: &mut [f32], other: Source<'_>) -> Option<()> {
    match binary {
        Binary::Add => with(to, other, |x, y| x + y),
        Binary::Sub => with(to, other, |x, y| x - y),
        Binary::Mul => with(to, other, |x, y| x * y),
        Binary::Div => with(to, other, |x, y| x / y),
        // NaN stays.
        Binary::Max => with(to, other, |x, y| if (y > x) | y.is_nan() { y } else { x }),
        Binary::Min => with(to, other, |x, y| if (y < x) | y.is_nan() { y } else { x }),
        Binary::Pow => with(to, other, f32::powf),
        _ => return None,
    }
    Some(())
}

#[inline(always)]
fn with(to: &mut [f32], other: Source<'_>, function: impl Fn(f32, f32) -> f32) {
    match other {
        Source::Number(number) => elementwise::map(to, |x| function(x, number)),
        Source::Slice(slice) => elementwise::map_with(to, slice, function),
    }
}
