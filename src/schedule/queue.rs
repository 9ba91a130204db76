//! Every request that is owed an answer: who waits, in what order, and who may share a batch.
//!
//! All steps cost log n in the number of waiting requests.

use super::settings::ModelProfile;
use super::state::Part;
use super::types::{ModelId, RequestId, Shape, Time};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// Place in a lane: by priority, then by when an answer is due, then by arrival. Lower goes first.
/// A request keeps its place when it has to run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) priority: u32,
    pub(super) due: Time,
    pub(super) number: u64,
}

/// Requests that may share a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lane {
    pub(super) model: ModelId,
    pub(super) shape: Shape,
    /// 0, or a number of its own for those that a failed batch was taken apart into.
    pub(super) group: u64,
}

/// The first request of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct First {
    pub(super) order: Order,
    pub(super) lane: Lane,
    /// From when on it need not wait for company any more.
    pub(super) ripe: Time,
}

/// One admitted request that is not yet answered.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) lane: Lane,
    pub(super) order: Order,
    pub(super) rows: u32,
    pub(super) arrived: Time,
    /// The client's own deadline.
    pub(super) deadline: Option<Time>,
    /// How often a batch with it was lost with its worker.
    pub(super) retries: u32,
    /// Rows that wait, as ranges (first, count), ascending.
    waiting: Vec<(u32, u32)>,
    /// Rows that are answered.
    done: u32,
}

impl Request {
    /// A request of which everything waits.
    pub(super) fn new(
        lane: Lane,
        order: Order,
        rows: u32,
        arrived: Time,
        deadline: Option<Time>,
    ) -> Request {
        let waiting = vec![(0, rows)];
        Request { lane, order, rows, arrived, deadline, retries: 0, waiting, done: 0 }
    }

    pub(super) fn waiting_rows(&self) -> u32 {
        self.waiting.iter().map(|(_, rows)| rows).sum()
    }

    /// Rows with workers.
    fn flying_rows(&self) -> u32 {
        self.rows.saturating_sub(self.done).saturating_sub(self.waiting_rows())
    }

    /// Takes up to `rows` waiting rows, the first ones, of one range.
    fn take(&mut self, rows: u32) -> Option<(u32, u32)> {
        let range = self.waiting.first_mut()?;
        let taken = (range.0, range.1.min(rows));
        range.0 += taken.1;
        range.1 -= taken.1;
        if range.1 == 0 {
            self.waiting.remove(0);
        }
        Some(taken)
    }

    fn put_back(&mut self, first: u32, rows: u32) {
        let at = self.waiting.partition_point(|range| range.0 < first);
        self.waiting.insert(at, (first, rows));
    }
}

#[derive(Debug, Default)]
struct Waiting {
    requests: BTreeMap<Order, RequestId>,
    rows: u64,
}

impl Waiting {
    /// The first request, and whether it need not wait for company.
    fn head(&self, lane: Lane, max_rows: u64) -> Option<(Order, bool)> {
        let (order, _) = self.requests.first_key_value()?;
        Some((*order, lane.group != 0 || self.rows >= max_rows))
    }
}

/// What waits of one model.
#[derive(Debug, Default)]
struct ModelQueue {
    max_rows: u64,
    rows: u64,
    /// The first request of every lane, so that the oldest lane is found without a walk.
    heads: BTreeSet<(Order, Lane)>,
    /// Those of lanes that need not wait for company: a batch is full, or must not have any.
    prompt: BTreeSet<(Order, Lane)>,
    /// Adapter time that it was served, in seconds: who had least goes first.
    served: f64,
    /// When the last of its requests arrived.
    newest: Time,
}

impl ModelQueue {
    /// The head of a lane is another one, or need no longer wait for company, or must again.
    fn move_head(&mut self, lane: Lane, from: Option<(Order, bool)>, to: Option<(Order, bool)>) {
        if from == to {
            return;
        }
        if let Some((order, _)) = from {
            self.heads.remove(&(order, lane));
            self.prompt.remove(&(order, lane));
        }
        if let Some((order, prompt)) = to {
            self.heads.insert((order, lane));
            if prompt {
                self.prompt.insert((order, lane));
            }
        }
    }
}

/// Which end of a lane to take from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

/// All requests that are owed an answer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    requests: HashMap<RequestId, Request>,
    lists: Lists,
    deadlines: BTreeSet<(Time, RequestId)>,
    flying_rows: u64,
}

/// Who waits, in order.
#[derive(Debug, Default)]
struct Lists {
    lanes: BTreeMap<Lane, Waiting>,
    models: BTreeMap<ModelId, ModelQueue>,
    requests: usize,
    rows: u64,
}

