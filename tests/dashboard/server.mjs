// Starts the real server with three software adapters, and always ends it.

import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
export const SEVEN = readFileSync(join(ROOT, "examples/seven.json"));
export const FIRST = "vulkan-10005-0000-0";
export const SECOND = "vulkan-10005-0000-1";
export const THIRD = "vulkan-1ae0-c0de-0";
export const SOFTWARE = [FIRST, SECOND, THIRD];

const TUNING_MS = 900_000; // the first start on a machine tunes kernels
export const START_MS = 180_000; // a start with tuned kernels

const program = process.env.CONCERTINA_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "release/concertina");
const cache = join(tmpdir(), "concertina-test-cache");

/** Settings of an adapter that takes `row` milliseconds per row, with a start that pays off soon. */
const slowed = (id, row) => `[adapters.power.${id}]\nidle = 50.0\nactive = 100.0\nstart = 1.0\n[test.slow.${id}]\nrow = "${row}ms"\n`;

/** Turns adapters on when more requests arrive at once than one answers within the target. */
export const elastic = (target, row) => `latency_target = "${target}"\n[workers]\nbackoff = "4s"\n[adapters]\nstart_penalty_joules = 0.1\nlate_penalty_joules = 0\n${SOFTWARE.map((id) => slowed(id, row)).join("")}`;

/** A cold start meets this target, so that even the last adapter turns off a second after it was
    needed; a dozen requests at once miss it on one adapter. */
export const ELASTIC = elastic("3s", 300);

// ---- Waiting

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The first truthy result of `look`; fails after the limit, with the last error. */
export async function waitFor(what, look, limitMs = START_MS) {
  const end = performance.now() + limitMs;
  let failure = "";
  while (performance.now() < end) {
    try {
      const found = await look();
      if (found) return found;
    } catch (error) {
      failure = `: ${error.message}`;
    }
    await sleep(100);
  }
  throw new Error(`not within ${limitMs / 1000} s: ${what}${failure}`);
}

// ---- The machine: drivers, and the cache that all tests share

const held = [];

/** Waits for other tests of the software adapters, which wait for these too; `null` without drivers. */
export async function takeMachine() {
  mkdirSync(cache, { recursive: true });
  await lock(join(cache, "lock"));
  const drivers = execFileSync("bash", [join(ROOT, "tests/software_adapters.sh"), join(cache, "drivers")], { encoding: "utf8", timeout: 60_000 }).trim();
  const known = drivers.split(":").filter(Boolean).length;
  if (known < 3) console.log(`SKIPPED: ${known} of 3 software adapters found; install them with apt-get install mesa-vulkan-drivers chromium`);
  if (known < 3) return null;
  const machine = { drivers };
  try {
    await warmUp(machine);
  } catch (error) {
    releaseMachine();
    throw error;
  }
  return machine;
}

export function releaseMachine() {
  for (const child of held.splice(0)) child.stdin.end();
}

/** Locks a file; the lock is held by a process that ends with this one. */
async function lock(path) {
  const child = spawn("flock", [path, "sh", "-c", "echo held; exec cat"], { stdio: ["pipe", "pipe", "inherit"] });
  held.push(child);
  let taken = false;
  child.stdout.once("data", () => { taken = true; });
  await waitFor("other tests release the software adapters", () => taken, TUNING_MS);
}

/** Starts the adapters that were never on, so that no test waits for tuning. */
async function warmUp(machine) {
  const server = await startServer(machine);
  try {
    const cold = (await server.software()).filter(({ cold_start_ms }) => cold_start_ms === null);
    console.log("warming up the software adapters; the first time on a machine this takes minutes");
    for (const { id } of cold) {
      await server.setMode(id, "on");
      await server.waitForState(id, ["idle"], TUNING_MS);
      await server.setMode(id, "off");
      await server.waitForState(id, ["off"]);
    }
  } finally {
    await server.end();
  }
}

// ---- A server

const running = new Set();
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));

