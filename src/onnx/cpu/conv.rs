//! Convolutions of two axes: directly if each channel has its own filter, otherwise as a product of
//! the weights with the columns of elements under the window.

use super::{in_rows, ordered, put};
use crate::step::SlidingWindow;
use crate::tensor::DeviceTensor;
use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;
use pulp::Arch;

/// Most elements of columns that are made at once.
const COLUMNS_MAX: usize = 1 << 21;

/// Sizes of a convolution of two axes.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    out: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// The padding before each axis.
    padding: [usize; 2],
    /// The size of the result.
    rows: usize,
    columns: usize,
}

/// Two values; a convolution of one axis is that of an image with one row.
fn two<PlanTensor: Copy>(values: &[PlanTensor], one: PlanTensor) -> Option<[PlanTensor; 2]> {
    match values {
        [x] => Some([one, *x]),
        [y, x] => Some([*y, *x]),
        _ => None,
    }
}

fn sizes(x: &[usize], weight: &[usize], window: &SlidingWindow) -> Option<Sizes> {
    let [batch, channels, rest @ ..] = x else { return None };
    let [height, width] = two(rest, 1)?;
    let [out, _, kernel @ ..] = weight else { return None };
    let (kernel, stride) = (two(kernel, 1)?, two(&window.stride, 1)?);
    let (dilation, padding) = (two(&window.dilation, 1)?, two(&window.padding, (0, 0))?);
    let places = |length: usize, axis: usize| {
        let (before, behind) = *padding.get(axis)?;
        let reach = (kernel.get(axis)?.checked_sub(1)?) * dilation.get(axis)? + 1;
        Some((length + before + behind).checked_sub(reach)? / stride.get(axis)? + 1)
    };
    let (rows, columns) = (places(height, 0)?, places(width, 1)?);
    let padding = [padding[0].0, padding[1].0];
    Some(Sizes {
        batch: *batch,
        channels: *channels,
        height,
        width,
        out: *out,
        kernel,
        stride,
        dilation,
        padding,
        rows,
        columns,
    })
}

pub(super) fn run(
    x: &DeviceTensor,
    weight: &DeviceTensor,
    bias: Option<&DeviceTensor>,
    window: &SlidingWindow,
) -> Option<DeviceTensor> {
    let (x_shape, w_shape) = (x.shape(), weight.shape());
    let sizes = sizes(&x_shape, &w_shape, window)?;
    let mut shape = vec![sizes.batch, sizes.out];
    shape.extend((x_shape.len() == 4).then_some(sizes.rows));
    shape.push(sizes.columns);
    let bias = match bias {
        Some(bias) => Some(ordered(bias.clone())?),
        None => None,
    };
    let bias = bias.as_ref().map(|bias| bias.storage::<f32>());
    let values =
        if window.groups == sizes.channels && sizes.out == sizes.channels && sizes.channels > 1 {
            depthwise(x, weight, bias, &sizes)?
        } else if window.groups == 1 && sizes.kernel != [1, 1] {
            by_columns(x, weight, bias, &sizes)?
        } else {
            // A kernel of 1 x 1 has no columns to gather, and groups of channels are left to burn.
            return None;
        };
    Some(put(values, &shape))
}

impl Sizes {
    /// A plane of the input with its padding, so that all windows are inside it.
    fn padded(&self, plane: &[f32], into: &mut Vec<f32>) -> (usize, usize) {
        let [ph, pw] = self.padding;
        let reach = |axis: usize, places: usize| {
            let of = |values: &[usize; 2]| values.get(axis).copied().unwrap_or(1);
            (places - 1) * of(&self.stride) + (of(&self.kernel) - 1) * of(&self.dilation) + 1
        };
        let (height, width) = (
            // The last window may end before the padded input does, or behind it.
            reach(0, self.rows).max(self.height + ph),
            reach(1, self.columns).max(self.width + pw),
        );
        into.clear();
        into.resize(height * width, 0.0);
        for (row, target) in
            plane.chunks_exact(self.width).zip(into.chunks_exact_mut(width).skip(ph))
        {
            if let Some(target) = target.get_mut(pw..pw + self.width) {
                target.copy_from_slice(row);
            }
        }
        (height, width)
    }
}

