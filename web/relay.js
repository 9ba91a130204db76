// The shared worker of all pages of one browser: it relays one stream of events per API key to the visible pages.
// A browser opens six HTTP/1.1 connections per host; one stream per page would leave none for requests.

import { DECISIONS_KEPT } from "./store.js";
import { Stream } from "./stream.js";

const SWEEP_MS = 1000;
const SWEEPS_KEPT = 5; // a visible page subscribes again every second; one that crashed does not

const feeds = new Map(); // by authorization
const pages = new Map(); // by port: the authorization, and the sweeps since the last message

/** One stream and its subscribers. */
class Feed {
  #key;
  #stream;
  #ports = new Map(); // by port: true if the page has received the decisions
  #state = null; // until the first attempt has ended: pages keep showing the state that they had
  #retryAt = 0;
  #decisions = null; // of this connection; the stream sends each of them once

  constructor(key) {
    this.#key = key;
    this.#stream = new Stream(() => (key ? { authorization: key } : {}), this);
  }

  add(port) {
    this.#ports.set(port, false);
    if (this.#state) port.postMessage(this.#stateMessage());
    this.retry(); // a page that was just opened does not wait for the next try
  }

  remove(port) {
    this.#ports.delete(port);
    if (this.#ports.size > 0) return;
    this.#stream.stop();
    feeds.delete(this.#key);
  }

  retry() {
    this.#stream.retry();
  }

  onState(state) {
    this.#state = state;
    this.#retryAt = performance.now() + state.waitMs;
    this.#decisions = null;
    for (const port of this.#ports.keys()) port.postMessage(this.#stateMessage());
  }

  onEvent(event, data) {
    if (event === "snapshot") this.#onSnapshot(data);
    else if (event === "decision") this.#onDecision(data);
  }

  /** A timestamp is not valid in another context, so the message contains the remaining wait. */
  #stateMessage() {
    return { type: "state", ...this.#state, waitMs: Math.max(this.#retryAt - performance.now(), 0) };
  }

  /** A page that subscribed to a running stream receives what the stream sent first: a snapshot with all decisions. */
  #onSnapshot(data) {
    this.#decisions ??= JSON.parse(data).decisions ?? [];
    let whole = null;
    for (const [port, complete] of this.#ports) {
      const sent = complete ? data : (whole ??= JSON.stringify({ ...JSON.parse(data), decisions: this.#decisions }));
      port.postMessage({ type: "event", event: "snapshot", data: sent });
      this.#ports.set(port, true);
    }
  }

  #onDecision(data) {
    this.#decisions = [...(this.#decisions ?? []), JSON.parse(data)].slice(-DECISIONS_KEPT);
    for (const [port, complete] of this.#ports) if (complete) port.postMessage({ type: "event", event: "decision", data });
  }
}

/** Subscribes a page. The message also shows that the page still exists, and the answer that this worker does. */
function subscribe(port, { authorization = "" }) {
  port.postMessage({ type: "alive" });
  const page = pages.get(port);
  if (page) page.sweeps = 0;
  if (page?.authorization === authorization) return;
  unsubscribe(port);
  pages.set(port, { authorization, sweeps: 0 });
  if (!feeds.has(authorization)) feeds.set(authorization, new Feed(authorization));
  feeds.get(authorization).add(port);
}

function unsubscribe(port) {
  const page = pages.get(port);
  pages.delete(port);
  if (page) feeds.get(page.authorization).remove(port);
}

function retry(port) {
  feeds.get(pages.get(port)?.authorization)?.retry();
}

function removeUnresponsivePages() {
  for (const [port, page] of pages) {
    page.sweeps += 1;
    if (page.sweeps > SWEEPS_KEPT) unsubscribe(port);
  }
}

const HANDLERS = { subscribe, unsubscribe, retry };

globalThis.onconnect = ({ ports: [port] }) => {
  port.onmessage = ({ data }) => HANDLERS[data.type](port, data);
};
setInterval(removeUnresponsivePages, SWEEP_MS);
