//! Pending requests by id: the data behind the scheduler's numbers.

use crate::calls::held_memory::{HeldMemory, Memory};
use crate::calls::messages::{InferAnswer, InferCall};
use crate::calls::partial::{PartialAnswer, PartialAnswerSender, Reply};
use crate::calls::submitted::Submitted;
use crate::statistics::Answered;
use bytes::Bytes;
use schedule::{Arrival, Batch, ClientId, ModelId, Part, RequestId, Shape, Time};
use std::collections::HashMap;
use std::time::Duration;
use telemetry::Compute;
use types::error::Error;
use types::tensor::{Datatype, Tensor, TensorError, Tensors};
use wire::TimeSlice;

/// A request without an answer so far.
pub(crate) struct Pending {
    pub(crate) call: InferCall,
    pub(crate) reply: Reply,
    pub(crate) model: ModelId,
    pub(crate) arrived: Time,
    /// The next arrival of a request that runs in several time slices.
    next: Arrival,
    /// The time at which its current slice was queued.
    waits_since: Time,
    /// The time at which its first rows were last sent to a worker.
    started: Option<Time>,
    collected: Vec<Collected>,
    shape: Option<ShapeKey>,
    _held: Option<HeldMemory>,
}

/// An error while the inputs of a batch are gathered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatherError {
    #[error("request {0} is not pending any more")]
    Gone(u64),
    #[error("the batch is empty")]
    Empty,
    /// A request has fewer rows than its part of the batch, or other inputs than the first one.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Outputs of consecutive rows of a request.
pub(crate) struct Collected {
    pub(crate) first: u32,
    pub(crate) outputs: Tensors,
    /// Id of the adapter that ran these rows.
    pub(crate) adapter: String,
    /// Times of that batch.
    pub(crate) compute: Compute,
    /// Rows of that batch.
    pub(crate) batch_rows: u32,
}

/// Datatype and dimensions of each input; `None` for an input that is omitted.
pub(crate) type ShapeKey = Vec<Option<(Datatype, Vec<usize>)>>;

/// All pending requests.
#[derive(Default)]
pub(crate) struct Requests {
    pending: HashMap<RequestId, Pending>,
    /// Numbers for the shapes of pending requests, with the number of requests that use each.
    shapes: HashMap<ShapeKey, (u64, usize)>,
    shapes_made: u64,
    /// Number of pending requests per model; never 0.
    owed: HashMap<ModelId, usize>,
}

impl Requests {
    /// Adds a request and assigns a number to its shape.
    pub(crate) fn insert(&mut self, submitted: Submitted, model: ModelId, now: Time) -> Arrival {
        let Submitted { id, call, reply, held } = submitted;
        let key = shape_key(&call);
        // 0 stands for models with fixed shapes; `number` begins with 1.
        let number = key.clone().map_or(0, |key| self.number(key));
        let row_bytes = call.inputs.bytes() / call.rows.max(1);
        // At most 64, the bits of a word.
        let size = (usize::BITS - row_bytes.leading_zeros()) as u8;
        let (started, collected) = (None, Vec::new());
        let arrival = Arrival {
            request: id,
            model,
            client: ClientId(call.client),
            shape: Shape { number, size },
            // More rows do not fit into memory.
            rows: u32::try_from(call.rows).unwrap_or(u32::MAX),
            priority: call.priority,
            deadline: call.timeout.map(|timeout| now + timeout),
            continues: false,
        };
        let pending = Pending {
            call,
            reply,
            model,
            arrived: now,
            next: Arrival { continues: true, ..arrival },
            waits_since: now,
            started,
            collected,
            shape: key,
            _held: held,
        };
        self.pending.insert(id, pending);
        *self.owed.entry(model).or_default() += 1;
        arrival
    }

    fn number(&mut self, key: ShapeKey) -> u64 {
        let made = &mut self.shapes_made;
        let (number, users) = self.shapes.entry(key).or_insert_with(|| {
            *made += 1;
            (*made, 0)
        });
        *users += 1;
        *number
    }

    /// The timeout that the client has set.
    pub(crate) fn timeout(&self, id: RequestId) -> Option<Duration> {
        self.pending.get(&id)?.call.timeout
    }

