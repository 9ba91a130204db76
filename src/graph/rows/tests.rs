//! Tests of the proof with small graphs.

use super::*;
use crate::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, TypeValue,
    ValueInfoProto,
};
use crate::test_graph::{attribute, int, node, none, tensor_of};
use bytes::Bytes;
use prost::Message;

/// The proof for a graph from `x`, with names for its open lengths, to `y`.
fn proof(inputs: &[(&str, &[&str])], nodes: &[NodeProto], constants: &[TensorProto]) -> RowProof {
    let graph = GraphProto {
        node: nodes.to_vec(),
        initializer: constants.to_vec(),
        input: inputs.iter().map(|(name, dims)| input_of(name, dims)).collect(),
        output: vec![input_of("y", &[])],
        ..Default::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(18) };
    let model = ModelProto { graph: Some(graph), opset_import: vec![opset], ..Default::default() };
    let bytes = Bytes::from(model.encode_to_vec());
    prove(&ModelFile::read(bytes.into(), Some(&none)).unwrap())
}

fn input_of(name: &str, dims: &[&str]) -> ValueInfoProto {
    let dim = |text: &&str| {
        let fixed = text.parse::<i64>().map(DimensionValue::Value);
        DimensionProto { value: Some(fixed.unwrap_or(DimensionValue::Name((*text).into()))) }
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = TensorTypeProto { elem_type: Some(1), shape };
    let kind = Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) });
    ValueInfoProto { name: Some(name.into()), kind }
}

fn integers(name: &str, shape: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: shape.to_vec(),
        data_type: Some(7),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn with(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[AttributeProto]) -> NodeProto {
    NodeProto { attribute: attributes.to_vec(), ..node(op, inputs, outputs) }
}

fn signed(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, 2) }
}

fn is_independent(nodes: &[NodeProto], constants: &[TensorProto]) -> bool {
    proof(&[("x", &["n", "3"])], nodes, constants).obstacle.is_none()
}

#[test]
fn operators_along_other_axes_keep_rows_independent() {
    let weights = tensor_of("w", &[3, 2], &[0.0; 6]);
    let softmax = |axis| with("Softmax", &["x"], &["y"], &[signed("axis", axis)]);
    assert!(is_independent(&[node("Relu", &["x"], &["y"])], &[]));
    assert!(is_independent(&[node("MatMul", &["x", "w"], &["y"])], std::slice::from_ref(&weights)));
    assert!(is_independent(&[softmax(-1)], &[]));
    assert!(!is_independent(&[softmax(0)], &[]));
    let axes = |axis| integers("axes", &[1], &[axis]);
    let keep = [int("keepdims", 0)];
    let sum = with("ReduceSum", &["x", "axes"], &["y"], &keep);
    assert!(is_independent(std::slice::from_ref(&sum), &[axes(1)]));
    assert!(!is_independent(&[sum], &[axes(0)]));
    let sums = node("CumSum", &["x", "axis"], &["y"]);
    assert!(is_independent(std::slice::from_ref(&sums), &[integers("axis", &[], &[1])]));
    assert!(!is_independent(&[sums], &[integers("axis", &[], &[0])]));
}

#[test]
fn dependent_rows_are_found() {
    let turned = node("Transpose", &["x"], &["t"]);
    let product = node("MatMul", &["x", "t"], &["y"]);
    assert!(!is_independent(&[turned, product], &[]));
    let first = with("Gather", &["x", "zero"], &["g"], &[int("axis", 0)]);
    let minus = node("Sub", &["x", "g"], &["y"]);
    assert!(!is_independent(&[first, minus], &[integers("zero", &[], &[0])]));
    let line = tensor_of("line", &[4, 1], &[0.0; 4]);
    assert!(!is_independent(&[node("Add", &["x", "line"], &["y"])], &[line]));
    let scale = node("DynamicQuantizeLinear", &["x"], &["y", "s", "z"]);
    assert!(!is_independent(&[scale], &[]));
    let picked = with("Compress", &["x", "c"], &["y"], &[int("axis", 0)]);
    assert!(!is_independent(&[node("IsNaN", &["x"], &["c"]), picked], &[]));
}

