"""Writes EfficientNet-lite0 as an ONNX file from weights that PyTorch saved (its format before 1.6),
without PyTorch: efficientnet.py WEIGHTS.pth OUT.onnx [int8]

The network: M. Tan et al., "EfficientNet-lite", after the code of efficientnet_lite_pytorch. Batch
normalisations stay nodes of their own. With int8, weights are int8 by channel and dequantised.
"""

import collections
import pickle
import struct
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

TYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}


class Unpickler(pickle.Unpickler):
    """Resolves the few names in such a file; tensors are made after the storages are read."""

    def find_class(self, module, name):
        if name in TYPES:
            return name
        if name == "OrderedDict":
            return collections.OrderedDict
        if name == "_rebuild_tensor_v2":
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, words):
        return words[1], words[2]


def weights(path):
    with open(path, "rb") as file:
        for _ in range(3):  # a number, the version, the machine
            pickle.load(file)
        tensors = Unpickler(file).load()
        storages = {}
        types = {key: kind for (kind, key), *_ in tensors.values()}
        for key in pickle.load(file):
            (count,) = struct.unpack("<q", file.read(8))
            kind = np.dtype(TYPES[types[key]])
            storages[key] = np.frombuffer(file.read(count * kind.itemsize), kind)
    made = {}
    for name, ((_, key), offset, shape, strides) in tensors.items():
        storage = storages[key][offset:]
        strides = [storage.itemsize * stride for stride in strides]
        made[name] = np.lib.stride_tricks.as_strided(storage, shape, strides)
    return made


class Graph:
    def __init__(self, tensors, int8):
        self.tensors, self.int8 = tensors, int8
        self.nodes, self.constants = [], []

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op, inputs, **attributes):
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def weight(self, name):
        value = self.tensors[name]
        if not self.int8:
            return self.constant(name, value)
        scale = np.abs(value).reshape(len(value), -1).max(axis=1).clip(1e-9) / 127
        across = scale.reshape(-1, *[1] * (value.ndim - 1))
        small = self.constant(name + ".int8", np.round(value / across).astype(np.int8))
        scale = self.constant(name + ".scale", scale.astype(np.float32))
        return self.node("DequantizeLinear", [small, scale], axis=0)

    def conv(self, x, name, norm, stride=1, groups=1, active=True):
        weight = self.weight(name + ".weight")
        attributes = dict(strides=[stride] * 2, group=groups, auto_pad="SAME_UPPER")
        x = self.node("Conv", [x, weight], **attributes)
        parts = ["weight", "bias", "running_mean", "running_var"]
        parts = [self.constant(f"{norm}.{part}", self.tensors[f"{norm}.{part}"]) for part in parts]
        x = self.node("BatchNormalization", [x, *parts], epsilon=1e-3)
        return self.node("Clip", [x, "zero", "six"]) if active else x


def build(tensors, int8):
    graph = Graph(tensors, int8)
    graph.constant("zero", np.float32(0))
    graph.constant("six", np.float32(6))
    x = graph.conv("image", "_conv_stem", "_bn0", stride=2)
    # Kernel, stride, expansion, channels, repeats: with strides of the first of each.
    stages = [(1, 1, 16, 1), (2, 6, 24, 2), (2, 6, 40, 2), (2, 6, 80, 3), (1, 6, 112, 3), (2, 6, 192, 4), (1, 6, 320, 1)]
    at, channels = 0, 32
    for stride, expansion, out, repeats in stages:
        for repeat in range(repeats):
            name, before = f"_blocks.{at}", x
            if expansion > 1:
                x = graph.conv(x, f"{name}._expand_conv", f"{name}._bn0")
            groups = channels * expansion
            step = stride if repeat == 0 else 1
            x = graph.conv(x, f"{name}._depthwise_conv", f"{name}._bn1", step, groups)
            x = graph.conv(x, f"{name}._project_conv", f"{name}._bn2", active=False)
            if step == 1 and channels == out:
                x = graph.node("Add", [x, before])
            at, channels = at + 1, out
    x = graph.conv(x, "_conv_head", "_bn1")
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x])])
    bias = graph.constant("_fc.bias", tensors["_fc.bias"])
    x = graph.node("Gemm", [x, graph.weight("_fc.weight"), bias], transB=1)
    probabilities = graph.node("Softmax", [x], axis=1)
    ports = (("image", ["batch", 3, 224, 224]), (probabilities, ["batch", 1000]))
    ports = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in ports]
    made = helper.make_graph(graph.nodes, "efficientnet_lite0", *ports, graph.constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    save(build(weights(sys.argv[1]), "int8" in sys.argv[3:]), sys.argv[2])
