//! Time slices of requests to decoupled models: their partial answers, the next slice, and the
//! cancellation of a slice.
//!
//! After the loss of a worker its batches run again (`schedule/requests.rs`, `retry`). The new
//! slice of each request begins after the partial answers that were already sent (`partial.rs`,
//! `PartialAnswerSender::slice`; `worker/slice.rs`, `Sequences::begin`), so that a stream continues
//! at the same position on any adapter.

use crate::calls::partial::PartialAnswer;
use crate::core::Core;
use bytes::Bytes;
use schedule::{AdapterId, Arrival, Batch, BatchId, Event, Incarnation, RequestId, Time};
use std::time::Duration;
use types::tensor::{TensorError, Tensors};
use wire::{TensorHeader, ToWorker, tensors_from};

impl Core {
    /// Sends a partial answer to a row of a batch. It is dropped if the adapter no longer has the
    /// batch: its requests run again elsewhere, after the partial answers that were already sent.
    ///
    /// # Errors
    /// If the bytes do not match the shapes.
    pub(crate) fn partial(
        &mut self,
        (adapter, incarnation): (AdapterId, Incarnation),
        (batch, row, last): (BatchId, u64, bool),
        (headers, body): (Vec<TensorHeader>, Bytes),
    ) -> Result<(), TensorError> {
        let outputs = tensors_from(headers, body)?;
        let Some(request) = self.request_of((adapter, incarnation), batch, row) else {
            return Ok(());
        };
        let (outputs, adapter) = (self.charged(outputs), self.fleet.name(adapter));
        self.requests.take_partial(request, PartialAnswer { outputs, adapter }, last);
        Ok(())
    }

    /// Counts the outputs until the reader has dropped them.
    fn charged(&self, outputs: Tensors) -> Tensors {
        if outputs.0.is_empty() { outputs } else { self.memory.owing(outputs) }
    }

    /// The request of a row of a batch that the adapter runs.
    fn request_of(
        &self,
        (id, incarnation): (AdapterId, Incarnation),
        batch: BatchId,
        row: u64,
    ) -> Option<RequestId> {
        let current = |(adapter, view): &(AdapterId, schedule::AdapterView<'_>)| {
            *adapter == id && view.incarnation == incarnation
        };
        let (_, view) = self.scheduler.adapters().find(current)?;
        let parts = &view.state.batch(batch)?.parts;
        parts.get(usize::try_from(row).ok()?).map(|part| part.request)
    }

    /// Queues the next time slice of a request after its current one. If the reader is slow, the
    /// slice is queued once there is space. Returns false if the request needs no further slice.
    pub(crate) fn continues(&mut self, request: RequestId) -> bool {
        let Some(parts) = self.requests.unfinished(request) else { return false };
        let places = (!parts.has_places()).then(|| parts.wait_for_places());
        let now = self.time();
        let Some(arrival) = self.requests.next_slice(request, now) else { return false };
        match places {
            None => self.slices.due.push_back(Event::Arrived(arrival)),
            Some(places) => self.resume_after(&arrival, now, places),
        }
        true
    }

    /// Reports the request as resumed once there is space, or after its deadline.
    fn resume_after(
        &self,
        arrival: &Arrival,
        now: Time,
        places: impl Future<Output = ()> + Send + 'static,
    ) {
        let (resumes, request) = (self.slices.resumes.clone(), arrival.request);
        let left = arrival.deadline.map_or(Duration::MAX, |deadline| deadline.since(now));
        tokio::spawn(async move {
            // After the deadline it is queued too, so that the scheduler rejects it with 504.
            let _ = tokio::time::timeout(left, places).await;
            let _ = resumes.send(request).await;
        });
    }

    /// Queues the next slice of a request once its reader has space.
    pub(crate) fn resume(&mut self, request: RequestId) -> Option<Event> {
        let now = self.time();
        self.requests.next_slice(request, now).map(Event::Arrived)
    }

    /// Requests the worker that runs a slice of this request to cancel it at its next step.
    pub(crate) fn cancel_slice(&self, request: RequestId) {
        // Only rows of decoupled models can be cancelled while they run.
        if self.requests.unfinished(request).is_none() {
            return;
        }
        for (adapter, view) in self.scheduler.adapters() {
            let rows = |batch: &Batch| batch.parts.iter().position(|part| part.request == request);
            let batches = view.state.running.iter().map(|running| &running.batch);
            let found = batches.filter_map(|batch| Some((batch.id.0, rows(batch)? as u64)));
            for (batch, row) in found {
                self.fleet.send_control(adapter, ToWorker::Cancel { batch, row });
            }
        }
    }
}
