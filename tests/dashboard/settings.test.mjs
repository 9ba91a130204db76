// Settings that are changed on the page while the server runs.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { openBrowser, waitForCard, whyOf, withPage } from "./page.mjs";
import { FIRST, releaseMachine, startServer, takeMachine, waitFor } from "./server.mjs";

/** One adapter with a high idle power, so that it is off again within seconds. */
const CONFIG = `[adapters.power.${FIRST}]\nidle = 500.0\nactive = 600.0\nstart = 1.0\n`;

const machine = await takeMachine();

describe("settings", { skip: !machine, timeout: 900_000 }, () => {
  let browser;
  let server;

  before(async () => {
    browser = await openBrowser();
    server = await startServer(machine, { config: CONFIG, args: ["--only", FIRST] });
  });

  after(async () => {
    await browser?.close();
    await server?.end();
    releaseMachine();
  });

  const caseOf = (page, setting) => page.getByTestId("whatif-case").filter({ hasText: setting });
  const changes = (page) => page.getByTestId("setting-changed");

  it("of a better alternative are applied with a click and undone with another", () => withPage(browser, server.url, async (page) => {
    for (let request = 0; request < 2; request++) {
      assert.equal((await server.infer()).status, 200);
      await waitForCard(page, FIRST, ["off"]);
    }
    await page.getByTestId("whatif").locator("summary").click();
    const better = caseOf(page, "adapters.min = 1");
    await better.getByTestId("whatif-apply").click();
    await changes(page).waitFor();
    const words = await changes(page).textContent();
    assert.match(words, /^adapters\.min = 1 is in force in place of adapters\.min = 0 /);
    assert.match(words, /To keep it after a restart, put this line into the configuration file: adapters\.min = 1/);
    await waitForCard(page, FIRST, ["idle"]);
    assert.match(await whyOf(page, FIRST), /^On for .*: minimum: 1 adapter, 0 on$/);
    // The comparison is computed again.
    await caseOf(page, "adapters.min = 0").waitFor();
    assert.match(await page.getByTestId("whatif-case").first().textContent(), /^with the present settings50\.00 %/);
    await withPage(browser, server.url, async (other) => {
      await other.getByTestId("whatif").locator("summary").click();
      await changes(other).waitFor();
    });
    await changes(page).getByTestId("setting-undo").click();
    await waitFor("the setting is the former one", async () => (await changes(page).count()) === 0);
    await waitForCard(page, FIRST, ["off"]);
    assert.deepEqual(await server.call("GET", "/api/settings"), { changed: [] });
  }));

  it("that need a restart are shown with the line for the file", () => withPage(browser, server.url, async (page) => {
    const cases = [["with the present settings", null, false], ["on another port", "listen = \"127.0.0.1:1\"", true], ["with two adapters", "adapters.max = 2", true], ["worse", "adapters.min = 1", false]]
      .map(([what, setting, better]) => ({ what, setting, better, suggested: better, attainment: 1, watt_hours: 1, p99_s: 0.1 }));
    const answer = { state: "ready", age_ms: 0, requests: 1, span_ms: 0, best: 1, reason: null, cases };
    await page.route("**/api/whatif", (route) => route.fulfill({ json: answer }));
    await page.getByTestId("whatif").locator("summary").click();
    const error = page.locator("#settings-error");
    for (const [setting, then] of [["listen = \"127.0.0.1:1\"", "restart the server"], ["adapters.max = 2", "send SIGHUP"]]) {
      await caseOf(page, setting).getByTestId("whatif-apply").click();
      await waitFor("the error", async () => (await error.textContent()).includes(`write \`${setting}\` to the configuration file and ${then}`));
    }
    assert.equal(await caseOf(page, "adapters.min = 1").getByTestId("whatif-apply").count(), 0);
    assert.equal(await changes(page).count(), 0);
  }, { expected: /status of 422/ }));
});
