/**
 * Random calls, valid and invalid, in random order. A call that is accepted must have the effect that it has on a second
 * optimizer on the plainest device (bit for bit) and on the oracle (within rounding). A call that is refused must have
 * its code and change nothing. For more calls:
 *
 *   MTADAM_RANDOM_CALLS=1000000 npx jest --selectProjects cpu executor -- test/api/random-calls-test.ts
 *
 * MTADAM_RANDOM_SEED repeats a run from its seed, which is printed.
 */

import fc from "fast-check";
import { MTAdam } from "../../lib";
import { Generation } from "../../lib/generation";
import { testDevice } from "../support/device";
import { executor } from "../support/executor";
import { temporaryFolder } from "../support/folder";
import { randomCalls, type Counts } from "../support/random-calls/run";
import { worst } from "../support/random-calls/shadow";

const wanted = Number(process.env["MTADAM_RANDOM_CALLS"] ?? NaN);
const isByHand = !Number.isNaN(wanted);
const SECONDS = Number(process.env["MTADAM_RANDOM_SECONDS"] ?? 15);
const BATCH = 10;
/** Calls after which the counts and the current seed are printed. */
const REPORT = 20_000;

const folder = temporaryFolder();

const devices = [testDevice({ threads: 2 }), testDevice({ threads: 1 })] as const;

/** The device of a sequence. */
function device(seed: number): (typeof devices)[number] {
  if (testDeviceKind === "executor") {
    executor().setExecution((["eager", "lazy", "random"] as const)[seed % 3]!, seed);
  }
  return devices[(seed & 1) as 0 | 1];
}

test(
  "random calls have their effects, and refused calls none",
  async () => {
    const seed = Number(process.env["MTADAM_RANDOM_SEED"] ?? Date.now() & 0x7fffffff);
    const counts: Counts = { accepted: 0, refused: 0 };
    const property = randomCalls(device, folder, counts);
    const end = Date.now() + SECONDS * 1000;
    const total = (): number => counts.accepted + counts.refused;
    let reported = -Infinity;
    for (let done = 0; isByHand ? total() < wanted : Date.now() < end; done += BATCH) {
      // Also while it runs: a process that crashes prints no seed.
      if (total() >= reported + REPORT) {
        reported = total();
        const { accepted, refused } = counts;
        process.stdout.write(`random calls: ${accepted} accepted, ${refused} refused; seed ${seed + done}\n`);
      }
      await fc.assert(property, { numRuns: BATCH, seed: seed + done });
    }
    const { ratio, what } = worst;
    process.stdout.write(
      `random calls: ${counts.accepted} accepted, ${counts.refused} refused; largest error: ${ratio.toFixed(3)} of what is allowed, ${what}\n`,
    );
    expect(counts.accepted).toBeGreaterThan(0);
    expect(counts.refused).toBeGreaterThan(0);
  },
  isByHand ? 2 ** 31 - 1 : 300_000,
);

describe("the driver finds", () => {
  /** The error of the first sequence that fails. */
  async function failure(): Promise<string> {
    const property = randomCalls(device, folder, { accepted: 0, refused: 0 });
    const { errorInstance } = await fc.check(property, { numRuns: 50, seed: 1, endOnFailure: true });
    return String(errorInstance);
  }

  afterEach(() => {
    jest.restoreAllMocks();
  });

  test("weights that are wrong by a thousandth", async () => {
    // eslint-disable-next-line @typescript-eslint/unbound-method -- called with its `this`
    const { pack } = Generation.prototype;
    jest.spyOn(Generation.prototype, "pack").mockImplementation(function (this: Generation, call, groups) {
      return pack.call(this, { ...call, weights: call.weights.map((weight) => weight * 1.001) }, groups);
    });
    expect(await failure()).toMatch(/, and the shadow has /);
  });

  test("a refused call that changes an option", async () => {
    // eslint-disable-next-line @typescript-eslint/unbound-method -- called with its `this`
    const { addTerm } = MTAdam.prototype;
    jest.spyOn(MTAdam.prototype, "addTerm").mockImplementation(function (this: MTAdam, name) {
      try {
        return addTerm.call(this, name);
      } catch (error) {
        this.lr = 0.5;
        throw error;
      }
    });
    expect(await failure()).toMatch(/, [A-Z]+, changed\n|, and the twin has /);
  });
});
