import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { openTorch, type PythonValue, type TorchModel } from "mtadam/torch";
import { ROOT } from "../common/root.mjs";

const MODELS = join(ROOT, "bench/paper/models");

/** The C library keeps the memory of PyTorch's temporaries, rather than getting it from the kernel each time. */
const KEEPS_MEMORY = { MALLOC_MMAP_MAX_: "0", MALLOC_TRIM_THRESHOLD_: String(2 ** 32) };

/** The sources of models and of what they import from each other, one after another. */
export function sourcesOf(...names: string[]): string {
  const found = new Map<string, string>();
  const add = (name: string) => {
    const path = join(MODELS, `${name}.py`);
    if (found.has(name) || !existsSync(path)) return;
    const source = readFileSync(path, "utf8");
    found.set(name, source);
    for (const [, imported] of source.matchAll(/^from (\w+) import /gm)) add(imported!);
  };
  names.forEach(add);
  return [...found.values()].join("");
}

/** Opens a model of the folder `models`. `MTADAM_PYTHON` names a Python with PyTorch; otherwise it is `python3`. */
export function openModel(name: string, args: Record<string, PythonValue>): Promise<TorchModel> {
  const python = process.env["MTADAM_PYTHON"] ?? "python3";
  return openTorch(join(MODELS, `${name}.py`), { python, args, env: KEEPS_MEMORY });
}
