#!/usr/bin/env python3
"""Talks to a running concertina with the Triton client from PyPI, which knows nothing of it.

Usage: tritonclient_test.py HOST:PORT

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
    assert "binary_tensor_data" in metadata["extensions"], metadata


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
    asked = [client.async_infer("digits", [image]) for _ in range(8)]
    assert all(one.get_result().as_numpy("digit")[0, 0] == 7 for one in asked)


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
    expect_error(lambda: client.infer("nope", [image]), "there is no model 'nope'", "404")


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
    check_wrong_shape,
    check_wrong_model,
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
