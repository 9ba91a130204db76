#!/usr/bin/env bash
# Installs perf_analyzer and Triton into FOLDER, once, from PyPI and, where the system's glibc is
# too old for perf_analyzer, from Debian. The system does not change, except for packages of its
# Python that are missing and may be installed. Usage: install.sh FOLDER
set -eu
folder=$1

# Wheels of both are for this platform only.
analyzer="perf-analyzer==2.60.0"
triton="nvidia-pytriton==0.7.0"
# The package that runs Triton's `digits`.
onnx="numpy==1.26.4 onnx==1.23.2 onnxruntime==1.27.0"
# The newest release of Debian with a glibc with which perf_analyzer is known to run.
release=trixie

# Triton's Python backend loads the system's libpython, so it has to be the system's own Python.
system_python=/usr/bin/python3

note() { printf 'perf_analyzer: %s\n' "$*" >&2; }
fail() { note "$*"; exit 1; }

# Installs a part unless this version of it is installed.
once() { # part, version
  if [ "$(cat "$folder/$1/version" 2>/dev/null)" = "$2" ]; then
    return
  fi
  note "installing $2 into $folder"
  rm -rf "${folder:?}/$1"
  mkdir -p "$folder/$1"
  "install_$1"
  echo "$2" > "$folder/$1/version"
}

has_python() {
  "$system_python" -c 'import ensurepip, venv' 2>/dev/null && [ -n "$(libpython)" ]
}

libpython() { # prints its path, if it exists
  local version
  version=$("$system_python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  find /usr/lib /lib -name "libpython$version.so.1.0" 2>/dev/null | head -n 1
}

install_python() {
  local packages=(python3 python3-venv libpython3-dev)
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    note "installing ${packages[*]}"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; } \
      >/dev/null 2>&1 || true
  fi
  has_python || fail "missing: the system's own Python with venv and libpython (Debian: apt-get install ${packages[*]})"
}

install_triton() {
  local place="$folder/triton" packages stub
  "$system_python" -m venv "$place" || fail "missing: a Python environment in $place"
  # shellcheck disable=SC2086 # one word per package
  "$place/bin/pip" install -q --disable-pip-version-check $onnx \
    || fail "missing: $onnx for Triton's digits; PyPI did not give them"
  # Its dependencies are for serving from a Python program; only the server is used here.
  "$place/bin/pip" install -q --disable-pip-version-check --no-deps "$triton" \
    || fail "missing: $triton, which holds Triton; PyPI did not give it"
  packages=$("$place/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
  ln -s "$packages/nvidia_pytriton.libs" "$place/libs"
  ln -s "$packages/pytriton/tritonserver/bin/tritonserver" "$place/tritonserver"
  stub=$("$place/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  cp -r "$packages/pytriton/tritonserver/backends" "$place/backends"
  cp "$packages/pytriton/tritonserver/python_backend_stubs/$stub/triton_python_backend_stub" "$place/backends/python/" \
    || fail "missing: Triton's Python backend for Python $stub"
}

install_analyzer() {
  local place="$folder/analyzer" program="$folder/analyzer/perf_analyzer/bin/perf_analyzer"
  # Without the platform pip would select a placeholder package where glibc is older.
  "$folder/triton/bin/pip" download -q --disable-pip-version-check --no-deps --only-binary :all: --dest "$place" \
    --platform manylinux_2_38_x86_64 "$analyzer" \
    || fail "missing: $analyzer; PyPI did not give it"
  "$folder/triton/bin/python" -m zipfile -e "$place"/perf_analyzer-*.whl "$place"
  rm "$place"/perf_analyzer-*.whl
  chmod +x "$program"
  printf '#!/bin/sh\nexec "%s" "$@"\n' "$program" > "$place/run"
  if ! "$program" --version >/dev/null 2>&1; then
    install_glibc "$place/glibc"
    local libraries="$place/glibc/usr/lib/x86_64-linux-gnu"
    printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' \
      "$libraries/ld-linux-x86-64.so.2" "$libraries" "$program" > "$place/run"
  fi
  chmod +x "$place/run"
  "$place/run" --version >/dev/null 2>&1 || fail "$analyzer does not run here"
}

# Unpacks a newer glibc and its libraries beside those of the system, which are not changed.
install_glibc() { # place
  command -v apt-get >/dev/null || fail "missing: glibc 2.38 or newer, and no apt-get to fetch one"
  local lists="$1/apt" own mirror
  mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial"
  touch "$lists/status"
  # The mirror from which this machine gets its own packages.
  own=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  mirror=$(apt-get indextargets --format "\$(REPO_URI)" "Created-By: Packages" "Component: main" "Release: $own" | head -n 1)
  [ -n "$mirror" ] || fail "missing: glibc 2.38 or newer, and no Debian to fetch one from"
  echo "deb $mirror $release main" > "$lists/sources.list"
  local options=(-qq -o "Dir::Etc::sourcelist=$lists/sources.list" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$lists/lists" -o "Dir::State::status=$lists/status" -o "Dir::Cache=$lists/cache"
    -o Acquire::Languages=none -o "APT::Sandbox::User=$(id -un)")
  { apt-get "${options[@]}" update && cd "$lists" \
    && apt-get "${options[@]}" download libc6:amd64 libstdc++6:amd64 libgcc-s1:amd64; } \
    || fail "missing: libc6, libstdc++6 and libgcc-s1 of Debian $release; its mirror did not give them"
  for package in "$lists"/*.deb; do dpkg -x "$package" "$1"; done
  cd "$OLDPWD"
  rm -r "$lists"
}

[ "$(uname -sm)" = "Linux x86_64" ] || fail "perf_analyzer and Triton are to be had for Linux on x86_64 only"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
has_python || install_python
once triton "$triton $onnx"
once analyzer "$analyzer"
