//! Random graphs: a plan gives the same results as the graph node by node, and as ONNX Runtime.

use super::*;
use crate::check_data_sets;
use burn::tensor::Device;
use bytes::Bytes;
use graph::proto::{
    AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TypeValue,
};
use graph::test_graph::{attribute, int, ints, node, none, port, tensor_of};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The number of graphs for ONNX Runtime.
const GRAPHS: usize = 150;
/// Tolerance between results: relative, absolute.
const TOLERANCE: (f64, f64) = (1e-3, 1e-4);

/// A choice of the generator: an operator, its operands, numbers.
#[derive(Clone, Debug)]
struct Choice {
    op: usize,
    from: usize,
    other: usize,
    number: usize,
    constant: bool,
}

fn choices() -> impl Strategy<Value = (Vec<usize>, Vec<Choice>, u64)> {
    let choice =
        (any::<usize>(), any::<usize>(), any::<usize>(), any::<usize>(), any::<bool>()).prop_map(
            |(op, from, other, number, constant)| Choice { op, from, other, number, constant },
        );
    let shape = prop_oneof![
        (1usize..3, 1usize..6, 2usize..9, 2usize..9).prop_map(|(n, c, h, w)| vec![n, c, h, w]),
        (1usize..4, 1usize..7, 2usize..9).prop_map(|(n, l, c)| vec![n, l, c]),
        (1usize..5, 2usize..17).prop_map(|(n, c)| vec![n, c]),
    ];
    (shape, prop::collection::vec(choice, 1..14), any::<u64>())
}

/// Adds nodes after a value of a shape.
type Kind = fn(&mut Maker, &Choice, &str, &[usize]);

/// A graph during its generation.
struct Maker {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    /// Names and shapes of the values so far.
    values: Vec<(String, Vec<usize>)>,
    seed: u64,
}

impl Maker {
    /// A number between -1 and 1 (xorshift, G. Marsaglia 2003).
    fn number(&mut self) -> f32 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    fn constant(&mut self, shape: &[usize], least: Option<f32>) -> String {
        let name = format!("c{}", self.constants.len());
        let mut numbers = self.numbers(shape.iter().product());
        if let Some(least) = least {
            numbers.iter_mut().for_each(|number| *number = number.abs() + least);
        }
        self.constants.push(tensor_of(&name, shape, &numbers));
        name
    }

    fn scalar(&mut self, value: f32) -> String {
        let name = format!("c{}", self.constants.len());
        self.constants.push(tensor_of(&name, &[], &[value]));
        name
    }

    fn push(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = format!("v{}", self.nodes.len());
        let node = node(op, inputs, &[&name]);
        self.nodes.push(NodeProto { attribute: attributes, ..node });
        name
    }

    fn value(&mut self, name: String, shape: Vec<usize>) {
        self.values.push((name, shape));
    }

    fn choose(&mut self, choice: &Choice) {
        let (x, shape) = self.values[choice.from % self.values.len()].clone();
        let kinds: [Kind; 8] = [
            Maker::unary,
            Maker::unary,
            Maker::binary,
            Maker::binary,
            Maker::convolution,
            Maker::product,
            Maker::moved,
            Maker::composed,
        ];
        kinds[choice.op % kinds.len()](self, choice, &x, &shape);
    }

    fn unary(&mut self, choice: &Choice, x: &str, shape: &[usize]) {
        let names = [
            "Relu",
            "Sigmoid",
            "Tanh",
            "Abs",
            "Neg",
            "Erf",
            "Softplus",
            "HardSigmoid",
            "HardSwish",
            "LeakyRelu",
            "Elu",
            "Softsign",
            "Softmax",
            "Clip",
            "Sqrt",
            "Exp",
        ];
        let name = names[choice.number % names.len()];
        let y = match name {
            "Clip" => {
                let (least, most) = (self.scalar(-0.5), self.scalar(0.75));
                self.push("Clip", &[x, &least, &most], vec![])
            }
            "Sqrt" => {
                let positive = self.push("Abs", &[x], vec![]);
                self.push("Sqrt", &[&positive], vec![])
            }
            "Exp" => {
                let small = self.push("Tanh", &[x], vec![]);
                self.push("Exp", &[&small], vec![])
            }
            name => self.push(name, &[x], vec![]),
        };
        self.value(y, shape.to_vec());
    }

