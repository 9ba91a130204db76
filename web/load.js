// The load generator: the server sends requests to itself, and every open page shows the progress.

import { call } from "./api.js";
import { attr, byId, fill, options, show, text } from "./dom.js";
import { count, duration, number, quantiles } from "./format.js";
import { store } from "./store.js";

const QUICK = { concurrency: 16, seconds: 20 };

let pending = false;
let failure = "";
let quickly = false; // true if the last run was requested by a button outside of the form
let shown = 0; // the start of the run with the values of the fields

export function renderLoad({ snapshot, now }) {
  const ready = loadable(snapshot).map(({ name }) => ({ value: name, label: name }));
  options(byId("load-model"), ready);
  const { load } = snapshot;
  const running = load?.running === true;
  if (running) showRun(load);
  show(byId("first-run"), !load && !everRan(snapshot) && ready.length > 0);
  attr(byId("load-start"), "disabled", running || pending || ready.length === 0);
  attr(byId("load-stop"), "disabled", !running);
  updateQuick(running, load, now, ready.length > 0);
  text(byId("load-status"), statusWords(load, now, ready.length > 0));
  fill(byId("load-bar"), running ? (now - load.started_ms) / (load.ends_ms - load.started_ms) : 0);
  attr(byId("load-part"), "data-running", running);
  for (const id of ["first-error", "quick-error"]) text(byId(id), quickly ? failure : "");
  text(byId("load-error"), failure || (load?.last_error ? `Last error: ${load.last_error}` : ""));
}

/** Returns the models for which load can be generated, which excludes chains. */
const loadable = ({ models }) => models.filter(({ state, kind }) => state === "ready" && kind !== "ensemble");

const everRan = ({ adapters }) => adapters.some(({ requests, starts }) => requests > 0 || starts > 0);

/** Shows the values of a run of any page; only once, so that the values of the next run can be entered meanwhile. */
function showRun({ model, concurrency, started_ms, ends_ms }) {
  if (started_ms === shown) return;
  shown = started_ms;
  const choice = byId("load-model");
  if ([...choice.options].some(({ value }) => value === model)) choice.value = model;
  byId("load-concurrency").value = byId("load-slider").value = concurrency;
  byId("load-seconds").value = Math.round((ends_ms - started_ms) / 1000);
}

function updateQuick(running, load, now, possible) {
  const button = byId("quick-load");
  text(button, running ? `Stop load · ${duration(load.ends_ms - now)} left` : "Generate load");
  attr(button, "disabled", pending || (!running && !possible));
}

function statusWords(load, now, possible) {
  if (!load) return possible ? "Not run yet" : "No model is ready";
  const answered = `${count(load.answered, "answer")} · ${number(load.failed)} failed · p50 / p99 ${quantiles(load.p50_ms, load.p99_ms)}`;
  if (!load.running) return `Done: ${load.model}, ${load.concurrency} at once · ${answered}`;
  return `${load.model}, ${load.concurrency} at once · ${duration(load.ends_ms - now)} left · ${answered}`;
}

async function act(method, body, away = false) {
  pending = true;
  quickly = away;
  store.changed();
  const { error, data } = await call(method, "api/load", body);
  pending = false;
  failure = error ?? "";
  if (data && store.snapshot) store.snapshot.load = data; // as the next snapshot will
  store.changed();
}

function quick() {
  const [model] = store.snapshot ? loadable(store.snapshot) : [];
  if (model) act("POST", { model: model.name, ...QUICK }, true);
}

function start(event) {
  event.preventDefault();
  const settings = { concurrency: Number(byId("load-concurrency").value), seconds: Number(byId("load-seconds").value) };
  act("POST", { model: byId("load-model").value, ...settings });
}

export function setUpLoad() {
  byId("load").addEventListener("submit", start);
  byId("load-stop").addEventListener("click", () => act("DELETE"));
  byId("first-load").addEventListener("click", quick);
  byId("quick-load").addEventListener("click", () => (store.snapshot?.load?.running ? act("DELETE", undefined, true) : quick()));
  together(byId("load-slider"), byId("load-concurrency"));
}

/** Connects a slider and a field for one number. */
function together(slider, field) {
  slider.addEventListener("input", () => { field.value = slider.value; });
  field.addEventListener("input", () => { slider.value = field.value; });
}
