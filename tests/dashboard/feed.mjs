// Serves the page with the feed of an invented large, busy machine: 16 adapters, 20 models, 1000 requests per second.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { ROOT } from "./server.mjs";

const ADAPTERS = 16;
const MODELS = 20;
const DECISIONS = 100;
const RATE = 5; // snapshots per second, the most that the real server sends
const UPTIME_MS = 640_000;
const GiB = 2 ** 30;
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = { ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml" };
const CARDS = [["NVIDIA GeForce RTX 3060", "NVIDIA", "discrete", 12, 170], ["AMD Radeon RX 7800 XT", "AMD", "discrete", 16, 230], ["Intel(R) UHD Graphics 770", "Intel", "integrated", 8, 18]];
const STATES = ["starting", "loading", "busy", "busy", "busy", "idle", "draining", "off"];

// ---- The state, which is a function of the time

/** Each adapter goes through the states at its own pace. */
const stateOf = (at, ms) => STATES[Math.floor(ms / (2000 + 300 * at) + at) % STATES.length];

function adapter(at, ms) {
  const [name, vendor, kind, gib, active] = CARDS[at % CARDS.length];
  const state = stateOf(at, ms);
  const busy = state === "busy";
  const rate = 1000 / ADAPTERS + 10 * Math.sin(ms / 700 + at);
  const served = Math.round(ms * (rate / 1000));
  return {
    id: idOf(at), name, vendor, api: "vulkan", class: kind, vendor_id: 1, device_id: 1, pci: null, driver: vendor, driver_info: "550.54.14",
    memory: {}, memory_bytes: gib * GiB, state, reason: null, fallback: false, probe: { gflops: 9140.2, copy_gbytes_per_s: 304.1 },
    mode: "auto", since_ms: Math.floor(ms / 2000) * 2000, phase: state === "loading" ? "warming up digits (2 of 5)" : null, retry_at_ms: null, fault: null,
    pid: state === "off" ? null : 4000 + at, requests: served, rows: served, batches: served >> 2, starts: 7, starts_last_hour: 2, on_ms: ms / 2, cold_start_ms: 1900, open_ms: 410,
    power: { idle_watts: 12, active_watts: active, start_watts: 60, assumed: true }, memory_used_bytes: 1.4 * GiB, memory_budget_bytes: 0.8 * gib * GiB,
    replicas: ["digits", "model-2"].map((model) => ({ model, version: "1", loaded: true, bytes: 734003200, load_ms: 640, batch_ms: 1.52, row_ms: 0.21, spread: 0.1 })),
    recent: { requests_per_s: rate, rows_per_s: rate, batches_per_s: rate / 4, queue_p50_ms: 1 + Math.sin(ms), queue_p99_ms: 9.3, run_p50_ms: 4.2, run_p99_ms: 7 + Math.sin(ms), busy: 0.43 },
    sensors: { utilisation: busy ? 0.37 : 0, power_watts: 93 + 9 * Math.sin(ms / 900), temperature_celsius: 51, memory_used_bytes: 6e8, memory_total_bytes: gib * GiB, asleep: false, source: "nvml" },
  };
}

const idOf = (at) => `pci-0000:${String(at + 1).padStart(2, "0")}:00.0`;

function model(at, ms) {
  const rate = 1000 / MODELS + Math.sin(ms / 500 + at);
  return { name: ["chain", "digits"][at] ?? `model-${at}`, version: "1", state: "ready", reason: null, adapters: [idOf(at % ADAPTERS), idOf((at + 1) % ADAPTERS)], requests: Math.round(ms * rate / 1000), errors: 0,
    kind: ["ensemble", "digits"][at] ?? "identity", slo_ms: 100, last_error: null, recent: { requests_per_s: rate, rows_per_s: rate, p50_ms: 5.3 + Math.sin(ms / 300), p99_ms: 66 } };
}

function decision(seq, ms) {
  const [change, reason] = seq % 2 ? ["start", "latency_target"] : ["drain", "break_even"];
  return { seq, at_ms: ms, adapter: idOf(seq % ADAPTERS), change, model: null, reason, text: "14 rows of digits needed 820 ms on the active adapters; target 100 ms; ready in about 1.9 s" };
}

function sample(ms) {
  const states = Array.from({ length: ADAPTERS }, (_, at) => [idOf(at), stateOf(at, ms)]);
  const waiting = 20 + 15 * Math.sin(ms / 21_000);
  return { at_ms: ms, queued: Math.round(waiting), in_flight: Math.round(waiting / 2), on: Object.fromEntries(states.filter(([, state]) => state !== "off")) };
}

function snapshot(ms, decisions) {
  const last = sample(Math.floor(ms / 1000) * 1000);
  return {
    server: { version: "0.1.0", uptime_ms: ms, ready: true, reason: null, shutting_down: false },
    adapters: Array.from({ length: ADAPTERS }, (_, at) => adapter(at, ms)), models: Array.from({ length: MODELS }, (_, at) => model(at, ms)),
    queue: { queued_requests: last.queued, queued_rows: last.queued, in_flight_requests: last.in_flight, in_flight_rows: last.in_flight, drain_ms: 40, held_bytes: 1e5, held_bytes_max: GiB },
    ...(decisions && { decisions }), sample: last, load: null,
  };
}

// ---- The server

/** `fixed`: the decisions, which no others follow; `expected`: clients, with times relative to now. */
export async function startFeed({ fixed, expected = [] } = {}) {
  const startedAt = Date.now() - UPTIME_MS;
  const now = () => Date.now() - startedAt;
  const streams = new Set();
  const feed = { sent: 0, requests: 0, streams: () => streams.size };
  const decisions = fixed?.map((it, at) => ({ ...it, seq: at + 1, at_ms: UPTIME_MS - 1000 * (fixed.length - at), adapter: idOf(at % ADAPTERS) })) ?? Array.from({ length: DECISIONS }, (_, at) => decision(at + 1, UPTIME_MS - 3000 * (DECISIONS - at)));
  const clients = expected.map(({ after, ...client }) => ({ ...client, ...Object.fromEntries(Object.entries(after).map(([name, ms]) => [name, UPTIME_MS + ms])) }));
  const view = (all) => ({ ...snapshot(now(), all), expected: clients });
  const send = (stream, event, data) => stream.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);

  const server = createServer(async (request, response) => {
    feed.requests += 1;
    const path = request.url.split("?")[0];
    if (path === "/api/snapshot") return json(response, 200, view(decisions));
    if (path === "/api/history") return json(response, 200, { interval_ms: 1000, samples: Array.from({ length: 600 }, (_, at) => sample((Math.floor(now() / 1000) - 599 + at) * 1000)) });
    if (path === "/v2/models/chain") return json(response, 200, { name: "chain", versions: ["1"], platform: "concertina_ensemble", inputs: [], outputs: [] });
    if (path !== "/api/events") return file(response, path);
    response.writeHead(200, { "content-type": "text/event-stream" });
    send(response, "snapshot", view(decisions));
    streams.add(response);
    return request.once("close", () => streams.delete(response));
  });

  const timers = [
    setInterval(() => {
      feed.sent += 1;
      for (const stream of streams) send(stream, "snapshot", view());
    }, 1000 / RATE),
    setInterval(() => {
      if (fixed) return;
      decisions.push(decision(decisions.at(-1).seq + 1, now()));
      decisions.shift();
      for (const stream of streams) send(stream, "decision", decisions.at(-1));
    }, 1000),
  ];
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  feed.url = `http://127.0.0.1:${server.address().port}`;
  feed.end = () => {
    timers.forEach(clearInterval);
    server.close();
    server.closeAllConnections();
  };
  return feed;
}

function json(response, status, data) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(data));
}

async function file(response, path) {
  const name = normalize(path === "/" ? "/index.html" : path);
  const data = await readFile(join(ROOT, "web", name)).catch(() => null);
  if (!data) return json(response, 404, { error: "not found" });
  return response.writeHead(200, { "content-type": TYPES[extname(name)] ?? "application/octet-stream", "content-security-policy": POLICY }).end(data);
}
