/**
 * Calls that end in the middle without running `finally`: by a time-out of node:vm, or equally by Ctrl-C in the REPL.
 * Afterwards, the optimizer works and is as before the call or as after it.
 *
 * Takes three seconds. `MTADAM_INTERRUPTIONS=2000` interrupts that number of calls.
 */

import vm from "node:vm";
import { MTAdam, type MTAdamError, type StateDict } from "../../lib";
import { Generation } from "../../lib/generation";
import { GradientTable } from "../../lib/gradients";
import { SourceList } from "../../lib/memory/source-list";
import { codeOf } from "../support/caught";
import { device, type Buffer32 } from "../support/scene";

const TENSORS = 40;
const fill = (value: number, length = 8): Buffer32 => device.buffer(new Float32Array(length).fill(value));

class Stage {
  readonly parameters = Array.from({ length: TENSORS }, () => fill(0));
  readonly gradients = [1, 2, 3].map((value) => this.parameters.map(() => fill(value)));
  readonly more = [-4, -5].map((value) => fill(value));
  readonly optimizer = new MTAdam(
    this.parameters.map((data, k) => ({ parameters: [{ name: `p${k}`, data }] })),
    { terms: ["a", "b"] },
  );
  readonly prepared = this.optimizer.prepare(this.gradients.slice(0, 2));
  saved: StateDict | undefined;
  /** The parameters to add, one after the other. */
  readonly added = Array.from({ length: 50 }, () => fill(0, 3));

  /** Runs code over and over until it is interrupted. */
  interrupt(code: string): void {
    const { optimizer: o, gradients: g, more, prepared, saved, added } = this;
    const context = vm.createContext({ o, g, more, prepared, saved, added, k: 0 });
    expect(() => {
      vm.runInContext(`for (;; ++k) { ${code} }`, context, { timeout: 1 + Math.floor(Math.random() * 3) });
    }).toThrow(expect.objectContaining({ code: "ERR_SCRIPT_EXECUTION_TIMEOUT" }) as Error);
  }

  /** Ends the step or restore that the interrupted call left open. @returns which of them it was */
  async close(): Promise<"open" | "unrestored" | "nothing"> {
    try {
      await this.optimizer.stateDict();
      return "nothing";
    } catch (error) {
      const { code, message } = error as MTAdamError;
      expect(code).toBe("ERR_MTADAM_STATE");
      if (message.includes("a step is open")) {
        this.optimizer.discard();
        return "open";
      }
      expect(message).toMatch(/must restore the whole state/);
      await this.optimizer.loadStateDict(this.saved!);
      return "unrestored";
    }
  }

  /** A plain step with the current terms and parameters. */
  step(): void {
    const lengths = this.optimizer.paramGroups.flatMap(({ parameters }) => parameters).map(lengthOf);
    this.optimizer.step(this.optimizer.terms.map(() => lengths.map((length) => fill(1, length))));
  }
}

const lengthOf = (name: string): number => (name.startsWith("p") ? 8 : 3);
const clockOf = (state: StateDict): number => Math.max(...Array.from(state["t"] as BigInt64Array, Number));

const CALLS: Readonly<Record<string, string>> = {
  step: "o.step(g.slice(0, 2))",
  "step, prepared": "o.step(prepared)",
  "prepared.set": "prepared.set(k % 2, k % 40, more[k % 2]); o.step(prepared)",
  "accumulate and update": "o.accumulate(0, g[0]); o.accumulate(1, g[1]); o.update()",
  discard: "o.accumulate(0, g[0]); o.discard()",
  "addTerm and removeTerm": "o.addTerm('c'); o.step(g); o.removeTerm('c')",
  addParamGroup: "if (k < 50) o.addParamGroup({ parameters: [{ name: 'q' + k, data: added[k] }] })",
  lr: "o.lr = k",
  weights: "o.weights = [1, 2]; o.weights = { b: 3 }",
  stateDict: "o.stateDict()",
  loadStateDict: "o.loadStateDict(saved)",
  "a schedule": "o.lr = (n) => 0.1 / (1 + n); o.step(g.slice(0, 2)); o.lr = 0.1",
  prepare: "o.prepare(g.slice(0, 2))",
};

