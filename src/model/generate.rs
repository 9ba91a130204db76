//! Answers in parts: what a decoupled model does for one request after the other, or for many at a
//! time.

use crate::ModelError;
use types::tensor::Tensors;

/// A decoupled model (Triton's word): it answers a request with any number of partial answers.
///
/// A request is a *sequence* to it. The worker runs time slices: it begins sequences, asks for steps
/// until the slice is over, and ends those that have more to come. They are continued in a later
/// slice, perhaps by another worker on another device.
///
/// A model that gives its input back three times; [`crate::count`] is a whole one:
///
/// ```
/// use concertina_model::{Generate, Generated, ModelError};
/// use types::tensor::Tensors;
/// use std::collections::BTreeMap;
///
/// const TIMES: u64 = 3;
///
/// /// Inputs of the sequences that are begun, and what each has given.
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
    /// Begins the sequence `key` behind its first `sent` partial answers, which the client has. Each
    /// input has one row.
    ///
    /// # Errors
    /// [`ModelError::Input`] if the inputs cannot be answered.
    fn begin(&mut self, key: u64, inputs: &Tensors, sent: u64) -> Result<(), ModelError>;

    /// The next partial answers of the sequences that are begun: at most one of each.
    ///
    /// # Errors
    /// See [`ModelError`]. All sequences are lost then.
    fn step(&mut self) -> Result<Vec<Generated>, ModelError>;

    /// Ends a sequence and frees its memory. One that has given its last partial answer has ended.
    fn end(&mut self, key: u64);
}

/// A step of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    pub key: u64,
    /// The partial answer: all outputs with one row each. Empty if the step has none.
    pub outputs: Tensors,
    /// The sequence has ended.
    pub last: bool,
}
