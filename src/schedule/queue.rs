//! Admitted requests: who waits, in what order, and who may share a batch.

use super::settings::ModelProfile;
use super::types::{ModelId, RequestId, Shape, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Place in a lane. Lower goes first. A request keeps its place when it has to run again.
pub(super) type Order = u64;

/// Requests that may share a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lane {
    pub(super) model: ModelId,
    pub(super) shape: Shape,
}

/// The lane to serve first. Ordered by the place of its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct First {
    pub(super) order: Order,
    pub(super) lane: Lane,
    pub(super) due: Time,
}

/// One admitted request that is not yet answered.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) lane: Lane,
    pub(super) order: Order,
    pub(super) rows: u32,
    pub(super) arrived: Time,
    /// How often it was lost with its worker.
    pub(super) retries: u32,
    /// Runs alone, since a batch with it in failed by its input.
    pub(super) alone: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: BTreeMap<Order, RequestId>,
    rows: u64,
}

/// The first request of every lane of a model, so that the oldest lane is found without a walk.
#[derive(Debug, Default)]
struct Heads {
    all: BTreeSet<(Order, Lane)>,
    /// Those of lanes that need not wait for company: a batch is full, or must not have any.
    prompt: BTreeSet<(Order, Lane)>,
}

/// The waiting requests by lane. All steps cost log n in the number of waiting requests.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Rows of the largest batch of each model.
    max_rows: BTreeMap<ModelId, u64>,
    waiting: BTreeMap<RequestId, Request>,
    lanes: BTreeMap<Lane, Waiting>,
    heads: BTreeMap<ModelId, Heads>,
    rows: u64,
}

impl Queue {
    pub(super) fn new(models: &BTreeMap<ModelId, ModelProfile>) -> Queue {
        let max_rows = models.iter().map(|(id, model)| (*id, u64::from(model.max_rows)));
        Queue { max_rows: max_rows.collect(), ..Queue::default() }
    }

