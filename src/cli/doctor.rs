//! `concertina doctor`: the state of the machine as far as the server depends on it, and a remedy for
//! each problem. The text is made for bug reports: it contains no secrets.

mod machine;

use super::output::{print, print_document, print_error};
use super::{Cli, Command, repository};
use adapter::entry::{AdapterEntry, Api, Class, Usability};
use adapter::lock;
use adapter::table::render_table;
use clap::{Args, Parser};
use config::{Config, ServeArgs};
use device::child::Children;
use kinds::Registry;
use model::ScanResult;
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use toml::Table;

/// Arguments of `concertina doctor`.
#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// TOML file with settings, as for `serve`; variables of the environment count too
    #[arg(long, env = "CONCERTINA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Note for a machine on which neither drivers nor the kernel report a card.
const NO_CARD: &str = "no graphics card was found; models are served by the CPU";

/// A fact about the machine or the settings.
struct Finding {
    topic: &'static str,
    text: String,
    /// The remedy, if it is a problem.
    remedy: Option<String>,
}

impl Finding {
    fn fact(topic: &'static str, text: impl Into<String>) -> Finding {
        Finding { topic, text: text.into(), remedy: None }
    }

    fn problem(topic: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { topic, text: text.into(), remedy: Some(remedy.into()) }
    }
}

