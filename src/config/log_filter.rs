//! The filter of the log, checked, because a misspelt one would suppress the whole log.

use anyhow::{Context, ensure};

/// The environment variable that contains the filter.
const VARIABLE: &str = "CONCERTINA_LOG";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// The target of the access log.
const ACCESS: &str = "access";
/// The parts of this program, written as `concertina::engine`: each is a crate, except the command
/// line.
const PARTS: &str = "
    adapter cli config device engine graph kinds model onnx schedule server simulate telemetry top
    types wire worker";
/// Prefixes of the targets of libraries that log.
const LIBRARIES: &str = "
    ash burn cubecl flex gpu_ h2 hyper interprocess log mio naga opentelemetry reqwest rustls tokio
    tower tracing want warp wgpu";

/// Returns the filter of the environment; `None` if it is not set.
///
/// # Errors
/// If a part of it is neither a level nor a known target.
#[allow(clippy::disallowed_methods, reason = "config is the home of the environment")]
pub fn log_filter() -> anyhow::Result<Option<String>> {
    let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let text = text.into_string().ok().with_context(|| format!("{VARIABLE}: is not UTF-8"))?;
    check(&text, program().as_deref())?;
    Ok(Some(with_crates(text)))
}

/// Replaces the parts by the targets of their events, such as `concertina_engine`.
fn with_crates(text: String) -> String {
    let crates = PARTS.split_whitespace().filter(|part| *part != "cli");
    crates.fold(text, |text, part| {
        text.replace(&format!("concertina::{part}"), &format!("concertina_{part}"))
    })
}

/// The name of the running program as a target: a program with custom models logs under its own
/// name.
fn program() -> Option<String> {
    let path = std::env::current_exe().ok()?;
    Some(path.file_stem()?.to_str()?.replace('-', "_"))
}

fn check(text: &str, program: Option<&str>) -> anyhow::Result<()> {
    // Spans and fields, which may contain commas, are checked by the filter itself.
    if text.contains('[') {
        return Ok(());
    }
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target), Some(level)),
            None if is_level(part) => (None, Some(part)),
            None => (Some(part), None),
        };
        ensure!(
            target.is_none_or(|target| is_target(target, program)),
            "{VARIABLE}: '{}' is neither a level ({}) nor a target of the log; write it as \
             'info' or 'info,concertina::engine=debug'",
            target.unwrap_or_default().escape_debug(),
            LEVELS.join(", ")
        );
        ensure!(
            level.is_none_or(is_level),
            "{VARIABLE}: '{}' is not a level; the levels are {}",
            level.unwrap_or_default().escape_debug(),
            LEVELS.join(", ")
        );
    }
    Ok(())
}

fn is_level(text: &str) -> bool {
    let is_number = text.len() == 1 && text.chars().all(|c| ('0'..='5').contains(&c));
    is_number || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text))
}

fn is_part(name: &str) -> bool {
    PARTS.split_whitespace().any(|part| part == name)
}

fn is_target(text: &str, program: Option<&str>) -> bool {
    let mut segments = text.split("::");
    let first = segments.next().unwrap_or_default();
    if first == "concertina" {
        return segments.next().is_none_or(is_part);
    }
    first == ACCESS
        || program == Some(first)
        || LIBRARIES.split_whitespace().any(|library| first.starts_with(library))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_levels_and_known_targets_are_accepted() {
        for good in [
            "info",
            "WARN",
            "off",
            "3",
            "debug,",
            "info,concertina::engine=debug",
            "concertina=trace,wgpu_hal=warn",
            "concertina::server::body",
            "access=info",
            "warn,my_models=debug",
            "concertina[request]=debug",
            "[request{id=\"a\"}]=trace",
            "info,hyper_util::client=off",
            "concertina[request]",
        ] {
            check(good, Some("my_models")).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
    }

    #[test]
    fn filters_that_name_no_level_and_no_target_are_errors() {
        for (wrong, named) in [
            ("banana", "'banana'"),
            ("info,banana", "'banana'"),
            ("info,concertina::engin=debug", "'concertina::engin'"),
            ("concertina=debg", "'debg' is not a level"),
            ("info,concertina=", "'' is not a level"),
            ("infoo", "'infoo'"),
            ("my_models=debug", "'my_models'"),
            ("9", "'9'"),
        ] {
            let error = check(wrong, None).expect_err(wrong).to_string();
            assert!(error.contains(named), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_targets_are_the_parts_of_the_program() {
        let workspace = include_str!("../../Cargo.toml");
        let crates = workspace
            .lines()
            .filter_map(|line| line.split_once("path = \"src/")?.1.split_once('"'));
        let crates: Vec<_> =
            crates.map(|(name, _)| name).filter(|name| *name != "testkit").chain(["cli"]).collect();
        assert!(crates.len() > 10, "{crates:?}");
        assert!(crates.iter().all(|name| is_part(name)), "{crates:?}");
        assert_eq!(PARTS.split_whitespace().count(), crates.len());
    }

    #[test]
    fn parts_become_the_crates_that_log() {
        let text = "info,concertina::engine::driver=debug,concertina::cli=warn,concertina=trace";
        let expected = "info,concertina_engine::driver=debug,concertina::cli=warn,concertina=trace";
        assert_eq!(with_crates(text.to_owned()), expected);
    }
}
