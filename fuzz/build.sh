# Builds the targets; sourced by `run` and `keep`. Sets the folders of the programs and of their finds.
target="${CARGO_TARGET_DIR:-target}"
programs="$target/release" found="$target/fuzz"
LIBFUZZER=$(cargo build --release -p concertina-fuzz-engine --message-format=json \
  | sed -n 's/.*"package_id":"[^"]*libfuzzer-sys@.*"out_dir":"\([^"]*\)".*/\1/p')
export LIBFUZZER
RUSTC_WORKSPACE_WRAPPER="$PWD/fuzz/rustc" cargo build --release -p concertina-fuzz
# The random order of several threads would produce new coverage without end.
export RAYON_NUM_THREADS=1
