// Several visible pages of one browser share one stream of events: HTTP/1.1 has six connections per host.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { card, hasBrowser, hide, openBrowser } from "./page.mjs";
import { startProxy } from "./proxy.mjs";
import { startServer, waitFor } from "./server.mjs";

const WINDOWS = 8;
const SOON_MS = 15_000; // the two cores of the test machine are shared; a page alone takes a second
const KEYS = ["first-key", "second-key"];
const ARGS = ["--only", "cpu", "--cpu", "auto"];
const MODES = ["off", "auto"];

describe("case 21: eight visible windows of one browser", { skip: !hasBrowser(), timeout: 600_000 }, () => {
  let browser;
  let server;
  let proxy;
  let context;

  before(async () => {
    browser = await openBrowser();
    server = await startServer({ drivers: "" }, { args: ARGS });
    proxy = await startProxy(server.port);
  });

  beforeEach(async () => {
    context = await newContext();
    proxy.streamsMax = 0;
  });

  afterEach(async () => {
    await context.close();
    await waitFor("the streams are closed", () => proxy.streams() === 0, SOON_MS);
  });

  after(async () => {
    await browser?.close();
    proxy?.end();
    await server?.end();
  });

  const newContext = async () => {
    const created = await browser.newContext();
    created.setDefaultTimeout(SOON_MS);
    return created;
  };

  const open = async (count, where = context) => {
    const pages = [];
    for (let at = 0; at < count; at++) {
      const page = await where.newPage();
      await page.goto(proxy.url);
      await connected([page]);
      pages.push(page);
    }
    return pages;
  };

  /** Asserts that all pages show a change of mode through the last one. */
  const assertLive = async (pages) => {
    for (const mode of MODES) {
      await card(pages.at(-1), "cpu").getByTestId(`mode-${mode}`).click();
      await forAll(pages, `shows the mode ${mode}`, async (page) => (await card(page, "cpu").getByTestId(`mode-${mode}`).getAttribute("aria-pressed")) === "true");
    }
  };

  /** Asserts that the button of any page ends the wait of all. */
  const assertRetry = async (page) => {
    await waitFor("a wait of several seconds", async () => / in ([4-9]|1\d) s/.test(await page.locator("#connection-wait").textContent()), SOON_MS);
    const before = proxy.attempts;
    await page.locator("#retry").click();
    await waitFor("the next attempt", () => proxy.attempts > before, 3000);
  };

  it("are all live over one stream, and a request of the eighth is answered", async () => {
    const pages = await open(WINDOWS);
    await forAll(pages, "has the history", (page) => page.evaluate(() => globalThis.concertina.samples > 1));
    await assertLive(pages);
    assert.equal(await pages.at(-1).evaluate(post), 200);
    assert.equal(proxy.streams(), 1);
    assert.equal(proxy.streamsMax, 1);
  });

  it("stay live when the page that opened first is closed", async () => {
    const [first, ...others] = await open(3);
    await first.close();
    await assertLive(others);
    assert.equal(proxy.streams(), 1);
  });

  it("stay live when the page that opened first crashes", async () => {
    const [first, ...others] = await open(3);
    await first.goto("chrome://crash").catch(() => {}); // the navigation fails
    await assertLive(others);
    assert.equal(proxy.streams(), 1);
  });

  it("stay live when the shared worker crashes", async () => {
    const pages = await open(3);
    await crashWorker(browser);
    await waitFor("a new stream", () => proxy.streams() === 0, SOON_MS);
    await assertLive(pages);
    assert.equal(proxy.streams(), 1);
  });

  it("hold no stream while all are hidden", async () => {
    const [one, other] = await open(2);
    await hide(one, true);
    await assertLive([other]);
    await hide(other, true);
    await waitFor("the stream is closed", () => proxy.streams() === 0, SOON_MS);
    await hide(one, false);
    await waitFor("the stream is open", () => proxy.streams() === 1, SOON_MS);
    await assertLive([one]);
  });

  it("share no stream with another browser", async () => {
    const pages = await open(2);
    const other = await newContext();
    try {
      pages.push(...await open(2, other));
      await assertLive(pages);
      assert.equal(proxy.streams(), 2);
    } finally {
      await other.close();
    }
  });

  it("are all live after a restart of the server", async () => {
    const pages = await open(3);
    await server.end();
    await forAll(pages, "is reconnecting", async (page) => (await stateOf(page)) === "reconnecting");
    await assertRetry(pages.at(-1));
    server = await startServer({ drivers: "" }, { args: ARGS });
    proxy.port = server.port;
    await connected(pages);
    await assertLive(pages);
    assert.equal(proxy.streams(), 1);
  });

  it("have a stream each if the browser has no shared workers", async () => {
    await context.addInitScript("delete globalThis.SharedWorker");
    const pages = await open(2);
    await assertLive(pages);
    assert.equal(proxy.streams(), 2);
  });

  it("share a stream per API key", async () => {
    proxy.keys = KEYS;
    try {
      const pages = [];
      for (const key of ["wrong-key", ...KEYS, ...KEYS]) pages.push(await openWithKey(key));
      const [wrong, ...others] = pages;
      await assertLive(others);
      assert.equal(proxy.streams(), KEYS.length);
      assert.equal(await stateOf(wrong), "key");
      await enter(wrong, KEYS[0]);
      await connected([wrong]);
      await assertLive(pages);
      assert.equal(proxy.streams(), KEYS.length);
    } finally {
      proxy.keys = null;
    }
  });

  /** Opens a page and enters the key: each page has its own session storage. */
  const openWithKey = async (key) => {
    const page = await context.newPage();
    await page.goto(proxy.url);
    await forAll([page], "needs a key", async () => (await stateOf(page)) === "key");
    await enter(page, key);
    return page;
  };
});

const stateOf = (page) => page.getByTestId("connection").getAttribute("data-state");

async function forAll(pages, what, look) {
  for (const [at, page] of pages.entries()) await waitFor(`page ${at + 1} ${what}`, () => look(page), SOON_MS);
}

async function connected(pages) {
  await forAll(pages, "is connected", async (page) => (await stateOf(page)) === "connected");
  for (const page of pages) await card(page, "cpu").waitFor();
}

async function enter(page, key) {
  await page.locator("#key-value").fill(key);
  await page.getByRole("button", { name: "Connect" }).click();
}

/** Sends a request from the page and returns the status; runs in the page. */
async function post() {
  const { status } = await fetch("api/adapters/cpu", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ mode: "auto" }) });
  return status;
}

/** Ends the worker without an event in its pages, as a crash of its process does. */
async function crashWorker(browser) {
  const devtools = await browser.newBrowserCDPSession();
  const { targetInfos } = await devtools.send("Target.getTargets");
  const { targetId } = targetInfos.find(({ type }) => type === "shared_worker");
  await devtools.send("Target.closeTarget", { targetId });
}
