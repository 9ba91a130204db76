//! Planned events of a world: arrivals, the operator, changes of hardware and models, the end.

use crate::rng::Rng;
use crate::world::{HEARTBEAT, RequestFacts, World};
use schedule::*;
use std::time::Duration;

impl World {
    /// Writes the script of the world.
    pub(crate) fn script(&mut self, requests: u64, shutdown: bool) {
        for id in (0..1 + self.rng.below(5)).map(|n| AdapterId(n as u32)) {
            let fallback = id.0 == 0 && self.rng.percent(30);
            if fallback {
                self.fallbacks.insert(id);
            }
            let bridge = id.0 == 1 && self.rng.percent(30);
            if bridge {
                self.bridges.insert(id);
            }
            let role = match (bridge, fallback) {
                (true, _) => Role::Bridge,
                (_, true) => Role::Fallback,
                _ => Role::Regular,
            };
            let profile = World::adapter(&mut self.rng, role, self.slots);
            self.profiles.insert(id, profile);
        }
        let listed = self.after(0, 50);
        let ids: Vec<_> = self.profiles.keys().copied().collect();
        self.list(listed, &ids);
        if self.rng.percent(30) {
            self.remember(listed, &ids);
        }
        let mut at = listed;
        for request in (0..requests).map(RequestId) {
            at = at + if self.rng.percent(10) { self.rng.ms(0, 400) } else { self.rng.ms(0, 4) };
            self.arrival(at, request);
            if self.rng.percent(self.faults.operator) {
                let adapter = ids[self.rng.below(ids.len() as u64) as usize];
                let mode = [AdapterMode::Auto, AdapterMode::On, AdapterMode::Off]
                    [self.rng.below(3) as usize];
                self.post(at, Event::ModeSet { adapter, mode });
            }
            if self.rng.percent(self.faults.change) {
                self.change(at, &ids);
            }
            if self.rng.percent(3) {
                let model = ModelId(self.rng.below(self.all_models.len() as u64) as u32);
                let (client, within) = (ClientId(self.rng.below(3)), self.rng.ms(0, 2000));
                self.post(at, Event::Announced { model, client, within });
            }
        }
        for adapter in &ids {
            self.post(at, Event::ModeSet { adapter: *adapter, mode: AdapterMode::Auto });
        }
        self.exclude(at, Vec::new(), &ids);
        if shutdown {
            let deadline = at + Duration::from_millis(500);
            self.post(at, Event::Shutdown { deadline });
            self.shutdown = true;
            for late in (requests..requests + 3).map(RequestId) {
                self.arrival(at + Duration::from_millis(1), late);
            }
        }
    }

    /// Posts the estimates of an earlier run, which may be wrong.
    fn remember(&mut self, at: Time, ids: &[AdapterId]) {
        for adapter in ids.iter().copied() {
            let times = |rng: &mut Rng| (0..rng.below(20)).map(|_| rng.ms(0, 4000)).collect();
            let starts: Vec<Duration> = times(&mut self.rng);
            let idle_periods =
                starts.iter().map(|spell| (*spell, self.rng.ms(0, 100_000))).collect();
            let late_permille = Some(self.rng.below(20_000) as u32);
            let helped = Some((self.rng.ms(0, 1_000_000), self.rng.ms(0, 4_000_000)));
            let known = LearnedProfile {
                late_permille,
                idle_periods,
                helped,
                starts,
                ..Default::default()
            };
            self.post(at, Event::ProfileRestored { adapter, profile: known });
        }
        let model = ModelId(self.rng.below(self.all_models.len() as u64) as u32);
        let gap = self.rng.ms(50, 5000);
        let client = LearnedClient {
            client: Some(ClientId(self.rng.below(3))),
            model,
            began: Some(self.rng.ms(0, 10_000)),
            ended: self.rng.ms(0, 10_000),
            pauses: vec![gap; 8],
            periods: vec![gap; 8],
            inner_pauses: vec![self.rng.ms(0, 100); 8],
            late_permille: self.rng.below(10_000) as u32,
        };
        let all = LearnedClient { client: None, ..client.clone() };
        let policy = LearnedPolicy {
            late_price: Some((self.rng.below(20_000_000) as i64, self.rng.below(1_000_000))),
            models: vec![(model, self.rng.below(100_000), self.rng.ms(0, 10_000))],
            clients: vec![all, client],
        };
        let down = self.rng.ms(0, 100);
        self.post(at, Event::PolicyRestored { policy, down });
    }

