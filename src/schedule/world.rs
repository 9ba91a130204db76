//! The state that decisions depend on.

use super::adapter::Adapter;
use super::arrival_rate::ArrivalRate;
use super::bridge_periods::BridgePeriods;
use super::expected::ClientRecords;
use super::ids::{AdapterId, BatchId, Incarnation, ModelId, Time};
use super::late_price::LatePrice;
use super::policy::{Goal, Load, Outstanding, Policy};
use super::popularity::Popularity;
use super::queue::Queue;
use super::settings::{ModelProfile, Settings};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Knowledge of the scheduler: settings, models, adapters, requests and learned values.
#[derive(Debug)]
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) models: BTreeMap<ModelId, ModelProfile>,
    pub(super) adapters: BTreeMap<AdapterId, Adapter>,
    /// Every adapter, best first: by class, then by measured speed.
    pub(super) order: Vec<AdapterId>,
    pub(super) queue: Queue,
    /// Adapters have been listed.
    pub(super) discovered: bool,
    pub(super) surplus_since: Option<Time>,
    /// Time at which rows that wait beside an idle adapter are considered again.
    pub(super) recheck_at: Option<Time>,
    /// Latest time at which an adapter must be turned on for the waiting rows.
    pub(super) start_at: Option<Time>,
    pub(super) late_price: LatePrice,
    pub(super) arrivals: ArrivalRate,
    pub(super) bridge_periods: BridgePeriods,
    pub(super) popularity: Popularity,
    pub(super) clients: ClientRecords,
    /// An unreliable adapter has just failed again.
    pub(super) failed_again: bool,
    /// No process can be started, for a cause in the server's environment; no adapter is turned on
    /// meanwhile.
    pub(super) starts_blocked: bool,
    /// Number of attempts to start a worker that failed for such causes since one was ready.
    pub(super) failed_starts: u32,
    /// Set at shutdown: time until which admitted requests may still be served.
    pub(super) closing: Option<Time>,
    pub(super) numbers: Numbers,
}

/// Numbers that are used only once.
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
            recheck_at: None,
            start_at: None,
            late_price: LatePrice::default(),
            arrivals: ArrivalRate::default(),
            bridge_periods: BridgePeriods::default(),
            popularity: Popularity::default(),
            clients: ClientRecords::default(),
            failed_again: false,
            starts_blocked: false,
            failed_starts: 0,
            closing: None,
            numbers: Numbers::default(),
        }
    }

    /// Returns the adapter, if the message is of its present incarnation.
    pub(super) fn current(
        &mut self,
        id: AdapterId,
        incarnation: Incarnation,
    ) -> Option<&mut Adapter> {
        self.adapters.get_mut(&id).filter(|adapter| adapter.incarnation == incarnation)
    }

    /// Returns every adapter, best first.
    pub(super) fn best_first(&self) -> Vec<AdapterId> {
        self.order.clone()
    }

    /// Updates `order`: by class, then by measured speed, then by id.
    pub(super) fn sort(&mut self) {
        let key = |id: &AdapterId| {
            let adapter = self.adapters.get(id);
            // The speed is 0 until it is measured, so that new adapters come last in their class.
            (adapter.map(|a| a.profile.rank), Reverse(adapter.map(|a| a.speed)), *id)
        };
        let mut order: Vec<_> = self.adapters.keys().copied().collect();
        order.sort_by_key(key);
        self.order = order;
    }

    /// Returns whether rows go to the adapters that need the least energy for them, as long as they
    /// meet the target there, instead of to those that serve them earliest.
    pub(super) fn prefers_energy(&self) -> bool {
        matches!(self.goal(), Some(Goal::Balanced | Goal::Energy)) && self.closing.is_none()
    }

    /// Returns whether short answer times come first.
    pub(super) fn prefers_latency(&self) -> bool {
        self.goal() == Some(Goal::Latency)
    }

    /// Returns whether rows should wait for larger batches as long as they may.
    pub(super) fn delays_batches(&self) -> bool {
        self.goal() == Some(Goal::Energy)
    }

    /// Returns the queued and the in-flight work.
    pub(super) fn outstanding(&self) -> Outstanding {
        let queue = &self.queue;
        Outstanding {
            queued: Load { rows: queue.rows(), requests: queue.len() as u64 },
            in_flight: Load { rows: queue.in_flight_rows(), requests: queue.in_flight() as u64 },
        }
    }

    /// Returns the sum of both.
    pub(super) fn load(&self) -> Load {
        let outstanding = self.outstanding();
        Load {
            rows: outstanding.queued.rows + outstanding.in_flight.rows,
            requests: outstanding.queued.requests + outstanding.in_flight.requests,
        }
    }

    fn goal(&self) -> Option<Goal> {
        match self.settings.policy {
            Policy::Cost { goal, .. } | Policy::Manual { goal } => Some(goal),
            Policy::Concurrency { .. } => None,
        }
    }
}
