//! `config.pbtxt` of Triton's repositories: fields that map onto `model.toml` are used, and the
//! others are listed in the log. Field names are those of Triton's `model_config.proto`.

use crate::files::{BadFile, Detail, Files, is_safe_name};
use crate::manifest::{DELAY_MAX, MAX_ROWS_MAX, Manifest, Versions};
use crate::onnx::signature::KIND;
use crate::pbtxt::{FieldValue, Message};
use crate::signature::{RowMode, Signature};
use std::time::Duration;

/// The name of the file in a model's folder.
pub(crate) const FILE: &str = "config.pbtxt";
/// Largest file that is read, and largest file of labels, in bytes.
pub(crate) const BYTES_MAX: u64 = 1 << 20;

/// Names of Triton's ONNX backend in the fields `platform` and `backend`.
const PLATFORM: &str = "onnxruntime_onnx";
const BACKEND: &str = "onnxruntime";

/// Fields that are used or have no effect: the folder sets the name, and the graph defines the
/// tensors.
const USED: [&str; 9] = [
    "name",
    "platform",
    "backend",
    "max_batch_size",
    "input",
    "output",
    "version_policy",
    "dynamic_batching",
    "default_model_filename",
];
const USED_OF_TENSORS: [&str; 4] = ["name", "data_type", "dims", "label_filename"];
const USED_OF_BATCHING: [&str; 1] = ["max_queue_delay_microseconds"];
/// Most fields in a log line; it states the number of the others.
const SHOWN_MAX: usize = 20;

/// Reads the configuration in a model's folder. Also returns the fields that are ignored.
///
/// # Errors
/// If the configuration is invalid, with the file and the line or field.
pub(crate) fn read(folder: &Files) -> Result<(Manifest, Vec<String>), BadFile> {
    let bad = |detail: Detail| BadFile::new(folder.path_of(FILE), detail);
    let data = folder.read_up_to(FILE, BYTES_MAX)?;
    let text = std::str::from_utf8(&data).map_err(|_| bad("is not UTF-8 text".into()))?;
    let written = Message::parse(text).map_err(|error| bad(error.to_string().into()))?;
    let mut manifest = manifest(&written).map_err(bad)?;
    if let Some(file) = label_file(&written).map_err(bad)? {
        manifest.labels = labels(folder, &file)?;
    }
    Ok((manifest, ignored(&written)))
}

fn manifest(written: &Message) -> Result<Manifest, Detail> {
    check_backend(written)?;
    let file = written.text("default_model_filename")?.filter(|file| !file.is_empty());
    if let Some(file) = file.filter(|file| !is_safe_name(file)) {
        return Err(format!("default_model_filename: '{file}' is not a file name").into());
    }
    Ok(Manifest {
        file: file.map(str::to_owned),
        max_rows: max_rows(written)?,
        // 0 means that the graph has no batch axis.
        rows: (written.integer("max_batch_size")? == Some(0)).then_some(RowMode::Whole),
        delay: delay(written)?,
        versions: versions(written)?,
        tensors: tensors(written)?,
        ..Manifest::of_kind(KIND)
    })
}

fn check_backend(written: &Message) -> Result<(), Detail> {
    for (field, served) in [("platform", PLATFORM), ("backend", BACKEND)] {
        let found = written.text(field)?.unwrap_or_default();
        if !found.is_empty() && found != served {
            let shown: String = found.chars().take(60).collect();
            return Err(format!(
                "{field}: '{shown}' is not supported; use ONNX graphs, as '{served}'"
            )
            .into());
        }
    }
    Ok(())
}

/// Rows of the largest batch, if batches are enabled.
fn max_rows(written: &Message) -> Result<Option<usize>, Detail> {
    let Some(rows) = written.integer("max_batch_size")? else { return Ok(None) };
    if rows < 0 {
        return Err(format!("max_batch_size: {rows} is negative").into());
    }
    let rows = usize::try_from(rows).unwrap_or(usize::MAX).min(MAX_ROWS_MAX);
    Ok(Some(rows).filter(|rows| *rows > 0))
}

