// The two charts of the timeline: outstanding requests, and active adapters.

import { drawBands, drawMarks } from "./bands.js";
import { clock } from "./format.js";
import { colour } from "./hues.js";

const FONT = "11px system-ui, sans-serif";
const AXIS = 40; // both charts begin at the same place

/** Creates the charts. `source` has `runs`, `decisions`, `expected` with their `marks`, and `toX` when they are drawn; `on` receives events. */
export function makeCharts(source, on, above, below) {
  const outstanding = chart(above, {
    ...common(on, 132, true),
    series: [{}, area("chart-queued"), area("chart-flight")],
    bands: [{ series: [1, 2] }],
    scales: { x: { time: false, auto: false }, y: { range: (_, __, max) => [0, Math.max(4, (max || 0) * 1.1)] } },
    hooks: hooks(on, (u) => drawMarks(u, source.decisions, source.toX, false)),
  });
  const bands = chart(below, {
    ...common(on, 120, false),
    padding: [16, 28, 0, 0],
    series: [{}, { show: true, stroke: "transparent", points: { show: false } }],
    scales: { x: { time: false, auto: false }, y: { range: () => [source.floor, source.levels] } },
    hooks: hooks(on, (u) => {
      source.marks?.drawExpected(u, source.expected, source.toX);
      drawBands(u, source.runs, source.toX);
      drawMarks(u, source.decisions, source.toX, true);
    }),
  });
  return { outstanding, bands, all: [outstanding, bands] };
}

function chart(parent, options) {
  const made = new globalThis.uPlot({ ...options, width: Math.max(200, parent.clientWidth) }, [[], [], []].slice(0, options.series.length), parent);
  made.ctx.canvas.setAttribute("role", "img");
  return made;
}

function common(on, height, last) {
  return {
    height,
    padding: [8, 28, 0, 0],
    legend: { show: false },
    axes: [timeAxis(last), countAxis()],
    cursor: {
      y: false,
      points: { show: false },
      drag: { x: true, y: false, setScale: false },
      sync: { key: "time-line" },
      bind: { dblclick: () => () => on.reset() },
    },
  };
}

function area(name) {
  return {
    stroke: () => colour(name), fill: () => translucent(colour(name)), width: 1.5, points: { show: false },
    paths: globalThis.uPlot.paths.stepped({ align: -1 }),
  };
}

/** The style sheet returns colours as `rgb(…)`. */
const translucent = (rgb) => rgb.replace("rgb(", "rgba(").replace(")", ", 0.28)");

function timeAxis(shown) {
  const values = (_, splits) => splits.map((at) => (shown ? clock(at * 1000) : ""));
  return { ...plainAxis(), values, size: shown ? 26 : 6, space: 84, incrs: [1, 5, 10, 15, 30, 60, 120, 300] };
}

function countAxis() {
  return { ...plainAxis(), size: AXIS, space: 26, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000] };
}

function plainAxis() {
  const faint = { stroke: () => colour("chart-grid"), width: 1 };
  return { stroke: () => colour("chart-label"), font: FONT, grid: faint, ticks: { show: false }, gap: 6 };
}

function hooks(on, draw) {
  return {
    draw: [draw],
    setCursor: [(u) => on.cursor(u.cursor.left < 0 ? null : u.posToVal(u.cursor.left, "x"))],
    setSelect: [(u) => {
      if (u.select.width < 4) return;
      on.zoom(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
      u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    }],
  };
}
