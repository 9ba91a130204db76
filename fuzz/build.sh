# Builds the targets; read by `run` and `keep`. Sets where programs and what they find are.
target="${CARGO_TARGET_DIR:-target}"
programs="$target/release" found="$target/fuzz"
LIBFUZZER=$(cargo build --release -p concertina-fuzz-engine --message-format=json \
  | sed -n 's/.*"package_id":"[^"]*libfuzzer-sys@.*"out_dir":"\([^"]*\)".*/\1/p')
export LIBFUZZER
RUSTC_WORKSPACE_WRAPPER="$PWD/fuzz/rustc" cargo build --release -p concertina-fuzz
# Threads that take turns by chance would be new coverage for ever.
export RAYON_NUM_THREADS=1
