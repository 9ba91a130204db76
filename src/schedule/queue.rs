//! Admitted requests: who waits, in what order, and who may share a batch.

use super::types::{ModelId, RequestId, Shape, Time};
use std::collections::{BTreeMap, BTreeSet};

/// Place in a lane. Lower goes first. A request keeps its place when it has to run again.
pub(super) type Order = u64;

/// Requests that may share a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lane {
    pub(super) model: ModelId,
    pub(super) shape: Shape,
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

/// The waiting requests by lane. All steps cost log n in the number of waiting requests.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<RequestId, Request>,
    lanes: BTreeMap<Lane, Waiting>,
    /// The first request of every lane, so that the oldest lane is found without a walk.
    heads: BTreeSet<(Order, Lane)>,
    rows: u64,
}

impl Queue {
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

    /// Lanes with someone waiting, the one that has waited longest first.
    pub(super) fn lanes(&self) -> impl Iterator<Item = Lane> {
        self.heads.iter().map(|(_, lane)| *lane)
    }

    /// The first request of a lane, and the rows that wait in the whole lane.
    pub(super) fn head(&self, lane: Lane) -> Option<(&Request, u64)> {
        let waiting = self.lanes.get(&lane)?;
        let (_, id) = waiting.requests.first_key_value()?;
        Some((self.waiting.get(id)?, waiting.rows))
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

    /// The waiting requests of one model.
    pub(super) fn ids_of(&self, model: ModelId) -> Vec<RequestId> {
        let from = Lane { model, shape: Shape(0) };
        let to = Lane { model, shape: Shape(u64::MAX) };
        let lanes = self.lanes.range(from..=to);
        lanes.flat_map(|(_, waiting)| waiting.requests.values().copied()).collect()
    }

    fn unlist_head(&mut self, lane: Lane) {
        if let Some(order) = self.first_order(lane) {
            self.heads.remove(&(order, lane));
        }
    }

    fn list_head(&mut self, lane: Lane) {
        if let Some(order) = self.first_order(lane) {
            self.heads.insert((order, lane));
        }
    }

    fn first_order(&self, lane: Lane) -> Option<Order> {
        Some(*self.lanes.get(&lane)?.requests.first_key_value()?.0)
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
        assert_eq!(queue.lanes().collect::<Vec<_>>(), [OTHER, LANE]);
        push(&mut queue, LANE, 1, 1, false);
        assert_eq!(queue.lanes().collect::<Vec<_>>(), [LANE, OTHER]);
        assert!(queue.remove(RequestId(1)).is_some());
        assert_eq!(queue.lanes().collect::<Vec<_>>(), [OTHER, LANE]);
        assert_eq!(queue.ids_of(ModelId(1)).len(), 2);
    }
}
