// Takes the pictures in docs/pictures from a real run with three software adapters.
// Usage: CONCERTINA_BIN=PROGRAM node tests/dashboard/pictures.mjs

import { cpSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openBrowser, startLoad, waitForCard, withPage } from "./page.mjs";
import { ROOT, SOFTWARE, THIRD, elastic, releaseMachine, sleep, startServer, takeMachine, waitFor } from "./server.mjs";

const FOLDER = join(ROOT, "docs/pictures");
const BYTES_MAX = 400_000;
const PHONE = { viewport: { width: 375, height: 812 } };
const PART = { x: 0, y: 0, width: 375, height: 1900 }; // of the phone's long page

const tensor = (table) => `[[${table}]]\nname = "x"\ndatatype = "FP32"\nshape = [-1]\n`;
const ECHO = `kind = "identity"\nlatency_target = "200ms"\n${tensor("inputs")}${tensor("outputs")}`;

/** Takes a picture of the whole page, or of a part of it. */
async function take(page, name, clip) {
  const path = join(FOLDER, `${name}.png`);
  const usual = page.viewportSize();
  await page.evaluate(() => { document.activeElement?.blur(); scrollTo(0, 0); });
  // The browser lays out only the content of the window, so that its height is known only afterwards.
  for (let at = 0; at < 3; at++) {
    await page.setViewportSize({ ...usual, height: await page.evaluate(() => document.body.offsetHeight) });
    await sleep(300);
  }
  await page.mouse.move(2, 2);
  await sleep(500); // the end of transitions
  await page.screenshot({ path, fullPage: true, clip });
  await page.setViewportSize(usual);
  const { size } = statSync(path);
  console.log(`${name}.png ${Math.round(size / 1000)} kB`);
  if (size > BYTES_MAX) throw new Error(`${name}.png is too large`);
}

async function askSeven(page) {
  await page.getByRole("button", { name: "Sample of a 7" }).click();
  await waitFor("the answer", async () => (await page.locator("#answer-digit").textContent()) === "7");
}

async function pictures(browser, server) {
  const open = (use, options) => withPage(browser, server.url, use, { deviceScaleFactor: 1, ...options });
  await open((page) => take(page, "idle"), { colorScheme: "light" });
  await open(async (page) => {
    // Three waves: one adapter suffices for the first, the last needs all.
    for (const concurrency of [2, 16]) {
      await startLoad(page, { concurrency, seconds: concurrency > 2 ? 20 : 10 });
      await waitFor("it has run", async () => (await server.snapshot()).load?.running === false);
      await sleep(6000);
    }
    await startLoad(page, { concurrency: 24, seconds: 60 });
    for (const id of SOFTWARE) await waitForCard(page, id, ["busy"]);
    await askSeven(page);
    await sleep(8000);
    await take(page, "loaded");
    await open((phone) => take(phone, "phone", PART), { colorScheme: "light", ...PHONE });
    await open(async (dark) => {
      await askSeven(dark);
      await take(dark, "dark");
    }, { colorScheme: "dark" });
    process.kill((await server.adapter(THIRD)).pid, "SIGKILL");
    await waitForCard(page, THIRD, ["quarantined"]);
    await sleep(4000); // the picture shows its band
    await take(page, "quarantined");
  }, { colorScheme: "light" });
}

const machine = await takeMachine();
if (!machine) process.exit(1);
mkdirSync(FOLDER, { recursive: true });
const models = mkdtempSync(join(tmpdir(), "concertina-pictures-"));
cpSync(join(ROOT, "models/digits"), join(models, "digits"), { recursive: true });
cpSync(join(ROOT, "models/digits"), join(models, "digits"), { recursive: true });
mkdirSync(join(models, "echo", "1"), { recursive: true });
writeFileSync(join(models, "echo", "model.toml"), ECHO);
const config = elastic("100ms", 20).replace('backoff = "4s"', 'backoff = "60s"');
const browser = await openBrowser();
let server;
try {
  server = await startServer(machine, { config, models });
  await pictures(browser, server);
} finally {
  await browser.close();
  await server?.end();
  rmSync(models, { recursive: true, force: true });
  releaseMachine();
}
