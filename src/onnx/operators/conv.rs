//! Convolutions.

use super::window::{attribute, window};
use super::{Call, Outputs, Table, one, several};
use crate::axes;
use crate::axes::Cut;
use crate::step::{Op, SlidingWindow, Unary};
use crate::trace::{PlanTensor, Tracer};
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[
    ("CausalConvWithState", causal),
    ("Conv", |t, call| {
        let bias = call.optional(2)?.cloned();
        one(conv(t, call, call.tensor(0)?, call.tensor(1)?, bias.as_ref())?)
    }),
    ("ConvTranspose", transpose),
    ("DeformConv", deform),
];

/// Most groups of channels: products with this number do not overflow.
const GROUPS_MAX: usize = 1 << 20;

/// The axes behind batch and channels.
pub(super) fn spatial(x: &PlanTensor) -> Result<(usize, usize, Vec<usize>)> {
    match &x.shape[..] {
        [batch, channels, rest @ ..] if !rest.is_empty() => Ok((*batch, *channels, rest.to_vec())),
        shape => {
            Err(OnnxError::input(format!("shape {shape:?} has no axes behind batch and channels")))
        }
    }
}

fn groups(call: &Call<'_>) -> Result<usize> {
    let group = call.int_or("group", 1)?;
    let fits = |group: &usize| (1..=GROUPS_MAX).contains(group);
    usize::try_from(group)
        .ok()
        .filter(fits)
        .ok_or_else(|| OnnxError::invalid(format!("group: {group} is out of range")))
}

/// A convolution with the attributes of a node.
pub(super) fn conv(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    x: &PlanTensor,
    weight: &PlanTensor,
    bias: Option<&PlanTensor>,
) -> Result<PlanTensor> {
    let (batch, channels, lengths) = spatial(x)?;
    let (out, per_group, kernel) = spatial(weight)?;
    let groups = groups(call)?;
    let bias_fits = bias.is_none_or(|bias| bias.shape == [out]);
    if per_group * groups != channels || out % groups != 0 || !bias_fits {
        return Err(OnnxError::input(format!(
            "weights of shape {:?} in {groups} groups do not fit shape {:?}",
            weight.shape, x.shape
        )));
    }
    let window = window(call, kernel, &lengths, groups)?;
    let mut shape = vec![batch, out];
    for (axis, length) in lengths.iter().enumerate() {
        shape.push(window.places(axis, *length, false)?);
    }
    let inputs: Vec<&PlanTensor> = [x, weight].into_iter().chain(bias).collect();
    t.emit(Op::Conv(window), &inputs, x.elem, shape)
}

fn transpose(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, weight) = (call.tensor(0)?, call.tensor(1)?);
    let (batch, channels, lengths) = spatial(x)?;
    let (from, per_group, kernel) = spatial(weight)?;
    let groups = groups(call)?;
    let out = per_group * groups;
    let bias = call.optional(2)?;
    if from != channels || channels % groups != 0 || bias.is_some_and(|bias| bias.shape != [out]) {
        return Err(OnnxError::input(format!(
            "weights of shape {:?} do not fit shape {:?}",
            weight.shape, x.shape
        )));
    }
    let mut window = window(call, kernel, &lengths, groups)?;
    let more = attribute(call, "output_padding", lengths.len(), 0)?;
    let crops = crops(call, &window, &lengths, &more)?;
    // The whole result; the padding is then cut off.
    window.padding = vec![(0, 0); lengths.len()];
    let mut shape = vec![batch, out];
    let mut grow = Vec::new();
    for (axis, length) in lengths.iter().enumerate() {
        let (_, behind, full) = crops.get(axis).copied().unwrap_or_default();
        // Elements beyond the whole result must be made first.
        let beyond = usize::try_from(-behind).unwrap_or(0);
        grow.push(more.get(axis).copied().unwrap_or(0).max(beyond));
        // `crops` has rejected axes of length 0, so that this does not underflow.
        let whole = (length - 1).saturating_mul(window.stride.get(axis).copied().unwrap_or(1));
        let whole = whole + window.reach(axis) + grow.last().copied().unwrap_or(0);
        let _ = full;
        shape.push(whole);
    }
    let inputs: Vec<&PlanTensor> = [x, weight].into_iter().chain(bias).collect();
    let strides = window.stride.clone();
    // burn requires that the additional length is less than the stride.
    let fits = grow.iter().zip(&strides).all(|(grow, stride)| grow < stride);
    let whole = if fits {
        t.emit(Op::ConvTranspose(window, grow), &inputs, x.elem, shape)?
    } else {
        grown(t, &inputs, window, &grow, shape, bias)?
    };
    let mut cuts = vec![Cut::all(batch), Cut::all(out)];
    for (axis, (before, _, wanted)) in crops.iter().enumerate() {
        let length = whole.shape.get(axis + 2).copied().unwrap_or(0);
        let end = before.saturating_add(*wanted);
        if end > length {
            return Err(OnnxError::input(format!(
                "an output of length {wanted} exceeds the result of length {length}"
            )));
        }
        cuts.push(Cut::range(*before, end));
    }
    one(axes::slice(t, &whole, &cuts)?)
}

