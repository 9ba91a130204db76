// A hundred open streams of events: their cost to the server and to concurrent requests.

import assert from "node:assert/strict";
import { Agent, get } from "node:http";
import { connect } from "node:net";
import { after, before, describe, it } from "node:test";
import { FIRST, SECOND, THIRD, releaseMachine, sleep, startServer, takeMachine, waitFor } from "./server.mjs";

const STREAMS = 100;
const REQUESTS = 150;
const EVERY_MS = 20;

const machine = await takeMachine();

describe("streams of events", { skip: !machine, timeout: 600_000 }, () => {
  let server;

  before(async () => {
    server = await startServer(machine, { config: `[adapters]\nmin = 1\nexclude = ["${SECOND}", "${THIRD}"]` });
    await server.waitForState(FIRST, ["idle", "busy"]);
  });

  after(async () => {
    await server?.end();
    releaseMachine();
  });

  it("do not delay requests", async () => {
    await measure(server);
    const alone = await measure(server);
    const streams = await Promise.all(Array.from({ length: STREAMS }, () => open(server)));
    try {
      const beside = await measure(server);
      for (const [name, { p50, cpu }] of [["no streams", alone], [`${STREAMS} streams`, beside]]) {
        console.log(`${name}: p50 of requests ${p50.toFixed(2)} ms, the server takes ${(100 * cpu).toFixed(1)} % of a core`);
      }
      await waitFor("every stream goes on", () => streams.every(({ events }) => events() >= 5), 60_000);
      assert.ok(streams.every(({ ended }) => !ended()), "a stream ended");
    } finally {
      streams.forEach(({ close }) => close());
    }
  });

  it("are not delayed by one that is not read", async () => {
    const slow = connect(server.port, "127.0.0.1");
    slow.on("error", () => {}); // the server may close it
    slow.pause();
    slow.write(`GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\n\r\n`);
    const other = await open(server);
    try {
      await measure(server);
      const before = other.events();
      await waitFor("the other stream goes on", () => other.events() >= before + 10, 60_000);
      assert.ok(!other.ended());
    } finally {
      other.close();
      slow.destroy();
    }
  });
});

/** Requests at a steady, small rate; all must be answered. */
async function measure(server) {
  const agent = new Agent({ keepAlive: true });
  const [began, before] = [performance.now(), server.cpuSeconds()];
  const requests = [];
  for (let at = 0; at < REQUESTS; at++) {
    requests.push(server.infer(agent));
    await sleep(EVERY_MS);
  }
  const answers = await Promise.all(requests);
  const cpu = (server.cpuSeconds() - before) / ((performance.now() - began) / 1000);
  agent.destroy();
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  return { cpu, p50: answers.map(({ ms }) => ms).toSorted((a, b) => a - b)[REQUESTS >> 1] };
}

/** Opens a stream, reads it, and returns after its first event. */
async function open(server) {
  let [events, ended] = [0, false];
  const request = get(`${server.url}/api/events`, { agent: false }, (response) => {
    // Each event ends with an empty line; nothing else in the stream does.
    response.setEncoding("utf8").on("data", (text) => { events += text.split("\n\n").length - 1; });
    response.on("close", () => { ended = true; }).on("error", () => {});
  });
  request.on("error", () => { ended = true; });
  await waitFor("the first event of a stream", () => events > 0, 60_000);
  return { events: () => events, ended: () => ended, close: () => request.destroy() };
}
