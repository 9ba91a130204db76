//! Recurrent networks: RNN, GRU, LSTM. Steps in time are unrolled; the products of all inputs are
//! computed before them as one. Gates and formulas are those of the ONNX operators of the same
//! names.

use super::activation::{above, exponential, softplus, softsign};
use super::recurrent_weights::{ProductWeights, WeightsOf, of_direction, plain_weights};
use super::{Call, Outputs, Table};
use crate::axes::Cut;
use crate::control::stack;
use crate::host::HostTensor;
use crate::step::{Binary, Unary};
use crate::trace::{PlanTensor, Tracer, Value};
use crate::{axes, build, literals, matmul};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[
    ("GRU", |t, call| run(t, call, RecurrentCell::Gru, plain_weights)),
    ("LSTM", |t, call| run(t, call, RecurrentCell::Lstm, plain_weights)),
    ("RNN", |t, call| run(t, call, RecurrentCell::Rnn, plain_weights)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecurrentCell {
    Rnn,
    Gru,
    Lstm,
}

impl RecurrentCell {
    fn gates(self) -> usize {
        match self {
            RecurrentCell::Rnn => 1,
            RecurrentCell::Gru => 3,
            RecurrentCell::Lstm => 4,
        }
    }

    fn activations(self) -> &'static [&'static str] {
        match self {
            RecurrentCell::Rnn => &["Tanh"],
            RecurrentCell::Gru => &["Sigmoid", "Tanh"],
            RecurrentCell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// Data that all steps of one direction share.
struct Layer {
    cell: RecurrentCell,
    hidden: usize,
    own: ProductWeights,
    recurrent: ProductWeights,
    /// The bias of the recurrent part, `[gates * hidden]`.
    bias: Option<PlanTensor>,
    peephole: Option<PlanTensor>,
    activations: Vec<RecurrentActivation>,
    clip: Option<f64>,
    linear_before_reset: bool,
    input_forget: bool,
}

struct RecurrentActivation {
    /// In lower case: ONNX Runtime ignores the case of names.
    name: String,
    alpha: f64,
    beta: f64,
}

/// Runs all directions of a network.
///
/// # Errors
/// If shapes or attributes do not fit.
pub(super) fn run(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    cell: RecurrentCell,
    weights: WeightsOf,
) -> Outputs {
    let layout = call.int_or("layout", 0)? != 0;
    let given = call.tensor(0)?;
    if given.rank() != 3 {
        return Err(OnnxError::input(format!("shape {:?} does not have three axes", given.shape)));
    }
    let x = if layout { axes::permute(t, given, &[1, 0, 2])? } else { given.clone() };
    let [steps, batch, _] = x.shape[..] else {
        return Err(OnnxError::input("expected three axes"));
    };
    let direction = call.text("direction")?.unwrap_or("forward");
    let backs: &[bool] = match direction {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => {
            return Err(OnnxError::unsupported(format!("direction '{other}' is not supported")));
        }
    };
    let lengths = call.optional(4)?.map(|lengths| literals::ints(t, lengths)).transpose()?;
    // Rows that all have all steps need no masks.
    let lengths = lengths.filter(|all| all.iter().any(|length| *length != steps as i64));
    if lengths.as_ref().is_some_and(|all| all.len() != batch) {
        return Err(OnnxError::input(format!("sequence_lens do not fit a batch of {batch}")));
    }
    let (mut all, mut last, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    for (at, back) in backs.iter().enumerate() {
        let weights = weights(t, call, at)?;
        let layer = layer(t, call, cell, (at, weights))?;
        let states = states(t, call, &layer, at, batch, layout)?;
        let run = direction_of(t, call, &layer, (&x, *back, at), states, lengths.as_deref())?;
        all.push(run.0);
        last.push(run.1);
        cells.push(run.2);
    }
    // [steps, directions, batch, hidden] and [directions, batch, hidden]
    let mut outputs = vec![stack(t, &all, 1, x.elem)?];
    outputs.push(stack(t, &last, 0, x.elem)?);
    if cell == RecurrentCell::Lstm {
        outputs.push(stack(t, &cells, 0, x.elem)?);
    }
    if layout {
        for (at, output) in outputs.iter_mut().enumerate() {
            let order: &[usize] = if at == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] };
            *output = axes::permute(t, output, order)?;
        }
    }
    Ok(outputs.into_iter().map(Value::Tensor).collect())
}

fn layer(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    cell: RecurrentCell,
    (at, (own, recurrent)): (usize, (ProductWeights, ProductWeights)),
) -> Result<Layer> {
    let hidden = recurrent.values.shape.first().copied().unwrap_or(0);
    let gates = cell.gates() * hidden;
    if recurrent.values.shape != [hidden, gates] || own.values.shape.get(1) != Some(&gates) {
        let (own, recurrent) = (&own.values.shape, &recurrent.values.shape);
        return Err(OnnxError::input(format!(
            "weights of shapes {own:?} and {recurrent:?} do not fit"
        )));
    }
    let bias = match call.optional(3)? {
        Some(bias) => {
            let both = of_direction(t, bias, at)?;
            // ONNX's B has the biases of the input first, then those of the state.
            Some(axes::narrow(t, &both, 0, Cut::range(gates, 2 * gates))?)
        }
        None => None,
    };
    let peephole = match call.optional(7)?.filter(|_| cell == RecurrentCell::Lstm) {
        Some(peephole) => Some(of_direction(t, peephole, at)?),
        None => None,
    };
    Ok(Layer {
        cell,
        hidden,
        own,
        recurrent,
        bias,
        peephole,
        activations: activations(call, cell, at)?,
        clip: call.float("clip")?,
        linear_before_reset: call.int_or("linear_before_reset", 0)? != 0,
        input_forget: call.int_or("input_forget", 0)? != 0,
    })
}

fn activations(
    call: &Call<'_>,
    cell: RecurrentCell,
    at: usize,
) -> Result<Vec<RecurrentActivation>> {
    let count = cell.activations().len();
    let names = match call.texts("activations")? {
        Some(names) => names.into_iter().skip(at * count).take(count).collect(),
        None => cell.activations().iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
    };
    if names.len() != count {
        return Err(OnnxError::invalid(format!(
            "the node has {} activations, not {count}",
            names.len()
        )));
    }
    let (alphas, betas) = (call.floats("activation_alpha")?, call.floats("activation_beta")?);
    let number = |values: Option<&[f32]>, place: usize, default| {
        values.and_then(|values| values.get(at * count + place)).map_or(default, |v| f64::from(*v))
    };
    let one = |(place, name): (usize, String)| {
        let name = name.to_ascii_lowercase();
        // Defaults of ONNX Runtime, which differ from those of the operators of these names.
        let (alpha, beta) = match name.as_str() {
            "leakyrelu" => (0.01, 0.0),
            "hardsigmoid" => (0.2, 0.5),
            "elu" => (1.0, 0.0),
            _ => (0.0, 0.0),
        };
        RecurrentActivation {
            name,
            alpha: number(alphas, place, alpha),
            beta: number(betas, place, beta),
        }
    };
    Ok(names.into_iter().enumerate().map(one).collect())
}

impl RecurrentActivation {
    fn run(&self, t: &mut Tracer<'_>, x: &PlanTensor) -> Result<PlanTensor> {
        match self.name.as_str() {
            "sigmoid" => t.unary(Unary::Sigmoid, x),
            "tanh" => t.unary(Unary::Tanh, x),
            "relu" => t.unary(Unary::Relu, x),
            "affine" => {
                let scaled = t.scalar(Binary::Mul, x, self.alpha)?;
                t.scalar(Binary::Add, &scaled, self.beta)
            }
            "leakyrelu" => {
                let below = t.scalar(Binary::Mul, x, self.alpha)?;
                let negative = build::compare_zero(t, x)?;
                t.choose(&negative, &below, x)
            }
            "hardsigmoid" => {
                let scaled = t.scalar(Binary::Mul, x, self.alpha)?;
                let shifted = t.scalar(Binary::Add, &scaled, self.beta)?;
                build::clamp(t, &shifted, Some(0.0), Some(1.0))
            }
            "scaledtanh" => {
                let scaled = t.scalar(Binary::Mul, x, self.beta)?;
                let tanh = t.unary(Unary::Tanh, &scaled)?;
                t.scalar(Binary::Mul, &tanh, self.alpha)
            }
            "elu" => {
                let below = exponential(t, x, self.alpha)?;
                let negative = build::compare_zero(t, x)?;
                t.choose(&negative, &below, x)
            }
            "softplus" => softplus(t, x),
            "softsign" => softsign(t, x),
            "thresholdedrelu" => above(t, x, self.alpha),
            other => Err(OnnxError::unsupported(format!("activation '{other}' is not supported"))),
        }
    }
}

/// The state and, for LSTM, the cell before the first step: `[batch, hidden]`.
fn states(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    layer: &Layer,
    at: usize,
    batch: usize,
    layout: bool,
) -> Result<(PlanTensor, PlanTensor)> {
    let elem = call.tensor(0)?.elem;
    let mut both = Vec::with_capacity(2);
    for input in [5, 6] {
        let given =
            call.optional(input)?.filter(|_| input == 5 || layer.cell == RecurrentCell::Lstm);
        both.push(match given {
            None => axes::full(t, elem, vec![batch, layer.hidden], 0.0)?,
            Some(state) => {
                let state =
                    if layout { axes::permute(t, state, &[1, 0, 2])? } else { state.clone() };
                of_direction(t, &state, at)?
            }
        });
    }
    match &both[..] {
        [state, cell] => Ok((state.clone(), cell.clone())),
        _ => Err(OnnxError::internal("expected two states")),
    }
}

/// All steps of one direction: all states `[steps, batch, hidden]`, the last state, the last cell.
fn direction_of(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    layer: &Layer,
    (x, back, at): (&PlanTensor, bool, usize),
    (mut state, mut cell): (PlanTensor, PlanTensor),
    lengths: Option<&[i64]>,
) -> Result<(PlanTensor, PlanTensor, PlanTensor)> {
    let steps = x.shape.first().copied().unwrap_or(0);
    let mut inputs = layer.own.product(t, x)?;
    if let Some(bias) = call.optional(3)? {
        let both = of_direction(t, bias, at)?;
        let gates = layer.cell.gates() * layer.hidden;
        let own = axes::narrow(t, &both, 0, Cut::range(0, gates))?;
        inputs = t.add(&inputs, &own)?;
    }
    let mut all = Vec::with_capacity(steps);
    for step in 0..steps {
        let now = if back { steps - 1 - step } else { step };
        let input = axes::narrow(t, &inputs, 0, Cut::range(now, now + 1))?;
        let input = axes::squeeze(t, &input, &[0])?;
        let (new, new_cell) = layer.step(t, &input, &state, &cell)?;
        let Some(lengths) = lengths else {
            (state, cell) = (new.clone(), new_cell);
            all.push(new);
            continue;
        };
        // Rows that have ended keep their state and give zeros.
        let live = lengths.iter().map(|length| (now as i64) < *length);
        let live = t.constant(HostTensor::bools(vec![lengths.len(), 1], live))?;
        state = t.choose(&live, &new, &state)?;
        cell = t.choose(&live, &new_cell, &cell)?;
        let zero = t.number(new.elem, 0.0)?;
        all.push(t.choose(&live, &new, &zero)?);
    }
    if back {
        all.reverse();
    }
    if let Some(lengths) = lengths.filter(|all| all.contains(&0)) {
        // The final state of a row without steps is zero, not its initial state.
        let begun = lengths.iter().map(|length| *length != 0);
        let begun = t.constant(HostTensor::bools(vec![lengths.len(), 1], begun))?;
        let zero = t.number(state.elem, 0.0)?;
        state = t.choose(&begun, &state, &zero)?;
        cell = t.choose(&begun, &cell, &zero)?;
    }
    if all.is_empty() {
        let shape = std::iter::once(0).chain(state.shape.iter().copied()).collect();
        return Ok((t.constant(HostTensor::numbers(state.elem, shape, vec![]))?, state, cell));
    }
    Ok((stack(t, &all, 0, Elem::F32)?, state, cell))
}

impl Layer {
    /// The part for a gate.
    fn gate(&self, t: &mut Tracer<'_>, x: &PlanTensor, at: usize) -> Result<PlanTensor> {
        let axis =
            x.rank().checked_sub(1).ok_or_else(|| OnnxError::input("a scalar has no gates"))?;
        axes::narrow(t, x, axis, Cut::range(at * self.hidden, (at + 1) * self.hidden))
    }

    fn activate(&self, t: &mut Tracer<'_>, at: usize, x: &PlanTensor) -> Result<PlanTensor> {
        let x = match self.clip {
            Some(clip) => build::clamp(t, x, Some(-clip), Some(clip))?,
            None => x.clone(),
        };
        self.activations
            .get(at)
            .ok_or_else(|| OnnxError::invalid("an activation is missing"))?
            .run(t, &x)
    }

    fn recur(&self, t: &mut Tracer<'_>, state: &PlanTensor) -> Result<PlanTensor> {
        let product = self.recurrent.product(t, state)?;
        match &self.bias {
            Some(bias) => t.add(&product, bias),
            None => Ok(product),
        }
    }

    /// The next state and cell.
    fn step(
        &self,
        t: &mut Tracer<'_>,
        x: &PlanTensor,
        state: &PlanTensor,
        cell: &PlanTensor,
    ) -> Result<(PlanTensor, PlanTensor)> {
        match self.cell {
            RecurrentCell::Rnn => {
                let recurrent = self.recur(t, state)?;
                let sum = t.add(x, &recurrent)?;
                Ok((self.activate(t, 0, &sum)?, cell.clone()))
            }
            RecurrentCell::Gru => Ok((self.gru(t, x, state)?, cell.clone())),
            RecurrentCell::Lstm => self.lstm(t, x, state, cell),
        }
    }

    fn gru(&self, t: &mut Tracer<'_>, x: &PlanTensor, state: &PlanTensor) -> Result<PlanTensor> {
        let recurrent = self.recur(t, state)?;
        // ONNX's order of gates: update, reset, hidden.
        let mut gates = Vec::with_capacity(2);
        for at in 0..2 {
            let (own, other) = (self.gate(t, x, at)?, self.gate(t, &recurrent, at)?);
            let sum = t.add(&own, &other)?;
            gates.push(self.activate(t, 0, &sum)?);
        }
        let [update, reset] = &gates[..] else {
            return Err(OnnxError::internal("expected two gates"));
        };
        let inner = if self.linear_before_reset {
            let other = self.gate(t, &recurrent, 2)?;
            t.mul(reset, &other)?
        } else {
            // The reset applies to the state here, so that this gate has a product of its own.
            let whole = self.recurrent.plain(t)?;
            let weights = self.gate(t, &whole, 2)?;
            let kept = t.mul(reset, state)?;
            let product = matmul::matmul(t, &kept, &weights)?;
            match &self.bias {
                Some(bias) => {
                    let bias = self.gate(t, bias, 2)?;
                    t.add(&product, &bias)?
                }
                None => product,
            }
        };
        let own = self.gate(t, x, 2)?;
        let sum = t.add(&own, &inner)?;
        let new = self.activate(t, 1, &sum)?;
        // (1 - z) h + z H
        let difference = t.sub(state, &new)?;
        let kept = t.mul(update, &difference)?;
        t.add(&new, &kept)
    }

    fn lstm(
        &self,
        t: &mut Tracer<'_>,
        x: &PlanTensor,
        state: &PlanTensor,
        cell: &PlanTensor,
    ) -> Result<(PlanTensor, PlanTensor)> {
        let recurrent = self.recur(t, state)?;
        let sums = t.add(x, &recurrent)?;
        // ONNX's order of gates: input, output, forget, cell; of peepholes: input, output, forget.
        let mut input = self.gate(t, &sums, 0)?;
        let mut output = self.gate(t, &sums, 1)?;
        let mut forget = self.gate(t, &sums, 2)?;
        let new = self.gate(t, &sums, 3)?;
        if let Some(peephole) = &self.peephole {
            input = self.peek(t, &input, peephole, 0, cell)?;
            forget = self.peek(t, &forget, peephole, 2, cell)?;
        }
        let input = self.activate(t, 0, &input)?;
        let forget = if self.input_forget {
            let one = t.number(input.elem, 1.0)?;
            t.sub(&one, &input)?
        } else {
            self.activate(t, 0, &forget)?
        };
        let new = self.activate(t, 1, &new)?;
        let kept = t.mul(&forget, cell)?;
        let added = t.mul(&input, &new)?;
        let cell = t.add(&kept, &added)?;
        if let Some(peephole) = &self.peephole {
            // The output gate sees the new cell, the other two the old one.
            output = self.peek(t, &output, peephole, 1, &cell)?;
        }
        let output = self.activate(t, 0, &output)?;
        let shown = self.activate(t, 2, &cell)?;
        Ok((t.mul(&output, &shown)?, cell))
    }

    /// A gate with a peephole connection to the cell.
    fn peek(
        &self,
        t: &mut Tracer<'_>,
        gate: &PlanTensor,
        peephole: &PlanTensor,
        at: usize,
        cell: &PlanTensor,
    ) -> Result<PlanTensor> {
        let weights = self.gate(t, peephole, at)?;
        let seen = t.mul(&weights, cell)?;
        t.add(gate, &seen)
    }
}
