// The bar at the top: the connection, the readiness of the server, and a summary of its load.

import { attr, byId, show, text } from "./dom.js";
import { clock, count, duration, number } from "./format.js";
import { setKey } from "./api.js";
import { retry } from "./feed.js";
import { countOn } from "./adapters.js";
import { store } from "./store.js";

const WORDS = { connecting: "Connecting", connected: "Connected", reconnecting: "Reconnecting", key: "Key needed" };

export function renderConnection() {
  const { state, error, retryAt } = store.connection;
  const wait = Math.ceil((retryAt - performance.now()) / 1000);
  attr(byId("connection"), "data-state", state);
  text(byId("connection-word"), WORDS[state]);
  text(byId("connection-wait"), state === "reconnecting" && wait > 0 ? ` in ${wait} s` : "");
  attr(byId("connection"), "title", error);
  show(byId("retry"), state === "reconnecting");
  show(byId("key"), state === "key");
  show(byId("lost"), state === "reconnecting");
  text(byId("lost-words"), `${store.snapshot ? `Connection lost; this is from ${clock(performance.timeOrigin + store.receivedAt)}` : "No connection"}. ${error ?? ""}`.trim());
  attr(document.body, "data-connection", state);
}

export function renderHeader({ snapshot, now }) {
  const { server } = snapshot;
  text(byId("server"), `${server.version} · up ${duration(now)}`);
  const ready = server.shutting_down ? "Shutting down" : server.ready ? "Ready" : "Not ready";
  text(byId("ready-word"), ready);
  attr(byId("ready"), "data-ready", String(server.ready && !server.shutting_down));
  text(byId("ready-reason"), server.reason ? `: ${server.reason}` : "");
  text(byId("summary"), summary(snapshot));
}

function summary({ adapters, queue }) {
  const { on, used } = countOn(adapters);
  const outstanding = queue.queued_requests + queue.in_flight_requests;
  const rows = adapters.reduce((sum, { recent }) => sum + (recent?.rows_per_s ?? 0), 0);
  return `${on} of ${count(used, "adapter")} on · ${number(outstanding)} outstanding · ${number(rows)} rows/s`;
}

export function setUpHeader() {
  byId("retry").addEventListener("click", retry);
  byId("key").addEventListener("submit", (event) => {
    event.preventDefault();
    setKey(byId("key-value").value);
    byId("key-value").value = "";
    retry();
  });
}