    /// The model of a request.
    pub(crate) fn model(&self, id: RequestId) -> Option<ModelId> {
        Some(self.pending.get(&id)?.model)
    }

    /// True if requests for this model are pending.
    pub(crate) fn has_pending(&self, model: ModelId) -> bool {
        self.owed.contains_key(&model)
    }

    /// Removes a request, to answer or drop it.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        if let Some(owed) = self.owed.get_mut(&pending.model) {
            *owed -= 1;
            if *owed == 0 {
                self.owed.remove(&pending.model);
            }
        }
        if let Some(key) = &pending.shape
            && let Some((_, users)) = self.shapes.get_mut(key)
        {
            *users -= 1;
            if *users == 0 {
                // Otherwise clients could enlarge the map without limit by ever new shapes.
                self.shapes.remove(key);
            }
        }
        Some(pending)
    }

    /// Records that the requests of a batch are sent to a worker; returns their times in the queue.
    pub(crate) fn start(&mut self, batch: &Batch, now: Time) -> Vec<Duration> {
        let mut waits = Vec::with_capacity(batch.parts.len());
        for part in &batch.parts {
            if let Some(pending) = self.pending.get_mut(&part.request) {
                // A retry of the first rows extends the queue time; a later time slice does not.
                let again = part.first == 0 && pending.waits_since == pending.arrived;
                pending.started = pending.started.filter(|_| !again).or(Some(now));
                waits.push(now.since(pending.waits_since));
            }
        }
        waits
    }

    /// Stores the outputs of a part; those of a request that is not pending are dropped.
    pub(crate) fn collect(&mut self, request: RequestId, collected: Collected) {
        if let Some(pending) = self.pending.get_mut(&request) {
            if matches!(pending.reply, Reply::Parts(_)) {
                // Only the times of the last slice are used; the list would grow with each one.
                pending.collected.clear();
            }
            pending.collected.push(collected);
        }
    }

    /// Sends a partial answer; one to a request that is not pending is dropped.
    pub(crate) fn take_partial(&mut self, request: RequestId, answer: PartialAnswer, last: bool) {
        if let Some(Pending { reply: Reply::Parts(parts), .. }) = self.pending.get_mut(&request) {
            parts.take(answer, last);
        }
    }

    /// The time slices of the requests of a batch; empty if the model is not decoupled.
    pub(crate) fn slices(&self, batch: &Batch) -> Vec<TimeSlice> {
        let slice = |part: &Part| match &self.pending.get(&part.request)?.reply {
            Reply::Whole(_) => None,
            Reply::Parts(parts) => Some(parts.slice()),
        };
        // The requests of a batch are for one model, so all have slices or none has.
        batch.parts.iter().map_while(slice).collect()
    }

    /// The channel of a request that needs another time slice.
    pub(crate) fn unfinished(&self, request: RequestId) -> Option<&PartialAnswerSender> {
        match &self.pending.get(&request)?.reply {
            Reply::Parts(parts) if !parts.has_ended() => Some(parts),
            Reply::Parts(_) | Reply::Whole(_) => None,
        }
    }

    /// The arrival of the next time slice of a request, queued from now on. `None` if the request
    /// is no longer pending.
    pub(crate) fn next_slice(&mut self, request: RequestId, now: Time) -> Option<Arrival> {
        let pending = self.pending.get_mut(&request)?;
        pending.waits_since = now;
        Some(pending.next)
    }

    /// The inputs of a batch: for each input the parts of all requests, without copying.
    ///
    /// # Errors
    /// If a request is not pending any more, or has fewer rows than its part of the batch.
    pub(crate) fn gather(&self, batch: &Batch) -> Result<Vec<GatheredInput>, GatherError> {
        let parts = batch.parts.iter().map(|part| self.part(part));
        let parts = parts.collect::<Result<Vec<Tensors>, GatherError>>()?;
        let first = parts.first().ok_or(GatherError::Empty)?;
        let rows = u64::from(batch.rows());
        let input = |model: &Tensor| {
            // By name: requests may list their inputs in any order.
            let same = |part: &Tensors| part.get(&model.name).map(|tensor| tensor.data.clone());
            let parts: Result<Vec<Bytes>, _> = parts.iter().map(same).collect();
            let dims = model.shape.iter().skip(1).map(|dim| *dim as u64);
            Ok(GatheredInput {
                name: model.name.clone(),
                datatype: model.datatype,
                shape: std::iter::once(rows).chain(dims).collect(),
                parts: parts?,
            })
        };
        first.0.iter().map(input).collect()
    }

    fn part(&self, part: &Part) -> Result<Tensors, GatherError> {
        let gone = || GatherError::Gone(part.request.0);
        let call = &self.pending.get(&part.request).ok_or_else(gone)?.call;
        if part.first == 0 && part.rows as usize == call.rows {
            return Ok(call.inputs.clone());
        }
        Ok(call.inputs.slice_rows(part.first as usize, part.rows as usize)?)
    }
}

