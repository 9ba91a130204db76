#!/usr/bin/env python3
"""Sends requests to a running concertina with stock HTTP and inference clients from PyPI.

Usage: clients_test.py HOST:PORT KEY

The server must serve `echo` (kind `identity`, any datatype, rows of any length), require the key
KEY, and accept bodies of at most 1 000 000 bytes.

Every client sends valid and rejected requests in turn on one pool of connections: no valid request
may fail, and each rejected one must get its own status. Clients that are not installed are
skipped. Prints a line for each check and ends with `N passed, M failed`; the exit status is 0 only
if none failed.
"""

import asyncio
import gzip
import importlib.util
import json
import sys
import traceback
import zlib

import numpy

#: Number of valid requests of each client, and of those in flight at the same time.
GOOD = 400
WORKERS = 8

#: Sizes of rejected bodies, in bytes.
SIZES = (0, 300_000, 3_000_000)

ECHO = "/v2/models/echo/infer"
GOOD_BODY = b'{"inputs":[{"name":"x","datatype":"INT32","shape":[1,3],"data":[3,-4,5]}]}'
JSON = {"Content-Type": "application/json"}

#: Rejected requests: method, path, headers, true if the key is sent, the byte that fills the body,
#: and the status. A body that is too long is 413 where the body is read at all.
REFUSALS = [
    ("POST", "/v2/models/nope/infer", JSON, True, b" ", 404),
    ("POST", "/nothing", JSON, True, b" ", 404),
    ("POST", ECHO, {"Content-Type": "image/png"}, True, b" ", 415),
    ("POST", ECHO, {"Content-Encoding": "br"}, True, b" ", 415),
    ("POST", ECHO, JSON, False, b" ", 401),
    ("POST", ECHO, {"Origin": "http://evil.example"}, True, b" ", 403),
    ("PUT", ECHO, JSON, True, b" ", 405),
    ("POST", "/v2", JSON, True, b" ", 405),
    ("POST", "/metrics", JSON, True, b" ", 405),
    ("POST", "/api/adapters/nope", {"Content-Type": "text/plain"}, True, b" ", 415),
    ("POST", ECHO, JSON, True, b"[", 400),
]


def refusals(key):
    """Yields rejected requests without end: method, path, headers, body and expected statuses."""
    while True:
        for method, path, headers, has_key, byte, status in REFUSALS:
            for size in SIZES:
                headers = {**headers, **({"X-API-Key": key} if has_key else {})}
                reads = status == 400
                statuses = (status, 413) if reads and size > 1_000_000 else (status,)
                yield method, path, headers, byte * size, statuses


class Mix:
    """Valid and rejected requests in turn, and those of them that failed."""

    def __init__(self, key):
        self.refusals = refusals(key)
        self.good_headers = {**JSON, "X-API-Key": key}
        self.failed = []

    def turn(self):
        method, path, headers, body, statuses = next(self.refusals)
        yield f"refused {method} {path} of {len(body)} bytes", (method, path, headers, body), statuses
        yield "good", ("POST", ECHO, self.good_headers, GOOD_BODY), (200,)

    def note(self, name, statuses, result):
        is_right = isinstance(result, tuple) and result[0] in statuses
        if is_right and result[0] == 200:
            is_right = json.loads(result[1])["outputs"][0]["data"] == [3, -4, 5]
        if not is_right:
            self.failed.append((name, statuses, result if isinstance(result, Exception) else result[0]))

    def check(self):
        good = [failed for failed in self.failed if failed[0] == "good"]
        shown = "\n".join(map(repr, self.failed[:10]))
        assert not self.failed, f"{len(good)} of {GOOD} good ones, {len(self.failed)} in all:\n{shown}"


def run_sync(key, send):
    mix = Mix(key)
    for _ in range(GOOD):
        for name, request, statuses in mix.turn():
            try:
                result = send(*request)
            except Exception as error:
                result = error
            mix.note(name, statuses, result)
    mix.check()


