#!/usr/bin/env bash
# Prints the results of NVIDIA's perf_analyzer for a running `concertina serve`, and for Triton under
# the same load: `identity` and `digits`, JSON and binary tensors, concurrency 1, 8 and 32. Fails if a
# request fails, an answer of `identity` is wrong or a number is missing. Takes about four minutes, and
# installs both tools the first time. Sends bounded traffic to 127.0.0.1 only. Usage: benches/perf_analyzer.sh [CONCERTINA]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
concertina=${1:-${CARGO_TARGET_DIR:-$root/target}/release/concertina}
tools="${XDG_CACHE_HOME:-$HOME/.cache}/concertina-perf"

# perf_analyzer measures until three windows in a row agree. The tolerance here accepts any three, so
# that the duration of a run is known.
window_ms=2000
windows=3
disagreement=1000000
# Longest time of one measurement, and of all of them, in seconds.
run_max=30
serve_max=900

note() { printf 'perf_analyzer: %s\n' "$*" >&2; }
fail() { note "$*"; exit 1; }

[ -x "$concertina" ] || fail "missing: $concertina; build it with cargo build --release"
"$root/benches/perf_analyzer/install.sh" "$tools"

scratch=$(mktemp -d)
started=()

# The ids of a process and of all its descendants.
tree() { # pid
  local child
  # shellcheck disable=SC2013 # the file has one line of words
  for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do tree "$child"; done
  echo "$1"
}

# Terminates a process and waits for its descendants; a Triton that hangs is killed.
stop() { # pid
  local pids
  pids=$(tree "$1")
  kill "$1" 2>/dev/null || return 0
  for _ in $(seq 100); do
    # shellcheck disable=SC2086 # one word per id
    kill -0 $pids 2>/dev/null || return 0
    sleep 0.1
  done
  # shellcheck disable=SC2086
  kill -KILL $pids 2>/dev/null || true
}

clean() {
  for pid in "${started[@]}"; do stop "$pid"; done
  # A killed Triton leaves shared memory behind.
  rm -rf "$scratch" /dev/shm/concertina-perf-$$-*
}
trap clean EXIT
trap 'exit 1' INT TERM HUP

# Starts a server with a time limit, so that it ends even if this script is killed.
start() { # log, command…
  local log=$1
  shift
  : > "$log"
  timeout --kill-after=10 "$serve_max" "$@" > "$log" 2>&1 &
  started+=($!)
}

# Waits until the log has the listen address of the server that was started last; stores it in
# `address`.
await() { # name, log, words before the address
  local name=$1 log=$2 words=$3
  for _ in $(seq 600); do
    address=$(sed -n "s|.*$words\(127\.0\.0\.1:[0-9]*\).*|\1|p" "$log" | head -n 1)
    [ -z "$address" ] || return 0
    kill -0 "${started[-1]}" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$log" >&2
  fail "$name does not come up"
}

start_concertina() {
  mkdir -p "$scratch/models/identity/1"
  cp -r "$root/models/digits" "$scratch/models/"
  cat > "$scratch/models/identity/model.toml" << 'END'
kind = "identity"
[[inputs]]
name = "x"
datatype = "FP32"
shape = [16]
[[outputs]]
name = "x"
datatype = "FP32"
shape = [16]
[batch]
max_rows = 8
END
  printf 'runtime_dir = "%s"\nlock_dir = "%s"\n' "$scratch/run" "$scratch/locks" > "$scratch/config.toml"
  # Only the CPU, as for Triton, and always on, so that no cold start is measured.
  start "$scratch/concertina.log" env VK_ICD_FILENAMES=/nonexistent/none.json "$concertina" serve \
    --listen=127.0.0.1:0 --config="$scratch/config.toml" --cache-dir="$scratch/cache" \
    --models="$scratch/models" --cpu=always --adapters-min=1
  await concertina "$scratch/concertina.log" "http://"
  concertina_address=$address
}