/** `options`: lines of the config file, a folder of models, a port, arguments. */
export async function startServer(machine, { config = "", models, port = 0, args = [] } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "concertina-dashboard-"));
  const folders = { runtime_dir: join(folder, "run"), lock_dir: join(folder, "locks") };
  const lines = Object.entries(folders).map(([name, path]) => `${name} = ${JSON.stringify(path)}\n`);
  writeFileSync(join(folder, "c.toml"), lines.join("") + config);
  const log = [];
  // Modes that another test has set, and values learned from slowed adapters and late requests.
  for (const name of ["modes.json", "learned.json"]) rmSync(join(cache, name), { force: true });
  const child = spawn(program, ["serve", "--listen", `127.0.0.1:${port}`, "--config", join(folder, "c.toml"), "--cache-dir", cache,
    "--software-adapters", "allow", ...(args.includes("--cpu") ? [] : ["--cpu", "never"]), ...(models ? ["--models", models] : []), ...args],
    { cwd: folder, env: environment(machine), stdio: ["ignore", "ignore", "pipe"] });
  running.add(child);
  const ended = new Promise((resolve) => child.once("close", resolve));
  child.once("error", (error) => log.push(error.message));
  child.stderr.setEncoding("utf8").on("data", (text) => log.push(text));
  const address = () => /serving .* on (http:\/\/127\.0\.0\.1:\d+)/.exec(log.join(""))?.[1];
  const server = new Server({ child, ended, folder, log });
  try {
    server.url = await waitFor("the server is up", () => address() ?? (child.exitCode !== null && Promise.reject(new Error(log.join("")))), 60_000);
    await waitFor("the server is ready", async () => (await server.snapshot()).server.ready, 60_000);
    return server;
  } catch (error) {
    await server.end();
    throw new Error(`${error.message}\n${log.join("")}`);
  }
}

/** The environment without settings of the user, which must not reach the program. */
function environment({ drivers }) {
  const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("CONCERTINA_")));
  return { ...own, VK_ICD_FILENAMES: drivers, LP_NUM_THREADS: "1", NODEVICE_SELECT: "1" };
}

class Server {
  constructor(parts) {
    Object.assign(this, parts);
  }

  get pid() { return this.child.pid; }
  get port() { return Number(new URL(this.url).port); }

  async call(method, path, body) {
    const response = await fetch(this.url + path, { method, headers: { "content-type": "application/json" }, body: body && JSON.stringify(body), signal: AbortSignal.timeout(30_000) });
    const answer = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${answer}`);
    return answer ? JSON.parse(answer) : null;
  }

  snapshot() { return this.call("GET", "/api/snapshot"); }
  setMode(id, mode) { return this.call("POST", `/api/adapters/${id}`, { mode }); }

  async adapter(id) {
    return (await this.snapshot()).adapters.find((adapter) => adapter.id === id);
  }

  async software() {
    return (await this.snapshot()).adapters.filter(({ id }) => SOFTWARE.includes(id));
  }

  waitForState(id, states, limitMs = START_MS) {
    return waitFor(`${id} is ${states.join(" or ")}`, async () => {
      const adapter = await this.adapter(id);
      return states.includes(adapter.state) && adapter;
    }, limitMs);
  }

  waitForAllOff() {
    return waitFor("all adapters are off", async () => (await this.software()).every(({ state }) => state === "off"));
  }

  /** Sends one request to `digits`; returns the status, the adapter, the text and the milliseconds. */
  infer(agent) {
    const began = performance.now();
    return new Promise((resolve, reject) => {
      const request = httpRequest(`${this.url}/v2/models/digits/infer`, { method: "POST", agent, timeout: START_MS, headers: { "content-type": "application/json" } }, async (response) => {
        const parts = await response.toArray().catch(reject);
        resolve({ status: response.statusCode, adapter: response.headers["x-concertina-adapter"], text: String(Buffer.concat(parts ?? [])), ms: performance.now() - began });
      });
      request.once("timeout", () => request.destroy(new Error("no answer in time"))).once("error", reject).end(SEVEN);
    });
  }

  /** Seconds of processor time of the serving process without its workers. */
  cpuSeconds() {
    const fields = readFileSync(`/proc/${this.pid}/stat`, "utf8").split(") ").at(-1).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100; // user and system, in ticks
  }

  async end() {
    if (this.child.exitCode === null) this.child.kill("SIGTERM");
    const last = setTimeout(() => this.child.kill("SIGKILL"), 40_000);
    await this.ended;
    clearTimeout(last);
    running.delete(this.child);
    if (existsSync(this.folder)) rmSync(this.folder, { recursive: true, force: true });
  }
}
