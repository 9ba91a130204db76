"""Prints the median milliseconds of another engine for a data set of a model, and the difference of
its outputs from those of ONNX Runtime's CPU provider.

rival.py ENGINE FOLDER SET SECONDS, where ENGINE is
  onnxruntime  its CPU provider, one thread
  tract        one thread
  webgpu       ONNX Runtime's WebGPU provider, on the adapter that the Vulkan loader finds first
  ncnn         on its first Vulkan device
"""

import glob
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import numpy_helper


def tensors(data, side):
    count = len(glob.glob(os.path.join(data, f"{side}_*.pb")))
    load = lambda at: numpy_helper.to_array(onnx.load_tensor(os.path.join(data, f"{side}_{at}.pb")))
    return [load(at) for at in range(count)]


def of_onnxruntime(path, inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return of_session(session, inputs)


def of_session(session, inputs):
    feed = dict(zip([port.name for port in session.get_inputs()], inputs))
    return lambda: session.run(None, feed)


def of_webgpu(path, inputs):
    import onnxruntime
    import onnxruntime_ep_webgpu

    os.environ["ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER"] = "1"
    library = onnxruntime_ep_webgpu.get_library_path()
    onnxruntime.register_execution_provider_library("webgpu", library)
    devices = [one for one in onnxruntime.get_ep_devices() if "WebGpu" in one.ep_name]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_provider_for_devices(devices[:1], {})
    session = onnxruntime.InferenceSession(path, options)
    # Without an adapter ONNX Runtime would use the CPU without an error.
    assert any("WebGpu" in name for name in session.get_providers()), session.get_providers()
    return of_session(session, inputs)


def of_tract(path, inputs):
    import tract

    types = {"float32": "f32", "int32": "i32", "int64": "i64"}
    model = tract.onnx().load(path)
    for at, tensor in enumerate(inputs):
        fact = [str(length) for length in tensor.shape] + [types[str(tensor.dtype)]]
        model.set_input_fact(at, ",".join(fact))
    runnable = model.into_model().into_runnable()
    return lambda: [output.to_numpy() for output in runnable.run(inputs)]


def of_ncnn(path, inputs):
    import ncnn

    # The Python package of ncnn's converter would load torch; the converter itself is a program.
    pnnx = os.path.join(os.path.dirname(os.path.dirname(ncnn.__file__)), "pnnx", "pnnx")
    assert ncnn.get_gpu_count() > 0, "no Vulkan device"
    folder = tempfile.mkdtemp()
    copy = os.path.join(folder, "m.onnx")
    os.symlink(os.path.abspath(path), copy)
    types = {"float32": "f32", "int32": "i32", "int64": "i64"}
    shapes = ",".join(f"{list(t.shape)}{types[str(t.dtype)]}".replace(" ", "") for t in inputs)
    convert = [pnnx, copy, "inputshape=" + shapes]
    subprocess.run(convert, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = True
    net.opt.num_threads = 1
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(net.opt, option, False)
    assert net.load_param(os.path.join(folder, "m.ncnn.param")) == 0, "load_param"
    assert net.load_model(os.path.join(folder, "m.ncnn.bin")) == 0, "load_model"
    # Tensors of ncnn have no batch axis.
    mats = [ncnn.Mat(np.ascontiguousarray(tensor[0])).clone() for tensor in inputs]

    def run():
        with net.create_extractor() as extractor:
            for name, mat in zip(net.input_names(), mats):
                extractor.input(name, mat)
            return [np.array(extractor.extract(name)[1])[None] for name in net.output_names()]

    return run


ENGINES = {"onnxruntime": of_onnxruntime, "tract": of_tract, "webgpu": of_webgpu, "ncnn": of_ncnn}


def main(engine, folder, data, seconds):
    data = os.path.join(folder, data)
    inputs, expected = tensors(data, "input"), tensors(data, "output")
    run = ENGINES[engine](os.path.join(folder, "model.onnx"), inputs)
    outputs = run()
    pairs = [(np.asarray(x, np.float64), y) for x, y in zip(outputs, expected) if x.size == y.size]
    error = max((float(np.abs(x.reshape(y.shape) - y).max()) for x, y in pairs), default=np.nan)
    times, begin = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    times = sorted(times[len(times) // 3 :])
    print(times[len(times) // 2] * 1e3, error)


main(*sys.argv[1:4], float(sys.argv[4]))
