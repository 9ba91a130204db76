//! Answers in parts: the interface of decoupled models, which may process several requests at a
//! time.
//! time.

use crate::ModelError;
use types::tensor::Tensors;

/// A decoupled model (the term of Triton): it answers a request with any number of partial answers.
///
/// A request is a *sequence* for the model. The worker runs time slices: it begins sequences,
/// requests steps until the slice is over, and ends the sequences that are not complete. They are
/// continued in a later slice, possibly by another worker on another device.
///
/// An example that returns its input three times; [`crate::count`] is a complete model:
///
/// ```
/// use concertina_model::{Generate, Generated, ModelError};
/// use types::tensor::Tensors;
/// use std::collections::BTreeMap;
///
/// const TIMES: u64 = 3;
///
/// /// The inputs of the sequences that are begun, and the number of partial answers of each.
/// struct Repeat(BTreeMap<u64, (Tensors, u64)>);
///
/// impl Generate for Repeat {
///     fn begin(&mut self, key: u64, inputs: &Tensors, sent: u64) -> Result<(), ModelError> {
///         self.0.insert(key, (inputs.clone(), sent));
///         Ok(())
///     }
///
///     fn step(&mut self) -> Result<Vec<Generated>, ModelError> {
///         let step = |(key, (outputs, given)): (&u64, &mut (Tensors, u64))| {
///             *given += 1;
///             Generated { key: *key, outputs: outputs.clone(), last: *given >= TIMES }
///         };
///         let steps: Vec<Generated> = self.0.iter_mut().map(step).collect();
///         self.0.retain(|_, (_, given)| *given < TIMES);
///         Ok(steps)
///     }
///
///     fn end(&mut self, key: u64) {
///         self.0.remove(&key);
///     }
/// }
///
/// let mut model = Repeat(BTreeMap::new());
/// model.begin(7, &Tensors::default(), 1)?;
/// assert!(!model.step()?[0].last);
/// assert!(model.step()?[0].last);
/// assert!(model.step()?.is_empty());
/// # Ok::<(), ModelError>(())
/// ```
pub trait Generate {
    /// Begins the sequence `key` after its first `sent` partial answers, which the client has
    /// received. Each input has one row.
    ///
    /// # Errors
    /// [`ModelError::Input`] if the inputs cannot be answered.
    fn begin(&mut self, key: u64, inputs: &Tensors, sent: u64) -> Result<(), ModelError>;

    /// Computes the next partial answers of the sequences that are begun: at most one of each.
    ///
    /// # Errors
    /// See [`ModelError`]. An error ends all sequences.
    fn step(&mut self) -> Result<Vec<Generated>, ModelError>;

    /// Ends a sequence and frees its memory. A sequence that has given its last partial answer has
    /// ended already.
    fn end(&mut self, key: u64);
}

/// A step of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    pub key: u64,
    /// The partial answer: all outputs with one row each. Empty if the step produced none.
    pub outputs: Tensors,
    /// True if the sequence has ended.
    pub last: bool,
}
