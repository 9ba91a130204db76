// The answer of a model, with its adapters and its times.

import { attr, byId, fill, h, show, text } from "./dom.js";
import { milliseconds, percent, UNKNOWN } from "./format.js";
import { hueClass } from "./hues.js";
import { drawPlaces } from "./reading.js";
import { store } from "./store.js";

const MOST_JSON = 4000;
const MOST_ITEMS = 40;

const bars = Array.from({ length: 10 }, (_, digit) => {
  const bar = h("span", { class: "bar-fill" });
  const value = h("span", { class: "value" });
  return { bar, value, root: h("li", {}, h("span", { text: String(digit) }), h("span", { class: "bar thin" }, bar), value) };
});

export function showWaiting() {
  show(byId("answer"), true);
  attr(byId("answer"), "aria-busy", "true");
  text(byId("answer-error"), "");
}

export function showFailure(message) {
  part("none");
  text(byId("answer-error"), message);
  show(byId("answer-times"), false);
}

export function showDigit(answer, timing) {
  const output = (name) => answer.outputs.find((each) => each.name === name)?.data;
  const digit = output("digit")?.[0];
  if (digit === undefined) return showAnswer(answer, timing);
  part("digit");
  text(byId("answer-digit"), String(digit));
  byId("answer-bars").replaceChildren(...bars.map(({ root }) => root));
  bars.forEach((bar, at) => updateBar(bar, output("probabilities")?.[at] ?? 0, at === digit));
  showTimes(timing);
}

function updateBar({ bar, value, root }, probability, best) {
  fill(bar, probability);
  text(value, percent(probability));
  attr(root, "data-best", best);
}

/** Shows the texts found in a file, with their scores and their places in the picture. */
export async function showReading(answer, timing, file) {
  const output = (...names) => answer.outputs.find(({ name }) => names.includes(name));
  const words = output("text", "label");
  if (!words) return showAnswer(answer, timing);
  part("read");
  const scores = output("score")?.data ?? [];
  byId("answer-found").replaceChildren(...words.data.map((word, at) =>
    h("li", {}, h("span", { text: word }), h("span", { class: "faint small", text: scores[at] === undefined ? "" : percent(scores[at]) }))));
  if (words.data.length === 0) byId("answer-found").replaceChildren(h("li", { class: "faint", text: "Nothing found" }));
  showTimes(timing);
  show(byId("answer-picture"), await drawPlaces(byId("answer-picture"), file, output("polygon", "box")));
}

export function showAnswer(answer, timing) {
  part("json");
  const whole = JSON.stringify(shortened(answer), null, 2).replace(/\n\s+(?=-?\d|\])/g, " ");
  text(byId("answer-json"), whole.length > MOST_JSON ? `${whole.slice(0, MOST_JSON)}\n… ${whole.length - MOST_JSON} more characters` : whole);
  showTimes(timing);
}

function shortened(answer) {
  const outputs = answer?.outputs?.map((output) => {
    if (!Array.isArray(output.data) || output.data.length <= MOST_ITEMS) return output;
    return { ...output, data: [...output.data.slice(0, MOST_ITEMS), `… ${output.data.length - MOST_ITEMS} more`] };
  });
  return outputs ? { ...answer, outputs } : answer;
}

function part(name) {
  show(byId("answer"), true);
  attr(byId("answer"), "aria-busy", null);
  text(byId("answer-error"), "");
  show(byId("answer-digits"), name === "digit");
  show(byId("answer-json"), name === "json");
  show(byId("answer-read"), name === "read");
}

function showTimes({ queue, run, total, adapters }) {
  const names = adapters.map((id) => store.snapshot?.adapters.find((adapter) => adapter.id === id)?.name ?? id);
  const swatches = adapters.map((id) => h("span", { class: `swatch ${hueClass(id)}`, "aria-hidden": "true" }));
  byId("answer-by").replaceChildren(...swatches, document.createTextNode(names.join(", ") || UNKNOWN));
  const time = (ms) => (Number.isNaN(ms) ? UNKNOWN : milliseconds(ms));
  text(byId("answer-queue"), time(queue));
  text(byId("answer-run"), time(run));
  text(byId("answer-total"), time(total));
  show(byId("answer-times"), true);
}