impl Lists {
    /// Changes how many rows of a request wait; with none it is not listed any more.
    fn set_rows(&mut self, id: RequestId, (lane, order): (Lane, Order), from: u64, to: u64) {
        if from == to {
            return;
        }
        let model = self.models.entry(lane.model).or_default();
        let waiting = self.lanes.entry(lane).or_default();
        let before = waiting.head(lane, model.max_rows);
        if from == 0 && to > 0 {
            waiting.requests.insert(order, id);
            self.requests += 1;
        } else if from > 0 && to == 0 {
            waiting.requests.remove(&order);
            self.requests -= 1;
        }
        waiting.rows = waiting.rows + to - from;
        model.rows = model.rows + to - from;
        self.rows = self.rows + to - from;
        model.move_head(lane, before, waiting.head(lane, model.max_rows));
        if waiting.requests.is_empty() {
            self.lanes.remove(&lane);
        }
    }

    fn set_max_rows(&mut self, id: ModelId, max_rows: u64) {
        let model = self.models.entry(id).or_default();
        for (lane, waiting) in self.lanes.iter().filter(|(lane, _)| lane.model == id) {
            let before = waiting.head(*lane, model.max_rows);
            model.move_head(*lane, before, waiting.head(*lane, max_rows));
        }
        model.max_rows = max_rows;
    }
}

impl Queue {
    pub(super) fn new(models: &BTreeMap<ModelId, ModelProfile>) -> Queue {
        let mut queue = Queue::default();
        for (id, model) in models {
            queue.set_max_rows(*id, model.max_rows);
        }
        queue
    }

    pub(super) fn set_max_rows(&mut self, model: ModelId, max_rows: u32) {
        self.lists.set_max_rows(model, u64::from(max_rows));
    }

    /// Requests that wait, or of which a part does.
    pub(super) fn len(&self) -> usize {
        self.lists.requests
    }

    pub(super) fn rows(&self) -> u64 {
        self.lists.rows
    }

    /// Requests of which nothing waits.
    pub(super) fn flying(&self) -> usize {
        self.requests.len() - self.lists.requests
    }

    /// Rows with workers that are owed.
    pub(super) fn flying_rows(&self) -> u64 {
        self.flying_rows
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Request> {
        self.requests.get(&id)
    }

    pub(super) fn admit(&mut self, id: RequestId, request: Request) {
        self.deadlines.extend(request.deadline.map(|deadline| (deadline, id)));
        let least = self.least_served();
        let model = self.lists.models.entry(request.lane.model).or_default();
        model.newest = model.newest.max(request.arrived);
        if model.rows == 0 {
            // Who had nothing to do saves up no claim on the others.
            model.served = model.served.max(least);
        }
        self.insert(id, request);
    }

    fn least_served(&self) -> f64 {
        let waiting = self.lists.models.values().filter(|model| model.rows > 0);
        let least = waiting.map(|model| model.served).fold(f64::INFINITY, f64::min);
        if least.is_finite() { least } else { 0.0 }
    }

    /// Forgets a request, wherever it is; rows with workers run to their end, unanswered.
    pub(super) fn forget(&mut self, id: RequestId) -> Option<Request> {
        let request = self.extract(id)?;
        if let Some(deadline) = request.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(request)
    }

    /// Takes a request out of all counts.
    fn extract(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        self.flying_rows -= u64::from(request.flying_rows());
        let rows = u64::from(request.waiting_rows());
        self.lists.set_rows(id, (request.lane, request.order), rows, 0);
        Some(request)
    }

    /// Puts a request into all counts.
    fn insert(&mut self, id: RequestId, request: Request) {
        self.flying_rows += u64::from(request.flying_rows());
        let rows = u64::from(request.waiting_rows());
        self.lists.set_rows(id, (request.lane, request.order), 0, rows);
        self.requests.insert(id, request);
    }

    /// Changes a request and keeps all counts true.
    fn change<T>(&mut self, id: RequestId, change: impl FnOnce(&mut Request) -> T) -> Option<T> {
        let request = self.requests.get_mut(&id)?;
        let (place, rows) = ((request.lane, request.order), u64::from(request.waiting_rows()));
        self.flying_rows -= u64::from(request.flying_rows());
        let changed = change(request);
        self.flying_rows += u64::from(request.flying_rows());
        let (new_place, new_rows) =
            ((request.lane, request.order), u64::from(request.waiting_rows()));
        if place == new_place {
            self.lists.set_rows(id, place, rows, new_rows);
        } else {
            self.lists.set_rows(id, place, rows, 0);
            self.lists.set_rows(id, new_place, 0, new_rows);
        }
        Some(changed)
    }

    /// Takes rows from one end of a lane: whole requests as long as they fit into `rows`; the
    /// first one is cut if it does not, and so is one that no batch of `max_rows` holds whole.
    pub(super) fn take(&mut self, lane: Lane, rows: u32, max_rows: u32, end: End) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut room = rows.min(max_rows);
        while room > 0
            && let Some(id) = self.at(lane, end)
            && let Some(request) = self.requests.get(&id)
        {
            let left = request.waiting_rows();
            if left > room && !parts.is_empty() && left <= max_rows {
                break;
            }
            let Some(Some((first, rows))) = self.change(id, |request| request.take(room)) else {
                break;
            };
            parts.push(Part { request: id, first, rows });
            room -= rows;
        }
        parts
    }

