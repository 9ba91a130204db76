// Expected clients: drawn on the timeline, which then includes the future, and listed as text.

import { byId, h, keyed, show, text } from "./dom.js";
import { clock } from "./format.js";
import { adapterColour, colour, hueClass } from "./hues.js";
import { wall } from "./store.js";

const SHARE = 0.25; // maximum share of the shown time that is in the future
const RISE = 5; // pixels of the strip that marks a window

/** Returns the end of the shown time, in the chart's seconds: the last mark that is near, or now. */
export function endOf(expected, toX, now, seconds) {
  const limit = now + seconds * SHARE;
  const marks = expected.flatMap((client) => [client.start_at_ms, client.from_ms, client.until_ms]).filter((at) => at != null).map(toX);
  return Math.max(now, ...marks.filter((x) => x <= limit), ...(expected.some((client) => toX(client.from_ms) <= limit && toX(client.until_ms) > limit) ? [limit] : []));
}

/** Draws a shaded window for each client in the colour of its adapter, and a line at the planned start. */
export function drawExpected(u, expected, toX) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const client of expected) {
    drawWindow(u, client, toX);
    if (client.start_at_ms != null) drawStart(u, u.valToPos(toX(client.start_at_ms), "x", true));
  }
  ctx.restore();
}

function drawWindow({ ctx, bbox, valToPos }, { adapter, from_ms: from, until_ms: until }, toX) {
  const left = valToPos(toX(from), "x", true);
  const width = Math.max(devicePixelRatio, valToPos(toX(until), "x", true) - left);
  ctx.fillStyle = adapterColour(adapter);
  ctx.globalAlpha = 0.14;
  ctx.fillRect(left, bbox.top, width, bbox.height);
  ctx.globalAlpha = 1;
  ctx.fillRect(left, bbox.top, width, RISE * devicePixelRatio);
}

function drawStart({ ctx, bbox }, x) {
  ctx.strokeStyle = colour("tone-good");
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.setLineDash([]);
}

/** Lists the expected clients below the charts. */
export function renderExpected(expected, adapters) {
  const names = new Map(adapters.map(({ id, name }) => [id, name]));
  const key = ({ adapter, model, from_ms: from, until_ms: until }) => [adapter, model, from, until].join(" ");
  const list = [...new Map(expected.map((client) => [key(client), client])).values()];
  keyed(byId("expected"), list, key, make, (view, client) => text(view.words, wordsOf(client, names)));
  show(byId("expected-part"), list.length > 0);
}

function make({ adapter }) {
  const words = h("span");
  return { words, root: h("li", { "data-testid": "expected" }, h("span", { class: `swatch ${hueClass(adapter)}`, "aria-hidden": "true" }), words) };
}

function wordsOf({ adapter, start_at_ms: start, from_ms: from, until_ms: until, text: reason }, names) {
  const name = names.get(adapter) ?? adapter;
  const what = start == null ? `${name} is to be ready` : `Start of ${name} at ${clock(wall(start))}`;
  return `${what}: ${reason}; expected from ${clock(wall(from))} to ${clock(wall(until))}`;
}
