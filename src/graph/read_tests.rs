//! Tests of reading valid and invalid files.

use super::*;
use crate::error::OnnxError;
use crate::proto::{OperatorSetIdProto, SparseTensorProto};
use crate::test_graph::{node, none, value};
use bytes::Bytes;

fn file(nodes: Vec<NodeProto>) -> ModelProto {
    let (input, output) = (vec![value("x")], vec![value("y")]);
    let graph = GraphProto { node: nodes, input, output, ..Default::default() };
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    ModelProto { graph: Some(graph), opset_import: vec![opset], ..Default::default() }
}

fn read(proto: &ModelProto) -> Result<ModelFile, OnnxError> {
    ModelFile::read(Bytes::from(proto.encode_to_vec()).into(), Some(&none))
}

#[track_caller]
fn assert_rejected(proto: &ModelProto, words: &str) {
    let error = read(proto).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn nodes_are_in_topological_order() {
    let nodes =
        vec![node("Neg", &["b"], &["y"]), node("Abs", &["a"], &["b"]), node("Exp", &["x"], &["a"])];
    let file = read(&file(nodes)).unwrap();
    let order: Vec<_> = file.graph.nodes.iter().map(|node| node.op.as_str()).collect();
    assert_eq!(order, ["Exp", "Abs", "Neg"]);
    assert_eq!(file.opset(), 17);
    assert_eq!(file.graph.nodes[0].name, "a");
}

#[test]
fn many_nodes_in_reverse_are_sorted_quickly() {
    let name = |at: usize| if at == 0 { "x".to_owned() } else { format!("v{at}") };
    let count = 20_000;
    let mut nodes: Vec<_> =
        (0..count).map(|at| node("Abs", &[&name(at)], &[&name(at + 1)])).collect();
    nodes.push(node("Abs", &[&name(count)], &["y"]));
    nodes.reverse();
    let file = read(&file(nodes)).unwrap();
    assert_eq!(file.graph.nodes.first().unwrap().inputs, ["x"]);
}

#[test]
fn contradictory_graphs_are_rejected() {
    assert_rejected(&file(vec![node("Abs", &["y"], &["y"])]), "node 'y' (Abs) depends on itself");
    assert_rejected(&file(vec![node("Abs", &["gone"], &["y"])]), "input 'gone' is unknown");
    assert_rejected(&file(vec![]), "output 'y' is computed by no node");
    let twice = vec![node("Abs", &["x"], &["y"]), node("Neg", &["x"], &["y"])];
    assert_rejected(&file(twice), "'y' is computed twice");
    assert_rejected(&file(vec![node("Abs", &["y"], &["x"])]), "'x' is computed twice");
}

#[test]
fn unknown_opsets_are_rejected() {
    let mut proto = file(vec![node("Abs", &["x"], &["y"])]);
    proto.opset_import[0].version = Some(999);
    assert_rejected(&proto, "opset 999 is not known");
    proto.opset_import[0].version = Some(-1);
    assert_rejected(&proto, "opset -1 is not known");
}

#[test]
fn other_files_are_rejected() {
    for data in [&b""[..], b"\0\0\0\0", b"hello there", &[0xff; 100]] {
        let error = ModelFile::read(Bytes::copy_from_slice(data).into(), Some(&none))
            .unwrap_err()
            .to_string();
        assert!(error.contains("is not an ONNX file"), "{error}");
    }
}

#[test]
fn truncated_file_is_an_error_or_a_smaller_file() {
    let mut proto = file(vec![node("Abs", &["x"], &["y"])]);
    let tensor = TensorProto {
        name: Some("w".into()),
        dims: vec![2],
        data_type: Some(1),
        raw_data: Some(Bytes::from_static(&[0; 8])),
        ..Default::default()
    };
    if let Some(graph) = &mut proto.graph {
        graph.initializer.push(tensor);
    }
    let whole = proto.encode_to_vec();
    for end in 0..whole.len() {
        // Truncated anywhere, the file may give any result, but must not panic.
        let _ = ModelFile::read(Bytes::copy_from_slice(&whole[..end]).into(), Some(&none));
    }
}

#[test]
fn bodies_may_use_values_of_enclosing_graphs() {
    let body = GraphProto {
        node: vec![node("Add", &["x", "outer"], &["inner"])],
        output: vec![value("inner")],
        ..Default::default()
    };
    let attribute = |name: &str| AttributeProto {
        name: Some(name.into()),
        kind: Some(5),
        g: Some(body.clone()),
        ..Default::default()
    };
    let mut branch = node("If", &["x"], &["y"]);
    branch.attribute = vec![attribute("then_branch"), attribute("else_branch")];
    let nodes = vec![branch, node("Abs", &["x"], &["outer"])];
    let file = read(&file(nodes)).unwrap();
    assert_eq!(file.graph.nodes[0].op, "Abs");
    let Some(Attribute::Graph(graph)) = file.graph.nodes[1].attributes.get("then_branch") else {
        panic!("no body");
    };
    assert!(graph.needs().contains("outer"));
}

#[test]
fn elements_are_skipped_without_weights() {
    let mut proto = file(vec![node("Abs", &["x"], &["y"])]);
    let tensor = |name: &str, data_type: i32, bytes: Vec<u8>| TensorProto {
        name: Some(name.into()),
        dims: vec![100_000],
        data_type: Some(data_type),
        raw_data: Some(bytes.into()),
        ..Default::default()
    };
    let graph = proto.graph.as_mut().unwrap();
    graph.initializer.push(tensor("w", 1, vec![0; 400_000]));
    graph.sparse_initializer.push(SparseTensorProto {
        values: Some(tensor("s", 1, vec![0; 400_000])),
        indices: Some(tensor("", 7, (0..100_000i64).flat_map(i64::to_le_bytes).collect())),
        dims: vec![100_000],
    });
    let read = |beside| ModelFile::read(Bytes::from(proto.encode_to_vec()).into(), beside);
    let whole = read(Some(&none)).unwrap();
    let bare = read(None).unwrap();
    assert_eq!(whole.weights_bytes(), 800_000);
    assert!(bare.weights_bytes() < 100_000, "large pieces are skipped");
    assert_eq!((bare.graph.inputs, bare.graph.outputs), (whole.graph.inputs, whole.graph.outputs));
}
