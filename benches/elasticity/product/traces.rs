//! Traces made from a seed: single requests, bursts, scheduled requests and an office week.

use simulate::{Trace, TraceRequest};
use types::random::SplitMix64;

pub(crate) const HOUR: f64 = 3600.0;
pub(crate) const DAY: f64 = 24.0 * HOUR;
/// Seconds from one burst to the next, length of a burst, and mean gap in it.
const BURST_EVERY: f64 = 600.0;
const BURST: f64 = 30.0;
const BURST_GAP: f64 = 0.2;

/// The generated traces of the table, by name.
pub(crate) fn all() -> Vec<(&'static str, Trace)> {
    vec![
        ("single 60 s", single(60.0, DAY, 1)),
        ("single 300 s", single(300.0, DAY, 2)),
        ("single 1800 s", single(1800.0, 4.0 * DAY, 3)),
        ("each 15 min", each_15_min(192)),
        ("bursts", bursts(0.0, 1)),
        ("bursts +- 20 s", bursts(20.0, 2)),
        ("random bursts", random_bursts(7)),
        ("office week", office_week(1)),
    ]
}

pub(crate) fn exponential(noise: &mut SplitMix64, mean: f64) -> f64 {
    -(1.0 - noise.uniform()).ln() * mean
}

/// Single requests at random (a Poisson process), seconds between them on average.
pub(crate) fn single(mean: f64, length: f64, seed: u64) -> Trace {
    Trace::at(poisson(mean, length, seed))
}

pub(crate) fn poisson(mean: f64, length: f64, seed: u64) -> Vec<f64> {
    let (mut noise, mut at, mut times) = (SplitMix64::new(seed), 0.0, Vec::new());
    loop {
        at += exponential(&mut noise, mean);
        if at >= length {
            return times;
        }
        times.push(at);
    }
}

/// Returns random requests for models `a`, `b`, ... with these shares.
pub(crate) fn models(rate: f64, length: f64, shares: &[f64]) -> Trace {
    let (mut noise, mut trace) = (SplitMix64::new(11), Trace::default());
    trace.models = names(shares.len());
    for at in poisson(1.0 / rate, length, 11) {
        let (mut left, mut model) = (noise.uniform() * shares.iter().sum::<f64>(), 0);
        while model + 1 < shares.len() && left >= shares[model] {
            left -= shares[model];
            model += 1;
        }
        trace.requests.push(TraceRequest { at, rows: 1, model, client: 0 });
    }
    trace
}

/// Returns a request each half second, for one model during 40 seconds, then for the next of five.
pub(crate) fn periods(length: f64) -> Trace {
    let request = |at: f64| {
        let model = (at / 40.0) as usize % 5;
        TraceRequest { at, rows: 1, model, client: 0 }
    };
    let requests = poisson(0.5, length, 11).into_iter().map(request).collect();
    Trace { requests, models: names(5) }
}

fn names(count: usize) -> Vec<String> {
    ('a'..='z').take(count).map(String::from).collect()
}

/// Returns a request each 15 minutes, plus or minus two seconds.
pub(crate) fn each_15_min(count: u32) -> Trace {
    Trace::at(regular(count))
}

pub(crate) fn regular(count: u32) -> Vec<f64> {
    let mut noise = SplitMix64::new(5);
    let at = |k| f64::from(k) * 900.0 + 30.0 + 4.0 * noise.uniform() - 2.0;
    (0..count).map(at).collect()
}

/// Returns a day of bursts of 5 requests/s, one each ten minutes, shifted by a normal number with
/// this standard deviation in seconds.
pub(crate) fn bursts(sigma: f64, seed: u64) -> Trace {
    let mut noise = SplitMix64::new(seed);
    let mut times = Vec::new();
    for k in 0..144 {
        let begin = f64::from(k) * BURST_EVERY + 60.0 + sigma * noise.normal();
        burst(&mut noise, begin.max(0.0), &mut times);
    }
    sorted(times)
}

/// Returns the same bursts at random times.
fn random_bursts(seed: u64) -> Trace {
    let mut noise = SplitMix64::new(seed);
    let (mut at, mut times) = (0.0, Vec::new());
    loop {
        at += exponential(&mut noise, BURST_EVERY);
        if at >= DAY {
            return sorted(times);
        }
        burst(&mut noise, at, &mut times);
    }
}

fn burst(noise: &mut SplitMix64, begin: f64, times: &mut Vec<f64>) {
    let mut at = begin;
    while at < begin + BURST {
        times.push(at);
        at += exponential(noise, BURST_GAP);
    }
}

pub(crate) fn sorted(mut times: Vec<f64>) -> Trace {
    times.sort_by(f64::total_cmp);
    Trace::at(times)
}

/// Returns a week of sessions: busy on workdays, with a lunch dip, nearly idle at night and on the
/// weekend. Each request is followed by another one with a probability of 2/3, 2 s later on
/// average.
pub(crate) fn office_week(seed: u64) -> Trace {
    const RATE_MAX: f64 = 0.11;
    let mut noise = SplitMix64::new(seed);
    let (mut at, mut times) = (0.0, Vec::new());
    loop {
        at += exponential(&mut noise, 1.0 / RATE_MAX);
        if at >= 7.0 * DAY {
            return sorted(times);
        }
        if noise.uniform() >= sessions_per_second(at) / RATE_MAX {
            continue;
        }
        let mut request = at;
        times.push(request);
        while noise.uniform() < 2.0 / 3.0 {
            request += exponential(&mut noise, 2.0);
            times.push(request);
        }
    }
}

fn sessions_per_second(at: f64) -> f64 {
    let (day, hour) = ((at / DAY) as u32, at % DAY / HOUR);
    if day >= 5 {
        return if (9.0..22.0).contains(&hour) { 1.0 / HOUR } else { 0.25 / HOUR };
    }
    match hour {
        h if !(7.0..21.0).contains(&h) => 0.5 / HOUR,
        h if h < 9.0 => 0.1 * (h - 7.0) / 2.0 + 1.0 / HOUR,
        h if (12.0..13.0).contains(&h) => 0.03,
        h if h < 17.5 => 0.1,
        h if h < 19.0 => 0.1 * (19.0 - h) / 1.5 + 1.0 / HOUR,
        _ => 2.0 / HOUR,
    }
}
