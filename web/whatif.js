// What the requests of the last day would have cost under other settings; loaded when it is opened.

import { authorization, errorOf } from "./api.js";
import { byId, h } from "./dom.js";
import { count, duration, milliseconds, number } from "./format.js";

const AGAIN_MS = 1000; // it is being computed

let asking = false;

/** Shows the answer, and waits for it as long as the part is open. */
export async function ask() {
  if (asking) return;
  asking = true;
  try {
    while (byId("whatif").open && !(await showAnswer())) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  } finally {
    asking = false;
  }
}

/** Tells whether there was an answer. */
async function showAnswer() {
  const body = byId("whatif-body");
  try {
    const response = await fetch("api/whatif", { headers: authorization() });
    if (!response.ok) throw new Error(await errorOf(response));
    const answer = await response.json();
    body.replaceChildren(...(answer.state === "computing" ? [h("p", { class: "faint", text: "Computing …" })] : shown(answer)));
    return answer.state !== "computing";
  } catch (error) {
    body.replaceChildren(h("p", { class: "error", role: "alert", text: error.message }));
    return true;
  }
}

function shown({ cases, requests, span_ms: span, age_ms: age, reason }) {
  if (!cases.length) return [h("p", { class: "faint", text: reason ?? "nothing to compare" })];
  const from = `The last ${count(requests, "request")}, of ${duration(span)}, simulated with the measured adapters ${duration(age)} ago.`;
  const heads = ["", "in time", "energy", "p99", "setting"].map((text) => h("th", { scope: "col", text }));
  const table = h("table", { class: "whatif" }, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...cases.map(row)));
  return [h("p", { class: "faint", text: from }), h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": "What it would have cost" }, table)];
}

function row({ what, setting, attainment, watt_hours: energy, p99_s: p99, suggested }) {
  const p99Words = p99 == null ? "never" : milliseconds(p99 * 1000);
  const cells = [`${(attainment * 100).toFixed(2)} %`, energyWords(energy), p99Words];
  return h("tr", { class: suggested ? "suggested" : "", "data-testid": "whatif-case" },
    h("th", { scope: "row" }, suggested ? h("strong", { text: what }) : h("span", { text: what })),
    ...cells.map((text) => h("td", { text })),
    h("td", {}, setting ? line(setting) : ""));
}

const energyWords = (wh) => (wh < 0.1 ? `${number(Math.round(wh * 3600))} J` : `${number(Math.round(wh * 100) / 100)} Wh`);

/** The line of the settings, and a button that copies it. */
function line(setting) {
  const copy = h("button", { type: "button", class: "quiet", text: "Copy", "aria-label": `Copy ${setting}` });
  copy.addEventListener("click", () => navigator.clipboard?.writeText(setting).then(() => { copy.textContent = "Copied"; }));
  return h("span", { class: "setting" }, h("code", { text: setting }), " ", copy);
}
