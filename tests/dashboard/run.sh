#!/usr/bin/env bash
# Tests the page in a real browser, with the real server and with an invented feed. Connects to
# 127.0.0.1 only, except for `npm ci`. Usage: CONCERTINA_BIN=PROGRAM tests/dashboard/run.sh
set -eu
cd "$(dirname "$0")"

skip() { echo "SKIPPED: the tests of the page: $*"; exit 0; }

command -v node >/dev/null && command -v npm >/dev/null || skip "node or npm is missing; install them with apt-get install nodejs npm"
# `toSorted` and `toArray` need Node 20.
[ "$(node -p 'parseInt(process.versions.node)')" -ge 20 ] || skip "node is older than 20"
[ -x /usr/bin/chromium ] || skip "chromium is missing; install it with apt-get install chromium"
npm ci --silent --ignore-scripts --no-audit --no-fund >/dev/null 2>&1 || skip "npm cannot install playwright-core and axe-core"

# One file at a time: they share two cores and the cache of the adapters.
timeout --kill-after=60 2400 node --test --test-concurrency=1 --test-reporter=spec ./*.test.mjs
