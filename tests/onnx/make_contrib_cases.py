#!/usr/bin/env python3
"""Makes the cases of ONNX Runtime's own operators in tests/data/onnx_cases.

Needs onnx, onnxruntime, numpy, sympy, torch and transformers. A case is a folder with `model.onnx`
and, for each request, `inK.npz` and `outK.npz`: inputs by name, and the outputs of ONNX Runtime
on the CPU without its optimiser. `contrib.tsv` lists them; its columns are those of `cases.tsv`.
"""
import os
import shutil
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

ORT = "com.microsoft"
FOLDER = os.path.join(os.path.dirname(__file__), "..", "data", "onnx_cases")
HEADER = "name\treported\tsituation\tverdict before\trtol\tatol"
EXACT = (0.001, 0.0001)
# One step of a scale: ONNX Runtime rounds some halves the other way.
STEP = (0.05, 0.02)
# Codes of 8 bits may differ by one.
CODE = (0.0, 1.0)
HALF = (0.01, 0.01)
ort.set_default_logger_severity(4)
RANDOM = np.random.default_rng(20)
ROWS = []


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def codes(*shape, dtype=np.uint8):
    info = np.iinfo(dtype)
    return RANDOM.integers(info.min, info.max + 1, shape).astype(dtype)


def answer(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return dict(zip([port.name for port in session.get_outputs()], session.run(None, feeds)))


def write(name, report, situation, model, requests, tolerance=EXACT):
    """Writes a case; `requests` are dictionaries of inputs."""
    folder = os.path.join(FOLDER, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    data = model.SerializeToString()
    with open(os.path.join(folder, "model.onnx"), "wb") as file:
        file.write(data)
    for number, feeds in enumerate(requests):
        np.savez_compressed(os.path.join(folder, f"in{number}.npz"), **feeds)
        np.savez_compressed(os.path.join(folder, f"out{number}.npz"), **answer(data, feeds))
    ROWS.append(f"{name}\t{report}\t{situation}\tfail\t{tolerance[0]}\t{tolerance[1]}")


def port(name, array, dims):
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, dims or array.shape)


def node(op, inputs, outputs=("y",), domain=ORT, **attributes):
    return helper.make_node(op, list(inputs), list(outputs), domain=domain, **attributes)


def graph(nodes, inputs, constants, outputs, dims=None, opset=17):
    """A model of nodes; `dims` are the open axes of inputs, by name."""
    dims = dims or {}
    ports = [port(name, array, dims.get(name)) for name, array in inputs.items()]
    values = [
        value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(value, name)
        for name, value in constants.items()
    ]
    plain = [onnx.ValueInfoProto(name=name) for name in outputs]
    sets = [helper.make_opsetid("", opset), helper.make_opsetid(ORT, 1)]

    def model(ends):
        body = helper.make_graph(nodes, "contrib", ports, ends, values)
        return helper.make_model(body, opset_imports=sets, ir_version=10)

    found = answer(model(plain).SerializeToString(), inputs)
    ends = []
    for name in outputs:
        axes = [f"{name}{axis}" for axis in range(found[name].ndim)]
        ends.append(port(name, found[name], dims.get(name, axes)))
    return model(ends)


def one(name, report, situation, nodes, inputs, constants, outputs=("y",), tolerance=EXACT, **more):
    model = graph(nodes, inputs, constants, outputs, **more)
    write(name, report, situation, model, [inputs], tolerance)


def tables(size, most=32):
    angle = np.arange(most)[:, None] / (10000 ** (np.arange(0, size, 2) / size))
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def products():
    for name, flags in {
        "a": dict(transA=1),
        "batch": dict(transBatchA=1, transBatchB=1, transB=1),
    }.items():
        batch = "transBatchA" in flags
        a = floats(4, 2, 5) if batch else floats(2, 5, 4)
        b = floats(3, 2, 5) if batch else floats(2, 5, 3)
        one(f"ort_fused_matmul_{name}", "openvino#13177", f"FusedMatMul {flags}",
            [node("FusedMatMul", "ab", alpha=0.25, **flags)], {"a": a, "b": b}, {})
    one("ort_fused_gemm", "MIGraphX#2756", "FusedGemm with LeakyRelu",
        [node("FusedGemm", "abc", transB=1, alpha=0.5, activation="LeakyRelu", activation_alpha=0.2)],
        {"a": floats(4, 5)}, {"b": floats(3, 5), "c": floats(3)})
    for activation, numbers in {"Clip": [-0.3, 0.6], "HardSigmoid": [0.3, 0.4]}.items():
        one(f"ort_fused_conv_{activation.lower()}", "openvino#13177",
            f"FusedConv with {activation} and a summand",
            [node("FusedConv", ["x", "w", "b", "z"], activation=activation, activation_params=numbers,
                  kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
            {"x": floats(2, 3, 6, 6), "z": floats(2, 4, 6, 6)},
            {"w": floats(4, 3, 3, 3) * 0.3, "b": floats(4)})


def normalisations():
    constants = {"g": floats(8), "be": floats(8), "bi": floats(8)}
    one("ort_skip_layer_norm", "openvino#30705", "SkipLayerNormalization with bias and sum",
        [node("SkipLayerNormalization", ["x", "s", "g", "be", "bi"], ["y", "", "", "z"], epsilon=1e-5)],
        {"x": floats(2, 3, 8), "s": floats(2, 3, 8)}, constants, ["y", "z"])
    one("ort_simplified_layer_norm", "openvino#30705", "SimplifiedLayerNormalization of ai.onnx",
        [node("SimplifiedLayerNormalization", ["x", "g"], domain="", axis=-1, epsilon=1e-6)],
        {"x": floats(2, 3, 8)}, {"g": floats(8)})
    ids = RANDOM.integers(0, 20, (2, 5)).astype(np.int32)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    embeddings = {"we": floats(20, 8), "pe": floats(10, 8), "se": floats(2, 8)}
    one("ort_embed_layer_norm", "MIGraphX#2759", "EmbedLayerNormalization with a mask",
        [node("EmbedLayerNormalization", ["ids", "seg", "we", "pe", "se", "g", "be", "m"], ["y", "mi"])],
        {"ids": ids, "seg": ids % 2, "m": mask}, {**embeddings, "g": floats(8), "be": floats(8)},
        ["y", "mi"])


def attention(name, situation, mask=None, past=0, **attributes):
    inputs = {"x": floats(2, 4, 6)}
    if mask is not None:
        inputs["m"] = np.array(mask, np.int32)
    if past:
        inputs["p"] = floats(2, 2, 2, past, 4)
    names = ["x", "w", "b", "m" if mask is not None else "", "p" if past else ""]
    while not names[-1]:
        names.pop()
    outputs = ["y", "pr"] if past else ["y"]
    one(f"ort_attention_{name}", "MIGraphX#3390", f"Attention {situation}",
        [node("Attention", names, outputs, num_heads=2, **attributes)], inputs,
        {"w": floats(6, 24) * 0.5, "b": floats(24)}, outputs)


def attentions():
    attention("lengths", "with lengths as a mask", [2, 4])
    attention("ends", "with ends and begins as a mask", [3, 4, 1, 0])
    attention("padded", "with padding on the left", [[0, 0, 1, 1], [1, 1, 1, 1]])
    attention("past", "causal with a past", past=3, unidirectional=1)
    q, k, v = floats(2, 3, 8), floats(2, 5, 8), floats(2, 5, 8)
    one("ort_mha_cross", "Olive#935", "MultiHeadAttention across, with bias and a key mask",
        [node("MultiHeadAttention", ["q", "k", "v", "b", "m"], num_heads=2)],
        {"q": q, "k": k, "v": v, "m": np.array([[1, 1, 0, 0, 0], [1] * 5], np.int32)},
        {"b": floats(24)})
    one("ort_mha_past", "Olive#935", "MultiHeadAttention with a past and a bias of scores",
        [node("MultiHeadAttention", ["q", "k", "v", "", "", "a", "pk", "pv"], ["y", "nk", "nv"],
              num_heads=2)],
        {"q": q, "k": floats(2, 3, 8), "v": floats(2, 3, 8), "a": floats(1, 2, 3, 7),
         "pk": floats(2, 2, 4, 4), "pv": floats(2, 2, 4, 4)}, {}, ["y", "nk", "nv"])
    one("ort_rotary", "onnxruntime-genai#420", "RotaryEmbedding of com.microsoft, interleaved",
        [node("RotaryEmbedding", ["x", "p", "c", "s"], interleaved=1)],
        {"x": floats(2, 3, 16), "p": np.array([[0, 1, 2], [5, 6, 7]], np.int64)},
        dict(zip("cs", tables(8))))


def group_query(name, situation, rows, new, past, lasts, total, packed=False, **attributes):
    heads, shared, size = 4, 2, 16
    names = ["q", "", "", "pk", "pv", "sl", "tl", "c", "s"]
    inputs = {"q": floats(rows, new, (heads + 2 * shared if packed else heads) * size)}
    if not packed:
        names[1:3] = ["k", "v"]
        inputs.update(k=floats(rows, new, shared * size), v=floats(rows, new, shared * size))
    inputs.update(pk=floats(rows, shared, past, size), pv=floats(rows, shared, past, size),
                  sl=np.array(lasts, np.int32), tl=np.array(total, np.int32))
    outputs = ["y", "nk", "nv"]
    one(f"ort_gqa_{name}", "onnxruntime-genai#420", f"GroupQueryAttention {situation}",
        [node("GroupQueryAttention", names, outputs, num_heads=heads, kv_num_heads=shared,
              do_rotary=1, **attributes)], inputs, dict(zip("cs", tables(size))), outputs)


def group_queries():
    group_query("prompt", "with rotary inside, prompt", 2, 4, 0, [3, 3], 4)
    group_query("packed", "of packed queries, keys and values", 1, 4, 0, [3], 4, packed=True)
    group_query("step", "one more token behind a past", 1, 1, 5, [5], 6, rotary_interleaved=1)
    group_query("buffer", "with a past in a buffer, rows of different lengths", 2, 1, 8, [2, 3], 4)
    group_query("window", "with a local window and a soft cap", 1, 6, 0, [5], 6,
                local_window_size=3, softcap=2.0)


def packed_codes(values, bits):
    count = 8 // bits
    values = np.pad(values, ((0, 0), (0, -values.shape[1] % count)))
    parts = [values[:, at::count] << (bits * at) for at in range(count)]
    return np.bitwise_or.reduce(parts).astype(np.uint8)


def few_bits():
    for bits, zero in ((2, "none"), (4, "packed"), (4, "float"), (8, "packed")):
        inner, columns, block = 48, 9, 32
        blocks = -(-inner // block)
        values = RANDOM.integers(0, 2**bits, (columns, blocks * block)).astype(np.uint8)
        constants = {
            "w": packed_codes(values, bits).reshape(columns, blocks, -1),
            "s": np.abs(floats(columns, blocks)) * 0.1 + 0.01,
            "b": floats(columns),
        }
        if zero == "packed":
            zeros = RANDOM.integers(0, 2**bits, (columns, blocks)).astype(np.uint8)
            constants["z"] = packed_codes(zeros, bits)
        elif zero == "float":
            constants["z"] = floats(columns, blocks)
        names = ["x", "w", "s", "z" if zero != "none" else "", "", "b"]
        one(f"ort_nbits_{bits}_{zero}", "MIGraphX#3390",
            f"MatMulNBits of {bits} bits, zero points {zero}",
            [node("MatMulNBits", names, K=inner, N=columns, bits=bits, block_size=block)],
            {"x": floats(2, 3, inner)}, constants)
    table = RANDOM.integers(0, 16, (20, 32)).astype(np.uint8)
    one("ort_gather_block", "transformers.js#861", "GatherBlockQuantized, the embedding of q4 files",
        [node("GatherBlockQuantized", ["t", "i", "s"], block_size=16)],
        {"i": RANDOM.integers(0, 20, (2, 5))},
        {"t": packed_codes(table, 4), "s": np.abs(floats(20, 2)) + 0.1})


def quantised():
    scale = np.float32(0.03)
    zero = np.uint8(120)
    pair = {"as": scale, "az": zero, "bs": np.float32(0.05), "bz": np.uint8(100), "cz": np.uint8(128)}
    one("ort_qlinear_mul", "MIGraphX#2759", "QLinearMul that broadcasts",
        [node("QLinearMul", ["a", "as", "az", "b", "bs", "bz", "cs", "cz"])],
        {"a": codes(2, 3, 4), "b": codes(3, 1)}, {**pair, "cs": np.float32(0.2)}, tolerance=CODE)
    one("ort_qlinear_softmax", "MIGraphX#2759", "QLinearSoftmax of opset 13",
        [node("QLinearSoftmax", ["a", "as", "az", "cs", "cz"], opset=13, axis=-1)],
        {"a": codes(2, 3, 8)},
        {"as": scale, "az": zero, "cs": np.float32(1 / 256), "cz": np.uint8(0)}, tolerance=CODE)
    one("ort_qlinear_where", "MIGraphX#2759", "QLinearWhere",
        [node("QLinearWhere", ["c", "a", "as", "az", "b", "bs", "bz", "cs", "cz"])],
        {"c": RANDOM.integers(0, 2, (2, 3)).astype(bool), "a": codes(2, 3), "b": codes(2, 3)},
        {**pair, "cs": np.float32(0.04)}, tolerance=CODE)
    one("ort_q16", "onnxruntime.quantization", "QuantizeLinear of com.microsoft to 16 bits and back",
        [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"])],
        {"x": floats(2, 40)}, {"s": np.float32(0.0002), "z": np.uint16(30000)})
    weights = {"b": codes(6, 5, dtype=np.int8), "bs": np.abs(floats(5)) * 0.01 + 0.01,
               "bz": np.zeros(5, np.int8)}
    one("ort_dynamic_matmul", "transformers.js#637", "DynamicQuantizeMatMul, scales for columns",
        [node("DynamicQuantizeMatMul", ["a", "b", "bs", "bz", "bi"])], {"a": floats(2, 4, 6)},
        {**weights, "bi": floats(5)})
    one("ort_matmul_to_float", "transformers.js#637", "MatMulIntegerToFloat",
        [node("MatMulIntegerToFloat", ["a", "b", "as", "bs", "az", "bz"])], {"a": codes(2, 4, 6)},
        {**weights, "as": scale, "az": zero})
    one("ort_qattention", "MIGraphX#3390", "QAttention with lengths and scales for columns",
        [node("QAttention", ["x", "w", "b", "xs", "ws", "m", "xz", "wz"], num_heads=2)],
        {"x": codes(2, 4, 6), "m": np.array([2, 4], np.int32)},
        {"w": codes(6, 24, dtype=np.int8), "b": floats(24), "xs": scale,
         "ws": np.abs(floats(24)) * 0.01 + 0.005, "xz": zero, "wz": np.zeros(24, np.int8)})


def others():
    one("ort_cdist", "sklearn-onnx", "CDist, the distances of nearest neighbours",
        [node("CDist", "ab", metric="euclidean")], {"a": floats(4, 3)}, {"b": floats(5, 3)})
    one("ort_inverse", "onnxruntime contrib", "Inverse of a batch of matrices",
        [node("Inverse", "x")], {"x": floats(2, 4, 4)}, {})
    one("ort_unique", "onnxruntime contrib", "Unique of com.microsoft, in order of appearance",
        [node("Unique", "x", ["y", "i", "c"])], {"x": np.array([2, 1, 1, 3, 4, 3], np.float32)}, {},
        ["y", "i", "c"])


BERT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def bert(folder):
    """A small BERT, as the exporter writes it."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=32,
                        attn_implementation="eager")

    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = BertModel(config, add_pooling_layer=False).eval()

        def forward(self, ids, mask, types):
            out = self.bert(input_ids=ids, attention_mask=mask, token_type_ids=types)
            return out.last_hidden_state

    ids = torch.randint(0, 50, (2, 6))
    path = os.path.join(folder, "bert.onnx")
    names = [*BERT_INPUTS, "last_hidden_state"]
    torch.onnx.export(Last(), (ids, torch.ones_like(ids), torch.zeros_like(ids)), path,
                      input_names=list(BERT_INPUTS), output_names=names[-1:], opset_version=17,
                      dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names},
                      dynamo=False)
    return path


def saved(source, target, level):
    """The model as ONNX Runtime's optimiser writes it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = target
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return onnx.load(target)


def berts(folder):
    from onnxruntime.transformers import float16, optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    source = bert(folder)
    half = os.path.join(folder, "half.onnx")
    onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), half)
    requests = []
    for rows, length in ((1, 5), (3, 8)):
        mask = np.ones((rows, length), np.int64)
        mask[0, length // 2:] = 0
        ids = RANDOM.integers(0, 50, (rows, length))
        requests.append(dict(zip(BERT_INPUTS, (ids, mask, np.zeros_like(ids)))))
    for kind, path, tolerance in (("fp32", source, EXACT), ("fp16", half, HALF)):
        for level in ("BASIC", "EXTENDED", "ALL"):
            model = saved(path, os.path.join(folder, "saved.onnx"), level)
            write(f"ort_bert_{level.lower()}_{kind}", "Olive#935",
                  f"a small BERT saved at level {level.lower()}, {kind}", model, requests, tolerance)
        options = FusionOptions("bert")
        fused = optimizer.optimize_model(source, model_type="bert", num_heads=2, hidden_size=16,
                                         opt_level=0, optimization_options=options)
        if kind == "fp16":
            fused.convert_float_to_float16(keep_io_types=True)
        write(f"ort_bert_transformers_{kind}", "MIGraphX#2759",
              f"a small BERT through transformers' optimiser, {kind}", fused.model, requests,
              tolerance)


def four_bits():
    from onnxruntime.quantization import QuantFormat
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer)

    x = floats(2, 3, 64)
    nodes = [node("MatMul", ["x", "w"], ["t"], domain=""), node("Relu", ["t"], ["u"], domain=""),
             node("MatMul", ["u", "v"], domain="")]
    constants = {"w": floats(64, 32) * 0.2, "v": floats(32, 16) * 0.2}
    model = graph(nodes, {"x": x}, constants, ["y"], {"x": ["n", 3, 64], "y": ["n", 3, 16]}, opset=21)
    for name, quantised_as, symmetric in (("qoperator", QuantFormat.QOperator, False),
                                          ("qdq", QuantFormat.QDQ, True)):
        config = DefaultWeightOnlyQuantConfig(block_size=16, is_symmetric=symmetric,
                                              quant_format=quantised_as)
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        quantiser = MatMulNBitsQuantizer(copy, algo_config=config)
        quantiser.process()
        write(f"ort_q4_{name}", "transformers.js#637", f"linear layers in 4 bits, {name}",
              quantiser.model.model, [{"x": x}, {"x": floats(1, 3, 64)}])


def network():
    """A network of convolutions with two branches, for the static quantiser."""
    plain = dict(domain="")
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], **plain),
        node("Relu", ["c1"], ["r1"], **plain),
        node("Conv", ["r1", "w2", "b2"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], **plain),
        node("Sigmoid", ["c2"], ["s2"], **plain),
        node("Mul", ["c2", "s2"], ["m2"], **plain),
        node("Add", ["m2", "r1"], ["a2"], **plain),
        node("LeakyRelu", ["a2"], ["l2"], alpha=0.1, **plain),
        node("AveragePool", ["l2"], ["p2"], kernel_shape=[2, 2], strides=[2, 2], **plain),
        node("MaxPool", ["l2"], ["p3"], kernel_shape=[2, 2], strides=[2, 2], **plain),
        node("Concat", ["p2", "p3"], ["k"], axis=1, **plain),
        node("GlobalAveragePool", ["k"], ["g"], **plain),
        node("Flatten", ["g"], ["f"], axis=1, **plain),
        node("Gemm", ["f", "w3", "b3"], transB=1, **plain),
    ]
    constants = {"w1": floats(4, 3, 3, 3) * 0.3, "b1": floats(4) * 0.1, "w2": floats(4, 4, 3, 3) * 0.3,
                 "b2": floats(4) * 0.1, "w3": floats(5, 8), "b3": floats(5) * 0.1}
    dims = {"x": ["n", 3, 8, 8], "y": ["n", 5]}
    return graph(nodes, {"x": floats(2, 3, 8, 8)}, constants, ["y"], dims)