    /// An operation with another value of the shape, or a constant that broadcasts.
    fn binary(&mut self, choice: &Choice, x: &str, shape: &[usize]) {
        let names = ["Add", "Mul", "Sub", "Div", "Max", "Min"];
        let name = names[choice.number % names.len()];
        let alike = |(_, other): &&(String, Vec<usize>)| other == shape;
        let others: Vec<String> =
            self.values.iter().filter(alike).map(|(name, _)| name.clone()).collect();
        let mut y = others[choice.other % others.len()].clone();
        if choice.constant || name == "Div" {
            let mut own = shape.to_vec();
            for (axis, length) in own.iter_mut().enumerate() {
                if choice.other >> axis & 1 == 1 {
                    *length = 1;
                }
            }
            y = self.constant(&own, (name == "Div").then_some(0.5));
        }
        let turned = choice.other >> 8 & 1 == 1 && name != "Div";
        let inputs = if turned { [y.as_str(), x] } else { [x, y.as_str()] };
        let z = self.push(name, &inputs, vec![]);
        self.value(z, shape.to_vec());
    }

    fn convolution(&mut self, choice: &Choice, x: &str, shape: &[usize]) {
        let [n, c, mut h, mut w] = shape[..] else { return self.unary(choice, x, shape) };
        let mut x = x.to_owned();
        if choice.other >> 6 & 1 == 1 {
            (x, h, w) = (self.padded(&x), h + 1, w + 2);
        }
        let kernel = [1, 3][choice.number % 2];
        let stride = 1 + choice.number / 2 % 2;
        let by_channel = (choice.number / 4).is_multiple_of(3);
        let (groups, out) = if by_channel { (c, c) } else { (1, 1 + choice.other % 5) };
        let mut inputs = vec![x, self.constant(&[out, c / groups, kernel, kernel], None)];
        if choice.constant {
            inputs.push(self.constant(&[out], None));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let pad = kernel / 2;
        let attributes = vec![
            ints("pads", &[pad, pad, pad, pad]),
            ints("strides", &[stride, stride]),
            int("group", groups),
        ];
        let mut y = self.push("Conv", &inputs, attributes);
        let shape = vec![n, out, (h - 1) / stride + 1, (w - 1) / stride + 1];
        if choice.other >> 5 & 1 == 1 {
            let line = [(); 3].map(|()| self.constant(&[out], None));
            let variance = self.constant(&[out], Some(0.5));
            let [scale, bias, mean] = &line;
            y = self.push("BatchNormalization", &[&y, scale, bias, mean, &variance], vec![]);
        }
        if choice.other >> 7 & 1 == 1 {
            let line = self.constant(&[1, out, 1, 1], Some(0.5));
            let name = ["Add", "Sub", "Mul", "Div"][choice.number / 12 % 4];
            y = self.push(name, &[&y, &line], vec![]);
        }
        self.value(y, shape);
    }

    /// One more element before the third axis, two behind the fourth.
    fn padded(&mut self, x: &str) -> String {
        let pads = self.integers(&[0, 0, 1, 0, 0, 0, 0, 2]);
        self.push("Pad", &[x, &pads], vec![])
    }

    fn product(&mut self, choice: &Choice, x: &str, shape: &[usize]) {
        let (width, out) = (shape[shape.len() - 1], 1 + choice.number % 7);
        let weights = self.constant(&[width, out], None);
        let mut y = self.push("MatMul", &[x, &weights], vec![]);
        if choice.constant {
            let bias = self.constant(&[out], None);
            y = self.push("Add", &[&y, &bias], vec![]);
        }
        let mut shape = shape.to_vec();
        *shape.last_mut().unwrap() = out;
        self.value(y, shape);
    }

    /// Elements at other places, or fewer of them.
    fn moved(&mut self, choice: &Choice, x: &str, shape: &[usize]) {
        let (rank, mut after) = (shape.len(), shape.to_vec());
        let axis = choice.other % rank;
        let y = match choice.number % 6 {
            0 => {
                let mut order: Vec<usize> = (0..rank).collect();
                order.rotate_left(axis);
                after = order.iter().map(|axis| shape[*axis]).collect();
                self.push("Transpose", &[x], vec![ints("perm", &order)])
            }
            1 => {
                after[axis] *= 2;
                self.push("Concat", &[x, x], vec![int("axis", axis)])
            }
            2 => {
                after[axis] = 1;
                let name = ["ReduceMean", "ReduceMax", "ReduceSum"][choice.number / 6 % 3];
                if name == "ReduceSum" {
                    let axes = self.integers(&[axis]);
                    self.push(name, &[x, &axes], vec![])
                } else {
                    self.push(name, &[x], vec![ints("axes", &[axis])])
                }
            }
            3 => {
                after = vec![shape[0], shape[1..].iter().product()];
                self.push("Flatten", &[x], vec![])
            }
            4 if rank == 4 => {
                after[2] += 1;
                after[3] += 2;
                self.padded(x)
            }
            _ if rank == 4 => {
                after[2..].fill(1);
                self.push("GlobalAveragePool", &[x], vec![])
            }
            _ => {
                let scale = self.constant(&[shape[rank - 1]], None);
                let bias = self.constant(&[shape[rank - 1]], None);
                self.push("LayerNormalization", &[x, &scale, &bias], vec![])
            }
        };
        if after.iter().product::<usize>() < 20_000 {
            self.value(y, after);
        }
    }

    /// The nodes that exporters write for one operator.
    fn composed(&mut self, choice: &Choice, x: &str, shape: &[usize]) {
        match choice.number % 3 {
            0 => self.gelu(choice, x, shape),
            1 => self.layer_norm(choice, x, shape),
            _ => self.attention(choice, x, shape),
        }
    }

    fn gelu(&mut self, choice: &Choice, x: &str, shape: &[usize]) {
        let [root, one, half] = [std::f32::consts::SQRT_2, 1.0, 0.5].map(|v| self.scalar(v));
        let scaled = self.push("Div", &[x, &root], vec![]);
        let erf = self.push("Erf", &[&scaled], vec![]);
        let plus = self.push("Add", &[&one, &erf], vec![]);
        let y = match choice.other % 3 {
            0 => {
                let both = self.push("Mul", &[x, &plus], vec![]);
                self.push("Mul", &[&both, &half], vec![])
            }
            1 => {
                let less = self.push("Mul", &[&half, x], vec![]);
                self.push("Mul", &[&less, &plus], vec![])
            }
            _ => {
                let less = self.push("Mul", &[&plus, &half], vec![]);
                self.push("Mul", &[&less, x], vec![])
            }
        };
        self.value(y, shape.to_vec());
    }

    fn layer_norm(&mut self, choice: &Choice, x: &str, shape: &[usize]) {
        let length = shape[shape.len() - 1];
        let axes = || AttributeProto { ints: vec![-1], ..attribute("axes", 7) };
        let mean = self.push("ReduceMean", &[x], vec![axes()]);
        let centred = self.push("Sub", &[x, &mean], vec![]);
        let two = self.scalar(2.0);
        let squares = self.push("Pow", &[&centred, &two], vec![]);
        let variance = self.push("ReduceMean", &[&squares], vec![axes()]);
        let epsilon = self.scalar(1e-3);
        let more = self.push("Add", &[&variance, &epsilon], vec![]);
        let root = self.push("Sqrt", &[&more], vec![]);
        let normal = self.push("Div", &[&centred, &root], vec![]);
        let scale = self.constant(&[length], None);
        let mut y = self.push("Mul", &[&normal, &scale], vec![]);
        if choice.constant {
            let bias = self.constant(&[length], None);
            y = self.push("Add", &[&bias, &y], vec![]);
        }
        self.value(y, shape.to_vec());
    }

    fn attention(&mut self, choice: &Choice, x: &str, shape: &[usize]) {
        let [n, c, h, w] = shape[..] else { return self.layer_norm(choice, x, shape) };
        let turn = vec![ints("perm", &[0, 1, 3, 2])];
        let keys = self.push("Transpose", &[x], turn);
        let mut scores = self.push("MatMul", &[x, &keys], vec![]);
        let root = self.scalar((w as f32).sqrt() * [1.0, 2.0][choice.other % 2]);
        scores = self.push("Div", &[&scores, &root], vec![]);
        if choice.constant {
            let mask = self.constant(&[n, 1, 1, h], None);
            scores = self.push("Add", &[&scores, &mask], vec![]);
        }
        let shares = self.push("Softmax", &[&scores], vec![]);
        let y = self.push("MatMul", &[&shares, x], vec![]);
        self.value(y, vec![n, c, h, w]);
    }

    fn integers(&mut self, values: &[usize]) -> String {
        let name = format!("c{}", self.constants.len());
        let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
        self.constants.push(TensorProto {
            name: Some(name.clone()),
            dims: vec![values.len() as i64],
            data_type: Some(7),
            int64_data: values,
            ..Default::default()
        });
        name
    }
}

/// A model, its input, and its number of outputs.
fn made(
    (shape, choices, seed): &(Vec<usize>, Vec<Choice>, u64),
) -> (ModelProto, TensorProto, usize) {
    let mut maker = Maker {
        nodes: Vec::new(),
        constants: Vec::new(),
        values: vec![("x".into(), shape.clone())],
        seed: seed | 1,
    };
    choices.iter().for_each(|choice| maker.choose(choice));
    let data = maker.numbers(shape.iter().product());
    // The last value, and one from the middle, which fusion must not remove.
    let mut outputs = vec![maker.values.len() - 1];
    outputs.extend((outputs[0] > 1).then_some(maker.values.len() / 2));
    outputs.dedup();
    let output = outputs.iter().map(|at| port(&maker.values[*at].0, &maker.values[*at].1));
    let graph = GraphProto {
        output: output.collect(),
        node: maker.nodes,
        initializer: maker.constants,
        input: vec![port("x", shape)],
        ..Default::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    let model = ModelProto {
        ir_version: Some(8),
        graph: Some(graph),
        opset_import: vec![opset],
        ..Default::default()
    };
    (model, tensor_of("x", shape, &data), outputs.len())
}

fn floats(raw: &FileTensor) -> Vec<f32> {
    raw.bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

/// The first difference.
fn difference(one: &[FileTensor], two: &[FileTensor]) -> Option<String> {
    for (at, (one, two)) in one.iter().zip(two).enumerate() {
        if one.shape != two.shape {
            return Some(format!("output {at}: {:?} and {:?}", one.shape, two.shape));
        }
        for (x, y) in floats(one).iter().zip(floats(two)) {
            let most = TOLERANCE.1 + TOLERANCE.0 * f64::from(y.abs());
            if f64::from((x - y).abs()) > most || x.is_nan() != y.is_nan() {
                return Some(format!("output {at}: {x} and {y}"));
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn plans_give_the_results_of_the_graph(choices in choices()) {
        let (model, input, _) = made(&choices);
        let data = Bytes::from(model.encode_to_vec());
        let file = ModelFile::read(data.into(), Some(&none)).unwrap();
        let mut engine = Engine::new(file, TensorPlace::host()).unwrap();
        let input = [FileTensor::read(&input, Some(&none)).unwrap()];
        let interpreted = engine.interpret(&input).unwrap();
        for time in ["first", "second"] {
            let planned = engine.run(&input).unwrap();
            prop_assert_eq!(difference(&planned, &interpreted), None, "{} run", time);
        }
    }
}

/// The same model with an open first axis of its input, and inputs with this many rows.
fn opened(model: &ModelProto, input: &TensorProto, rows: usize) -> (ModelProto, FileTensor) {
    let mut model = model.clone();
    let graph = model.graph.as_mut().unwrap();
    let Some(TypeValue::Tensor(tensor)) =
        graph.input[0].kind.as_mut().and_then(|kind| kind.value.as_mut())
    else {
        unreachable!("the generator makes tensors")
    };
    let first = &mut tensor.shape.as_mut().unwrap().dim[0];
    first.value = Some(DimensionValue::Name("n".into()));
    let raw = FileTensor::read(input, Some(&none)).unwrap();
    let row: usize = raw.shape[1..].iter().product();
    let mut numbers = Maker { nodes: vec![], constants: vec![], values: vec![], seed: 7 };
    let values = numbers.numbers(rows * row);
    let shape: Vec<usize> = std::iter::once(rows).chain(raw.shape[1..].iter().copied()).collect();
    let input = FileTensor::read(&tensor_of("x", &shape, &values), Some(&none)).unwrap();
    (model, input)
}

fn rows_of(raw: &FileTensor, from: usize, rows: usize) -> FileTensor {
    let bytes = raw.bytes.len() / raw.shape[0];
    let shape = std::iter::once(rows).chain(raw.shape[1..].iter().copied()).collect();
    FileTensor { shape, bytes: raw.bytes.slice(from * bytes..(from + rows) * bytes), ..raw.clone() }
}

/// Returns true if rows are proved independent; they must then agree together, apart and padded.
fn rows_agree(choices: &(Vec<usize>, Vec<Choice>, u64)) -> anyhow::Result<bool> {
    const ROWS: usize = 3;
    let (model, input, _) = made(choices);
    let (model, input) = opened(&model, &input, ROWS);
    let data = Bytes::from(model.encode_to_vec());
    let file = ModelFile::read(data.into(), Some(&none))?;
    if graph::prove(&file).obstacle.is_some() {
        return Ok(false);
    }
    let mut engine = Engine::new(file, TensorPlace::host())?;
    let together = engine.run(std::slice::from_ref(&input))?;
    for row in 0..ROWS {
        let apart = engine.run(&[rows_of(&input, row, 1)])?;
        let parts: Vec<FileTensor> = together.iter().map(|raw| rows_of(raw, row, 1)).collect();
        if let Some(difference) = difference(&apart, &parts) {
            anyhow::bail!("row {row} apart: {difference}");
        }
    }
    let mut padded = input.clone();
    padded.bytes = [&input.bytes[..], &vec![0; input.bytes.len() / ROWS]].concat().into();
    padded.shape[0] = ROWS + 1;
    let padded = engine.run(&[padded])?;
    let parts: Vec<FileTensor> = padded.iter().map(|raw| rows_of(raw, 0, ROWS)).collect();
    if let Some(difference) = difference(&parts, &together) {
        anyhow::bail!("padded: {difference}");
    }
    Ok(true)
}

/// The proof succeeds and fails often enough, so that the test covers both.
#[test]
fn rows_that_are_proved_independent_agree_together_apart_and_padded() {
    let mut runner = TestRunner::deterministic();
    let (mut independent, mut mixed) = (0, 0);
    for _ in 0..400 {
        let choices = choices().new_tree(&mut runner).unwrap().current();
        match rows_agree(&choices) {
            Ok(true) => independent += 1,
            Ok(false) => mixed += 1,
            Err(error) => panic!("{error}: {choices:?}"),
        }
    }
    assert!(independent > 40 && mixed > 40, "{independent} independent, {mixed} mixed");
}

/// ONNX Runtime's Python, if `tests/onnx/fetch.sh` installed it.
#[allow(clippy::disallowed_methods, reason = "the folder comes from the environment")]
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(std::env::var_os("CONCERTINA_TEST_ONNX")?).join("python/bin/python");
    python.exists().then_some(python)
}

#[test]
#[allow(clippy::print_stderr, reason = "what the test runner shows")]
fn plans_give_the_results_of_onnx_runtime() {
    let Some(python) = python() else {
        return eprintln!("SKIPPED: CONCERTINA_TEST_ONNX is not a folder with a Python");
    };
    let root = std::env::temp_dir().join(format!("concertina-graphs-{}", std::process::id()));
    let mut runner = TestRunner::deterministic();
    for at in 0..GRAPHS {
        let (model, input, _) = made(&choices().new_tree(&mut runner).unwrap().current());
        write(&root.join(format!("{at:03}")), &model, &input);
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/onnx/answer.py");
    let answered = Command::new(python).arg(script).arg(&root).status().unwrap();
    assert!(answered.success());
    let folders = (0..GRAPHS).map(|at| root.join(format!("{at:03}")));
    let wrong = |folder: PathBuf| match check_data_sets(&folder, &Device::flex(), TOLERANCE) {
        Ok(1) => None,
        other => Some(format!("{}: {other:?}", folder.display())),
    };
    let wrong: Vec<String> = folders.filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{} of {GRAPHS}: {}", wrong.len(), wrong.join("\n"));
    std::fs::remove_dir_all(root).unwrap();
}

fn write(folder: &Path, model: &ModelProto, input: &TensorProto) {
    let data = folder.join("test_data_set_0");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(folder.join("model.onnx"), model.encode_to_vec()).unwrap();
    std::fs::write(data.join("input_0.pb"), input.encode_to_vec()).unwrap();
}
