//! Former names of settings. They are errors that give the present name, so that a file, a command
//! line or an environment from before the renaming is corrected without a look into a manual.

use super::ServeArgs;
use anyhow::{bail, ensure};
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Args, Command};
use toml::Table;

/// Former and present paths in the configuration file. Flags and variables are derived from them.
const RENAMED: [(&str, &str); 13] = [
    ("models_poll", "models_poll_interval"),
    ("adapters.ahead", "adapters.start_ahead"),
    ("adapters.start_price", "adapters.start_penalty_joules"),
    ("adapters.starts_per_hour", "adapters.starts_per_hour_max"),
    ("limits.held_bytes", "limits.host_memory_bytes"),
    ("workers.silence", "workers.heartbeat_timeout"),
    ("workers.start", "workers.start_timeout"),
    ("workers.run", "workers.run_timeout"),
    ("workers.stop", "workers.stop_timeout"),
    ("workers.reap", "workers.kill_timeout"),
    ("workers.check", "workers.self_check_interval"),
    ("workers.validation", "workers.validation_timeout"),
    ("workers.patience", "workers.quarantine_wait_max"),
];

/// Another accepted name, since many know a latency target as a service level objective.
const ALIAS: (&str, &str) = ("slo", "latency_target");

/// The present name of a setting: `name` itself unless it is another name of one.
///
/// # Errors
/// If it is a former name.
pub(super) fn present(name: &str) -> anyhow::Result<&str> {
    if let Some((old, new)) = RENAMED.iter().find(|(old, _)| *old == name) {
        bail!("{old} is now {new}");
    }
    Ok(if name == ALIAS.0 { ALIAS.1 } else { name })
}

/// Checks the names of a configuration file.
///
/// # Errors
/// All former names in it, each with the present one; two names of one setting.
pub(super) fn check_table(table: &Table) -> anyhow::Result<()> {
    let has = |path: &str| {
        let mut keys = path.split('.');
        let value = keys.next().and_then(|key| table.get(key));
        keys.try_fold(value, |value, key| Some(value?.get(key))).flatten().is_some()
    };
    let renamed = RENAMED.iter().filter(|(old, _)| has(old));
    let renamed: Vec<_> = renamed.map(|(old, new)| format!("{old} is now {new}")).collect();
    ensure!(renamed.is_empty(), "{}", renamed.join("; "));
    ensure!(!(has(ALIAS.0) && has(ALIAS.1)), "{}", both(ALIAS.0, ALIAS.1));
    Ok(())
}

/// Checks that the command line and the environment give a setting one name.
///
/// # Errors
/// If they have two names of one setting.
pub(super) fn check_flags(args: &ServeArgs) -> anyhow::Result<()> {
    ensure!(
        args.slo.is_none() || args.latency_target.is_none(),
        "{}",
        both("--slo (CONCERTINA_SLO)", "--latency-target (CONCERTINA_LATENCY_TARGET)")
    );
    Ok(())
}

fn both(alias: &str, name: &str) -> String {
    format!("{alias} and {name} are two names of one setting; leave {alias} out")
}

/// An error of parsing the command line of `program`; if it is about a former flag, it names the
/// present one.
pub fn renamed_flag(error: Error, program: &mut Command) -> Error {
    let given = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(given)) if error.kind() == ErrorKind::UnknownArgument => given,
        _ => return error,
    };
    let commands = program.get_subcommands().chain([&*program]);
    let flags: Vec<&str> =
        commands.flat_map(Command::get_arguments).filter_map(|flag| flag.get_long()).collect();
    let renamed =
        RENAMED.iter().flat_map(|(old, new)| flags_of(old).into_iter().zip(flags_of(new)));
    let mut renamed = renamed.filter(|(_, new)| flags.contains(&&**new));
    match renamed.find(|(old, _)| given.strip_prefix("--") == Some(&**old)) {
        Some((old, new)) => program.error(error.kind(), format!("--{old} is now --{new}")),
        None => error,
    }
}

/// The flags, without their dashes, that a setting may have.
fn flags_of(path: &str) -> [String; 2] {
    let name = path.rsplit('.').next().unwrap_or(path).replace('_', "-");
    [name.clone(), format!("no-{name}")]
}

/// Checks the names of the variables of this process.
///
/// # Errors
/// If one has a former name of a variable, with the present name.
#[allow(clippy::disallowed_methods, reason = "config is the home of the environment")]
pub(super) fn check_variables() -> anyhow::Result<()> {
    check_variables_by(|name| std::env::var_os(name).is_some())
}

