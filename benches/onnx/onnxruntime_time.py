"""Milliseconds that ONNX Runtime takes for the first data set of a model: onnxruntime_time.py FOLDER SECONDS."""

import os
import sys
import time

import onnx
import onnxruntime
from onnx import numpy_helper

folder, budget = sys.argv[1], float(sys.argv[2])
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.path.join(folder, "model.onnx"), options, providers=["CPUExecutionProvider"]
)
inputs = {}
for at, port in enumerate(session.get_inputs()):
    with open(os.path.join(folder, "test_data_set_0", f"input_{at}.pb"), "rb") as file:
        inputs[port.name] = numpy_helper.to_array(onnx.TensorProto.FromString(file.read()))
times = []
begin = time.perf_counter()
while len(times) < 5 or time.perf_counter() - begin < budget:
    start = time.perf_counter()
    session.run(None, inputs)
    times.append(time.perf_counter() - start)
times = sorted(times[len(times) // 3 :])
print(times[len(times) // 2] * 1e3)
