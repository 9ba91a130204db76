// The models: their adapters, latencies and states, and the buttons of the repository.

import { call } from "./api.js";
import { attr, byId, h, keyed, show, text } from "./dom.js";
import { count, milliseconds, number, quantiles, recent } from "./format.js";
import { hueClass } from "./hues.js";
import { store } from "./store.js";

const SURE_MS = 4000; // time to confirm

export function renderModels({ snapshot }) {
  const names = new Map(snapshot.adapters.map(({ id, name }) => [id, name]));
  keyed(byId("models"), snapshot.models, ({ name }) => name, makeRow, (row, model) => updateRow(row, model, names));
  show(byId("no-models"), snapshot.models.length === 0);
}

function makeRow(model) {
  const row = {
    name: h("strong"), version: h("span", { class: "faint" }), state: h("span", { class: "state" }), places: h("span", { class: "places" }), unloaded: h("span", { class: "faint" }),
    figures: h("p", { class: "small" }), latency: h("span"), verdict: h("span"), reason: h("p", { class: "error" }), rows: h("p", { class: "small faint" }), note: h("p", { class: "small faint" }),
    last: h("p", { class: "small faint" }), failure: h("p", { class: "error", role: "alert" }), doing: h("p", { class: "small faint", role: "status" }),
    pending: "", error: "",
  };
  row.buttons = makeButtons(row, model.name);
  const where = h("p", { class: "small" }, row.places, row.unloaded);
  const head = h("div", { class: "model-head" }, row.name, row.version, row.state, row.buttons.root);
  row.root = h("li", { "data-testid": "model-row", "data-model": model.name }, head, where, row.figures,
    h("p", { class: "small latency" }, row.latency, " ", row.verdict), row.reason, row.rows, row.note, row.last, row.doing, row.failure);
  return row;
}

function updateRow(row, model, names) {
  text(row.name, model.name);
  text(row.version, `version ${model.version}${model.kind ? ` · ${model.kind}` : ""}`);
  text(row.state, model.state);
  attr(row.state, "data-state", model.state);
  keyed(row.places, model.adapters, (id) => id, makePlace, (place, id) => text(place.name, names.get(id) ?? id));
  text(row.unloaded, model.adapters.length ? "" : "not loaded");
  const rate = recent(model.recent?.requests_per_s, number);
  text(row.figures, `${rate} requests/s · ${count(model.requests, "request")} · ${count(model.errors, "error")}`);
  updateLatency(row, model);
  line(row.reason, model.reason);
  line(row.rows, model.rows && `Rows ${model.rows}`);
  line(row.note, model.note);
  line(row.last, model.last_error && `Last error: ${model.last_error}`);
  line(row.doing, row.pending);
  line(row.failure, row.error);
  updateButtons(row, model);
}

function line(node, words) {
  text(node, words ?? "");
  show(node, Boolean(words));
}

function makePlace(id) {
  const name = h("span");
  return { name, root: h("span", { class: "place" }, h("span", { class: `swatch ${hueClass(id)}`, "aria-hidden": "true" }), name) };
}

function updateLatency(row, { recent: figures, slo_ms: target }) {
  const against = target == null ? "" : ` · target ${milliseconds(target)}`;
  text(row.latency, `p50 / p99 ${quantiles(figures?.p50_ms, figures?.p99_ms)}${against}`);
  const judged = figures?.p99_ms != null && target;
  const met = judged && figures.p99_ms <= target;
  text(row.verdict, judged ? (met ? "met" : "missed") : "");
  attr(row.verdict, "class", judged ? `verdict ${met ? "good" : "bad"}` : "verdict");
}

// ---- Load, reload, unload

function makeButtons(row, name) {
  const button = (label, testid, onclick) => h("button", { type: "button", class: "quiet", text: label, "data-testid": testid, onclick });
  const load = button("Load", "model-load", () => act(row, name, "load", "loading"));
  const reload = button("Reload", "model-reload", () => act(row, name, "load", "reloading"));
  const unload = button("Unload", "model-unload", () => confirmUnload(row, name));
  for (const each of [load, reload, unload]) attr(each, "aria-label", `${each.textContent} ${name}`);
  return { load, reload, unload, sure: 0, root: h("span", { class: "actions" }, load, reload, unload) };
}

/** The first press requests a confirmation; a second one within a few seconds unloads the model. */
function confirmUnload(row, name) {
  if (row.buttons.sure) {
    disarm(row, name);
    act(row, name, "unload", "unloading");
    return;
  }
  row.buttons.sure = setTimeout(() => disarm(row, name), SURE_MS);
  label(row.buttons.unload, "Sure? Unload", `Sure? Press again to unload ${name}`, true);
}

function disarm(row, name) {
  clearTimeout(row.buttons.sure);
  row.buttons.sure = 0;
  label(row.buttons.unload, "Unload", `Unload ${name}`, false);
}

function label(button, words, spoken, danger) {
  text(button, words);
  attr(button, "aria-label", spoken);
  attr(button, "data-danger", danger);
}

async function act(row, name, action, doing) {
  if (row.pending) return;
  Object.assign(row, { pending: `${doing} …`, error: "" });
  store.changed();
  const { error } = await call("POST", `v2/repository/models/${encodeURIComponent(name)}/${action}`, {});
  Object.assign(row, { pending: "", error: error ? `${doing} failed: ${error}` : "" });
  store.changed();
}

function updateButtons(row, { state }) {
  const there = state === "ready" || state === "loading";
  show(row.buttons.load, !there);
  show(row.buttons.reload, there);
  show(row.buttons.unload, there);
  for (const button of [row.buttons.load, row.buttons.reload, row.buttons.unload]) attr(button, "aria-disabled", row.pending ? "true" : null);
}
