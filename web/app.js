// Shows the server's snapshots live. All text goes in through textContent.
"use strict";

const RECONNECT_MS = 2000;
const SILENCE_MS = 40000; // the server sends a comment every 15 s
const DECISIONS_SHOWN = 30;
const MODES = ["auto", "on", "off"];
const KEY = "concertina-api-key";

const byId = (id) => document.getElementById(id);
let latest = null;
let pressed = false; // a button that is replaced while it is pressed would lose its click

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function authorization() {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

// ---- Words

function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(1)} ${["", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

// ---- Parts of the page

function modeButton(adapter, mode) {
  const button = element("button", "", mode);
  button.type = "button";
  button.dataset.key = `${adapter.id} ${mode}`;
  button.setAttribute("aria-pressed", String(adapter.mode === mode));
  button.addEventListener("click", () => setMode(adapter.id, mode));
  return button;
}

function modes(adapter) {
  const group = element("div", "modes");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", `mode of ${adapter.name}`);
  group.append(...MODES.map((mode) => modeButton(adapter, mode)));
  return group;
}

function details(adapter, now) {
  const lines = [];
  if (adapter.reason) lines.push(adapter.reason);
  if (adapter.phase) lines.push(adapter.phase);
  if (adapter.fault) lines.push(`last fault: ${adapter.fault}`);
  if (adapter.retry_at_ms != null) lines.push(`tried again in ${duration(adapter.retry_at_ms - now)}`);
  if (adapter.state === "unused") return lines;
  const work = [count(adapter.requests, "request"), count(adapter.rows, "row"), count(adapter.starts, "start")];
  if (adapter.cold_start_ms != null) work.push(`last start took ${(adapter.cold_start_ms / 1000).toFixed(1)} s`);
  if (adapter.on_ms > 0) work.push(`on for ${duration(adapter.on_ms)} in all`);
  if (adapter.pid != null) work.push(`process ${adapter.pid}`);
  lines.push(work.join(" · "));
  return lines;
}

function replicaLine(replica) {
  const facts = [replica.loaded ? "loaded" : "not loaded"];
  if (replica.batch_ms != null) facts.push(`${replica.batch_ms.toFixed(1)} ms + ${replica.row_ms.toFixed(2)} ms per row`);
  if (replica.bytes != null) facts.push(size(replica.bytes));
  if (replica.load_ms != null) facts.push(`loads in ${(replica.load_ms / 1000).toFixed(1)} s`);
  return `${replica.model} ${replica.version}: ${facts.join(" · ")}`;
}

// What the scheduler reckons with.
function beliefs(adapter) {
  const lines = adapter.replicas.map(replicaLine);
  if (adapter.memory_budget_bytes != null) {
    lines.push(`memory for models: ${size(adapter.memory_used_bytes)} of ${size(adapter.memory_budget_bytes)}`);
  }
  const power = adapter.power;
  if (power) {
    const watts = `${power.idle_watts} W idle, ${power.active_watts} W busy, ${power.start_watts} W starting`;
    lines.push(`power above off: ${watts}${power.assumed ? " (assumed)" : ""}`);
  }
  return lines;
}

function adapterCard(adapter, now) {
  const card = element("li", `card ${adapter.state}`);
  const state = element("p");
  state.append(element("span", "state", adapter.state));
  if (adapter.state !== "unused") {
    state.append(element("span", "faint", ` for ${duration(now - adapter.since_ms)}`));
  }
  const facts = [adapter.id, adapter.vendor, adapter.api, adapter.class].join(" · ");
  card.append(element("h3", "", adapter.name), state, element("p", "faint", facts));
  card.append(...details(adapter, now).map((line) => element("p", "", line)));
  card.append(...beliefs(adapter).map((line) => element("p", "small faint", line)));
  if (adapter.state !== "unused") card.append(modes(adapter));
  return card;
}

function modelRow(model) {
  const row = element("li", model.state);
  const where = model.adapters.length ? `on ${model.adapters.join(", ")}` : "on no adapter now";
  row.append(element("strong", "", `${model.name} ${model.version} `), element("span", "state", model.state));
  row.append(element("span", "faint", ` ${where} · ${count(model.requests, "request")}, ${count(model.errors, "error")}`));
  if (model.reason) row.append(element("div", "", model.reason));
  return row;
}

function decisionRow(decision, now) {
  const row = element("li");
  row.append(element("time", "", `${duration(now - decision.at_ms)} ago`));
  const what = decision.model ? `${decision.change} ${decision.model} on` : decision.change;
  row.append(element("strong", "", `${what} ${decision.adapter} `), element("span", "", decision.text));
  return row;
}

function queueFacts(queue) {
  const facts = [
    ["queued", `${count(queue.queued_requests, "request")}, ${count(queue.queued_rows, "row")}`],
    ["in flight", `${count(queue.in_flight_requests, "request")}, ${count(queue.in_flight_rows, "row")}`],
    ["served within about", queue.drain_ms < 1000 ? `${queue.drain_ms} ms` : duration(queue.drain_ms)],
    ["memory held", `${size(queue.held_bytes)} of ${size(queue.held_bytes_max)}`],
  ];
  return facts.map(([name, value]) => {
    const fact = element("div");
    fact.append(element("dt", "", name), element("dd", "", value));
    return fact;
  });
}

function serverLine(server, now) {
  const state = server.shutting_down ? "shutting down" : server.ready ? "ready" : "not ready";
  const reason = server.reason ? `: ${server.reason}` : "";
  return `${server.version} · ${state}${reason} · up ${duration(now)}`;
}

// ---- Drawing

function draw() {
  if (!latest || pressed) return;
  const { snapshot, at } = latest;
  const now = snapshot.server.uptime_ms + (performance.now() - at);
  const focused = document.activeElement?.dataset?.key;
  const used = (adapter) => (adapter.state === "unused" ? 1 : 0);
  const adapters = [...snapshot.adapters].sort((a, b) => used(a) - used(b));
  byId("server").textContent = serverLine(snapshot.server, now);
  byId("adapters").replaceChildren(...adapters.map((adapter) => adapterCard(adapter, now)));
  byId("queue").replaceChildren(...queueFacts(snapshot.queue));
  byId("models").replaceChildren(...snapshot.models.map(modelRow));
  const decisions = snapshot.decisions.slice(-DECISIONS_SHOWN).reverse();
  byId("decisions").replaceChildren(...decisions.map((decision) => decisionRow(decision, now)));
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

// ---- Talking to the server

async function setMode(id, mode) {
  try {
    const response = await fetch(`api/adapters/${encodeURIComponent(id)}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...authorization() },
      body: JSON.stringify({ mode }),
    });
    notice(response.ok ? "" : (await response.json()).error);
  } catch (error) {
    notice(`the server did not answer: ${error.message}`);
  }
}

function receive(block) {
  const field = (name) => block.split("\n").filter((line) => line.startsWith(`${name}:`))
    .map((line) => line.slice(name.length + 1)).join("\n").trim();
  if (field("event") !== "snapshot") return; // decisions are in the snapshot too
  latest = { snapshot: JSON.parse(field("data")), at: performance.now() };
  draw();
}

// fetch instead of EventSource, because EventSource cannot send the API key.
async function listen() {
  const abort = new AbortController();
  let timer = 0;
  const alive = () => { clearTimeout(timer); timer = setTimeout(() => abort.abort(), SILENCE_MS); };
  try {
    alive();
    const response = await fetch("api/events", { headers: authorization(), signal: abort.signal });
    byId("key").hidden = response.status !== 401;
    if (!response.ok) throw new Error((await response.json()).error);
    notice("");
    let text = "";
    for (const reader = response.body.pipeThrough(new TextDecoderStream()).getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) throw new Error("the server ended the connection");
      alive();
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      blocks.forEach(receive);
    }
  } finally {
    clearTimeout(timer);
  }
}

async function listenForever() {
  for (;;) {
    try {
      await listen();
    } catch (error) {
      byId("server").textContent = `not connected: ${error.message}`;
      latest = null;
    }
    await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
  }
}

byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key-value").value);
  byId("key-value").value = "";
});
addEventListener("pointerdown", () => { pressed = true; });
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { pressed = false; });
setInterval(draw, 1000); // durations go on while nothing changes
listenForever();
