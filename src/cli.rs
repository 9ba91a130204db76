//! The command line: one function per subcommand, and with [`output`] the only place that prints.

mod allocator;
mod arguments;
mod completions;
mod descriptors;
mod doctor;
mod engine_settings;
mod help;
mod live;
mod log;
mod output;
mod progress;
mod serve;
mod signals;

use adapter::entry::warn_of_unknown;
use adapter::listing;
use adapter::names::distinguish;
use adapter::table::{render_json, render_table};
use anyhow::Context;
use arguments::Given;
use clap::{Parser, Subcommand};
use completions::{CompletionsArgs, ManArgs};
use config::{AdapterArgs, Config, ServeArgs};
use device::child::{Children, LIMIT_DEFAULT, probe_one};
use device::list;
use doctor::DoctorArgs;
use engine::Catalogue;
use kinds::{Registry, onnx};
use model::{Repository, ScanResult, list_json, table};
use output::{print, print_document, print_error};
use server::keys::{self, Scope};
use simulate::{self, SimulateArgs};
use std::path::PathBuf;
use std::process::ExitCode;
use top::{self, BenchArgs, TopArgs};

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
    /// List every adapter, and the reason for each one that is not used
    Adapters(AdaptersArgs),
    /// List the models of a repository and check them
    Models(ModelsArgs),
    /// Watch a running server in the terminal
    Top(TopArgs),
    /// Measure a model of a running server in steps of increasing concurrency (scope `admin`)
    Bench(BenchArgs),
    /// Create an API key: print it to stderr, and its entry for the file of keys to stdout
    Key(KeyArgs),
    /// Try elastic policies on a recorded trace, in virtual time
    Simulate(SimulateArgs),
    /// Examine the machine and the settings: a report for bug reports, with a remedy for each problem
    Doctor(DoctorArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man(ManArgs),
    /// The worker process that `serve` starts for each adapter that is on
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
    /// Print what drivers write to stderr
    #[arg(short, long)]
    verbose: bool,
    /// The process that `adapters` and `serve` start to query the drivers
    #[arg(long, hide = true)]
    query_drivers: bool,
    /// The process that `--probe` starts for each adapter
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
    /// Name of the client that the key is for
    #[arg(long)]
    name: String,
    /// Permission of the key: `infer`, `read`, `admin`; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = scope)]
    scopes: Vec<Scope>,
}

fn scope(text: &str) -> Result<Scope, String> {
    let found = Scope::ALL.into_iter().find(|scope| scope.as_str() == text);
    found.ok_or_else(|| "the scopes are infer, read, and admin".to_owned())
}

#[derive(clap::Args)]
struct ModelsArgs {
    /// Model repository folder; without it the built-in models are listed
    #[arg(long, env = "CONCERTINA_MODELS", value_name = "DIR")]
    models: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<ModelsCommand>,
}

#[derive(Subcommand)]
enum ModelsCommand {
    /// Report the inputs, outputs and cost of an ONNX file, and whether every part of it is
    /// supported
    Check {
        /// ONNX file
        #[arg(value_name = "FILE.onnx")]
        file: PathBuf,
        /// Also time each kind of step, on the CPU
        #[arg(long)]
        profile: bool,
    },
}

/// Runs the program: parses the command line and executes the subcommand.
///
/// A program with custom models registers them and calls this function from `main`. The same
/// executable is started again for each adapter that is on, so nothing may happen before the call.
pub fn run(registry: Registry) -> ExitCode {
    let Given { command, warnings } = arguments::parse();
    let is_server = matches!(command, Command::Serve(_));
    execute(command, &warnings, registry).unwrap_or_else(|error| {
        // An error of a server is logged, unless it occurred before the log was set up.
        if is_server && tracing::event_enabled!(tracing::Level::ERROR) {
            tracing::error!("{error:#}");
        } else {
            print_error(&format!("error: {error:#}"));
        }
        ExitCode::FAILURE
    })
}

