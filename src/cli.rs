//! The command line: one function per subcommand, and the only place that prints.
#![allow(clippy::print_stdout, reason = "what a command is asked for goes to stdout")]

mod allocator;
mod descriptors;
mod serve;

use crate::adapter::child::{PROBE_LIMIT_DEFAULT, probe_all, probe_one};
use crate::adapter::command::{render_json, render_table};
use crate::adapter::entry::warn_of_unknown;
use crate::adapter::list;
use crate::api::keys::{self, Scope};
use crate::config::{AdapterArgs, Config, LogFormat, ServeArgs};
use crate::engine::Catalogue;
use crate::model::{Found, Registry, Repository, onnx, table};
use crate::progress::Terminal;
use crate::simulate::{self, SimulateArgs};
use crate::top::{self, TopArgs};
use crate::worker;
use anyhow::Context;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Elastic model serving on every GPU in the box
#[derive(Parser)]
#[command(name = "concertina", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve models over HTTP
    Serve(Box<ServeArgs>),
    /// List every adapter, and why those not used are not
    Adapters(AdaptersArgs),
    /// List the models of a repository and check them
    Models(ModelsArgs),
    /// Watch a running server in the terminal
    Top(TopArgs),
    /// Make an API key: it goes to stderr, and to stdout what goes into the file of keys
    Key(KeyArgs),
    /// Try elastic policies on a recorded trace, in virtual time
    Simulate(SimulateArgs),
    /// What `serve` starts for each adapter that is on
    #[command(hide = true)]
    Worker,
}

#[derive(clap::Args)]
struct AdaptersArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Check every adapter and measure its speed; this opens it
    #[arg(long)]
    probe: bool,
    /// What `--probe` starts for each adapter
    #[arg(long, hide = true, value_name = "ID")]
    probe_one: Option<String>,
    /// TOML file with settings
    #[arg(long, env = "CONCERTINA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    adapters: AdapterArgs,
}

#[derive(clap::Args)]
struct KeyArgs {
    /// Who it is for
    #[arg(long)]
    name: String,
    /// What it may do: `infer`, `read`, `admin`; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = scope)]
    scopes: Vec<Scope>,
}

fn scope(text: &str) -> Result<Scope, String> {
    let found = Scope::ALL.into_iter().find(|scope| scope.as_str() == text);
    found.ok_or_else(|| "the scopes are infer, read and admin".to_owned())
}

#[derive(clap::Args)]
struct ModelsArgs {
    /// Model repository folder; without it the built-in models are listed
    #[arg(long, env = "CONCERTINA_MODELS", value_name = "DIR")]
    models: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<ModelsCommand>,
}

#[derive(Subcommand)]
enum ModelsCommand {
    /// Say what an ONNX file takes, gives and costs, and whether all of it is supported
    Check {
        #[arg(value_name = "FILE.onnx")]
        file: PathBuf,
        /// Also time the kinds of steps, on the CPU
        #[arg(long)]
        profile: bool,
    },
}

/// Runs the program: parses the command line and does what it says.
///
/// A program with models of its own registers them and calls this from `main`; the same
/// executable is started again for each adapter that is on, so nothing may happen before.
pub fn run(registry: Registry) -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve(*args, &registry).map(|()| ExitCode::SUCCESS),
        Command::Adapters(args) => adapters(&args).map(|()| ExitCode::SUCCESS),
        Command::Models(args) => models(&args, &registry),
        Command::Key(args) => key(&args).map(|()| ExitCode::SUCCESS),
        Command::Simulate(args) => simulate(&args).map(|()| ExitCode::SUCCESS),
        Command::Top(args) => watch(&args).map(|()| ExitCode::SUCCESS),
        Command::Worker => {
            log_as_worker();
            Ok(worker::run(registry))
        }
    };
    outcome.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        if !tracing::event_enabled!(tracing::Level::ERROR) {
            complain(&error);
        }
        ExitCode::FAILURE
    })
}

