// The page in front of the real server with three software adapters.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { LOST, bandsAt, card, draw, openBrowser, startLoad, waitForCard, whyOf, withPage } from "./page.mjs";
import { ELASTIC, FIRST, ROOT, SECOND, SOFTWARE, THIRD, releaseMachine, startServer, takeMachine, waitFor } from "./server.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const MARKUP = "<img src=x onerror=window.__xss=1>";
const ON = ["starting", "loading", "idle", "busy"];

const machine = await takeMachine();

describe("the page", { skip: !machine, timeout: 1_800_000 }, () => {
  let browser;
  let server;

  before(async () => {
    browser = await openBrowser();
    server = await startServer(machine, { config: ELASTIC });
  });

  after(async () => {
    await browser?.close();
    await server?.end();
    releaseMachine();
  });

  /** Every test begins with all adapters off and in mode `auto`. */
  const onPage = async (use, options) => {
    for (const id of SOFTWARE) await server.setMode(id, "auto");
    await server.waitForAllOff();
    await withPage(browser, server.url, use, options);
  };

  it("is sent with a strict policy", async () => {
    const response = await fetch(server.url);
    const policy = response.headers.get("content-security-policy");
    assert.match(policy, /default-src 'none'/);
    assert.match(policy, /script-src 'self'/);
    assert.match(policy, /frame-ancestors 'none'/);
    assert.doesNotMatch(policy, /unsafe|\*|https?:|data:/);
    assert.equal(response.headers.get("x-content-type-options"), "nosniff");
  });

  it("shows every adapter and why it is off or not used", () => onPage(async (page) => {
    const { adapters } = await server.snapshot();
    assert.equal(await page.getByTestId("adapter-card").count(), adapters.length);
    for (const { id, name, state, reason } of adapters) {
      assert.equal(await card(page, id).getAttribute("data-state"), state);
      assert.equal(await card(page, id).locator("h3").textContent(), name);
      assert.ok((await whyOf(page, id)).includes(state === "unused" ? reason : "Off"), await whyOf(page, id));
    }
    assert.match(await whyOf(page, "cpu"), /^Not used: .*cpu/i);
    assert.equal(await bandsAt(page), 0);
  }));

  it("shows adapters turn on for a load, and why, and off again", () => onPage(async (page) => {
    await startLoad(page, { concurrency: 24, seconds: 60 });
    const others = () => Promise.all(SOFTWARE.map(async (id) => ({ id, state: await card(page, id).getAttribute("data-state") })));
    await waitFor("a second adapter turns on", async () => (await others()).filter(({ state }) => ON.includes(state)).length >= 2);
    await waitFor("two adapters work", async () => (await others()).filter(({ state }) => state === "busy").length >= 2);
    await waitFor("the bands grow", async () => (await bandsAt(page)) >= 2);
    const { decisions } = await server.snapshot();
    const started = decisions.filter(({ change, reason }) => change === "start" && reason === "latency_target").at(-1);
    const row = page.locator(`[data-testid=decision][data-seq="${started.seq}"]`);
    await row.waitFor();
    assert.ok((await row.textContent()).includes("latency_target"));
    assert.ok((await row.textContent()).includes(started.text));
    const why = await whyOf(page, started.adapter);
    assert.ok(why.includes(started.text), `${why}\n${started.text}`);
    assert.match(await page.getByTestId("load-status").textContent(), /24 at once/);
    await withPage(browser, server.url, async (other) => {
      const field = (name) => other.getByTestId(name).inputValue();
      await waitFor("another page's fields show the load", async () => (await field("load-concurrency")) === "24" && (await field("load-seconds")) === "60");
    });
    await page.getByTestId("load-stop").click();
    for (const id of SOFTWARE) await waitForCard(page, id, ["off"]);
    await waitFor("the bands are gone", async () => (await bandsAt(page)) === 0);
    assert.match(await page.getByTestId("load-status").textContent(), /^Done: .* 0 failed/);
    assert.match(await whyOf(page, started.adapter), /idle for .* a start/);
  }));

  it("shows the cost of other settings", () => onPage(async (page) => {
    await server.infer();
    await page.getByTestId("whatif").locator("summary").click();
    const cases = page.getByTestId("whatif-case");
    await waitFor("the cases", async () => (await cases.count()) >= 2);
    assert.match(await cases.first().textContent(), /^with the present settings\d+\.\d\d %[\d.,]+ (J|Wh)/);
    assert.match(await cases.last().textContent(), /with every adapter on.*adapters\.min = \d/);
    const { cases: expected } = await server.call("GET", "/api/whatif");
    assert.equal(await cases.count(), expected.length);
  }));

  it("turns an adapter off by hand, and requests avoid it", () => onPage(async (page) => {
    await server.infer();
    const { id } = (await server.software()).find(({ state }) => state !== "off");
    await card(page, id).getByTestId("mode-off").click();
    await waitForCard(page, id, ["off"]);
    assert.equal(await whyOf(page, id), "Off: turned off by the operator");
    assert.equal(await card(page, id).getByTestId("mode-off").getAttribute("aria-pressed"), "true");
    const before = (await server.adapter(id)).requests;
    const answers = await Promise.all(Array.from({ length: 8 }, () => server.infer()));
    assert.deepEqual(answers.map(({ status }) => status), Array(8).fill(200));
    assert.ok(answers.every(({ adapter }) => adapter && !adapter.split(",").includes(id)), JSON.stringify(answers));
    assert.equal((await server.adapter(id)).requests, before);
    assert.equal(await card(page, id).getAttribute("data-state"), "off");
  }));

  it("shows a dead worker's adapter in quarantine, and its recovery", () => onPage(async (page) => {
    await card(page, THIRD).getByTestId("mode-on").click();
    await waitForCard(page, THIRD, ["idle"]);
    process.kill((await server.adapter(THIRD)).pid, "SIGKILL");
    await waitForCard(page, THIRD, ["quarantined"]);
    const why = await whyOf(page, THIRD);
    assert.match(why, /^Failed .*: .*(ended unexpectedly|other side is gone)/);
    await waitForCard(page, THIRD, ["idle"]);
    await page.getByTestId("decision").filter({ hasText: "Quarantine" }).first().waitFor();
  }));

  it("reads a digit that is drawn with the mouse", () => onPage(async (page) => {
    await draw(page, [[0.26, 0.22], [0.5, 0.2], [0.74, 0.21], [0.6, 0.5], [0.48, 0.85]]);
    await waitFor("the answer", async () => (await page.locator("#answer-digit").textContent()) === "7");
    await page.getByTestId("pad-clear").click();
    await draw(page, [[0.53, 0.15], [0.5, 0.5], [0.46, 0.85]]);
    await waitFor("the next answer", async () => (await page.locator("#answer-digit").textContent()) === "1");
    await waitFor("the adapter that answered", async () => /lvp|llvmpipe|SwiftShader/i.test(await page.locator("#answer-by").textContent()));
  }));

  it("reads an image that is sent as a file, and draws where the lines are", async () => {
    const reader = await startServer(machine, { args: ["--only", "cpu", "--cpu", "auto"] });
    try {
      await withPage(browser, reader.url, async (page) => {
        await page.locator("#play-model").selectOption("ocr");
        await page.getByTestId("play-file").setInputFiles(join(ROOT, "examples/page.png"));
        await waitFor("the lines", async () => (await page.locator("#answer-found li").count()) === 4);
        assert.match(await page.locator("#answer-found").innerText(), /^Every GPU in the box\n/);
        const canvas = page.locator("#answer-picture");
        await canvas.waitFor();
        const red = await canvas.evaluate((node) => {
          const { data } = node.getContext("2d").getImageData(0, 0, node.width, node.height);
          return data.filter((value, at) => at % 4 === 0 && value > 180 && data[at + 1] < 110).length;
        });
        assert.ok(red > 500, `${red} red pixels`);
      });
    } finally {
      await reader.end();
    }
  });

  it("reconnects after a restart of the server", () => onPage(async (page) => {
    const { port } = server;
    const connection = (state) => waitFor(`the page is ${state}`, async () => (await page.getByTestId("connection").getAttribute("data-state")) === state);
    await connection("connected");
    await server.setMode(FIRST, "on");
    await waitForCard(page, FIRST, ["idle"]);
    await server.end();
    await connection("reconnecting");
    server = await startServer(machine, { config: ELASTIC, port });
    await connection("connected");
    await waitForCard(page, FIRST, ["off"]);
    assert.equal(await page.getByTestId("decision").count(), 0, "decisions of the old process");
  }, { expected: LOST }));

  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1360, 375]) {
      it(`is accessible in ${colorScheme}, ${width} px wide`, () => onPage(async (page) => {
        await card(page, SECOND).getByTestId("mode-on").click();
        await waitForCard(page, SECOND, ["idle"]);
        await card(page, SECOND).locator("summary").click();
        await page.getByRole("button", { name: "Sample of a 7" }).click();
        await waitFor("the answer", async () => (await page.locator("#answer-digit").textContent()) === "7");
        assert.deepEqual(await violations(page), []);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "wider than the window");
      }, { colorScheme, viewport: { width, height: 900 } }));
    }
  }

  it("shows markup in names and errors as text", async () => {
    const models = repository();
    const hostile = await startServer(machine, { config: ELASTIC, models });
    try {
      await withPage(browser, hostile.url, async (page) => {
        await page.getByTestId("model-row").first().waitFor();
        const rows = await page.getByTestId("model-row").allTextContents();
        assert.ok(rows.some((row) => row.includes("echo") && row.includes("ready")), rows.join("\n"));
        // Markup is a valid name; the buttons send it to the server.
        const named = page.locator(`[data-testid=model-row][data-model=${JSON.stringify(MARKUP)}]`);
        assert.match(await named.textContent(), /ready/);
        const reloads = [];
        page.on("response", (response) => { if (response.url().endsWith(`/${encodeURIComponent(MARKUP)}/load`)) reloads.push(response.status()); });
        await named.getByTestId("model-reload").click();
        await waitFor("the answer to the reload", () => reloads.length === 1);
        assert.deepEqual(reloads, [200]);
        // The error about an invalid file contains the markup in it.
        const broken = page.locator("[data-testid=model-row][data-model=alien]");
        assert.match(await broken.textContent(), /unavailable/);
        await broken.getByTestId("model-load").click();
        await broken.locator("[role=alert]:not([hidden])").waitFor();
        const text = await page.locator("#models").textContent();
        assert.ok(text.split(MARKUP).length > 2, text);
        assert.equal(await page.locator("#models img, #models script").count(), 0);
        assert.equal(await page.evaluate(() => globalThis.__xss), undefined);
      }, { expected: /status of 422/ });
    } finally {
      await hostile.end();
      rmSync(models, { recursive: true, force: true });
    }
  });
});

/** The violations that axe reports as serious or critical. */
async function violations(page) {
  await page.evaluate(`${AXE};0`);
  const found = await page.evaluate(() => globalThis.axe.run());
  const grave = found.violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  return grave.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(({ html }) => html).join(" ")}`);
}

/** A good model, one with markup as the name of its folder, and one with markup in its model.toml. */
function repository() {
  const folder = mkdtempSync(join(tmpdir(), "concertina-dashboard-models-"));
  const tensor = (table) => `[[${table}]]\nname = "x"\ndatatype = "FP32"\nshape = [4]\n`;
  const add = (name, toml) => {
    mkdirSync(join(folder, name, "1"), { recursive: true });
    writeFileSync(join(folder, name, "model.toml"), toml);
  };
  add("echo", `kind = "identity"\n${tensor("inputs")}${tensor("outputs")}`);
  add(MARKUP, `kind = "identity"\n${tensor("inputs")}${tensor("outputs")}`);
  add("alien", `kind = "${MARKUP}"\n${tensor("inputs")}${tensor("outputs")}`);
  return folder;
}
