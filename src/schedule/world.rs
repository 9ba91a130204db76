//! Everything that decisions depend on.

use super::adapter::Adapter;
use super::arrival_rate::ArrivalRate;
use super::bridge_spells::BridgeSpells;
use super::expected::Ahead;
use super::ids::{AdapterId, BatchId, Incarnation, ModelId, Time};
use super::misses::Misses;
use super::policy::{Goal, Load, Outstanding, Policy};
use super::popularity::Popularity;
use super::queue::Queue;
use super::settings::{ModelProfile, Settings};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What the scheduler knows: of its settings, of models, adapters and requests, and what it learned.
#[derive(Debug)]
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) models: BTreeMap<ModelId, ModelProfile>,
    pub(super) adapters: BTreeMap<AdapterId, Adapter>,
    /// Every adapter, best first: by class, then by measured speed.
    pub(super) order: Vec<AdapterId>,
    pub(super) queue: Queue,
    /// Whether adapters were listed at all.
    pub(super) discovered: bool,
    pub(super) surplus_since: Option<Time>,
    /// When what waits beside an idle adapter is looked at again.
    pub(super) look_again: Option<Time>,
    /// When an adapter must be turned on at the latest for what waits.
    pub(super) start_at: Option<Time>,
    pub(super) misses: Misses,
    pub(super) arrivals: ArrivalRate,
    pub(super) bridge_spells: BridgeSpells,
    pub(super) popularity: Popularity,
    pub(super) ahead: Ahead,
    /// Whether an adapter has just failed that had failed again and again before.
    pub(super) failed_again: bool,
    /// Whether no process can be started, for a cause in the server's environment; no adapter is
    /// turned on meanwhile.
    pub(super) starts_blocked: bool,
    /// Attempts to start a worker that failed for such causes, since one was ready.
    pub(super) failed_starts: u32,
    /// Set once the server goes down: until when admitted requests may still be served.
    pub(super) closing: Option<Time>,
    pub(super) numbers: Numbers,
}

/// What is given out once and never again.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub(super) request: u64,
    pub(super) batch: u64,
    pub(super) group: u64,
}

impl Numbers {
    pub(super) fn next_batch(&mut self) -> BatchId {
        self.batch += 1;
        BatchId(self.batch)
    }

    pub(super) fn next_group(&mut self) -> u64 {
        self.group += 1;
        self.group
    }
}

impl World {
    pub(super) fn new(settings: Settings, models: BTreeMap<ModelId, ModelProfile>) -> World {
        World {
            queue: Queue::new(&models, &settings),
            settings,
            models,
            adapters: BTreeMap::new(),
            order: Vec::new(),
            discovered: false,
            surplus_since: None,
            look_again: None,
            start_at: None,
            misses: Misses::default(),
            arrivals: ArrivalRate::default(),
            bridge_spells: BridgeSpells::default(),
            popularity: Popularity::default(),
            ahead: Ahead::default(),
            failed_again: false,
            starts_blocked: false,
            failed_starts: 0,
            closing: None,
            numbers: Numbers::default(),
        }
    }

    /// The adapter, if the message is of its present life.
    pub(super) fn current(
        &mut self,
        id: AdapterId,
        incarnation: Incarnation,
    ) -> Option<&mut Adapter> {
        self.adapters.get_mut(&id).filter(|adapter| adapter.incarnation == incarnation)
    }

    /// Every adapter, best first.
    pub(super) fn best_first(&self) -> Vec<AdapterId> {
        self.order.clone()
    }

    /// Brings `order` up to date: by class, then by measured speed, then by id.
    pub(super) fn sort(&mut self) {
        let key = |id: &AdapterId| {
            let adapter = self.adapters.get(id);
            (adapter.map(|a| a.profile.rank), Reverse(adapter.map(|a| a.speed)), *id)
        };
        let mut order: Vec<_> = self.adapters.keys().copied().collect();
        order.sort_by_key(key);
        self.order = order;
    }

    /// Whether rows go to the adapters that take the least energy for them, as long as they make
    /// the target there; not to where they are served soonest.
    pub(super) fn packs(&self) -> bool {
        matches!(self.goal(), Some(Goal::Balanced | Goal::Energy)) && self.closing.is_none()
    }

    /// Whether short answer times come first.
    pub(super) fn hurries(&self) -> bool {
        self.goal() == Some(Goal::Latency)
    }

    /// Whether rows should wait for company as long as they may.
    pub(super) fn waits_for_company(&self) -> bool {
        self.goal() == Some(Goal::Energy)
    }

    /// What is queued and in flight.
    pub(super) fn outstanding(&self) -> Outstanding {
        let queue = &self.queue;
        Outstanding {
            queued: Load { rows: queue.rows(), requests: queue.len() as u64 },
            in_flight: Load { rows: queue.flying_rows(), requests: queue.flying() as u64 },
        }
    }

    /// The same together.
    pub(super) fn load(&self) -> Load {
        let outstanding = self.outstanding();
        Load {
            rows: outstanding.queued.rows + outstanding.in_flight.rows,
            requests: outstanding.queued.requests + outstanding.in_flight.requests,
        }
    }

    fn goal(&self) -> Option<Goal> {
        match self.settings.policy {
            Policy::Cost { goal, .. } | Policy::ByHand { goal } => Some(goal),
            Policy::Concurrency { .. } => None,
        }
    }
}
