"""Makes the cases of single operators and small graphs in tests/data/onnx_cases.

Needs numpy, onnx and onnxruntime. Each folder gets model.onnx, inK.npz and outK.npz as ONNX
Runtime answers; small.tsv lists the folders. Run: python tests/onnx/make_small_cases.py
"""

import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).parent.parent / "data" / "onnx_cases"
HEADER = "name\treported\tsituation\tverdict before\trtol\tatol"
TYPES = {"float": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
         "string": 8, "bool": 9, "float16": 10, "double": 11, "uint32": 12, "uint64": 13}
F = TensorProto.FLOAT

random = np.random.default_rng(11)
node = helper.make_node
cases = []


def floats(*shape):
    return random.normal(size=shape).astype(np.float32)


def whole(*values, dtype=np.int64):
    return np.array(values, dtype)


def scalar(value, dtype=np.int64):
    return np.array(value, dtype)


def numbers(dtype, *shape):
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, endpoint=True, dtype=dtype)


def texts(*values):
    return np.array(values, dtype=object)


def graph(nodes, inputs, outputs, constants=None, opset=18, functions=(), overridable=()):
    """A model with open axes of its inputs; its outputs have the types that ONNX Runtime infers."""
    constants = constants or {}
    given = {**inputs, **{name: constants[name] for name in overridable}}
    ports = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype),
            [f"{name}{axis}" for axis in range(value.ndim)])
        for name, value in given.items()
    ]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(function.domain, 1) for function in functions]

    def build(results):
        made = helper.make_graph(nodes, "g", ports, results, stored)
        return helper.make_model(
            made, opset_imports=imports, ir_version=10, functions=list(functions))

    session = onnxruntime.InferenceSession(
        build([helper.make_empty_tensor_value_info(name) for name in outputs]).SerializeToString())
    kinds = {port.name: TYPES[port.type[7:-1]] for port in session.get_outputs()}
    return build([helper.make_tensor_value_info(name, kinds[name], None) for name in outputs])


def case(name, situation, nodes, samples, outputs, constants=None, **more):
    """Stores a graph, the inputs of each sample and the answers of ONNX Runtime."""
    samples = samples if isinstance(samples, list) else [samples]
    model = graph(nodes, samples[0], outputs, constants, **more)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    folder = FOLDER / f"small_{name}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for at, inputs in enumerate(samples):
        answers = dict(zip(outputs, session.run(None, inputs)))
        for kind, values in [("in", inputs), ("out", answers)]:
            plain = {key: value.astype("U") if value.dtype == object else value
                     for key, value in values.items()}
            np.savez_compressed(folder / f"{kind}{at}.npz", **plain)
    cases.append(f"small_{name}\tgenerated\t{situation}\tfail\t0.001\t0.0001")


def one(name, situation, operator, samples, constants=None, outputs=("y",), opset=18, inputs=None,
        **attributes):
    """Stores a case of one operator, which takes the inputs of the samples, then the constants."""
    first = samples[0] if isinstance(samples, list) else samples
    inputs = inputs or [*first, *(constants or {})]
    made = node(operator, inputs, list(outputs), **attributes)
    case(name, situation, [made], samples, list(outputs), constants, opset=opset)


