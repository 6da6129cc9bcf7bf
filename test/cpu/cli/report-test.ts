import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { install } from "../../support/installed";

const installed = install();
const file = path.join(installed.folder, "run.jsonl");
writeFileSync(file, '{"format":"mtadam-monitor","version":1,"terms":["a"],"layers":["w"]}\n');

test("writes the page beside the file, or where -o says", () => {
  const page = path.join(installed.folder, "run.html");
  expect(installed.mtadam(["report", file])).toEqual({ status: 0, stdout: `Report: ${page}\n`, stderr: "" });
  expect(readFileSync(page, "utf8")).toContain("<title>Balance of run</title>");
  const other = path.join(installed.folder, "other.html");
  const { status } = installed.mtadam(["report", file, file, "-o", other, "--title", "A <title>"]);
  expect(status).toBe(0);
  expect(readFileSync(other, "utf8")).toContain("<title>A &#60;title&#62;</title>");
});

test.each([
  [[], /^`mtadam report` must get the file of a BalanceMonitor\.\n$/],
  [[file, "--port", "1"], /^--port is for `mtadam report --watch`\.\n$/],
  [[file, "--watch", "--port", "70000"], /^--port must be a number from 0 to 65535; got "70000"\.\n$/],
  [[file, "--watch", "-o", "page.html"], /^`mtadam report --watch` takes no --output and no --title\.\n$/],
  [[file, "--colour"], /--colour/],
])("an invalid command line %j is exit code 2", (args, message) => {
  const { status, stdout, stderr } = installed.mtadam(["report", ...args]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  expect(stderr).toMatch(message);
});

test("a file that is missing, or not a monitor's, is exit code 1 and one line", () => {
  const foreign = path.join(installed.folder, "foreign.txt");
  writeFileSync(foreign, "hello\n");
  const page = path.join(installed.folder, "none.html");
  for (const [name, message] of [
    [path.join(installed.folder, "missing.jsonl"), /^Error: ENOENT: .*\n$/],
    [foreign, /^".*foreign.txt" is not a file of a BalanceMonitor\.\n$/],
  ] as const) {
    const { status, stdout, stderr } = installed.mtadam(["report", name, "-o", page]);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toMatch(message);
  }
  expect(existsSync(page)).toBe(false);
});

test("--watch serves the page until Ctrl-C", async () => {
  const main = path.join(installed.package, "dist", "cli", "main.js");
  const child = spawn(process.execPath, [main, "report", "--watch", file], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  const url = /^Report: (http:\/\/127\.0\.0\.1:\d+\/) \(Ctrl-C ends it\)\n$/.exec(line.toString())![1]!;
  expect(await (await fetch(url)).text()).toContain('<html lang="en" data-watch>');
  const ended = once(child, "exit");
  child.kill("SIGINT");
  expect(await ended).toEqual([0, null]);
});
