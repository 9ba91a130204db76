"""Writes the answer of ONNX Runtime to the input of each model: answer.py FOLDER. Each folder in it has
model.onnx and test_data_set_0/input_0.pb, and gets the outputs beside the input."""

import glob
import os
import sys

import onnx
import onnxruntime
from onnx import numpy_helper

options = onnxruntime.SessionOptions()
options.log_severity_level = 4
options.intra_op_num_threads = 1
for folder in sorted(glob.glob(os.path.join(sys.argv[1], "*"))):
    data = os.path.join(folder, "test_data_set_0")
    session = onnxruntime.InferenceSession(
        os.path.join(folder, "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    tensor = onnx.load_tensor(os.path.join(data, "input_0.pb"))
    outputs = session.run(None, {"x": numpy_helper.to_array(tensor)})
    for at, output in enumerate(outputs):
        with open(os.path.join(data, f"output_{at}.pb"), "wb") as file:
            file.write(numpy_helper.from_array(output).SerializeToString())
