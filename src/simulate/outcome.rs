//! Results of a policy on a trace, in comparable numbers.

use super::fleet::Machine;
use super::world::Run;
use serde::Serialize;

/// Results of one simulated trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    pub requests: u64,
    /// Share of all requests that were answered within the target of their model.
    pub attainment: f64,
    /// Seconds from arrival to answer; `null` if that request was not answered.
    pub p50_s: f64,
    pub p95_s: f64,
    pub p99_s: f64,
    /// Sum over adapters of the seconds that they were not off.
    pub device_seconds: f64,
    /// Energy above that of adapters that are off, activations included.
    pub joules: f64,
    pub activations: u64,
    /// Activations after an off period so short that staying on would have cost less.
    pub flaps: u64,
    pub loads: u64,
    pub unloads: u64,
    /// Seconds until the last answer.
    pub span_s: f64,
    /// Real microseconds that the scheduler took per event.
    pub decision_us: f64,
    pub adapters: Vec<Share>,
}

/// Results of one adapter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    pub name: String,
    pub rows: u64,
    /// Share of all rows.
    pub share: f64,
    pub off_s: f64,
    pub starting_s: f64,
    pub idle_s: f64,
    pub busy_s: f64,
    pub joules: f64,
    pub activations: u64,
    pub flaps: u64,
}

impl Outcome {
    /// Summarises a run.
    pub fn of(run: &Run, machines: &[Machine]) -> Outcome {
        let mut sorted = run.latencies.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let answered = sorted.partition_point(|latency| latency.is_finite()) as u64;
        let in_time = answered.saturating_sub(run.late);
        let rows: u64 = run.served.iter().map(|(rows, _)| rows).sum();
        let each = run.meters.iter().zip(&run.served).zip(machines);
        let adapters: Vec<_> = each
            .map(|((meter, served), machine)| {
                let [off_s, starting_s, idle_s, busy_s] = meter.seconds;
                Share {
                    name: machine.name.clone(),
                    rows: served.0,
                    share: served.0 as f64 / rows.max(1) as f64,
                    off_s,
                    starting_s,
                    idle_s,
                    busy_s,
                    joules: meter.joules(machine),
                    activations: meter.starts,
                    flaps: meter.flaps,
                }
            })
            .collect();
        Outcome {
            requests: sorted.len() as u64,
            attainment: in_time as f64 / sorted.len().max(1) as f64,
            p50_s: quantile(&sorted, 0.5),
            p95_s: quantile(&sorted, 0.95),
            p99_s: quantile(&sorted, 0.99),
            device_seconds: run.meters.iter().map(super::meter::Meter::on_seconds).sum(),
            joules: adapters.iter().map(|share| share.joules).sum(),
            activations: run.meters.iter().map(|meter| meter.starts).sum(),
            flaps: run.meters.iter().map(|meter| meter.flaps).sum(),
            loads: run.loads,
            unloads: run.unloads,
            span_s: run.span,
            decision_us: run.deciding.as_secs_f64() * 1e6 / run.events.max(1) as f64,
            adapters,
        }
    }
}

/// Returns the smallest value that at least this share does not exceed; 0 for an empty slice.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}
