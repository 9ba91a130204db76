//! The command line together with the environment, and what is odd about them.

use super::{Cli, Command};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use config::{ServeArgs, unknown_variables};
use std::collections::BTreeSet;
use std::path::PathBuf;
use top::TopArgs;
use types::key_file;

/// A parsed command line.
pub(super) struct Given {
    pub(super) command: Command,
    /// Sentences for the log.
    pub(super) warnings: Vec<String>,
}

/// Parses the command line and the environment; ends the process after `--help` and errors.
pub(super) fn parse() -> Given {
    let matches = Cli::command().get_matches();
    let mut command = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli.command,
        Err(error) => error.exit(),
    };
    let keys = matches.subcommand().map(|(_, matches)| Sources::of(matches)).unwrap_or_default();
    let mut warnings = unknown_variables(&variables());
    match &mut command {
        Command::Serve(args) => {
            let ServeArgs { api_key, api_key_file, .. } = args.as_mut();
            keys.prefer_arguments(api_key, api_key_file);
        }
        Command::Top(TopArgs { api_key, api_key_file, .. }) => {
            keys.prefer_arguments(api_key, api_key_file);
            warnings
                .extend(api_key_file.as_ref().and_then(|file| key_file::readers(file, "API key")));
        }
        // It has a cleared environment, and its server has warned.
        Command::Worker => warnings.clear(),
        _ => {}
    }
    if keys.key == Some(ValueSource::CommandLine) {
        warnings.push(
            "the API key is an argument, which every user of this machine can read; use \
             --api-key-file, or the variable CONCERTINA_API_KEY"
                .to_owned(),
        );
    }
    Given { command, warnings }
}

/// Where an API key, and the name of a file with one, come from.
#[derive(Default)]
struct Sources {
    key: Option<ValueSource>,
    file: Option<ValueSource>,
}

impl Sources {
    fn of(matches: &ArgMatches) -> Sources {
        let source = |id| {
            let is_argument = matches.try_contains_id(id).is_ok();
            is_argument.then(|| matches.value_source(id)).flatten()
        };
        Sources { key: source("api_key"), file: source("api_key_file") }
    }

    /// A flag wins over the environment, also where the two name the key in different ways.
    fn prefer_arguments(&self, key: &mut Option<String>, file: &mut Option<PathBuf>) {
        use ValueSource::{CommandLine, EnvVariable};
        match (self.key, self.file) {
            (Some(CommandLine), Some(EnvVariable)) => *file = None,
            (Some(EnvVariable), Some(CommandLine)) => *key = None,
            _ => {}
        }
    }
}

/// Every variable of the environment that some command reads.
fn variables() -> Vec<String> {
    let program = Cli::command();
    let arguments = program.get_subcommands().flat_map(clap::Command::get_arguments);
    let read = arguments.filter_map(|argument| argument.get_env()?.to_str());
    let all: BTreeSet<&str> = read.chain(["CONCERTINA_LOG"]).collect();
    all.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_all_commands_are_known() {
        let variables = variables();
        for known in [
            "CONCERTINA_MODELS",
            "CONCERTINA_API_KEY_FILE",
            "CONCERTINA_SOFTWARE_ADAPTERS",
            "CONCERTINA_URL",
            "CONCERTINA_LOG",
        ] {
            assert!(variables.iter().any(|variable| variable == known), "{known}");
        }
    }

    #[test]
    fn flags_win_over_the_environment_in_either_form() {
        let kept = |key, file| {
            let (mut one, mut other) = (Some("k".to_owned()), Some(PathBuf::from("f")));
            Sources { key, file }.prefer_arguments(&mut one, &mut other);
            (one.is_some(), other.is_some())
        };
        use ValueSource::{CommandLine, EnvVariable};
        assert_eq!(kept(Some(CommandLine), Some(EnvVariable)), (true, false));
        assert_eq!(kept(Some(EnvVariable), Some(CommandLine)), (false, true));
        // Neither is more explicit: the settings reject both together.
        assert_eq!(kept(Some(EnvVariable), Some(EnvVariable)), (true, true));
    }
}
