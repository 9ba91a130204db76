#!/usr/bin/env python3
"""Writes the requests of perf_analyzer: FOLDER/identity.json and FOLDER/digits.json.

Usage: inputs.py GOLDEN FOLDER     (GOLDEN: models/digits/1/golden.json)

perf_analyzer's own random bytes are not pixels, and as floats some of them are not finite.
"""

import json
import pathlib
import sys
from typing import Any


def tensor(content: list[float], *shape: int) -> dict[str, Any]:
    return {"content": content, "shape": list(shape)}


def main() -> None:
    golden, folder = map(pathlib.Path, sys.argv[1:])
    echo = {"x": tensor([number / 4 for number in range(16)], 16)}
    # perf_analyzer compares answers byte by byte, which is exact only for an echo.
    identity = {"data": [echo], "validation_data": [echo]}
    pixels = json.loads(golden.read_text())["inputs"][0]["data"]
    digits = {"data": [{"image": tensor([pixel / 255 for pixel in pixels], 28, 28)}]}
    for name, requests in {"identity": identity, "digits": digits}.items():
        (folder / f"{name}.json").write_text(json.dumps(requests))


if __name__ == "__main__":
    main()
