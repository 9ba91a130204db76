// The page has a sentence for every reason of a decision and every expected client.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { startFeed } from "./feed.mjs";
import { openBrowser, withPage } from "./page.mjs";
import { ROOT, waitFor } from "./server.mjs";

/** One decision for every reason, with the server's text; a unit test of the server keeps the file up to date. */
const DECISIONS = JSON.parse(readFileSync(join(ROOT, "tests/dashboard/reasons.json"), "utf8"));
const STATES = { start: "idle", resume: "idle", drain: "off", quarantine: "quarantined" };

/** The names of all reasons in the source of the scheduler. */
function namesInSource() {
  const source = readFileSync(join(ROOT, "src/schedule/decision.rs"), "utf8");
  return [...source.matchAll(/Reason::\w+(?: \{ \.\. \})? => "(\w+)"/g)].map(([, name]) => name);
}

const sentence = /^[a-z0-9].*\S \S+ \S+/i;
const unreadable = /undefined|null|NaN|Some\(|[{}_]/;

describe("the page has words", { timeout: 300_000 }, () => {
  let browser;

  before(async () => { browser = await openBrowser(); });
  after(() => browser?.close());

  const withFeed = async (options, use, pageOptions) => {
    const feed = await startFeed(options);
    try {
      await withPage(browser, feed.url, use, pageOptions);
    } finally {
      feed.end();
    }
  };

  it("for every reason", () => withFeed({ fixed: DECISIONS }, async (page) => {
    const rows = page.getByTestId("decision");
    await waitFor("all decisions", async () => (await rows.count()) === DECISIONS.length);
    const shown = await rows.evaluateAll((nodes) => nodes.map((node) => ({
      reason: node.querySelector("code").textContent, text: node.querySelector(".decision-text span").textContent, head: node.querySelector("strong").textContent,
    })));
    const names = new Set(shown.map(({ reason }) => reason));
    assert.deepEqual(namesInSource().filter((name) => !names.has(name)), [], "reasons without a decision");
    assert.ok(names.size > 20, [...names].join(" "));
    for (const { reason, text, head } of shown) {
      assert.match(text, sentence, reason);
      assert.doesNotMatch(text, unreadable, reason);
      assert.match(head, /^(Start|Resume|Drain|Quarantine|Load|Unload)( digits on)?$/, reason);
    }
  }));

  it("for every reason on the card of its adapter", () => withFeed({ fixed: DECISIONS }, async (page) => {
    const shown = await page.evaluate(async ([decisions, states]) => {
      const { why } = await import("/why.js");
      const snapshot = { queue: { queued_requests: 0, in_flight_requests: 0 }, adapters: [] };
      const of = (decision, seq) => why({ id: "a", state: states[decision.change], since_ms: 0, mode: "auto" },
        { decisions: [{ ...decision, adapter: "a", seq, at_ms: 0 }], snapshot, now: 1000 });
      return decisions.map(of);
    }, [DECISIONS.filter(({ change }) => STATES[change]), STATES]);
    DECISIONS.filter(({ change }) => STATES[change]).forEach(({ reason, text }, at) => {
      assert.match(shown[at].lead, /^((On|Off) for|Failed) .*: $/, reason);
      assert.ok(shown[at].text.startsWith(text), `${reason}: ${shown[at].text}`);
    });
  }));

  it("for clients that are expected, with a mark on the timeline", () => {
    const client = (model, announced, text, after) => ({ model, adapter: "pci-0000:01:00.0", announced, text, after });
    const expected = [
      client("digits", true, "a client of digits announced its request", { start_at_ms: 20_000, from_ms: 25_000, until_ms: 40_000 }),
      { ...client("model-2", false, "a client of model-2 sends requests regularly", { from_ms: 3_600_000, until_ms: 3_660_000 }), start_at_ms: null },
    ];
    return withFeed({ fixed: DECISIONS, expected }, async (page) => {
      const list = page.getByTestId("expected");
      await waitFor("the clients", async () => (await list.count()) === 2);
      const [soon, later] = await list.allTextContents();
      const clock = "\\d\\d:\\d\\d:\\d\\d";
      assert.match(soon, new RegExp(`^Start of NVIDIA GeForce RTX 3060 at ${clock}: a client of digits announced its request; expected from ${clock} to ${clock}$`));
      assert.match(later, new RegExp(`^NVIDIA GeForce RTX 3060 is to be ready: a client of model-2 sends requests regularly; expected from ${clock} to ${clock}$`));
      await page.locator("#time-line").scrollIntoViewIfNeeded();
      // The strip of the first window is in the future, at the right edge of the chart.
      const canvas = page.locator("#bands canvas").first();
      await waitFor("the mark", () => canvas.evaluate((node) => {
        const pen = node.getContext("2d");
        const right = node.width - 34 * devicePixelRatio;
        const [strip, below] = [17, 60].map((y) => pen.getImageData(right, y * devicePixelRatio, 1, 1).data[3]);
        return strip > 200 && below > 0 && below < 200;
      }), 20_000);
    }, { expected: /willReadFrequently/ });
  });
});
