// One card per adapter: its identity, its state, and the reason for it.

import { call } from "./api.js";
import { attr, fill, h, keyed, show, text, textWithIds } from "./dom.js";
import { apiName, celsius, duration, known, number, percent, quantiles, recent, size, watts } from "./format.js";
import { hueClass } from "./hues.js";
import { makeNumbers, updateNumbers } from "./numbers.js";
import { isOn, setStateGlyph, stateGlyph } from "./states.js";
import { store } from "./store.js";
import { progress, why } from "./why.js";

const MODES = [["auto", "on and off as requests need it"], ["on", "keep on"], ["off", "keep off"]];
const CALM_MS = 1000; // an adapter is idle between two batches: it is shown as busy for this long

export function renderAdapters(view) {
  const unused = view.snapshot.adapters.filter(({ state }) => state === "unused");
  const used = view.snapshot.adapters.filter(({ state }) => state !== "unused");
  const all = used.reduce((sum, { recent }) => sum + (recent?.requests_per_s ?? 0), 0);
  keyed(document.getElementById("adapters"), used, ({ id }) => id, makeCard, (card, adapter) => updateCard(card, adapter, view, all));
  keyed(document.getElementById("unused"), unused, ({ id }) => id, makeUnused, (card, adapter) => updateUnused(card, adapter, view));
  show(document.getElementById("unused-part"), unused.length > 0);
}

function makeState() {
  const glyph = stateGlyph();
  const word = h("span", { "data-testid": "adapter-state" });
  return { glyph, word, root: h("span", { class: "state" }, glyph.root, word) };
}

function updateState(view, state) {
  attr(view.root, "data-state", state);
  setStateGlyph(view.glyph, state);
  text(view.word, state);
}

function makeWhy() {
  const lead = h("span", { class: "lead" });
  const words = h("span");
  return { lead, words, root: h("p", { class: "why", "data-testid": "adapter-why" }, lead, words) };
}

function updateWhy(view, adapter, context) {
  const { lead, text: words } = why(adapter, context);
  text(view.lead, lead);
  textWithIds(view.words, words);
}

// ---- Unused adapters: small cards

function makeUnused() {
  const state = makeState();
  const reason = makeWhy();
  const name = h("h3");
  const facts = h("p", { class: "faint small" });
  const root = h("li", { class: "card compact", "data-testid": "adapter-card" }, h("div", { class: "top" }, name, state.root), facts, reason.root);
  return { root, state, reason, name, facts };
}

function updateUnused(card, adapter, context) {
  attr(card.root, "data-adapter", adapter.id);
  attr(card.root, "data-state", adapter.state);
  text(card.name, adapter.name);
  textWithIds(card.facts, facts(adapter));
  updateState(card.state, adapter.state);
  updateWhy(card.reason, adapter, context);
}

function facts(adapter) {
  return [...new Set([adapter.vendor, apiName(adapter.api), adapter.class, adapter.id])].filter(Boolean).join(" · ");
}

// ---- Used adapters

function makeCard(adapter) {
  const card = {
    name: h("h3", { id: `adapter-${adapter.id}` }), since: h("span", { class: "faint" }), facts: h("p", { class: "faint small facts" }),
    state: makeState(), reason: makeWhy(), start: makeProgress(), retry: makeRetry(), busyAt: -CALM_MS,
    figures: makeFigures(), memory: makeMemory(), sensors: h("p", { class: "sensors small faint" }),
    modes: makeModes(adapter), error: h("p", { class: "error", role: "alert", hidden: true }), numbers: makeNumbers(),
  };
  const top = h("div", { class: "top" }, h("span", { class: "swatch", "aria-hidden": "true" }), card.name, card.state.root);
  card.root = h("li", { class: "card", "data-testid": "adapter-card", "aria-labelledby": `adapter-${adapter.id}` }, top, card.facts, card.reason.root,
    card.start.root, card.retry.root, card.figures.root, card.memory.root, card.sensors,
    h("div", { class: "foot" }, card.modes.root, card.since), card.error, card.numbers.root);
  return card;
}

function updateCard(card, adapter, context, allRequests) {
  const state = calm(card, adapter, context.now);
  attr(card.root, "class", `card ${hueClass(adapter.id)}`);
  attr(card.root, "data-adapter", adapter.id);
  attr(card.root, "data-state", state);
  text(card.name, adapter.name);
  textWithIds(card.facts, facts(adapter));
  text(card.since, state === "busy" || state === "idle" ? busyWords(adapter) : `${state} for ${duration(context.now - adapter.since_ms)}`);
  updateState(card.state, state);
  updateWhy(card.reason, adapter, context);
  updateProgress(card.start, adapter, context.now);
  updateRetry(card.retry, adapter, context.now);
  updateFigures(card.figures, adapter, allRequests);
  updateMemory(card.memory, adapter);
  text(card.sensors, sensorWords(adapter));
  updateModes(card.modes, adapter);
  showError(card);
  updateNumbers(card.numbers, adapter, context);
}

function calm(card, adapter, now) {
  if (adapter.state === "busy") card.busyAt = now;
  return adapter.state === "idle" && now - card.busyAt < CALM_MS ? "busy" : adapter.state;
}