def images():
    image = numbers(np.uint8, 1, 2, 9, 7)
    sizes = {"sizes": whole(1, 2, 5, 11)}
    order = ["x", "", "", "sizes"]
    for mode in ["linear", "cubic"]:
        one(f"resize_bytes_{mode}_smooth", f"resize of bytes, {mode}, smoothed", "Resize", {"x": image}, sizes, inputs=order, mode=mode, antialias=1)
    one("resize_bytes_linear", "resize of bytes, linear", "Resize", {"x": image}, sizes, inputs=order, mode="linear")
    one("resize_signed_bytes", "resize of signed bytes, linear, by a scale that is not whole", "Resize", {"x": numbers(np.int8, 2, 1, 4, 9)}, {"s": np.float32([1.25, 1.25])}, inputs=["x", "", "s"], opset=19, mode="linear", coordinate_transformation_mode="pytorch_half_pixel", axes=[2, 3])
    one("resize_bytes_last", "resize of bytes with the channels last", "Resize", {"x": numbers(np.uint8, 1, 9, 7, 3)}, {"sizes": whole(6, 5)}, inputs=order, mode="linear", axes=[1, 2])
    one("resize_crop", "resize of a part; an axis that keeps its length is not cut", "Resize", {"x": floats(3, 12)}, {"roi": np.float32([0, 0.2, 1.2, 1]), "sizes": whole(4, 12)}, inputs=["x", "roi", "", "sizes"], mode="cubic", coordinate_transformation_mode="tf_crop_and_resize")
    one("resize_ten", "opset 10: nearest of a smaller image", "Resize", {"x": floats(1, 1, 6, 5)}, {"s": np.float32([1, 1, 0.5, 0.7])}, opset=10, mode="nearest")
    one("conv_transpose_short", "transposed convolution, SAME, kernel shorter than the stride", "ConvTranspose", {"x": floats(1, 2, 4, 5)}, {"w": floats(2, 3, 2, 2)}, auto_pad="SAME_UPPER", strides=[3, 3])
    one("conv_transpose_shape", "transposed convolution with output_shape, an odd row cut off", "ConvTranspose", {"x": floats(1, 2, 4, 5)}, {"w": floats(2, 1, 3, 3)}, output_shape=[11, 10], strides=[3, 2])
    one("pool_same_dilated", "dilated pool, SAME", "MaxPool", {"x": floats(1, 2, 9, 8)}, kernel_shape=[2, 3], strides=[2, 1], dilations=[2, 2], auto_pad="SAME_LOWER")
    grid = (floats(1, 3, 3, 2) * 1.3).astype(np.float32)
    one("grid_cubic", "GridSample, cubic, mirrored", "GridSample", {"x": floats(1, 2, 4, 5), "g": grid}, opset=20, mode="cubic", padding_mode="reflection")
    one("affine_line", "AffineGrid over one row, corners aligned", "AffineGrid", {"t": floats(1, 2, 3)}, {"s": whole(1, 2, 1, 3)}, opset=20, align_corners=1)
    one("mean_variance", "MeanVarianceNormalization of three axes", "MeanVarianceNormalization", {"x": floats(3, 2, 4)}, opset=13)


