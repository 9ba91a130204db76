//! Rules for products, convolutions, pools and recurrent operators.

use super::length::Length;
use super::site::{Label, Operand, Outcome, Site};
use super::value::Fact;
use std::collections::HashMap;

/// Labels of the axes of matrices that are multiplied.
const SUMMED: Label = 500;
const LEFT: Label = 501;
const RIGHT: Label = 502;

/// `MatMul` and products with the same axes; `parts` are the two factors.
pub(super) fn matmul(site: &mut Site<'_>, parts: [usize; 2]) -> Outcome {
    turned_matmul(site, parts, [false, false])
}

/// `MatMul` of quantised integers: scales and zero points of the left factor, at the positions
/// `left`, must be the same for all of its rows.
pub(super) fn quantised_matmul(site: &mut Site<'_>, parts: [usize; 2], left: &[usize]) -> Outcome {
    let single = |fact: &Fact| {
        fact.shape.as_ref().is_some_and(|shape| shape.iter().all(|length| length.is(1)))
    };
    if !left.iter().filter_map(|at| site.optional(*at)).all(single) {
        return Err("a scale or zero point differs between row indices".into());
    }
    matmul(site, parts)
}

/// `MatMul` with factors that may be transposed along their last two axes.
pub(super) fn turned_matmul(site: &mut Site<'_>, parts: [usize; 2], turned: [bool; 2]) -> Outcome {
    let [left, right] = parts;
    let others = site.inputs.iter().enumerate().filter(|(at, _)| !parts.contains(at));
    if !others.filter_map(|(_, fact)| fact.as_ref()).all(Fact::is_shared) {
        return Err("its scales are computed from rows".into());
    }
    let (a, b) = (site.fact(left)?.clone(), site.fact(right)?.clone());
    let (a_rank, b_rank) = (site.rank(left)?, site.rank(right)?);
    let batch = a_rank.max(b_rank).saturating_sub(2);
    // Batch axes are aligned at their end.
    let leading = |rank: usize| (batch + 2 - rank.clamp(2, batch + 2)..batch).collect::<Vec<_>>();
    let (mut a_labels, mut b_labels) = (leading(a_rank), leading(b_rank));
    let mut output: Vec<Label> = (0..batch).collect();
    match a_rank {
        0 => return Err("a factor is a scalar".into()),
        1 => a_labels = vec![SUMMED],
        _ => {
            a_labels.extend(if turned[0] { [SUMMED, LEFT] } else { [LEFT, SUMMED] });
            output.push(LEFT);
        }
    }
    match b_rank {
        0 => return Err("a factor is a scalar".into()),
        1 => b_labels = vec![SUMMED],
        _ => {
            b_labels.extend(if turned[1] { [RIGHT, SUMMED] } else { [SUMMED, RIGHT] });
            output.push(RIGHT);
        }
    }
    site.pass(&[(a, a_labels), (b, b_labels)], &[output], true)
}

pub(super) fn gemm(site: &mut Site<'_>) -> Outcome {
    let turned = |name: &str| site.int(name).unwrap_or(0) != 0;
    let (a_turned, b_turned) = (turned("transA"), turned("transB"));
    let order = |turned: bool, first, second| match turned {
        true => vec![second, first],
        false => vec![first, second],
    };
    let mut operands = vec![
        (site.fact(0)?.clone(), order(a_turned, LEFT, SUMMED)),
        (site.fact(1)?.clone(), order(b_turned, SUMMED, RIGHT)),
    ];
    if site.rank(0)? != 2 || site.rank(1)? != 2 {
        return Err("a factor is not a matrix".into());
    }
    if let Some(c) = site.optional(2) {
        let labels: &[Label] = match c.rank() {
            Some(0) => &[],
            Some(1) => &[RIGHT],
            Some(2) => &[LEFT, RIGHT],
            _ => return Err("the number of axes of input 2 is not known".into()),
        };
        operands.push((c.clone(), labels.to_vec()));
    }
    site.pass(&operands, &[vec![LEFT, RIGHT]], true)
}