    fn list(&mut self, at: Time, ids: &[AdapterId]) {
        let adapters = ids.iter().map(|id| (*id, self.profiles[id])).collect();
        self.post(at, Event::Discovered { adapters });
    }

    /// Excludes adapters at the operator's request and lists the adapters again.
    fn exclude(&mut self, at: Time, adapters: Vec<AdapterId>, ids: &[AdapterId]) {
        self.post(at, Event::Excluded { adapters });
        self.list(at, ids);
    }

    /// Posts a change of the environment of the scheduler.
    fn change(&mut self, at: Time, ids: &[AdapterId]) {
        let adapter = ids[self.rng.below(ids.len() as u64) as usize];
        let later = at + self.rng.ms(1, 300);
        match self.rng.below(10) {
            // Other programs take memory, take more of it, or release it.
            0..3 => {
                let bytes = self.rng.percent(80).then(|| self.rng.below(60));
                self.post(at, Event::MemoryBudget { adapter, bytes });
            }
            // A card is removed and returns.
            3..5 => {
                let rest: Vec<_> = ids.iter().copied().filter(|id| *id != adapter).collect();
                self.list(at, &rest);
                self.list(later, ids);
            }
            5 => {
                self.exclude(at, vec![adapter], ids);
                self.exclude(later, Vec::new(), ids);
            }
            6 | 7 => self.configure(at),
            _ => self.reload(at),
        }
    }

    /// Posts other settings, except those that are only read at startup.
    fn configure(&mut self, at: Time) {
        let mut settings = World::settings(&mut self.rng);
        let Timeouts { heartbeat, stop, kill, .. } = self.settings.timeouts;
        settings.timeouts = Timeouts { heartbeat, stop, kill, ..settings.timeouts };
        let model = ModelId(self.rng.below(self.all_models.len() as u64) as u32);
        let profile = ModelProfile { slo: self.rng.ms(5, 300), ..self.all_models[&model] };
        self.post(at, Event::ModelAdded { model, profile });
        self.post(at, Event::Configured { settings });
    }

    /// Posts the return of a model under a new number.
    fn reload(&mut self, at: Time) {
        let old = ModelId(self.rng.below(self.all_models.len() as u64) as u32);
        let model = ModelId(self.all_models.len() as u32);
        let profile = World::model(&mut self.rng);
        self.all_models.insert(model, profile);
        self.post(at, Event::ModelAdded { model, profile });
        let later = at + self.rng.ms(0, 20);
        self.post(later, Event::ModelRemoved { model: old });
    }

    fn arrival(&mut self, at: Time, request: RequestId) {
        let model = ModelId(self.rng.below(self.all_models.len() as u64) as u32);
        let most = self.all_models[&model].max_rows;
        // Most fit into a batch, some are split.
        let rows = if self.rng.percent(10) { most * 4 } else { most };
        let rows = 1 + self.rng.below(u64::from(rows)) as u32;
        let shape = Shape { number: self.rng.below(2), size: 8 };
        let priority = [0, 0, 0, 1, 500][self.rng.below(5) as usize];
        let deadlines = self.rng.percent(self.faults.deadlines);
        let deadline = deadlines
            .then(|| at + [self.rng.ms(0, 20), self.rng.ms(20, 900)][self.rng.below(2) as usize]);
        let poison = self.rng.percent(self.faults.poison);
        // Half of them are of one client.
        let client = ClientId(self.rng.below(6).saturating_sub(3));
        let arrival =
            Arrival { request, model, client, shape, rows, priority, deadline, continues: false };
        self.requests.insert(request, RequestFacts { arrival, poison });
        self.post(at, Event::Arrived(arrival));
        if self.rng.percent(self.faults.cancel) {
            let later = at + self.rng.ms(0, 50);
            self.post(later, Event::Cancelled { request });
        }
    }

    /// Applies the event to the world; `None` if its sender no longer exists.
    pub(crate) fn happen(&mut self, event: Event) -> Option<Event> {
        let event = self.apply(event)?;
        match &event {
            Event::Arrived(arrival) => {
                self.ledger.arrived.insert(arrival.request, self.now);
            }
            Event::Discovered { adapters } => {
                self.ledger.discovered = true;
                self.present = adapters.iter().map(|(id, _)| *id).collect();
            }
            Event::Shutdown { deadline } => self.ledger.deadline = Some(*deadline),
            Event::Heartbeat { adapter, incarnation }
            | Event::Progress { adapter, incarnation }
            | Event::Ready { adapter, incarnation, .. }
            | Event::Loaded { adapter, incarnation, .. }
            | Event::LoadFailed { adapter, incarnation, .. }
            | Event::Done { adapter, incarnation, .. }
            | Event::Failed { adapter, incarnation, .. } => {
                let lives = self.workers.get(adapter);
                let lives = lives.is_some_and(|worker| worker.incarnation == *incarnation);
                self.ledger.alive.extend(lives.then_some((*adapter, self.now)));
            }
            Event::Exited { adapter, .. }
            | Event::NotStarted { adapter, .. }
            | Event::OutOfMemory { adapter, .. } => {
                if let Some(wait) = self.ledger.pending_backoff.remove(adapter) {
                    self.ledger.not_before.insert(*adapter, self.now + wait);
                }
            }
            _ => {}
        }
        Some(event)
    }

