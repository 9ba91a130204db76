//! Products of matrices with transpositions, a factor and an activation.

use super::super::{Call, Table, one};
use super::activation::named;
use super::first_of;
use crate::step::Binary;
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, matmul};
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[
    ("FusedGemm", |t, call| {
        let inputs = [call.optional(0)?, call.optional(1)?, call.optional(2)?];
        let product = first_of(t, call, "Gemm", &[], &inputs)?;
        one(activated(t, call, &product)?)
    }),
    ("FusedMatMul", |t, call| one(product(t, call)?)),
    ("FusedMatMulActivation", |t, call| {
        let product = product(t, call)?;
        one(activated(t, call, &product)?)
    }),
    ("TransposeMatMul", |t, call| one(product(t, call)?)),
];

/// A factor with its axes in the order of a product: with `batch`, the first axis is moved behind
/// those of the batch; with `last`, the last two are exchanged.
fn turned(t: &mut Tracer<'_>, x: &PlanTensor, last: bool, batch: bool) -> Result<PlanTensor> {
    let rank = x.rank();
    if rank < 2 {
        return Ok(x.clone());
    }
    let mut axes: Vec<usize> = (0..rank).collect();
    if batch {
        axes = (1..rank - 1).chain([0, rank - 1]).collect();
    }
    if last {
        axes.swap(rank - 2, rank - 1);
    }
    axes::permute(t, x, &axes)
}

/// `alpha * A * B`
fn product(t: &mut Tracer<'_>, call: &Call<'_>) -> Result<PlanTensor> {
    let flag = |name: &str| Ok::<bool, OnnxError>(call.int_or(name, 0)? != 0);
    let a = turned(t, call.tensor(0)?, flag("transA")?, flag("transBatchA")?)?;
    let b = turned(t, call.tensor(1)?, flag("transB")?, flag("transBatchB")?)?;
    let product = matmul::matmul(t, &a, &b)?;
    let alpha = call.float_or("alpha", 1.0)?;
    if alpha == 1.0 { Ok(product) } else { t.scalar(Binary::Mul, &product, alpha) }
}

/// Applies the activation that the attributes name.
fn activated(t: &mut Tracer<'_>, call: &Call<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    let mut numbers = Vec::with_capacity(3);
    for name in ["activation_alpha", "activation_beta", "activation_gamma"] {
        #[allow(clippy::cast_possible_truncation, reason = "the file has 32 bits")]
        numbers.push(call.float(name)?.map(|value| value as f32));
    }
    named(t, call, call.text("activation")?.unwrap_or(""), &numbers, x)
}
