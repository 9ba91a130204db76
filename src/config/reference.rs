//! The reference of all settings, docs/configuration.md, made from their declarations: a setting
//! without a description, or a page that is out of date, fails the test.

use crate::{Config, ServeArgs};
use clap::{Args, Command};
use std::fmt::Write;
use std::path::Path;
use toml::{Table, Value};

const SOURCES: [&str; 7] = [
    include_str!("lib.rs"),
    include_str!("tls.rs"),
    include_str!("cache.rs"),
    include_str!("adapters.rs"),
    include_str!("limits.rs"),
    include_str!("telemetry.rs"),
    include_str!("live.rs"),
];
/// Tables of the file, with the type that declares each.
const TABLES: [(&str, &str); 7] = [
    ("", "Config"),
    ("tls", "Tls"),
    ("cache", "Cache"),
    ("adapters", "Adapters"),
    ("limits", "Limits"),
    ("workers", "Workers"),
    ("telemetry", "Telemetry"),
];
const PAGE: &str = "../../docs/configuration.md";
/// Writes the page in place of comparing it.
const WRITE: &str = "CONCERTINA_TEST_WRITE";

const HEAD: &str = "# Configuration

<!-- Made from the declarations in src/config by a test; after a change run
     CONCERTINA_TEST_WRITE=1 cargo test -p concertina-config reference -->

A setting is taken from a flag of `concertina serve`, else from a variable of the environment, else from the TOML file
that `--config` or `CONCERTINA_CONFIG` names, else it has its default. `concertina serve --print-config` prints the settings in
force; `concertina doctor` checks them. An unknown flag is an error that names the likely one, an unknown name in
the file is an error that lists the valid ones, and an unknown variable `CONCERTINA_…` is logged. Durations have a unit (`\"100ms\"`,
`\"5m\"`). Defaults that depend on the user or the machine are shown as *depends*.

SIGHUP reads the file again. The changed settings and those that need a restart are logged; workers keep the settings with which
they were started.
";

/// A field with the text of its documentation.
struct Field {
    name: String,
    text: String,
}

/// The fields of a type, in their order.
fn fields(of: &str) -> Vec<Field> {
    let begin = format!("pub struct {of} {{");
    let body = SOURCES.iter().find_map(|source| source.split_once(&begin)).expect(of).1;
    let body = body.split_once("\n}").expect("the end of a type").0;
    let (mut all, mut text) = (Vec::new(), Vec::new());
    for line in body.lines().map(str::trim) {
        if let Some(part) = line.strip_prefix("///") {
            text.push(part.trim());
        } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|it| it.split_once(": "))
        {
            all.push(Field { name: name.to_owned(), text: std::mem::take(&mut text).join(" ") });
        }
    }
    all
}

/// A default as it is written in the file.
fn shown(value: Option<&Value>) -> String {
    match value {
        None => "none".to_owned(),
        Some(Value::Table(table)) if table.is_empty() => "none".to_owned(),
        Some(Value::String(text)) if text.starts_with('/') => "*depends*".to_owned(),
        Some(value) => format!("`{value}`"),
    }
}

fn tables() -> String {
    let defaults = Table::try_from(Config::default()).expect("settings can be written");
    let mut page = String::new();
    for (table, of) in TABLES {
        let values = if table.is_empty() {
            Some(&defaults)
        } else {
            defaults.get(table).and_then(Value::as_table)
        };
        match table {
            "" => page += "\n## Server\n\n",
            table => writeln!(page, "\n## `[{table}]`\n").expect("a string"),
        }
        page += "| setting | default | meaning |\n|---|---|---|\n";
        let is_table = |name: &str| TABLES.iter().any(|(table, _)| *table == name);
        for Field { name, text } in fields(of) {
            assert!(
                !text.is_empty()
                    || is_table(&name)
                    || name == "test"
                    || name.starts_with("api_key"),
                "{of}.{name} has no description"
            );
            if !is_table(&name) && name != "test" {
                let default = shown(values.and_then(|values| values.get(&name)));
                writeln!(page, "| `{name}` | {default} | {} |", text.replace('|', "\\|"))
                    .expect("a string");
            }
        }
    }
    page
}

fn flags() -> String {
    let mut page =
        "\n## Flags and variables\n\n| flag | variable | meaning |\n|---|---|---|\n".to_owned();
    let command = ServeArgs::augment_args(Command::new("serve"));
    for argument in command.get_arguments().filter(|it| !it.is_hide_set()) {
        let Some(flag) = argument.get_long() else { continue };
        let variable = argument.get_env().map_or(String::new(), |it| format!("`{}`", it.display()));
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(!help.is_empty(), "--{flag} has no help");
        writeln!(page, "| `--{flag}` | {variable} | {} |", help.replace('\n', " "))
            .expect("a string");
    }
    page
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the developer requests the page")]
fn the_reference_of_settings_is_up_to_date() {
    let page = [HEAD, &tables(), &flags()].concat();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "run {WRITE}=1 cargo test -p concertina-config reference");
}