test("an interrupted call leaves an optimizer that is whole", async () => {
  const wanted = Number(process.env["MTADAM_INTERRUPTIONS"] ?? 0);
  const end = performance.now() + 3000;
  const left = { open: 0, unrestored: 0, nothing: 0 };
  const names = Object.keys(CALLS);
  let count = 0;
  for (; count < wanted || (wanted === 0 && performance.now() < end); ++count) {
    const name = names[count % names.length]!;
    const stage = new Stage();
    const { optimizer } = stage;
    stage.step();
    stage.saved = await optimizer.stateDict();
    stage.interrupt(CALLS[name]!);

    // In the same turn: no mark remains until the end of the turn.
    expect(await codeOf(() => optimizer.addGradients(null, null))).toMatch(/^(none|ERR_MTADAM_STATE)$/);
    const what = await stage.close();
    left[what] += 1;
    const { terms, weights, iterations } = optimizer;
    const state = await optimizer.stateDict();
    const { metadata } = state;
    expect([name, metadata.terms, metadata.options.weights]).toEqual([name, terms, weights]);
    expect([name, metadata.iterations]).toEqual([name, iterations]);
    expect([name, new Set(optimizer.paramGroups.map(({ lr }) => lr)).size]).toEqual([name, 1]);
    if (name !== "discard")
      expect([name, clockOf(state)]).toEqual([name, iterations + Number(what === "open")]);
    stage.step();
    expect(optimizer.iterations).toBe(iterations + 1);
    optimizer.dispose();
  }
  expect(count).toBeGreaterThan(0);
  if (wanted > 0) process.stdout.write(`${count} interrupted: ${JSON.stringify(left)}\n`);
}, 3_600_000);

test.each<[string, (stage: Stage) => void, terms: number, groups: number]>([
  ["addTerm", ({ optimizer }) => optimizer.addTerm("c"), 3, TENSORS],
  ["removeTerm", ({ optimizer }) => optimizer.removeTerm("a"), 1, TENSORS],
  [
    "addParamGroup",
    ({ optimizer, added }) => optimizer.addParamGroup({ parameters: [{ name: "q", data: added[0]! }] }),
    2,
    TENSORS + 1,
  ],
])("%s that ends once native code has changed is complete", (_, call, terms, groups) => {
  const stage = new Stage();
  const { optimizer, prepared } = stage;
  const settle = jest.spyOn(Generation.prototype, "isOf").mockImplementationOnce(() => {
    throw new RangeError("ended");
  });
  expect(() => call(stage)).toThrow("ended");
  settle.mockRestore();
  expect([optimizer.terms, optimizer.weights].map(({ length }) => length)).toEqual([terms, terms]);
  expect(optimizer.paramGroups).toHaveLength(groups);
  expect(() => optimizer.step(prepared)).toThrow(/`prepare` must be called again/);
  stage.step();
});

describe("gradients that native code has and the list lacks", () => {
  /** Ends `prepared.set` or a step after native code has the address. */
  const ended = (call: () => void): void => {
    const set = jest.spyOn(SourceList.prototype, "set").mockImplementationOnce(() => {
      throw new RangeError("ended");
    });
    expect(call).toThrow("ended");
    set.mockRestore();
  };

  test("are replaced by those of the list before the next step", async () => {
    const [one, other] = [new Stage(), new Stage()];
    ended(() => one.prepared.set(0, 3, one.more[0]));
    one.more[0]!.dispose();
    for (const { optimizer, prepared } of [one, other]) optimizer.step(prepared);
    expect(await one.parameters[3]!.download()).toEqual(await other.parameters[3]!.download());
  });

  test("also if another gradient is set meanwhile", async () => {
    const [one, other] = [new Stage(), new Stage()];
    ended(() => one.prepared.set(0, 3, one.more[0]));
    for (const { optimizer, prepared, more } of [one, other]) {
      prepared.set(1, 5, more[1]);
      optimizer.step(prepared);
    }
    for (const k of [3, 5]) {
      expect(await one.parameters[k]!.download()).toEqual(await other.parameters[k]!.download());
    }
  });

  test("and a refused gradient leaves nothing to correct", () => {
    const { optimizer, prepared, parameters, gradients, more } = new Stage();
    const table = jest.spyOn(GradientTable.prototype, "set");
    expect(() => prepared.set(0, 3, parameters[0])).toThrow(/overlaps/);
    gradients[0]![3]!.dispose();
    prepared.set(0, 3, more[0]);
    optimizer.step(prepared);
    expect(table).toHaveBeenCalledTimes(2);
    table.mockRestore();
  });
});
