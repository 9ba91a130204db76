// The stream of events. Through fetch, because EventSource cannot send the API key.

import { authorization, call, errorOf } from "./api.js";
import { first } from "./early.js";
import { receiveDecisions, receiveSamples, receiveSnapshot, setConnection, store } from "./store.js";

const SILENCE_MS = 10_000; // the server sends a snapshot every second
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 15_000];

let wake = () => {}; // ends whatever the loop waits for
let abort = new AbortController();

class KeyNeeded extends Error {}

export async function follow() {
  document.addEventListener("visibilitychange", () => (document.hidden ? abort.abort() : wake()));
  addEventListener("online", () => wake());
  showFirst();
  for (let failures = 0; ; ) {
    if (document.hidden) await woken();
    const { opened, error } = await listen();
    if (document.hidden) continue;
    failures = opened ? 0 : failures + 1;
    await pause(error, failures);
  }
}

/** Try again now: the key was given, or somebody does not want to wait. */
export function retry() {
  wake();
}

async function showFirst() {
  const snapshot = await first;
  if (snapshot && !store.snapshot) receiveSnapshot(snapshot);
}

function woken(ms) {
  return new Promise((resolve) => {
    wake = resolve;
    if (ms !== undefined) setTimeout(resolve, ms);
  });
}

async function pause(error, failures) {
  if (error instanceof KeyNeeded) {
    setConnection({ state: "key", error: error.message, retryAt: 0 });
    return woken();
  }
  const wait = BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)] * (0.8 + 0.4 * Math.random());
  setConnection({ state: "reconnecting", error: error.message, retryAt: performance.now() + wait });
  return woken(wait);
}

/** Follows the stream until it ends; tells why, and whether it ever began. */
async function listen() {
  let opened = false;
  abort = new AbortController();
  const watchdog = startWatchdog(abort);
  try {
    const response = await fetch("api/events", { headers: authorization(), signal: abort.signal });
    if (response.status === 401) throw new KeyNeeded(await errorOf(response));
    if (!response.ok) throw new Error(await errorOf(response));
    opened = true;
    setConnection({ state: "connected", error: null, retryAt: 0 });
    refill();
    await readBlocks(response.body, watchdog);
    return { opened, error: new Error("the server ended the connection") };
  } catch (error) {
    return { opened, error: watchdog.fired ? new Error("the server fell silent") : error };
  } finally {
    watchdog.stop();
  }
}

function startWatchdog(controller) {
  let timer = 0;
  const dog = {
    fired: false,
    stop: () => clearTimeout(timer),
    alive: () => {
      clearTimeout(timer);
      timer = setTimeout(() => { dog.fired = true; controller.abort(); }, SILENCE_MS);
    },
  };
  dog.alive();
  return dog;
}

async function readBlocks(body, watchdog) {
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

function receive(block) {
  const field = (name) => block.split("\n").filter((line) => line.startsWith(`${name}:`))
    .map((line) => line.slice(name.length + 1)).join("\n").trim();
  const event = field("event");
  if (event === "snapshot") receiveSnapshot(JSON.parse(field("data")));
  else if (event === "decision") receiveDecisions([JSON.parse(field("data"))]);
}

/** What happened while nobody watched. */
async function refill() {
  const { data } = await call("GET", "api/history");
  if (!data) return; // the time line then begins now
  receiveSamples(data.samples);
  store.changed();
}
