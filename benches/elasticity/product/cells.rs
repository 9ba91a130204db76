//! The product's own defaults: adapters with absolute start times, a target of 100 ms, 2 ms for a
//! batch and 2 ms for each row on the fastest one. Powers and speeds are assumed by class.

use schedule::{Goal, Policy};
use simulate::laws::{Spec, idle};
use simulate::{
    ANY_MODEL, AdapterInMix, Mix, ModelInMix, Options, Outcome, Run, Times, Trace, simulate,
};
use std::collections::BTreeMap;

/// The default latency target, in seconds.
pub(crate) const SLO: f64 = 0.1;
/// Seconds of a batch without its rows, and of each row, at speed 1.
const SERVICE: f64 = 0.002;
const MAX_ROWS: u32 = 32;
/// Seconds from off to serving, as measured on an H100.
pub(crate) const START: f64 = 1.06;

pub(crate) const MIXES: [&str; 3] = ["fast+slow", "equal", "unequal"];

/// The settings of an unconfigured server.
pub(crate) fn defaults() -> Policy {
    Policy::Cost {
        goal: Goal::Balanced,
        price_mj: 2_000,
        late_penalty_mj: 750_000,
        starts_per_hour: 600,
    }
}

/// Name, speed, seconds of a start, watts idle, active and starting.
fn card(name: &str, speed: f64, start: f64, [idle_w, active_w, start_w]: [f64; 3]) -> AdapterInMix {
    adapter(name, SERVICE / speed, start, [idle_w, active_w, start_w])
}

fn adapter(
    name: &str,
    service: f64,
    cold_start_s: f64,
    [idle_w, active_w, start_w]: [f64; 3],
) -> AdapterInMix {
    let times = Times { alpha_s: service, beta_s: service, load_s: 0.0, bytes: 0 };
    AdapterInMix {
        name: name.to_owned(),
        cold_start_s,
        idle_w,
        active_w,
        start_w,
        stop_s: 0.0,
        cpu: false,
        slowed_by_starts: 1.0,
        memory_bytes: None,
        models: BTreeMap::from([(ANY_MODEL.to_owned(), times)]),
    }
}

pub(crate) fn fast(name: &str) -> AdapterInMix {
    card(name, 1.0, START, [20.0, 200.0, 60.0])
}

/// Returns the CPU, with `row_s` seconds for one row.
pub(crate) fn cpu(row_s: f64) -> AdapterInMix {
    let cpu = adapter("cpu", row_s / 2.0, 0.06, [0.0, 60.0, 20.0]);
    AdapterInMix { cpu: true, ..cpu }
}

pub(crate) fn mix(name: &str) -> Mix {
    let adapters = match name {
        "fast" => vec![fast("fast")],
        "fast+slow" => vec![fast("fast"), card("igpu", 0.15, 0.8, [3.0, 35.0, 15.0])],
        "equal" => vec![fast("one"), fast("two")],
        _ => vec![
            card("big", 1.0, START, [30.0, 300.0, 80.0]),
            card("small", 0.3, START, [13.0, 160.0, 45.0]),
        ],
    };
    of(adapters)
}

pub(crate) fn of(adapters: Vec<AdapterInMix>) -> Mix {
    let model = ModelInMix { max_rows: MAX_ROWS, ..ModelInMix::default() };
    Mix { models: BTreeMap::from([(ANY_MODEL.to_owned(), model)]), adapters }
}

/// Returns adapters on which one row takes `row_s` seconds.
pub(crate) fn slow_rows(mut mix: Mix, row_s: f64) -> Mix {
    for times in mix.adapters.iter_mut().flat_map(|adapter| adapter.models.values_mut()) {
        (times.alpha_s, times.beta_s) = (row_s / 2.0, row_s / 2.0);
    }
    mix
}

/// Returns adapters with limited memory for models, each of which takes bytes and seconds to load.
pub(crate) fn with_places(mut mix: Mix, memory: u64, (bytes, load_s): (u64, f64)) -> Mix {
    for adapter in &mut mix.adapters {
        adapter.memory_bytes = Some(memory);
        for times in adapter.models.values_mut() {
            (times.bytes, times.load_s) = (bytes, load_s);
        }
    }
    mix
}

/// Returns the adapters and, if `row_s` is given, a CPU with that time for one row.
pub(crate) fn with_cpu(mut mix: Mix, row_s: Option<f64>) -> Mix {
    mix.adapters.extend(row_s.map(cpu));
    mix
}

/// Rival laws as shipped.
pub(crate) fn rivals() -> Vec<Spec> {
    let idle = |seconds: f64| Spec::Idle(idle::IdleParams { seconds });
    let named = ["kpa", "ray", "hpa"].iter().filter_map(|name| Spec::by_name(name));
    [30.0, 60.0, 300.0].map(idle).into_iter().chain(named).collect()
}

/// Runs a trace under the default settings, or under a rival law.
pub(crate) fn run(trace: &Trace, mix: &Mix, law: Option<&Spec>, seed: Option<u64>) -> Outcome {
    let goal = Goal::Balanced;
    let policy = if law.is_some() { Policy::Manual { goal } } else { defaults() };
    run_with(trace, mix, &Options { seed, ..Options::new(policy, SLO) }, law).0
}

pub(crate) fn run_with(
    trace: &Trace,
    mix: &Mix,
    options: &Options,
    law: Option<&Spec>,
) -> (Outcome, Run) {
    let machines = mix.machines(trace.models.first().map_or("", String::as_str));
    let machines = machines.expect("every adapter has times for every model");
    let mut law = law.map(|law| law.build(&machines, options.slo, &trace.times()));
    let run = match &mut law {
        Some(law) => simulate(trace, mix, options, Some(law.as_mut())),
        None => simulate(trace, mix, options, None),
    };
    let run = run.expect("every adapter has times for every model");
    (Outcome::of(&run, &machines), run)
}
