// The cost of the requests of the last day under other settings; loaded when it is opened.

import { authorization, errorOf } from "./api.js";
import { byId, h, text } from "./dom.js";
import { count, duration, milliseconds, number } from "./format.js";
import { applyButton, line, onSettingChanged, showChanged } from "./settings.js";

const AGAIN_MS = 1000; // while it is being computed

let waiting = false;
onSettingChanged(() => compare());

/** Shows the comparison, and waits for it as long as the section is open. */
export async function compare() {
  if (waiting) return;
  waiting = true;
  showChanged();
  try {
    while (byId("whatif").open && !(await showAnswer())) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  } finally {
    waiting = false;
  }
}

/** Shows the answer; returns false while it is being computed. */
async function showAnswer() {
  const body = byId("whatif-body");
  try {
    const response = await fetch("api/whatif", { headers: authorization() });
    if (!response.ok) throw new Error(await errorOf(response));
    const answer = await response.json();
    const ready = answer.state !== "computing";
    text(byId("whatif-state"), ready ? stateOf(answer) : "Computing …");
    body.replaceChildren(...(ready && answer.cases.length ? [tableOf(answer.cases)] : []));
    return ready;
  } catch (error) {
    text(byId("whatif-state"), error.message);
    return true;
  }
}

function stateOf({ cases, requests, span_ms: span, age_ms: age, reason }) {
  if (!cases.length) return reason ?? "nothing to compare";
  return `The last ${count(requests, "request")}, of ${duration(span)}, simulated with the measured adapters ${duration(age)} ago.`;
}

function tableOf(cases) {
  const heads = ["", "in time", "energy", "p99", "setting"].map((words) => h("th", { scope: "col", text: words }));
  const table = h("table", { class: "whatif" }, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...cases.map(row)));
  return h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": "Cost under other settings" }, table);
}

function row({ what, setting, attainment, watt_hours: energy, p99_s: p99, suggested, better }) {
  const p99Words = p99 == null ? "never" : milliseconds(p99 * 1000);
  const cells = [`${(attainment * 100).toFixed(2)} %`, energyWords(energy), p99Words];
  return h("tr", { class: suggested ? "suggested" : "", "data-testid": "whatif-case" },
    h("th", { scope: "row" }, suggested ? h("strong", { text: what }) : h("span", { text: what })),
    ...cells.map((words) => h("td", { text: words })),
    h("td", {}, setting ? line(setting) : "", better && setting ? h("span", {}, " ", applyButton(setting, "Apply", "whatif-apply")) : ""));
}

const energyWords = (wh) => (wh < 0.1 ? `${number(Math.round(wh * 3600))} J` : `${number(Math.round(wh * 100) / 100)} Wh`);