    pub(super) fn set_max_rows(&mut self, model: ModelId, max_rows: u32) {
        self.max_rows.insert(model, u64::from(max_rows));
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn push(&mut self, id: RequestId, request: Request) {
        let (lane, order, rows) = (request.lane, request.order, u64::from(request.rows));
        self.unlist_head(lane);
        let waiting = self.lanes.entry(lane).or_default();
        waiting.requests.insert(order, id);
        waiting.rows += rows;
        self.rows += rows;
        self.waiting.insert(id, request);
        self.list_head(lane);
    }

    pub(super) fn remove(&mut self, id: RequestId) -> Option<Request> {
        let request = self.waiting.remove(&id)?;
        let (lane, rows) = (request.lane, u64::from(request.rows));
        self.unlist_head(lane);
        self.rows -= rows;
        if let Some(waiting) = self.lanes.get_mut(&lane) {
            waiting.requests.remove(&request.order);
            waiting.rows -= rows;
            if waiting.requests.is_empty() {
                self.lanes.remove(&lane);
            }
        }
        self.list_head(lane);
        Some(request)
    }

    /// The lane of this model to serve first, with the place of its first request and since when
    /// it is due: those that need not wait for company since they came, others after `delay`.
    pub(super) fn first(&self, model: ModelId, delay: Duration, now: Time) -> Option<First> {
        let heads = self.heads.get(&model)?;
        let prompt = heads.prompt.first().and_then(|head| self.due(head, Duration::ZERO));
        let oldest = heads.all.first().and_then(|head| self.due(head, delay));
        match (prompt, oldest) {
            (Some(prompt), Some(oldest)) if oldest.due <= now => Some(prompt.min(oldest)),
            (prompt, oldest) => prompt.or(oldest),
        }
    }

    fn due(&self, (order, lane): &(Order, Lane), delay: Duration) -> Option<First> {
        let id = self.lanes.get(lane)?.requests.get(order)?;
        let due = self.waiting.get(id)?.arrived + delay;
        Some(First { order: *order, lane: *lane, due })
    }

    /// Takes the first requests of a lane, as many as fit into `max_rows`, at least one.
    pub(super) fn take(&mut self, lane: Lane, max_rows: u32) -> Vec<(RequestId, Request)> {
        let mut taken: Vec<(RequestId, Request)> = Vec::new();
        let mut rows = 0u32;
        while let Some(id) = self.lanes.get(&lane).and_then(|waiting| {
            let (_, id) = waiting.requests.first_key_value()?;
            let next = self.waiting.get(id)?;
            let alone = next.alone || taken.first().is_some_and(|(_, first)| first.alone);
            let fits = rows.saturating_add(next.rows) <= max_rows && !alone;
            (taken.is_empty() || fits).then_some(*id)
        }) {
            let Some(request) = self.remove(id) else { break };
            rows = rows.saturating_add(request.rows);
            taken.push((id, request));
        }
        taken
    }

    pub(super) fn ids(&self) -> Vec<RequestId> {
        self.waiting.keys().copied().collect()
    }

    /// Whether a request of this model waits.
    pub(super) fn waits_for(&self, model: ModelId) -> bool {
        let from = Lane { model, shape: Shape(0) };
        self.lanes.range(from..).next().is_some_and(|(lane, _)| lane.model == model)
    }

    /// The waiting requests of one model.
    pub(super) fn ids_of(&self, model: ModelId) -> Vec<RequestId> {
        let from = Lane { model, shape: Shape(0) };
        let to = Lane { model, shape: Shape(u64::MAX) };
        let lanes = self.lanes.range(from..=to);
        lanes.flat_map(|(_, waiting)| waiting.requests.values().copied()).collect()
    }

    fn unlist_head(&mut self, lane: Lane) {
        let first = self.lanes.get(&lane).and_then(|waiting| waiting.requests.first_key_value());
        if let Some((order, _)) = first
            && let Some(heads) = self.heads.get_mut(&lane.model)
        {
            heads.all.remove(&(*order, lane));
            heads.prompt.remove(&(*order, lane));
        }
    }

    fn list_head(&mut self, lane: Lane) {
        if let Some((head, prompt)) = self.head(lane) {
            let heads = self.heads.entry(lane.model).or_default();
            heads.all.insert(head);
            if prompt {
                heads.prompt.insert(head);
            }
        }
    }

    /// A lane's head, and whether it need not wait for company.
    fn head(&self, lane: Lane) -> Option<((Order, Lane), bool)> {
        let waiting = self.lanes.get(&lane)?;
        let (order, id) = waiting.requests.first_key_value()?;
        let full = self.max_rows.get(&lane.model).is_none_or(|max| waiting.rows >= *max);
        let alone = self.waiting.get(id)?.alone;
        Some(((*order, lane), full || alone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: Lane = Lane { model: ModelId(1), shape: Shape(0) };
    const OTHER: Lane = Lane { model: ModelId(1), shape: Shape(7) };

    fn push(queue: &mut Queue, lane: Lane, id: u64, rows: u32, alone: bool) {
        let arrived = Time::default();
        let request = Request { lane, order: id, rows, arrived, retries: 0, alone };
        queue.push(RequestId(id), request);
    }

    fn take(queue: &mut Queue, lane: Lane, max_rows: u32) -> Vec<u64> {
        queue.take(lane, max_rows).into_iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn batches_hold_what_fits_in_order() {
        let mut queue = Queue::default();
        for (id, rows) in [(1, 3), (2, 3), (3, 1)] {
            push(&mut queue, LANE, id, rows, false);
        }
        assert_eq!(take(&mut queue, LANE, 4), [1]);
        assert_eq!(take(&mut queue, LANE, 4), [2, 3]);
        assert_eq!((queue.len(), queue.rows()), (0, 0));
    }

    #[test]
    fn the_poisonous_run_alone() {
        let mut queue = Queue::default();
        for (id, alone) in [(1, false), (2, true), (3, false)] {
            push(&mut queue, LANE, id, 1, alone);
        }
        assert_eq!(take(&mut queue, LANE, 8), [1]);
        assert_eq!(take(&mut queue, LANE, 8), [2]);
        assert_eq!(take(&mut queue, LANE, 8), [3]);
    }

    #[test]
    fn the_lane_that_waited_longest_goes_first() {
        let mut queue = Queue::default();
        push(&mut queue, OTHER, 2, 1, false);
        push(&mut queue, LANE, 3, 1, false);
        let first = |queue: &Queue| {
            queue.first(ModelId(1), Duration::ZERO, Time::default()).map(|first| first.lane)
        };
        assert_eq!(first(&queue), Some(OTHER));
        push(&mut queue, LANE, 1, 1, false);
        assert_eq!(first(&queue), Some(LANE));
        assert!(queue.remove(RequestId(1)).is_some());
        assert_eq!(first(&queue), Some(OTHER));
        assert_eq!(queue.ids_of(ModelId(1)).len(), 2);
    }

    #[test]
    fn a_full_lane_need_not_wait_for_company() {
        let model = ModelProfile { max_rows: 2, delay: Duration::from_secs(1) };
        let mut queue = Queue::new(&BTreeMap::from([(ModelId(1), model)]));
        let first = |queue: &Queue| {
            let first = queue.first(ModelId(1), model.delay, Time::default());
            first.map(|first| (first.lane, first.due))
        };
        let later = Time(model.delay);
        push(&mut queue, LANE, 1, 1, false);
        assert_eq!(first(&queue), Some((LANE, later)));
        push(&mut queue, OTHER, 2, 2, false);
        assert_eq!(first(&queue), Some((OTHER, Time::default())));
        push(&mut queue, LANE, 3, 1, false);
        assert_eq!(first(&queue), Some((LANE, Time::default())));
        assert!(queue.remove(RequestId(3)).is_some() && queue.remove(RequestId(2)).is_some());
        assert_eq!(first(&queue), Some((LANE, later)));
    }
}
