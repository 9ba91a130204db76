//! The help of commands: groups of options, and examples.

use super::Cli;
use clap::{Command, CommandFactory};

/// The command line with groups and examples.
pub(super) fn command_line() -> Command {
    let mut all = Cli::command();
    let names: Vec<String> =
        all.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in names {
        all = all.mut_subcommand(&name, |command| described(command, &name));
    }
    all
}

fn described(command: Command, name: &str) -> Command {
    let command = command.mut_args(|argument| match group(argument.get_id().as_str()) {
        Some(group) => argument.help_heading(group),
        None => argument,
    });
    match examples(name) {
        "" => command,
        examples => command.after_help(format!("Examples:\n{examples}")),
    }
}

/// The group of an option in the help; `None` for the most frequent ones.
fn group(option: &str) -> Option<&'static str> {
    Some(match option {
        "software_adapters" | "cpu" | "gl" | "only" | "exclude" => "Adapters",
        "policy"
        | "latency_target"
        | "adapters_min"
        | "adapters_max"
        | "target_rows"
        | "scale_down_delay"
        | "scale_to_zero_delay" => "Scheduling",
        "api_key" | "api_key_file" | "keys" | "tls_certificate" | "tls_key" | "allow_remote"
        | "allow_origins" | "ca" => "Access",
        "cache_dir" | "runtime_dir" | "lock_dir" => "Folders",
        "log_format" | "access_log" | "otlp_endpoint" | "record" => "Telemetry",
        _ => return None,
    })
}

/// Examples of a command, one in each line.
fn examples(command: &str) -> &'static str {
    match command {
        "serve" => {
            "  concertina serve\n  concertina serve --models my-models --latency-target 200ms\n  \
             concertina serve --keys keys.toml --listen 0.0.0.0:8000"
        }
        "adapters" => "  concertina adapters --probe\n  concertina adapters --json",
        "models" => {
            "  concertina models --models my-models\n  concertina models check resnet50.onnx"
        }
        "top" => "  concertina top --url https://gpu-box:8000 --ca cert.pem",
        "bench" => {
            "  concertina bench digits\n  concertina bench resnet50 --concurrency 1,8,64 --csv"
        }
        "key" => "  concertina key --name ci --scope infer --scope read >> keys.toml",
        "simulate" => {
            "  concertina simulate --trace requests.csv --adapters my-box.toml \
             --policy balanced,energy"
        }
        "doctor" => "  concertina doctor --config concertina.toml",
        "completions" => {
            "  concertina completions bash > ~/.local/share/bash-completion/completions/concertina"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    #[test]
    fn every_visible_command_has_examples_that_parse() {
        let all = command_line();
        for command in all.get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            let lines = examples(name).lines().map(str::trim);
            let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
            assert!(!lines.is_empty(), "{name} has no example");
            for line in lines {
                let words = line.split(" >").next().unwrap_or_default().split_whitespace();
                let parsed = command_line().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn every_group_has_options() {
        let all = command_line();
        let serve = all.find_subcommand("serve").unwrap();
        let groups = serve.get_arguments().filter_map(Arg::get_help_heading);
        let groups: std::collections::BTreeSet<_> = groups.collect();
        assert_eq!(groups.len(), 5, "{groups:?}");
    }
}
