//! The output of `concertina models`.

use crate::{BadModel, ModelInfo, ScanResult, TensorSpec};
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
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