#[test]
fn zero_points_by_row_index_make_rows_dependent() {
    let product = node("MatMulInteger", &["x", "w", "z"], &["y"]);
    let weights = integers("w", &[3, 2], &[0; 6]);
    let with_zero_points = |shape: &[i64], values: &[i64]| {
        let constants = [weights.clone(), integers("z", shape, values)];
        is_independent(std::slice::from_ref(&product), &constants)
    };
    assert!(with_zero_points(&[], &[1]));
    assert!(!with_zero_points(&[4], &[1, 2, 3, 4]));
}

/// The shapes of most exports are computed from the shape of the input.
#[test]
fn computed_shapes_are_tracked() {
    let nodes = [
        node("Shape", &["x"], &["s"]),
        with("Gather", &["s", "zero"], &["n"], &[int("axis", 0)]),
        node("Unsqueeze", &["n", "zero1"], &["n1"]),
        with("Concat", &["n1", "rest"], &["t"], &[int("axis", 0)]),
        node("Reshape", &["x", "t"], &["r"]),
        with("Softmax", &["r"], &["y"], &[signed("axis", -1)]),
    ];
    let constants = |rest: &[i64]| {
        let length = rest.len() as i64;
        let zeros = [integers("zero", &[], &[0]), integers("zero1", &[1], &[0])];
        [&zeros[..], &[integers("rest", &[length], rest)]].concat()
    };
    assert!(is_independent(&nodes, &constants(&[3, 1])));
    assert!(is_independent(&nodes, &constants(&[-1])));
    // Two rows would share an axis.
    let folded = [node("Reshape", &["x", "rest"], &["y"])];
    assert!(!is_independent(&folded, &constants(&[-1])));
    assert!(!is_independent(&folded, &constants(&[1, -1])));
    assert!(is_independent(&folded, &constants(&[-1, 3])));
}

/// `[n, s, 8]` as `[n * s, 8]` and back again.
#[test]
fn rows_may_share_an_axis_temporarily() {
    let inputs: &[(&str, &[&str])] = &[("x", &["n", "s", "8"])];
    let constants = [integers("flat", &[2], &[-1, 8]), tensor_of("w", &[8, 4], &[0.0; 32])];
    let before = [
        node("Reshape", &["x", "flat"], &["f"]),
        node("MatMul", &["f", "w"], &["p"]),
        node("Shape", &["x"], &["shape"]),
    ];
    let back = |order: &[i64]| {
        let parts = [
            with("Gather", &["shape", "places"], &["two"], &[int("axis", 0)]),
            with("Concat", &["two", "four"], &["t"], &[int("axis", 0)]),
            node("Reshape", &["p", "t"], &["y"]),
        ];
        let more = [integers("places", &[2], order), integers("four", &[1], &[4])];
        let nodes = [&before[..], &parts[..]].concat();
        proof(inputs, &nodes, &[&constants[..], &more[..]].concat()).obstacle
    };
    assert_eq!(back(&[0, 1]), None);
    assert!(back(&[1, 0]).is_some());
    // Along the shared axis, rows depend on each other.
    let softmax = with("Softmax", &["p"], &["y"], &[int("axis", 0)]);
    let nodes = [&before[..], &[softmax]].concat();
    assert!(proof(inputs, &nodes, &constants).obstacle.is_some());
}

#[test]
fn the_number_of_rows_may_set_shapes_but_not_values() {
    let shape = node("Shape", &["x"], &["s"]);
    let mask =
        [shape.clone(), node("ConstantOfShape", &["s"], &["c"]), node("Add", &["x", "c"], &["y"])];
    assert!(is_independent(&mask, &[]));
    let mean = [
        shape,
        with("Gather", &["s", "zero"], &["n"], &[int("axis", 0)]),
        with("Cast", &["n"], &["f"], &[int("to", 1)]),
        node("Div", &["x", "f"], &["y"]),
    ];
    assert!(!is_independent(&mean, &[integers("zero", &[], &[0])]));
}

#[test]
fn recurrent_operators_have_their_batch_on_axis_one() {
    let weights = [tensor_of("w", &[1, 6, 3], &[0.0; 18]), tensor_of("r", &[1, 6, 2], &[0.0; 12])];
    let gru = with("GRU", &["x", "w", "r"], &["", "y"], &[int("hidden_size", 2)]);
    let time_first: &[(&str, &[&str])] = &[("x", &["n", "1", "3"])];
    assert!(proof(time_first, std::slice::from_ref(&gru), &weights).obstacle.is_some());
    let turned = with("Transpose", &["x"], &["t"], &[crate::test_graph::ints("perm", &[1, 0, 2])]);
    let gru = with("GRU", &["t", "w", "r"], &["", "h"], &[int("hidden_size", 2)]);
    let back = node("Squeeze", &["h", "zero1"], &["y"]);
    let nodes = [turned, gru, back];
    let constants = [&weights[..], &[integers("zero1", &[1], &[0])]].concat();
    let batch_first: &[(&str, &[&str])] = &[("x", &["n", "t", "3"])];
    assert_eq!(proof(batch_first, &nodes, &constants).obstacle, None);
}

