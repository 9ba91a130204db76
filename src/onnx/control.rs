//! Control flow: branches and the number of rounds are decided while a plan is made.

use super::axes::{Cut, axis};
use super::compile::{Compiler, ValueScope};
use super::host::HostTensor;
use super::operators::Call;
use super::trace::{PlanTensor, Tracer, Value};
use crate::{axes, literals};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};
use graph::{Attribute, Dim, Graph, Port};
use std::sync::Arc;

/// Most rounds of a loop: each adds its steps to the plan.
const ROUNDS_MAX: i64 = 100_000;

type Outputs = Result<Vec<Value>>;

/// An operator of control flow with its bodies.
struct BodyRunner<'a> {
    compiler: &'a Compiler<'a>,
    call: &'a Call<'a>,
    scope: &'a ValueScope<'a>,
}

/// The operators of control flow, of the domain `ai.onnx`.
pub(crate) const NAMES: [&str; 4] = ["If", "Loop", "Scan", "SequenceMap"];

/// Returns true for an operator of control flow.
fn knows(domain: &str, op: &str) -> bool {
    domain.is_empty() && NAMES.contains(&op)
}

/// The outputs, if it is an operator of control flow.
pub(crate) fn run(
    compiler: &Compiler<'_>,
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    scope: &ValueScope<'_>,
) -> Option<Outputs> {
    if !knows(&call.node.domain, &call.node.op) {
        return None;
    }
    let body = BodyRunner { compiler, call, scope };
    match call.node.op.as_str() {
        "If" => Some(body.branch(t)),
        "Loop" => Some(body.looped(t)),
        "Scan" => Some(body.scan(t)),
        "SequenceMap" => Some(body.sequence_map(t)),
        _ => None,
    }
}

