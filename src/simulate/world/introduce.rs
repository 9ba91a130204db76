//! The events that introduce the simulated adapters to the scheduler before the trace begins.

use super::{FOREVER, Options, Plant, RestartState, SimulatedWorld, duration, speed};
use crate::fleet::Machine;
use crate::mix::{Mix, Times};
use schedule::{
    AdapterId, AdapterProfile, Bounds, Event, Line, ModelId, Power, Recollection, ReplicaMemory,
    Role, Settings, Time, Took,
};

pub(super) fn settings(options: &Options) -> Settings {
    Settings {
        policy: options.policy,
        min: options.min,
        max: usize::MAX,
        queue_requests_max: usize::MAX,
        queue_rows_max: u64::MAX,
        retries_max: 0,
        backoff: FOREVER,
        backoff_max: FOREVER,
        patience: FOREVER,
        ahead: options.ahead,
        bounds: Bounds {
            silence: FOREVER,
            start: FOREVER,
            run: FOREVER,
            stop: FOREVER,
            reap: FOREVER,
        },
    }
}

impl SimulatedWorld<'_> {
    /// Reports the adapters to the scheduler, and what an earlier run would have learned of them.
    pub(super) fn introduce(&mut self, mix: &Mix, options: &Options) {
        let profile = |(at, (plant, machine)): (usize, (&Plant, &Machine))| {
            let memory = mix.adapters.get(at).and_then(|adapter| adapter.memory_bytes);
            let power = Power {
                idle_mw: milliwatts(machine.idle_w),
                active_mw: milliwatts(machine.active_w),
                start_mw: milliwatts(machine.start_w),
            };
            let (speed, cold_start) = (speed(machine), duration(plant.cold_start));
            let is_cpu = mix.adapters.get(at).is_some_and(|adapter| adapter.cpu);
            let role = if is_cpu { options.cpu } else { Role::Regular };
            let profile =
                AdapterProfile { rank: 0, role, speed, cold_start, power, memory, slots: 1 };
            (AdapterId(at as u32), profile)
        };
        let adapters = self.plants.iter().zip(&self.machines).enumerate().map(profile).collect();
        self.handle(Time::default(), Event::Discovered { adapters });
        for at in 0..self.plants.len() {
            let adapter = AdapterId(at as u32);
            let learned = options.learned.as_ref().and_then(|it| it.adapters.get(at).cloned());
            let memory = learned.unwrap_or_else(|| self.recollection(at));
            self.happen(Time::default(), Event::Recalled { adapter, memory });
        }
        if let Some(RestartState { policy, down, .. }) = options.learned.clone() {
            self.happen(Time::default(), Event::Learned { policy, down });
        }
    }

    fn recollection(&self, at: usize) -> Recollection {
        let Some(plant) = self.plants.get(at) else { return Recollection::default() };
        let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
        let replica = |(at, times): (usize, &Times)| {
            let (alpha_ns, beta_ns) = (nanoseconds(times.alpha_s), nanoseconds(times.beta_s));
            let lines = vec![(0, Line { alpha_ns, beta_ns, spread_permille: 0 })];
            let load = Some(Took { time: duration(times.load_s), estimated: false });
            let bytes = Some(times.bytes);
            (ModelId(at as u32), ReplicaMemory { load, bytes, lines, ..ReplicaMemory::default() })
        };
        let replicas = plant.times.iter().enumerate().map(replica).collect();
        Recollection {
            cold_start: Some(duration(plant.cold_start)),
            replicas,
            ..Recollection::default()
        }
    }
}

fn milliwatts(watts: f64) -> u64 {
    (watts * 1e3) as u64
}