def quantised_network(folder):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Samples(CalibrationDataReader):
        def __init__(self):
            self.left = [{"x": floats(2, 3, 8, 8)} for _ in range(4)]

        def get_next(self):
            return self.left.pop() if self.left else None

    source, target = os.path.join(folder, "cnn.onnx"), os.path.join(folder, "quantised.onnx")
    onnx.save(network(), source)
    requests = [{"x": floats(1, 3, 8, 8)}, {"x": floats(3, 3, 8, 8)}]
    for name, activations, channels in (("u8", QuantType.QUInt8, True), ("s8", QuantType.QInt8, False)):
        quantize_static(source, target, Samples(), quant_format=QuantFormat.QOperator,
                        activation_type=activations, weight_type=QuantType.QInt8,
                        per_channel=channels)
        write(f"ort_qoperator_cnn_{name}", "MIGraphX#2759",
              f"a network of quantised operators, {name}", onnx.load(target), requests, STEP)


def recurrent(folder):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, target = os.path.join(folder, "lstm.onnx"), os.path.join(folder, "dynamic.onnx")
    for direction, count in (("forward", 1), ("bidirectional", 2)):
        nodes = [node("LSTM", ["x", "w", "r", "b"], ["y", "h", "c"], domain="", hidden_size=8,
                      direction=direction)]
        constants = {"w": floats(count, 32, 6) * 0.5, "r": floats(count, 32, 8) * 0.5,
                     "b": floats(count, 64) * 0.1}
        model = graph(nodes, {"x": floats(5, 2, 6)}, constants, ["y", "h", "c"],
                      {"x": ["steps", "n", 6]})
        onnx.save(model, source)
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, op_types_to_quantize=["LSTM"])
        write(f"ort_dynamic_lstm_{direction}", "rten PR 1493",
              f"an LSTM after quantize_dynamic, {direction}", onnx.load(target),
              [{"x": floats(5, 2, 6)}, {"x": floats(7, 1, 6)}])


def main():
    products()
    normalisations()
    attentions()
    group_queries()
    few_bits()
    quantised()
    others()
    with tempfile.TemporaryDirectory() as folder:
        berts(folder)
        quantised_network(folder)
        recurrent(folder)
    four_bits()
    with open(os.path.join(FOLDER, "contrib.tsv"), "w", encoding="utf-8") as file:
        file.write("\n".join([HEADER, *ROWS]) + "\n")
    print(f"{len(ROWS)} cases", file=sys.stderr)


if __name__ == "__main__":
    main()
