//! All requests that are not answered, waiting or with workers.
//!
//! All steps cost log n in the number of waiting requests.

use super::batch::Part;
use super::event::Arrival;
use super::ids::{ClientId, ModelId, RequestId, Time};
use super::lists::{End, Entry, First, Lists, Order, Place};
use super::queue_key::QueueKey;
use super::settings::{ModelProfile, Settings};
use super::shares::{Limits, Turn, cost};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// One admitted request that is not yet answered.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) key: QueueKey,
    pub(super) client: ClientId,
    pub(super) order: Order,
    pub(super) rows: u32,
    pub(super) arrived: Time,
    /// The client's own deadline.
    pub(super) deadline: Option<Time>,
    /// Number of times that a batch with it was lost with its worker.
    pub(super) retries: u32,
    /// Waiting rows, as ranges (first, count), ascending.
    waiting: Vec<(u32, u32)>,
    /// Number of rows that are answered.
    done: u32,
}

impl Request {
    /// Creates a request with all rows waiting.
    pub(super) fn new(now: Time, order: Order, arrival: &Arrival) -> Request {
        let Arrival { model, shape, client, deadline, .. } = *arrival;
        let rows = arrival.rows.max(1);
        Request {
            key: QueueKey { model, shape, group: 0 },
            client,
            order,
            rows,
            arrived: now,
            deadline,
            retries: 0,
            waiting: vec![(0, rows)],
            done: 0,
        }
    }

    fn entry(&self) -> Entry {
        Entry { key: self.key, client: self.client, order: self.order }
    }

    pub(super) fn waiting_rows(&self) -> u32 {
        self.waiting.iter().map(|(_, rows)| rows).sum()
    }

    /// Returns the number of rows with workers.
    fn in_flight_rows(&self) -> u32 {
        self.rows.saturating_sub(self.done).saturating_sub(self.waiting_rows())
    }

    /// Takes up to `rows` of the first waiting rows, from one range.
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

/// All requests that are not answered.
#[derive(Debug, Default)]
pub(super) struct Queue {
    requests: HashMap<RequestId, Request>,
    lists: Lists,
    deadlines: BTreeSet<(Time, RequestId)>,
    in_flight_rows: u64,
}

impl Queue {
    pub(super) fn new(models: &BTreeMap<ModelId, ModelProfile>, settings: &Settings) -> Queue {
        let mut queue = Queue::default();
        queue.set_limits(settings);
        for (id, model) in models {
            queue.set_max_rows(*id, model.max_rows);
        }
        queue
    }

    pub(super) fn set_limits(&mut self, settings: &Settings) {
        let limits =
            Limits { requests: settings.queue_requests_max, rows: settings.queue_rows_max };
        self.lists.holdings.set_limits(limits);
    }

    pub(super) fn set_max_rows(&mut self, model: ModelId, max_rows: u32) {
        self.lists.set_max_rows(model, u64::from(max_rows));
    }

    /// Returns the number of requests with a waiting part.
    pub(super) fn len(&self) -> usize {
        self.lists.requests
    }

    pub(super) fn rows(&self) -> u64 {
        self.lists.rows
    }

    /// Returns the number of requests without a waiting part.
    pub(super) fn in_flight(&self) -> usize {
        self.requests.len() - self.lists.requests
    }

    /// Returns the number of rows with workers that still need an answer.
    pub(super) fn in_flight_rows(&self) -> u64 {
        self.in_flight_rows
    }

    pub(super) fn get(&self, id: RequestId) -> Option<&Request> {
        self.requests.get(&id)
    }

    /// Returns the request at one end of a queue.
    pub(super) fn request_at(&self, key: QueueKey, end: End) -> Option<(RequestId, &Request)> {
        let id = self.at(key, end)?;
        Some((id, self.get(id)?))
    }

    pub(super) fn admit(&mut self, id: RequestId, request: Request) {
        self.deadlines.extend(request.deadline.map(|deadline| (deadline, id)));
        let least = self.least_served();
        let model = self.lists.models.entry(request.key.model).or_default();
        model.newest = model.newest.max(request.arrived);
        if model.rows == 0 {
            // A model without waiting requests gains no claim on the others.
            model.served = model.served.max(least);
        }
        self.insert(id, request);
    }

    fn least_served(&self) -> f64 {
        let waiting = self.lists.models.values().filter(|model| model.rows > 0);
        let least = waiting.map(|model| model.served).fold(f64::INFINITY, f64::min);
        if least.is_finite() { least } else { 0.0 }
    }