fn delay(written: &Message) -> Result<Duration, Detail> {
    let Some(batching) = written.message("dynamic_batching")? else { return Ok(Duration::ZERO) };
    let micros = batching.integer("max_queue_delay_microseconds")?.unwrap_or(0);
    let micros = u64::try_from(micros)
        .map_err(|_| Detail::from("max_queue_delay_microseconds: is negative"))?;
    Ok(Duration::from_micros(micros).min(DELAY_MAX))
}

fn versions(written: &Message) -> Result<Versions, Detail> {
    let Some(policy) = written.message("version_policy")? else { return Ok(Versions::Latest) };
    if policy.message("all")?.is_some() {
        return Ok(Versions::All);
    }
    if let Some(specific) = policy.message("specific")? {
        let number = |value: &FieldValue| {
            let number = value.integer("version_policy.specific.versions")?;
            let number = u64::try_from(number).ok().filter(|number| *number > 0);
            number
                .ok_or_else(|| Detail::from("version_policy.specific.versions: must be 1 or more"))
        };
        let mut numbers = specific.all("versions").map(number).collect::<Result<Vec<_>, _>>()?;
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.is_empty() {
            return Err("version_policy.specific.versions: is empty".into());
        }
        return Ok(Versions::These(numbers));
    }
    let latest = policy.message("latest")?;
    let count = latest.map(|latest| latest.integer("num_versions")).transpose()?.flatten();
    match count.map(usize::try_from) {
        None | Some(Ok(0 | 1)) => Ok(Versions::Latest),
        Some(Ok(count)) => Ok(Versions::Newest(count)),
        Some(Err(_)) => Err("version_policy.latest.num_versions: is negative".into()),
    }
}

/// Names of the described inputs and outputs.
fn tensors(written: &Message) -> Result<Vec<String>, Detail> {
    let mut names = Vec::new();
    for tensor in written.all("input").chain(written.all("output")) {
        let FieldValue::Message(tensor) = tensor else { continue };
        names.extend(tensor.text("name")?.map(str::to_owned));
    }
    Ok(names)
}

/// The file with the labels of the first output that has one.
fn label_file(written: &Message) -> Result<Option<String>, Detail> {
    for output in written.all("output") {
        let FieldValue::Message(output) = output else { continue };
        if let Some(file) = output.text("label_filename")?.filter(|file| !file.is_empty()) {
            return Ok(Some(file.to_owned()));
        }
    }
    Ok(None)
}

/// The labels in a file, one in each line.
fn labels(folder: &Files, file: &str) -> Result<Vec<String>, BadFile> {
    let data = folder.read_up_to(file, BYTES_MAX)?;
    let text = std::str::from_utf8(&data);
    let text = text.map_err(|_| BadFile::new(folder.path_of(file), "is not UTF-8 text"))?;
    Ok(text.lines().map(|line| line.trim_end().to_owned()).collect())
}

