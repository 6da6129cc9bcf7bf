import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import process from "node:process";
import { parseArgs } from "node:util";
import { MTAdam } from "mtadam";
import { connectMpi } from "mtadam/distributed";

// A network with two outputs, a loss for each, trained on several ranks. `--ranks 4` starts mpirun with this program; under
// mpirun, the program is one rank. The result is the same, bit by bit, on 1, 2 and 4 ranks.

const INPUTS = 8;
const HIDDEN = 500;
const EXAMPLES = 16; // in a micro-batch
const MICRO_BATCHES = 4; // in a step, over all ranks
const STEPS = 50;

const { values } = parseArgs({ options: { ranks: { type: "string" } } });
if (values.ranks === undefined) await train();
else launch(values.ranks);

function launch(ranks: string): void {
  const [program, ...rest] = [process.argv[1]!, ...process.execArgv];
  const { error, status } = spawnSync("mpirun", ["-n", ranks, process.execPath, ...rest, program], {
    stdio: "inherit",
  });
  if (error !== undefined) {
    console.error("There is no `mpirun`: install Open MPI or MPICH (Debian: apt-get install openmpi-bin).");
  }
  process.exitCode = status ?? 1;
}

async function train(): Promise<void> {
  const comm = await connectMpi();
  // Every rank starts with the same parameters.
  const draw = random(1);
  const inner = Float32Array.from({ length: HIDDEN * INPUTS }, draw);
  const outer = Float32Array.from({ length: 2 * HIDDEN }, () => draw() / 10);
  const optimizer = new MTAdam([inner, outer], {
    terms: ["small", "large"],
    preset: "recommended",
    lr: 0.003,
    distributed: comm,
    shard: "state",
    reduction: "ordered",
  });
  if (MICRO_BATCHES % comm.size !== 0)
    throw new Error(`The ranks must divide ${MICRO_BATCHES} micro-batches.`);
  const count = MICRO_BATCHES / comm.size;
  for (let step = 0; step < STEPS; ++step) {
    // Each rank has its own micro-batches. It adds neighbours first, as the ranks do.
    const batches = Array.from({ length: count }, (_, k) =>
      gradients([inner, outer], MICRO_BATCHES * step + comm.rank * count + k),
    );
    for (let apart = 1; apart < count; apart *= 2) {
      for (let k = 0; k + apart < count; k += 2 * apart) {
        for (const term of ["small", "large"] as const) {
          optimizer.addGradients(batches[k]![term], batches[k + apart]![term]);
        }
        batches[k]!.losses = batches[k]!.losses.map((loss, term) => loss + batches[k + apart]!.losses[term]!);
      }
    }
    const { small, large, losses } = batches[0]!;
    optimizer.step({ small, large }, { gradientScale: count });
    if (comm.rank === 0 && step % 25 === 24) {
      console.log(
        `step ${step + 1}, losses on rank 0: ${losses.map((loss) => (loss / count).toPrecision(3)).join(", ")}`,
      );
    }
  }
  await comm.barrier();
  if (comm.rank !== 0) return;
  const digest = createHash("sha256")
    .update(new Uint8Array(inner.buffer))
    .update(new Uint8Array(outer.buffer));
  console.log(`${comm.size} ranks, ${comm.library}: parameters ${digest.digest("hex").slice(0, 16)}`);
}

interface Batch {
  small: [Float32Array, Float32Array];
  large: [Float32Array, Float32Array];
  losses: number[];
}

/** The gradients of both losses, mean squared errors, for one micro-batch. */
function gradients([inner, outer]: [Float32Array, Float32Array], batch: number): Batch {
  const draw = random(1000 + batch);
  const make = (): [Float32Array, Float32Array] => [
    new Float32Array(inner.length),
    new Float32Array(outer.length),
  ];
  const result: Batch = { small: make(), large: make(), losses: [0, 0] };
  for (let example = 0; example < EXAMPLES; ++example) {
    const x = Float32Array.from({ length: INPUTS }, draw);
    const targets = [x[0]! * x[1]!, 100 * Math.sin(3 * x[2]!)];
    const hidden = Array.from({ length: HIDDEN }, (_, h) =>
      Math.tanh(x.reduce((sum, value, k) => sum + value * inner[h * INPUTS + k]!, 0)),
    );
    for (const [term, [ofInner, ofOuter]] of [result.small, result.large].entries()) {
      const output = hidden.reduce((sum, value, h) => sum + value * outer[term * HIDDEN + h]!, 0);
      const error = (output - targets[term]!) / EXAMPLES;
      result.losses[term]! += error * error * EXAMPLES;
      for (const [h, value] of hidden.entries()) {
        ofOuter[term * HIDDEN + h]! += 2 * error * value;
        const slope = 2 * error * outer[term * HIDDEN + h]! * (1 - value * value);
        for (let k = 0; k < INPUTS; ++k) ofInner[h * INPUTS + k]! += slope * x[k]!;
      }
    }
  }
  return result;
}

/** The same numbers on every rank, from −1 to 1. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}