pub(super) fn einsum(site: &mut Site<'_>) -> Outcome {
    let equation = site.text("equation").ok_or("its equation is missing")?.replace(' ', "");
    if equation.contains('.') {
        return Err("its equation contains an ellipsis".into());
    }
    let (terms, output) = match equation.split_once("->") {
        Some((terms, output)) => (terms.to_owned(), output.to_owned()),
        None => {
            let mut once: Vec<char> = equation.chars().filter(|c| *c != ',').collect();
            once.sort_unstable();
            let twice: Vec<char> =
                once.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
            let output = once.iter().filter(|letter| !twice.contains(letter)).collect();
            (equation, output)
        }
    };
    let mut known: HashMap<char, Label> = HashMap::new();
    let mut labels = |term: &str| {
        let label = |letter: char| {
            let next = known.len();
            *known.entry(letter).or_insert(next)
        };
        term.chars().map(label).collect::<Vec<Label>>()
    };
    let mut operands: Vec<Operand> = Vec::new();
    for (at, term) in terms.split(',').enumerate() {
        let (fact, labels) = (site.fact(at)?.clone(), labels(term));
        if fact.rank() != Some(labels.len()) {
            return Err(format!("the number of axes of input {at} is not known").into());
        }
        operands.push((fact, labels));
    }
    let output = labels(&output);
    site.pass(&operands, &[output], false)
}

/// Convolutions and other operators that process each element of axis 0 of their main inputs
/// separately, with the same weights for all; outputs have the given shapes behind axis 0.
pub(super) fn by_batch(
    site: &mut Site<'_>,
    main: &[usize],
    shapes: &[Option<Vec<Length>>],
) -> Outcome {
    let mut operands = Vec::new();
    for at in 0..site.inputs.len() {
        let Some((fact, mut labels)) = site.apart(at)? else { continue };
        if main.contains(&at)
            && let Some(first) = labels.first_mut()
        {
            *first = 0;
        }
        operands.push((fact, labels));
    }
    outputs(site, &operands, shapes)
}

/// Like [`by_batch`], for operators with inputs that have their rows along axis 0.
pub(super) fn by_first_axis(site: &mut Site<'_>, shapes: &[Option<Vec<Length>>]) -> Outcome {
    let mut operands = Vec::new();
    for at in 0..site.inputs.len() {
        let Some((fact, mut labels)) = site.apart(at)? else { continue };
        if let (Some(0), Some(first)) = (fact.row_axis(), labels.first_mut()) {
            *first = 0;
        }
        operands.push((fact, labels));
    }
    outputs(site, &operands, shapes)
}

/// Outputs with the axis of the rows first and axes of the given lengths behind it; `None` for an
/// output with the lengths of input 0.
fn outputs(site: &mut Site<'_>, operands: &[Operand], shapes: &[Option<Vec<Length>>]) -> Outcome {
    let mut all = Vec::with_capacity(shapes.len());
    for shape in shapes {
        let shape = match shape {
            Some(shape) => shape.clone(),
            None => site.shape(0)?.get(1..).unwrap_or_default().to_vec(),
        };
        let mut labels = vec![0];
        labels.extend(shape.into_iter().map(|length| site.fresh(length)));
        all.push(labels);
    }
    site.pass(operands, &all, false)
}

/// A window along one axis.
struct AxisWindow {
    kernel: i64,
    stride: i64,
    dilation: i64,
    pads: i64,
}

pub(super) fn conv(site: &mut Site<'_>, main: &[usize], weights: usize) -> Outcome {
    let shape = site.shape(0)?.to_vec();
    let kernel = site.optional(weights).and_then(|fact| fact.shape.clone());
    let out = kernel.as_ref().and_then(|kernel| kernel.first().cloned());
    let out = match out {
        Some(out) => out,
        None => site.open(),
    };
    let spatial = kernel
        .and_then(|kernel| kernel.get(2..)?.iter().map(Length::number).collect::<Option<Vec<_>>>());
    let spatial = site.ints("kernel_shape").map(<[i64]>::to_vec).or(spatial);
    let mut lengths = vec![out];
    lengths.extend(windowed(site, &shape, spatial.as_deref()));
    by_batch(site, main, &[Some(lengths)])
}

pub(super) fn pool(site: &mut Site<'_>) -> Outcome {
    let shape = site.shape(0)?.to_vec();
    let kernel = site.ints("kernel_shape").map(<[i64]>::to_vec);
    let channels = match shape.get(1) {
        Some(channels) => channels.clone(),
        None => site.open(),
    };
    let mut lengths = vec![channels];
    lengths.extend(windowed(site, &shape, kernel.as_deref()));
    let mut all = by_batch(site, &[0], &[Some(lengths)])?;
    // The indices of the maxima count elements of the whole tensor, rows included.
    if site.node.outputs.get(1).is_some_and(|name| !name.is_empty()) {
        let rows = site.fact(0)?.row_axis().is_some();
        all.push(if rows {
            Fact::mixed("its indices count the elements of all rows")
        } else {
            Fact::shared(None)
        });
    }
    Ok(all)
}

