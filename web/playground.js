// Requests to a model, with the adapters and the times of the answer.

import { call } from "./api.js";
import { showAnswer, showDigit, showFailure, showReading, showWaiting } from "./answer.js";
import { attr, byId, options, show, text } from "./dom.js";
import { SIDE } from "./mnist.js";
import { drawing, setUpPad } from "./pad.js";
import { store } from "./store.js";
import { binaryRequest, takesFile, zeros } from "./tensors.js";

const WORDS = { image: "Send an image", audio: "Send a recording", bytes: "Send any file" };

let shown = null; // the model of the form
let metadata = null;
let sent = 0;

export function renderPlayground({ snapshot }) {
  const ready = snapshot.models.filter(({ state }) => state === "ready");
  options(byId("play-model"), ready.map(({ name }) => ({ value: name, label: name })));
  show(byId("play"), ready.length > 0);
  show(byId("no-play"), ready.length === 0);
  const model = ready.find(({ name }) => name === byId("play-model").value);
  if (model && shown !== `${model.name} ${model.version}`) choose(model);
}

function choose(model) {
  shown = `${model.name} ${model.version}`;
  metadata = null;
  const digits = isDigits(model);
  show(byId("play-digits"), digits);
  show(byId("play-any"), !digits);
  show(byId("run"), true);
  show(byId("answer"), false);
  if (!digits) describe(model.name);
}

/** Models of the built-in kind accept drawings, whatever their name. */
const isDigits = ({ kind, name }) => (kind ?? name) === "digits";

async function describe(name) {
  byId("play-json").value = "";
  text(byId("play-inputs"), "Loading the inputs …");
  const { data, error } = await call("GET", `v2/models/${encodeURIComponent(name)}`);
  if (byId("play-model").value !== name) return; // another model was chosen meanwhile
  metadata = data;
  text(byId("play-inputs"), error ?? data.inputs.map((input) => `${input.name}: ${input.datatype} [${input.shape.join(", ")}]`).join(" · "));
  if (!data) return;
  const whole = takesFile(data);
  byId("play-json").value = whole ? "" : zeros(data);
  show(byId("play-json-part"), !whole);
  show(byId("run"), !whole);
  show(byId("play-file-part"), data.inputs.length === 1);
  text(byId("play-file-words"), whole ? WORDS[data.inputs[0].name] ?? "Send a file" : "Send a file");
  attr(byId("play-file"), "accept", whole && data.inputs[0].name === "image" ? "image/*" : null);
}

function run() {
  const model = byId("play-model").value;
  if (!byId("play-digits").hidden) runDrawing(model);
  else send(model, byId("play-json").value, {}, showAnswer);
}

function runDrawing(model) {
  const bytes = drawing();
  if (!bytes) return showFailure("Draw a digit first, or choose a sample");
  const image = { name: "image", datatype: "UINT8", shape: [1, SIDE, SIDE], data: [...bytes] };
  return send(model, { inputs: [image] }, {}, showDigit);
}

async function runFile({ target }) {
  const file = target.files[0];
  target.value = "";
  if (!file || !metadata) return;
  if (takesFile(metadata)) {
    const headers = { "content-type": file.type && !file.type.endsWith("json") ? file.type : "application/octet-stream" };
    send(byId("play-model").value, file, headers, (answer, timing) => showReading(answer, timing, file));
    return;
  }
  try {
    const { body, headers } = binaryRequest(metadata.inputs[0], await file.arrayBuffer());
    send(byId("play-model").value, body, headers, showAnswer);
  } catch (error) {
    showFailure(error.message);
  }
}

/** Sends a request; only the answer to the newest one is shown. */
async function send(model, body, headers, render) {
  const number = ++sent;
  showWaiting();
  const began = performance.now();
  const { data, error, response } = await call("POST", `v2/models/${encodeURIComponent(model)}/infer`, body, headers);
  if (number !== sent) return;
  if (error) return showFailure(error);
  render(data, timing(response, performance.now() - began));
}

function timing(response, total) {
  const header = response.headers.get("server-timing") ?? "";
  const of = (name) => Number(new RegExp(`${name};dur=([0-9.]+)`).exec(header)?.[1] ?? NaN);
  const adapters = (response.headers.get("x-concertina-adapter") ?? "").split(",").map((id) => id.trim()).filter(Boolean);
  return { queue: of("queue"), run: of("run"), total, adapters };
}

export function setUpPlayground() {
  setUpPad(run);
  byId("run").addEventListener("click", run);
  byId("play-file").addEventListener("change", runFile);
  byId("play-model").addEventListener("change", () => store.changed());
}