impl BodyRunner<'_> {
    fn graph(&self, name: &str) -> Result<Arc<Graph>> {
        match self.call.attribute(name) {
            Some(Attribute::Graph(graph)) => Ok(graph.clone()),
            _ => Err(OnnxError::invalid(format!("attribute {name} is not a graph"))),
        }
    }

    fn run(&self, t: &mut Tracer<'_>, graph: &Graph, inputs: Vec<Value>) -> Outputs {
        t.count_node_run()?;
        self.compiler.graph(t, graph, inputs, self.scope, self.call.outer, true)
    }

    fn branch(&self, t: &mut Tracer<'_>) -> Outputs {
        let holds = truth(t, self.call.tensor(0)?)?;
        let graph = self.graph(if holds { "then_branch" } else { "else_branch" })?;
        self.run(t, &graph, Vec::new())
    }

    fn looped(&self, t: &mut Tracer<'_>) -> Outputs {
        let graph = self.graph("body")?;
        let most = match self.call.optional(0)? {
            Some(most) => literals::ints(t, most)?.first().copied().unwrap_or(0),
            // Without a trip count the loop ends by its condition (ONNX Loop: both are optional).
            None => i64::MAX,
        };
        let mut goes_on = match self.call.optional(1)? {
            Some(condition) => truth(t, condition)?,
            None => true,
        };
        let given = self.call.inputs.iter().skip(2).flatten();
        let mut carried: Vec<Value> = given.cloned().collect();
        let mut scanned: Vec<Vec<PlanTensor>> =
            vec![Vec::new(); graph.outputs.len().saturating_sub(1 + carried.len())];
        let mut round = 0;
        while goes_on && round < most {
            // The trip count does not bound this: it may be i64::MAX if a condition ends the loop.
            if round >= ROUNDS_MAX {
                return Err(OnnxError::limit(format!(
                    "the loop has more than {ROUNDS_MAX} rounds"
                )));
            }
            let count = t.constant(HostTensor::ints(Elem::I64, vec![], vec![round]))?;
            let condition = t.constant(HostTensor::bools(vec![], [goes_on]))?;
            let mut inputs = vec![Value::Tensor(count), Value::Tensor(condition)];
            inputs.extend(carried.iter().cloned());
            let mut outputs = self.run(t, &graph, inputs)?.into_iter();
            goes_on = match outputs.next() {
                Some(Value::Tensor(condition)) => truth(t, &condition)?,
                _ => return Err(OnnxError::invalid("the body does not return a condition")),
            };
            carried = outputs.by_ref().take(carried.len()).collect();
            for (all, value) in scanned.iter_mut().zip(outputs) {
                all.push(tensor(value)?);
            }
            round += 1;
        }
        for all in &scanned {
            // `carried` grows with each result, so that this index moves to the next output.
            let port = graph.outputs.get(1 + carried.len());
            let stacked =
                if all.is_empty() { nothing(t, port)? } else { stack(t, all, 0, Elem::F32)? };
            carried.push(Value::Tensor(stacked));
        }
        Ok(carried)
    }

    fn scan(&self, t: &mut Tracer<'_>) -> Outputs {
        if self.call.opset() < 9 {
            return self.scan_batches(t);
        }
        let inputs = self.call.tensors()?;
        self.scan_of(t, &inputs)
    }

    /// The older form: all inputs have a batch axis in front and are scanned one by one.
    fn scan_batches(&self, t: &mut Tracer<'_>) -> Outputs {
        let inputs: Vec<PlanTensor> = self
            .call
            .inputs
            .iter()
            // Input 0 of opset 8 is the optional `sequence_lens`; opset 9 removed it.
            .skip(1)
            .flatten()
            .cloned()
            .map(tensor)
            .collect::<Result<_, _>>()?;
        let batch = inputs.first().and_then(|input| input.shape.first()).copied().unwrap_or(0);
        let mut all: Vec<Vec<PlanTensor>> = Vec::new();
        for at in 0..batch {
            let mut of_one = Vec::with_capacity(inputs.len());
            for input in &inputs {
                let part = axes::narrow(t, input, 0, Cut::range(at, at + 1))?;
                of_one.push(axes::squeeze(t, &part, &[0])?);
            }
            for (place, value) in self.scan_of(t, &of_one)?.into_iter().enumerate() {
                if all.len() <= place {
                    all.push(Vec::new());
                }
                if let Some(parts) = all.get_mut(place) {
                    parts.push(tensor(value)?);
                }
            }
        }
        all.iter().map(|parts| Ok(Value::Tensor(stack(t, parts, 0, Elem::F32)?))).collect()
    }

    fn scan_of(&self, t: &mut Tracer<'_>, inputs: &[PlanTensor]) -> Outputs {
        let graph = self.graph("body")?;
        let count = self
            .call
            .int("num_scan_inputs")?
            .ok_or_else(|| OnnxError::invalid("num_scan_inputs is missing"))?;
        let count = usize::try_from(count).unwrap_or(0);
        let states = inputs
            .len()
            .checked_sub(count)
            .ok_or_else(|| OnnxError::invalid("num_scan_inputs exceeds the number of inputs"))?;
        let (state, scanned) = inputs.split_at(states);
        let axes = self.axes("scan_input_axes", scanned)?;
        let back = self.flags("scan_input_directions", count)?;
        let lengths = scanned.iter().zip(&axes).filter_map(|(input, axis)| input.shape.get(*axis));
        // ONNX requires equal lengths; the shortest one keeps every slice in range.
        let length = lengths.copied().min().unwrap_or(0);
        let mut state: Vec<Value> = state.iter().cloned().map(Value::Tensor).collect();
        let outputs = graph.outputs.len().saturating_sub(states);
        let mut collected: Vec<Vec<PlanTensor>> = vec![Vec::new(); outputs];
        for round in 0..length {
            let mut given = state.clone();
            for ((input, axis), back) in scanned.iter().zip(&axes).zip(&back) {
                let at = if *back { length - 1 - round } else { round };
                let part = axes::narrow(t, input, *axis, Cut::range(at, at + 1))?;
                given.push(Value::Tensor(axes::squeeze(t, &part, &[*axis])?));
            }
            let mut results = self.run(t, &graph, given)?.into_iter();
            state = results.by_ref().take(states).collect();
            for (all, value) in collected.iter_mut().zip(results) {
                all.push(tensor(value)?);
            }
        }
        let back = self.flags("scan_output_directions", outputs)?;
        let out_axes = self.call.ints("scan_output_axes")?.unwrap_or(&[]);
        for (at, mut all) in collected.into_iter().enumerate() {
            if back.get(at) == Some(&true) {
                all.reverse();
            }
            if all.is_empty() {
                state.push(Value::Tensor(nothing(t, graph.outputs.get(states + at))?));
                continue;
            }
            // `scan_output_axes` counts axes of the stacked result, which has one more.
            let rank = all.first().map_or(1, |part| part.rank() + 1);
            let along = axis(out_axes.get(at).copied().unwrap_or(0), rank)?;
            state.push(Value::Tensor(stack(t, &all, along, Elem::F32)?));
        }
        Ok(state)
    }

    fn axes(&self, name: &str, scanned: &[PlanTensor]) -> Result<Vec<usize>> {
        let given = self.call.ints(name)?.unwrap_or(&[]);
        let one = |(at, input): (usize, &PlanTensor)| {
            axis(given.get(at).copied().unwrap_or(0), input.rank())
        };
        scanned.iter().enumerate().map(one).collect()
    }

    fn flags(&self, name: &str, count: usize) -> Result<Vec<bool>> {
        // Opset 8 had one attribute, `directions`, and only for inputs.
        let old = if name.starts_with("scan_input") { "directions" } else { name };
        let given = self.call.ints(name)?.or(self.call.ints(old)?).unwrap_or(&[]);
        Ok((0..count).map(|at| given.get(at) == Some(&1)).collect())
    }

    fn sequence_map(&self, t: &mut Tracer<'_>) -> Outputs {
        let graph = self.graph("body")?;
        let inputs: Vec<Value> = self.call.inputs.iter().flatten().cloned().collect();
        let Some(Value::Sequence(first)) = inputs.first() else {
            return Err(OnnxError::invalid("input 0 is not a sequence"));
        };
        let mut outputs: Vec<Vec<PlanTensor>> = vec![Vec::new(); graph.outputs.len()];
        for at in 0..first.len() {
            let one = |input: &Value| match input {
                Value::Sequence(all) => all
                    .get(at)
                    .cloned()
                    .ok_or_else(|| OnnxError::input("the sequences differ in length")),
                // SequenceMap passes a tensor unchanged to every call of the body.
                other => Ok(other.clone()),
            };
            let given = inputs.iter().map(one).collect::<Result<Vec<_>, _>>()?;
            for (all, value) in outputs.iter_mut().zip(self.run(t, &graph, given)?) {
                all.push(tensor(value)?);
            }
        }
        let sequence =
            |all: Vec<PlanTensor>| Value::Sequence(all.into_iter().map(Value::Tensor).collect());
        Ok(outputs.into_iter().map(sequence).collect())
    }
}

