//! `concertina bench`: measures a model of a running server in steps of increasing concurrency, with
//! the load generator of the server.

use super::client::ServerClient;
use super::view::{ReceivedAdapter, ReceivedLoad, ReceivedSnapshot};
use super::{ConnectionArgs, text::clean};
use anyhow::{Context, bail, ensure};
use serde::Serialize;
use std::fmt::Write;
use std::thread;
use std::time::Duration;
use types::clock;

/// Interval between two looks at the server, over which states and power count as constant.
const INTERVAL: Duration = Duration::from_millis(50);
/// Longest time for the last answers after the planned end of a step.
const END_MAX: Duration = Duration::from_secs(60);
/// Most characters of a bar of the plot.
const BAR: f64 = 40.0;

/// Arguments: the model, the steps, and the server.
#[derive(clap::Args, Debug)]
pub struct BenchArgs {
    /// Model to measure
    #[arg(value_name = "MODEL")]
    model: String,
    /// Requests in flight, 1 to 64, one step for each number
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2,4,8,16,32,64")]
    concurrency: Vec<u64>,
    /// Duration of a step, 5 s to 60 s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// The measurements of a step.
#[derive(Debug, Default, Serialize)]
struct Step {
    concurrency: u64,
    requests_per_s: f64,
    rows_per_s: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    failed: u64,
    /// Adapters with a worker process: at most, and on average.
    adapters_on_max: usize,
    adapters_on_mean: f64,
    /// Energy of all adapters above their energy when off, from the power that the server assumes or
    /// was given.
    joules: f64,
    joules_per_row: Option<f64>,
}

/// Runs all steps and returns the report.
///
/// # Errors
/// If the server cannot be reached, rejects the model or a step, or runs another load.
pub fn bench(args: &BenchArgs) -> anyhow::Result<String> {
    ensure!(!args.concurrency.is_empty(), "--concurrency has no number");
    let client = args.connection.connect()?;
    let mut steps = Vec::new();
    for concurrency in &args.concurrency {
        let step = run_step(&client, args, *concurrency);
        let step = step.with_context(|| {
            format!("failed to measure {} at {}", clean(&args.model), client.place())
        })?;
        tracing::info!(concurrency, "measured {:.0} rows/s", step.rows_per_s);
        steps.push(step);
    }
    if args.json {
        return Ok(serde_json::to_string_pretty(&steps)?);
    }
    Ok(if args.csv { as_csv(&steps) } else { as_table(&steps) })
}

fn run_step(client: &ServerClient, args: &BenchArgs, concurrency: u64) -> anyhow::Result<Step> {
    let rows = |snapshot: &ReceivedSnapshot| -> f64 {
        snapshot.adapters.iter().map(|adapter| adapter.rows.or_zero()).sum()
    };
    let before = rows(&client.snapshot()?);
    client.start_load(&args.model, concurrency, args.duration.as_secs())?;
    let mut step = Step { concurrency, ..Step::default() };
    let (begin, mut looked, mut on_seconds) = (clock::now(), clock::now(), 0.0);
    let (snapshot, load) = loop {
        thread::sleep(INTERVAL);
        let snapshot = client.snapshot()?;
        let seconds = looked.elapsed().as_secs_f64();
        looked = clock::now();
        let on = snapshot.adapters.iter().filter(|adapter| adapter.is_on());
        step.adapters_on_max = step.adapters_on_max.max(on.clone().count());
        on_seconds += seconds * on.clone().count() as f64;
        step.joules += seconds * on.map(watts).sum::<f64>();
        match snapshot.load.clone() {
            Some(load) if !load.running.0 => break (snapshot, load),
            Some(_) => {}
            None => bail!("the server has no load generator"),
        }
        ensure!(begin.elapsed() < args.duration + END_MAX, "the load does not end");
    };
    let seconds = begin.elapsed().as_secs_f64();
    step.adapters_on_mean = on_seconds / seconds;
    finish(&mut step, seconds, rows(&snapshot) - before, &load)?;
    Ok(step)
}

fn finish(step: &mut Step, seconds: f64, rows: f64, load: &ReceivedLoad) -> anyhow::Result<()> {
    let answered = load.answered.or_zero();
    step.failed = load.failed.or_zero() as u64;
    ensure!(answered > 0.0, "no request was answered; the last error is: {}", &*load.last_error);
    (step.requests_per_s, step.rows_per_s) = (answered / seconds, rows / seconds);
    (step.p50_ms, step.p99_ms) = (load.p50_ms.0, load.p99_ms.0);
    step.joules_per_row = (rows > 0.0).then(|| step.joules / rows);
    Ok(())
}

/// Power of an adapter that is on, above its power when off.
fn watts(adapter: &ReceivedAdapter) -> f64 {
    let Some(power) = &adapter.power else { return 0.0 };
    match &*adapter.state {
        "busy" => power.active_watts.or_zero(),
        _ => power.idle_watts.or_zero(),
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn as_table(steps: &[Step]) -> String {
    let mut text = format!(
        "{:>11} {:>10} {:>10} {:>9} {:>9} {:>7} {:>12} {:>9} {:>9}\n",
        "CONCURRENCY",
        "REQUESTS/S",
        "ROWS/S",
        "P50 MS",
        "P99 MS",
        "FAILED",
        "ADAPTERS ON",
        "JOULES",
        "J/ROW"
    );
    for step in steps {
        let on = format!("{:.1} (max {})", step.adapters_on_mean, step.adapters_on_max);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:>11} {:>10.1} {:>10.1} {:>9} {:>9} {:>7} {on:>12} {:>9.1} {:>9}",
            step.concurrency,
            step.requests_per_s,
            step.rows_per_s,
            number(step.p50_ms, 2),
            number(step.p99_ms, 2),
            step.failed,
            step.joules,
            number(step.joules_per_row, 4)
        );
    }
    let rows = |step: &Step| Some(step.rows_per_s);
    text += "JOULES: power above off, as set by adapters.power or assumed by class\n";
    text + &plot("rows per second", steps, rows) + &plot("p50 in ms", steps, |step| step.p50_ms)
}

/// A bar for each step, as long as its value in proportion to the largest one.
fn plot(title: &str, steps: &[Step], value: impl Fn(&Step) -> Option<f64>) -> String {
    let largest = steps.iter().filter_map(&value).fold(f64::MIN_POSITIVE, f64::max);
    let mut text = format!("\n{title}\n");
    for step in steps {
        let shown = value(step).unwrap_or_default();
        let bar = "#".repeat((shown / largest * BAR).round() as usize);
        let _ = writeln!(text, "{:>11} {bar} {shown:.1}", step.concurrency);
    }
    text
}

fn as_csv(steps: &[Step]) -> String {
    let mut text = "concurrency,requests_per_s,rows_per_s,p50_ms,p99_ms,failed,adapters_on_max,\
                    adapters_on_mean,joules,joules_per_row\n"
        .to_owned();
    for step in steps {
        let empty = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{}",
            step.concurrency,
            step.requests_per_s,
            step.rows_per_s,
            empty(step.p50_ms),
            empty(step.p99_ms),
            step.failed,
            step.adapters_on_max,
            step.adapters_on_mean,
            step.joules,
            empty(step.joules_per_row)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Vec<Step> {
        let step = |concurrency, rows_per_s, p50| Step {
            concurrency,
            rows_per_s,
            requests_per_s: rows_per_s,
            p50_ms: Some(p50),
            ..Step::default()
        };
        vec![step(1, 10.0, 2.0), step(2, 20.0, 8.0)]
    }

    #[test]
    fn bars_are_proportional_to_the_largest_value() {
        let text = as_table(&steps());
        let bars = |line: &str| line.matches('#').count();
        let lines: Vec<_> = text.lines().filter(|line| line.contains('#')).collect();
        assert_eq!(lines.iter().map(|line| bars(line)).collect::<Vec<_>>(), [20, 40, 10, 40]);
    }

    #[test]
    fn each_form_has_all_columns() {
        let csv = as_csv(&steps());
        let columns: Vec<_> = csv.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(columns, [10, 10, 10]);
        let json = serde_json::to_value(steps()).unwrap();
        for name in csv.lines().next().unwrap().split(',') {
            assert!(json[0].get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn step_without_answers_is_an_error_with_its_reason() {
        let load: ReceivedLoad =
            serde_json::from_value(serde_json::json!({ "failed": 3, "last_error": "queue full" }))
                .unwrap();
        let error = finish(&mut Step::default(), 1.0, 0.0, &load).unwrap_err().to_string();
        assert!(error.contains("queue full"), "{error}");
    }
}
