#!/usr/bin/env python3
"""Sends requests to a running concertina with the stock Triton client from PyPI.

Usage: tritonclient_test.py HOST:PORT

The server must serve `digits`, and `echo` (kind `identity`, any datatype, rows of any length), and
have a folder `broken` in its repository that cannot be served.

Needs `pip install 'tritonclient[http]'`. Prints a line for each check and ends with
`N passed, M failed`; the exit status is 0 only if none failed.
"""

import json
import pathlib
import sys
import traceback

import numpy
import tritonclient.http as triton

EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "seven.json"


def seven():
    """The handwritten seven of the README, one row of bytes."""
    request = json.loads(EXAMPLE.read_text())
    pixels = request["inputs"][0]["data"]
    return numpy.array(pixels, dtype=numpy.uint8).reshape(1, 28, 28)


def as_datatype(pixels, datatype):
    return pixels if datatype == "UINT8" else pixels.astype(numpy.float32) / 255


def ask(client, pixels, datatype, binary_in, binary_out, names=("digit", "probabilities")):
    image = triton.InferInput("image", list(pixels.shape), datatype)
    image.set_data_from_numpy(as_datatype(pixels, datatype), binary_data=binary_in)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
    return client.infer("digits", [image], outputs=outputs, request_id="r1")


def check_live(client):
    assert client.is_server_live()


def check_ready(client):
    assert client.is_server_ready()


def check_model_ready(client):
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")


def check_unknown_model_is_not_ready(client):
    assert not client.is_model_ready("nope")


def check_server_metadata(client):
    metadata = client.get_server_metadata()
    assert metadata["name"] == "concertina", metadata
    known = {"binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"}
    assert known <= set(metadata["extensions"]), metadata


def check_model_metadata(client):
    metadata = client.get_model_metadata("digits")
    assert metadata["name"] == "digits", metadata
    assert metadata["versions"] == ["1"], metadata
    image = {"name": "image", "datatype": "FP32", "shape": [-1, 28, 28]}
    assert metadata["inputs"] == [image], metadata
    assert [output["name"] for output in metadata["outputs"]] == ["digit", "probabilities"]


def infer_check(datatype, binary_in, binary_out):
    def check(client):
        result = ask(client, seven(), datatype, binary_in, binary_out)
        answer = result.get_response()
        assert (answer["model_name"], answer["id"]) == ("digits", "r1"), answer
        digit, probabilities = result.as_numpy("digit"), result.as_numpy("probabilities")
        assert digit.dtype == numpy.int64 and digit.shape == (1, 1), digit
        assert digit[0, 0] == 7, digit
        assert probabilities.dtype == numpy.float32 and probabilities.shape == (1, 10)
        assert probabilities.argmax() == 7, probabilities
        assert abs(float(probabilities.sum()) - 1) < 1e-3, probabilities

    form = {False: "JSON", True: "binary"}
    check.__name__ = f"infer {datatype}, {form[binary_in]} in, {form[binary_out]} out"
    return check


def check_several_rows(client):
    rows = numpy.concatenate([seven(), 255 - seven(), seven()])
    result = ask(client, rows, "UINT8", True, True)
    probabilities = result.as_numpy("probabilities")
    assert probabilities.shape == (3, 10), probabilities.shape
    assert numpy.abs(probabilities[0] - probabilities[2]).max() < 1e-5, probabilities


def check_one_output(client):
    result = ask(client, seven(), "FP32", True, True, names=("digit",))
    assert result.as_numpy("probabilities") is None
    assert result.as_numpy("digit")[0, 0] == 7


def check_all_outputs(client):
    image = triton.InferInput("image", [1, 28, 28], "UINT8")
    image.set_data_from_numpy(seven())
    result = client.infer("digits", [image])
    assert result.as_numpy("digit")[0, 0] == 7
    assert result.as_numpy("probabilities").shape == (1, 10)


def check_async_infer(client):
    image = triton.InferInput("image", [1, 28, 28], "UINT8")
    image.set_data_from_numpy(seven())
    answers = [client.async_infer("digits", [image]) for _ in range(8)]
    assert all(one.get_result().as_numpy("digit")[0, 0] == 7 for one in answers)


def check_classes(client):
    for binary in (True, False):
        image = triton.InferInput("image", [2, 28, 28], "UINT8")
        image.set_data_from_numpy(numpy.concatenate([seven(), seven()]), binary_data=binary)
        outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)]
        result = client.infer("digits", [image], outputs=outputs)
        assert result.get_output("probabilities")["datatype"] == "BYTES"
        classes = result.as_numpy("probabilities")
        assert classes.shape == (2, 3), classes
        # Binary outputs are bytes, JSON outputs are text.
        texts = [[t.decode() if binary else t for t in row] for row in classes]
        value, index, label = texts[0][0].split(":")
        assert (index, label) == ("7", "7") and 0.5 < float(value) <= 1, classes
        values = [float(text.split(":")[0]) for text in texts[1]]
        assert values == sorted(values, reverse=True), values


