//! Edge cases of classical machine learning: contradictory files, and answers of ONNX Runtime that
//! differ from the standard. Whole exports are in `tests/data/onnx_cases`.

use super::regex::Expression;
use crate::{Engine, PlanLimits, TensorPlace};
use bytes::Bytes;
use graph::error::OnnxError;
use graph::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
};
use graph::test_graph::{attribute, node, none, value};
use graph::{Dim, Elem, FileTensor, ModelFile, Sort};
use prost::Message;

fn numbers(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, 7) }
}

fn reals(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, 6) }
}

fn names(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect();
    AttributeProto { strings, ..attribute(name, 8) }
}

fn number(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, 2) }
}

fn word(name: &str, value: &'static str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::from_static(value.as_bytes())), ..attribute(name, 3) }
}

fn tensor(name: &str, data_type: i32, raw: Vec<u8>) -> AttributeProto {
    let count = raw.len() / if data_type == 1 { 4 } else { 1 };
    let dims = vec![i64::try_from(count).unwrap()];
    let (data_type, raw_data) = (Some(data_type), Some(raw.into()));
    let t = Some(TensorProto { dims, data_type, raw_data, ..Default::default() });
    AttributeProto { t, ..attribute(name, 4) }
}

fn singles(name: &str, values: &[f32]) -> AttributeProto {
    tensor(name, 1, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// A file with an operator from `x` to `y` (and `z`).
fn ml(op: &str, version: i64, attribute: Vec<AttributeProto>) -> ModelFile {
    let own = node(op, &["x"], &["y", "z"]);
    let domain = if op == "Tokenizer" { "com.microsoft" } else { "ai.onnx.ml" };
    file(vec![NodeProto { domain: Some(domain.into()), attribute, ..own }], version)
}

fn file(node: Vec<NodeProto>, version: i64) -> ModelFile {
    let (input, output) = (vec![value("x")], vec![value("y")]);
    let graph = GraphProto { node, input, output, ..Default::default() };
    let opset = |domain: Option<&str>, version| OperatorSetIdProto {
        domain: domain.map(str::to_owned),
        version: Some(version),
    };
    let opset_import = vec![opset(None, 17), opset(Some("ai.onnx.ml"), version)];
    let model = ModelProto { graph: Some(graph), opset_import, ..Default::default() };
    ModelFile::read(Bytes::from(model.encode_to_vec()).into(), Some(&none)).unwrap()
}

fn engine(file: ModelFile) -> Engine {
    Engine::limited(file, TensorPlace::host(), PlanLimits::default()).unwrap()
}

fn table(columns: usize, values: &[f32]) -> FileTensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = vec![values.len() / columns, columns];
    FileTensor { elem: Elem::F32, shape, bytes: bytes.into(), text: Vec::new() }
}

fn texts(shape: &[usize], words: &[&str]) -> FileTensor {
    let text = words.iter().map(|word| (*word).to_owned()).collect();
    FileTensor { elem: Elem::Text, shape: shape.to_vec(), bytes: Bytes::new(), text }
}

fn floats(raw: &FileTensor) -> Vec<f32> {
    raw.bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

fn run(file: ModelFile, x: FileTensor) -> Result<Vec<f32>, OnnxError> {
    engine(file).run(&[x]).map(|outputs| floats(&outputs[0]))
}

/// `x0 <= 0.1 ? 1 : 2`; `others` replace its attributes.
fn stump(others: Vec<AttributeProto>) -> ModelFile {
    let mut all = vec![
        numbers("nodes_treeids", &[0, 0, 0]),
        numbers("nodes_nodeids", &[0, 1, 2]),
        numbers("nodes_featureids", &[0, 0, 0]),
        names("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        reals("nodes_values", &[0.1, 0.0, 0.0]),
        numbers("nodes_truenodeids", &[1, 0, 0]),
        numbers("nodes_falsenodeids", &[2, 0, 0]),
        numbers("target_treeids", &[0, 0]),
        numbers("target_nodeids", &[1, 2]),
        numbers("target_ids", &[0, 0]),
        reals("target_weights", &[1.0, 2.0]),
        number("n_targets", 1),
    ];
    all.retain(|own| others.iter().all(|other| other.name != own.name));
    all.extend(others);
    ml("TreeEnsembleRegressor", 3, all)
}

#[test]
fn thresholds_are_compared_in_32_bits_and_missing_values_follow_their_attribute() {
    let x = || table(1, &[0.1, 0.100_000_01, f32::NAN]);
    assert_eq!(run(stump(vec![]), x()).unwrap(), [1.0, 2.0, 2.0]);
    let tracked = numbers("nodes_missing_value_tracks_true", &[1, 0, 0]);
    assert_eq!(run(stump(vec![tracked]), x()).unwrap(), [1.0, 2.0, 1.0]);
}

#[track_caller]
fn assert_rejected(others: Vec<AttributeProto>, words: &str) {
    let error = run(stump(others), table(1, &[0.0])).unwrap_err().to_string();
    assert!(error.contains("(TreeEnsembleRegressor)") && error.contains(words), "{error}");
}

#[test]
fn contradictory_trees_are_an_error() {
    let list = |name, values: &[i64]| vec![numbers(name, values)];
    assert_rejected(list("nodes_truenodeids", &[0, 0, 0]), "leads back to one of its own");
    assert_rejected(list("nodes_falsenodeids", &[7, 0, 0]), "node 7 of tree 0 does not exist");
    assert_rejected(list("nodes_nodeids", &[0, 1, 1]), "node 1 of tree 0 is defined twice");
    assert_rejected(list("nodes_treeids", &[0, 0, 5]), "node 2 of tree 0 does not exist");
    assert_rejected(list("nodes_treeids", &[0, 0]), "different lengths");
    assert_rejected(list("nodes_featureids", &[1, 0, 0]), "the trees have 2");
    assert_rejected(list("nodes_featureids", &[-1, 0, 0]), "column -1");
    assert_rejected(list("target_nodeids", &[1, 9]), "node 9 of tree 0 does not exist");
    assert_rejected(list("target_ids", &[0, 1]), "target 1, which is out of range");
    assert_rejected(list("target_ids", &[0]), "different lengths");
    assert_rejected(vec![number("n_targets", 0)], "n_targets");
    assert_rejected(vec![number("n_targets", i64::MAX)], "elements");
    assert_rejected(
        vec![names("nodes_modes", &["BRANCH", "LEAF", "LEAF"])],
        "'BRANCH' is not supported",
    );
    assert_rejected(vec![word("aggregate_function", "MEDIAN")], "'MEDIAN' is not supported");
    assert_rejected(vec![reals("base_values", &[1.0, 2.0])], "2 base values do not fit 1");
}

/// Two branches to the same child are not a cycle: converters of LightGBM write them for sets.
#[test]
fn a_node_may_have_two_parents() {
    let shared = stump(vec![
        numbers("nodes_treeids", &[0; 5]),
        numbers("nodes_nodeids", &[0, 1, 2, 3, 4]),
        numbers("nodes_featureids", &[0; 5]),
        names("nodes_modes", &["BRANCH_EQ", "BRANCH_EQ", "BRANCH_EQ", "LEAF", "LEAF"]),
        reals("nodes_values", &[1.0, 2.0, 3.0, 0.0, 0.0]),
        numbers("nodes_truenodeids", &[3, 3, 3, 0, 0]),
        numbers("nodes_falsenodeids", &[1, 2, 4, 0, 0]),
        numbers("target_nodeids", &[3, 4]),
    ]);
    assert_eq!(run(shared, table(1, &[1.0, 3.0, 4.0])).unwrap(), [1.0, 1.0, 2.0]);
}

/// A tree of version 5 that tests `x0` for the set of 1 and 3.
fn members(others: Vec<AttributeProto>) -> ModelFile {
    let mut all = vec![
        numbers("tree_roots", &[0]),
        numbers("nodes_featureids", &[0]),
        tensor("nodes_modes", 2, vec![6]),
        singles("nodes_splits", &[0.0]),
        numbers("nodes_truenodeids", &[0]),
        numbers("nodes_trueleafs", &[1]),
        numbers("nodes_falsenodeids", &[1]),
        numbers("nodes_falseleafs", &[1]),
        singles("membership_values", &[3.0, 1.0, f32::NAN]),
        numbers("leaf_targetids", &[0, 0]),
        singles("leaf_weights", &[5.0, 7.0]),
        number("n_targets", 1),
    ];
    all.retain(|own| others.iter().all(|other| other.name != own.name));
    all.extend(others);
    ml("TreeEnsemble", 5, all)
}

#[test]
fn trees_of_version_5_support_sets_and_reject_missing_nodes() {
    let x = || table(1, &[1.0, 2.0, 3.0, f32::NAN]);
    assert_eq!(run(members(vec![]), x()).unwrap(), [5.0, 7.0, 5.0, 7.0]);
    for (other, words) in [
        (numbers("tree_roots", &[1]), "node 1 does not exist"),
        (numbers("tree_roots", &[-1]), "node -1 does not exist"),
        (numbers("nodes_truenodeids", &[2]), "a leaf that does not exist"),
        (numbers("nodes_trueleafs", &[0]), "leads back to one of its own"),
        (numbers("leaf_targetids", &[0, 4]), "target 4, which is out of range"),
        (tensor("nodes_modes", 2, vec![9]), "is not supported"),
    ] {
        let error = run(members(vec![other]), x()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn rows_are_independent_of_their_number() {
    let values: Vec<f32> = (0..700).map(|at| (at as f32 * 0.37).sin()).collect();
    let mut engine = engine(stump(vec![]));
    let all = floats(&engine.run(&[table(1, &values)]).unwrap()[0]);
    assert_eq!(all.len(), values.len());
    for (value, expected) in values.iter().zip(all) {
        assert_eq!(floats(&engine.run(&[table(1, &[*value])]).unwrap()[0]), [expected]);
    }
}

#[test]
fn a_zip_map_is_a_matrix_with_the_names_of_its_classes() {
    let zip = |classes: &[&str]| ml("ZipMap", 1, vec![names("classlabels_strings", classes)]);
    let file = zip(&["ant", "bee"]);
    let port = &file.graph.outputs[0];
    assert_eq!((port.sort, port.elem), (Sort::Tensor, Some(Elem::F32)));
    assert_eq!(port.dims, Some(vec![Dim::Unknown, Dim::Fixed(2)]));
    assert_eq!(file.class_names(), ["ant", "bee"]);
    assert_eq!(run(file, table(2, &[0.25, 0.75])).unwrap(), [0.25, 0.75]);
    let error = run(zip(&["ant"]), table(2, &[0.25, 0.75])).unwrap_err().to_string();
    assert!(error.contains("does not fit 1 classes"), "{error}");
    let numbered = ml("ZipMap", 1, vec![numbers("classlabels_int64s", &[3, -4])]);
    assert_eq!(numbered.class_names(), ["3", "-4"]);
}

#[test]
fn nan_is_a_key_from_version_4_on() {
    let encoder = |version| {
        let keys = reals("keys_floats", &[f32::NAN, 0.0]);
        let default = AttributeProto { f: Some(-1.0), ..attribute("default_float", 1) };
        ml("LabelEncoder", version, vec![keys, reals("values_floats", &[8.0, 9.0]), default])
    };
    let x = || table(3, &[f32::NAN, -0.0, 5.0]);
    assert_eq!(run(encoder(2), x()).unwrap(), [-1.0, 9.0, -1.0]);
    assert_eq!(run(encoder(4), x()).unwrap(), [8.0, 9.0, -1.0]);
}

#[test]
fn contradictory_numbers_of_vectors_and_classes_are_an_error() {
    let svm = |vectors: &[i64]| {
        let all = vec![
            numbers("vectors_per_class", vectors),
            reals("support_vectors", &[1.0, 2.0]),
            reals("coefficients", &[1.0, 1.0]),
            reals("rho", &[0.0]),
            numbers("classlabels_ints", &[0, 1]),
        ];
        ml("SVMClassifier", 1, all)
    };
    assert!(run(svm(&[1, 1]), table(1, &[0.5])).is_ok());
    for vectors in [&[i64::MAX, i64::MAX, 3][..], &[-1, 3], &[1 << 60, 0], &[2], &[2, 1]] {
        let error = run(svm(vectors), table(1, &[0.5])).unwrap_err().to_string();
        assert!(error.contains("(SVMClassifier)"), "{error}");
    }
    assert!(
        run(svm(&[1, 1]), table(2, &[0.5, 0.5]))
            .unwrap_err()
            .to_string()
            .contains("the vectors have 1")
    );
}

#[test]
fn expressions_find_the_longest_match_with_ascii_classes() {
    let all = |expression: &str, text: &str| {
        let expression = Expression::new(expression).unwrap();
        let (mut found, mut from) = (Vec::new(), 0);
        while let Some(range) = expression.find(text, from).filter(|range| !range.is_empty()) {
            found.push(text[range.clone()].to_owned());
            from = range.end;
        }
        found
    };
    assert_eq!(all("a|ab|abc", "abcab"), ["abc", "ab"]);
    assert_eq!(all(r"\w+", "été 1"), ["t", "1"]);
    assert_eq!(all(r"[^\w]", "aé"), ["é"]);
    assert_eq!(all(r"[]a[]+", "[a]b"), ["[a]"]);
    assert_eq!(all("[a&&b]+", "a&b"), ["a&b"]);
    assert_eq!(all("[[:digit:]]+", "a12"), ["12"]);
    assert_eq!(all(r"\Qa.b\E", "axb a.b"), ["a.b"]);
    assert!(Expression::new("(").unwrap_err().to_string().contains("'('"));
    assert!(Expression::new("((a{1000}){1000}){1000}").is_err());
}

#[test]
fn words_are_padded_to_the_longest_text() {
    let tokenizer = ml(
        "Tokenizer",
        1,
        vec![
            names("separators", &[" "]),
            word("pad_value", "#"),
            number("mark", 1),
            number("mincharnum", 2),
        ],
    );
    let output = engine(tokenizer).run(&[texts(&[2], &["ab c de", "fg"])]).unwrap().remove(0);
    assert_eq!(output.shape, [2, 4]);
    assert_eq!(output.text, ["\u{2}", "ab", "de", "\u{3}", "\u{2}", "fg", "\u{3}", "#"]);
}

/// Regression: each request with other words had a plan of its own.
#[test]
fn moving_words_is_a_step_of_a_plan() {
    let words: Vec<String> = (0..40).map(|at| format!("w{at}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let x = texts(&[20, 2], &words);
    let axis = AttributeProto { i: Some(1), ..attribute("axis", 2) };
    let join = NodeProto { attribute: vec![axis], ..node("Concat", &["t", "t"], &["y"]) };
    let mut engine = engine(file(vec![node("Transpose", &["x"], &["t"]), join], 1));
    let output = engine.run(std::slice::from_ref(&x)).unwrap().remove(0);
    assert_eq!(output.shape, [2, 40]);
    assert_eq!(output.text[..3], ["w0", "w2", "w4"]);
    assert_eq!(output.text[40], "w1");
    assert!(engine.profile(&[x]).is_some());
}
