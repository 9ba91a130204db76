use crate::mixes;
use crate::steps::{Holds, KnownAnswers, QUICK, Step, starts, wait_for_nothing};
use std::time::{Duration, Instant};
use testkit::process::workers_of;

/// Clients of one burst of the soak.
const CLIENTS: usize = 16;
/// Requests of each of them.
const EACH: usize = 64;
/// The number of samples of a soak that are printed.
const SAMPLES: u64 = 20;

/// Runs load steps from idle to `clients` clients and back.
pub(crate) fn steps(clients: u64, cycles: u64) {
    println!(
        "| adapters | cycles | starts | answers | errors | first answer, at worst | slowest answer |\n\
         |---|---|---|---|---|---|---|"
    );
    for mix in mixes() {
        let server = mix.setup().config(QUICK).start();
        server.wait_until_ready();
        let known = KnownAnswers::new(&server);
        wait_for_nothing(&server);
        let (begun, mut all) = (starts(&server), Step::default());
        for _ in 0..cycles {
            all += known.step(&server, clients as usize, 4);
            wait_for_nothing(&server);
        }
        println!(
            "| {} | {cycles} | {} | {} | {} | {:.0?} | {:.0?} |",
            mix.name,
            starts(&server) - begun,
            all.answers,
            all.errors.len(),
            all.first,
            all.slowest
        );
        all.errors.iter().for_each(|error| println!("{error}"));
    }
}

/// Runs bursts until `requests` requests are answered; adapters are off between them.
pub(crate) fn soak(requests: u64) {
    if let Some(mix) = mixes().first() {
        let server = mix.setup().config(QUICK).start();
        server.wait_until_ready();
        let known = KnownAnswers::new(&server);
        wait_for_nothing(&server);
        let (begin, begun) = (Instant::now(), starts(&server));
        let (mut all, mut samples) = (Step::default(), Vec::new());
        let bursts = requests.div_ceil((CLIENTS * EACH) as u64);
        println!(
            "| answers | resident MiB | open files | threads | workers |\n|---|---|---|---|---|"
        );
        for burst in 1..=bursts {
            all += known.step(&server, CLIENTS, EACH);
            wait_for_nothing(&server);
            let holds = Holds::of(&server);
            samples.push((all.answers, holds));
            if burst % bursts.div_ceil(SAMPLES) == 0 || burst == bursts {
                let workers = workers_of(server.pid()).len();
                println!("| {} | {} {workers} |", all.answers, columns(holds));
            }
        }
        summary(&all, &samples, (starts(&server) - begun, begin.elapsed()));
    }
}

fn columns(holds: Holds) -> String {
    let resident = holds.resident_kb as f64 / 1024.0;
    format!("{resident:.1} | {} | {} |", holds.files, holds.threads)
}

fn summary(all: &Step, samples: &[(u64, Holds)], (starts, took): (u64, Duration)) {
    println!(
        "\n{} answers, {} errors, {starts} starts and stops, slowest {:.0?}, {:.0?}",
        all.answers,
        all.errors.len(),
        all.slowest,
        took
    );
    all.errors.iter().for_each(|error| println!("{error}"));
    // The first half warms up caches and the allocator.
    let late = &samples[samples.len() / 2..];
    let slope = |value: fn(&Holds) -> u64| {
        let points: Vec<_> = late.iter().map(|(x, y)| (*x as f64, value(y) as f64)).collect();
        slope(&points) * 1e6
    };
    println!(
        "per million requests, over the second half: {:+.1} MiB, {:+.2} files, {:+.2} threads",
        slope(|holds| holds.resident_kb) / 1024.0,
        slope(|holds| holds.files),
        slope(|holds| holds.threads)
    );
}

/// The slope of the least-squares line.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len().max(1) as f64;
    let mean = |value: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / n;
    let (x, y) = (mean(&|p| p.0), mean(&|p| p.1));
    let covariance = mean(&|p| (p.0 - x) * (p.1 - y));
    covariance / mean(&|p| (p.0 - x).powi(2)).max(f64::MIN_POSITIVE)
}