/// Appends zeros to the result for places that no window covers, then adds the bias.
fn grown(
    t: &mut Tracer<'_>,
    inputs: &[&PlanTensor],
    window: SlidingWindow,
    grow: &[usize],
    shape: Vec<usize>,
    bias: Option<&PlanTensor>,
) -> Result<PlanTensor> {
    let smaller = shape.iter().enumerate().map(|(at, length)| {
        let more = at.checked_sub(2).and_then(|axis| grow.get(axis)).copied().unwrap_or(0);
        length - more
    });
    let smaller: Vec<usize> = smaller.collect();
    let none = vec![0; grow.len()];
    let plain: Vec<&PlanTensor> = inputs.iter().take(2).copied().collect();
    let elem = plain.first().map_or(graph::Elem::F32, |x| x.elem);
    let x = t.emit(Op::ConvTranspose(window, none), &plain, elem, smaller)?;
    let padding: Vec<(usize, usize)> =
        [0, 0].into_iter().chain(grow.iter().copied()).map(|more| (0, more)).collect();
    let padded = axes::pad(t, &x, &padding, 0.0)?;
    let Some(bias) = bias else { return Ok(padded) };
    let mut line = vec![1; shape.len()];
    if let Some(channels) = line.get_mut(1) {
        *channels = bias.len();
    }
    let bias = t.reshape(bias, &line)?;
    t.add(&padded, &bias)
}

/// For each axis: length to cut off before and behind (negative: to add), length of the result.
fn crops(
    call: &Call<'_>,
    window: &SlidingWindow,
    lengths: &[usize],
    more: &[usize],
) -> Result<Vec<(usize, i64, usize)>> {
    let wanted = call.ints("output_shape")?;
    // As in the standard: the larger half of the padding is in front, except for SAME_UPPER.
    let upper = call.text("auto_pad")? == Some("SAME_UPPER");
    let same = call.text("auto_pad")?.is_some_and(|pad| pad.starts_with("SAME"));
    let mut all = Vec::with_capacity(lengths.len());
    for (axis, length) in lengths.iter().enumerate() {
        let stride = window.stride.get(axis).copied().unwrap_or(1);
        let more = more.get(axis).copied().unwrap_or(0);
        let length =
            length.checked_sub(1).ok_or_else(|| OnnxError::input("an axis has length 0"))?;
        let full = length * stride + window.reach(axis) + more;
        // The attribute may state batch and channels in front of the lengths.
        let target = match wanted.and_then(|shape| shape.get(axis + shape.len() - lengths.len())) {
            Some(target) => {
                Some(usize::try_from(*target).map_err(|_| OnnxError::invalid("output_shape"))?)
            }
            // If the kernel is shorter than the stride, the whole result is shorter.
            None if same => Some(((length + 1) * stride).min(full)),
            None => None,
        };
        let (before, behind) = match target {
            Some(target) => {
                let total = full as i64 - target as i64;
                let half = total.max(0) / 2;
                let before = if upper { half } else { total.max(0) - half };
                (usize::try_from(before).unwrap_or(0), total - before)
            }
            None => {
                let (before, behind) = window.padding.get(axis).copied().unwrap_or((0, 0));
                (before, behind as i64)
            }
        };
        let result = full as i64 - before as i64 - behind;
        let result = usize::try_from(result).ok().filter(|result| *result > 0);
        all.push((
            before,
            behind,
            result.ok_or_else(|| OnnxError::input("the pads remove the whole result"))?,
        ));
    }
    Ok(all)
}

