//! Weights of recurrent networks, quantised or not.

use super::Call;
use crate::axes::Cut;
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, matmul};
use graph::error::{OnnxError, Result};

/// The weights of a direction: those of the input and those of the state.
pub(super) type WeightsOf =
    fn(&mut Tracer<'_>, &Call<'_>, usize) -> Result<(ProductWeights, ProductWeights)>;

/// The second factor of a product.
pub(super) struct ProductWeights {
    /// `[width, gates * hidden]`
    pub(super) values: PlanTensor,
    /// The scale of quantised values less their zero point; the other factor is then quantised to 8
    /// bits with one scale.
    pub(super) scale: Option<PlanTensor>,
}

impl ProductWeights {
    pub(super) fn product(&self, t: &mut Tracer<'_>, x: &PlanTensor) -> Result<PlanTensor> {
        let Some(scale) = &self.scale else { return matmul::matmul(t, x, &self.values) };
        let (codes, own) = super::quantise::dynamic_codes(t, x)?;
        let sums = matmul::matmul(t, &codes, &self.values)?;
        let scale = t.mul(scale, &own)?;
        t.mul(&sums, &scale)
    }

    /// The dequantised weights, for users of a part of them.
    pub(super) fn plain(&self, t: &mut Tracer<'_>) -> Result<PlanTensor> {
        match &self.scale {
            Some(scale) => t.mul(&self.values, scale),
            None => Ok(self.values.clone()),
        }
    }
}

/// Weights in the form of the standard: `[directions, gates * hidden, width]`.
pub(super) fn plain_weights(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    at: usize,
) -> Result<(ProductWeights, ProductWeights)> {
    let mut both = Vec::with_capacity(2);
    for input in [1, 2] {
        let weights = of_direction(t, call.tensor(input)?, at)?;
        if weights.rank() != 2 {
            return Err(OnnxError::input(format!(
                "the weights have the invalid shape {:?}",
                call.tensor(input)?.shape
            )));
        }
        both.push(ProductWeights { values: axes::permute(t, &weights, &[1, 0])?, scale: None });
    }
    let [own, recurrent] = <[ProductWeights; 2]>::try_from(both)
        .map_err(|_| OnnxError::input("expected two weights"))?;
    Ok((own, recurrent))
}

/// The part of an input for a direction.
///
/// # Errors
/// If the direction does not exist.
pub(super) fn of_direction(t: &mut Tracer<'_>, x: &PlanTensor, at: usize) -> Result<PlanTensor> {
    let part = axes::narrow(t, x, 0, Cut::range(at, at + 1))?;
    axes::squeeze(t, &part, &[0])
}
