// The stream of events: connects, reads, waits after a failure and connects again, until it is stopped.
// Through fetch, because EventSource cannot send the API key. Runs in the shared worker or in a page.

import { errorOf } from "./api.js";

const DATA_TIMEOUT_MS = 10_000; // the server sends a snapshot every second
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 15_000];

export class Stream {
  #headers;
  #receiver;
  #stopped = false;
  #abort = new AbortController();
  #wake = () => {}; // ends the wait between two connections

  /** `headers()` is called before each connection. The receiver has `onState({state, error, waitMs})` and `onEvent(event, data)`. */
  constructor(headers, receiver) {
    this.#headers = headers;
    this.#receiver = receiver;
    this.#run();
  }

  /** Connects now if it waits. */
  retry() {
    this.#wake();
  }

  stop() {
    this.#stopped = true;
    this.#abort.abort();
    this.#wake();
  }

  async #run() {
    for (let failures = 0; !this.#stopped; ) {
      const { opened, error } = await this.#listen();
      if (this.#stopped) return;
      failures = opened ? 0 : failures + 1;
      await this.#pause(error, failures);
    }
  }

  #pause({ message, needsKey }, failures) {
    const waitMs = BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)] * (0.8 + 0.4 * Math.random());
    this.#receiver.onState(needsKey ? { state: "key", error: message, waitMs: 0 } : { state: "reconnecting", error: message, waitMs });
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (!needsKey) setTimeout(resolve, waitMs);
    });
  }

  /** Follows one connection until it ends; returns the cause, and whether the server accepted the connection. */
  async #listen() {
    let opened = false;
    this.#abort = new AbortController();
    const watchdog = startWatchdog(this.#abort);
    try {
      const body = await this.#connect();
      opened = true;
      this.#receiver.onState({ state: "connected", error: null, waitMs: 0 });
      await readBlocks(body, watchdog, (block) => this.#receive(block));
      return { opened, error: new Error("the server ended the connection") };
    } catch (error) {
      return { opened, error: watchdog.fired ? new Error(`no data received for ${DATA_TIMEOUT_MS / 1000} s`) : error };
    } finally {
      watchdog.stop();
    }
  }

  async #connect() {
    const response = await fetch("api/events", { headers: this.#headers(), signal: this.#abort.signal });
    if (response.ok) return response.body;
    const error = new Error(await errorOf(response));
    error.needsKey = response.status === 401;
    throw error;
  }

  #receive(block) {
    const field = (name) => block.split("\n").filter((line) => line.startsWith(`${name}:`))
      .map((line) => line.slice(name.length + 1)).join("\n").trim();
    const event = field("event");
    if (event) this.#receiver.onEvent(event, field("data"));
  }
}

function startWatchdog(controller) {
  let timer = 0;
  const dog = {
    fired: false,
    stop: () => clearTimeout(timer),
    alive: () => {
      clearTimeout(timer);
      timer = setTimeout(() => { dog.fired = true; controller.abort(); }, DATA_TIMEOUT_MS);
    },
  };
  dog.alive();
  return dog;
}

async function readBlocks(body, watchdog, receive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    watchdog.alive();
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    blocks.forEach(receive);
  }
}
