//! Checks of each action when it is taken.

use crate::world::World;
use schedule::*;
use std::collections::BTreeSet;
use std::time::Duration;

impl World {
    pub(crate) fn check_batch(&self, batch: &Batch) {
        let seed = self.seed;
        let most = self.models[&batch.model].max_rows;
        assert!((1..=most).contains(&batch.rows()), "{seed}: batch too large");
        let facts = |part: &Part| &self.requests[&part.request].arrival;
        let shapes: BTreeSet<_> = batch.parts.iter().map(|part| facts(part).shape).collect();
        assert_eq!(shapes.len(), 1, "{seed}: mixed shapes in a batch");
        let mut rows = BTreeSet::new();
        for part in &batch.parts {
            let (id, arrival) = (part.request, facts(part));
            assert_eq!(arrival.model, batch.model, "{seed}: wrong model");
            assert!(part.first + part.rows <= arrival.rows, "{seed}: rows beyond the request");
            assert!(!self.answered.contains_key(&id), "{seed}: {id:?} runs after its answer");
            assert!(!self.cancelled.contains(&id), "{seed}: {id:?} runs after its cancellation");
            let collected = self.ledger.collected.get(&id);
            for row in part.first..part.first + part.rows {
                assert!(rows.insert((id, row)), "{seed}: a row twice in one batch");
                let again = collected.is_some_and(|rows| rows.contains(&row));
                assert!(!again, "{seed}: {id:?} runs a row again that is answered");
            }
        }
        self.check_batching_delay(batch);
    }

    /// Checks that no request runs alone before its batching delay is over.
    fn check_batching_delay(&self, batch: &Batch) {
        let profile = &self.models[&batch.model];
        if let [part] = batch.parts[..]
            && part.rows < profile.max_rows
            // With several slots, a part that did not fit beside it is handed over in the same
            // turn.
            && self.slots == 1
            && self.workers.len() == 1
            && !self.ledger.parts.contains_key(&part.request)
            && !self.scheduler.is_closing()
            && self.scheduler.outstanding().queued.requests == 0
        {
            let due = self.ledger.arrived[&part.request] + profile.delay;
            assert!(self.now >= due, "{}: ran before its batching delay", self.seed);
        }
    }

    pub(crate) fn check_answer(&mut self, request: RequestId) {
        let (seed, arrival) = (self.seed, self.requests[&request].arrival);
        let rows = self.ledger.collected.get(&request).map_or(0, BTreeSet::len);
        assert_eq!(rows, arrival.rows as usize, "{seed}: partial answer to {request:?}");
        let late = arrival.deadline.is_some_and(|deadline| deadline < self.now);
        assert!(!late, "{seed}: {request:?} answered after its deadline");
        let sliced = self.sliced.entry(request).or_default();
        if *sliced == self.slices {
            return self.settle(request, None);
        }
        *sliced += 1;
        self.continue_later(request);
    }

    /// Posts the next time slice of a request, with none of its work done.
    fn continue_later(&mut self, request: RequestId) {
        self.ledger.collected.remove(&request);
        self.ledger.parts.remove(&request);
        let Some(facts) = self.requests.get_mut(&request) else { return };
        facts.arrival.continues = true;
        let next = Event::Arrived(facts.arrival);
        self.post(self.now, next);
    }

    pub(crate) fn check_reject(&mut self, request: RequestId, reason: Reject) {
        let (seed, facts) = (self.seed, &self.requests[&request]);
        let (handed, back, failed) = self.ledger.parts.get(&request).copied().unwrap_or_default();
        match reason {
            Reject::Input { batch } => {
                assert!(facts.poison, "{seed}: fault attributed to another request of the batch");
                let parts = &self.batches[&batch].parts;
                let alone = parts.iter().all(|part| part.request == request);
                assert!(alone, "{seed}: fault attributed to one of several requests");
            }
            Reject::RetriesExhausted { .. } => {
                let lost = handed - back - failed;
                assert!(lost > self.settings.retries_max, "{seed}: too few retries");
            }
            Reject::Deadline | Reject::Overload { .. } => {
                let deadline = facts.arrival.deadline;
                assert!(deadline.is_some(), "{seed}: rejected as late without a deadline");
            }
            Reject::ModelGone => {
                let served = self.models.contains_key(&facts.arrival.model);
                assert!(!served, "{seed}: {request:?} rejected though its model is served");
            }
            Reject::QueueFull { .. } => self.displaced.push(request),
            Reject::NoAdapter { .. }
            | Reject::ModelFailed
            | Reject::NoneHolds
            | Reject::ShuttingDown => {}
        }
        self.settle(request, Some(reason));
    }

    fn settle(&mut self, request: RequestId, outcome: Option<Reject>) {
        if self.cancelled.contains(&request) {
            return;
        }
        let before = self.answered.insert(request, outcome);
        assert_eq!(before, None, "{}: {request:?} answered twice", self.seed);
    }

