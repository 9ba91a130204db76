//! Answers of adapters that are trusted, for those on trial to agree with.

use crate::model::golden;
use crate::schedule::{AdapterId, BatchId};
use crate::tensor::Tensors;
use std::collections::HashMap;

/// What the batch of an adapter on trial should answer; one for each of them.
#[derive(Default)]
pub(super) struct Shadows(HashMap<AdapterId, (BatchId, Tensors)>);

impl Shadows {
    pub(super) fn expect(&mut self, adapter: AdapterId, batch: BatchId, outputs: Tensors) {
        self.0.insert(adapter, (batch, outputs));
    }

    /// Compares an answer with the one that is expected, if one is.
    ///
    /// # Errors
    /// How they differ.
    pub(super) fn check(
        &mut self,
        adapter: AdapterId,
        batch: BatchId,
        outputs: &Tensors,
    ) -> Result<(), String> {
        match self.0.remove(&adapter) {
            Some((expected, answer)) if expected == batch => golden::agree(&answer, outputs),
            _ => Ok(()),
        }
    }
}
