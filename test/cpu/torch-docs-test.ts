import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { temporaryFolder } from "../support/folder";
import { python, withTorch } from "../support/torch";

const root = path.join(__dirname, "../..");
const page = readFileSync(path.join(root, "docs/torch.md"), "utf8");

/** The blocks of code by the name in their first line. */
const blocks = new Map(
  Array.from(page.matchAll(/^```(?:py|js)\n(?:#|\/\/) (\S+)\n[^]*?^```$/gm), ([block, name]) => [
    name!,
    block.split("\n").slice(1, -1).join("\n"),
  ]),
);

test("every program of docs/torch.md has a name", () => {
  expect(page.match(/^```(py|js)$/gm)).toHaveLength(blocks.size);
});

withTorch("docs/torch.md", () => {
  const folder = temporaryFolder();

  beforeAll(() => {
    for (const [name, text] of blocks) writeFileSync(path.join(folder, name), text);
    mkdirSync(path.join(folder, "node_modules"));
    symlinkSync(root, path.join(folder, "node_modules", "mtadam"));
    writeFileSync(path.join(folder, "python3"), `#!/bin/sh\nexec ${python} "$@"\n`);
    chmodSync(path.join(folder, "python3"), 0o755);
  });

  /** The output of a program of the page. */
  function run(name: string): string {
    const { status, stdout, stderr } = spawnSync(process.execPath, [name], {
      cwd: folder,
      encoding: "utf8",
      env: { ...process.env, PATH: `${folder}${path.delimiter}${process.env["PATH"]}` },
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    return stdout;
  }

  const outputs: Record<string, (output: string) => void> = {
    "train.mjs": (output) => {
      const fits = Array.from(output.matchAll(/fit: ([\d.]+)/g), ([, fit]) => Number(fit));
      expect(fits).toHaveLength(4);
      expect(fits[3]).toBeLessThan(fits[0]!);
      expect(output).toMatch(/\{ data: Float32Array\(1\) \[ [\d.]+ \], shape: \[ 1, 1 \] \}\n$/);
    },
    "layers.mjs": (output) => {
      expect(output).toBe("[ 'layer inner', 'layer outer' ]\n");
    },
    "micro-batches.mjs": (output) => {
      expect(output).toBe("1\n");
    },
    "saved.mjs": (output) => {
      expect(output).toMatch(/^10 \{/);
      const files = ["model.pt", "optimizer.safetensors"].map((name) => path.join(folder, name));
      const resumed = run("saved.mjs");
      expect(resumed).toMatch(/^20 \{/);
      for (const file of files) rmSync(file);
      const text = readFileSync(path.join(folder, "saved.mjs"), "utf8");
      writeFileSync(path.join(folder, "at-once.mjs"), text.replace("iterations + 10", "iterations + 20"));
      expect(run("at-once.mjs")).toBe(resumed);
    },
    "half.mjs": (output) => {
      expect(output).toMatch(/^\{ fit: [\d.e-]+, smooth: [\d.e-]+ \} bfloat16\n$/);
    },
    "gan.mjs": (output) => {
      expect(output).toMatch(/^\{ fool: [\d.]+, middle: [\d.]+ \}\n$/);
    },
    "time-limit.mjs": (output) => {
      expect(output).toMatch(
        /^ERR_MTADAM_TORCH `gradients` raised KeyError: 'y' \(model\.py, line 23\) Traceback/,
      );
    },
  };

  test.each([...blocks.keys()].filter((name) => name.endsWith(".mjs")))("%s runs", (name) => {
    outputs[name]!(run(name));
  });
});
