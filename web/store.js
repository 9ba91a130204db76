// The received state of the server. Views read it; only the feed writes it.

export const DECISIONS_KEPT = 300;
const HISTORY_MS = 600_000;
const CLOCK_SLACK_MS = 10_000;

export const store = {
  snapshot: null,
  receivedAt: 0,
  decisions: [], // oldest first
  samples: [], // oldest first
  startedAt: 0, // wall clock at the server's time 0
  connection: { state: "connecting", error: null, retryAt: 0 },
  changed: () => {},
};

/** Returns the server's current time, in milliseconds since it started. */
export function serverNow() {
  return store.snapshot.server.uptime_ms + performance.now() - store.receivedAt;
}

export const wall = (atMs) => store.startedAt + atMs;

export function setConnection(connection) {
  store.connection = connection;
  store.changed();
}

export function receiveSnapshot(snapshot) {
  if (!store.snapshot || isAnotherProcess(snapshot)) begin(snapshot);
  store.snapshot = snapshot;
  store.receivedAt = performance.now();
  receiveDecisions(snapshot.decisions ?? []);
  if (snapshot.sample) receiveSamples([snapshot.sample]);
  store.changed();
}

/** After a long disconnection, the new process may have run for longer than the old one had. */
function isAnotherProcess({ server, decisions }) {
  if (server.uptime_ms < store.snapshot.server.uptime_ms) return true;
  const first = decisions !== undefined;
  return first && Math.abs(Date.now() - server.uptime_ms - store.startedAt) > CLOCK_SLACK_MS;
}

/** Begins with another process: the times and numbers of the old one are not valid any longer. */
function begin(snapshot) {
  store.decisions = [];
  store.samples = [];
  store.startedAt = Date.now() - snapshot.server.uptime_ms;
}

export function receiveDecisions(decisions) {
  const last = store.decisions.at(-1)?.seq ?? -1;
  const added = decisions.filter(({ seq }) => seq > last);
  if (added.length === 0) return;
  store.decisions = [...store.decisions, ...added].slice(-DECISIONS_KEPT);
  store.changed();
}

/** Samples are received one by one and, after each connect, as history that overlaps them. */
export function receiveSamples(samples) {
  const last = store.samples.at(-1)?.at_ms ?? -1;
  if (samples.length === 1 && samples[0].at_ms > last) store.samples.push(samples[0]);
  else if (samples.length > 1) store.samples = merged(store.samples, samples);
  const oldest = (store.samples.at(-1)?.at_ms ?? 0) - HISTORY_MS;
  while (store.samples.length && store.samples[0].at_ms < oldest) store.samples.shift();
}

function merged(known, added) {
  const byTime = new Map([...known, ...added].map((sample) => [sample.at_ms, sample]));
  return [...byTime.values()].sort((a, b) => a.at_ms - b.at_ms);
}
