//! Tests of whole graphs: valid ones, and malicious files and inputs.

use super::*;
use bytes::Bytes;
use graph::Dim;
use graph::error::{FailureKind, NodeLabel, OnnxError};
use graph::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
};
use graph::test_graph::{attribute, int, ints, node, none, tensor_of, value};
use proptest::prelude::*;
use prost::Message;

const FILES: [&[u8]; 3] = [
    include_bytes!("../../tests/data/linear.onnx"),
    include_bytes!("../../tests/data/mean_of_one.onnx"),
    include_bytes!("../../tests/data/unknown_operator.onnx"),
];

fn load(data: &[u8]) -> Result<Engine, OnnxError> {
    let file = ModelFile::read(Bytes::copy_from_slice(data).into(), Some(&none))?;
    Engine::new(file, TensorPlace::host())
}

fn floats(shape: &[usize], values: &[f32]) -> FileTensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    FileTensor { elem: Elem::F32, shape: shape.to_vec(), bytes: bytes.into(), text: Vec::new() }
}

/// Zeros for the inputs of a graph.
fn zeros(engine: &Engine) -> Vec<FileTensor> {
    let inputs = engine.file.graph.inputs.iter().map(|port| {
        let length = |dim: &Dim| if let Dim::Fixed(length) = dim { (*length).min(8) } else { 2 };
        let shape: Vec<usize> = port.dims.iter().flatten().map(length).collect();
        let elem = port.elem.unwrap_or(Elem::F32);
        let size = shape.iter().product::<usize>() * elem.bits().div_ceil(8);
        FileTensor { elem, shape, bytes: vec![0; size].into(), text: Vec::new() }
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
    limited(node, initializer, PlanLimits::default())
}

fn limited(node: Vec<NodeProto>, initializer: Vec<TensorProto>, limits: PlanLimits) -> Engine {
    let (input, output) = (vec![value("x")], vec![value("y")]);
    let graph = GraphProto { node, initializer, input, output, ..Default::default() };
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    let model = ModelProto { graph: Some(graph), opset_import: vec![opset], ..Default::default() };
    let file = ModelFile::read(Bytes::from(model.encode_to_vec()).into(), Some(&none)).unwrap();
    Engine::limited(file, TensorPlace::host(), limits).unwrap()
}

/// The error of a graph of these nodes for one number.
fn error(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> String {
    graph(node, initializer).run(&[floats(&[1], &[0.0])]).unwrap_err().to_string()
}

fn with(node: NodeProto, attribute: AttributeProto) -> NodeProto {
    NodeProto { attribute: vec![attribute], ..node }
}

fn text(name: &str, value: &'static str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::from_static(value.as_bytes())), ..attribute(name, 3) }
}

fn body(graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(graph), ..attribute("body", 5) }
}

#[test]
fn plans_are_cached_by_shape_up_to_a_limit() {
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
fn impossible_shapes_are_an_error_with_the_node() {
    let mut engine = load(FILES[0]).unwrap();
    let error = engine.run(&[floats(&[1, 4], &[0.0; 4])]).unwrap_err();
    assert!(error.to_string().starts_with("node 'm' (MatMul)"), "{error}");
    assert_eq!(error.kind, FailureKind::Input);
    assert!(engine.run(&[floats(&[1, 3], &[0.0; 3])]).is_ok());
}

#[test]
fn index_out_of_range_is_a_fault_of_its_request_only() {
    let indices = with(node("Cast", &["x"], &["i"]), int("to", 7));
    let nodes = vec![indices, node("Gather", &["table", "i"], &["y"])];
    let mut engine = graph(nodes, vec![integers("table", &[10, 20, 30])]);
    assert_eq!(engine.run(&[floats(&[1], &[2.0])]).unwrap()[0].bytes[0], 30);
    for outside in [3.0, 1e9, -4.0] {
        let error = engine.run(&[floats(&[1], &[outside])]).unwrap_err();
        assert_eq!(error.kind, FailureKind::Input, "{error}");
    }
    assert_eq!(engine.run(&[floats(&[1], &[-1.0])]).unwrap()[0].bytes[0], 30);
}

/// A function of the host that fails like a read of a device's memory: without a panic.
#[test]
fn error_of_a_device_keeps_its_kind_and_gets_its_node() {
    for (text, kind) in [
        ("Device lost: Unknown", FailureKind::Device),
        ("out of device memory allocating 4096 bytes", FailureKind::Memory),
    ] {
        let mut constants = Constants::default();
        let mut t = Tracer::new(TensorPlace::host(), &mut constants);
        let held = hold(&floats(&[1], &[0.0]), &TensorPlace::host()).unwrap();
        let x = t.input(Elem::F32, vec![1], held);
        t.enter(Some(Arc::new(NodeLabel { name: "n".into(), op: "Relu".into() })));
        let form = (Elem::F32, vec![1]);
        let run = move |_: &[HostTensor]| Err(OnnxError::device(text));
        let y = t.host_op("fails", &[&x], &[form], run).unwrap();
        let error = t.finish(&y, true).unwrap_err();
        assert_eq!((error.kind, error.to_string()), (kind, format!("node 'n' (Relu): {text}")));
    }
}

#[test]
fn unsupported_operators_are_a_fault_of_the_file() {
    let error = load(FILES[2]).unwrap().file.check_operators().unwrap_err();
    assert_eq!(error.kind, FailureKind::Unsupported);
    let padded = with(node("Pad", &["x", "pads"], &["y"]), text("mode", "magic"));
    let pads = integers("pads", &[1, 1]);
    let error = graph(vec![padded], vec![pads]).run(&[floats(&[1], &[0.0])]).unwrap_err();
    assert_eq!(error.kind, FailureKind::Unsupported, "{error}");
    assert_eq!(error.to_string(), "node 'y' (Pad): mode 'magic' is not supported");
}

#[test]
fn too_large_sizes_are_rejected_before_allocation() {
    let huge = integers("shape", &[1 << 20, 1 << 20]);
    let mut engine = graph(vec![node("Expand", &["x", "shape"], &["y"])], vec![huge]);
    let error = engine.run(&[floats(&[1], &[0.0])]).unwrap_err().to_string();
    assert!(error.contains("(Expand)") && error.contains("bytes"), "{error}");
    let huge = integers("shape", &[i64::MAX, i64::MAX]);
    let mut engine = graph(vec![node("ConstantOfShape", &["shape"], &["y"])], vec![huge]);
    assert!(engine.run(&[floats(&[1], &[0.0])]).unwrap_err().to_string().contains("more than"));
}

#[test]
fn endless_loop_is_stopped() {
    let body = GraphProto {
        node: vec![node("Identity", &["on"], &["still"])],
        input: vec![value("round"), value("on")],
        output: vec![value("still")],
        ..Default::default()
    };
    let endless = with(node("Loop", &["", ""], &[]), self::body(body));
    let error = error(vec![endless, node("Abs", &["x"], &["y"])], vec![]);
    assert!(error.contains("(Loop)") && error.contains("rounds"), "{error}");
}

/// Nested loops with few rounds each.
#[test]
fn nested_loops_are_stopped() {
    let rounds = |graph: GraphProto| with(node("Loop", &["many", ""], &[]), body(graph));
    let turn = |at: usize, nodes: Vec<NodeProto>| {
        let [round, on, still] = ["round", "on", "still"].map(|name| format!("{name}{at}"));
        GraphProto {
            node: [vec![node("Identity", &[&on], &[&still])], nodes].concat(),
            input: vec![value(&round), value(&on)],
            output: vec![value(&still)],
            ..Default::default()
        }
    };
    let nested = (1..20).fold(turn(0, vec![]), |inner, at| turn(at, vec![rounds(inner)]));
    let nodes = vec![rounds(nested), node("Abs", &["x"], &["y"])];
    let limits = PlanLimits { node_runs: 1000, ..PlanLimits::default() };
    let mut engine = limited(nodes, vec![integers("many", &[50])], limits);
    let error = engine.run(&[floats(&[1], &[0.0])]).unwrap_err().to_string();
    assert!(error.contains("more than 1000 nodes"), "{error}");
}

#[test]
fn sequences_of_sequences_do_not_double() {
    let doubled = |from: &str, to: &str| node("SequenceConstruct", &[from, from], &[to]);
    let error = error(vec![doubled("x", "a"), doubled("a", "b"), doubled("b", "y")], vec![]);
    assert!(error.contains("a sequence can contain tensors only"), "{error}");
}

/// A chain of them would be dropped recursively, which would exhaust the stack.
#[test]
fn optional_values_are_not_nested() {
    let optional = |from: &str, to: &str| node("Optional", &[from], &[to]);
    let error = error(vec![optional("x", "a"), optional("a", "y")], vec![]);
    assert!(error.contains("an optional value cannot contain another"), "{error}");
}

/// Operators allocate lists with the length of an axis.
#[test]
fn lengths_of_empty_tensors_are_limited() {
    let empty = TensorProto { dims: vec![1 << 40, 0], ..integers("e", &[]) };
    let graph = GraphProto { initializer: vec![empty], ..Default::default() };
    let model = ModelProto { graph: Some(graph), ..Default::default() };
    let error = load(&model.encode_to_vec()).unwrap_err().to_string();
    assert!(error.contains("has more than"), "{error}");
    let x = floats(&[1 << 40, 0], &[]);
    let error = load(FILES[0]).unwrap().run(&[x]).unwrap_err().to_string();
    assert!(error.contains("has more than"), "{error}");
}

/// Intermediate results of operators are checked as well.
#[test]
fn too_large_attributes_are_rejected_before_allocation() {
    let edge = AttributeProto { s: Some(Bytes::from_static(b"edge")), ..attribute("mode", 3) };
    let theta = tensor_of("theta", &[1, 2, 3], &[0.0; 6]);
    let cases = [
        (with(node("Split", &["x"], &["y"]), int("num_outputs", 1 << 60)), vec![]),
        (with(node("Pad", &["x", "n"], &["y"]), edge), vec![integers("n", &[0, 1 << 32])]),
        (
            node("AffineGrid", &["theta", "n"], &["y"]),
            vec![theta, integers("n", &[1, 1, 1 << 18, 1 << 18])],
        ),
    ];
    for (node, constants) in cases {
        let op = node.op_type.clone().unwrap();
        let error = error(vec![node], constants);
        assert!(error.contains(&format!("({op})")) && error.contains("more than"), "{error}");
    }
    let kernel = with(node("MaxPool", &["e"], &["y"]), ints("kernel_shape", &[1 << 20, 1 << 20]));
    let error = error(vec![kernel], vec![tensor_of("e", &[1, 1, 1, 1], &[0.0])]);
    assert!(error.contains("a kernel of"), "{error}");
}

/// Loops over lengths in the file are limited by the elements to process.
#[test]
fn loops_over_too_large_lengths_are_stopped() {
    let number = |name: &str, value: f32| tensor_of(name, &[], &[value]);
    let mel = node("MelWeightMatrix", &["bands", "length", "rate", "low", "high"], &["y"]);
    let numbers = [("bands", 4.0), ("length", 8.0), ("rate", 1e-9), ("low", -699.0), ("high", 1e9)];
    let numbers = numbers.map(|(name, value)| number(name, value));
    assert!(graph(vec![mel], numbers.to_vec()).run(&[floats(&[1], &[0.0])]).is_ok());
    let attributes = [("min_gram_length", 1), ("max_gram_length", i64::MAX as usize)];
    let attributes = attributes.into_iter().chain([("max_skip_count", i64::MAX as usize)]);
    let attribute = attributes.map(|(name, value)| int(name, value)).chain([
        AttributeProto { s: Some(Bytes::from_static(b"TF")), ..attribute("mode", 3) },
        ints("pool_int64s", &[0]),
        ints("ngram_counts", &[0]),
        ints("ngram_indexes", &[0]),
    ]);
    let attribute = attribute.collect();
    let grams = NodeProto { attribute, ..node("TfIdfVectorizer", &["x"], &["y"]) };
    assert!(graph(vec![grams], vec![]).run(&[floats(&[3], &[0.0; 3])]).is_ok());
}

/// On a graphics card this would count as a fault of the card.
#[test]
fn slices_beyond_the_end_are_a_fault_of_the_graph() {
    let values = tensor_of("values", &[1], &[1.0]);
    let depth = integers("depth", &[3]);
    let hot = node("OneHot", &["i", "depth", "values"], &["y"]);
    let error = error(vec![hot], vec![integers("i", &[1]), depth, values]);
    assert!(error.contains("(OneHot)") && error.contains("a slice of shape"), "{error}");
}

#[test]
fn growing_text_is_stopped() {
    let word = TensorProto {
        name: Some("w0".into()),
        dims: vec![1],
        data_type: Some(8),
        string_data: vec![Bytes::from(vec![b'a'; 1 << 10])],
        ..Default::default()
    };
    let names: Vec<String> = (0..40).map(|at| format!("w{at}")).collect();
    let double = |pair: &[String]| node("StringConcat", &[&pair[0], &pair[0]], &[&pair[1]]);
    let nodes = names.windows(2).map(double).chain([node("Abs", &["x"], &["y"])]);
    let error = error(nodes.collect(), vec![word]);
    assert!(error.contains("(StringConcat)") && error.contains("bytes"), "{error}");
}

proptest! {
    #[test]
    fn files_with_changed_bytes_never_panic(
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
    fn shapes_of_all_kinds_never_panic(
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
