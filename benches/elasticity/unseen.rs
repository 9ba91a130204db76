//! Traces and mixes that were not used for tuning: drawn from a seed, of kinds that the public
//! traces do not contain. Settings that were tuned on the public traces must hold here too.

use crate::cells::Row;
use simulate::Trace;
use types::random::SplitMix64;

/// Seconds of a trace.
const LONG: f64 = 3600.0;

/// Returns the name, the trace and the mix of a seed.
pub(crate) fn draw(seed: u64) -> (String, Trace, Vec<Row>) {
    let mut noise = SplitMix64::new(seed.wrapping_mul(7919));
    let (kind, times) = match seed % 4 {
        0 => ("tides", tides(&mut noise)),
        1 => ("moods", moods(&mut noise)),
        2 => ("clumps", clumps(&mut noise)),
        _ => ("jobs", jobs(&mut noise)),
    };
    let trace = Trace::at(times);
    (format!("{kind}-{seed}"), trace, adapters(&mut noise))
}

/// Draws log-uniformly between the two.
fn between(noise: &mut SplitMix64, low: f64, high: f64) -> f64 {
    low * (high / low).powf(noise.uniform())
}

fn exponential(noise: &mut SplitMix64, mean: f64) -> f64 {
    -(1.0 - noise.uniform()).ln() * mean
}

/// Draws a rate that rises and falls several times an hour.
fn tides(noise: &mut SplitMix64) -> Vec<f64> {
    let (mean, period) = (between(noise, 0.5, 6.0), between(noise, 300.0, 1800.0));
    let (mut at, mut times) = (0.0, Vec::new());
    while at < LONG {
        at += exponential(noise, 1.0 / (2.0 * mean));
        let tide = (1.0 + (at / period * std::f64::consts::TAU).sin()) / 2.0;
        if noise.uniform() < tide * tide {
            times.push(at);
        }
    }
    times
}

/// Two phases, busy and calm, each of random length (a Markov-modulated Poisson process).
fn moods(noise: &mut SplitMix64) -> Vec<f64> {
    let (busy, calm) = (between(noise, 4.0, 30.0), between(noise, 0.02, 0.5));
    let (stay_busy, stay_calm) = (between(noise, 2.0, 60.0), between(noise, 20.0, 300.0));
    let (mut at, mut times, mut is_busy) = (0.0, Vec::new(), false);
    while at < LONG {
        let (rate, stay) = if is_busy { (busy, stay_busy) } else { (calm, stay_calm) };
        let end = at + exponential(noise, stay);
        loop {
            at += exponential(noise, 1.0 / rate);
            if at > end {
                break;
            }
            times.push(at);
        }
        (at, is_busy) = (end, !is_busy);
    }
    times
}

/// Clusters of requests with heavy-tailed pauses between them (Pareto).
fn clumps(noise: &mut SplitMix64) -> Vec<f64> {
    let (shape, least) = (1.1 + noise.uniform(), between(noise, 1.0, 20.0));
    let (most, within) = (between(noise, 3.0, 40.0), between(noise, 0.02, 0.5));
    let (mut at, mut times) = (0.0, Vec::new());
    while at < LONG {
        for _ in 0..=(noise.uniform() * most) as usize {
            times.push(at);
            at += exponential(noise, within);
        }
        at += least / (1.0 - noise.uniform()).powf(1.0 / shape);
    }
    times
}

/// Jobs at fixed times that send many requests at once, over a low base rate.
fn jobs(noise: &mut SplitMix64) -> Vec<f64> {
    let (every, size) = (between(noise, 20.0, 240.0), between(noise, 8.0, 80.0));
    let trickle = between(noise, 0.01, 0.3);
    let mut times = Vec::new();
    for job in 1..(LONG / every) as usize {
        let begin = job as f64 * every;
        let count = (size * (0.5 + noise.uniform())) as usize;
        times.extend((0..count).map(|n| begin + n as f64 * 0.01));
    }
    let mut at = 0.0;
    while at < LONG {
        at += exponential(noise, 1.0 / trickle);
        times.push(at);
    }
    times.sort_by(f64::total_cmp);
    times
}

/// Two to four adapters that differ in speed, power and start.
fn adapters(noise: &mut SplitMix64) -> Vec<Row> {
    let count = 2 + (noise.uniform() * 3.0) as usize;
    let adapter = |at: usize| {
        let speed = between(noise, 0.05, 1.0);
        let active = 300.0 * speed.powf(0.7) * between(noise, 0.6, 1.6);
        let idle = active * between(noise, 0.04, 0.2);
        let start = idle * between(noise, 1.5, 5.0);
        (["a", "b", "c", "d"][at], speed, idle, active, start, between(noise, 0.4, 5.0))
    };
    (0..count).map(adapter).collect()
}
