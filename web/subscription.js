// A page's subscription to the stream that the shared worker relays.

import { authorization } from "./api.js";

const BEAT_MS = 1000;
// Counted in beats, not in time: after a pause of this page or of the machine, answers can still arrive.
const LOST_BEATS = 3; // without an answer from a worker that did answer: it has crashed, perhaps with another page
const ABSENT_BEATS = 10; // without any answer from a new worker: it cannot be used

export class Subscription {
  #receiver;
  #worker = null;
  #timer = 0;
  #unanswered = 0;
  #answered = false;

  /** The receiver has the methods of a receiver of `Stream`, and `onUnavailable()`. */
  constructor(receiver) {
    this.#receiver = receiver;
  }

  start() {
    if (this.#timer) return;
    this.#timer = setInterval(() => this.#beat(), BEAT_MS);
    this.#unanswered = 0;
    if (!this.#worker) this.#open();
    this.#subscribe();
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#post("unsubscribe");
  }

  /** Connects now; with another API key it is another stream. */
  retry() {
    if (!this.#timer) return;
    this.#subscribe();
    this.#post("retry");
  }

  #subscribe() {
    this.#post("subscribe", authorization());
  }

  #post(type, fields) {
    this.#worker?.port.postMessage({ type, ...fields });
  }

  #beat() {
    this.#unanswered += 1;
    if (!this.#answered && this.#unanswered > ABSENT_BEATS) return this.#fail();
    if (this.#answered && this.#unanswered > LOST_BEATS) this.#reopen();
    this.#subscribe();
  }

  #reopen() {
    this.#post("unsubscribe");
    this.#worker.port.close();
    this.#open();
  }

  /** The browser starts the worker if none of its pages has; the name is the same for every API key. */
  #open() {
    this.#answered = false;
    this.#unanswered = 0;
    try {
      this.#worker = new SharedWorker("relay.js", { type: "module", name: "concertina" });
      this.#worker.onerror = () => this.#answered || this.#fail();
      this.#worker.port.onmessage = ({ data }) => this.#receive(data);
    } catch {
      this.#fail();
    }
  }

  #fail() {
    this.stop();
    this.#receiver.onUnavailable();
  }

  #receive({ type, event, data, ...state }) {
    this.#unanswered = 0;
    this.#answered = true;
    if (type === "state") this.#receiver.onState(state);
    if (type === "event") this.#receiver.onEvent(event, data);
  }
}