fn tensor(value: Value) -> Result<PlanTensor> {
    match value {
        Value::Tensor(t) => Ok(t),
        _ => Err(OnnxError::invalid("a value of the body is not a tensor")),
    }
}

fn truth(t: &mut Tracer<'_>, condition: &PlanTensor) -> Result<bool> {
    Ok(literals::ints(t, condition)?.first().is_some_and(|value| *value != 0))
}

/// Stacks tensors of one shape along a new axis.
pub(crate) fn stack(
    t: &mut Tracer<'_>,
    all: &[PlanTensor],
    axis: usize,
    elem: Elem,
) -> Result<PlanTensor> {
    if all.is_empty() {
        return t.constant(HostTensor::numbers(elem, vec![0], vec![]));
    }
    let parts =
        all.iter().map(|part| axes::unsqueeze(t, part, axis)).collect::<Result<Vec<_>, _>>()?;
    axes::cat(t, &parts, axis)
}

/// An empty stack of tensors: a first axis of length 0, then the lengths that the file states for
/// each tensor, or 0 for lengths that it does not state (as in ONNX Runtime).
pub(crate) fn nothing(t: &Tracer<'_>, port: Option<&Port>) -> Result<PlanTensor> {
    let elem = port.and_then(|port| port.elem).unwrap_or(Elem::F32);
    let dims = port.and_then(|port| port.dims.as_deref()).unwrap_or(&[]);
    let length = |dim: &Dim| match dim {
        Dim::Fixed(length) => *length,
        Dim::Named(_) | Dim::Unknown => 0,
    };
    let shape = std::iter::once(0).chain(dims.iter().map(length)).collect();
    t.constant(HostTensor::numbers(elem, shape, vec![]))
}
