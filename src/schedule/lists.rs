//! Waiting requests in order: queues of requests that may share a batch, and in each of them the
//! requests of every client, served by turns.

use super::ids::{ClientId, ModelId, RequestId, Time};
use super::queue_key::QueueKey;
use super::shares::{Holdings, Turn, Turns};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Order among the requests of one client: by priority, then by due time, then by arrival. The
/// lowest is served first. A request keeps its place when it has to run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) priority: u32,
    pub(super) due: Time,
    pub(super) number: u64,
}

/// Order among all requests: by priority, then by the turn of the client, then as among the
/// requests of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) priority: u32,
    pub(super) turn: Turn,
    pub(super) order: Order,
}

impl Place {
    fn new(turn: Turn, order: Order) -> Place {
        Place { priority: order.priority, turn, order }
    }
}

/// The first request of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct First {
    pub(super) place: Place,
    pub(super) key: QueueKey,
    /// End of its batching delay.
    pub(super) ready: Time,
}

impl First {
    /// Returns the due time of its answer.
    pub(super) fn due(&self) -> Time {
        self.place.order.due
    }
}

/// The waiting requests of one queue.
#[derive(Debug, Default)]
pub(super) struct ShapeQueue {
    /// The requests of every client; never empty.
    by_client: BTreeMap<ClientId, BTreeMap<Order, RequestId>>,
    /// The first request of every client.
    heads: BTreeSet<(Place, ClientId)>,
    rows: u64,
}

impl ShapeQueue {
    /// Returns the first request, and true if it needs no batching delay.
    fn head(&self, key: QueueKey, max_rows: u64) -> Option<(Place, bool)> {
        let (place, _) = self.heads.first()?;
        Some((*place, key.group != 0 || self.rows >= max_rows))
    }

    /// Changes the requests of one client and updates its head.
    fn change(
        &mut self,
        client: ClientId,
        (from, to): (Turn, Turn),
        change: impl FnOnce(&mut BTreeMap<Order, RequestId>),
    ) {
        let head = |requests: &BTreeMap<Order, RequestId>, turn| {
            requests.first_key_value().map(|(order, _)| (Place::new(turn, *order), client))
        };
        let requests = self.by_client.entry(client).or_default();
        let before = head(requests, from);
        change(requests);
        let after = head(requests, to);
        if requests.is_empty() {
            self.by_client.remove(&client);
        }
        if before != after {
            before.map(|head| self.heads.remove(&head));
            self.heads.extend(after);
        }
    }

    fn at(&self, end: End) -> Option<RequestId> {
        let (_, client) = match end {
            End::Front => self.heads.first()?,
            // Approximately the last one: the newest request of the client with the most service.
            End::Back => self.heads.last()?,
        };
        let requests = self.by_client.get(client)?;
        let entry = match end {
            End::Front => requests.first_key_value(),
            End::Back => requests.last_key_value(),
        };
        entry.map(|(_, id)| *id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RequestId> {
        self.by_client.values().flat_map(|requests| requests.values().copied())
    }

    /// Returns all requests approximately in the order of service: one of each client after the
    /// other.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (Order, RequestId)> {
        let by_client = self.heads.iter().filter_map(|(_, client)| self.by_client.get(client));
        let mut by_client: VecDeque<_> = by_client.map(|requests| requests.iter()).collect();
        std::iter::from_fn(move || {
            while let Some(mut requests) = by_client.pop_front() {
                if let Some((order, id)) = requests.next() {
                    by_client.push_back(requests);
                    return Some((*order, *id));
                }
            }
            None
        })
    }
}

/// The waiting requests of one model.
#[derive(Debug, Default)]
pub(super) struct ModelQueue {
    pub(super) max_rows: u64,
    pub(super) rows: u64,
    /// The first request of every queue, so that the oldest queue is found without a search.
    pub(super) heads: BTreeSet<(Place, QueueKey)>,
    /// The heads of queues without a batching delay: a batch is full, or a request must run alone.
    pub(super) immediate: BTreeSet<(Place, QueueKey)>,
    /// Adapter time that the model was served, in seconds: the least served model is first.
    pub(super) served: f64,
    /// Arrival of its last request.
    pub(super) newest: Time,
    /// The turns of the clients.
    pub(super) turns: Turns,
}

impl ModelQueue {
    /// Moves a queue after a change of its head, or of the head's need of a batching delay.
    fn move_head(&mut self, key: QueueKey, from: Option<(Place, bool)>, to: Option<(Place, bool)>) {
        if from == to {
            return;
        }
        if let Some((place, _)) = from {
            self.heads.remove(&(place, key));
            self.immediate.remove(&(place, key));
        }
        if let Some((place, immediate)) = to {
            self.heads.insert((place, key));
            if immediate {
                self.immediate.insert((place, key));
            }
        }
    }
}

/// The end of a queue to take from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

/// The place at which a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: QueueKey,
    pub(super) client: ClientId,
    pub(super) order: Order,
}

