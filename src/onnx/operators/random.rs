//! Random numbers: drawn on the host when the plan is made, by a generator with a seed, so that a
//! run can be repeated. Answers of a model should not depend on them.

use super::{Call, Outputs, Table, several};
use crate::host::HostTensor;
use crate::host::first;
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, cast};
use graph::Attribute;
use graph::elem::Elem;
use graph::error::{OnnxError, Result};
use types::random::SplitMix64;

pub(super) const TABLE: Table = &[
    ("Bernoulli", bernoulli),
    ("Multinomial", multinomial),
    ("RandomNormal", |t, call| draw(t, call, None, true)),
    ("RandomNormalLike", |t, call| draw(t, call, Some(call.tensor(0)?), true)),
    ("RandomUniform", |t, call| draw(t, call, None, false)),
    ("RandomUniformLike", |t, call| draw(t, call, Some(call.tensor(0)?), false)),
];

/// A generator with the seed of the node's attribute, else always the same one.
pub(super) fn generator(call: &Call<'_>) -> Result<SplitMix64> {
    let seed = match call.attribute("seed") {
        Some(Attribute::Int(seed)) => seed.cast_unsigned(),
        _ => call.float("seed")?.unwrap_or(0.0).to_bits(),
    };
    Ok(SplitMix64::new(seed))
}

/// The Box-Muller transform.
fn normal(random: &mut SplitMix64) -> f64 {
    // The generator may return 0, which has an infinite logarithm.
    let (u, v) = (1.0 - random.uniform(), random.uniform());
    (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
}

fn elem(call: &Call<'_>, default: Elem) -> Result<Elem> {
    let number = call.int("dtype")?;
    number.map_or(Ok(default), |number| Elem::from_onnx(i32::try_from(number).unwrap_or(-1)))
}

fn draw(t: &mut Tracer<'_>, call: &Call<'_>, like: Option<&PlanTensor>, normal: bool) -> Outputs {
    let shape = match like {
        Some(like) => like.shape.clone(),
        None => graph::raw::shape(
            call.ints("shape")?.ok_or_else(|| OnnxError::invalid("shape is missing"))?,
        )?,
    };
    let elem = elem(call, like.map_or(Elem::F32, |like| like.elem))?;
    // Rejects a shape that is too large before numbers are drawn.
    let zeros = axes::full(t, elem, shape.clone(), 0.0)?;
    let mut random = generator(call)?;
    let (mean, scale) = (call.float_or("mean", 0.0)?, call.float_or("scale", 1.0)?);
    let (low, high) = (call.float_or("low", 0.0)?, call.float_or("high", 1.0)?);
    let value = |_| {
        if normal {
            mean + scale * self::normal(&mut random)
        } else {
            low + (high - low) * random.uniform()
        }
    };
    let values = (0..zeros.len()).map(value).collect();
    several([t.constant(HostTensor::numbers(elem, shape, values))?])
}

fn bernoulli(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let elem = elem(call, x.elem)?;
    let mut random = generator(call)?;
    let limits: Vec<f64> = (0..x.len()).map(|_| random.uniform()).collect();
    let limits = t.constant(HostTensor::floats(Elem::F32, x.shape.clone(), limits))?;
    let chance = cast::cast(t, x, Elem::F32)?;
    let hit = t.compare(crate::step::Compare::Less, &limits, &chance)?;
    several([cast::cast(t, &hit, elem)?])
}

fn multinomial(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let [rows, classes] = x.shape[..] else {
        return Err(OnnxError::input("expected rows of classes"));
    };
    let count = usize::try_from(call.int_or("sample_size", 1)?).unwrap_or(0);
    let elem = elem(call, Elem::I32)?;
    let mut random = generator(call)?;
    // Bounded, since the shape of the result is checked only below.
    let draws: Vec<f64> =
        (0..rows.saturating_mul(count).min(1 << 24)).map(|_| random.uniform()).collect();
    let run = move |inputs: &[HostTensor]| {
        let logits = first(inputs)?.to_f64();
        let mut picked = Vec::with_capacity(draws.len());
        for (row, draws) in logits.chunks(classes.max(1)).zip(draws.chunks(count.max(1))) {
            let weights: Vec<f64> = row.iter().map(|value| value.exp()).collect();
            let all: f64 = weights.iter().sum();
            for draw in draws {
                let mut left = draw * all;
                let hit = weights.iter().position(|weight| {
                    left -= weight;
                    left < 0.0
                });
                // Rounding may leave a rest behind the last class.
                picked.push(hit.unwrap_or(classes.saturating_sub(1)) as i64);
            }
        }
        Ok(vec![HostTensor::ints(elem, vec![rows, count], picked)])
    };
    several(t.host_op("multinomial", &[x], &[(elem, vec![rows, count])], run)?)
}
