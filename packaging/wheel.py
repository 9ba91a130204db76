#!/usr/bin/env python3
"""Makes a Python wheel that puts the program on the path, from a program that was built.

Usage: wheel.py PROGRAM VERSION PLATFORM FOLDER LEVEL
The format is that of the binary distribution format of the Python Packaging User Guide: a zip file
with the program in `.data/scripts` and the metadata in `.dist-info`.
"""

import base64
import hashlib
import os
import pathlib
import sys
import time
import zipfile

METADATA = """Metadata-Version: 2.1
Name: concertina
Version: {version}
Summary: Elastic model serving on every GPU in the box
Home-page: https://github.com/concertina-serve/concertina
License: MIT OR Apache-2.0
Description-Content-Type: text/markdown

{readme}"""

WHEEL = """Wheel-Version: 1.0
Generator: concertina packaging/wheel.py
Root-Is-Purelib: false
Tag: py3-none-{platform}
"""


def main():
    program, version, platform, folder, level = sys.argv[1:]
    root = pathlib.Path(__file__).parent.parent
    info = f"concertina-{version}.dist-info"
    readme = (root / "README.md").read_text()
    files = {
        f"concertina-{version}.data/scripts/concertina": pathlib.Path(program).read_bytes(),
        f"{info}/METADATA": METADATA.format(version=version, readme=readme).encode(),
        f"{info}/WHEEL": WHEEL.format(platform=platform).encode(),
        f"{info}/licenses/LICENSE-MIT": (root / "LICENSE-MIT").read_bytes(),
        f"{info}/licenses/LICENSE-APACHE": (root / "LICENSE-APACHE").read_bytes(),
    }
    record = [f"{name},sha256={digest(data)},{len(data)}" for name, data in files.items()]
    record.append(f"{info}/RECORD,,\n")
    files[f"{info}/RECORD"] = "\n".join(record).encode()
    wheel = pathlib.Path(folder) / f"concertina-{version}-py3-none-{platform}.whl"
    date = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))[:6]
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=int(level)) as packed:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, date)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if "/scripts/" in name else 0o100644) << 16
            packed.writestr(entry, data)


def digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


main()