/// Lengths of the spatial axes behind a convolution or pool.
fn windowed(site: &mut Site<'_>, shape: &[Length], kernel: Option<&[i64]>) -> Vec<Length> {
    let count = shape.len().saturating_sub(2);
    let mut lengths = Vec::with_capacity(count);
    for axis in 0..count {
        let length = shape.get(axis + 2).and_then(Length::number);
        let window = kernel.and_then(|kernel| window(site, *kernel.get(axis)?, axis, count));
        let known = length.zip(window).and_then(|(length, window)| behind(site, length, &window));
        lengths.push(match known {
            Some(length) => Length::fixed(length),
            None => site.open(),
        });
    }
    lengths
}

fn window(site: &Site<'_>, kernel: i64, axis: usize, count: usize) -> Option<AxisWindow> {
    let each = |name: &str| site.ints(name).map_or(Some(1), |all| all.get(axis).copied());
    let pads = match site.ints("pads") {
        None => 0,
        Some(pads) => pads.get(axis)?.checked_add(*pads.get(axis + count)?)?,
    };
    Some(AxisWindow { kernel, stride: each("strides")?, dilation: each("dilations")?, pads })
}

fn behind(site: &Site<'_>, length: i64, window: &AxisWindow) -> Option<i64> {
    let stride = window.stride.max(1);
    match site.text("auto_pad") {
        Some("SAME_UPPER" | "SAME_LOWER") => {
            return length.checked_add(stride - 1)?.checked_div(stride);
        }
        Some("NOTSET" | "VALID") | None => {}
        Some(_) => return None,
    }
    let reach = window.kernel.checked_sub(1)?.checked_mul(window.dilation)?.checked_add(1)?;
    let pads = if site.text("auto_pad") == Some("VALID") { 0 } else { window.pads };
    let room = length.checked_add(pads)?.checked_sub(reach)?;
    let up = site.int("ceil_mode").unwrap_or(0) != 0 && room % stride != 0;
    // Versions of ONNX differ in the last window of `ceil_mode`.
    (!up).then(|| room / stride + 1).filter(|length| *length >= 0)
}

pub(super) fn global_pool(site: &mut Site<'_>) -> Outcome {
    let shape = site.shape(0)?;
    let mut lengths = shape.get(1..2).unwrap_or_default().to_vec();
    lengths.extend(shape.iter().skip(2).map(|_| Length::one()));
    by_batch(site, &[0], &[Some(lengths)])
}

/// Convolutions and similar operators; lengths behind axis 0 are not tracked.
pub(super) fn open_batch(site: &mut Site<'_>, main: usize, rank: usize) -> Outcome {
    let lengths = (1..rank).map(|_| site.open()).collect();
    by_batch(site, &[main], &[Some(lengths)])
}

/// `RNN`, `GRU`, `LSTM`: the batch is axis 1 if time is first, else axis 0.
pub(super) fn recurrent(site: &mut Site<'_>) -> Outcome {
    // Time has no label of its own: rows along it depend on each other.
    const BATCH: Label = 1;
    let batch_first = site.int("layout").unwrap_or(0) == 1;
    let directions = site.optional(1).and_then(|weights| weights.shape.as_ref()?.first().cloned());
    let directions = match directions {
        Some(directions) => directions,
        None => site.open(),
    };
    let hidden = match site.int("hidden_size") {
        Some(hidden) => Length::fixed(hidden),
        None => site.open(),
    };
    let (directions, hidden) = (site.fresh(directions), site.fresh(hidden));
    let time = site.shape(0)?.get(usize::from(batch_first)).cloned();
    let time = site.fresh(time.unwrap_or_else(Length::one));
    let mut operands = Vec::new();
    for at in 0..site.inputs.len() {
        let Some((fact, mut labels)) = site.apart(at)? else { continue };
        let place = match at {
            0 if batch_first => Some(0),
            0 => Some(1),
            4 => Some(0),
            5 | 6 if batch_first => Some(0),
            5 | 6 => Some(1),
            _ => None,
        };
        if let Some(label) = place.and_then(|place| labels.get_mut(place)) {
            *label = BATCH;
        }
        operands.push((fact, labels));
    }
    let (all, last) = match batch_first {
        true => (vec![BATCH, time, directions, hidden], vec![BATCH, directions, hidden]),
        false => (vec![time, directions, BATCH, hidden], vec![directions, BATCH, hidden]),
    };
    site.pass(&operands, &[all, last.clone(), last], false)
}

/// Each element of axis 0 is processed separately in every input with rows; results have as many
/// axes as the main input, of unknown lengths.
pub(super) fn first_axis(site: &mut Site<'_>) -> Outcome {
    let rank = site.rank(0)?;
    let count = site.node.outputs.len();
    let mut shapes = Vec::with_capacity(count);
    for _ in 0..count {
        shapes.push(Some((1..rank).map(|_| site.open()).collect()));
    }
    by_first_axis(site, &shapes)
}