/// Examines the machine and prints the findings; the exit status is 1 if there is a problem.
///
/// # Errors
/// If stdout cannot be written.
pub(super) fn doctor(args: &DoctorArgs, registry: &Registry) -> anyhow::Result<ExitCode> {
    let mut findings = machine::findings();
    let config = settings(args, &mut findings);
    let entries = adapters(&config, &mut findings);
    findings.extend(folders(&config));
    findings.extend(address(&config));
    findings.extend(models(&config, registry));
    let has_problem = findings.iter().any(|finding| finding.remedy.is_some());
    if args.json {
        print_document(&as_json(&findings, &entries, &config))?;
    } else {
        print(&as_text(&findings, &entries, &config))?;
    }
    Ok(if has_problem { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The settings that `serve` would have with this file and the present environment; the defaults if
/// they are wrong.
fn settings(args: &DoctorArgs, findings: &mut Vec<Finding>) -> Config {
    let file = args.config.as_ref().map(|file| format!("--config={}", file.display()));
    let words = ["concertina", "serve"].map(str::to_owned).into_iter().chain(file);
    let parsed = Cli::try_parse_from(words).map_err(anyhow::Error::from);
    let loaded = parsed.and_then(|cli| match cli.command {
        Command::Serve(args) => Config::load(&ServeArgs { print_config: true, ..*args }),
        _ => Ok(Config::default()),
    });
    loaded.unwrap_or_else(|error| {
        let remedy = "correct the file, variable or flag that is named; until then the defaults \
                      are examined";
        findings.push(Finding::problem("settings", format!("{error:#}"), remedy));
        Config::default()
    })
}

fn adapters(config: &Config, findings: &mut Vec<Finding>) -> Vec<AdapterEntry> {
    let listed = std::env::current_exe().map_err(anyhow::Error::from).and_then(|executable| {
        let children = Children {
            executable: &executable,
            environment: config.environment_of_workers(),
            forward: print_error,
            forwards_all: false,
        };
        children.list(&config.adapters.as_arguments())
    });
    let entries = listed.unwrap_or_else(|error| {
        let remedy = "run `concertina adapters --verbose` for the messages of the drivers";
        findings.push(Finding::problem("adapters", format!("{error:#}"), remedy));
        Vec::new()
    });
    findings.extend(cards(&entries));
    entries
}

#[cfg(target_os = "linux")]
use adapter::unreachable::missing_loader;

/// On other systems the graphics API is a part of the system.
#[cfg(not(target_os = "linux"))]
fn missing_loader() -> Option<&'static str> {
    None
}

/// Cards that cannot be used, with the reason; and the lack of any card.
fn cards(entries: &[AdapterEntry]) -> Vec<Finding> {
    let is_card = |entry: &&AdapterEntry| {
        entry.api != Api::Cpu && !matches!(entry.class, Class::Software | Class::Cpu)
    };
    let is_usable = |entry: &&AdapterEntry| entry.state == Usability::Usable;
    let cards: Vec<_> = entries.iter().filter(is_card).collect();
    let usable = cards.iter().copied().filter(is_usable).count();
    let unused = cards.iter().filter_map(|entry| Some((entry, entry.reason.as_ref()?)));
    let mut all: Vec<Finding> = unused
        .map(|(entry, reason)| {
            Finding::problem("adapters", format!("{} is not used", entry.id), reason)
        })
        .collect();
    if usable > 0 {
        all.push(Finding::fact("adapters", format!("{usable} usable graphics adapters")));
    } else if cards.is_empty() {
        // The CPU serves, so that it is a problem only if a card is expected and its loader is missing.
        all.push(match missing_loader() {
            Some(remedy) => Finding::problem("adapters", "no graphics adapter was found", remedy),
            None => Finding::fact("adapters", NO_CARD),
        });
    }
    all
}

fn folders(config: &Config) -> Vec<Finding> {
    let runtime = engine::private_folder(&config.runtime_dir, true).map(|_| ());
    let created =
        |folder: &Path| std::fs::create_dir_all(folder).and_then(|()| lock::try_folder(folder));
    let locks =
        lock::make_folder(&config.lock_dir).and_then(|()| lock::try_folder(&config.lock_dir));
    [
        ("cache_dir", &config.cache_dir, created(&config.cache_dir).map_err(anyhow::Error::from)),
        ("runtime_dir", &config.runtime_dir, runtime),
        ("lock_dir", &config.lock_dir, locks.map_err(anyhow::Error::from)),
    ]
    .into_iter()
    .map(|(name, folder, usable)| match usable {
        Ok(()) => {
            Finding::fact("folders", format!("{name} {} can be written to", folder.display()))
        }
        Err(error) => Finding::problem(
            "folders",
            format!("{name} {}: {error:#}", folder.display()),
            format!("set {name} to a folder that this user can write to"),
        ),
    })
    .collect()
}

fn address(config: &Config) -> Option<Finding> {
    let address = config.listen;
    let error = match TcpListener::bind(address) {
        Ok(_) => return Some(Finding::fact("address", format!("{address} is free"))),
        Err(error) => error,
    };
    // A running server is the usual case.
    if error.kind() == ErrorKind::AddrInUse {
        return Some(Finding::fact(
            "address",
            format!("{address} is in use, perhaps by concertina"),
        ));
    }
    let remedy = "set listen to an address of this machine and a free port";
    Some(Finding::problem("address", format!("failed to listen on {address}: {error}"), remedy))
}

fn models(config: &Config, registry: &Registry) -> Vec<Finding> {
    let repository = match repository(config.models.as_ref()) {
        Ok(repository) => repository,
        Err(error) => {
            let remedy = "set models to a folder that this user can read";
            return vec![Finding::problem("models", format!("{error:#}"), remedy)];
        }
    };
    let found = engine::Catalogue::check_ensembles(repository.scan(&registry.kinds()));
    let count = found.iter().filter(|found| matches!(found, ScanResult::Good(_))).count();
    let mut all = vec![Finding::fact("models", format!("{count} models can be served"))];
    all.extend(found.iter().filter_map(|found| match found {
        ScanResult::Bad(bad) => {
            let remedy = format!("correct the files of the model, or remove them: {}", bad.error);
            Some(Finding::problem("models", format!("{} cannot be served", bad.name), remedy))
        }
        ScanResult::Good(_) => None,
    }));
    all
}

/// The settings that differ from the defaults. API keys are never written.
fn changed_settings(config: &Config) -> Table {
    let of = |config: &Config| Table::try_from(config).unwrap_or_default();
    let defaults = of(&Config::default());
    let mut changed = of(config);
    changed.retain(|name, value| defaults.get(name) != Some(value));
    for (name, value) in &mut changed {
        if let (Some(table), Some(default)) =
            (value.as_table_mut(), defaults.get(name).and_then(|value| value.as_table()))
        {
            table.retain(|name, value| default.get(name) != Some(value));
        }
    }
    changed
}

fn as_text(findings: &[Finding], entries: &[AdapterEntry], config: &Config) -> String {
    let facts = findings.iter().filter(|finding| finding.remedy.is_none());
    let mut lines: Vec<String> =
        facts.map(|finding| format!("{:10} {}", finding.topic, finding.text)).collect();
    let settings = changed_settings(config);
    if !settings.is_empty() {
        lines.push(format!("\nSettings other than the defaults:\n{settings}"));
    }
    lines.push(format!("\n{}", render_table(entries).trim_end()));
    let problems = findings.iter().filter_map(|finding| {
        let remedy = finding.remedy.as_ref()?;
        Some(format!("problem: {}: {}\n  remedy: {remedy}", finding.topic, finding.text))
    });
    let problems: Vec<String> = problems.collect();
    lines.push(match problems.as_slice() {
        [] => "\nNo problem was found.".to_owned(),
        problems => format!("\n{}", problems.join("\n")),
    });
    lines.join("\n")
}

fn as_json(findings: &[Finding], entries: &[AdapterEntry], config: &Config) -> String {
    let finding = |finding: &Finding| -> Value {
        json!({ "topic": finding.topic, "text": finding.text, "remedy": finding.remedy })
    };
    let findings: Vec<Value> = findings.iter().map(finding).collect();
    let settings = changed_settings(config);
    let report = json!({ "findings": findings, "settings": settings, "adapters": entries });
    format!("{report:#}")
}
