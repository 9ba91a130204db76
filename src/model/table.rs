//! The output of `concertina models`.

use crate::{BadModel, ModelInfo, ScanResult, TensorSpec};
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Value, json};
use types::escape;

/// A table with one line for each model version: its inputs and outputs, or the reason why it
/// cannot be served. Names come from files, so their text is escaped.
pub fn table(found: &[ScanResult]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["MODEL", "VERSION", "KIND", "ROWS", "INPUTS", "OUTPUTS", "STATE"]);
    for found in found {
        let row = match found {
            ScanResult::Good(info) => good(info),
            ScanResult::Bad(bad) => broken(bad),
        };
        table.add_row(row.map(|cell| escape::line(&cell).into_owned()));
    }
    table.to_string()
}

/// The same as JSON: an array with an object for each model version.
pub fn list_json(found: &[ScanResult]) -> String {
    let all = found.iter().map(|found| match found {
        ScanResult::Good(info) => json!({
            "name": info.name,
            "version": info.version,
            "kind": info.kind,
            "max_rows": info.batch.max_rows,
            "inputs": specs_json(&info.interface().inputs),
            "outputs": specs_json(&info.interface().outputs),
        }),
        ScanResult::Bad(bad) => {
            json!({ "name": bad.name, "version": bad.version, "error": bad.error.to_string() })
        }
    });
    format!("{:#}", Value::Array(all.collect()))
}

fn specs_json(specs: &[TensorSpec]) -> Value {
    let spec = |spec: &TensorSpec| {
        let datatypes: Vec<_> = spec.datatypes.iter().map(|datatype| datatype.as_str()).collect();
        json!({ "name": spec.name, "datatypes": datatypes, "shape": spec.shape })
    };
    specs.iter().map(spec).collect()
}

fn broken(bad: &BadModel) -> [String; 7] {
    let (name, version) = (bad.name.clone(), bad.version.clone().unwrap_or_default());
    let blank = String::new;
    [name, version, blank(), blank(), blank(), blank(), format!("broken: {}", bad.error)]
}

fn good(info: &ModelInfo) -> [String; 7] {
    [
        info.name.clone(),
        info.version.clone(),
        info.kind.clone(),
        info.batch.max_rows.to_string(),
        specs(&info.interface().inputs),
        specs(&info.interface().outputs),
        "good".to_owned(),
    ]
}

fn specs(specs: &[TensorSpec]) -> String {
    let spec = |spec: &TensorSpec| {
        let datatypes: Vec<_> = spec.datatypes.iter().map(|datatype| datatype.as_str()).collect();
        format!("{} {} {:?}", spec.name, datatypes.join("|"), spec.shape)
    };
    specs.iter().map(spec).collect::<Vec<_>>().join(", ")
}