    /// Returns the requests to reject so that this number of rows of a client fits into the queue;
    /// `None` if no other client holds more than this client would then.
    pub(super) fn requests_to_evict(&self, client: ClientId, rows: u32) -> Option<Vec<RequestId>> {
        let new = u64::from(rows);
        let (mut requests, mut rows) = (self.len(), self.rows());
        let is_whole = |id, rows| self.get(id).is_some_and(|r| u64::from(r.rows) == rows);
        let limits = self.lists.holdings.limits;
        let mut surplus = self.lists.holdings.surplus(client, new);
        let mut out = Vec::new();
        while !limits.allow(requests, rows, new) {
            let (id, waiting) = surplus.next()?;
            // Requests that have begun to run are not rejected.
            if is_whole(id, waiting) {
                (requests, rows) = (requests - 1, rows - waiting);
                out.push(id);
            }
        }
        Some(out)
    }

    /// Returns the rows of this client that wait for the model and precede this place; counting
    /// stops above `most`.
    pub(super) fn rows_before(
        &self,
        model: ModelId,
        client: ClientId,
        place: Order,
        most: u64,
    ) -> u64 {
        let requests = self.lists.requests_of(model, client);
        let mut before = 0;
        for id in requests.flat_map(|own| own.range(..place).map(|(_, id)| *id)) {
            before += self.get(id).map_or(0, |request| u64::from(request.waiting_rows()));
            if before > most {
                break;
            }
        }
        before
    }

    /// Returns the number of other clients that wait for this model.
    pub(super) fn clients_beside(&self, model: ModelId, client: ClientId) -> u64 {
        self.lists.models.get(&model).map_or(0, |queue| queue.turns.beside(client))
    }

    /// Removes a request, wherever it is; its rows with workers run to their end, unanswered.
    pub(super) fn forget(&mut self, id: RequestId) -> Option<Request> {
        let request = self.extract(id)?;
        if let Some(deadline) = request.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(request)
    }

    /// Removes a request from all counts.
    fn extract(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        self.in_flight_rows -= u64::from(request.in_flight_rows());
        let rows = u64::from(request.waiting_rows());
        self.lists.set_rows(id, request.entry(), (rows, 0));
        Some(request)
    }

    /// Adds a request to all counts.
    fn insert(&mut self, id: RequestId, request: Request) {
        self.in_flight_rows += u64::from(request.in_flight_rows());
        let rows = u64::from(request.waiting_rows());
        self.lists.set_rows(id, request.entry(), (0, rows));
        self.requests.insert(id, request);
    }

    /// Changes a request and updates all counts.
    fn change<T>(&mut self, id: RequestId, change: impl FnOnce(&mut Request) -> T) -> Option<T> {
        let request = self.requests.get_mut(&id)?;
        let (entry, rows) = (request.entry(), u64::from(request.waiting_rows()));
        self.in_flight_rows -= u64::from(request.in_flight_rows());
        let changed = change(request);
        self.in_flight_rows += u64::from(request.in_flight_rows());
        let (new_entry, new_rows) = (request.entry(), u64::from(request.waiting_rows()));
        // Another group moves the request to another queue.
        if entry == new_entry {
            self.lists.set_rows(id, entry, (rows, new_rows));
        } else {
            self.lists.set_rows(id, entry, (rows, 0));
            self.lists.set_rows(id, new_entry, (0, new_rows));
        }
        Some(changed)
    }

    /// Takes rows from one end of a queue: whole requests as long as they fit into `rows`. The first
    /// one is split if it does not fit, and so is one that is larger than a batch of `max_rows`.
    pub(super) fn take(&mut self, key: QueueKey, rows: u32, max_rows: u32, end: End) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut room = rows.min(max_rows);
        while room > 0
            && let Some(id) = self.at(key, end)
            && let Some(request) = self.requests.get(&id)
        {
            let left = request.waiting_rows();
            if left > room && !parts.is_empty() && left <= max_rows {
                break;
            }
            let (client, cost) = (request.client, cost(key.shape, left.min(room)));
            self.lists.charge(key.model, client, |turn| turn.saturating_add(cost));
            let Some(Some((first, rows))) = self.change(id, |request| request.take(room)) else {
                break;
            };
            parts.push(Part { request: id, first, rows });
            room -= rows;
        }
        parts
    }

