// The pad for drawing a digit; without a pointer: sample digits and image files.

import { byId, h, text } from "./dom.js";
import { asCanvas, drawStroke, fromImage, fromStrokes, SIDE } from "./mnist.js";
import { SAMPLES } from "./samples.js";

const PEN = 0.075; // of the pad

let strokes = [];
let bytes = null; // the input of the model; null while nothing is drawn
let onDrawn = () => {};

export const drawing = () => bytes;

export function setUpPad(drawn) {
  onDrawn = drawn;
  const canvas = byId("pad");
  canvas.addEventListener("pointerdown", begin);
  canvas.addEventListener("pointermove", extend);
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, finish);
  byId("pad-clear").addEventListener("click", clear);
  byId("pad-file").addEventListener("change", readFile);
  byId("samples").append(...SAMPLES.map((sample, digit) =>
    h("button", { type: "button", class: "quiet", text: String(digit), "aria-label": `Sample of a ${digit}`, onclick: () => useStrokes(sample) })));
  paint();
}

function pointOf({ target, clientX, clientY }) {
  const { left, top, width, height } = target.getBoundingClientRect();
  return { x: (clientX - left) / width, y: (clientY - top) / height };
}

function begin(event) {
  if (!event.isPrimary || event.button !== 0) return;
  event.target.setPointerCapture(event.pointerId);
  strokes.push([pointOf(event)]);
  paint();
}

function extend(event) {
  if (!event.target.hasPointerCapture(event.pointerId)) return;
  const events = event.getCoalescedEvents?.() ?? [];
  strokes.at(-1).push(...(events.length ? events : [event]).map((each) => pointOf({ target: event.target, clientX: each.clientX, clientY: each.clientY })));
  paint();
}

function finish(event) {
  if (event.target.hasPointerCapture(event.pointerId)) event.target.releasePointerCapture(event.pointerId);
  if (strokes.length) take(fromStrokes(strokes));
}

function clear() {
  strokes = [];
  bytes = null;
  text(byId("pad-error"), "");
  paint();
}

function useStrokes(sample) {
  strokes = sample.map((points) => points.map(([x, y]) => ({ x, y })));
  paint();
  take(fromStrokes(strokes));
}

async function readFile({ target }) {
  if (!target.files[0]) return;
  try {
    const read = await fromImage(target.files[0]);
    clear();
    take(read);
    byId("pad").getContext("2d").drawImage(asCanvas(SIDE, read), 0, 0, byId("pad").width, byId("pad").height);
  } catch (error) {
    text(byId("pad-error"), `failed to read the image: ${error.message}`);
  }
  target.value = ""; // the same file may be chosen again
}

function take(taken) {
  bytes = taken;
  byId("seen").getContext("2d").drawImage(asCanvas(SIDE, bytes), 0, 0);
  onDrawn();
}

function paint() {
  const canvas = byId("pad");
  const context = canvas.getContext("2d");
  context.fillStyle = context.strokeStyle = "#0c0d0e";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (!bytes) byId("seen").getContext("2d").drawImage(asCanvas(SIDE, new Uint8Array(SIDE * SIDE)), 0, 0);
  context.strokeStyle = "#fff";
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = PEN * canvas.width;
  for (const stroke of strokes) drawStroke(context, stroke.map(({ x, y }) => [x * canvas.width, y * canvas.height]));
}