def rows():
    nothing = np.zeros((2, 0, 3), np.float32)
    for operator in ["ReduceMean", "ReduceMax", "ReduceProd", "ReduceLogSumExp"]:
        one(f"nothing_{operator.lower()}", f"{operator} over nothing", operator, [{"x": floats(2, 2, 3)}, {"x": nothing}], {"axes": whole(1)})
    one("reduce_no_axes", "ReduceL1 over no axes: each element's absolute value", "ReduceL1", {"x": floats(2, 3)}, {"axes": whole()}, noop_with_empty_axes=1)
    one("reduce_log_integers", "logarithm of a sum of integers", "ReduceLogSum", {"x": whole([3, 30, 300], [1, 2, 3], dtype=np.int32)}, {"axes": whole(1)})
    one("top_k_zeros", "TopK: zeros of either sign are the same", "TopK", [{"x": np.float32([[1, -0.0, 0, -0.0, -1]]), "k": whole(3)}, {"x": np.float32([[0, -0.0, 0, 2, 1]]), "k": whole(0)}], outputs=("y", "i"))
    one("non_zero_scalar", "NonZero of a scalar", "NonZero", [{"x": scalar(2.0, np.float32)}, {"x": scalar(0.0, np.float32)}])
    one("slice_back", "Slice backwards to the largest number", "Slice", [{"x": floats(4, 3)}], {"s": whole(-1), "e": whole(2**63 - 1), "a": whole(0), "t": whole(-2)})
    one("unique_words", "distinct words", "Unique", {"x": texts("b", "a", "b", "", "a")}, outputs=("y", "i", "v", "c"))
    one("unique_word_rows", "distinct rows of words", "Unique", {"x": texts(["b", "x"], ["a", "y"], ["b", "x"])}, outputs=("y", "i", "v", "c"), axis=0)
    one("unique_large", "distinct integers that no float tells apart", "Unique", {"x": whole(2**62, 2**62 + 1, 2**62)}, outputs=("y", "i", "v", "c"))
    one("pad_cut", "Pad of an axis by more at one end and less at the other", "Pad", [{"x": floats(1)}, {"x": np.zeros(0, np.float32)}], {"p": whole(3, -1)})
    one("pad_wrap", "Pad, wrapped round", "Pad", {"x": floats(2, 3)}, {"p": whole(1, 2, 0, 2)}, opset=19, mode="wrap")
    one("matmul_unsigned", "product of unsigned integers", "MatMul", {"x": whole([1, 2**31], [3, 4], dtype=np.uint32), "w": whole([5, 6], [7, 8], dtype=np.uint32)}, opset=13)
    one("mod_three_rows", "remainders of three rows: a row that fills up divides by no zero", "Mod", {"d": whole([-3], [3], [7])}, {"x": whole(5)}, inputs=["x", "d"])
    one("words_to_numbers", "five texts that are numbers: one that fills up is a number", "Cast", {"x": texts("1", "-2", "3", "4", "5")}, to=TensorProto.INT16)
    one("scatter_add", "ScatterElements with sums, indices from the end", "ScatterElements", {"x": floats(3, 4), "i": whole([-1, 0, 0], [2, 2, -3]), "u": floats(2, 3)}, axis=0, reduction="add")
    one("one_hot_back", "OneHot of indices from the end", "OneHot", {"i": whole(0, -1, -4, 3)}, {"d": scalar(3), "v": whole(2, 9)}, axis=0)
    one("mod_float", "remainder of floats by the sign of the first", "Mod", {"x": floats(5), "d": np.float32([0.5, -0.5, 0.3, -0.3, 2])}, fmod=1)
    one("integers_extreme", "unsigned integers of 64 bits at their ends", "Max", {"x": whole(0, 2**64 - 1, 2**63, dtype=np.uint64), "z": whole(1, 5, 2**63 - 1, dtype=np.uint64)})
    one("einsum_repeated", "Einsum along a diagonal", "Einsum", {"x": floats(3, 3, 2), "w": floats(2, 4)}, equation="iij,jk->ik")
    one("dropout_mask", "opset 10: the mask of Dropout", "Dropout", {"x": floats(2, 3)}, outputs=("y", "m"), opset=10)


def codes():
    one("quantise_zeros", "DynamicQuantizeLinear of zeros", "DynamicQuantizeLinear", [{"x": floats(2, 3)}, {"x": np.zeros((2, 3), np.float32)}], outputs=("y", "s", "z"), opset=13)
    one("quantise_line", "a scale for each element of one axis, counted from the end", "QuantizeLinear", {"x": floats(2)}, {"s": np.float32([0.1, 0.2]), "z": whole(81, 10, dtype=np.uint8)}, opset=19, axis=-1)
    one("window_of_one", "a window of one element", "HannWindow", {"n": scalar(1)}, periodic=0)
    for to, kind in [(TensorProto.FLOAT8E4M3FN, "float8"), (TensorProto.BFLOAT16, "bfloat16"), (TensorProto.INT4, "int4")]:
        values = np.float32([-3.2, 0, 1.6, 5]) if kind != "int4" else np.float32([-8, 0, 3, 7])
        case(f"through_{kind}", f"numbers through {kind} inside of a graph", [node("Cast", ["x"], ["q"], to=to), node("Cast", ["q"], ["y"], to=F)], {"x": values}, ["y"], opset=21)


