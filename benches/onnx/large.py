"""Writes a model with 100 MB of weights in its file, and one with them in a file beside it.

Usage: large.py FOLDER"""

import os
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

WIDTH, LAYERS = 1768, 8
random = np.random.default_rng(0)
nodes, constants, x = [], [], "x"
for layer in range(LAYERS):
    weights = random.standard_normal((WIDTH, WIDTH), np.float32) / WIDTH**0.5
    constants.append(numpy_helper.from_array(weights, f"w{layer}"))
    nodes.append(helper.make_node("MatMul", [x, f"w{layer}"], [f"m{layer}"]))
    x = f"y{layer}"
    nodes.append(helper.make_node("Relu", [f"m{layer}"], [x]))
ports = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH])] for name in ("x", x)]
graph = helper.make_graph(nodes, "large", *ports, constants)
for kind in ("inside", "beside"):
    folder = os.path.join(sys.argv[1], kind)
    os.makedirs(folder, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = os.path.join(folder, "model.onnx")
    if os.path.exists(os.path.join(folder, "weights.bin")):
        os.remove(os.path.join(folder, "weights.bin"))
    save(model, path, save_as_external_data=kind == "beside", location="weights.bin")