async def run_async(key, send):
    mix = Mix(key)

    async def work():
        for _ in range(GOOD // WORKERS):
            for name, request, statuses in mix.turn():
                try:
                    result = await send(*request)
                except Exception as error:
                    result = error
                mix.note(name, statuses, result)

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    mix.check()


def check_requests(address, key):
    import requests

    session = requests.Session()

    def send(method, path, headers, body):
        answer = session.request(method, f"http://{address}{path}", headers=headers, data=body)
        return answer.status_code, answer.content

    run_sync(key, send)


def check_urllib3(address, key):
    import urllib3

    host, port = address.split(":")
    pool = urllib3.HTTPConnectionPool(host, int(port), maxsize=1, block=True, retries=False)
    is_chunked = True

    def send(method, path, headers, body):
        nonlocal is_chunked
        is_chunked = not is_chunked
        parts = [body[at:at + 65536] for at in range(0, len(body), 65536)]
        answer = pool.request(method, path, headers=headers, body=parts if is_chunked else body,
                              chunked=is_chunked)
        return answer.status, answer.data

    run_sync(key, send)


def check_httpx(address, key):
    import httpx

    client = httpx.Client(base_url=f"http://{address}")

    def send(method, path, headers, body):
        answer = client.request(method, path, headers=headers, content=body)
        return answer.status_code, answer.content

    run_sync(key, send)


def check_httpx_async(address, key):
    import httpx

    async def run():
        limits = httpx.Limits(max_connections=WORKERS)
        async with httpx.AsyncClient(base_url=f"http://{address}", limits=limits) as client:

            async def send(method, path, headers, body):
                answer = await client.request(method, path, headers=headers, content=body)
                return answer.status_code, answer.content

            await run_async(key, send)

    asyncio.run(run())


def check_aiohttp_that_waits_for_100_continue(address, key):
    check_aiohttp(address, key, expect100=True)


def check_aiohttp(address, key, **options):
    import aiohttp

    async def run():
        connector = aiohttp.TCPConnector(limit=WORKERS)
        async with aiohttp.ClientSession(f"http://{address}", connector=connector) as session:

            async def send(method, path, headers, body):
                request = session.request(method, path, headers=headers, data=body, **options)
                async with request as answer:
                    return answer.status, await answer.read()

            await run_async(key, send)

    asyncio.run(run())


def triton_refusals(key):
    """Yields rejected requests of a Triton client: a model, a key, a row and the statuses."""
    while True:
        for model, own_key, status in [("nope", key, "404"), ("echo", "wrong", "401")]:
            for size in SIZES:
                yield model, own_key, numpy.zeros((1, max(size, 1)), numpy.uint8), (status,)
        # The body is read, and it is too long.
        yield "echo", key, numpy.zeros((1, 3_000_000), numpy.uint8), ("413",)


def triton_input(module, row):
    x = module.InferInput("x", list(row.shape), "UINT8")
    x.set_data_from_numpy(row)
    return [x]


def check_tritonclient(address, key):
    import tritonclient.http as triton

    client = triton.InferenceServerClient(address, concurrency=1)
    failed, wrong = [], triton_refusals(key)
    for _ in range(GOOD):
        model, own_key, row, statuses = next(wrong)
        try:
            client.infer(model, triton_input(triton, row), headers={"X-API-Key": own_key})
            failed.append((model, row.size, "no error"))
        except Exception as error:
            if getattr(error, "status", lambda: None)() not in statuses:
                failed.append((model, row.size, error))
        try:
            row = numpy.array([[3, 4, 5]], numpy.uint8)
            answer = client.infer("echo", triton_input(triton, row), headers={"X-API-Key": key})
            assert answer.as_numpy("y").tolist() == [[3, 4, 5]]
        except Exception as error:
            failed.append(("good", error))
    client.close()
    assert not failed, failed[:10]


def check_tritonclient_async(address, key):
    import tritonclient.http.aio as triton

    failed, wrong = [], triton_refusals(key)

    async def work(client):
        for _ in range(GOOD // WORKERS):
            model, own_key, row, statuses = next(wrong)
            try:
                await client.infer(model, triton_input(triton, row), headers={"X-API-Key": own_key})
                failed.append((model, row.size, "no error"))
            except triton.InferenceServerException as error:
                if error.status() not in statuses:
                    failed.append((model, row.size, error))
            except Exception as error:
                failed.append((model, row.size, error))
            try:
                row = numpy.array([[3, 4, 5]], numpy.uint8)
                key_header = {"X-API-Key": key}
                answer = await client.infer("echo", triton_input(triton, row), headers=key_header)
                assert answer.as_numpy("y").tolist() == [[3, 4, 5]]
            except Exception as error:
                failed.append(("good", error))

    async def run():
        client = triton.InferenceServerClient(address, conn_limit=WORKERS)
        await asyncio.gather(*(work(client) for _ in range(WORKERS)))
        await client.close()

    asyncio.run(run())
    assert not failed, failed[:10]


def check_kserve(address, key):
    import kserve
    from kserve.protocol.infer_type import RequestedOutput

    async def run():
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
        base, headers = f"http://{address}", {"X-API-Key": key}

        async def echo(x, model="echo", **options):
            request = kserve.InferRequest(model_name=model, infer_inputs=[x], **options)
            return await client.infer(base, request, model_name=model, headers=dict(headers))

        assert await client.is_server_live(base) and await client.is_server_ready(base)
        assert await client.is_model_ready(base, "echo", headers=dict(headers))
        answers = [
            # JSON, with an id and parameters.
            (await echo(kserve.InferInput("x", [1, 3], "FP32", data=[1.5, -2, 3])), [[1.5, -2, 3]]),
            (await echo(kserve.InferInput("x", [1, 2], "INT64", data=[2**53 + 1, -1]),
                        request_id="r1", parameters={"mine": 1}), [[2**53 + 1, -1]]),
            (await echo(kserve.InferInput("x", [1, 2], "BYTES", data=["text", "ü"])),
             [["text", "ü"]]),
        ]
        assert answers[1][0].id == "r1" and answers[1][0].model_name == "echo"
        for datatype, dtype in [("FP32", numpy.float32), ("FP16", numpy.float16),
                                ("INT8", numpy.int8), ("BOOL", numpy.bool_)]:
            values = numpy.array([[0, 1, 0.5]], dtype)
            x = kserve.InferInput("x", [1, 3], datatype)
            x.set_data_from_numpy(values, binary_data=True)
            y = RequestedOutput("y", parameters={"binary_data": True})
            answers.append((await echo(x, request_outputs=[y]), values.tolist()))
        text = kserve.InferInput("x", [1, 2], "BYTES")
        text.set_data_from_numpy(numpy.array([["a", "ü"]], dtype=object), binary_data=True)
        answers.append((await echo(text), [["a", "ü"]]))
        for answer, expected in answers:
            given = answer.outputs[0].as_numpy()
            given = [[e.decode() if isinstance(e, bytes) else e for e in row] for row in given.tolist()]
            assert given == expected, (given, expected)

        failed = []
        for turn in range(GOOD):
            size = SIZES[turn % len(SIZES)]
            try:
                x = kserve.InferInput("x", [1, max(size, 1)], "UINT8")
                x.set_data_from_numpy(numpy.zeros((1, max(size, 1)), numpy.uint8), binary_data=True)
                await echo(x, model="nope")
                failed.append("no error")
            except Exception as error:
                if getattr(getattr(error, "response", None), "status_code", None) != 404:
                    failed.append(("refused", size, repr(error)))
            try:
                answer = await echo(kserve.InferInput("x", [1, 2], "INT32", data=[1, 2]))
                assert answer.outputs[0].data == [1, 2], answer
            except Exception as error:
                failed.append(("good", repr(error)))
        await client.close()
        assert not failed, failed[:10]

    asyncio.run(run())


def check_compression(address, key):
    """Checks bodies and answers in each coding that Triton's client supports."""
    import requests
    import tritonclient.http as triton

    client = triton.InferenceServerClient(address)
    row = numpy.arange(2000, dtype=numpy.int32).reshape(1, 2000)
    for binary in (True, False):
        for way in ("gzip", "deflate"):
            x = triton.InferInput("x", [1, 2000], "INT32")
            x.set_data_from_numpy(row, binary_data=binary)
            outputs = [triton.InferRequestedOutput("y", binary_data=binary)]
            answer = client.infer("echo", [x], outputs=outputs, headers={"X-API-Key": key},
                                  request_compression_algorithm=way,
                                  response_compression_algorithm=way)
            assert (answer.as_numpy("y") == row).all()
    client.close()

    body = json.dumps({"inputs": [{"name": "x", "datatype": "INT32", "shape": [1, 2000],
                                   "data": row[0].tolist()}]}).encode()
    raw = zlib.compressobj(wbits=-15)
    bodies = {"gzip": gzip.compress(body), "deflate": raw.compress(body) + raw.flush()}
    for coding, sent in bodies.items():
        headers = {**JSON, "X-API-Key": key, "Content-Encoding": coding, "Accept-Encoding": coding}
        answer = requests.post(f"http://{address}{ECHO}", headers=headers, data=sent)
        assert answer.headers["Content-Encoding"] == coding, answer.headers
        assert answer.headers["Vary"] == "accept-encoding", answer.headers
        assert answer.json()["outputs"][0]["data"] == row[0].tolist()
    headers["Content-Encoding"] = "gzip"
    bomb = requests.post(f"http://{address}{ECHO}", headers=headers,
                         data=gzip.compress(bytes(100_000_000)))
    assert bomb.status_code == 413, bomb.text


def check_numbers_that_are_not_finite(address, key):
    """Checks them as Python's own `json` reads and writes them."""
    import requests

    values = [[float("nan"), float("inf")], [float("-inf"), 1.5]]
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2],
                                   "data": values}]})
    answer = requests.post(f"http://{address}{ECHO}", headers={**JSON, "X-API-Key": key}, data=body)
    data = json.loads(answer.text)["outputs"][0]["data"]
    assert numpy.array_equal(data, numpy.ravel(values), equal_nan=True), answer.text