#[test]
fn shapes_of_outputs_are_inferred() {
    let found = proof(&[("x", &["n", "s", "3"])], &[node("Relu", &["x"], &["y"])], &[]);
    let shape = vec![InferredLength::Open, InferredLength::Open, InferredLength::Fixed(3)];
    assert_eq!(found.outputs, [Some(shape)]);
}

#[test]
fn classes_are_selected_row_by_row() {
    let ml = |op: &str, inputs: &[&str], outputs: &[&str]| NodeProto {
        domain: Some("ai.onnx.ml".into()),
        ..node(op, inputs, outputs)
    };
    let best =
        |keeps| with("ArgMax", &["x"], &["best"], &[signed("axis", 1), signed("keepdims", keeps)]);
    let (classes, line) = (integers("classes", &[3], &[4, 5, 6]), integers("line", &[1], &[-1]));
    for keeps in [0, 1] {
        let pick = ml("ArrayFeatureExtractor", &["classes", "best"], &["picked"]);
        let nodes = [best(keeps), pick, node("Reshape", &["picked", "line"], &["y"])];
        assert!(is_independent(&nodes, &[classes.clone(), line.clone()]), "{keeps}");
    }
    // The selected classes as a matrix of one row.
    let table = ml("ArrayFeatureExtractor", &["classes", "best"], &["y"]);
    assert!(!is_independent(&[best(1), table], std::slice::from_ref(&classes)));
    let columns = ml("ArrayFeatureExtractor", &["x", "classes"], &["y"]);
    assert!(is_independent(&[columns], std::slice::from_ref(&classes)));
    // A feature of each row for each row.
    let crossed = ml("ArrayFeatureExtractor", &["x", "best"], &["y"]);
    assert!(!is_independent(&[best(1), crossed], &[]));
    let turned = node("Transpose", &["x"], &["t"]);
    let rows = ml("ArrayFeatureExtractor", &["t", "classes"], &["y"]);
    assert!(!is_independent(&[turned, rows], &[classes]));
}

/// `x[arange(batch), argmax]` and similar expressions.
#[test]
fn rows_are_selected_by_their_own_indices() {
    let constants = [
        integers("zero", &[], &[0]),
        integers("one", &[], &[1]),
        integers("first", &[1], &[0]),
        integers("last", &[1], &[-1]),
    ];
    let before = [
        with("Shape", &["x"], &["s"], &[int("end", 1)]),
        node("Squeeze", &["s", "first"], &["n"]),
        node("Range", &["zero", "n", "one"], &["numbers"]),
        node("Unsqueeze", &["numbers", "last"], &["rows"]),
        with("ArgMax", &["x"], &["best"], &[signed("axis", 1)]),
    ];
    let is_proved = |nodes: &[NodeProto]| is_independent(&[&before, nodes].concat(), &constants);
    let joined = |inputs: &[&str]| with("Concat", inputs, &["places"], &[signed("axis", -1)]);
    let picked = node("GatherND", &["x", "places"], &["y"]);
    assert!(is_proved(&[joined(&["rows", "best"]), picked.clone()]));
    // The column is the index of the row: each row has another column by its place.
    assert!(!is_proved(&[joined(&["rows", "rows"]), picked.clone()]));
    assert!(!is_proved(&[joined(&["best", "rows"]), picked]));
    assert!(is_proved(&[with("Gather", &["x", "numbers"], &["y"], &[int("axis", 0)])]));
    // Elements by the indices of rows.
    let turned = node("Transpose", &["x"], &["t"]);
    let across = with("Gather", &["t", "numbers"], &["y"], &[int("axis", 1)]);
    assert!(!is_proved(&[turned, across]));
    let float = with("Cast", &["rows"], &["f"], &[int("to", 1)]);
    assert!(!is_proved(&[float, node("Add", &["x", "f"], &["y"])]));
    let after = node("Add", &["numbers", "one"], &["next"]);
    assert!(!is_proved(&[after, with("Gather", &["x", "next"], &["y"], &[int("axis", 0)])]));
    let sums = with("ReduceSum", &["x"], &["sums"], &[int("keepdims", 0)]);
    assert!(!is_proved(&[sums, node("Identity", &["numbers"], &["y"])]));
    let changed = |updates: &str| {
        let value = with("ReduceMax", &["x", "last"], &["value"], &[int("keepdims", 0)]);
        let change = node("ScatterND", &["x", "places", updates], &["y"]);
        [joined(&["rows", "best"]), value, change]
    };
    assert!(is_proved(&changed("value")));
    let crossed = [node("ScatterND", &["x", "best", "x"], &["y"])];
    assert!(!is_proved(&crossed));
}

