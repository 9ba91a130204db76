//! The operator `LinearAttention`: each step updates a state, instead of comparing all positions.

use super::attention::{apart, together};
use super::{Call, Outputs, Table, several};
use crate::axes::Cut;
use crate::control::stack;
use crate::step::{Binary, Unary};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, matmul};
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[("LinearAttention", linear_attention)];

/// Step by step: `S = exp(g) S + b k (v - exp(g) S k)`, `o = scale q S`; the update rule omits
/// parts of it.
pub(super) fn linear_attention(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let rule = call.text("update_rule")?.unwrap_or("gated_delta").to_owned();
    let (gated, delta) = match rule.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => {
            return Err(OnnxError::unsupported(format!("update_rule '{other}' is not supported")));
        }
    };
    let (q_heads, kv_heads) = (call.int("q_num_heads")?, call.int("kv_num_heads")?);
    let q = apart(t, call.tensor(0)?, q_heads, "q_num_heads")?;
    let k = apart(t, call.tensor(1)?, kv_heads, "kv_num_heads")?;
    let v = apart(t, call.tensor(2)?, kv_heads, "kv_num_heads")?;
    let ([batch, heads, steps, size], [_, own, _, _], [_, _, _, width]) =
        (&q.shape[..], &k.shape[..], &v.shape[..])
    else {
        return Err(OnnxError::invalid("q_num_heads and kv_num_heads must be greater than zero"));
    };
    let (batch, heads, steps, size, own, width) = (*batch, *heads, *steps, *size, *own, *width);
    if own == 0 || !heads.is_multiple_of(own) {
        return Err(OnnxError::input(format!(
            "{heads} heads cannot share {own} heads of keys and values"
        )));
    }
    let mut state = match call.optional(3)? {
        Some(state) => state.clone(),
        None => axes::full(t, q.elem, vec![batch, own, size, width], 0.0)?,
    };
    let decay = if gated { Some(gate(t, call, 4, own)?) } else { None };
    let beta = if delta { Some(gate(t, call, 5, own)?) } else { None };
    let scale = call.float_or("scale", 0.0)?;
    let scale = if scale == 0.0 { 1.0 / (size as f64).sqrt() } else { scale };
    let mut all = Vec::with_capacity(steps);
    for step in 0..steps {
        // A row for each head: [batch, heads, 1, size].
        let now =
            |t: &mut Tracer<'_>, x: &PlanTensor| axes::narrow(t, x, 2, Cut::range(step, step + 1));
        let (k, v) = (now(t, &k)?, now(t, &v)?);
        let k = axes::swap(t, &k, 2, 3)?;
        if let Some(decay) = &decay {
            let g = now(t, decay)?;
            let g = axes::swap(t, &g, 2, 3)?;
            let kept = t.unary(Unary::Exp, &g)?;
            state = t.mul(&state, &kept)?;
        }
        let mut new = v;
        if let Some(beta) = &beta {
            let row = axes::swap(t, &k, 2, 3)?;
            let known = matmul::matmul(t, &row, &state)?;
            let difference = t.sub(&new, &known)?;
            let rate = now(t, beta)?;
            new = t.mul(&difference, &rate)?;
        }
        let added = matmul::matmul(t, &k, &new)?;
        state = t.add(&state, &added)?;
        let query = now(t, &q)?;
        // Heads that share keys are rows of one product with the state of these keys.
        let shared = t.reshape(&query, &[batch, own, heads / own, size])?;
        let seen = matmul::matmul(t, &shared, &state)?;
        let seen = t.scalar(Binary::Mul, &seen, scale)?;
        all.push(t.reshape(&seen, &[batch, heads, width])?);
    }
    let y = stack(t, &all, 2, q.elem)?;
    let y = together(t, &y)?;
    several([y, state])
}

/// Decay or rate `[batch, heads, length, size]`; one for all heads if the input has only one.
fn gate(t: &mut Tracer<'_>, call: &Call<'_>, at: usize, heads: usize) -> Result<PlanTensor> {
    let x = call.tensor(at)?;
    let heads = if x.shape.last() == Some(&1) { 1 } else { heads };
    apart(t, x, i64::try_from(heads).ok(), "kv_num_heads")
}