def recurrent():
    weights = {"w": floats(1, 2, 3), "r": floats(1, 2, 2)}
    for activation in ["Elu", "Softsign", "Softplus", "ThresholdedRelu", "Affine"]:
        more = {} if activation == "Affine" else {"activation_alpha": [0.4]}
        one(f"rnn_{activation.lower()}", f"RNN with {activation}", "RNN", {"x": floats(3, 2, 3)}, weights, outputs=("y", "h"), opset=14, hidden_size=2, activations=[activation], **more)
    state = {"x": floats(3, 2, 3), "l": whole(0, 2, dtype=np.int32), "h": floats(1, 2, 2), "c": floats(1, 2, 2)}
    one("lstm_no_steps", "LSTM, a sequence without steps", "LSTM", state, {"w": floats(1, 8, 3), "r": floats(1, 8, 2)}, inputs=["x", "w", "r", "", "l", "h", "c"], outputs=("y", "yh", "yc"), opset=14, hidden_size=2, direction="reverse")
    one("gru_both_ways", "GRU both ways", "GRU", {"x": floats(2, 3, 3)}, {"w": floats(2, 6, 3), "r": floats(2, 6, 2), "b": floats(2, 12)}, outputs=("y", "h"), opset=14, hidden_size=2, direction="bidirectional", linear_before_reset=1)


def words():
    mail = r"(\W|^)[\w.\-]{0,25}@(yahoo|gmail)\.com(\W|$)"
    one("regex", "RegexFullMatch", "RegexFullMatch", {"x": texts("account@gmail.com", "not email", "a@yahoo.com ", "")}, opset=20, pattern=mail)
    one("split_words", "StringSplit of an empty text", "StringSplit", {"x": texts("a,b,,c", "", ",")}, outputs=("y", "n"), opset=20, delimiter=",")


def control():
    port, number, truth = helper.make_tensor_value_info, TensorProto.INT64, TensorProto.BOOL
    body = helper.make_graph(
        [node("Add", ["v", "one"], ["w"]), node("Identity", ["w"], ["s"]), node("Identity", ["c"], ["d"])],
        "body", [port("i", number, []), port("c", truth, []), port("v", F, [2])],
        [port("d", truth, []), port("w", F, [2]), port("s", F, [2])])
    case("loop_no_rounds", "Loop whose rounds are an input: 3, 0 and 1", [node("Loop", ["n", "", "x"], ["v", "s"], body=body)], [{"x": floats(2), "n": scalar(count)} for count in (3, 0, 1)], ["v", "s"], {"one": scalar(1, np.float32)})
    then = helper.make_graph([node("Squeeze", ["x"], ["a"])], "then", [], [port("a", F, None)])
    other = helper.make_graph([node("Identity", ["x"], ["b"])], "else", [], [port("b", F, None)])
    case("if_shapes", "If whose branches differ in rank", [node("If", ["c"], ["y"], then_branch=then, else_branch=other)], [{"x": floats(1, 3), "c": scalar(choice, bool)} for choice in (True, False)], ["y"])
    case("sequence_inside", "parts of a tensor as a sequence", [node("SplitToSequence", ["x", "two"], ["s"], axis=0), node("SequenceAt", ["s", "last"], ["y"]), node("SequenceLength", ["s"], ["n"])], [{"x": floats(5, 2)}, {"x": floats(2, 2)}], ["y", "n"], {"two": scalar(2), "last": scalar(-1)})
    case("override", "an initialiser that a request may replace", [node("Mul", ["x", "g"], ["y"])], [{"x": floats(2, 3)}, {"x": floats(2, 3), "g": np.float32([4])}], ["y"], {"g": np.float32([2])}, overridable=("g",))
    scaled = helper.make_function("own", "Scaled", ["x"], ["y"], [
        helper.make_node("Constant", [], ["k"]), node("Mul", ["x", "k"], ["y"])],
        [helper.make_opsetid("", 18)], ["factor"])
    attribute = scaled.node[0].attribute.add()
    attribute.name, attribute.ref_attr_name, attribute.type = "value_float", "factor", onnx.AttributeProto.FLOAT
    case("function", "a function of the file with an attribute", [node("Scaled", ["x"], ["m"], domain="own", factor=2.5), node("Scaled", ["m"], ["y"], domain="own", factor=-1.0)], {"x": floats(2, 3)}, ["y"], functions=[scaled])


if __name__ == "__main__":
    images()
    rows()
    codes()
    recurrent()
    words()
    control()
    (FOLDER / "small.tsv").write_text("\n".join([HEADER, *cases]) + "\n")
    print(f"{len(cases)} cases")
