//! What must hold of each action when it is taken.

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
        assert_eq!(shapes.len(), 1, "{seed}: shapes mixed");
        let mut rows = BTreeSet::new();
        for part in &batch.parts {
            let (id, arrival) = (part.request, facts(part));
            assert_eq!(arrival.model, batch.model, "{seed}: wrong model");
            assert!(part.first + part.rows <= arrival.rows, "{seed}: rows that are not there");
            assert!(!self.answered.contains_key(&id), "{seed}: {id:?} runs after its answer");
            assert!(!self.cancelled.contains(&id), "{seed}: {id:?} runs for nobody");
            let collected = self.ledger.collected.get(&id);
            for row in part.first..part.first + part.rows {
                assert!(rows.insert((id, row)), "{seed}: a row twice in one batch");
                let again = collected.is_some_and(|rows| rows.contains(&row));
                assert!(!again, "{seed}: {id:?} runs a row again that is answered");
            }
        }
        self.check_company(batch);
    }

    /// Nobody runs alone before he has waited for company.
    fn check_company(&self, batch: &Batch) {
        let profile = &self.models[&batch.model];
        if let [part] = batch.parts[..]
            && part.rows < profile.max_rows
            // What did not fit beside it is else handed over in the same turn.
            && self.slots == 1
            && self.workers.len() == 1
            && !self.ledger.parts.contains_key(&part.request)
            && !self.scheduler.is_closing()
            && self.scheduler.outstanding().queued.requests == 0
        {
            let due = self.ledger.arrived[&part.request] + profile.delay;
            assert!(self.now >= due, "{}: did not wait for company", self.seed);
        }
    }

    pub(crate) fn check_answer(&mut self, request: RequestId) {
        let (seed, arrival) = (self.seed, self.requests[&request].arrival);
        let rows = self.ledger.collected.get(&request).map_or(0, BTreeSet::len);
        assert_eq!(rows, arrival.rows as usize, "{seed}: {request:?} answered in part");
        let late = arrival.deadline.is_some_and(|deadline| deadline < self.now);
        assert!(!late, "{seed}: {request:?} answered after its deadline");
        let sliced = self.sliced.entry(request).or_default();
        if *sliced == self.slices {
            return self.settle(request, None);
        }
        *sliced += 1;
        self.continue_later(request);
    }

    /// The next time slice of a request, with nothing of it done.
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
                assert!(facts.poison, "{seed}: a neighbour was blamed");
                let parts = &self.batches[&batch].parts;
                let alone = parts.iter().all(|part| part.request == request);
                assert!(alone, "{seed}: blamed among others");
            }
            Reject::RetriesExhausted { .. } => {
                let lost = handed - back - failed;
                assert!(lost > self.settings.retries_max, "{seed}: gave up too early");
            }
            Reject::Deadline | Reject::Overload { .. } => {
                let deadline = facts.arrival.deadline;
                assert!(deadline.is_some(), "{seed}: late without a deadline");
            }
            Reject::ModelGone => {
                let served = self.models.contains_key(&facts.arrival.model);
                assert!(!served, "{seed}: {request:?} turned away from a model that is served");
            }
            Reject::QueueFull { .. } => self.crowded_out.push(request),
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
                assert!(lasted >= delay, "{seed}: let go too early");
            }
            Reason::BreakEven { unneeded, .. } => {
                let start = self.scheduler.adapters().find(|(id, _)| *id == decision.adapter);
                let start = start.and_then(|(_, view)| view.cold_start).unwrap_or_default();
                let breath = start.min(Duration::from_secs(1));
                assert!(unneeded >= breath, "{seed}: cycled within a breath");
            }
            Reason::Backlog { wanted, on, .. } => assert!(wanted > on, "{seed}: no backlog"),
            Reason::Min { min, on } => assert!(min > on, "{seed}: enough are on"),
            Reason::Fault { backoff, .. } => {
                assert!(backoff <= self.settings.backoff_max, "{seed}: backoff without bound");
            }
            Reason::LatencyTarget { drain, target, rows, .. } => {
                assert!(rows > 0 && !target.is_zero(), "{seed}: no need");
                if decision.change == Change::Start {
                    self.check_cap(decision.adapter, drain.is_none());
                }
            }
            Reason::Memory { needed: more, free: less }
            | Reason::Room { held: more, room: less } => {
                assert!(more > less, "{seed}: there is room");
                let since = self.last_unloaded.take().expect("something was unloaded");
                let stayed = self.now.since(since);
                assert!(stayed >= Duration::from_secs(1), "{seed}: thrashes: {stayed:?}");
            }
            Reason::Cheaper { saved_mj, start_mj, .. } => {
                assert!(saved_mj >= start_mj, "{seed}: switched for nothing");
                self.check_cap(decision.adapter, false);
            }
            Reason::Expected { from, until, .. } => {
                assert!(from <= until && until > self.now, "{seed}: expects the past");
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

    /// The cap on activations holds unless nothing else was on.
    fn check_cap(&self, adapter: AdapterId, alone: bool) {
        let Policy::Cost { starts_per_hour, .. } = self.settings.policy else { return };
        // Who is started in the same moment may have been started behind it.
        let was_on = |state: &State| {
            state.is_on() && !(state.is_starting() && state.since() == Some(self.now))
        };
        let others = self.scheduler.adapters().filter(|(id, a)| *id != adapter && was_on(a.state));
        if self.ledger.starts[&adapter] > starts_per_hour && others.count() > 0 && !alone {
            panic!("{}: {adapter:?} is cycled for nothing\n{}", self.seed, self.picture());
        }
    }

    pub(crate) fn check_spawn(&self, adapter: AdapterId) {
        let seed = self.seed;
        assert!(!self.workers.contains_key(&adapter), "{seed}: second worker on {adapter:?}");
        assert!(self.present.contains(&adapter), "{seed}: started what is not there");
        assert_ne!(self.wishes.get(&adapter), Some(&Wish::Off), "{seed}: started against the wish");
        let going_down =
            self.scheduler.is_closing() && self.scheduler.outstanding().queued.requests == 0;
        // Who cannot make a deadline may be turned away right behind the start that he caused.
        let hurry = self.weather.hurry > 0;
        assert!(!going_down || hurry, "{seed}: started while going down\n{}", self.picture());
        let until = self.ledger.not_before.get(&adapter).copied().unwrap_or_default();
        assert!(self.now >= until, "{seed}: tried again too early");
        if self.fallbacks.contains(&adapter) && self.wishes.get(&adapter) != Some(&Wish::On) {
            let usable = self.scheduler.adapters().any(|(id, a)| {
                !self.stands_by(id)
                    && self.present.contains(&id)
                    && a.wish != Wish::Off
                    && !a.state.is_faulty()
            });
            assert!(!usable, "{seed}: a fallback started beside a usable adapter");
        }
    }
}
