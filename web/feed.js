// The events of the server, from the shared worker of this browser or from the page's own stream.

import { authorization, call } from "./api.js";
import { first } from "./early.js";
import { receiveDecisions, receiveSamples, receiveSnapshot, setConnection, store } from "./store.js";
import { Stream } from "./stream.js";
import { Subscription } from "./subscription.js";

const receiver = { onState, onEvent, onUnavailable };

let source = new Subscription(receiver);
let historyDue = false;

/** Receives events only while the page is visible, so that a hidden page causes no load on server and browser. */
export function follow() {
  document.addEventListener("visibilitychange", update);
  addEventListener("pagehide", () => source.stop());
  addEventListener("pageshow", update); // from the browser's cache of pages
  addEventListener("online", retry);
  showFirst();
  update();
}

/** Connects now: the API key was entered, or the user does not want to wait. */
export function retry() {
  source.retry();
}

function update() {
  if (document.hidden) source.stop();
  else source.start();
}

/** Uses the page's own stream: this browser has no shared workers, or its settings forbid them. */
function onUnavailable() {
  source = new OwnStream();
  update();
}

class OwnStream {
  #stream = null;

  start() {
    this.#stream ??= new Stream(authorization, receiver);
  }

  stop() {
    this.#stream?.stop();
    this.#stream = null;
  }

  retry() {
    this.#stream?.retry();
  }
}

async function showFirst() {
  const snapshot = await first;
  if (snapshot && !store.snapshot) receiveSnapshot(snapshot);
}

function onState({ state, error, waitMs }) {
  setConnection({ state, error, retryAt: waitMs ? performance.now() + waitMs : 0 });
  historyDue = state === "connected";
}

function onEvent(event, data) {
  if (event === "snapshot") onSnapshot(JSON.parse(data));
  else if (event === "decision") receiveDecisions([JSON.parse(data)]);
}

/** The first snapshot of a new process clears the samples, so the history is requested after it. */
function onSnapshot(snapshot) {
  receiveSnapshot(snapshot);
  if (historyDue) refill();
  historyDue = false;
}

/** Adds the samples from before the page was connected. */
async function refill() {
  const { data } = await call("GET", "api/history");
  if (!data) return; // the timeline then begins now
  receiveSamples(data.samples);
  store.changed();
}