    /// Returns the waiting requests of a queue, approximately in the order of service: their due
    /// times and rows.
    pub(super) fn dues(&self, key: QueueKey) -> impl Iterator<Item = (Time, u32)> {
        let requests = self.lists.queues.get(&key).into_iter().flat_map(|queue| queue.in_turn());
        requests.map(|(order, id)| (order.due, self.get(id).map_or(0, Request::waiting_rows)))
    }

    /// Returns the id of the request at one end of a queue.
    pub(super) fn at(&self, key: QueueKey, end: End) -> Option<RequestId> {
        self.lists.at(key, end)
    }

    /// Returns a part to the queue to run again; `change` may adapt the request.
    pub(super) fn put_back(&mut self, part: Part, change: impl FnOnce(&mut Request)) {
        let Some(request) = self.requests.get(&part.request) else { return };
        // The part was not served, so its cost is returned.
        let (key, cost) = (request.key, cost(request.key.shape, part.rows));
        let back = |turn: Turn| turn.saturating_sub(cost);
        self.lists.charge(key.model, request.client, back);
        self.change(part.request, |request| {
            request.put_back(part.first, part.rows);
            change(request);
        });
    }

    /// Records the answer of a part. Returns and removes the request if that completes it.
    pub(super) fn done(&mut self, part: Part) -> Option<Request> {
        let whole = self.change(part.request, |request| {
            request.done += part.rows;
            request.done >= request.rows
        });
        whole.filter(|whole| *whole).and_then(|_| self.forget(part.request))
    }

    /// Returns the queue of this model to serve first: requests without a batching delay from their
    /// arrival, others after `delay`.
    pub(super) fn first(&self, model: ModelId, delay: Duration, now: Time) -> Option<First> {
        let queue = self.lists.models.get(&model)?;
        let immediate =
            queue.immediate.first().and_then(|head| self.first_of(head, Duration::ZERO));
        let oldest = queue.heads.first().and_then(|head| self.first_of(head, delay));
        match (immediate, oldest) {
            // A full batch must not overtake an older request after its batching delay.
            (Some(immediate), Some(oldest)) if oldest.ready <= now => Some(immediate.min(oldest)),
            (immediate, oldest) => immediate.or(oldest),
        }
    }

    /// Returns the queue of this model to serve last, if its batching delay is over.
    pub(super) fn last(&self, model: ModelId, delay: Duration, now: Time) -> Option<First> {
        let queue = self.lists.models.get(&model)?;
        let heads = if delay.is_zero() { &queue.heads } else { &queue.immediate };
        let last = heads.last().and_then(|head| self.first_of(head, Duration::ZERO));
        last.filter(|last| last.ready <= now)
    }

    fn first_of(&self, (place, key): &(Place, QueueKey), delay: Duration) -> Option<First> {
        let ready = self.get(self.at(*key, End::Front)?)?.arrived + delay;
        Some(First { place: *place, key: *key, ready })
    }

    /// Returns the models with waiting requests and the number of their waiting rows.
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

    /// Returns the arrival time of the newest request of this model.
    pub(super) fn newest(&self, model: ModelId) -> Time {
        self.lists.models.get(&model).map_or(Time::default(), |queue| queue.newest)
    }

    /// Returns the adapter time that this model has used, for comparison with other models.
    pub(super) fn served(&self, model: ModelId) -> f64 {
        self.lists.models.get(&model).map_or(0.0, |queue| queue.served)
    }

    pub(super) fn serve(&mut self, model: ModelId, seconds: f64) {
        if let Some(queue) = self.lists.models.get_mut(&model) {
            queue.served += seconds;
        }
    }

    /// Returns all requests with a waiting part.
    pub(super) fn ids(&self) -> Vec<RequestId> {
        self.lists.queues.values().flat_map(|queue| queue.ids()).collect()
    }

    /// Returns all requests that are not answered, in the order of arrival.
    pub(super) fn all_ids(&self) -> Vec<RequestId> {
        let mut ids: Vec<_> = self.requests.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Returns the waiting requests of one model.
    pub(super) fn ids_of(&self, model: ModelId) -> Vec<RequestId> {
        let queues = self.lists.queues.iter().filter(|(key, _)| key.model == model);
        queues.flat_map(|(_, queue)| queue.ids()).collect()
    }

    /// Removes a model without waiting requests.
    pub(super) fn remove_model(&mut self, model: ModelId) {
        if self.rows_of(model) == 0 {
            self.lists.models.remove(&model);
        }
    }

    /// Returns the earliest deadline of a client.
    pub(super) fn next_deadline(&self) -> Option<(Time, RequestId)> {
        self.deadlines.first().copied()
    }
}
