//! Requests by id: what the scheduler only knows as numbers.

use super::handle::{InferAnswer, InferCall, Submitted};
use crate::error::Error;
use crate::schedule::{Batch, ModelId, RequestId, Shape, Time};
use crate::tensor::{Datatype, Tensors};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// The one bound on host memory for queued inputs and unsent answers.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    used: Arc<AtomicUsize>,
    max: usize,
}

impl Memory {
    pub(super) fn new(max: usize) -> Memory {
        Memory { used: Arc::default(), max }
    }

    /// Takes room for a new request, if there is enough.
    pub(super) fn admit(&self, bytes: usize) -> Option<Held> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Held { used: self.used.clone(), bytes })
    }

    /// Counts memory that is owed whatever the bound says: an answer is never refused.
    pub(super) fn owe(&self, bytes: usize) -> Held {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Held { used: self.used.clone(), bytes }
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }
}

/// Counted memory, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    used: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A request that is owed an answer.
pub(super) struct Pending {
    pub(super) call: InferCall,
    pub(super) answer: oneshot::Sender<Result<InferAnswer, Error>>,
    pub(super) model: ModelId,
    pub(super) arrived: Time,
    /// When it was last handed to a worker.
    pub(super) started: Time,
    shape: Option<ShapeKey>,
    _held: Held,
}

type ShapeKey = Vec<(Datatype, Vec<usize>)>;

/// All requests that are owed an answer.
#[derive(Default)]
pub(super) struct Requests {
    pending: HashMap<RequestId, Pending>,
    /// Numbers for the shapes of waiting requests, with how many requests use each.
    shapes: HashMap<ShapeKey, (Shape, usize)>,
    shapes_made: u64,
}

impl Requests {
    /// Takes a request in and gives its shape a number.
    pub(super) fn insert(&mut self, submitted: Submitted, model: ModelId, now: Time) -> Shape {
        let Submitted { id, call, answer, held } = submitted;
        let key = shape_key(&call);
        let shape = key.clone().map_or(Shape(0), |key| self.number(key));
        let pending =
            Pending { call, answer, model, arrived: now, started: now, shape: key, _held: held };
        self.pending.insert(id, pending);
        shape
    }

    fn number(&mut self, key: ShapeKey) -> Shape {
        let made = &mut self.shapes_made;
        let (shape, users) = self.shapes.entry(key).or_insert_with(|| {
            *made += 1;
            (Shape(*made), 0)
        });
        *users += 1;
        *shape
    }

    /// Takes a request out, to answer it or to forget it.
    pub(super) fn remove(&mut self, id: RequestId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        if let Some(key) = &pending.shape
            && let Some((_, users)) = self.shapes.get_mut(key)
        {
            *users -= 1;
            if *users == 0 {
                self.shapes.remove(key);
            }
        }
        Some(pending)
    }

    /// Notes that these requests are with a worker now.
    pub(super) fn start(&mut self, batch: &Batch, now: Time) {
        for (id, _) in &batch.requests {
            if let Some(pending) = self.pending.get_mut(id) {
                pending.started = now;
            }
        }
    }

    /// The inputs of a batch, one after the other for each input, sharing the bytes; `None` if a
    /// request of it is gone.
    pub(super) fn gather(&self, batch: &Batch) -> Option<Vec<GatheredInput>> {
        let pending: Option<Vec<_>> =
            batch.requests.iter().map(|(id, _)| self.pending.get(id)).collect();
        let pending = pending?;
        let first = pending.first()?;
        let rows = batch.rows();
        let input = |at: usize| {
            let model = first.call.inputs.0.get(at)?;
            let same = |p: &&Pending| p.call.inputs.get(&model.name).ok().map(|t| t.data.clone());
            let parts: Option<Vec<Bytes>> = pending.iter().map(same).collect();
            let dims = model.shape.iter().skip(1).map(|dim| *dim as u64);
            Some(GatheredInput {
                name: model.name.clone(),
                datatype: model.datatype,
                shape: std::iter::once(rows).chain(dims).collect(),
                parts: parts?,
            })
        };
        (0..first.call.inputs.0.len()).map(input).collect()
    }
}

/// One input of a batch, in as many parts as it has requests.
pub(super) struct GatheredInput {
    pub(super) name: String,
    pub(super) datatype: Datatype,
    pub(super) shape: Vec<u64>,
    pub(super) parts: Vec<Bytes>,
}

/// What must be equal for requests to share a batch; `None` where the model leaves no choice.
fn shape_key(call: &InferCall) -> Option<ShapeKey> {
    let inputs = &call.model.signature.inputs;
    let open = |spec: &crate::model::signature::TensorSpec| {
        spec.datatypes.len() > 1 || spec.shape.iter().any(|dim| *dim < 0)
    };
    inputs.iter().any(open).then(|| key_of(&call.inputs, inputs))
}

fn key_of(inputs: &Tensors, specs: &[crate::model::signature::TensorSpec]) -> ShapeKey {
    let tensors = specs.iter().filter_map(|spec| inputs.get(&spec.name).ok());
    tensors.map(|tensor| (tensor.datatype, tensor.shape[1..].to_vec())).collect()
}
