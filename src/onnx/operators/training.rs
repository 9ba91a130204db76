//! One step of an optimiser (`ai.onnx.preview.training`): Adagrad, Adam, Momentum.

use super::{Call, Outputs, Table, several};
use crate::literals;
use crate::step::{Binary, Unary};
use crate::trace::{PlanTensor, Tracer};
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[("Adagrad", adagrad), ("Adam", adam), ("Momentum", momentum)];

/// The inputs of an optimiser: the rate, the round, and the same number of tensors for each weight.
fn given(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    per_weight: usize,
) -> Result<(f64, f64, Vec<Vec<PlanTensor>>)> {
    let rate = literals::floats(t, call.tensor(0)?)?.first().copied().unwrap_or(0.0);
    let round = literals::floats(t, call.tensor(1)?)?.first().copied().unwrap_or(0.0);
    let all = call.tensors()?;
    let rest = all.get(2..).unwrap_or(&[]);
    let weights = rest.len() / per_weight;
    if rest.len() != weights * per_weight {
        return Err(OnnxError::invalid(format!(
            "{} tensors are not a multiple of {per_weight}",
            rest.len()
        )));
    }
    // Inputs are grouped by kind: all weights, then all gradients, then the states.
    let of = |at: usize| rest.iter().skip(at).step_by(weights.max(1)).cloned().collect();
    Ok((rate, round, (0..weights).map(of).collect()))
}

/// The outputs by kind: the first ones of all weights, then the second ones.
fn by_kind(all: Vec<Vec<PlanTensor>>) -> Outputs {
    let kinds = all.first().map_or(0, Vec::len);
    let of = |kind: usize| all.iter().filter_map(move |outputs| outputs.get(kind).cloned());
    several((0..kinds).flat_map(of).collect::<Vec<_>>())
}

/// `gradient + norm * weight`
fn regularised(
    t: &mut Tracer<'_>,
    gradient: &PlanTensor,
    weight: &PlanTensor,
    norm: f64,
) -> Result<PlanTensor> {
    let more = t.scalar(Binary::Mul, weight, norm)?;
    t.add(gradient, &more)
}

fn adagrad(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (rate, round, all) = given(t, call, 3)?;
    let norm = call.float_or("norm_coefficient", 0.0)?;
    let (decay, epsilon) = (call.float_or("decay_factor", 0.0)?, call.float_or("epsilon", 0.0)?);
    let rate = rate / (1.0 + round * decay);
    let mut results = Vec::new();
    for tensors in &all {
        let [x, g, h] = &tensors[..] else {
            return Err(OnnxError::internal("expected three tensors"));
        };
        let g = regularised(t, g, x, norm)?;
        let squares = t.mul(&g, &g)?;
        let h = t.add(h, &squares)?;
        let root = t.unary(Unary::Sqrt, &h)?;
        let root = t.scalar(Binary::Add, &root, epsilon)?;
        let step = t.div(&g, &root)?;
        let step = t.scalar(Binary::Mul, &step, rate)?;
        results.push(vec![t.sub(x, &step)?, h]);
    }
    by_kind(results)
}

fn adam(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (rate, round, all) = given(t, call, 4)?;
    let (alpha, beta) = (call.float_or("alpha", 0.9)?, call.float_or("beta", 0.999)?);
    let epsilon = call.float_or("epsilon", 0.0)?;
    let norm = call.float_or("norm_coefficient", 0.0)?;
    let after = call.float_or("norm_coefficient_post", 0.0)?;
    // The correction of the bias of early rounds divides by zero in round 0.
    let rate = if round > 0.0 {
        rate * (1.0 - beta.powf(round)).sqrt() / (1.0 - alpha.powf(round))
    } else {
        rate
    };
    let mut results = Vec::new();
    for tensors in &all {
        let [x, g, v, h] = &tensors[..] else {
            return Err(OnnxError::internal("expected four tensors"));
        };
        let g = regularised(t, g, x, norm)?;
        let v = mixed(t, v, &g, alpha)?;
        let squares = t.mul(&g, &g)?;
        let h = mixed(t, h, &squares, beta)?;
        let root = t.unary(Unary::Sqrt, &h)?;
        let root = t.scalar(Binary::Add, &root, epsilon)?;
        let step = t.div(&v, &root)?;
        let step = t.scalar(Binary::Mul, &step, rate)?;
        let new = t.sub(x, &step)?;
        results.push(vec![t.scalar(Binary::Mul, &new, 1.0 - after)?, v, h]);
    }
    by_kind(results)
}

/// `share * old + (1 - share) * new`
fn mixed(t: &mut Tracer<'_>, old: &PlanTensor, new: &PlanTensor, share: f64) -> Result<PlanTensor> {
    let old = t.scalar(Binary::Mul, old, share)?;
    let new = t.scalar(Binary::Mul, new, 1.0 - share)?;
    t.add(&old, &new)
}

fn momentum(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (rate, round, all) = given(t, call, 3)?;
    let (alpha, beta) = (call.float_or("alpha", 0.0)?, call.float_or("beta", 0.0)?);
    let norm = call.float_or("norm_coefficient", 0.0)?;
    let nesterov = call.text("mode")? == Some("nesterov");
    // ONNX ignores beta in round 0.
    let beta = if round > 0.0 { beta } else { 1.0 };
    let mut results = Vec::new();
    for tensors in &all {
        let [x, g, v] = &tensors[..] else {
            return Err(OnnxError::internal("expected three tensors"));
        };
        let g = regularised(t, g, x, norm)?;
        let old = t.scalar(Binary::Mul, v, alpha)?;
        let new = t.scalar(Binary::Mul, &g, beta)?;
        let v = t.add(&old, &new)?;
        let step = if nesterov {
            let ahead = t.scalar(Binary::Mul, &v, alpha)?;
            t.add(&g, &ahead)?
        } else {
            v.clone()
        };
        let step = t.scalar(Binary::Mul, &step, rate)?;
        results.push(vec![t.sub(x, &step)?, v]);
    }
    by_kind(results)
}
