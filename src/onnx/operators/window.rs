//! Sliding windows, from the attributes of convolutions and pools.

use super::Call;
use crate::step::SlidingWindow;
use graph::error::{OnnxError, Result};

/// Longest edge of a kernel, stride, dilation or padding.
const LENGTH_MAX: i64 = 1 << 20;

/// Most elements of a kernel: a pool may cover an image of 4096 x 4096.
const KERNEL_MAX: usize = 1 << 24;

/// The window of a node over axes of these lengths.
///
/// # Errors
/// If an attribute has the wrong number of lengths, or too large ones, or the window does not fit.
pub(super) fn window(
    call: &Call<'_>,
    kernel: Vec<usize>,
    lengths: &[usize],
    groups: usize,
) -> Result<SlidingWindow> {
    let axes = lengths.len();
    if kernel.len() != axes || !(1..=3).contains(&axes) {
        return Err(OnnxError::input(format!("a kernel of {kernel:?} does not fit {axes} axes")));
    }
    let stride = attribute(call, "strides", axes, 1)?;
    let dilation = attribute(call, "dilations", axes, 1)?;
    if kernel.contains(&0) || stride.contains(&0) || dilation.contains(&0) || groups == 0 {
        return Err(OnnxError::invalid(format!(
            "kernel {kernel:?}, strides {stride:?} or dilations {dilation:?} are out of range"
        )));
    }
    let size = kernel.iter().try_fold(1usize, |size, length| size.checked_mul(*length));
    if size.is_none_or(|size| size > KERNEL_MAX) {
        return Err(OnnxError::invalid(format!("a kernel of {kernel:?} is too large")));
    }
    let pads = attribute(call, "pads", 2 * axes, 0)?;
    let (before, behind) = pads.split_at(axes);
    let explicit = before.iter().copied().zip(behind.iter().copied()).collect();
    let mut window = SlidingWindow { kernel, stride, padding: explicit, dilation, groups };
    match call.text("auto_pad")?.unwrap_or("NOTSET") {
        "NOTSET" => {}
        "VALID" => window.padding = vec![(0, 0); axes],
        "SAME_UPPER" => window.padding = same(&window, lengths, true),
        "SAME_LOWER" => window.padding = same(&window, lengths, false),
        other => {
            return Err(OnnxError::unsupported(format!("auto_pad '{other}' is not supported")));
        }
    }
    Ok(window)
}

/// The lengths in an attribute, one for each axis.
pub(super) fn attribute(
    call: &Call<'_>,
    name: &str,
    count: usize,
    default: usize,
) -> Result<Vec<usize>> {
    let Some(values) = call.ints(name)? else { return Ok(vec![default; count]) };
    if values.len() != count || values.iter().any(|value| !(0..=LENGTH_MAX).contains(value)) {
        return Err(OnnxError::invalid(format!("attribute {name}: {values:?} is not valid")));
    }
    Ok(values.iter().filter_map(|value| usize::try_from(*value).ok()).collect())
}

/// Padding that makes the result as long as the input divided by the stride.
pub(super) fn same(window: &SlidingWindow, lengths: &[usize], upper: bool) -> Vec<(usize, usize)> {
    let axis = |at: usize| {
        let (length, stride) = (lengths.get(at).copied().unwrap_or(1), window.at(at).1);
        let out = length.div_ceil(stride);
        let needed = (out.saturating_sub(1) * stride + window.reach(at)).saturating_sub(length);
        let small = needed / 2;
        // SAME_UPPER puts the odd element behind the data, SAME_LOWER in front of them.
        if upper { (small, needed - small) } else { (needed - small, small) }
    };
    (0..lengths.len()).map(axis).collect()
}

impl SlidingWindow {
    /// Kernel, stride, dilation of an axis.
    fn at(&self, axis: usize) -> (usize, usize, usize) {
        let of = |values: &[usize]| values.get(axis).copied().unwrap_or(1);
        (of(&self.kernel), of(&self.stride), of(&self.dilation))
    }

    /// The number of elements from the first to the last of a window, inclusive.
    pub(crate) fn reach(&self, axis: usize) -> usize {
        let (kernel, _, dilation) = self.at(axis);
        (kernel - 1) * dilation + 1
    }

    /// The number of places of the window along an axis.
    ///
    /// # Errors
    /// If it does not fit.
    pub(crate) fn places(&self, axis: usize, length: usize, ceil: bool) -> Result<usize> {
        let (_, stride, _) = self.at(axis);
        let (before, behind) = self.padding.get(axis).copied().unwrap_or((0, 0));
        let padded = length + before + behind;
        let rest = padded.checked_sub(self.reach(axis));
        let rest = rest.ok_or_else(|| {
            OnnxError::input(format!(
                "a window of {:?} does not fit a length of {length}",
                self.kernel
            ))
        })?;
        let mut places = if ceil { rest.div_ceil(stride) } else { rest / stride } + 1;
        // The last window must begin inside the data or the padding before them.
        if ceil && (places - 1) * stride >= length + before {
            places -= 1;
        }
        Ok(places)
    }

    /// The window with another axis of length 1 in front.
    pub(super) fn with_axis(&self) -> SlidingWindow {
        let mut window = self.clone();
        window.kernel.insert(0, 1);
        window.stride.insert(0, 1);
        window.dilation.insert(0, 1);
        window.padding.insert(0, (0, 0));
        window
    }
}