/// A convolution with a filter for each channel. With a stride of 1 along rows, the padded rows are
/// processed as one long row, so that short rows fill vectors too; results between the rows are
/// dropped.
fn depthwise(
    x: &DeviceTensor,
    weight: &DeviceTensor,
    bias: Option<&[f32]>,
    s: &Sizes,
) -> Option<Vec<f32>> {
    let (x, weight) = (ordered(x.clone())?, ordered(weight.clone())?);
    let (x, weight) = (x.storage::<f32>(), weight.storage::<f32>());
    let ([kh, kw], [sh, sw]) = (s.kernel, s.stride);
    let size = s.height * s.width;
    let mut result = vec![0.0; s.batch * s.out * s.rows * s.columns];
    in_rows(&mut result, s.rows * s.columns, |plane, result| {
        let channel = plane % s.channels;
        let taps = weight.get(channel * kh * kw..(channel + 1) * kh * kw).unwrap_or(&[]);
        let mut padded = Vec::new();
        let source = x.get(plane * size..(plane + 1) * size).unwrap_or(&[]);
        // Padding is copied in, so that the loops over taps need no test of bounds.
        let (height, width) = s.padded(source, &mut padded);
        let start = bias.and_then(|bias| bias.get(channel)).copied().unwrap_or(0.0);
        let phases = Phases::of(padded, height, width, sw);
        let offsets = phases.offsets(s);
        let under = |row: usize, length: usize| -> Vec<(f32, &[f32])> {
            let each = taps.iter().zip(&offsets);
            each.map(|(tap, offset)| (*tap, phases.under(*offset, row, length))).collect()
        };
        if (sh, sw) == (1, 1) {
            // The last row ends with its last window, since no elements exist behind it.
            let length = (s.rows - 1) * width + s.columns;
            let mut whole = vec![0.0; length];
            filter(&mut whole, &under(0, length), start);
            for (row, target) in whole.chunks(width).zip(result.chunks_exact_mut(s.columns)) {
                row.get(..s.columns).inspect(|row| target.copy_from_slice(row));
            }
            return;
        }
        for (y, result) in result.chunks_exact_mut(s.columns).enumerate() {
            filter(result, &under(y * sh, s.columns), start);
        }
    });
    Some(result)
}

/// A padded plane with every n-th element of a row adjacent, so that a stride of n becomes 1.
struct Phases {
    values: Vec<f32>,
    width: usize,
    /// The number of elements of a row with a distance of n, rounded up.
    each: usize,
    stride: usize,
}

impl Phases {
    fn of(plane: Vec<f32>, height: usize, width: usize, stride: usize) -> Phases {
        if stride == 1 {
            return Phases { values: plane, width, each: width, stride };
        }
        let each = width.div_ceil(stride);
        let mut values = vec![0.0; height * stride * each];
        for (row, target) in plane.chunks_exact(width).zip(values.chunks_exact_mut(stride * each)) {
            for (phase, target) in target.chunks_exact_mut(each).enumerate() {
                let own = row.iter().skip(phase).step_by(stride);
                target.iter_mut().zip(own).for_each(|(to, value)| *to = *value);
            }
        }
        Phases { values, width: stride * each, each, stride }
    }

    /// The offsets of the elements under each tap of a filter.
    fn offsets(&self, s: &Sizes) -> Vec<usize> {
        let ([kh, kw], [dh, dw]) = (s.kernel, s.dilation);
        let offset = |tap: usize| {
            let x = tap % kw * dw;
            tap / kw * dh * self.width + x % self.stride * self.each + x / self.stride
        };
        (0..kh * kw).map(offset).collect()
    }

    /// The elements under a tap from a row on.
    fn under(&self, offset: usize, row: usize, length: usize) -> &[f32] {
        let begin = offset + row * self.width;
        self.values.get(begin..begin + length).unwrap_or(&[])
    }
}

