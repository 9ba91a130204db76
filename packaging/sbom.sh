#!/usr/bin/env bash
# Writes the CycloneDX bill of materials of a release from Cargo.lock.
# Needs cargo-cyclonedx. Usage: packaging/sbom.sh FILE.json
set -eu
file=$(realpath -m "$1")
cd "$(dirname "$0")/.."
# The tool can only write beside the Cargo.toml of each package of the workspace.
name=sbom-$$
trap 'rm -f "$name.json" fuzz/"$name.json" fuzz/engine/"$name.json" src/*/"$name.json"' EXIT
# Includes the dependencies of all targets; build dependencies are marked as such.
cargo cyclonedx --quiet --format json --spec-version 1.5 --target all --override-filename "$name"
mv "$name.json" "$file"
