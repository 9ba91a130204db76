// Why an adapter is on or off, in words, at the product's own latency target and penalty.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { openBrowser, waitForCard, whyOf, withPage } from "./page.mjs";
import { FIRST, releaseMachine, startServer, takeMachine, waitFor } from "./server.mjs";

/** One adapter with a high idle power, so that it is off again within seconds; a CPU that answers
    `digits` within the default target. */
const CONFIG = `[adapters.power.${FIRST}]\nidle = 500.0\nactive = 600.0\nstart = 1.0\n[test.slow.cpu]\nrow = "60ms"\n`;

const machine = await takeMachine();

describe("the page shows", { skip: !machine, timeout: 900_000 }, () => {
  let browser;

  before(async () => { browser = await openBrowser(); });

  after(async () => {
    await browser?.close();
    releaseMachine();
  });

  const withServer = async (args, use) => {
    const server = await startServer(machine, { config: CONFIG, args: ["--only", FIRST, ...args] });
    try {
      await withPage(browser, server.url, (page) => use(page, server));
    } finally {
      await server.end();
    }
  };

  /** The row of the newest decision for this reason, as the page shows it. */
  const decision = async (page, reason) => {
    const row = page.getByTestId("decision").filter({ has: page.locator("code", { hasText: new RegExp(`^${reason}$`) }) }).first();
    await row.waitFor({ timeout: 180_000 });
    return row.locator(".decision-text").textContent();
  };

  it("that the CPU serves until others are on", () => withServer(["--only", "cpu", "--cpu", "auto"], async (page, server) => {
    assert.equal((await server.infer()).status, 200);
    assert.match(await decision(page, "bridge"), /^serves while other adapters start; uses no energy while idle/);
    assert.match(await whyOf(page, "cpu"), /^(On|Turning on) for .*: serves while other adapters start/);
  }));

  it("that a client announced itself, and that it did not come", () => withServer([], async (page, server) => {
    const { in_ms: announced } = await server.call("POST", "/api/expect", { model: "digits", in: "1s" });
    assert.equal(announced, 1000);
    await waitForCard(page, FIRST, ["starting", "loading", "idle"]);
    const clients = page.getByTestId("expected");
    await waitFor("the expected client", async () => /is to be ready: a client of digits announced its request; expected from [\d:]+ to [\d:]+$/.test(await clients.textContent()));
    const expected = /a client of digits announced its request; expected \d+ ms to [\d.]+ s after this decision/;
    assert.match(await whyOf(page, FIRST), new RegExp(`for .*: ${expected.source}`));
    assert.match(await decision(page, "expected"), expected);
    await waitForCard(page, FIRST, ["off"]);
    await waitFor("why it is off", async () => /^Off for .*: the expected client sent no request/.test(await whyOf(page, FIRST)));
    assert.equal(await clients.count(), 0);
  }));

  it("the requests that wait for a start, and the penalty of late requests", () => withServer([], async (page, server) => {
    assert.equal((await server.infer()).status, 200);
    assert.match(await decision(page, "latency_target"), /^1 row of digits had no active adapter; target 100 ms; ready in about/);
    await waitForCard(page, FIRST, ["off"]);
    await waitFor("why it is off", async () => /^Off for .*: idle for [\d.]+ s; a start costs \d+ J plus a penalty of \d+ J for late requests/.test(await whyOf(page, FIRST)));
  }));
});
