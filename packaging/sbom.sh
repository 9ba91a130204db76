#!/usr/bin/env bash
# Writes what the program is made of: a CycloneDX bill of materials out of Cargo.lock, for a release.
# Needs cargo-cyclonedx. Usage: packaging/sbom.sh FILE.json
set -eu
file=$(realpath -m "$1")
cd "$(dirname "$0")/.."
# The tool writes beside the Cargo.toml of each package of the workspace and nowhere else.
name=sbom-$$
trap 'rm -f "$name.json" fuzz/"$name.json" fuzz/engine/"$name.json" src/*/"$name.json"' EXIT
# For everything that the program may be built for; what only builds it is named as such.
cargo cyclonedx --quiet --format json --spec-version 1.5 --target all --override-filename "$name"
mv "$name.json" "$file"