fn deform(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, weight, offset) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let (batch, _, lengths) = spatial(x)?;
    let (out, _, kernel) = spatial(weight)?;
    if lengths.len() != 2 {
        return Err(OnnxError::input(format!("shape {:?} does not have four axes", x.shape)));
    }
    let window = window(call, kernel, &lengths, groups(call)?)?;
    // burn's operation has one width for both ends of an axis.
    if window.padding.iter().any(|(before, behind)| before != behind) {
        return Err(OnnxError::unsupported(format!(
            "pads {:?} of a deformable convolution must be equal at both ends",
            window.padding
        )));
    }
    let offset_groups = usize::try_from(call.int_or("offset_group", 1)?).unwrap_or(0).max(1);
    let mut shape = vec![batch, out];
    for (axis, length) in lengths.iter().enumerate() {
        shape.push(window.places(axis, *length, false)?);
    }
    let (bias, mask) = (call.optional(3)?, call.optional(4)?);
    let flags = (bias.is_some(), mask.is_some());
    let inputs: Vec<&PlanTensor> =
        [x, weight, offset].into_iter().chain(bias).chain(mask).collect();
    let op = Op::DeformConv(window, offset_groups, flags.0, flags.1);
    one(t.emit(op, &inputs, x.elem, shape)?)
}

/// A causal convolution over time (ONNX operator CausalConvWithState): the state is put in front of
/// the input, and the end of both is the next state.
fn causal(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, weight) = (call.tensor(0)?, call.tensor(1)?);
    let [batch, channels, length] = x.shape[..] else {
        return Err(OnnxError::input(format!("shape {:?} does not have three axes", x.shape)));
    };
    let kernel = weight
        .shape
        .last()
        .copied()
        .filter(|kernel| *kernel > 0)
        .ok_or_else(|| OnnxError::input("the kernel has no elements"))?;
    // A causal window reaches this many elements back.
    let depth = kernel - 1;
    let state = match call.optional(3)? {
        Some(state) => state.clone(),
        None => axes::full(t, x.elem, vec![batch, channels, depth], 0.0)?,
    };
    let joined = if depth == 0 { x.clone() } else { axes::cat(t, &[state, x.clone()], 2)? };
    let window = SlidingWindow {
        kernel: vec![kernel],
        stride: vec![1],
        padding: vec![(0, 0)],
        dilation: vec![1],
        groups: channels,
    };
    if weight.shape != [channels, 1, kernel] {
        return Err(OnnxError::input(format!(
            "weights of shape {:?} do not fit {channels} channels",
            weight.shape
        )));
    }
    let inputs: Vec<&PlanTensor> = [&joined, weight].into_iter().chain(call.optional(2)?).collect();
    let mut y = t.emit(Op::Conv(window), &inputs, x.elem, x.shape.clone())?;
    match call.text("activation")?.unwrap_or("none") {
        "none" => {}
        "silu" | "swish" => {
            let gate = t.unary(Unary::Sigmoid, &y)?;
            y = t.mul(&y, &gate)?;
        }
        other => {
            return Err(OnnxError::unsupported(format!("activation '{other}' is not supported")));
        }
    }
    let present = axes::narrow(t, &joined, 2, Cut::range(length, length + depth))?;
    several([y, present])
}