def check_openai(address, key):
    import openai

    def client(key):
        return openai.OpenAI(base_url=f"http://{address}/v1", api_key=key, max_retries=0)

    models = client(key).models.list().data
    assert [model.id for model in models] == ["echo"], models
    model = client(key).models.retrieve("echo")
    assert (model.object, model.owned_by) == ("model", "concertina"), model
    assert model.created == models[0].created > 1_600_000_000, model
    try:
        client(key).models.retrieve("nope")
        raise AssertionError("no error")
    except openai.NotFoundError as error:
        assert (error.code, error.type) == ("model_not_found", "invalid_request_error"), error
    try:
        client("wrong").models.list()
        raise AssertionError("no error")
    except openai.AuthenticationError as error:
        assert error.code == "invalid_api_key", error


#: Each check, with the modules that it needs.
CHECKS = [
    (check_requests, ["requests"]),
    (check_urllib3, ["urllib3"]),
    (check_httpx, ["httpx"]),
    (check_httpx_async, ["httpx"]),
    (check_aiohttp, ["aiohttp"]),
    (check_aiohttp_that_waits_for_100_continue, ["aiohttp"]),
    (check_tritonclient, ["tritonclient"]),
    (check_tritonclient_async, ["tritonclient", "aiohttp"]),
    (check_kserve, ["kserve"]),
    (check_openai, ["openai"]),
    (check_compression, ["requests", "tritonclient"]),
    (check_numbers_that_are_not_finite, ["requests"]),
]


def main(address, key):
    passed = failed = 0
    for check, modules in CHECKS:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            print(f"SKIPPED: {name}: {', '.join(missing)} is not installed")
            continue
        try:
            check(address, key)
            passed += 1
            print(f"ok: {name}")
        except Exception:
            failed += 1
            print(f"FAILED: {name}\n{traceback.format_exc()}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1].removeprefix("http://").rstrip("/"), sys.argv[2]))
