//! Every datatype in both forms; subset, order and errors of outputs.

use super::*;
use engine::Memory;
use model::files::ModelSource;
use model::info::Batching;
use model::signature::TensorSpec;
use serde_json::{Value, json};
use std::time::Duration;

fn spec(name: &str) -> TensorSpec {
    TensorSpec::new(name, vec![Datatype::Uint8], vec![2])
}

pub(crate) fn model() -> ModelInfo {
    ModelInfo {
        name: "m".into(),
        version: "3".into(),
        kind: "identity".into(),
        source: ModelSource::Embedded,
        signature: Signature { outputs: vec![spec("a"), spec("b")], ..Signature::default() },
        batch: Batching { max_rows: 1, grows: false, delay: Duration::ZERO, row_memory_bytes: 0 },
        slo: None,
        labels: vec![],
        golden: None,
        layout: model::layout::Layout::default(),
        graph: Default::default(),
        pipeline: None,
        rows_reason: String::new(),
        decoupled: false,
        files_bytes: 0,
        files_changed: None,
    }
}

fn named(name: &str, binary: bool) -> Named {
    Named { name: name.into(), binary, classes: None }
}

fn outputs() -> Tensors {
    let tensor = |name: &str, data: &'static [u8]| {
        Tensor::new(name, Datatype::Uint8, vec![1, 2], Bytes::from_static(data)).unwrap()
    };
    Tensors(vec![tensor("a", &[1, 2]), tensor("b", &[3, 4])])
}

/// Renders an answer within a limit of memory.
fn render_within(
    bytes: usize,
    model: &ModelInfo,
    id: Option<&str>,
    outputs: &Tensors,
    wanted: &WantedOutputs,
) -> Result<RenderedBody, Error> {
    render(model, id, outputs, wanted, &Memory::new(bytes).of(1))
}

fn rendered(wanted: WantedOutputs) -> (Value, Vec<u8>) {
    let model = model();
    let wanted = wanted.resolve(&model.signature).unwrap();
    let rendered = render_within(1 << 20, &model, Some("id"), &outputs(), &wanted).unwrap();
    let (json, raw) = rendered.body.split_at(rendered.header_length.unwrap_or(rendered.body.len()));
    (serde_json::from_slice(json).unwrap(), raw.to_vec())
}

#[test]
fn all_outputs_as_json() {
    let (json, raw) = rendered(WantedOutputs::default());
    let output = |name: &str, data: [u8; 2]| {
        let (datatype, shape) = ("UINT8", [1, 2]);
        json!({"name": name, "datatype": datatype, "shape": shape, "data": data})
    };
    assert_eq!(
        json,
        json!({"id": "id", "model_name": "m", "model_version": "3",
               "outputs": [output("a", [1, 2]), output("b", [3, 4])]})
    );
    assert!(raw.is_empty());
}

#[test]
fn outputs_are_in_the_requested_order_and_form() {
    let named = vec![named("b", true), named("a", false)];
    let (json, raw) = rendered(WantedOutputs { binary: false, named });
    assert_eq!(json["outputs"][0]["name"], "b");
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 2);
    assert!(json["outputs"][0].get("data").is_none());
    assert_eq!(json["outputs"][1]["data"], json!([1, 2]));
    assert!(json["outputs"][1].get("parameters").is_none());
    assert_eq!(raw, [3, 4]);
    let (json, raw) = rendered(WantedOutputs { binary: true, named: vec![] });
    assert_eq!(json["outputs"].as_array().unwrap().len(), 2);
    assert_eq!(raw, [1, 2, 3, 4]);
}

#[test]
fn wrong_outputs_are_named() {
    let resolve = |names: &[&str]| {
        let named = names.iter().map(|name| named(name, false)).collect();
        WantedOutputs { binary: false, named }.resolve(&model().signature).unwrap_err()
    };
    assert_eq!(resolve(&["a", "c"]).message, "the model has no output 'c'; its outputs are a, b");
    assert_eq!(resolve(&["a", "a"]).message, "output 'a' is requested twice");
    assert_eq!(resolve(&["a", "a"]).kind.status(), 422);
}

#[test]
fn missing_output_of_the_engine_is_an_error() {
    let wanted = WantedOutputs { binary: false, named: vec![named("b", false)] };
    let few = Tensors(outputs().0[..1].to_vec());
    assert_eq!(
        render_within(1 << 20, &model(), None, &few, &wanted).unwrap_err().kind.status(),
        500
    );
}

#[test]
fn every_datatype_is_named_and_raw() {
    for datatype in Datatype::ALL {
        let data = Bytes::from(vec![0; 2 * datatype.size().unwrap_or(4)]);
        let tensor = Tensor::new("y", datatype, vec![2], data.clone()).unwrap();
        let wanted = |binary| WantedOutputs { binary, named: vec![named("y", binary)] };
        let outputs = Tensors(vec![tensor]);
        let raw = render_within(1 << 20, &model(), None, &outputs, &wanted(true)).unwrap();
        assert_eq!(raw.body[raw.header_length.unwrap()..], data);
        let json = render_within(1 << 20, &model(), None, &outputs, &wanted(false)).unwrap();
        let json: Value = serde_json::from_slice(&json.body).unwrap();
        assert_eq!(json["outputs"][0]["datatype"], datatype.as_str());
        assert_eq!(json["outputs"][0]["data"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn classes_replace_an_output_in_both_forms() {
    let labels = vec!["zero".to_owned(), "one".to_owned()];
    let model = ModelInfo { labels, ..model() };
    let classes =
        |name: &str, binary, count| Named { classes: NonZero::new(count), ..named(name, binary) };
    let named = vec![classes("a", false, 1), classes("b", true, 5), named("a", false)];
    let rendered =
        render_within(1 << 20, &model, None, &outputs(), &WantedOutputs { binary: false, named })
            .unwrap();
    let (json, raw) = rendered.body.split_at(rendered.header_length.unwrap());
    let json: Value = serde_json::from_slice(json).unwrap();
    let class = json!({"name": "a", "datatype": "BYTES", "shape": [1, 1], "data": ["2:1:one"]});
    assert_eq!(json["outputs"][0], class);
    assert_eq!(json["outputs"][1]["shape"], json!([1, 2]));
    assert_eq!(json["outputs"][1]["parameters"]["binary_data_size"], raw.len());
    assert_eq!(raw, b"\x07\0\0\x004:1:one\x08\0\0\x003:0:zero");
    assert_eq!(json["outputs"][2]["data"], json!([1, 2]));
}

#[test]
fn answers_without_memory_are_rejected() {
    let model = model();
    for binary in [false, true] {
        let wanted = WantedOutputs { binary, named: Vec::new() }.resolve(&model.signature).unwrap();
        let error = render_within(100, &model, None, &outputs(), &wanted).unwrap_err();
        assert_eq!(error.kind.status(), 503, "{error}");
        assert!(error.message.contains("the answer needs more memory"), "{error}");
    }
}
