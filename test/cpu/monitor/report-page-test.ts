/** The report in a browser. */

import { linkSync, readFileSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import type { Server } from "node:http";
import path from "node:path";
import { pathToFileURL } from "node:url";
import type { Page } from "playwright-core";
import { BalanceMonitor, MTAdam, writeReport } from "../../../lib";
import { serveReport } from "../../../lib/monitor/server";
import { caught } from "../../support/caught";
import { withChromium } from "../../support/chromium";
import { temporaryFolder } from "../../support/folder";
import { HOSTILE, recordRun } from "../../support/monitored";

const folder = temporaryFolder();
const run = path.join(folder, "run.jsonl");
const page = path.join(folder, "report.html");
const NOTE = "A note about the <i>run</i> & its terms";

beforeAll(async () => {
  await recordRun(run);
  await writeReport([run], page, { title: `Title ${HOSTILE}`, notes: [NOTE] });
});

test("is one file that needs nothing else", () => {
  const html = readFileSync(page, "utf8");
  expect(html.match(/<(script|link|img|iframe)\b[^>]*\b(src|href)=/g)).toBeNull();
  expect(html).not.toContain(HOSTILE);
  expect(html).toMatch(
    /Content-Security-Policy" content="default-src 'none'; script-src 'sha256-[^;]+; style-src 'sha256-/,
  );
  expect(html.length).toBeLessThan(200_000);
});

test.each([
  [[], /^`files` must be an array of paths/],
  ["run.jsonl", /^`files` must be an array of paths/],
  [[5], /^`files\[0\]` must be the path of a file/],
  [[folder], /^`files\[0\]` must be the path of a regular file/],
] as const)("refuses %j as files", async (files, message) => {
  expect(await caught(() => writeReport(files as never, page))).toMatchObject({
    code: "ERR_MTADAM_OPTION",
    message: expect.stringMatching(message) as string,
  });
});

test("does not replace a file that it reads", async () => {
  const before = readFileSync(run);
  const link = path.join(folder, "link.jsonl");
  linkSync(run, link);
  for (const to of [run, pathToFileURL(run), link]) {
    expect(await caught(() => writeReport([run], to))).toMatchObject({
      code: "ERR_MTADAM_OPTION",
      message: expect.stringMatching(/^`to` must be another file than those that are read; got /) as string,
    });
  }
  expect(readFileSync(run)).toEqual(before);
});

test.each([{ title: 5 }, { notes: "text" }, { notes: [5] }, { notes: null }])(
  "refuses %j",
  async (options) => {
    const error = await caught(() => writeReport([run], page, options as never));
    expect(error.code).toBe("ERR_MTADAM_OPTION");
  },
);

withChromium("the page", (browser) => {
  /** The page in a window, and what it has written to the console. */
  async function open(
    url = pathToFileURL(page).href,
    { dark = false, width = 1180 } = {},
  ): Promise<{ view: Page; errors: string[] }> {
    const view = await browser().newPage({
      colorScheme: dark ? "dark" : "light",
      viewport: { width, height: 900 },
    });
    const errors: string[] = [];
    view.on("console", (message) => errors.push(message.text()));
    view.on("pageerror", (error) => errors.push(error.message));
    view.on("dialog", (dialog) => {
      errors.push("a dialog");
      void dialog.dismiss();
    });
    await view.goto(url);
    return { view, errors };
  }

  /** The part of the DOM's type that is used here. */
  interface Canvas {
    width: number;
    height: number;
    getContext(kind: "2d"): { getImageData(...box: number[]): { data: Uint8ClampedArray } };
  }

  /** How many different colours a canvas has. */
  const coloursOf = (view: Page, label: string): Promise<number> =>
    view.getByLabel(label, { exact: true }).evaluate((element) => {
      const canvas = element as unknown as Canvas;
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return new Set(new Uint32Array(data.buffer)).size;
    });

  const moveTo = (view: Page, column: number): Promise<void> => view.getByLabel("Step").fill(String(column));

  test.each([
    ["light, wide", { dark: false, width: 1180 }],
    ["dark, wide", { dark: true, width: 1180 }],
    ["light, 500 px", { dark: false, width: 500 }],
    ["dark, 500 px", { dark: true, width: 500 }],
  ])("draws every chart: %s", async (_, options) => {
    const { view, errors } = await open(undefined, options);
    expect(await view.locator("h1").textContent()).toBe(`Title ${HOSTILE}`);
    expect(await view.locator("main > p").allTextContents()).toEqual([NOTE]);
    expect(await view.locator("figcaption").allTextContents()).toEqual([
      "Losses",
      "recall",
      "Learning rate",
      "Effective weight of each term",
      ...new Array<string[]>(5).fill(["before balancing", "after balancing"]).flat(),
      "Anchor of each layer",
      ...["conv1.weight", "conv1.bias", "conv2.weight", "dense.weight", HOSTILE],
    ]);
    for (const label of [
      "conv1.weight, share before",
      "conv1.weight, share after",
      "Cosines in conv1.bias",
    ]) {
      expect(await coloursOf(view, label)).toBeGreaterThan(10);
    }
    expect(await coloursOf(view, "The anchor's term per layer")).toBeGreaterThan(2);
    expect(await view.locator(".area path").count()).toBe(3 + 2 + 1 + 3);
    expect(await view.locator(".area path[d='']").count()).toBe(0);
    // Nothing is wider than the window.
    expect(await view.evaluate("document.documentElement.scrollWidth")).toBe(options.width);
    const paper = await view.evaluate("getComputedStyle(document.body).backgroundColor");
    expect(paper).toBe(options.dark ? "rgb(20, 23, 26)" : "rgb(252, 252, 251)");
    expect(errors).toEqual([]);
    await view.close();
  });

  test("tells lines apart without colours", async () => {
    const { view } = await open();
    const losses = await view.locator("figure", { hasText: "Losses" }).locator(".area path").all();
    const dashes = await Promise.all(losses.map((path) => path.getAttribute("stroke-dasharray")));
    expect(new Set(dashes).size).toBe(3);
    await view.close();
  });

  test("has a slider that moves the cursors, the legends and the table", async () => {
    const { view, errors } = await open();
    const seen = async (): Promise<unknown[]> => [
      await view.locator("section h2").last().textContent(),
      await view.locator("figure", { hasText: "Losses" }).locator("li").first().textContent(),
      await view.locator("tbody tr").first().locator("td").nth(2).textContent(),
      Math.round((await view.locator(".cursor").first().boundingBox())!.x),
    ];
    const end = await seen();
    await moveTo(view, 0);
    const start = await seen();
    expect(start[0]).toBe("Step 5");
    expect(end[0]).toBe("Step 600");
    for (const [k, value] of start.entries()) expect(value).not.toBe(end[k]);
    // The pointer moves it, too.
    const area = (await view.locator(".area").first().boundingBox())!;
    await view.mouse.click(area.x + area.width / 2, area.y + 20);
    expect(await view.locator("section h2").last().textContent()).toBe("Step 305");
    await view.getByLabel("conv1.weight, share after").hover({ position: { x: 1, y: 20 } });
    expect(await view.locator("output").textContent()).toMatch(
      /^step 5: conv1.weight, share after, style: 0\.\d+$/,
    );
    expect(errors).toEqual([]);
    await view.close();
  });

  test("filters layers", async () => {
    const { view, errors } = await open();
    await view.getByLabel("Layers").fill("CONV1");
    expect(await view.locator("h3").allTextContents()).toEqual(["conv1.weight", "conv1.bias"]);
    expect(await view.locator("tbody tr").count()).toBe(6);
    await view.getByLabel("Layers").fill("no such layer");
    expect(await view.locator("h3").count()).toBe(0);
    expect(errors).toEqual([]);
    await view.close();
  });

  test("shows the layers of a large model on demand", async () => {
    const layers = Array.from({ length: 30 }, (_, k) => `layer ${k}`);
    const pairs = new Array<number>(60).fill(0.5);
    const names = ["norms", "scales", "sharesBefore", "shares", "skipped"];
    const record = {
      iteration: 1,
      time: 0,
      lr: [1],
      values: {},
      effectiveWeights: [1, 1],
      anchors: layers.map(() => 0),
    };
    const large = path.join(folder, "large.jsonl");
    const header = { format: "mtadam-monitor", version: 1, terms: ["a", "b"], layers };
    const full = { ...record, ...Object.fromEntries(names.map((name) => [name, pairs])) };
    writeFileSync(large, `${JSON.stringify(header)}\n${JSON.stringify(full)}\n`);
    const file = path.join(folder, "large.html");
    await writeReport([run, large], file);
    const { view, errors } = await open(pathToFileURL(file).href);
    await view.getByLabel("Run").selectOption("large");
    expect(await view.locator("h3").count()).toBe(8);
    await view.getByText("Show 22 more layers").click();
    expect(await view.locator("h3").count()).toBe(30);
    expect(await view.getByRole("button").count()).toBe(0);
    expect(errors).toEqual([]);
    await view.close();
  });

  test("shows a run whose gradients are all 0, and one with a thousand values", async () => {
    const file = path.join(folder, "unusual.jsonl");
    const optimizer = new MTAdam([new Float32Array(2)], { terms: ["a", "b"], lr: 0.1 });
    const monitor = new BalanceMonitor(optimizer, { file, every: 1 });
    const recalls = Object.fromEntries(Array.from({ length: 1000 }, (_, k) => [`recall/${k}`, k]));
    for (let step = 0; step < 240; ++step) {
      monitor.record(recalls);
      optimizer.step([[new Float32Array(2)], [new Float32Array(2)]]);
    }
    await monitor.close();
    const to = path.join(folder, "unusual.html");
    await writeReport([file], to);
    const { view, errors } = await open(pathToFileURL(to).href);
    expect(errors).toEqual([]);
    await view.getByRole("heading", { name: "Step 240" }).waitFor();
    expect(await view.locator("figure", { hasText: "recall" }).locator(".legend li").count()).toBe(1000);
    await view.close();
  });

  test("follows a file that grows", async () => {
    const growing = path.join(folder, "growing.jsonl");
    const lines = readFileSync(run, "utf8").split("\n");
    const write = (count: number): void => writeFileSync(growing, lines.slice(0, count).join("\n"));
    write(0);
    const { server, url } = await serveReport([growing], 0);
    const { view, errors } = await open(url);
    expect(await view.locator("main").textContent()).toContain("There are no records yet.");
    write(11);
    await view.getByRole("heading", { name: "Step 50" }).waitFor();
    await moveTo(view, 2);
    write(21);
    await view.getByText("20 records").waitFor();
    expect(await view.locator("section h2").last().textContent()).toBe("Step 15");
    expect(errors).toEqual([]);
    await view.close();
    await ended(server);
  });
});

async function ended(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

describe("the server", () => {
  const answer = (
    url: string,
    headers: Record<string, string> = {},
    method = "GET",
  ): Promise<[number, string]> =>
    new Promise((resolve, reject) => {
      get(url, { headers, method }, (response) => {
        let text = "";
        response.on("data", (chunk: Buffer) => (text += chunk.toString()));
        response.on("end", () => resolve([response.statusCode!, text]));
      }).on("error", reject);
    });

  test("listens on the loopback interface, for requests to it alone", async () => {
    const { server, url } = await serveReport([run], 0);
    expect(server.address()).toMatchObject({ address: "127.0.0.1" });
    const [status, html] = await answer(url);
    expect([status, html.startsWith("<!doctype html>")]).toEqual([200, true]);
    expect(html).toContain("connect-src 'self'");
    expect(JSON.parse((await answer(`${url}data.json`))[1])).toMatchObject({ runs: [{ name: "run" }] });
    expect((await answer(`${url}run.jsonl`))[0]).toBe(404);
    expect((await answer(url, { host: "evil.example" }))[0]).toBe(403);
    expect((await answer(url, { host: `localhost:${new URL(url).port}` }))[0]).toBe(200);
    expect((await answer(url, {}, "POST"))[0]).toBe(403);
    for (const [site, status] of [
      ["none", 200],
      ["same-origin", 200],
      ["same-site", 403],
      ["cross-site", 403],
    ] as const) {
      expect((await answer(`${url}data.json`, { "sec-fetch-site": site }))[0]).toBe(status);
    }
    await ended(server);
  });

  test("answers with an error while the file cannot be read, and goes on", async () => {
    const missing = path.join(folder, "missing.jsonl");
    const { server, url } = await serveReport([missing], 0);
    expect(await answer(url)).toEqual([500, expect.stringContaining("ENOENT")]);
    writeFileSync(missing, readFileSync(run));
    expect((await answer(url))[0]).toBe(200);
    await ended(server);
  });
});
