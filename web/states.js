// The appearance of the states of an adapter. Each has its own shape, not only a colour.

import { attr, svg } from "./dom.js";

/** The states with a worker process, which are called "on". */
const ON = new Set(["starting", "loading", "idle", "busy", "draining", "stopping"]);
export const isOn = (state) => ON.has(state);

const SHAPES = {
  unused: "M8 2.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 1 0 8 2.2M4 12 12 4",
  off: "M8 2.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 1 0 8 2.2",
  starting: "M8 2.2A5.8 5.8 0 0 1 13.8 8M13 11A5.8 5.8 0 0 1 8 13.8M3.9 12.1A5.8 5.8 0 0 1 2.2 8M3.4 4.4A5.8 5.8 0 0 1 5.4 2.8",
  loading: "M8 1.8v7.4M4.9 6.4 8 9.5l3.1-3.1M2.4 10.5v3h11.2v-3",
  idle: "M8 2.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 1 0 8 2.2M8 6.1a1.9 1.9 0 1 0 0 3.8A1.9 1.9 0 1 0 8 6.1",
  busy: "M9.2 1.2 3 9h4.3l-.7 5.8L13 7H8.6z",
  draining: "M3.2 3.2 8 7.6l4.8-4.4M3.2 8.6 8 13l4.8-4.4",
  stopping: "M3.4 3.4h9.2v9.2H3.4z",
  quarantined: "M8 1.9 14.6 13.6H1.4zM8 6.2v3.5M8 11.5v.4",
  unreaped: "M5.3 1.8h5.4l3.5 3.5v5.4l-3.5 3.5H5.3l-3.5-3.5V5.3zM5.6 5.6l4.8 4.8M10.4 5.6l-4.8 4.8",
};

export function stateGlyph() {
  const path = svg("path", {});
  const root = svg("svg", { class: "glyph", viewBox: "0 0 16 16", "aria-hidden": "true" }, path);
  return { root, path };
}

export function setStateGlyph(glyph, state) {
  attr(glyph.path, "d", SHAPES[state] ?? SHAPES.off);
}

/** Decisions as small shapes, which are also drawn on the canvas of the timeline. */
export const CHANGES = {
  start: { word: "Start", path: "M1 9 5 1l4 8z", tone: "good" },
  resume: { word: "Resume", path: "M2 1l7 4-7 4z", tone: "good" },
  drain: { word: "Drain", path: "M1 1h8L5 9z", tone: "quiet" },
  quarantine: { word: "Quarantine", path: "M2.5 1 5 3.5 7.5 1 9 2.5 6.5 5 9 7.5 7.5 9 5 6.5 2.5 9 1 7.5 3.5 5 1 2.5z", tone: "bad" },
  load: { word: "Load", path: "M5 1.2a3.8 3.8 0 1 0 0 7.6a3.8 3.8 0 1 0 0-7.6z", tone: "note" },
  unload: { word: "Unload", path: "M5 1.2a3.8 3.8 0 1 0 0 7.6a3.8 3.8 0 1 0 0-7.6zM5 2.7a2.3 2.3 0 1 1 0 4.6a2.3 2.3 0 1 1 0-4.6z", tone: "note" },
};

export function changeGlyph(change) {
  const { path, tone } = CHANGES[change] ?? CHANGES.load;
  return svg("svg", { class: `mark ${tone}`, viewBox: "0 0 10 10", "aria-hidden": "true" },
    svg("path", { d: path, "fill-rule": "evenodd" }));
}