    fn apply(&mut self, mut event: Event) -> Option<Event> {
        if let Event::Discovered { adapters } = &mut event {
            adapters.retain(|(id, _)| !self.excluded.contains(id));
        }
        match &event {
            Event::Cancelled { request } => {
                self.cancelled.insert(*request);
            }
            Event::ModelAdded { model, .. } if self.withdrawn.contains(model) => return None,
            Event::ModelAdded { model, profile } => {
                self.models.insert(*model, *profile);
                self.all_models.insert(*model, *profile);
            }
            Event::Configured { settings } => {
                self.settings = settings.clone();
                // The end of the backoff is computed again when the process has exited.
                let owed: Vec<_> = self.ledger.pending_backoff.keys().copied().collect();
                let waits = owed.iter().map(|id| (*id, self.backoff(self.ledger.faults[id])));
                self.ledger.pending_backoff = waits.collect();
            }
            Event::Excluded { adapters } => {
                self.excluded = adapters.iter().copied().collect();
                self.present.retain(|id| !self.excluded.contains(id));
            }
            Event::ModelRemoved { model } => {
                self.models.remove(model);
                self.withdrawn.insert(*model);
            }
            Event::ModeSet { adapter, mode } => {
                // Before the adapters are known, the API cannot name one.
                self.scheduler.adapters().find(|(id, _)| id == adapter)?;
                self.modes.insert(*adapter, *mode);
            }
            Event::Progress { adapter, incarnation }
            | Event::NoMemory { adapter, incarnation, .. }
            | Event::Faulted { adapter, incarnation, .. } => {
                self.live_worker(*adapter, *incarnation)?;
            }
            Event::Ready { adapter, incarnation, .. } => {
                self.live_worker(*adapter, *incarnation)?.ready = true;
            }
            Event::Loaded { adapter, incarnation, model, bytes, .. } => {
                let now = self.now;
                let worker = self.live_worker(*adapter, *incarnation)?;
                worker.loading.take_if(|loading| loading == model)?;
                worker.loaded.insert(*model, (*bytes, now));
            }
            Event::LoadFailed { adapter, incarnation, model, .. } => {
                let worker = self.live_worker(*adapter, *incarnation)?;
                worker.loading.take_if(|loading| loading == model)?;
            }
            Event::Heartbeat { adapter, incarnation } => {
                self.live_worker(*adapter, *incarnation)?;
                self.post(self.now + HEARTBEAT, event.clone());
            }
            Event::Done { .. } | Event::Failed { .. } => self.batch_ends(&event)?,
            Event::Exited { adapter, incarnation }
            | Event::NotStarted { adapter, incarnation }
            | Event::OutOfMemory { adapter, incarnation, .. } => {
                let worker = self.workers.get(adapter)?;
                if worker.incarnation != *incarnation {
                    return None;
                }
                self.workers.remove(adapter);
                if matches!(event, Event::OutOfMemory { .. }) {
                    self.refused_until = self.now + self.settings.backoff_max;
                }
                if matches!(event, Event::NotStarted { .. }) {
                    self.starts_blocked = true;
                    // It was not an activation; the server tries by itself until a process starts.
                    *self.ledger.starts.entry(*adapter).or_default() -= 1;
                    let works = self.now.0.as_millis().is_multiple_of(2);
                    let at = self.now + Duration::from_millis(50);
                    self.post(at, Event::StartTried { works });
                    self.post(at + Duration::from_millis(900), Event::StartTried { works: true });
                }
            }
            Event::StartTried { works } => self.starts_blocked = !works,
            Event::ProfileRestored { .. }
            | Event::PolicyRestored { .. }
            | Event::Announced { .. }
            | Event::MemoryBudget { .. }
            | Event::Discovered { .. }
            | Event::Arrived { .. }
            | Event::Timeout
            | Event::Shutdown { .. } => {}
        }
        Some(event)
    }
}