impl Pending {
    /// Takes the shape of the request, if a client sent it and the model has variable dimensions.
    pub(crate) fn take_shape(&mut self) -> Option<ShapeKey> {
        self.shape.take().filter(|_| self.call.client != InferCall::SERVER)
    }

    /// Answers with the collected outputs, in row order. `None` if they cannot be joined.
    pub(crate) fn finish(mut self, memory: &Memory, now: Time) -> Option<Answered> {
        // Times of the last part to arrive: the other parts ran at the same time or before.
        let compute = self.collected.last().map(|part| part.compute).unwrap_or_default();
        self.collected.sort_by_key(|part| part.first);
        let started = self.started.unwrap_or(self.arrived);
        let mut adapters: Vec<String> = Vec::new();
        for part in &self.collected {
            if adapters.last() != Some(&part.adapter) {
                adapters.push(part.adapter.clone());
            }
        }
        let batch_rows = self.collected.iter().map(|part| part.batch_rows).max().unwrap_or(0);
        let good = match self.reply {
            Reply::Parts(parts) => {
                parts.end();
                true
            }
            Reply::Whole(reply) => {
                let outputs = join(self.collected, memory);
                let answer = outputs.map(|outputs| InferAnswer {
                    outputs,
                    adapters,
                    batch_rows,
                    queue_time: started.since(self.arrived),
                    run_time: now.since(started),
                });
                let good = answer.is_ok();
                let _ = reply.send(answer);
                good
            }
        };
        good.then(|| Answered {
            rows: self.call.rows as u64,
            queue: started.since(self.arrived),
            compute: within(compute, now.since(started)),
        })
    }
}

/// Limits the times of a run to its measured total.
fn within(compute: Compute, whole: Duration) -> Compute {
    let input = compute.input.min(whole);
    let infer = compute.infer.min(whole - input);
    Compute { input, infer, output: whole - input - infer }
}

/// Joins the outputs of all parts of a request.
fn join(mut parts: Vec<Collected>, memory: &Memory) -> Result<Tensors, Error> {
    if parts.len() == 1 {
        return Ok(parts.remove(0).outputs);
    }
    let outputs = Tensors::concat_rows(parts.into_iter().map(|part| part.outputs).collect());
    let outputs = outputs.map_err(|error| Error::internal(error.to_string()))?;
    Ok(memory.owing(outputs))
}

/// One input of a batch, with one part per request.
pub(crate) struct GatheredInput {
    pub(crate) name: String,
    pub(crate) datatype: Datatype,
    pub(crate) shape: Vec<u64>,
    pub(crate) parts: Vec<Bytes>,
}

/// The shapes that must be equal for requests to share a batch; `None` if the model fixes them.
fn shape_key(call: &InferCall) -> Option<ShapeKey> {
    let inputs = &call.model.signature.inputs;
    let open = |spec: &model::signature::TensorSpec| {
        let open = spec.any_rank || spec.optional || spec.shape.iter().any(|dim| *dim < 0);
        open || spec.datatypes.len() > 1
    };
    inputs.iter().any(open).then(|| key_of(&call.inputs, inputs))
}

fn key_of(inputs: &Tensors, specs: &[model::signature::TensorSpec]) -> ShapeKey {
    let given = specs.iter().map(|spec| {
        let tensor = inputs.get(&spec.name).ok()?;
        Some((tensor.datatype, tensor.shape.get(1..).unwrap_or_default().to_vec()))
    });
    given.collect()
}