def check_compressed_requests(client):
    for way in ("gzip", "deflate"):
        image = triton.InferInput("image", [1, 28, 28], "UINT8")
        image.set_data_from_numpy(seven())
        result = client.infer("digits", [image], request_compression_algorithm=way)
        assert result.as_numpy("digit")[0, 0] == 7


def check_sequences_are_refused(client):
    expect_error(lambda: echo(client, sequence_id=7, sequence_start=True), "sequence_id", "422")
    expect_error(lambda: echo(client, sequence_id="a"), "no model keeps a state", "422")
    assert echo(client, sequence_id=0) == [[3, -4]]


def expect_error(call, part, status):
    try:
        call()
    except triton.InferenceServerException as error:
        assert part in error.message(), error
        assert error.status() in (None, status), error
        return
    raise AssertionError("no error")


def check_wrong_shape(client):
    expect_error(
        lambda: ask(client, seven()[:, :27, :], "UINT8", True, True), "the model takes", "422"
    )


def check_wrong_model(client):
    image = triton.InferInput("image", [1, 28, 28], "UINT8")
    image.set_data_from_numpy(seven())
    expect_error(lambda: client.infer("nope", [image]), "model 'nope' not found", "404")


def state(client, name):
    """State of the model in the index; None if it is not listed."""
    index = client.get_model_repository_index()
    return next((entry["state"] for entry in index if entry["name"] == name), None)


def echo(client, **options):
    x = triton.InferInput("x", [1, 2], "INT32")
    x.set_data_from_numpy(numpy.array([[3, -4]], dtype=numpy.int32))
    return client.infer("echo", [x], **options).as_numpy("y").tolist()


def check_model_config(client):
    config = client.get_model_config("digits")
    assert (config["name"], config["max_batch_size"]) == ("digits", 8), config
    (image,) = config["input"]
    assert (image["name"], image["data_type"], image["dims"]) == ("image", "TYPE_FP32", [28, 28])


def check_statistics(client):
    def stats():
        return client.get_inference_statistics("digits", "1")["model_stats"][0]

    before = stats()
    ask(client, numpy.concatenate([seven()] * 3), "UINT8", True, True)
    after = stats()
    assert after["inference_count"] - before["inference_count"] == 3, (before, after)
    assert after["execution_count"] - before["execution_count"] == 1, (before, after)
    for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        old, new = before["inference_stats"][part], after["inference_stats"][part]
        assert new["count"] - old["count"] == 1 and new["ns"] >= old["ns"], (part, before, after)
    assert "digits" in [one["name"] for one in client.get_inference_statistics()["model_stats"]]


def check_unload_and_load(client):
    assert echo(client) == [[3, -4]]
    assert state(client, "echo") == "READY"
    client.unload_model("echo")
    assert not client.is_model_ready("echo")
    assert state(client, "echo") == "UNAVAILABLE"
    expect_error(lambda: echo(client), "model 'echo' not found", "404")
    client.load_model("echo")
    assert client.is_model_ready("echo")
    assert state(client, "echo") == "READY"
    assert echo(client) == [[3, -4]]


def check_loading_what_cannot_be_loaded(client):
    expect_error(lambda: client.load_model("nope"), "has no model 'nope'", "404")
    expect_error(lambda: client.load_model("broken"), "broken: does not contain a model", "422")
    expect_error(lambda: client.load_model("echo", config="{}"), "'config'", "422")
    assert echo(client) == [[3, -4]]


def check_timeout(client):
    expect_error(lambda: echo(client, timeout=1), "timeout of 1µs", "504")
    assert echo(client, timeout=60_000_000) == [[3, -4]]


def check_priority(client):
    for priority in (1, 7, 0):
        assert echo(client, priority=priority) == [[3, -4]]


CHECKS = [
    check_live,
    check_ready,
    check_model_ready,
    check_unknown_model_is_not_ready,
    check_server_metadata,
    check_model_metadata,
    *[
        infer_check(datatype, binary_in, binary_out)
        for datatype in ("UINT8", "FP32")
        for binary_in in (False, True)
        for binary_out in (False, True)
    ],
    check_several_rows,
    check_one_output,
    check_all_outputs,
    check_async_infer,
    check_classes,
    check_compressed_requests,
    check_sequences_are_refused,
    check_wrong_shape,
    check_wrong_model,
    check_model_config,
    check_statistics,
    check_unload_and_load,
    check_loading_what_cannot_be_loaded,
    check_timeout,
    check_priority,
]


def main(address):
    client = triton.InferenceServerClient(address, concurrency=4)
    failed = 0
    for check in CHECKS:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        try:
            check(client)
            print(f"ok: {name}")
        except Exception:
            failed += 1
            print(f"FAILED: {name}\n{traceback.format_exc()}")
    client.close()
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1].removeprefix("http://").rstrip("/")))
