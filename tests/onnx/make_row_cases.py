"""Makes the graphs in tests/data/onnx_cases with rows that depend on each other, and some with rows
that only appear to.

Needs numpy, onnx and onnxruntime. Each folder gets model.onnx, and inK.npz and outK.npz for several
numbers of rows, as ONNX Runtime answers; rows.tsv lists the folders.
Run: python tests/onnx/make_row_cases.py
"""

import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).parent.parent / "data" / "onnx_cases"
HEADER = "name\treported\tsituation\tverdict before\trtol\tatol"
ROWS = [1, 3, 8, 40, 1000]
WIDTH = 3

random = np.random.default_rng(19)
cases = []
node = helper.make_node


def integers(**values):
    """Initialisers of 64-bit integers."""
    return [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in values.items()]


def case(name, situation, nodes, constants=(), verdict="wrong", opset=18, inputs=("x",)):
    """A graph from tables of [n, WIDTH] numbers to `y`, with an open shape."""
    open_rows = [
        helper.make_tensor_value_info(i, TensorProto.FLOAT, ["n", WIDTH]) for i in inputs
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, name, open_rows, [out], list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version, model.producer_version = 9, ""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    folder = FOLDER / f"rows_{name}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    counts = ROWS
    try:
        session.run(["y"], {i: np.zeros((0, WIDTH), np.float32) for i in inputs})
        counts = [*ROWS, 0]
    except Exception as error:
        print(f"{name}: not without rows: {error}"[:100])
    for at, rows in enumerate(counts):
        # Few different numbers compress well.
        table = {i: random.integers(-9, 9, (rows, WIDTH)).astype(np.float32) / 4 for i in inputs}
        np.savez_compressed(folder / f"in{at}.npz", **table)
        np.savez_compressed(folder / f"out{at}.npz", y=session.run(["y"], table)[0])
    cases.append(f"rows_{name}\trows that meet\t{situation}\t{verdict}\t0.001\t0.0001")


case("apart", "rows that are independent", [
    node("MatMul", ["x", "w"], ["p"]), node("Softmax", ["p"], ["y"], axis=-1),
], [numpy_helper.from_array(random.normal(size=(WIDTH, 5)).astype(np.float32), "w")], verdict="pass")
case("cumsum", "a sum over all rows so far", [node("CumSum", ["x", "a"], ["y"])], integers(a=0))
case("topk", "the largest of each column", [node("TopK", ["x", "k"], ["y", "i"], axis=0)],
     integers(k=[1]))
case("sort", "each column sorted", [
    node("Shape", ["x"], ["k"], end=1), node("TopK", ["x", "k"], ["y", "i"], axis=0, largest=0),
])
case("mean", "less the mean of all rows", [
    node("ReduceMean", ["x", "a"], ["m"]), node("Sub", ["x", "m"], ["y"]),
], integers(a=[0]))
case("batch_statistics", "batch normalisation in training mode", [
    node("ReduceMean", ["x", "a"], ["m"]), node("Sub", ["x", "m"], ["d"]),
    node("Mul", ["d", "d"], ["q"]), node("ReduceMean", ["q", "a"], ["v"]),
    node("Add", ["v", "e"], ["w"]), node("Sqrt", ["w"], ["s"]), node("Div", ["d", "s"], ["y"]),
], integers(a=[0]) + [numpy_helper.from_array(np.array(0.01, np.float32), "e")])
case("attention", "attention over axis 0", [
    node("Transpose", ["x"], ["t"]), node("MatMul", ["x", "t"], ["s"]),
    node("Softmax", ["s"], ["p"], axis=-1), node("MatMul", ["p", "x"], ["y"]),
])
case("concatenation", "all rows twice", [node("Concat", ["x", "x"], ["y"], axis=0)])
case("crossed", "rows of two inputs, one behind the other",
     [node("Concat", ["x", "z"], ["y"], axis=0)], inputs=("x", "z"))
case("reversal", "rows in reverse", [node("Slice", ["x", "s", "e", "a", "t"], ["y"])],
     integers(s=[-1], e=[-(2**62)], a=[0], t=[-1]))
case("shift", "the difference to the row before", [
    node("Slice", ["x", "z", "last", "z"], ["before"]), node("Slice", ["x", "f", "e", "z"], ["first"]),
    node("Slice", ["x", "z", "f", "z"], ["top"]), node("Concat", ["top", "before"], ["moved"], axis=0),
    node("Sub", ["x", "moved"], ["y"]),
], integers(z=[0], last=[-1], f=[1], e=[2**62]))
case("gather", "the row with the largest sum, added to each", [
    node("ReduceSum", ["x", "a"], ["r"], keepdims=0),
    node("ArgMax", ["r"], ["i"], axis=0, keepdims=0),
    node("Gather", ["x", "i"], ["g"], axis=0), node("Add", ["x", "g"], ["y"]),
], integers(a=[1]))
case("count", "divided by the number of rows", [
    node("Shape", ["x"], ["s"]), node("Gather", ["s", "z"], ["n"]), node("Cast", ["n"], ["f"], to=1),
    node("Div", ["x", "f"], ["y"]),
], integers(z=0))
case("reverse_sum", "a sum over all rows from the last one", [
    node("Transpose", ["x"], ["t"], perm=[1, 0]), node("CumSum", ["t", "a"], ["c"], reverse=1),
    node("Transpose", ["c"], ["y"], perm=[1, 0]),
], integers(a=1))
case("recurrent", "the rows as the time of a recurrent net", [
    node("Unsqueeze", ["x", "b"], ["u"]),
    node("RNN", ["u", "w", "r"], ["all", "y3"], hidden_size=2),
    node("Squeeze", ["all", "s"], ["y"]),
], integers(b=[1], s=[1, 2]) + [
    numpy_helper.from_array(random.normal(size=(1, 2, WIDTH)).astype(np.float32), "w"),
    numpy_helper.from_array(random.normal(size=(1, 2, 2)).astype(np.float32), "r"),
])
case("convolution", "the rows as the length of a convolution", [
    node("Transpose", ["x"], ["t"], perm=[1, 0]), node("Unsqueeze", ["t", "b"], ["u"]),
    node("Conv", ["u", "w"], ["c"], kernel_shape=[3], pads=[1, 1]),
    node("Squeeze", ["c", "b"], ["v"]), node("Transpose", ["v"], ["y"], perm=[1, 0]),
], integers(b=[0]) + [
    numpy_helper.from_array(random.normal(size=(2, WIDTH, 3)).astype(np.float32), "w"),
])
case("scale", "quantised by the range of all rows", [
    node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
    node("DequantizeLinear", ["q", "s", "z"], ["y"]),
])
NUMBERED = [
    node("Shape", ["x"], ["s"], end=1), node("Squeeze", ["s", "f"], ["n"]),
    node("Range", ["z", "n", "o"], ["numbers"]), node("Unsqueeze", ["numbers", "l"], ["rows"]),
]
NUMBERS = integers(f=[0], z=0, o=1, l=[-1])
case("own_number", "x[arange(n), argmax(x)]: each row by its own number", NUMBERED + [
    node("ArgMax", ["x"], ["best"], axis=1), node("Concat", ["rows", "best"], ["places"], axis=-1),
    node("GatherND", ["x", "places"], ["y"]),
], NUMBERS, verdict="pass")
case("number_added", "each row and its number", NUMBERED + [
    node("Cast", ["rows"], ["f1"], to=1), node("Add", ["x", "f1"], ["y"]),
], NUMBERS)
case("next_number", "each row and the one behind it", NUMBERED + [
    node("Add", ["numbers", "o"], ["next"]), node("Mod", ["next", "n"], ["around"]),
    node("Gather", ["x", "around"], ["g"], axis=0), node("Sub", ["x", "g"], ["y"]),
], NUMBERS)

(FOLDER / "rows.tsv").write_text("\n".join([HEADER, *cases]) + "\n")
