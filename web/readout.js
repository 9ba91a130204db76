// The timeline at one moment, as text.

import { attr, byId, h, keyed, show, text } from "./dom.js";
import { clock, number } from "./format.js";
import { hueClass } from "./hues.js";
import { CHANGES, changeGlyph, setStateGlyph, stateGlyph } from "./states.js";
import { wall } from "./store.js";

const MOST_DECISIONS = 4;

/** Renders a moment, `{sample, live, decisions}`; the sample is missing for times without a connection. */
export function renderReadout({ sample, live, decisions }, adapters) {
  text(byId("readout-time"), live ? "Now" : sample ? clock(wall(sample.at_ms)) : "–");
  text(byId("readout-count"), sample ? outstandingWords(sample) : "no data for this time");
  const known = adapters.filter(({ id, state }) => state !== "unused" || sample?.on[id]);
  keyed(byId("readout-adapters"), known, ({ id }) => id, makeAdapter, (view, adapter) => updateAdapter(view, adapter, sample));
  const shown = live ? [] : decisions.slice(-MOST_DECISIONS);
  keyed(byId("readout-decisions"), shown, ({ seq }) => seq, (decision) => makeDecision(decision, adapters), () => {});
  show(byId("readout-decisions"), shown.length > 0);
}

function outstandingWords({ queued, in_flight: inFlight }) {
  return `${number(queued + inFlight)} outstanding: ${number(queued)} queued, ${number(inFlight)} in flight`;
}

function makeAdapter({ id }) {
  const glyph = stateGlyph();
  const [name, state] = [h("span", { class: "name" }), h("span", { class: "state" })];
  const word = h("span");
  state.append(glyph.root, word);
  return { glyph, name, state, word, root: h("li", {}, h("span", { class: `swatch ${hueClass(id)}`, "aria-hidden": "true" }), name, state) };
}

function updateAdapter(view, { id, name }, sample) {
  const state = sample ? (sample.on[id] ?? "off") : "unknown";
  text(view.name, name);
  text(view.word, state);
  attr(view.state, "data-state", state);
  setStateGlyph(view.glyph, state);
}

function makeDecision({ change, adapter, text: words, at_ms, model }, adapters) {
  const name = adapters.find(({ id }) => id === adapter)?.name ?? adapter;
  const what = `${CHANGES[change]?.word ?? change}${model ? ` ${model} on` : ""} ${name}`;
  return { root: h("li", {}, changeGlyph(change), h("strong", { text: what }), ` ${clock(wall(at_ms))} · ${words}`) };
}

/** Returns the same as text for screen readers. */
export function spoken({ sample, decisions }, adapters) {
  if (!sample) return "no data for this time";
  const on = adapters.filter(({ id }) => sample.on[id]).map(({ id, name }) => `${name} ${sample.on[id]}`).join(", ");
  const decided = decisions.slice(-1).map(({ change, text: words }) => `. ${change}: ${words}`).join("");
  return `${clock(wall(sample.at_ms))}, ${outstandingWords(sample)}. ${on || "no adapter on"}${decided}`;
}
