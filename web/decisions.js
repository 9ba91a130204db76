// The log of decisions, newest first.

import { attr, byId, h, keyed, options, show, text } from "./dom.js";
import { ago, clock } from "./format.js";
import { hueClass } from "./hues.js";
import { CHANGES, changeGlyph } from "./states.js";
import { store, wall } from "./store.js";

const SHOWN = 100;
const ANNOUNCE_EVERY_MS = 5000;

let announced = null; // the newest decision that was announced or present at the start
let announcedAt = 0;

export function renderDecisions({ decisions, snapshot, now }) {
  const names = new Map(snapshot.adapters.map(({ id, name }) => [id, name]));
  updateFilter(snapshot.adapters);
  const filter = byId("decision-filter").value;
  const shown = decisions.filter(({ adapter }) => !filter || adapter === filter).slice(-SHOWN).reverse();
  keyed(byId("decisions"), shown, ({ seq }) => seq, makeRow, (row, decision) => updateRow(row, decision, names, now));
  show(byId("no-decisions"), shown.length === 0);
  announce(decisions, names);
}

function updateFilter(adapters) {
  const used = adapters.filter(({ state }) => state !== "unused");
  options(byId("decision-filter"), [{ value: "", label: "All adapters" }, ...used.map(({ id, name }) => ({ value: id, label: `${name} (${id})` }))]);
}

function makeRow(decision) {
  const at = new Date(wall(decision.at_ms));
  const time = h("time", { datetime: at.toISOString(), title: at.toLocaleString("en-GB") });
  const adapter = h("span", { class: "adapter" });
  const what = `${CHANGES[decision.change]?.word ?? decision.change}${decision.model ? ` ${decision.model} on` : ""}`;
  const head = h("p", { class: "decision-head" }, changeGlyph(decision.change), h("strong", { text: what }),
    h("span", { class: `swatch ${hueClass(decision.adapter)}`, "aria-hidden": "true" }), adapter, time);
  const body = h("p", { class: "decision-text" }, h("span", { text: decision.text }), " ", h("code", { class: "tag", text: decision.reason }));
  return { time, adapter, root: h("li", { "data-testid": "decision", "data-seq": decision.seq }, head, body) };
}

function updateRow(row, decision, names, now) {
  text(row.time, ago(now - decision.at_ms));
  text(row.adapter, names.get(decision.adapter) ?? decision.adapter);
  attr(row.adapter, "title", decision.adapter);
}

/** Announces the newest decision to screen readers, at most once every few seconds. */
function announce(decisions, names) {
  const newest = decisions.at(-1);
  announced ??= newest?.seq ?? -1;
  if (!newest || newest.seq < announced) announced = newest?.seq ?? -1; // the server was restarted
  if (!newest || newest.seq === announced || performance.now() - announcedAt < ANNOUNCE_EVERY_MS) return;
  const missed = decisions.filter(({ seq }) => seq > announced).length - 1;
  const more = missed > 0 ? ` And ${missed} more decisions.` : "";
  text(byId("announce"), `${newest.change} ${newest.model ?? ""} ${names.get(newest.adapter) ?? newest.adapter}: ${newest.text}.${more}`);
  announced = newest.seq;
  announcedAt = performance.now();
}

export function setUpDecisions() {
  byId("decision-filter").addEventListener("change", () => store.changed());
}