fn execute(command: Command, warnings: &[String], registry: Registry) -> anyhow::Result<ExitCode> {
    let begin = || log::of_command(warnings);
    match command {
        Command::Serve(args) => serve(*args, warnings, &registry)?,
        Command::Adapters(args) => begin().and_then(|()| adapters(&args))?,
        Command::Models(args) => return begin().and_then(|()| models(&args, &registry)),
        Command::Key(args) => begin().and_then(|()| key(&args))?,
        Command::Simulate(args) => begin().and_then(|()| simulate(&args))?,
        Command::Doctor(args) => {
            return begin().and_then(|()| doctor::doctor(&args, &registry));
        }
        Command::Bench(args) => begin().and_then(|()| print(&top::bench(&args)?))?,
        Command::Completions(args) => completions::completions(&args)?,
        Command::Man(args) => completions::man(&args)?,
        // A log would write into the live view.
        Command::Top(args) if args.is_live() => {
            warnings.iter().for_each(|warning| print_error(&format!("warning: {warning}")));
            watch(&args)?;
        }
        Command::Top(args) => begin().and_then(|()| watch(&args))?,
        Command::Worker => {
            log::of_worker();
            return Ok(worker::run(registry));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(args: ServeArgs, warnings: &[String], registry: &Registry) -> anyhow::Result<()> {
    let config = Config::load(&args)?;
    if args.print_config {
        let settings = toml::to_string(&config).context("failed to print the settings")?;
        return print_document(&settings);
    }
    serve::serve(args, config, warnings, registry)
}

fn key(args: &KeyArgs) -> anyhow::Result<()> {
    let (key, entry) = keys::make(&args.name, &args.scopes)?;
    // The key is printed apart, so that `>> keys.toml` receives only the entry.
    print_error(&key);
    print_document(&entry)
}

fn simulate(args: &SimulateArgs) -> anyhow::Result<()> {
    let key = (args.api_key.as_deref(), args.api_key_file.as_deref());
    let recorded = args.recorded.as_deref().map(|url| top::recording(url, key, args.ca.as_deref()));
    let outcome = simulate::command(args, recorded.transpose()?)?;
    if args.json {
        return print_document(&outcome);
    }
    print(&outcome)?;
    let advice = args.recorded.as_deref().map(|url| top::advice(url, key, args.ca.as_deref()));
    advice.transpose()?.map_or(Ok(()), |advice| print(&advice))
}

fn repository(folder: Option<&PathBuf>) -> anyhow::Result<Repository> {
    match folder {
        Some(folder) => Repository::open(folder).context("failed to open the model repository"),
        None => Ok(Repository::embedded()),
    }
}

fn adapters(args: &AdaptersArgs) -> anyhow::Result<()> {
    if let Some(id) = &args.probe_one {
        return print_document(&serde_json::to_string(&probe_one(id))?);
    }
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    config.adapters.apply(&args.adapters);
    if args.query_drivers {
        return print_document(&listing::write(&list::list(&config.adapters.rules()))?);
    }
    let executable =
        std::env::current_exe().context("failed to find the program file of this process")?;
    let children = Children {
        executable: &executable,
        environment: config.environment_of_workers(),
        forward: print_error,
        forwards_all: args.verbose,
    };
    let mut entries = children.list(&config.adapters.as_arguments())?;
    warn_of_unknown(&entries, &config.adapter_ids());
    distinguish(&mut entries, &config.adapters.name);
    if args.probe {
        children.probe_all(&mut entries, LIMIT_DEFAULT);
    }
    if args.json { print_document(&render_json(&entries)?) } else { print(&render_table(&entries)) }
}

fn models(args: &ModelsArgs, registry: &Registry) -> anyhow::Result<ExitCode> {
    if let Some(ModelsCommand::Check { file, profile }) = &args.command {
        print(&onnx::check(file, *profile)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let found = repository(args.models.as_ref())?.scan(&registry.kinds());
    let found = Catalogue::check_ensembles(found);
    if args.json {
        print_document(&list_json(&found))?
    } else {
        print(&table(&found))?
    }
    let broken = found.iter().any(|found| matches!(found, ScanResult::Bad(_)));
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn watch(args: &TopArgs) -> anyhow::Result<()> {
    top::run(args)?.map_or(Ok(()), |frame| print(&frame))
}