fn check_variables_by(is_set: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let serve = ServeArgs::augment_args(Command::new("serve"));
    let known: Vec<&str> =
        serve.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
    let variable = |path: &str| format!("CONCERTINA_{}", path.replace('.', "_").to_uppercase());
    let renamed = RENAMED.iter().map(|(old, new)| (variable(old), variable(new)));
    let mut renamed = renamed.filter(|(_, new)| known.contains(&&**new));
    match renamed.find(|(old, _)| is_set(old)) {
        Some((old, new)) => bail!("{old} is now {new}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use clap::FromArgMatches;
    use std::time::Duration;

    fn read(text: &str) -> Result<Config, String> {
        Config::parse(text).map_err(|error| format!("{error:#}"))
    }

    fn program() -> Command {
        let simulate = Command::new("simulate").arg(clap::arg!(--"no-start-ahead"));
        let serve = ServeArgs::augment_args(Command::new("serve"));
        Command::new("concertina").subcommands([serve, simulate])
    }

    fn parse(line: &str) -> Result<ServeArgs, String> {
        let mut program = program();
        let parsed = program.try_get_matches_from_mut(line.split(' '));
        let parsed = parsed.map_err(|error| renamed_flag(error, &mut program).to_string())?;
        Ok(ServeArgs::from_arg_matches(parsed.subcommand().unwrap().1).unwrap())
    }

    #[test]
    fn former_names_in_a_file_are_errors_that_give_the_present_ones() {
        let present = toml::Table::try_from(Config::default()).unwrap();
        for (old, new) in RENAMED {
            let error = read(&format!("{old} = 1")).expect_err(old);
            assert_eq!(error, format!("{old} is now {new}"));
            let pair = new.split_once('.');
            let there = match pair {
                Some((folder, key)) => present[folder].get(key),
                None => present.get(new),
            };
            assert!(there.is_some(), "{new}");
        }
        let error = read("models_poll = '1s'\n[workers]\nrun = '1s'\nretries = 1").unwrap_err();
        let both =
            "models_poll is now models_poll_interval; workers.run is now workers.run_timeout";
        assert_eq!(error, both);
        assert!(read("[workers]\nretry = 1").unwrap_err().contains("unknown field `retry`"));
        assert!(read("workers = 1").unwrap_err().contains("invalid type"));
        assert!(read("= 1").unwrap_err().contains("line 1"));
    }

    #[test]
    fn former_names_over_http_are_errors_that_give_the_present_ones() {
        for (old, new) in RENAMED {
            let error = Config::default().with_line(&format!("{old} = 1")).expect_err(old);
            assert_eq!(error.to_string(), format!("{old} is now {new}"));
        }
    }

    #[test]
    fn former_flags_are_errors_that_give_the_present_ones() {
        for (line, words) in [
            ("concertina serve --models-poll 2s", "--models-poll is now --models-poll-interval"),
            ("concertina serve --models-poll=2s", "--models-poll is now --models-poll-interval"),
            ("concertina simulate --no-ahead", "--no-ahead is now --no-start-ahead"),
            ("concertina serve --model x", "unexpected argument '--model' found"),
            ("concertina serve --run 1s", "unexpected argument '--run' found"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(words), "{line}: {error}");
        }
        assert!(parse("concertina serve --models-poll-interval 2s").is_ok());
    }

    #[test]
    fn former_variables_are_errors_that_give_the_present_ones() {
        let check = |set: &str| check_variables_by(|name| name == set);
        let expected = "CONCERTINA_MODELS_POLL is now CONCERTINA_MODELS_POLL_INTERVAL";
        assert_eq!(check("CONCERTINA_MODELS_POLL").unwrap_err().to_string(), expected);
        assert!(check("CONCERTINA_MODELS_POLL_INTERVAL").is_ok());
        // No variable ever had this name.
        assert!(check("CONCERTINA_WORKERS_RUN").is_ok());
    }

    #[test]
    fn slo_is_another_name_of_latency_target_and_both_together_are_an_error() {
        let two_names = "are two names of one setting; leave ";
        for text in ["slo = '7s'", "latency_target = '7s'"] {
            assert_eq!(read(text).unwrap().latency_target, Duration::from_secs(7));
        }
        let error = read("slo = '1s'\nlatency_target = '1s'").unwrap_err();
        assert_eq!(error, format!("slo and latency_target {two_names}slo out"));
        let load = |line| Config::load(&parse(line)?).map_err(|error| format!("{error:#}"));
        for line in ["concertina serve --slo 7s", "concertina serve --latency-target 7s"] {
            assert_eq!(load(line).unwrap().latency_target, Duration::from_secs(7));
        }
        let error = load("concertina serve --slo 1s --latency-target 1s").unwrap_err();
        assert!(error.contains("--latency-target") && error.contains("leave --slo"), "{error}");
        // The variable is one of the flag.
        let serve = program();
        let serve = serve.find_subcommand("serve").unwrap();
        let variable = |long: &str| {
            let mut flags = serve.get_arguments().filter(|flag| flag.get_long() == Some(long));
            flags.next().unwrap().get_env().unwrap().to_owned()
        };
        assert_eq!(variable("slo"), "CONCERTINA_SLO");
        assert_eq!(variable("latency-target"), "CONCERTINA_LATENCY_TARGET");
    }
}
