// The timeline of the last minutes: it follows the present, or is paused for inspection.

import { LANE, onIn, outIn, runsOf } from "./bands.js";
import { makeCharts } from "./charts.js";
import { attr, byId, show, text } from "./dom.js";
import { clock } from "./format.js";
import { renderReadout, spoken } from "./readout.js";
import { store, wall } from "./store.js";

const GAP_MS = 2500;
const NEAR_SHARE = 0.012; // of the shown time: decisions this near to the cursor are listed

const look = { minutes: 3, paused: false, range: null, cursor: null, frozen: null, drawn: null, inWindow: false };
const source = { runs: [], decisions: [], expected: [], marks: null, levels: 2, floor: 0, toX: (atMs) => wall(atMs) / 1000 };
let charts = null;
let context = null;

const samples = () => look.frozen ?? store.samples;
const lastX = () => source.toX(samples().at(-1)?.at_ms ?? 0);

export function renderTimeline(view) {
  context = view;
  charts ??= makeCharts(source, { cursor, zoom, reset }, byId("outstanding"), byId("bands"));
  const newest = store.samples.at(-1);
  if (!look.paused && newest !== look.drawn) redraw(newest);
  readout();
  expect(view.snapshot);
  const behind = look.paused && newest ? newest.at_ms - (look.frozen.at(-1)?.at_ms ?? newest.at_ms) : 0;
  text(byId("pause"), look.paused ? "Resume" : "Pause");
  text(byId("behind"), look.paused ? `paused${behind >= 1000 ? `, ${Math.round(behind / 1000)} s behind` : ""}` : "");
}

/** The module that draws expected clients is loaded with the first of them. */
function expect({ expected = [], adapters }) {
  if (expected.length && source.marks === null) {
    source.marks = undefined;
    import("./expected.js").then((marks) => { source.marks = marks; changed(); });
  }
  source.marks?.renderExpected(expected, adapters);
}

/** Redraws once a second, with the newest sample, or when the shown range changes. */
function redraw(newest = samples().at(-1)) {
  look.drawn = newest;
  if (!charts || !context) return;
  const order = context.snapshot.adapters.map(({ id }) => id);
  source.expected = context.snapshot.expected ?? [];
  const [min, max] = look.range ?? [lastX() - look.minutes * 60, source.marks?.endOf(source.expected, source.toX, lastX(), look.minutes * 60) ?? lastX()];
  const seen = samples().filter(({ at_ms }) => source.toX(at_ms) >= min - 1 && source.toX(at_ms) <= max + 2);
  source.runs = runsOf(seen, order);
  source.decisions = context.decisions;
  fitBands();
  source.levels = Math.max(2, ...seen.map(onIn)) + 0.35;
  source.floor = (-source.levels * LANE * Math.max(0, ...seen.map(outIn))) / (charts.bands.height - 40);
  describe(seen);
  if (!look.inWindow) return; // drawing is most of the work
  const [xs, total, inFlight] = columns(samples());
  draw(charts.outstanding, [xs, total, inFlight], min, max);
  draw(charts.bands, [xs, xs.map(() => null)], min, max);
}

/** Sets the height so that the bands are distinguishable if all adapters are on. */
function fitBands() {
  const usable = context.snapshot.adapters.filter(({ state }) => state !== "unused").length;
  const height = Math.min(260, Math.max(120, 30 + 22 * usable));
  const { bands } = charts;
  if (bands.height !== height) bands.setSize({ width: bands.width, height });
}

function draw(chart, data, min, max) {
  chart.batch(() => {
    chart.setData(data, false);
    chart.setScale("x", { min, max });
  });
}

/** Returns the columns of the chart; times without samples are a gap, not a line. */
function columns(list) {
  const [xs, total, inFlight] = [[], [], []];
  const push = (x, a, b) => { xs.push(x); total.push(a); inFlight.push(b); };
  list.forEach(({ at_ms, queued, in_flight }, at) => {
    const before = list[at - 1]?.at_ms ?? at_ms - 1000;
    if (at_ms - before > GAP_MS) push(source.toX(at_ms - 1000), null, null);
    push(source.toX(at_ms), queued + in_flight, in_flight);
  });
  return [xs, total, inFlight];
}