/// Paths of the ignored fields.
fn ignored(written: &Message) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (field, value) in &written.0 {
        let (taken, inner): (bool, &[&str]) = match (field.as_str(), value) {
            ("input" | "output", FieldValue::Message(_)) => (true, &USED_OF_TENSORS),
            ("dynamic_batching", FieldValue::Message(_)) => (true, &USED_OF_BATCHING),
            (field, _) => (USED.contains(&field), &[]),
        };
        match value {
            _ if !taken => found.push(field.clone()),
            FieldValue::Message(message) if !inner.is_empty() => {
                let others = message.0.iter().filter(|(name, _)| !inner.contains(&name.as_str()));
                found.extend(others.map(|(name, _)| format!("{field}.{name}")));
            }
            _ => {}
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Logs the ignored fields of a configuration, once each time that the model is read.
pub(crate) fn log_ignored(name: &str, ignored: &[String]) {
    if ignored.is_empty() {
        return;
    }
    let shown = ignored.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = ignored.len().saturating_sub(SHOWN_MAX);
    tracing::info!(model = %name, more, "ignored in {FILE}: {shown}");
}

/// Logs the inputs and outputs of the configuration that the graph lacks. Triton rejects such a
/// model; here the graph alone defines inputs and outputs.
pub(crate) fn log_unknown(name: &str, stated: &[String], signature: &Signature) {
    let specs = || signature.inputs.iter().chain(&signature.outputs);
    let unknown = |stated: &&String| !specs().any(|spec| spec.name == **stated);
    let unknown: Vec<&str> =
        stated.iter().filter(unknown).take(SHOWN_MAX).map(String::as_str).collect();
    if !unknown.is_empty() {
        let has: Vec<&str> = specs().map(|spec| spec.name.as_str()).take(SHOWN_MAX).collect();
        let (unknown, has) = (unknown.join(", "), has.join(", "));
        tracing::warn!(model = %name, "ignored in {FILE}: {unknown}; the graph has {has}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Folder;

    const FULL: &str = r#"
name: "resnet"
platform: "onnxruntime_onnx"
max_batch_size: 16
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] reshape { shape: [ 1 ] } } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" } ]
version_policy: { latest { num_versions: 2 } }
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
instance_group [ { count: 2 kind: KIND_GPU } ]
optimization { graph { level: 1 } }
default_model_filename: "net.onnx"
"#;

    fn parse(text: &str) -> Result<(Manifest, Vec<String>), String> {
        let folder = Folder::new();
        folder.write("m/config.pbtxt", text.as_bytes());
        folder.write("m/labels.txt", b"cat\r\ndog\n");
        let files = Files::open(folder.path()).unwrap().folder("m");
        read(&files).map_err(|error| error.to_string())
    }

    #[test]
    fn known_fields_are_used_and_the_others_are_listed() {
        let (manifest, ignored) = parse(FULL).unwrap();
        assert_eq!((manifest.kind.as_str(), manifest.file.as_deref()), (KIND, Some("net.onnx")));
        assert_eq!((manifest.max_rows, manifest.delay), (Some(16), Duration::from_micros(100)));
        assert_eq!(manifest.labels, ["cat", "dog"]);
        assert_eq!(manifest.tensors, ["x", "y"]);
        assert_eq!(manifest.versions, Versions::Newest(2));
        let named = ["dynamic_batching.preferred_batch_size", "input.reshape", "instance_group"];
        assert_eq!(ignored, [&named[..], &["optimization"]].concat());
    }

    #[test]
    fn empty_configuration_leaves_everything_to_the_graph() {
        let (manifest, ignored) = parse("").unwrap();
        assert_eq!(manifest, Manifest::of_kind(KIND));
        assert!(ignored.is_empty());
    }

    #[test]
    fn versions_are_those_of_the_policy() {
        let versions = |policy: &str| {
            parse(&format!("version_policy {{ {policy} }}")).map(|(manifest, _)| manifest.versions)
        };
        assert_eq!(versions("all {}"), Ok(Versions::All));
        assert_eq!(versions("latest {}"), Ok(Versions::Latest));
        assert_eq!(versions("latest { num_versions: 1 }"), Ok(Versions::Latest));
        assert_eq!(versions("specific { versions: [3, 1, 3] }"), Ok(Versions::These(vec![1, 3])));
        assert!(versions("specific {}").is_err() && versions("specific { versions: 0 }").is_err());
        assert!(versions("latest { num_versions: -1 }").is_err());
    }

    #[test]
    fn other_backends_are_errors_that_name_them() {
        for (text, words) in [
            ("platform: 'tensorrt_plan'", "m/config.pbtxt: platform: 'tensorrt_plan' is not"),
            ("backend: 'python'", "backend: 'python' is not supported"),
            ("platform: 'ensemble'", "platform: 'ensemble'"),
            ("max_batch_size: -1", "max_batch_size: -1 is negative"),
            ("max_batch_size: 'x'", "max_batch_size: is not an integer"),
            ("default_model_filename: '../x'", "default_model_filename: '../x' is not a file"),
            ("output { label_filename: 'none.txt' }", "m/none.txt: does not exist"),
            ("output { label_filename: '../../x' }", "is not a safe file name"),
            ("name: 'a\n", "line 2: text does not end"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let unbatched = parse("max_batch_size: 0").unwrap().0;
        assert_eq!((unbatched.max_rows, unbatched.rows), (None, Some(RowMode::Whole)));
        assert_eq!(parse("max_batch_size: 99999").unwrap().0.max_rows, Some(4096));
    }
}