/// Adds the products of the taps with the elements under them, for each place of the result.
fn filter(result: &mut [f32], taps: &[(f32, &[f32])], start: f32) {
    Arch::new().dispatch(|| {
        // 32 sums fill several vector registers, so that additions do not wait for each other.
        let done = sums::<32>(result, taps, start, 0);
        let done = sums::<8>(result, taps, start, done);
        sums::<1>(result, taps, start, done);
    });
}

/// Processes groups of `N` places from one on; returns the end of the last group.
#[inline(always)]
fn sums<const N: usize>(
    result: &mut [f32],
    taps: &[(f32, &[f32])],
    start: f32,
    from: usize,
) -> usize {
    let rest = result.get_mut(from..).unwrap_or_default();
    let (groups, _) = rest.as_chunks_mut::<N>();
    let done = from + groups.len() * N;
    for (at, group) in groups.iter_mut().enumerate() {
        let mut sum = [start; N];
        for (tap, source) in taps {
            let source = source.get(from + at * N..).and_then(<[f32]>::first_chunk::<N>);
            if let Some(source) = source {
                sum.iter_mut().zip(source).for_each(|(sum, value)| *sum += tap * value);
            }
        }
        *group = sum;
    }
    done
}

/// Weights `[out, channels * kernel]` times columns `[channels * kernel, places]`, some rows of the
/// result at a time.
fn by_columns(
    x: &DeviceTensor,
    weight: &DeviceTensor,
    bias: Option<&[f32]>,
    s: &Sizes,
) -> Option<Vec<f32>> {
    let depth = s.channels * s.kernel[0] * s.kernel[1];
    let weights = weight.clone().reshape(&[s.out, depth]);
    let x = ordered(x.clone())?;
    let x = x.storage::<f32>();
    let (size, places) = (s.height * s.width, s.rows * s.columns);
    let mut result = vec![0.0; s.batch * s.out * places];
    // One row of places at least, even if its columns exceed the bound.
    let at_once = (COLUMNS_MAX / (depth * s.columns).max(1)).clamp(1, s.rows);
    for image in 0..s.batch {
        let planes = x.get(image * s.channels * size..(image + 1) * s.channels * size)?;
        let result = result.get_mut(image * s.out * places..(image + 1) * s.out * places)?;
        for begin in (0..s.rows).step_by(at_once) {
            let rows = at_once.min(s.rows - begin);
            let columns = columns(planes, s, begin, rows);
            let columns = put(columns, &[depth, rows * s.columns]);
            let product = Dispatch::float_matmul(weights.inner.clone(), columns.inner);
            let product = ordered(DeviceTensor::new(product))?;
            let product = product.storage::<f32>();
            let (from, length) = (begin * s.columns, rows * s.columns);
            for (channel, source) in product.chunks_exact(length).enumerate() {
                let start = channel * places + from;
                let target = result.get_mut(start..start + length)?;
                let more = bias.and_then(|bias| bias.get(channel)).copied().unwrap_or(0.0);
                target.iter_mut().zip(source).for_each(|(to, value)| *to = value + more);
            }
        }
    }
    Some(result)
}

/// The elements under each tap of the window for some rows of places: `[channels * kernel,
/// places]`.
fn columns(planes: &[f32], s: &Sizes, begin: usize, rows: usize) -> Vec<f32> {
    let ([kh, kw], [sh, sw]) = (s.kernel, s.stride);
    let (size, length) = (s.height * s.width, rows * s.columns);
    let mut columns = vec![0.0; s.channels * kh * kw * length];
    in_rows(&mut columns, kh * kw * length, |channel, columns| {
        let plane = planes.get(channel * size..(channel + 1) * size).unwrap_or(&[]);
        let mut padded = Vec::new();
        let (height, width) = s.padded(plane, &mut padded);
        let phases = Phases::of(padded, height, width, sw);
        for (offset, column) in phases.offsets(s).into_iter().zip(columns.chunks_exact_mut(length))
        {
            for (y, target) in column.chunks_exact_mut(s.columns).enumerate() {
                let source = phases.under(offset, (begin + y) * sh, s.columns);
                if source.len() == target.len() {
                    target.copy_from_slice(source);
                }
            }
        }
    });
    columns
}
