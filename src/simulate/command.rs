//! The command `concertina simulate`.

use super::laws::Spec;
use super::mix::Mix;
use super::outcome::Outcome;
use super::plot::plot;
use super::trace::Trace;
use super::world::{self, Options, Run};
use adapter::select::CpuRule;
use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use config::{Adapters, PolicyName};
use schedule::{Goal, Policy, Role};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use types::escape;

/// Arguments of `concertina simulate`.
#[derive(clap::Args, Debug)]
pub struct SimulateArgs {
    /// CSV with a column `arrival_s` and optional columns `rows` and `model`; `serve --record`
    /// writes one
    #[arg(long, value_name = "FILE", required_unless_present = "recorded")]
    trace: Option<PathBuf>,
    /// TOML that describes the adapters; `serve --record` writes one beside the trace
    #[arg(long, value_name = "FILE", required_unless_present = "recorded")]
    adapters: Option<PathBuf>,
    /// Use the requests of the last day of a running server, and its adapters
    #[arg(
        long,
        value_name = "URL",
        num_args = 0..=1,
        default_missing_value = "http://127.0.0.1:8000",
        conflicts_with_all = ["trace", "adapters"]
    )]
    pub recorded: Option<String>,
    /// API key of that server; every user of this machine can read arguments, so prefer
    /// `--api-key-file`
    #[arg(long, env = "CONCERTINA_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// File that holds this key
    #[arg(long, env = "CONCERTINA_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// PEM file of the certificate authority of that server
    #[arg(long, env = "CONCERTINA_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Latency target of models without their own; several targets are compared
    #[arg(long, value_parser = humantime::parse_duration, value_delimiter = ',', default_value = "100ms", value_name = "TIME")]
    latency_target: Vec<Duration>,
    /// Another name of `latency_target`
    #[arg(long, value_parser = humantime::parse_duration, value_delimiter = ',', hide = true, value_name = "TIME", conflicts_with = "latency_target")]
    slo: Vec<Duration>,
    /// When adapters with `cpu = true` are used, as `adapters.cpu` of the server
    #[arg(long, value_enum, default_value = "auto", value_name = "RULE")]
    cpu: CpuRule,
    /// Do not start adapters in advance of clients with regular requests
    #[arg(long)]
    no_start_ahead: bool,
    /// latency, balanced, energy, concurrency, or a rival law: all-on, kpa, ray, hpa, keda, idle,
    /// ski, ...; several policies are compared
    #[arg(long, value_delimiter = ',', default_value = "balanced", value_name = "NAME")]
    policy: Vec<String>,
    /// Use only the busiest period of this length
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    busiest: Option<Duration>,
    /// Vary times at random with this seed: batches by 5 %, starts by 20 %
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Draw demand and adapters of the first policy
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// One policy's outcome, as printed.
#[derive(Serialize)]
struct OutcomeRow {
    policy: String,
    /// The latency target, in seconds.
    slo_s: f64,
    #[serde(flatten)]
    outcome: Outcome,
}

impl SimulateArgs {
    /// Returns the trace and the adapters, from files or as `recorded` by a server.
    fn inputs(&self, recorded: Option<(String, String)>) -> anyhow::Result<(Trace, Mix)> {
        if let Some((trace, adapters)) = recorded {
            let trace =
                Trace::read(trace.as_bytes()).context("failed to read the server's requests")?;
            return Ok((
                trace,
                Mix::parse(&adapters).context("failed to read the server's adapters")?,
            ));
        }
        let file = |path: &Option<PathBuf>| {
            path.clone().context("`--trace` and `--adapters` are required")
        };
        Ok((Trace::open(&file(&self.trace)?)?, Mix::open(&file(&self.adapters)?)?))
    }
}

