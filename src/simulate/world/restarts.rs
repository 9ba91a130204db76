//! Restarts of the server in the middle of a trace.

use super::{Options, Run, simulate};
use crate::mix::Mix;
use crate::trace::{Trace, TraceRequest};
use schedule::{LearnedPolicy, LearnedProfile};
use std::time::Duration;

/// State that is kept between two runs of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartState {
    pub policy: LearnedPolicy,
    /// Profiles in the order of the mix.
    pub adapters: Vec<LearnedProfile>,
    /// Time for which the server is down.
    pub down: Duration,
}

/// Runs a trace in equal parts with a restart of the server between each two, halfway between two
/// requests. With `remembers`, the server keeps what it learned.
///
/// # Errors
/// As for [`simulate`].
pub fn simulate_restarts(
    trace: &Trace,
    mix: &Mix,
    options: &Options,
    (parts, remembers): (usize, bool),
) -> anyhow::Result<Vec<Run>> {
    let length = trace.requests.len().div_ceil(parts.max(1)).max(1);
    let (mut runs, mut learned, mut begin): (Vec<Run>, Option<RestartState>, f64) =
        (Vec::new(), options.learned.clone(), 0.0);
    for (at, part) in trace.requests.chunks(length).enumerate() {
        let last = part.last().map_or(begin, |request| request.at);
        let next = trace.requests.get((at + 1) * length).map_or(last, |request| request.at);
        let ends_at = f64::midpoint(last, next) - begin;
        let requests = part.iter().map(|it| TraceRequest { at: it.at - begin, ..*it }).collect();
        let part = Trace { requests, models: trace.models.clone() };
        let options = Options { learned, ends_at, ..options.clone() };
        let run = simulate(&part, mix, &options, None)?;
        learned = remembers.then(|| run.learned.clone());
        begin += ends_at;
        runs.push(run);
    }
    Ok(runs)
}
