//! Time slices of decoupled models: the rows of a batch are sequences that give partial answers
//! step by step in parallel.

use super::cancelled::Cancelled;
use super::faults::Faults;
use model::batch::{check_inputs, check_outputs};
use model::{Generate, Generated, Model, ModelError, Signature};
use std::collections::BTreeMap;
use std::time::Duration;
use types::clock;
use types::tensor::Tensors;
use wire::client::WorkerSender;
use wire::{FromWorker, Slow, TimeSlice, tensor_headers};

/// Time after which a slice begins no further step, so that other batches can run and new requests
/// can join the next slice. Half of the default latency target.
const SLICE_MAX: Duration = Duration::from_millis(50);

/// The context of a slice.
pub(super) struct Slice<'a> {
    pub(super) batch: u64,
    pub(super) sender: &'a WorkerSender,
    pub(super) cancelled: &'a Cancelled,
    pub(super) faults: &'a mut Faults,
    pub(super) slow: Option<Slow>,
}

/// Running sequences, with the number of partial answers that each may still give in this slice.
struct Sequences<'a> {
    generator: &'a mut dyn Generate,
    left: BTreeMap<u64, u64>,
}

impl Slice<'_> {
    /// Runs one time slice of each row and sends its partial answers.
    ///
    /// # Errors
    /// [`ModelError::Broken`] if the model is not decoupled or gives outputs that do not fit its
    /// signature, [`ModelError::Input`] if the inputs do not fit it, else the error of the model.
    pub(super) fn run(
        &mut self,
        model: &mut dyn Model,
        max_rows: usize,
        inputs: &Tensors,
        rows: &[TimeSlice],
    ) -> Result<(), ModelError> {
        check_inputs(model.signature(), max_rows, inputs, rows.len())?;
        let signature = model.signature().clone();
        let mut sequences = Sequences { generator: generator(model)?, left: BTreeMap::new() };
        let begun = sequences.begin(inputs, rows);
        let outcome = begun.and_then(|()| self.steps(&signature, &mut sequences));
        // A sequence with more to give is begun anew by the next slice, on any adapter.
        sequences.end_all();
        outcome
    }

    fn steps(
        &mut self,
        signature: &Signature,
        sequences: &mut Sequences<'_>,
    ) -> Result<(), ModelError> {
        let begin = clock::now();
        loop {
            self.cancelled.take(self.batch).into_iter().for_each(|row| sequences.end(row));
            if sequences.left.is_empty() {
                return Ok(());
            }
            for step in self.step(sequences)? {
                sequences.note(&step)?;
                self.send(signature, step)?;
            }
            // Tested after a step, so that each slice makes progress.
            if begin.elapsed() >= SLICE_MAX {
                return Ok(());
            }
        }
    }

    fn step(&mut self, sequences: &mut Sequences<'_>) -> Result<Vec<Generated>, ModelError> {
        let (begin, rows) = (clock::now(), sequences.left.len());
        let steps = self.faults.step(|| sequences.generator.step());
        if let Some(slow) = self.slow {
            std::thread::sleep(slow.least(rows).saturating_sub(begin.elapsed()));
        }
        steps
    }

    fn send(&self, signature: &Signature, step: Generated) -> Result<(), ModelError> {
        let (batch, row, last) = (self.batch, step.key, step.last);
        let outputs = match step.outputs.0.is_empty() {
            true => step.outputs,
            false => check_outputs(signature, step.outputs, 1)?,
        };
        // A step may give a sequence no answer; an empty message would only use the link.
        if outputs.0.is_empty() && !last {
            return Ok(());
        }
        let tensors = tensor_headers(&outputs);
        let sent =
            self.sender.send_with(FromWorker::Partial { batch, row, last, tensors }, &outputs);
        sent.map_err(|error| ModelError::Device(error.to_string()))
    }
}

impl Sequences<'_> {
    fn begin(&mut self, inputs: &Tensors, rows: &[TimeSlice]) -> Result<(), ModelError> {
        // A row is only part of the batch if its reader has no free places.
        for (at, slice) in rows.iter().enumerate().filter(|(_, slice)| slice.answers_max > 0) {
            let row = inputs.slice_rows(at, 1);
            let row = row.map_err(|error| ModelError::Input(error.to_string()))?;
            self.generator.begin(at as u64, &row, slice.sent)?;
            self.left.insert(at as u64, slice.answers_max);
        }
        Ok(())
    }

    /// Counts a step; ends the sequence if it has reached its limit in this slice.
    fn note(&mut self, step: &Generated) -> Result<(), ModelError> {
        let unknown =
            || ModelError::Broken(format!("it answered sequence {}, which has ended", step.key));
        let left = self.left.get_mut(&step.key).ok_or_else(unknown)?;
        // This cannot underflow: a sequence that reaches 0 is ended below.
        *left -= u64::from(!step.outputs.0.is_empty());
        if step.last {
            self.left.remove(&step.key);
        } else if *left == 0 {
            self.end(step.key);
        }
        Ok(())
    }

    fn end(&mut self, row: u64) {
        if self.left.remove(&row).is_some() {
            self.generator.end(row);
        }
    }

    fn end_all(&mut self) {
        for row in std::mem::take(&mut self.left).into_keys() {
            self.generator.end(row);
        }
    }
}

fn generator(model: &mut dyn Model) -> Result<&mut dyn Generate, ModelError> {
    let whole = || ModelError::Broken("it does not answer in parts".to_owned());
    model.generator().ok_or_else(whole)
}

/// Runs the first step of each row and drops its partial answers: the warm-up of a decoupled
/// model.
///
/// # Errors
/// Those of [`Slice::run`].
pub(super) fn warm_up(
    model: &mut dyn Model,
    max_rows: usize,
    inputs: &Tensors,
    rows: usize,
) -> Result<(), ModelError> {
    check_inputs(model.signature(), max_rows, inputs, rows)?;
    let mut sequences = Sequences { generator: generator(model)?, left: BTreeMap::new() };
    let begun = sequences.begin(inputs, &vec![TimeSlice { sent: 0, answers_max: 1 }; rows]);
    let stepped = begun.and_then(|()| sequences.generator.step());
    let noted = stepped.and_then(|steps| steps.iter().try_for_each(|step| sequences.note(step)));
    sequences.end_all();
    noted
}
