import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { BalanceMonitor, MTAdam } from "../../../lib";
import { temporaryFolder } from "../../support/folder";

// The program of docs/monitor.md, with a stand-in for the writer of event files.

const folder = temporaryFolder();

const WRITER = `
class SummaryWriter:
    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        return self

    def __exit__(self, *_):
        print("closed", self.folder)

    def add_scalar(self, name, value, step, time):
        print(name, value, step, time > 1e9)
`;

test("docs/monitor.md's program gives values and balances to TensorBoard's writer", async () => {
  const page = readFileSync(path.join(__dirname, "../../../docs/monitor.md"), "utf8");
  const [, program] = /^```py\n([^]*?)^```$/m.exec(page)!;
  const module = path.join(folder, "torch", "utils");
  mkdirSync(module, { recursive: true });
  writeFileSync(path.join(module, "tensorboard.py"), WRITER);
  writeFileSync(path.join(folder, "program.py"), program!);

  const file = path.join(folder, "run.jsonl");
  const parameters = ["a", "b"].map((name) => ({ name, data: new Float32Array(1) }));
  const optimizer = new MTAdam(parameters, { terms: ["left", "right"] });
  const monitor = new BalanceMonitor(optimizer, { file, every: 1 });
  monitor.record({ left: 0.5 });
  optimizer.step({ left: [Float32Array.of(4), Float32Array.of(2)], right: { b: Float32Array.of(8) } });
  await monitor.close();
  writeFileSync(file, '{"iteration":2,"val', { flag: "a" });

  const { stdout, stderr } = spawnSync("python3", ["program.py", file, "events"], {
    cwd: folder,
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  const lines = stdout.trim().split("\n");
  expect(lines.at(-1)).toBe("closed events");
  expect(lines).toContain("left 0.5 1 True");
  expect(lines).toContain("norms/a/left 4 1 True");
  expect(lines).toContain("scales/b/right 0.25 1 True");
  expect(lines).toContain("shares/b/right 0.5 1 True");
  expect(lines.filter((line) => line.includes("/a/right"))).toEqual([]); // it never occurred there
});
