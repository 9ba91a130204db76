use crate::array::Array;
use crate::npz;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tolerance of cases that no table lists: relative and absolute.
const TOLERANCE: (f64, f64) = (1e-3, 1e-4);

/// A graph with samples of its answers.
pub struct Case {
    pub name: String,
    pub folder: PathBuf,
    /// The relative and the absolute tolerance.
    pub tolerance: (f64, f64),
    pub samples: Vec<Sample>,
}

/// Inputs and the corresponding outputs.
pub struct Sample {
    pub inputs: Vec<(String, Array)>,
    pub outputs: Vec<(String, Array)>,
}

/// Every folder with a `model.onnx`, by name. Each row of a table must have its folder.
#[track_caller]
pub fn read(root: &Path) -> Vec<Case> {
    let listed = tables(root);
    for name in listed.keys() {
        assert!(root.join(name).join("model.onnx").is_file(), "{name} is listed and not there");
    }
    let entries = root.read_dir().expect("the folder of cases can be read");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("model.onnx").is_file());
    folders.sort();
    assert!(!folders.is_empty(), "{} has no cases", root.display());
    let case = |folder: PathBuf| {
        let name = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
        let tolerance = listed.get(&name).copied().unwrap_or(TOLERANCE);
        Case { samples: samples(&folder), name, folder, tolerance }
    };
    folders.into_iter().map(case).collect()
}

/// The tolerances in the tables of a folder, by the names of the cases.
fn tables(root: &Path) -> BTreeMap<String, (f64, f64)> {
    let entries = root.read_dir().expect("the folder of cases can be read");
    let paths = entries.map(|entry| entry.unwrap().path());
    let tables = paths.filter(|path| path.extension().is_some_and(|extension| extension == "tsv"));
    tables.flat_map(|path| table(&std::fs::read_to_string(path).unwrap())).collect()
}

fn table(text: &str) -> Vec<(String, (f64, f64))> {
    let mut rows = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let header = rows.next().expect("a table has a header");
    let column = |name: &str| header.iter().position(|column| *column == name).expect(name);
    let (name, relative, absolute) = (column("name"), column("rtol"), column("atol"));
    let row = |row: Vec<&str>| {
        let number = |at: usize| row[at].parse().expect("a tolerance is a number");
        (row[name].to_owned(), (number(relative), number(absolute)))
    };
    rows.map(row).collect()
}

/// The samples of a folder, `in0.npz` and `out0.npz` first.
fn samples(folder: &Path) -> Vec<Sample> {
    let mut samples = Vec::new();
    loop {
        let path = |kind: &str| folder.join(format!("{kind}{}.npz", samples.len()));
        let (inputs, outputs) = (path("in"), path("out"));
        if !inputs.exists() && !outputs.exists() {
            assert!(!samples.is_empty(), "{} has no samples", folder.display());
            return samples;
        }
        let arrays = |path: &Path| npz::read(path).unwrap_or_else(|error| panic!("{error}"));
        samples.push(Sample { inputs: arrays(&inputs), outputs: arrays(&outputs) });
    }
}
