// A browser, and pages that must log no errors and send no requests to other hosts.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";
import { waitFor } from "./server.mjs";

const CHROMIUM = "/usr/bin/chromium";

/** Errors that the browser itself logs when a server has stopped. */
export const LOST = /net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)/;

export const openBrowser = () => chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
export const hasBrowser = () => existsSync(CHROMIUM);

/** Opens the page, passes it to `use`, and asserts that it logged only `expected` errors. */
export async function withPage(browser, url, use, { expected, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, ...options });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  const noise = watch(page, expected);
  try {
    await page.goto(url);
    await page.getByTestId("adapter-card").first().waitFor();
    await use(page);
  } catch (error) {
    error.message += `\n${noise.join("\n")}`;
    throw error;
  } finally {
    await context.close();
  }
  assert.deepEqual(noise, []);
}

function watch(page, expected) {
  const noise = [];
  page.on("pageerror", (error) => noise.push(`error: ${error.stack}`));
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type())) return;
    if (!expected?.test(message.text())) noise.push(`${message.type()}: ${message.text()} ${message.location().url}`);
  });
  page.on("request", (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (!["data:", "blob:"].includes(protocol) && hostname !== "127.0.0.1") noise.push(`request to another host: ${request.url()}`);
  });
  return noise;
}

export const card = (page, id) => page.locator(`[data-testid=adapter-card][data-adapter="${id}"]`);
export const whyOf = (page, id) => card(page, id).getByTestId("adapter-why").textContent();
export const bandsAt = (page) => page.evaluate(() => globalThis.concertina.bandsAt());

export function waitForCard(page, id, states) {
  return waitFor(`the card of ${id} shows ${states.join(" or ")}`, async () => {
    const state = await card(page, id).getAttribute("data-state");
    return states.includes(state) && state;
  });
}

export async function startLoad(page, { concurrency, seconds }) {
  await page.getByTestId("load-concurrency").fill(String(concurrency));
  await page.getByTestId("load-seconds").fill(String(seconds));
  await page.getByTestId("load-start").click();
}

/** Draws with the mouse; the points are fractions of the pad, from 0 to 1. */
export async function draw(page, points) {
  const pad = page.getByTestId("pad");
  await pad.scrollIntoViewIfNeeded();
  const { x, y, width, height } = await pad.boundingBox();
  const to = ([right, down]) => [x + right * width, y + down * height];
  await page.mouse.move(...to(points[0]));
  await page.mouse.down();
  for (const point of points.slice(1)) await page.mouse.move(...to(point), { steps: 8 });
  await page.mouse.up();
}

/** Notifies the page that it is hidden or visible, since a headless browser hides no page. */
export const hide = (page, hidden) => page.evaluate((value) => {
  Object.defineProperty(document, "hidden", { value, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}, hidden);