/// All waiting requests in order.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) queues: BTreeMap<QueueKey, ShapeQueue>,
    pub(super) models: BTreeMap<ModelId, ModelQueue>,
    pub(super) holdings: Holdings,
    pub(super) requests: usize,
    pub(super) rows: u64,
}

impl Lists {
    /// Changes the number of waiting rows of a request; without any it is removed.
    pub(super) fn set_rows(&mut self, id: RequestId, at: Entry, (from, to): (u64, u64)) {
        if from == to {
            return;
        }
        let Entry { key, client, order } = at;
        self.holdings.set_rows(client, (order.number, id), (from, to));
        let model = self.models.entry(key.model).or_default();
        let waiting = self.queues.entry(key).or_default();
        let before = waiting.head(key, model.max_rows);
        if from == 0 {
            let turn = model.turns.join(client, key);
            waiting.change(client, (turn, turn), |requests| {
                requests.insert(order, id);
            });
            self.requests += 1;
        } else if to == 0 {
            let turn = model.turns.of(client);
            waiting.change(client, (turn, turn), |requests| {
                requests.remove(&order);
            });
            if !waiting.by_client.contains_key(&client) {
                model.turns.leave(client, key);
            }
            self.requests -= 1;
        }
        waiting.rows = waiting.rows + to - from;
        model.rows = model.rows + to - from;
        self.rows = self.rows + to - from;
        model.move_head(key, before, waiting.head(key, model.max_rows));
        if waiting.by_client.is_empty() {
            self.queues.remove(&key);
        }
    }

    /// Corrects the service that a client of this model has received.
    pub(super) fn charge(
        &mut self,
        id: ModelId,
        client: ClientId,
        charge: impl FnOnce(Turn) -> Turn,
    ) {
        let Some(model) = self.models.get_mut(&id) else { return };
        let from = model.turns.of(client);
        let to = charge(from);
        for key in model.turns.set(client, to) {
            let Some(waiting) = self.queues.get_mut(&key) else { continue };
            let before = waiting.head(key, model.max_rows);
            waiting.change(client, (from, to), |_| ());
            let after = waiting.head(key, model.max_rows);
            model.move_head(key, before, after);
        }
    }

    /// Returns the requests of one client of a model by queue.
    pub(super) fn requests_of(
        &self,
        model: ModelId,
        client: ClientId,
    ) -> impl Iterator<Item = &BTreeMap<Order, RequestId>> {
        let queues = self.models.get(&model).into_iter();
        let queues = queues.flat_map(move |queue| queue.turns.keys(client));
        queues.filter_map(move |key| self.queues.get(key)?.by_client.get(&client))
    }

    pub(super) fn at(&self, key: QueueKey, end: End) -> Option<RequestId> {
        self.queues.get(&key)?.at(end)
    }

    pub(super) fn set_max_rows(&mut self, id: ModelId, max_rows: u64) {
        let model = self.models.entry(id).or_default();
        for (key, waiting) in self.queues.iter().filter(|(key, _)| key.model == id) {
            let before = waiting.head(*key, model.max_rows);
            model.move_head(*key, before, waiting.head(*key, max_rows));
        }
        model.max_rows = max_rows;
    }
}