function describe(seen) {
  const peak = seen.reduce((most, each) => (each.queued + each.in_flight > most.queued + most.in_flight ? each : most), { queued: 0, in_flight: 0, at_ms: 0 });
  const last = seen.at(-1);
  const now = last ? last.queued + last.in_flight : 0;
  label("outstanding", `Outstanding requests, last ${look.minutes} min: now ${now}, most ${peak.queued + peak.in_flight}${peak.at_ms ? ` at ${clock(wall(peak.at_ms))}` : ""}.`);
  label("bands", `Adapters on, last ${look.minutes} min: now ${last ? onIn(last) : 0}, most ${Math.max(0, ...seen.map(onIn))}.`);
}

const label = (chart, words) => attr(charts[chart].ctx.canvas, "aria-label", words);

// ---- Inspection

function cursor(x) {
  if (x === look.cursor) return;
  look.cursor = x;
  if (context) readout();
}

function moment() {
  const list = samples();
  if (look.cursor === null) return { sample: list.at(-1), live: !look.paused, decisions: [] };
  const sample = list.find(({ at_ms }) => source.toX(at_ms) >= look.cursor);
  const { min, max } = charts.bands.scales.x;
  const near = (max - min) * NEAR_SHARE;
  const decisions = context.decisions.filter(({ at_ms }) => Math.abs(source.toX(at_ms) - look.cursor) <= near);
  const covered = sample && source.toX(sample.at_ms) - look.cursor < GAP_MS / 1000;
  return { sample: covered ? sample : undefined, live: false, decisions };
}

function readout() {
  const { adapters } = context.snapshot;
  const now = moment();
  renderReadout(now, adapters);
  const { min, max } = charts.bands.scales.x;
  attr(byId("scrubber"), "aria-valuemin", Math.round(min ?? 0));
  attr(byId("scrubber"), "aria-valuemax", Math.round(max ?? 1));
  attr(byId("scrubber"), "aria-valuenow", Math.round(look.cursor ?? max ?? 0));
  if (document.activeElement === byId("scrubber")) attr(byId("scrubber"), "aria-valuetext", spoken(now, adapters));
}

const KEYS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };

function onKey(event) {
  if (event.key === "Escape") return moveTo(null);
  if (!(event.key in KEYS) || !charts) return undefined;
  event.preventDefault();
  const { min, max } = charts.bands.scales.x;
  return moveTo(Math.min(max, Math.max(min, (look.cursor ?? max) + KEYS[event.key])));
}

/** Moves the cursor of both charts. */
function moveTo(x) {
  for (const chart of charts.all) chart.setCursor({ left: x === null ? -10 : chart.valToPos(x, "x"), top: x === null ? -10 : 1 }, false);
  cursor(x);
}

// ---- Pause, and the shown range

function pause() {
  look.paused = true;
  look.frozen ??= [...store.samples];
  look.range ??= [lastX() - look.minutes * 60, lastX()];
  changed();
}

function reset() {
  Object.assign(look, { paused: false, frozen: null, range: null });
  changed();
}

function zoom(from, to) {
  if (to - from < 2) return;
  pause();
  look.range = [from, to];
  changed();
}

function span(minutes) {
  look.minutes = minutes;
  if (look.paused) look.range = [lastX() - minutes * 60, lastX()];
  changed();
}

function changed() {
  for (const button of byId("spans").children) attr(button, "aria-pressed", String(Number(button.dataset.minutes) === look.minutes));
  show(byId("reset"), look.range !== null);
  redraw();
  store.changed();
}

export function setUpTimeline() {
  byId("pause").addEventListener("click", () => (look.paused ? reset() : pause()));
  byId("reset").addEventListener("click", reset);
  for (const button of byId("spans").children) button.addEventListener("click", () => span(Number(button.dataset.minutes)));
  byId("scrubber").addEventListener("keydown", onKey);
  byId("scrubber").addEventListener("blur", () => charts && moveTo(null));
  new ResizeObserver(resize).observe(byId("bands"));
  new IntersectionObserver(moved, { rootMargin: "300px" }).observe(byId("time-line"));
  addEventListener("themechange", () => charts?.all.forEach((chart) => chart.redraw(false, true)));
}

function moved(changes) {
  look.inWindow = changes.at(-1).isIntersecting;
  if (look.inWindow) redraw();
}

function resize() {
  const width = byId("bands").clientWidth;
  if (charts && width) for (const chart of charts.all) chart.setSize({ width, height: chart.height });
}

/** For tests. */
export const newestOn = () => (store.samples.length ? onIn(store.samples.at(-1)) : 0);