/// For errors that come before, or without, a log.
#[allow(clippy::print_stderr, reason = "the last resort of a command that fails")]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

fn serve(args: ServeArgs, registry: &Registry) -> anyhow::Result<()> {
    let config = Config::load(&args)?;
    if args.print_config {
        println!("{}", toml::to_string(&config).context("cannot print the settings")?.trim_end());
        return Ok(());
    }
    serve::serve(args, config, registry)
}

#[allow(clippy::print_stderr, reason = "the key is not for where stdout goes")]
fn key(args: &KeyArgs) -> anyhow::Result<()> {
    let (key, entry) = keys::make(&args.name, &args.scopes)?;
    // Apart, so that `>> keys.toml` takes what belongs there.
    eprintln!("{key}");
    println!("{}", entry.trim_end());
    Ok(())
}

fn simulate(args: &SimulateArgs) -> anyhow::Result<()> {
    log_as_worker();
    println!("{}", simulate::command(args)?.trim_end());
    Ok(())
}

fn repository(folder: Option<&PathBuf>) -> anyhow::Result<Repository> {
    match folder {
        Some(folder) => Repository::open(folder).context("cannot open the model repository"),
        None => Ok(Repository::embedded()),
    }
}

fn adapters(args: &AdaptersArgs) -> anyhow::Result<()> {
    log_as_worker();
    if let Some(id) = &args.probe_one {
        println!("{}", serde_json::to_string(&probe_one(id))?);
        return Ok(());
    }
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    config.adapters.apply(&args.adapters);
    let rules = config.adapters.rules();
    let mut entries = list::list(&rules);
    warn_of_unknown(&entries, &config.adapter_ids());
    if args.probe {
        let executable = std::env::current_exe().context("cannot find our own executable")?;
        probe_all(&mut entries, &executable, PROBE_LIMIT_DEFAULT);
    }
    if args.json {
        println!("{}", render_json(&entries)?);
    } else {
        println!("{}", render_table(&entries));
    }
    Ok(())
}

fn models(args: &ModelsArgs, registry: &Registry) -> anyhow::Result<ExitCode> {
    log_as_worker();
    if let Some(ModelsCommand::Check { file, profile }) = &args.command {
        let said = onnx::check(file, *profile).map_err(anyhow::Error::msg)?;
        println!("{}", said.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let found = repository(args.models.as_ref())?.scan(&registry.kinds());
    let found = Catalogue::check_chains(found);
    println!("{}", table(&found));
    let broken = found.iter().any(|found| matches!(found, Found::Bad(_)));
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn watch(args: &TopArgs) -> anyhow::Result<()> {
    // A log would write into the live view.
    if !args.is_live() {
        log_as_worker();
    }
    if let Some(frame) = top::run(args)? {
        print!("{frame}");
    }
    Ok(())
}

/// The server's log, on stderr: `CONCERTINA_LOG` says how much of what.
fn log_as_server(terminal: &Terminal, format: LogFormat) {
    let log = tracing_subscriber::fmt().with_env_filter(filter("info"));
    let log = log.with_writer(terminal.clone()).with_ansi(Terminal::is_watched());
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).with_ansi(false).init(),
    }
}

/// Plain lines: the server puts time and adapter to them. Tunings are measured beside it.
fn log_as_worker() {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = lines.with_target(false).without_time().with_ansi(false);
    let lines = lines.with_filter(filter("warn"));
    tracing_subscriber::registry().with(lines).with(worker::tuning::layer()).init();
}

/// Graphics libraries call a missing extension a warning; ours are heard at the given level.
fn filter(level: &str) -> EnvFilter {
    let quiet = format!("{level},wgpu_hal=off,wgpu_core=error,naga=error,cubecl=error");
    EnvFilter::try_from_env("CONCERTINA_LOG").unwrap_or_else(|_| EnvFilter::new(quiet))
}
