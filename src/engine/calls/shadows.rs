//! Expected outputs of shadow runs: a shadow run repeats a batch of another adapter, and the
//! outputs must agree.

use model::golden::{self, Mismatch};
use schedule::{AdapterId, BatchId};
use std::collections::HashMap;
use types::tensor::Tensors;

/// The expected outputs of the shadow run of each adapter.
#[derive(Default)]
pub(crate) struct Shadows(HashMap<AdapterId, (BatchId, Tensors)>);

impl Shadows {
    pub(crate) fn expect(&mut self, adapter: AdapterId, batch: BatchId, outputs: Tensors) {
        self.0.insert(adapter, (batch, outputs));
    }

    /// Compares outputs with the expected ones, if there are any.
    ///
    /// # Errors
    /// The difference between them.
    pub(crate) fn check(
        &mut self,
        adapter: AdapterId,
        batch: BatchId,
        outputs: &Tensors,
    ) -> Result<(), Mismatch> {
        match self.0.remove(&adapter) {
            Some((expected, answer)) if expected == batch => golden::agree(&answer, outputs),
            // An entry for another batch is left from a run that was lost with its worker.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::tensor::{Datatype, Tensor};

    fn outputs(value: f32) -> Tensors {
        let data = value.to_le_bytes().to_vec().into();
        Tensors(vec![Tensor::new("y", Datatype::Fp32, vec![1, 1], data).unwrap()])
    }

    #[test]
    fn outputs_are_compared_with_those_of_the_repeated_batch() {
        let (one, batch) = (AdapterId(1), BatchId(7));
        let mut shadows = Shadows::default();
        shadows.expect(one, batch, outputs(1.0));
        assert!(shadows.check(one, batch, &outputs(2.0)).is_err());
        shadows.expect(one, batch, outputs(1.0));
        assert_eq!(shadows.check(one, batch, &outputs(1.0)), Ok(()));
        // No outputs are expected for the next batch, another adapter, or a batch of another
        // worker.
        assert_eq!(shadows.check(one, batch, &outputs(2.0)), Ok(()));
        shadows.expect(one, batch, outputs(1.0));
        assert_eq!(shadows.check(AdapterId(2), batch, &outputs(2.0)), Ok(()));
        assert_eq!(shadows.check(one, BatchId(8), &outputs(2.0)), Ok(()));
    }
}
