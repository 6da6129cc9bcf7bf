import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { openTorch } from "../../lib/torch";
import type { TorchModel, TorchOptions } from "../../lib/torch";
import { temporaryFolder } from "./folder";

/** A Python with PyTorch; undefined where there is none. Debian's package belongs to /usr/bin/python3. */
export const python = [process.env["MTADAM_PYTHON"], "python3", "/usr/bin/python3"].find(
  (name) => name !== undefined && spawnSync(name, ["-c", "import torch"]).status === 0,
);

/** Tests that need PyTorch. Without it they are skipped, except where MTADAM_REQUIRE_TORCH is set, as in CI. */
export function withTorch(what: string, body: () => void): void {
  if (python !== undefined) {
    describe(what, body);
    return;
  }
  const advice = "needs a python3 with PyTorch (Debian: apt-get install python3-torch; or set MTADAM_PYTHON)";
  if (process.env["MTADAM_REQUIRE_TORCH"]) throw new Error(`${what}: ${advice}`);
  process.stderr.write(`skipped: ${what} ${advice}\n`);
  describe.skip(what, body);
}

/** A model of one parameter w of two elements, and one term. Methods are added with four spaces before each line. */
export const SMALL = `
import torch
from torch import nn

class Model(nn.Module):
    terms = ["size"]

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -2.0]))

    def losses(self, batch):
        return {"size": self.w.square().sum()}
`;

/** Model files in a folder of one file's tests, and models, which are closed after all of them. */
export class Models {
  readonly #folder = temporaryFolder();
  readonly #open: TorchModel[] = [];
  #count = 0;

  constructor() {
    afterAll(async () => {
      await Promise.all(this.#open.map((model) => model.close()));
    });
  }

  /** Writes a file of its own. */
  file(text: string): string {
    this.#count += 1;
    const file = path.join(this.#folder, `model${this.#count}.py`);
    writeFileSync(file, text);
    return file;
  }

  async open(text: string, options: TorchOptions = {}): Promise<TorchModel> {
    const model = await openTorch(this.file(text), { python, ...options });
    this.#open.push(model);
    return model;
  }
}
