import fc from "fast-check";
import type { Device } from "../../../lib/memory/device";
import { ACCEPTED, isOpen, SKIPPED } from "./accepted";
import { Draw } from "./draw";
import { REFUSED } from "./refused";
import { World } from "./world";

/** How many calls ran, also in sequences that were made shorter after a failure. */
export interface Counts {
  accepted: number;
  refused: number;
}

/** The most steps between two comparisons with the shadow. */
const MOST_STEPS = 4;

/** One call of a sequence. Its choices depend on its seed and on the calls before it. */
class RandomCall implements fc.AsyncCommand<object, World> {
  readonly #name: string;
  readonly #seed: number;
  readonly #counts: Counts;

  constructor(name: string, seed: number, counts: Counts) {
    this.#name = name;
    this.#seed = seed;
    this.#counts = counts;
  }

  check(): boolean {
    return true;
  }

  async run(_: object, world: World): Promise<void> {
    const draw = new Draw(this.#seed);
    const accepted = ACCEPTED[this.#name];
    if (accepted !== undefined) {
      if ((await accepted.call({ world, draw })) === SKIPPED) return;
      this.#counts.accepted += 1;
    } else {
      const refused = REFUSED[this.#name]!.refusal({ world, draw });
      if (refused === undefined) return;
      this.#counts.refused += 1;
      // The optimizer may look at the open step before it looks at the arguments.
      const codes = isOpen(world) ? [...refused.codes, "STATE"] : refused.codes;
      await world.refuse(this.toString(), codes, refused.call);
    }
    if (draw.chance(0.25) || world.shadow.steps >= MOST_STEPS) await world.verify();
  }

  toString(): string {
    return `${this.#name} (${this.#seed})`;
  }
}

/** Sequences of random calls. A sequence that fails is made shorter. */
export function randomCalls(
  device: (seed: number) => Device,
  folder: string,
  counts: Counts,
): fc.IAsyncProperty<unknown> {
  const often = { ...ACCEPTED, ...REFUSED };
  const names = fc.oneof(
    ...Object.entries(often).map(([name, { often: weight }]) => ({
      weight: Math.ceil(10 * weight),
      arbitrary: fc.constant(name),
    })),
  );
  const call = fc.tuple(names, fc.nat(2 ** 31 - 1)).map(([name, seed]) => new RandomCall(name, seed, counts));
  return fc.asyncProperty(
    fc.noShrink(fc.nat(2 ** 31 - 1)),
    fc.commands([call], { maxCommands: 150, size: "max" }),
    async (seed, calls) => {
      const world = World.make(device(seed), new Draw(seed), folder);
      await fc.asyncModelRun(() => ({ model: {}, real: world }), calls);
      await world.end();
    },
  );
}
