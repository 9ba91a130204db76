// Drawing on the timeline's canvases: the states of adapters, and the decisions.

import { adapterColour, colour } from "./hues.js";
import { CHANGES, isOn } from "./states.js";

const LOOK = { busy: 1, idle: 0.42, loading: "hatch", starting: "hatch", draining: 0.2, stopping: 0.2 };
const GAP_MS = 2500; // the samples are a second apart
export const LANE = 7; // pixels of the strip that marks quarantined adapters

/** Returns the number of active adapters in a sample. */
export const onIn = (sample) => Object.values(sample.on).filter(isOn).length;

/** Returns the number of quarantined or unreaped adapters, which are drawn below the active ones. */
export const outIn = (sample) => Object.keys(sample.on).length - onIn(sample);

/** Returns the periods in which an adapter keeps one state at one height. */
export function runsOf(samples, order) {
  const [runs, open] = [[], new Map()];
  samples.forEach((sample, at) => {
    const before = samples[at - 1];
    const from = before && sample.at_ms - before.at_ms < GAP_MS ? before.at_ms : sample.at_ms - 1000;
    const counters = { on: 0, out: 0 };
    for (const id of order) if (sample.on[id]) extend(runs, open, { id, state: sample.on[id], from, to: sample.at_ms }, counters);
  });
  return runs;
}

function extend(runs, open, { id, state, from, to }, counters) {
  const level = isOn(state) ? counters.on++ : counters.out++;
  const last = open.get(id);
  if (last && last.to === from && last.state === state && last.level === level) {
    last.to = to;
    return;
  }
  const run = { id, state, level, from, to };
  open.set(id, run);
  runs.push(run);
}

export function drawBands(u, runs, toX) {
  const { ctx, bbox } = u;
  ctx.save();
  clip(ctx, bbox);
  for (const run of runs) {
    const left = u.valToPos(toX(run.from), "x", true);
    const right = u.valToPos(toX(run.to), "x", true);
    if (isOn(run.state)) drawOn(u, run, left, right);
    else drawOut(u, run, left, right);
  }
  ctx.restore();
}

function clip(ctx, { left, top, width, height }) {
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
}

function drawOn(u, { id, state, level }, left, right) {
  const { ctx } = u;
  const gap = devicePixelRatio;
  const top = u.valToPos(level + 1, "y", true) + gap;
  const height = u.valToPos(level, "y", true) - top;
  const look = LOOK[state] ?? 1;
  const own = adapterColour(id);
  ctx.globalAlpha = look === "hatch" ? 1 : look;
  ctx.fillStyle = look === "hatch" ? hatch(ctx, own) : own;
  ctx.fillRect(left, top, right - left, height);
  ctx.globalAlpha = 1; // the edge keeps faded bands apart and shows their owner
  ctx.fillStyle = own;
  ctx.fillRect(left, top, right - left, gap * 1.5);
}

function drawOut(u, { id, level }, left, right) {
  const { ctx, bbox } = u;
  const height = LANE * devicePixelRatio;
  const top = bbox.top + bbox.height - height * (level + 1);
  ctx.fillStyle = hatch(ctx, colour("tone-bad"));
  ctx.fillRect(left, top, right - left, height - devicePixelRatio);
  ctx.fillStyle = adapterColour(id);
  ctx.fillRect(left, top, 3 * devicePixelRatio, height - devicePixelRatio);
}

let hatches = new Map();
addEventListener("themechange", () => { hatches = new Map(); });

function hatch(ctx, own) {
  if (!hatches.has(own)) hatches.set(own, ctx.createPattern(hatchTile(own), "repeat"));
  return hatches.get(own);
}

function hatchTile(own) {
  const tile = document.createElement("canvas");
  const side = (tile.width = tile.height = 6 * Math.ceil(devicePixelRatio));
  const pen = tile.getContext("2d");
  pen.strokeStyle = pen.fillStyle = own;
  pen.globalAlpha = 0.18;
  pen.fillRect(0, 0, side, side);
  pen.globalAlpha = 1;
  pen.lineWidth = side / 5;
  for (const shift of [-side, 0, side]) line(pen, shift, side, shift + side, 0);
  return tile;
}

function line(pen, x1, y1, x2, y2) {
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x2, y2);
  pen.stroke();
}

// ---- Decisions

const SIZE = 9;
const shapes = new Map(Object.entries(CHANGES).map(([change, { path }]) => [change, new Path2D(path)]));
const LINED = new Set(["start", "resume", "drain", "quarantine"]); // loading a model has no line on the timeline

/** A tick for what turned something on or off, and its shape on top if `glyphs`. */
export function drawMarks(u, decisions, toX, glyphs) {
  const { min, max } = u.scales.x;
  for (const decision of decisions) {
    const at = toX(decision.at_ms);
    if (at < min || at > max) continue;
    const x = Math.round(u.valToPos(at, "x", true));
    if (LINED.has(decision.change)) drawTick(u, decision, x);
    if (glyphs) drawGlyph(u, decision, x);
  }
}

const toneOf = ({ change }) => colour(`tone-${CHANGES[change]?.tone ?? "note"}`);

function drawTick({ ctx, bbox }, decision, x) {
  ctx.save();
  ctx.globalAlpha = 0.55;
  ctx.strokeStyle = toneOf(decision);
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
  line(ctx, x, bbox.top, x, bbox.top + bbox.height);
  ctx.restore();
}

function drawGlyph({ ctx, bbox }, decision, x) {
  const scale = (SIZE / 10) * devicePixelRatio;
  ctx.save();
  ctx.translate(x - 5 * scale, bbox.top - 12 * scale);
  ctx.scale(scale, scale);
  ctx.fillStyle = toneOf(decision);
  ctx.fill(shapes.get(decision.change) ?? shapes.get("load"), "evenodd");
  ctx.restore();
}