    pub(crate) fn check_decision(&mut self, decision: &Decision) {
        let seed = self.seed;
        match decision.reason {
            Reason::IdleSurplus { wanted, on, lasted, .. } => {
                assert!(on > wanted, "{seed}: no surplus");
                let Policy::Concurrency { scale_down_delay, scale_to_zero_delay, .. } =
                    self.settings.policy
                else {
                    panic!("{seed}: the wrong policy")
                };
                let delay = if on == 1 { scale_to_zero_delay } else { scale_down_delay };
                assert!(lasted >= delay, "{seed}: began draining too early");
            }
            Reason::BreakEven { unneeded, .. } => {
                let start = self.scheduler.adapters().find(|(id, _)| *id == decision.adapter);
                let start = start.and_then(|(_, view)| view.cold_start).unwrap_or_default();
                let on_time_min = start.min(Duration::from_secs(1));
                assert!(unneeded >= on_time_min, "{seed}: stopped before its minimum on-time");
            }
            Reason::Backlog { wanted, on, .. } => assert!(wanted > on, "{seed}: no backlog"),
            Reason::Min { min, on } => assert!(min > on, "{seed}: started above the minimum"),
            Reason::Fault { backoff, .. } => {
                assert!(backoff <= self.settings.backoff_max, "{seed}: backoff without bound");
            }
            Reason::LatencyTarget { drain, target, rows, .. } => {
                assert!(rows > 0 && !target.is_zero(), "{seed}: started without waiting rows");
                if decision.change == Change::Start {
                    self.check_cap(decision.adapter, drain.is_none());
                }
            }
            Reason::Memory { needed: more, free: less }
            | Reason::MemoryBudget { held: more, budget: less } => {
                assert!(more > less, "{seed}: unloaded though memory is free");
                let since = self.last_unloaded.take().expect("something was unloaded");
                let stayed = self.now.since(since);
                assert!(stayed >= Duration::from_secs(1), "{seed}: unloaded after only {stayed:?}");
            }
            Reason::Cheaper { saved_mj, start_mj, .. } => {
                assert!(saved_mj >= start_mj, "{seed}: switched without a saving");
                self.check_cap(decision.adapter, false);
            }
            Reason::Expected { from, until, .. } => {
                assert!(from <= until && until > self.now, "{seed}: expected requests in the past");
                self.check_cap(decision.adapter, false);
            }
            Reason::Demand { .. }
            | Reason::Ahead
            | Reason::Bridge
            | Reason::NotBridged
            | Reason::NotExpected { .. }
            | Reason::DidNotCome
            | Reason::Served
            | Reason::Withdrawn
            | Reason::Operator
            | Reason::OutOfMemory
            | Reason::Environment
            | Reason::Fallback
            | Reason::Shutdown => {}
        }
    }

    /// Checks that the cap on activations holds unless no other adapter was on.
    fn check_cap(&self, adapter: AdapterId, alone: bool) {
        let Policy::Cost { starts_per_hour, .. } = self.settings.policy else { return };
        // An adapter that was started at the same time may have been started after this one.
        let was_on = |state: &State| {
            state.is_on() && !(state.is_starting() && state.since() == Some(self.now))
        };
        let others = self.scheduler.adapters().filter(|(id, a)| *id != adapter && was_on(a.state));
        if self.ledger.starts[&adapter] > starts_per_hour && others.count() > 0 && !alone {
            panic!("{}: {adapter:?} exceeds its starts per hour\n{}", self.seed, self.picture());
        }
    }

    pub(crate) fn check_spawn(&self, adapter: AdapterId) {
        let seed = self.seed;
        assert!(!self.workers.contains_key(&adapter), "{seed}: second worker on {adapter:?}");
        assert!(self.present.contains(&adapter), "{seed}: started an absent adapter");
        assert_ne!(
            self.modes.get(&adapter),
            Some(&AdapterMode::Off),
            "{seed}: started an adapter in mode off"
        );
        let going_down =
            self.scheduler.is_closing() && self.scheduler.outstanding().queued.requests == 0;
        // A request that cannot meet its deadline may be rejected right after the start that it
        // caused.
        let deadlines = self.faults.deadlines > 0;
        assert!(!going_down || deadlines, "{seed}: started during shutdown\n{}", self.picture());
        let until = self.ledger.not_before.get(&adapter).copied().unwrap_or_default();
        assert!(self.now >= until, "{seed}: restarted before the end of its backoff");
        if self.fallbacks.contains(&adapter) && self.modes.get(&adapter) != Some(&AdapterMode::On) {
            let usable = self.scheduler.adapters().any(|(id, a)| {
                !self.is_standby(id)
                    && self.present.contains(&id)
                    && a.mode != AdapterMode::Off
                    && !a.state.is_faulty()
            });
            assert!(!usable, "{seed}: a fallback started beside a usable adapter");
        }
    }
}