    /// The request at one end of a lane.
    /// The first requests of a lane that wait, most urgent first: when they are due, and their rows.
    pub(super) fn dues(&self, lane: Lane) -> impl Iterator<Item = (Time, u32)> {
        let waiting = self.lists.lanes.get(&lane).into_iter();
        let requests = waiting.flat_map(|waiting| &waiting.requests);
        requests.map(|(order, id)| (order.due, self.get(*id).map_or(0, Request::waiting_rows)))
    }

    pub(super) fn at(&self, lane: Lane, end: End) -> Option<RequestId> {
        let requests = &self.lists.lanes.get(&lane)?.requests;
        let entry = match end {
            End::Front => requests.first_key_value(),
            End::Back => requests.last_key_value(),
        };
        entry.map(|(_, id)| *id)
    }

    /// A part comes back to run again; `change` may say under what conditions.
    pub(super) fn put_back(&mut self, part: Part, change: impl FnOnce(&mut Request)) {
        self.change(part.request, |request| {
            request.put_back(part.first, part.rows);
            change(request);
        });
    }

    /// A part is answered. Tells whether the request is now answered whole, and forgets it then.
    pub(super) fn done(&mut self, part: Part) -> Option<Request> {
        let whole = self.change(part.request, |request| {
            request.done += part.rows;
            request.done >= request.rows
        });
        whole.filter(|whole| *whole).and_then(|_| self.forget(part.request))
    }

    /// The lane of this model to serve first: those that need not wait for company since they
    /// came, others after `delay`.
    pub(super) fn first(&self, model: ModelId, delay: Duration, now: Time) -> Option<First> {
        let queue = self.lists.models.get(&model)?;
        let prompt = queue.prompt.first().and_then(|head| self.ripe(head, Duration::ZERO));
        let oldest = queue.heads.first().and_then(|head| self.ripe(head, delay));
        match (prompt, oldest) {
            (Some(prompt), Some(oldest)) if oldest.ripe <= now => Some(prompt.min(oldest)),
            (prompt, oldest) => prompt.or(oldest),
        }
    }

    /// The lane of this model to serve last, if it need not wait for company.
    pub(super) fn last(&self, model: ModelId, delay: Duration, now: Time) -> Option<First> {
        let queue = self.lists.models.get(&model)?;
        let heads = if delay.is_zero() { &queue.heads } else { &queue.prompt };
        let last = heads.last().and_then(|head| self.ripe(head, Duration::ZERO));
        last.filter(|last| last.ripe <= now)
    }

    fn ripe(&self, (order, lane): &(Order, Lane), delay: Duration) -> Option<First> {
        let id = self.lists.lanes.get(lane)?.requests.get(order)?;
        let ripe = self.requests.get(id)?.arrived + delay;
        Some(First { order: *order, lane: *lane, ripe })
    }

    /// Models with waiting requests and how many of their rows wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (ModelId, u64)> {
        self.lists
            .models
            .iter()
            .filter(|(_, queue)| queue.rows > 0)
            .map(|(id, queue)| (*id, queue.rows))
    }

    pub(super) fn rows_of(&self, model: ModelId) -> u64 {
        self.lists.models.get(&model).map_or(0, |queue| queue.rows)
    }

    /// When the last request of this model arrived.
    pub(super) fn newest(&self, model: ModelId) -> Time {
        self.lists.models.get(&model).map_or(Time::default(), |queue| queue.newest)
    }

    /// Adapter time that this model was served, to be compared with that of others.
    pub(super) fn served(&self, model: ModelId) -> f64 {
        self.lists.models.get(&model).map_or(0.0, |queue| queue.served)
    }

    pub(super) fn serve(&mut self, model: ModelId, seconds: f64) {
        if let Some(queue) = self.lists.models.get_mut(&model) {
            queue.served += seconds;
        }
    }

    /// Everyone whom something waits of.
    pub(super) fn ids(&self) -> Vec<RequestId> {
        self.lists.lanes.values().flat_map(|waiting| waiting.requests.values().copied()).collect()
    }

    /// The waiting requests of one model.
    pub(super) fn ids_of(&self, model: ModelId) -> Vec<RequestId> {
        let lanes = self.lists.lanes.iter().filter(|(lane, _)| lane.model == model);
        lanes.flat_map(|(_, waiting)| waiting.requests.values().copied()).collect()
    }

    /// Forgets a model that nobody waits for.
    pub(super) fn remove_model(&mut self, model: ModelId) {
        if self.rows_of(model) == 0 {
            self.lists.models.remove(&model);
        }
    }

    /// The client's deadline that comes first.
    pub(super) fn next_deadline(&self) -> Option<(Time, RequestId)> {
        self.deadlines.first().copied()
    }
}
