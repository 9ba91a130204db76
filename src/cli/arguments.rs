//! Parsing of the command line together with the environment, and warnings about both.

use super::help::command_line;
use super::{Cli, Command};
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use config::{ServeArgs, renamed_flag, unknown_variables};
use std::collections::BTreeSet;
use top::{BenchArgs, ConnectionArgs, TopArgs};
use types::key_file;

/// A parsed command line.
pub(super) struct Given {
    pub(super) command: Command,
    /// Warnings for the log.
    pub(super) warnings: Vec<String>,
}

/// Parses the command line and the environment; ends the process after `--help` and errors.
pub(super) fn parse() -> Given {
    let matches = command_line()
        .try_get_matches()
        .unwrap_or_else(|error| renamed_flag(error, &mut command_line()).exit());
    let mut command = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli.command,
        Err(error) => error.exit(),
    };
    let sources = |ids| {
        matches.subcommand().map(|(_, matches)| Sources::of(matches, ids)).unwrap_or_default()
    };
    let keys = sources(["api_key", "api_key_file"]);
    let mut warnings = unknown_variables(&variables());
    match &mut command {
        Command::Serve(args) => {
            let ServeArgs { api_key, api_key_file, latency_target, slo, .. } = args.as_mut();
            keys.prefer_arguments(api_key, api_key_file);
            sources(["latency_target", "slo"]).prefer_arguments(latency_target, slo);
        }
        Command::Top(TopArgs { connection, .. }) | Command::Bench(BenchArgs { connection, .. }) => {
            let ConnectionArgs { api_key, api_key_file, .. } = connection;
            keys.prefer_arguments(api_key, api_key_file);
            warnings
                .extend(api_key_file.as_ref().and_then(|file| key_file::readers(file, "API key")));
        }
        // A worker has a cleared environment, and its server has already warned.
        Command::Worker => warnings.clear(),
        _ => {}
    }
    if keys.one == Some(ValueSource::CommandLine) {
        warnings.push(
            "the API key is an argument, which every user of this machine can read; use \
             --api-key-file, or the variable CONCERTINA_API_KEY"
                .to_owned(),
        );
    }
    Given { command, warnings }
}

/// Sources of two arguments that exclude each other, such as an API key and its file.
#[derive(Default)]
struct Sources {
    one: Option<ValueSource>,
    other: Option<ValueSource>,
}

impl Sources {
    fn of(matches: &ArgMatches, [one, other]: [&str; 2]) -> Sources {
        let source = |id| {
            let is_argument = matches.try_contains_id(id).is_ok();
            is_argument.then(|| matches.value_source(id)).flatten()
        };
        Sources { one: source(one), other: source(other) }
    }

    /// Prefers a flag over the environment, even if the two are different arguments.
    fn prefer_arguments<A, B>(&self, one: &mut Option<A>, other: &mut Option<B>) {
        use ValueSource::{CommandLine, EnvVariable};
        match (self.one, self.other) {
            (Some(CommandLine), Some(EnvVariable)) => *other = None,
            (Some(EnvVariable), Some(CommandLine)) => *one = None,
            _ => {}
        }
    }
}

/// Every environment variable that some command reads.
fn variables() -> Vec<String> {
    let program = command_line();
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
        let kept = |one, other| {
            let (mut key, mut file) = (Some("k"), Some("f"));
            Sources { one, other }.prefer_arguments(&mut key, &mut file);
            (key.is_some(), file.is_some())
        };
        use ValueSource::{CommandLine, EnvVariable};
        assert_eq!(kept(Some(CommandLine), Some(EnvVariable)), (true, false));
        assert_eq!(kept(Some(EnvVariable), Some(CommandLine)), (false, true));
        // Neither is more explicit: the settings reject both together.
        assert_eq!(kept(Some(EnvVariable), Some(EnvVariable)), (true, true));
    }
}
