//! The output of `concertina adapters`.

use crate::entry::{AdapterEntry, Api, Class, Probe, Usability};
use crate::identity::api_name;
use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};
use types::escape;

/// Width of the table; longer cells wrap.
const WIDTH: u16 = 100;
/// Index in [`header`] of the only column with cells that may wrap.
const NAME_COLUMN: usize = 1;

/// The table of all adapters, and below it the reasons why some are not used.
pub fn render_table(entries: &[AdapterEntry]) -> String {
    let probed = entries.iter().any(|entry| entry.probe.is_some());
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(header(probed));
    for entry in entries {
        table.add_row(row(entry, probed));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        // Ids must be easy to copy and numbers easy to compare, so neither wraps.
        if index != NAME_COLUMN {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text.push_str(&notes(entries));
    text
}

fn header(probed: bool) -> Vec<&'static str> {
    let mut header = vec!["ID", "NAME, DRIVER", "API, CLASS", "MEMORY", "MAX BUFFER", "STATE"];
    if probed {
        header.extend(["GFLOP/S", "GB/S"]);
    }
    header
}

fn row(entry: &AdapterEntry, probed: bool) -> Vec<String> {
    let mut row = vec![
        escape::line(&entry.id).into_owned(),
        [escape::line(&entry.name), escape::line(&driver(entry))].join("\n"),
        kind(entry),
        entry.memory_bytes.map_or(dash(), bytes),
        bytes(entry.memory.max_buffer_bytes),
        state(entry).to_owned(),
    ];
    if probed {
        let figure =
            |value: fn(&Probe) -> f64| entry.probe.as_ref().map_or(dash(), |p| rate(value(p)));
        row.extend([figure(|p| p.gflops), figure(|p| p.copy_gbytes_per_s)]);
    }
    row
}

fn dash() -> String {
    "-".to_owned()
}

/// Driver and version; some APIs report only one of the two, Metal neither.
fn driver(entry: &AdapterEntry) -> String {
    format!("{} {}", entry.driver, entry.driver_info).trim().to_owned()
}

fn kind(entry: &AdapterEntry) -> String {
    let (api, class) = (api_name(entry.api), class_name(entry.class));
    if api == class { api.to_owned() } else { [api, class].join("\n") }
}

fn state(entry: &AdapterEntry) -> &'static str {
    match entry.state {
        Usability::Unused => "unused",
        Usability::Usable if entry.bridge => "bridge",
        Usability::Usable if entry.fallback => "fallback",
        Usability::Usable => "usable",
    }
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Discrete => "discrete",
        Class::Integrated => "integrated",
        Class::Virtual => "virtual",
        Class::Other => "other",
        Class::Software => "software",
        Class::Cpu => "cpu",
    }
}

fn bytes(bytes: u64) -> String {
    const MIB: f64 = 1_048_576.0;
    match bytes as f64 / MIB {
        0.0 => dash(),
        // Some drivers report the largest number if they have no limit.
        huge if huge > 1e9 => "no limit".to_owned(),
        large if large >= 1024.0 => format!("{:.1} GiB", large / 1024.0),
        small => format!("{small:.0} MiB"),
    }
}

fn rate(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// The reasons, and explanations of `bridge` and `fallback` if they occur.
fn notes(entries: &[AdapterEntry]) -> String {
    let mut text = String::new();
    for entry in entries {
        if let Some(reason) = &entry.reason {
            text.push_str(&format!("\n{}: {}", escape::line(&entry.id), escape::line(reason)));
        }
    }
    if entries.iter().any(|entry| entry.probe.is_some()) {
        text.push_str("\nGFLOP/S: f32 multiply-adds; GB/S: bytes read and written by a copy");
    }
    if entries.iter().any(|entry| state(entry) == "bridge") {
        text.push_str(
            "\nbridge: serves the models that it answers within their targets while others \
             start,\n        and all models while no other adapter can",
        );
    }
    if entries.iter().any(|entry| state(entry) == "fallback") {
        text.push_str("\nfallback: serves only while no other adapter can");
    }
    if entries.iter().all(|entry| entry.api == Api::Cpu) {
        text.push_str("\nno graphics driver found: Vulkan, Metal, DX12 and GL list no adapter");
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// `{"adapters": […]}` with every field of every entry, indented.
pub fn render_json(entries: &[AdapterEntry]) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&serde_json::json!({ "adapters": entries }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::{Rules, select};
    use crate::test_machines::{hybrid_laptop, with_cpu};

    fn entries() -> Vec<AdapterEntry> {
        let mut entries = select(&with_cpu(hybrid_laptop()), &Rules::default());
        if let Some(entry) = entries.first_mut() {
            entry.probe = Some(Probe { gflops: 23456.7, copy_gbytes_per_s: 8.25 });
            entry.memory_bytes = Some(24 << 30);
        }
        entries
    }

    #[test]
    fn the_table_names_every_adapter_within_its_width() {
        let entries = entries();
        let text = render_table(&entries);
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
        for entry in &entries {
            assert!(text.contains(&entry.id), "{text}");
        }
        assert!(text.contains("23457") && text.contains("8.2"), "{text}");
        assert!(text.contains("24.0 GiB") && text.contains(" -  "), "{text}");
        assert!(text.contains("bridge: serves the models"), "{text}");
    }

    #[test]
    fn reasons_stand_below_the_table() {
        let mut entries = entries();
        entries[0].state = Usability::Unused;
        entries[0].reason = Some("failed its check: kernel tiles".to_owned());
        let text = render_table(&entries);
        let line = format!("\n{}: failed its check: kernel tiles\n", entries[0].id);
        assert!(text.contains(&line), "{text}");
    }

    #[test]
    fn table_of_a_machine_without_drivers_has_a_note() {
        let text = render_table(&select(&with_cpu(Vec::new()), &Rules::default()));
        assert!(text.contains("no graphics driver found"), "{text}");
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(bytes(0), "-");
        assert_eq!(bytes(128 << 20), "128 MiB");
        assert_eq!(bytes(6 << 30), "6.0 GiB");
        assert_eq!(bytes(u64::MAX), "no limit");
    }

    #[test]
    fn json_holds_the_entries_under_one_key() {
        let entries = entries();
        let text = render_json(&entries).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let back: Vec<AdapterEntry> = serde_json::from_value(value["adapters"].clone()).unwrap();
        assert_eq!(back, entries);
        assert_eq!(value["adapters"][0]["state"], "usable");
        assert_eq!(value["adapters"][0]["memory_bytes"], 24_u64 << 30);
        assert!(value["adapters"][1]["memory_bytes"].is_null());
    }
}