/// Runs the trace under each policy and returns the text to print. `recorded` holds the trace as
/// CSV and the adapters as TOML of a server, in place of files.
///
/// # Errors
/// Inputs that cannot be read or used, an unknown policy, a picture that cannot be written.
pub fn simulate(args: &SimulateArgs, recorded: Option<(String, String)>) -> anyhow::Result<String> {
    ensure!(!args.policy.is_empty(), "`--policy` is empty; name at least one policy");
    let (mut trace, mut mix) = args.inputs(recorded)?;
    if let Some(length) = args.busiest {
        trace = trace.busiest(length.as_secs_f64());
    }
    if args.cpu == CpuRule::Never {
        mix.adapters.retain(|adapter| !adapter.cpu);
        ensure!(!mix.adapters.is_empty(), "`--cpu never` excludes every adapter");
    }
    let mut rows = Vec::new();
    let targets = if args.slo.is_empty() { &args.latency_target } else { &args.slo };
    let ways = targets.iter().flat_map(|slo| args.policy.iter().map(move |policy| (*slo, policy)));
    for (slo, policy) in ways {
        let run = run(args, &trace, &mix, (slo.as_secs_f64(), policy))?;
        let machines = mix.machines(trace.models.first().map_or("", String::as_str))?;
        if let Some(path) = args.plot.as_ref().filter(|_| rows.is_empty()) {
            let svg = plot(&trace, &run, &machines, policy)?;
            std::fs::write(path, svg)
                .with_context(|| format!("failed to write the picture {}", path.display()))?;
        }
        let outcome = Outcome::of(&run, &machines);
        rows.push(OutcomeRow { policy: policy.clone(), slo_s: slo.as_secs_f64(), outcome });
    }
    if args.json { Ok(serde_json::to_string_pretty(&rows)?) } else { Ok(text(&rows)) }
}

fn run(
    args: &SimulateArgs,
    trace: &Trace,
    mix: &Mix,
    (slo, policy): (f64, &str),
) -> anyhow::Result<Run> {
    let cpu = match args.cpu {
        CpuRule::Auto => Role::Bridge,
        CpuRule::Fallback => Role::Fallback,
        CpuRule::Always | CpuRule::Never => Role::Regular,
    };
    let name = PolicyName::from_str(policy, false);
    let adapters = Adapters { policy: name.clone().unwrap_or_default(), ..Adapters::default() };
    let policy_value: Policy = adapters.policy();
    let keep_changes = args.plot.is_some();
    let options = Options {
        cpu,
        ahead: !args.no_start_ahead,
        seed: args.seed,
        keep_changes,
        ..Options::new(policy_value, slo)
    };
    if name.is_ok() {
        return world::simulate(trace, mix, &options, None);
    }
    let Some(spec) = Spec::by_name(policy) else {
        let ours = PolicyName::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let ours: Vec<_> = ours.map(|value| value.get_name().to_owned()).collect();
        let others: Vec<_> = Spec::defaults().iter().map(ToString::to_string).collect();
        bail!("unknown policy `{policy}`; use one of {}, {}", ours.join(", "), others.join(", "));
    };
    // A rival law counts adapters by their rates, which are those of the model with the most
    // requests.
    let machines = mix.machines(trace.main_model())?;
    let options = Options { policy: Policy::Manual { goal: Goal::Balanced }, ..options };
    let mut law = spec.build(&machines, slo, &trace.times());
    world::simulate(trace, mix, &options, Some(law.as_mut()))
}

fn text(rows: &[OutcomeRow]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "policy",
        "target",
        "in time",
        "p50",
        "p95",
        "p99",
        "device time",
        "energy",
        "activations",
        "flaps",
    ]);
    for OutcomeRow { policy, slo_s, outcome } in rows {
        table.add_row([
            policy.clone(),
            time(*slo_s),
            format!("{:.2} %", outcome.attainment * 100.0),
            time(outcome.p50_s),
            time(outcome.p95_s),
            time(outcome.p99_s),
            format!("{:.0} s", outcome.device_seconds),
            energy(outcome.joules),
            outcome.activations.to_string(),
            outcome.flaps.to_string(),
        ]);
    }
    right_aligned(&mut table);
    let mut text = format!("{}\n", table.trim_fmt());
    if let [only] = rows {
        text += &format!("\n{}\n", shares(&only.outcome));
    }
    text
}

fn shares(outcome: &Outcome) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "adapter",
        "rows",
        "share",
        "on",
        "starting",
        "idle",
        "busy",
        "energy",
        "activations",
    ]);
    let span = outcome.span_s.max(1e-9);
    let part = |seconds: f64| format!("{:.1} %", 100.0 * seconds / span);
    for share in &outcome.adapters {
        table.add_row([
            escape::line(&share.name).into_owned(),
            share.rows.to_string(),
            format!("{:.1} %", share.share * 100.0),
            part(share.starting_s + share.idle_s + share.busy_s),
            part(share.starting_s),
            part(share.idle_s),
            part(share.busy_s),
            energy(share.joules),
            share.activations.to_string(),
        ]);
    }
    right_aligned(&mut table);
    table.trim_fmt()
}

fn right_aligned(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn time(seconds: f64) -> String {
    if !seconds.is_finite() {
        "never".to_owned()
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

fn energy(joules: f64) -> String {
    if joules < 1e4 { format!("{joules:.0} J") } else { format!("{:.1} Wh", joules / 3600.0) }
}