#[test]
fn indices_of_rows_are_tracked_through_other_axes() {
    let constants = [
        integers("zero", &[], &[0]),
        integers("one", &[], &[1]),
        integers("first", &[1], &[0]),
        integers("last", &[1], &[-1]),
        integers("column", &[2], &[-1, 1]),
        integers("columns", &[3, 1], &[2, 1, 0]),
    ];
    let nodes = |reshaped: bool, target: &[&str]| {
        let column = match reshaped {
            true => node("Reshape", &["numbers", "column"], &["rows"]),
            false => node("Unsqueeze", &["numbers", "last"], &["rows"]),
        };
        vec![
            with("Shape", &["x"], &["s"], &[int("end", 1)]),
            node("Squeeze", &["s", "first"], &["n"]),
            node("Range", &["zero", "n", "one"], &["numbers"]),
            column,
            node("Shape", &["x"], &["whole"]),
            node("Expand", &["rows", target[0]], &["wide"]),
            node("Unsqueeze", &["wide", "last"], &["deep"]),
            node("Shape", &["deep"], &["like"]),
            node("Expand", &["columns", "like"], &["line"]),
            with("Concat", &["deep", "line"], &["places"], &[signed("axis", -1)]),
            node("GatherND", &["x", "places"], &["y"]),
        ]
    };
    for reshaped in [false, true] {
        assert!(is_independent(&nodes(reshaped, &["whole"]), &constants), "{reshaped}");
    }
}

/// A length that equals the number of rows differs in a batch.
#[test]
fn lengths_by_the_number_of_rows_make_rows_dependent() {
    let line = tensor_of("line", &[6], &[0.0; 6]);
    let constants = [
        line,
        integers("zero", &[1], &[0]),
        integers("one", &[1], &[1]),
        integers("first", &[2], &[0, 0]),
        integers("rest", &[1], &[-1]),
    ];
    let count = with("Shape", &["x"], &["rows"], &[int("end", 1)]);
    let is_proved = |nodes: &[NodeProto]| {
        is_independent(&[std::slice::from_ref(&count), nodes].concat(), &constants)
    };
    let columns = node("Slice", &["x", "zero", "rows", "one"], &["y"]);
    assert!(!is_proved(&[columns]));
    let all = node("Slice", &["x", "zero", "rows", "zero"], &["y"]);
    assert!(is_proved(&[all]));
    let sum = with("ReduceSum", &["part"], &["sum"], &[int("keepdims", 0)]);
    let added = node("Add", &["x", "sum"], &["y"]);
    let part = node("Slice", &["line", "zero", "rows", "zero"], &["part"]);
    assert!(!is_proved(&[part, sum.clone(), added.clone()]));
    let amounts = with("Concat", &["first", "zero", "rows"], &["amounts"], &[int("axis", 0)]);
    let padded = node("Pad", &["x", "amounts"], &["y"]);
    assert!(!is_proved(&[amounts, padded]));
    let shape = with("Concat", &["rows", "rest"], &["shape"], &[int("axis", 0)]);
    let table = node("Reshape", &["line", "shape"], &["table"]);
    let most = with("ReduceMax", &["table"], &["part"], &[int("keepdims", 0)]);
    assert!(!is_proved(&[shape, table, most, sum, added]));
    let squares = with(
        "Einsum",
        &["x"],
        &["y"],
        &[AttributeProto { s: Some("ii->i".into()), ..attribute("equation", 3) }],
    );
    assert!(!is_proved(&[squares]));
}
