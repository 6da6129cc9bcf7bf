import { MTAdam, openDevice, type Device, type MTAdamOptions } from "mtadam";
import { textTable } from "../../examples/common/table.mjs";
import { STATES } from "../common/states.mjs";
import type { Roof } from "./roof.mjs";
import type { Traffic } from "./traffic.mjs";

const ELEMENTS = 1 << 23;
const SECONDS = 8;

/** By the option `scales`: with lagged ones, a step reads each gradient once. */
const SCALES = {
  current: {},
  lagged: { scales: "lagged", betas: [0.9, 0.999, 0.999] },
} as const satisfies Record<string, Partial<MTAdamOptions>>;

/** Returns a function that takes a step and returns its seconds. */
function stepper(options: Partial<MTAdamOptions>, terms: number): () => number {
  const optimizer = new MTAdam([new Float32Array(ELEMENTS).fill(0.5)], { ...options, terms });
  const gradients = optimizer.prepare(
    Array.from({ length: terms }, (_, term) => [new Float32Array(ELEMENTS).fill(0.01 * (term + 1))]),
  );
  return () => {
    const start = performance.now();
    optimizer.step(gradients);
    return (performance.now() - start) / 1000;
  };
}

/**
 * A step as passes over float32 arrays of half as many elements, so that planes of all types are whole numbers of them.
 *
 * @param bytes of state per parameter, without exponents
 */
function trafficInHalves(bytes: number, terms: number, lagged: boolean): Traffic {
  const [readOnly, updated] = [2 * terms, (4 + bytes) / 2];
  const sums = Math.min(readOnly, updated);
  const reads = readOnly - sums + (lagged ? 0 : readOnly);
  return { readOnly, updated, reads, sums, updates: updated - sums };
}

/** The least times of float32 per term, of a step and of plain loops that move its bytes, all three in turn. */
async function compare(
  options: Partial<MTAdamOptions>,
  device: Device,
  terms: number,
  loops: () => Promise<number>,
): Promise<[usual: number, own: number, loops: number]> {
  const timed = [stepper({ device }, terms), stepper({ ...options, device }, terms), loops];
  const least: [number, number, number] = [Infinity, Infinity, Infinity];
  const end = performance.now() + SECONDS * 1000;
  while (performance.now() < end) {
    for (const [k, time] of timed.entries()) least[k] = Math.min(least[k]!, await time());
  }
  return least;
}

/**
 * Prints how long a step takes with moments of each type and form, with current and with lagged scales: the ratio to
 * float32 per term, and the share of the speed at which plain loops move the same bytes.
 */
export async function compareStates(terms: readonly number[], threads: number, roof: Roof): Promise<void> {
  const device = openDevice("cpu", { threads });
  const rows: string[][] = [];
  try {
    for (const count of terms) {
      for (const { stateDtype, form, options, bytes } of STATES) {
        for (const [scales, ofScales] of Object.entries(SCALES)) {
          const traffic = trafficInHalves(bytes(count), count, scales === "lagged");
          // A turn of no time: one call at a time.
          await roof.prepare({ elements: ELEMENTS / 2, sets: 1, turn: 0 }, traffic);
          const loops = async () => (await roof.measure(traffic)).traffic!;
          const [usual, own, roofs] = await compare({ ...options, ...ofScales }, device, count, loops);
          await roof.free();
          const figures = [(own * 1000).toFixed(1), (own / usual).toFixed(2), (roofs / own).toFixed(2)];
          rows.push([String(count), stateDtype, form, scales, ...figures]);
        }
      }
    }
  } finally {
    await roof.end();
  }
  const head = ["terms", "stateDtype", "moments", "scales", "ms", "of float32 per term", "of the roof"];
  console.log(textTable([head, ...rows]));
}
