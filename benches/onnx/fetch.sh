#!/usr/bin/env bash
# Fetches the engines with which `cargo bench --bench onnx` compares, into the cache of
# tests/onnx/fetch.sh: tract, ncnn and ONNX Runtime's WebGPU provider, and a lavapipe that is new
# enough for all of them (Mesa 25 of Debian 12's backports). Prints the variables to set.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
cache=$("$here/../../tests/onnx/fetch.sh")
cd "$cache"

if [ ! -e rivals/complete ]; then
  python3 -m venv rivals
  rivals/bin/pip install -q numpy onnx==1.22.0 onnxruntime==1.32.0 tract==0.23.9 ncnn==1.0.20261020 >&2
  rivals/bin/pip install -q --no-deps onnxruntime-ep-webgpu==0.4.0 pnnx==20261020 >&2
  touch rivals/complete
fi

if [ ! -e mesa/complete ]; then
  mkdir -p mesa/lists/partial mesa/archives/partial
  key=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$key] http://deb.debian.org/debian bookworm-backports main" > mesa/sources.list
  apt=(-o "Dir::Etc::SourceList=$cache/mesa/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$cache/mesa/lists" -o "Dir::Cache=$cache/mesa")
  apt-get "${apt[@]}" update -qq >&2
  (cd mesa && apt-get "${apt[@]}" download -qq mesa-vulkan-drivers libdrm2 libdrm-amdgpu1 >&2)
  for package in mesa/*.deb; do dpkg -x "$package" mesa/root; done
  library=$(find "$cache/mesa/root" -name libvulkan_lvp.so)
  printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s","api_version":"1.3.0"}}\n' "$library" > mesa/lavapipe.json
  touch mesa/complete
fi
libraries=$(dirname "$(find "$cache/mesa/root" -name libvulkan_lvp.so)")
echo "export CONCERTINA_TEST_ONNX=$cache VK_DRIVER_FILES=$cache/mesa/lavapipe.json LD_LIBRARY_PATH=$libraries"
