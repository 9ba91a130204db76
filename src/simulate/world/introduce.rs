//! The events that introduce the simulated adapters to the scheduler before the trace begins.

use super::{FOREVER, Options, Plant, RestartState, SimulatedWorld, duration, speed};
use crate::fleet::Machine;
use crate::mix::{Mix, Times};
use schedule::{
    AdapterId, AdapterProfile, Event, LearnedDuration, LearnedProfile, LearnedReplica, ModelId,
    Power, Role, ServiceTime, Settings, Time, Timeouts,
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
        quarantine_wait_max: FOREVER,
        early_starts: options.ahead,
        timeouts: Timeouts {
            heartbeat: FOREVER,
            start: FOREVER,
            run: FOREVER,
            stop: FOREVER,
            kill: FOREVER,
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
            let profile = learned.unwrap_or_else(|| self.learned_profile(at));
            self.happen(Time::default(), Event::ProfileRestored { adapter, profile });
        }
        if let Some(RestartState { policy, down, .. }) = options.learned.clone() {
            self.happen(Time::default(), Event::PolicyRestored { policy, down });
        }
    }

    fn learned_profile(&self, at: usize) -> LearnedProfile {
        let Some(plant) = self.plants.get(at) else { return LearnedProfile::default() };
        let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
        let replica = |(at, times): (usize, &Times)| {
            let (alpha_ns, beta_ns) = (nanoseconds(times.alpha_s), nanoseconds(times.beta_s));
            let service_times = vec![(0, ServiceTime { alpha_ns, beta_ns, spread_permille: 0 })];
            let load = Some(LearnedDuration { time: duration(times.load_s), estimated: false });
            let bytes = Some(times.bytes);
            (
                ModelId(at as u32),
                LearnedReplica { load, bytes, service_times, ..LearnedReplica::default() },
            )
        };
        let replicas = plant.times.iter().enumerate().map(replica).collect();
        LearnedProfile {
            cold_start: Some(duration(plant.cold_start)),
            replicas,
            ..LearnedProfile::default()
        }
    }
}

fn milliwatts(watts: f64) -> u64 {
    (watts * 1e3) as u64
}
