//! Answers of adapters that are trusted, for those on trial to agree with.

use model::golden::{self, Mismatch};
use schedule::{AdapterId, BatchId};
use std::collections::HashMap;
use types::tensor::Tensors;

/// What the batch of an adapter on trial should answer; one for each of them.
#[derive(Default)]
pub(crate) struct Shadows(HashMap<AdapterId, (BatchId, Tensors)>);

impl Shadows {
    pub(crate) fn expect(&mut self, adapter: AdapterId, batch: BatchId, outputs: Tensors) {
        self.0.insert(adapter, (batch, outputs));
    }

    /// Compares an answer with the one that is expected, if one is.
    ///
    /// # Errors
    /// How they differ.
    pub(crate) fn check(
        &mut self,
        adapter: AdapterId,
        batch: BatchId,
        outputs: &Tensors,
    ) -> Result<(), Mismatch> {
        match self.0.remove(&adapter) {
            Some((expected, answer)) if expected == batch => golden::agree(&answer, outputs),
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
    fn an_answer_is_held_against_the_one_of_the_batch_that_it_repeats() {
        let (one, batch) = (AdapterId(1), BatchId(7));
        let mut shadows = Shadows::default();
        shadows.expect(one, batch, outputs(1.0));
        assert!(shadows.check(one, batch, &outputs(2.0)).is_err());
        shadows.expect(one, batch, outputs(1.0));
        assert_eq!(shadows.check(one, batch, &outputs(1.0)), Ok(()));
        // Nothing is expected of others: of what it runs next, and of another life's batch.
        assert_eq!(shadows.check(one, batch, &outputs(2.0)), Ok(()));
        shadows.expect(one, batch, outputs(1.0));
        assert_eq!(shadows.check(AdapterId(2), batch, &outputs(2.0)), Ok(()));
        assert_eq!(shadows.check(one, BatchId(8), &outputs(2.0)), Ok(()));
    }
}
