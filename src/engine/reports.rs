//! What workers say becomes events for the scheduler; payloads and facts stay on this side.

use super::driver::{Driver, Outcome};
use super::kept::FailedLoad;
use super::process::{News, Report};
use crate::error::{Error, ErrorKind};
use crate::schedule::{
    AdapterId, AdapterView, BatchId, Event, Failure, Fault, Incarnation, ModelId, State,
};
use crate::telemetry::Compute;
use crate::wire::{Cause, TensorHeader, Timings, Up, tensors_from};
use std::time::Duration;

impl Driver {
    /// Turns a report into an event, keeping payloads and facts on this side.
    pub(super) fn hear(&mut self, report: Report) -> Option<Event> {
        let Report { adapter, incarnation, news } = report;
        match news {
            News::Spawned { pid } => {
                self.fleet.spawned(adapter, pid);
                None
            }
            News::Said(whole) => self.said(adapter, incarnation, whole.message, whole.body),
            News::Lost { error } => {
                // The end of a worker that was told to go, or has said why it gives up, is none.
                if self.is_trusted(adapter, incarnation) {
                    self.fleet.fault(adapter, &error);
                }
                let fault = Fault::Crashed;
                Some(Event::Faulted { adapter, incarnation, fault })
            }
            News::NotStarted { error } => Some(self.not_started(adapter, incarnation, error)),
            News::Exited(exit) => Some(self.exited(adapter, incarnation, exit)),
        }
    }

    /// Whether the adapter is in this life, and nobody has given it up yet.
    pub(super) fn is_trusted(&self, adapter: AdapterId, incarnation: Incarnation) -> bool {
        let current = |(id, view): (AdapterId, AdapterView<'_>)| {
            let gone = matches!(
                view.state,
                State::Off
                    | State::Stopping { .. }
                    | State::Quarantined { .. }
                    | State::Unreaped { .. }
            );
            id == adapter && view.incarnation == incarnation && !gone
        };
        self.scheduler.adapters().any(current)
    }

    fn said(
        &mut self,
        adapter: AdapterId,
        incarnation: Incarnation,
        message: Up,
        body: bytes::Bytes,
    ) -> Option<Event> {
        match message {
            Up::Done { batch, tensors, timings } => {
                let batch = BatchId(batch);
                let compute = self.compute(adapter, batch, timings);
                let kept = self.keep((adapter, batch), (tensors, body), compute);
                Some(match kept {
                    Ok(()) => Event::Done { adapter, incarnation, batch },
                    Err((fault, error)) => {
                        self.fleet.fault(adapter, &error);
                        Event::Faulted { adapter, incarnation, fault }
                    }
                })
            }
            Up::Failed { batch, cause, error } => {
                let batch = BatchId(batch);
                let failure = match cause {
                    Cause::Input | Cause::Model | Cause::Rows | Cause::Machine => Failure::Input,
                    Cause::Device | Cause::WrongAnswer => Failure::Device,
                    Cause::Memory => Failure::Memory,
                };
                if failure != Failure::Input {
                    self.fleet.fault(adapter, &error);
                }
                let kind = match cause {
                    Cause::Input => ErrorKind::Unprocessable,
                    Cause::Model
                    | Cause::Device
                    | Cause::Memory
                    | Cause::Rows
                    | Cause::Machine
                    | Cause::WrongAnswer => ErrorKind::Internal,
                };
                self.outcomes.insert(batch, Outcome::Error(Error::new(kind, error)));
                Some(Event::Failed { adapter, incarnation, batch, failure })
            }
            Up::Pong { .. } => Some(Event::Alive { adapter, incarnation }),
            message @ (Up::Reading(_) | Up::InUse { .. }) => {
                let changed = matches!(message, Up::InUse { .. });
                self.fleet.told(adapter, incarnation, message);
                if changed {
                    self.look_again(adapter);
                }
                None
            }
            Up::LoadFailed { model, rows, cause, error } => {
                self.load_failed((adapter, incarnation), FailedLoad { model, rows, cause, error })
            }
            Up::Opened { .. } => {
                self.environment.works();
                self.fleet.starting(adapter, incarnation, message, &self.catalogue)
            }
            Up::Loaded { model, .. } => {
                self.proved(adapter, incarnation, ModelId(model));
                self.fleet.starting(adapter, incarnation, message, &self.catalogue)
            }
            other => self.fleet.starting(adapter, incarnation, other, &self.catalogue),
        }
    }

    /// Holds a batch's outputs until the scheduler says whose they are; if it repeats another, they
    /// must be the same.
    fn keep(
        &mut self,
        (adapter, batch): (AdapterId, BatchId),
        (headers, body): (Vec<TensorHeader>, bytes::Bytes),
        compute: Compute,
    ) -> Result<(), (Fault, String)> {
        let outputs = tensors_from(headers, body);
        let outputs = outputs.map_err(|error| (Fault::Protocol, error.to_string()))?;
        self.shadows.check(adapter, batch, &outputs).map_err(|difference| {
            let error = format!("it answered otherwise than another adapter: {difference}");
            (Fault::WrongAnswer, error)
        })?;
        self.outcomes.insert(batch, Outcome::Outputs(outputs, compute));
        Ok(())
    }

    /// Where the time of a batch went: what the worker did not measure is the way there and back.
    fn compute(&self, adapter: AdapterId, batch: BatchId, timings: Timings) -> Compute {
        let input = Duration::from_micros(timings.wait_us);
        let infer = Duration::from_micros(timings.run_us);
        let whole = self.fleet.handed_for(adapter, batch).unwrap_or_default();
        Compute { input, infer, output: whole.saturating_sub(input).saturating_sub(infer) }
    }
}