start_triton() {
  local model port
  for model in identity digits; do
    mkdir -p "$scratch/triton/$model/1"
    cp "$root/benches/perf_analyzer/triton.py" "$scratch/triton/$model/1/model.py"
  done
  cp "$root/models/digits/1/"* "$scratch/triton/digits/1/"
  port=$("$tools/triton/bin/python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  start "$scratch/triton.log" env "PATH=$tools/triton/bin:$PATH" "LD_LIBRARY_PATH=$tools/triton/libs" \
    "$tools/triton/tritonserver" --http-address=127.0.0.1 --http-port="$port" --allow-grpc=false \
    --allow-metrics=false --model-repository="$scratch/triton" --backend-directory="$tools/triton/backends" \
    --backend-config=python,shm-region-prefix-name="concertina-perf-$$-"
  await Triton "$scratch/triton.log" "Started HTTPService at "
  triton_address=$address
}

# Stores infer/s and the median and 99th percentile in milliseconds in `numbers`; prints the reason if
# there are none.
measure() { # address, model, format, concurrency
  local csv="$scratch/measured.csv" log="$scratch/analyzer.log"
  rm -f "$csv"
  numbers="- - -"
  timeout "$run_max" "$tools/analyzer/run" -u "$1" -m "$2" --input-tensor-format="$3" --output-tensor-format="$3" \
    --concurrency-range="$4" --input-data="$scratch/$2.json" --warmup-request-count=100 \
    --measurement-interval="$window_ms" --max-trials="$windows" --stability-percentage="$disagreement" --percentile=99 \
    -f "$csv" > "$log" 2>&1 &
  started+=($!)
  # `wait` can be interrupted by signals, a foreground command cannot.
  if wait $!; then
    numbers=$(read_csv "$csv") || note "numbers are missing in what perf_analyzer wrote"
  else
    note "perf_analyzer failed with $?:"
    tail -n 20 "$log" >&2
  fi
  unset 'started[-1]'
  [ "$numbers" != "- - -" ] || failed=$((failed + 1))
}

read_csv() { # file
  awk -F, '
    NR == 1 { for (field = 1; field <= NF; field++) column[$field] = field }
    NR == 2 { rate = $column["Inferences/Second"]; p50 = $column["p50 latency"]; p99 = $column["p99 latency"] }
    END {
      if (!(rate > 0 && p50 > 0 && p99 > 0)) { print "- - -"; exit 1 }
      printf "%.0f %.2f %.2f\n", rate, p50 / 1000, p99 / 1000
    }' "$1"
}

header() {
  cat << END
$("$concertina" --version) on its CPU adapter, and Triton 2.51.0 (from nvidia-pytriton 0.7.0), in turn, on $(nproc) cores
that perf_analyzer shares with them: $((windows * window_ms / 1000)) s each after 100 requests of warm-up. FP32 tensors, one row a request,
batches of at most 8 rows; latencies in ms as the client sees them. This Triton has its Python backend only,
so both models are Python there: digits is the same network with the same weights in ONNX Runtime, held to the
same golden answer. Triton's backends in C++ would cost less a request.

                        concertina                  Triton
model     tensors  at once  infer/s    p50    p99   infer/s    p50    p99   ratio
END
}

row() { # model, format, concurrency
  local ours theirs ratio
  measure "$concertina_address" "$@"
  ours=$numbers
  measure "$triton_address" "$@"
  theirs=$numbers
  ratio=$(echo "$ours $theirs" | awk '{ if ($1 > 0 && $4 > 0) printf "%.1f x", $1 / $4; else print "-" }')
  # shellcheck disable=SC2086 # three words each
  printf '%-9s %-7s  %7s  %7s %6s %6s   %7s %6s %6s  %6s\n' "$@" $ours $theirs "$ratio"
}

failed=0
start_concertina
start_triton
"$tools/triton/bin/python" "$root/benches/perf_analyzer/inputs.py" "$root/models/digits/1/golden.json" "$scratch"
header
for model in identity digits; do
  for format in json binary; do
    for concurrency in 1 8 32; do row "$model" "$format" "$concurrency"; done
  done
done
[ "$failed" = 0 ] || fail "$failed of 24 measurements failed"
