//! Rate of requests for each model.

use super::ids::{ModelId, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// Time constant of the rate of requests, in seconds.
pub(super) const AVERAGED: f64 = 3600.0;
/// A pause of this many mean gaps lowers the rate of a model. With requests at random, one in 150
/// arrives after such a pause.
pub(super) const PAUSE: f64 = 5.0;

/// Rate of requests for each model.
#[derive(Debug, Default)]
pub(super) struct Popularity {
    /// Exponentially decaying count of requests, and the time of the last one in seconds, which is
    /// negative before the server started.
    requests: BTreeMap<ModelId, (f64, f64)>,
}

impl Popularity {
    /// Records a request for a model.
    pub(super) fn note(&mut self, now: Time, model: ModelId) {
        let now = now.0.as_secs_f64();
        let (count, at) = self.requests.entry(model).or_insert((0.0, now));
        *count = 1.0 + *count * ((*at - now) / AVERAGED).exp();
        *at = now;
    }

    pub(super) fn forget(&mut self, model: ModelId) {
        self.requests.remove(&model);
    }

    /// Returns requests per second.
    pub(super) fn rate(&self, now: Time, model: ModelId) -> f64 {
        let Some((count, at)) = self.requests.get(&model) else { return 0.0 };
        let pause = now.0.as_secs_f64() - at;
        let rate = count * (-pause / AVERAGED).exp() / AVERAGED;
        rate.min(PAUSE / pause.max(1e-9))
    }

    /// Returns whether the model was requested in the last hour.
    pub(super) fn is_recent(&self, now: Time, model: ModelId) -> bool {
        let recent = |(_, at): &(f64, f64)| now.0.as_secs_f64() - at < AVERAGED;
        self.requests.get(&model).is_some_and(recent)
    }

    /// Returns the values to keep for the next run of the server.
    pub(super) fn learned(&self, now: Time) -> Vec<(ModelId, u64, Duration)> {
        let ago = |at: f64| Duration::from_secs_f64((now.0.as_secs_f64() - at).clamp(0.0, 1e9));
        let learned = |(model, (count, at)): (&ModelId, &(f64, f64))| {
            (*model, (count * 1e3) as u64, ago(*at))
        };
        self.requests.iter().map(learned).collect()
    }

    /// Restores the values of an earlier run for a model without requests in this one.
    pub(super) fn restore(&mut self, now: Time, model: ModelId, (count, ago): (u64, Duration)) {
        let at = now.0.as_secs_f64() - ago.as_secs_f64();
        self.requests.entry(model).or_insert((count as f64 * 1e-3, at));
    }
}
