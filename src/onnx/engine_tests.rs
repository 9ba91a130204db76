//! Tests of whole graphs: good ones, and files and inputs that mean harm.

use super::*;
use crate::onnx::Dim;
use crate::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
};
use crate::onnx::test_graph::{node, none, value};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

const FILES: [&[u8]; 3] = [
    include_bytes!("../../tests/data/linear.onnx"),
    include_bytes!("../../tests/data/mean_of_one.onnx"),
    include_bytes!("../../tests/data/unknown_operator.onnx"),
];

fn load(data: &[u8]) -> Result<Engine, String> {
    let file = ModelFile::read(Bytes::copy_from_slice(data).into(), Some(&none))?;
    Engine::new(file, Place::host())
}

fn floats(shape: &[usize], values: &[f32]) -> Raw {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Raw { elem: Elem::F32, shape: shape.to_vec(), bytes: bytes.into(), text: Vec::new() }
}

/// Zeros for whatever a graph says that it takes.
fn zeros(engine: &Engine) -> Vec<Raw> {
    let inputs = engine.file.graph.inputs.iter().map(|port| {
        let length = |dim: &Dim| if let Dim::Fixed(length) = dim { (*length).min(8) } else { 2 };
        let shape: Vec<usize> = port.dims.iter().flatten().map(length).collect();
        let elem = port.elem.unwrap_or(Elem::F32);
        let size = shape.iter().product::<usize>() * elem.bits().div_ceil(8);
        Raw { elem, shape, bytes: vec![0; size].into(), text: Vec::new() }
    });
    inputs.collect()
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![i64::try_from(values.len()).unwrap()],
        data_type: Some(7),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

/// A graph from `x` to `y` with these nodes and constants.
fn graph(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Engine {
    let (input, output) = (vec![value("x")], vec![value("y")]);
    let graph = GraphProto { node, initializer, input, output, ..Default::default() };
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    let model = ModelProto { graph: Some(graph), opset_import: vec![opset], ..Default::default() };
    load(&model.encode_to_vec()).unwrap()
}

#[test]
fn plans_are_kept_by_shape_and_are_bounded() {
    let mut engine = load(FILES[0]).unwrap();
    for rows in 1..=PLANS_MAX + 10 {
        let x = floats(&[rows, 3], &vec![1.0; rows * 3]);
        let y = engine.run(std::slice::from_ref(&x)).unwrap();
        assert_eq!(y, engine.run(&[x]).unwrap());
        assert_eq!(y[0].shape, [rows, 2]);
        assert_eq!(y[0].bytes[..8], [2.5f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat());
    }
    assert_eq!(engine.plans.len(), PLANS_MAX);
}

#[test]
fn shapes_that_cannot_be_are_an_error_with_the_node() {
    let mut engine = load(FILES[0]).unwrap();
    let error = engine.run(&[floats(&[1, 4], &[0.0; 4])]).unwrap_err();
    assert!(error.starts_with("node 'm' (MatMul)"), "{error}");
    assert!(engine.run(&[floats(&[1, 3], &[0.0; 3])]).is_ok());
}

#[test]
fn an_index_outside_is_the_requests_fault_and_nobody_else_is_harmed() {
    let indices = node("Cast", &["x"], &["i"]);
    let to =
        AttributeProto { name: Some("to".into()), kind: Some(2), i: Some(7), ..Default::default() };
    let indices = NodeProto { attribute: vec![to], ..indices };
    let nodes = vec![indices, node("Gather", &["table", "i"], &["y"])];
    let mut engine = graph(nodes, vec![integers("table", &[10, 20, 30])]);
    assert_eq!(engine.run(&[floats(&[1], &[2.0])]).unwrap()[0].bytes[0], 30);
    for outside in [3.0, 1e9, -4.0] {
        engine.run(&[floats(&[1], &[outside])]).unwrap_err();
    }
    assert_eq!(engine.run(&[floats(&[1], &[-1.0])]).unwrap()[0].bytes[0], 30);
}

#[test]
fn absurd_sizes_are_refused_before_memory_is_asked_for() {
    let huge = integers("shape", &[1 << 20, 1 << 20]);
    let mut engine = graph(vec![node("Expand", &["x", "shape"], &["y"])], vec![huge]);
    let error = engine.run(&[floats(&[1], &[0.0])]).unwrap_err();
    assert!(error.contains("(Expand)") && error.contains("bytes"), "{error}");
    let huge = integers("shape", &[i64::MAX, i64::MAX]);
    let mut engine = graph(vec![node("ConstantOfShape", &["shape"], &["y"])], vec![huge]);
    assert!(engine.run(&[floats(&[1], &[0.0])]).unwrap_err().contains("more than"));
}

#[test]
fn a_loop_without_end_ends() {
    let body = GraphProto {
        node: vec![node("Identity", &["on"], &["still"])],
        input: vec![value("round"), value("on")],
        output: vec![value("still")],
        ..Default::default()
    };
    let attribute = AttributeProto {
        name: Some("body".into()),
        kind: Some(5),
        g: Some(body),
        ..Default::default()
    };
    let endless = NodeProto { attribute: vec![attribute], ..node("Loop", &["", ""], &[]) };
    let mut engine = graph(vec![endless, node("Abs", &["x"], &["y"])], vec![]);
    let error = engine.run(&[floats(&[1], &[0.0])]).unwrap_err();
    assert!(error.contains("(Loop)") && error.contains("rounds"), "{error}");
}

proptest! {
    #[test]
    fn spoilt_files_are_errors_never_panics(
        file in 0..FILES.len(),
        spots in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut data = FILES[file].to_vec();
        for (spot, byte) in spots {
            let at = spot.index(data.len());
            data[at] = byte;
        }
        if cuts {
            data.truncate(cut.index(data.len()));
        }
        if let Ok(mut engine) = load(&data) {
            let inputs = zeros(&engine);
            let _ = engine.run(&inputs);
        }
    }

    #[test]
    fn shapes_of_all_kinds_are_answered_or_refused(
        file in 0..2usize,
        shape in prop::collection::vec(0usize..5, 0..6),
    ) {
        let mut engine = load(FILES[file]).unwrap();
        let size: usize = shape.iter().product();
        let _ = engine.run(&[floats(&shape, &vec![0.5; size])]);
        let fine = floats(&[1, 3, 2][..3 - usize::from(file == 0)], &[0.5; 6][..if file == 0 { 3 } else { 6 }]);
        prop_assert!(engine.run(&[fine]).is_ok());
    }
}