/** The time in the state idle or busy changes with every batch, so the share of busy time is shown instead. */
function busyWords({ recent }) {
  return recent ? `busy ${percent(recent.busy)} of the time` : "";
}

// ---- Progress of a start, and the wait in quarantine

function makeProgress() {
  const words = h("span");
  const time = h("span", { class: "faint" });
  const bar = h("span", { class: "bar-fill" });
  const track = h("span", { class: "bar", role: "progressbar", "aria-label": "start" }, bar);
  return { words, time, bar, track, root: h("div", { class: "progress", hidden: true }, h("p", { class: "small split" }, words, time), track) };
}

function updateProgress(view, adapter, now) {
  const starts = adapter.state === "starting" || adapter.state === "loading";
  show(view.root, starts);
  if (!starts) return;
  const { words, share, time } = progress(adapter, now);
  text(view.words, words);
  text(view.time, time);
  attr(view.track, "data-unknown", share === null);
  attr(view.track, "aria-valuenow", share === null ? null : Math.round(share * 100));
  fill(view.bar, share);
}

function makeRetry() {
  const words = h("span");
  return { words, root: h("p", { class: "retry small", hidden: true }, words) };
}

function updateRetry(view, adapter, now) {
  const waits = adapter.state === "quarantined" && adapter.retry_at_ms != null;
  show(view.root, waits);
  if (waits) text(view.words, adapter.retry_at_ms > now ? `Next try in ${duration(adapter.retry_at_ms - now)}` : "Next try when it is needed");
}

// ---- Figures

const FIGURES = [
  ["rows/s", "over the last 30 seconds", ({ recent: r }) => recent(r?.rows_per_s, number)],
  ["share of requests", "share of all requests of the last 30 seconds", ({ recent: r }, all) => recent(r && all > 0 ? r.requests_per_s / all : null, percent)],
  ["queue p50 / p99", "time that requests waited", ({ recent: r }) => quantiles(r?.queue_p50_ms, r?.queue_p99_ms)],
  ["run p50 / p99", "time of batches on the adapter", ({ recent: r }) => quantiles(r?.run_p50_ms, r?.run_p99_ms)],
];

function makeFigures() {
  const values = FIGURES.map(() => h("dd"));
  const pairs = FIGURES.map(([name, title], at) => h("div", { title }, h("dt", { text: name }), values[at]));
  return { values, root: h("dl", { class: "figures" }, ...pairs) };
}

function updateFigures(view, adapter, all) {
  FIGURES.forEach(([, , value], at) => text(view.values[at], value(adapter, all)));
}

function makeMemory() {
  const words = h("span");
  const bar = h("span", { class: "bar-fill" });
  const track = h("span", { class: "bar thin", "aria-hidden": "true" }, bar);
  return { words, bar, track, root: h("div", { class: "memory" }, h("p", { class: "small split" }, h("span", { class: "faint", text: "Models in memory" }), words), track) };
}

function updateMemory(view, { memory_used_bytes: used, memory_budget_bytes: budget }) {
  text(view.words, `${known(used, size)} of ${known(budget, size)}`);
  fill(view.bar, budget ? (used ?? 0) / budget : 0);
}

/** The server does not wake a sleeping card to read its sensors; a missing reading is unknown, not 0. */
function sensorWords({ sensors }) {
  if (sensors?.asleep) return "Sensors: asleep, not woken to be read";
  const readings = sensors && [sensors.utilisation, sensors.power_watts, sensors.temperature_celsius];
  if (!readings || readings.every((value) => value == null)) return "Utilisation, power, temperature: unknown";
  const [utilisation, power, temperature] = readings;
  return `Utilisation ${known(utilisation, percent)} · ${power == null ? "power unknown" : watts(power)} · ${temperature == null ? "temperature unknown" : celsius(temperature)}`;
}

// ---- Modes

function makeModes(adapter) {
  const modes = { error: "", pending: null };
  modes.buttons = MODES.map(([mode, title]) =>
    h("button", { type: "button", title, text: mode, "data-testid": `mode-${mode}`, onclick: () => setMode(modes, adapter.id, mode) }));
  modes.root = h("div", { class: "segments", role: "group" }, ...modes.buttons);
  return modes;
}

async function setMode(modes, id, mode) {
  modes.pending = mode;
  store.changed();
  const { error } = await call("POST", `api/adapters/${encodeURIComponent(id)}`, { mode });
  modes.error = error ?? "";
  modes.pending = null;
  store.changed();
}

function updateModes(modes, adapter) {
  attr(modes.root, "aria-busy", modes.pending && "true");
  attr(modes.root, "aria-label", `mode of ${adapter.name}`);
  MODES.forEach(([mode], at) => {
    attr(modes.buttons[at], "aria-pressed", String(adapter.mode === mode));
    attr(modes.buttons[at], "data-pending", modes.pending === mode);
  });
}

function showError(card) {
  text(card.error, card.modes.error);
  show(card.error, card.modes.error !== "");
}

/** Returns the numbers of active and of used adapters, for the summary. */
export function countOn(adapters) {
  const used = adapters.filter(({ state }) => state !== "unused");
  return { on: used.filter(({ state }) => isOn(state)).length, used: used.length };
}
