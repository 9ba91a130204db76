"""`identity` and `digits` for Triton's Python backend, with the same batching as in concertina.

It is copied into Triton's repository as `identity/1/model.py` and as `digits/1/model.py`, there beside
`weights.safetensors` and `golden.json` of `models/digits`.
"""

import json
import pathlib
from typing import Any

import numpy
import onnx
import onnxruntime
import triton_python_backend_utils as triton
from onnx import TensorProto, helper, numpy_helper

Arrays = dict[str, numpy.ndarray]

# The values in the `model.toml` of both.
MAX_ROWS = 8
TOLERANCE = 1e-3

INPUTS = {
    "identity": [{"name": "x", "data_type": "TYPE_FP32", "dims": [16]}],
    "digits": [{"name": "image", "data_type": "TYPE_FP32", "dims": [28, 28]}],
}
OUTPUTS = {
    "identity": INPUTS["identity"],
    "digits": [
        {"name": "digit", "data_type": "TYPE_INT64", "dims": [1]},
        {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [10]},
    ],
}


def read_safetensors(path: pathlib.Path) -> Arrays:
    """All tensors of a file that has only FP32 tensors."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        values = numpy.frombuffer(data[begin + first : begin + last], numpy.float32)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def digits_graph(weights: Arrays) -> onnx.ModelProto:
    """The network of `src/kinds/digits.rs`."""
    halving = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    layers = [
        ("Reshape", ["image", "pixels"], "x0", {}),
        ("Conv", ["x0", "conv1.weight", "conv1.bias"], "x1", halving),
        ("Relu", ["x1"], "x2", {}),
        ("Conv", ["x2", "conv2.weight", "conv2.bias"], "x3", halving),
        ("Relu", ["x3"], "x4", {}),
        ("Flatten", ["x4"], "x5", {}),
        ("Gemm", ["x5", "hidden.weight", "hidden.bias"], "x6", {}),
        ("Relu", ["x6"], "x7", {}),
        ("Gemm", ["x7", "output.weight", "output.bias"], "logits", {}),
        ("ArgMax", ["logits"], "digit", {"axis": 1}),
        ("Softmax", ["logits"], "probabilities", {"axis": 1}),
    ]
    constants = {**weights, "pixels": numpy.array([-1, 1, 28, 28])}
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [out], **more) for kind, inputs, out, more in layers],
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 28, 28])],
        [
            helper.make_tensor_value_info("digit", TensorProto.INT64, ["rows", 1]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 10]),
        ],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


class Digits:
    """The network in ONNX Runtime."""

    def __init__(self, folder: pathlib.Path) -> None:
        options = onnxruntime.SessionOptions()
        # In a network this small several threads only wait for each other.
        options.intra_op_num_threads = 1
        graph = digits_graph(read_safetensors(folder / "weights.safetensors"))
        self.session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.check(json.loads((folder / "golden.json").read_text()))

    def __call__(self, image: numpy.ndarray) -> list[numpy.ndarray]:
        return self.session.run(["digit", "probabilities"], {"image": image})

    def check(self, golden: dict[str, Any]) -> None:
        """Checks the golden sample with which concertina checks its own network."""
        pixels = numpy.array(golden["inputs"][0]["data"], numpy.float32) / 255
        for found, expected in zip(self(pixels.reshape(1, 28, 28)), golden["outputs"]):
            difference = abs(found - numpy.array(expected["data"])).max()
            if difference > TOLERANCE:
                raise triton.TritonModelException(f"{expected['name']} differs by {difference}")


class TritonPythonModel:
    """A model of the repository; the backend requires a class of this name."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        name = config.as_dict()["name"]
        config.set_max_batch_size(MAX_ROWS)
        config.set_dynamic_batching()
        for tensor in INPUTS[name]:
            config.add_input(tensor)
        for tensor in OUTPUTS[name]:
            config.add_output(tensor)
        return config

    def initialize(self, args: dict[str, str]) -> None:
        name = args["model_name"]
        folder = pathlib.Path(args["model_repository"]) / args["model_version"]
        [self.input] = [tensor["name"] for tensor in INPUTS[name]]
        self.outputs = [tensor["name"] for tensor in OUTPUTS[name]]
        self.forward = Digits(folder) if name == "digits" else lambda x: [x]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Runs the requests that Triton has combined, as one batch."""
        inputs = [triton.get_input_tensor_by_name(r, self.input).as_numpy() for r in requests]
        ends = numpy.cumsum([len(rows) for rows in inputs])[:-1]
        outputs = self.forward(numpy.concatenate(inputs))
        answers = zip(*(numpy.split(output, ends) for output in outputs))
        return [triton.InferenceResponse(self.tensors(answer)) for answer in answers]

    def tensors(self, answer: tuple[numpy.ndarray, ...]) -> list[Any]:
        return [triton.Tensor(name, values) for name, values in zip(self.outputs, answer)]
