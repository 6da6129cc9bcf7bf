import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import process from "node:process";
import { parseArgs } from "node:util";
import { MTAdam } from "mtadam";
import { connectMpi } from "mtadam/distributed";
import { randomFor, shuffled } from "../common/random.mjs";
import { Accuracy } from "../mnist/accuracy.mjs";
import { BATCH, loadMnist, normalise, PIXELS, type Batch, type Dataset } from "../mnist/data.mjs";
import { initialValues, Model, PARAMETERS, type Values } from "../mnist/model.mjs";

// MNIST on several ranks, with a loss per digit. `--ranks 4` starts mpirun with this program; under mpirun, the program is
// one rank. The parameters and the accuracy are the same, bit by bit, on 1, 2 and 4 ranks.

const MICRO_BATCHES = 4; // of 64 images, in a step, over all ranks
const WEIGHTS = [1, 900, 3, 500, 20, 700, 1, 90, 300, 40]; // of the digits' losses
const TERMS = WEIGHTS.map((_, digit) => `digit ${digit}`);

const { values } = parseArgs({
  options: { ranks: { type: "string" }, steps: { type: "string", default: "60" } },
});
if (values.ranks === undefined) await train(Number(values.steps));
else launch(values.ranks, values.steps);

function launch(ranks: string, steps: string): void {
  const command = [...process.execArgv, process.argv[1]!, "--steps", steps];
  const { error, status } = spawnSync("mpirun", ["-n", ranks, process.execPath, ...command], {
    stdio: "inherit",
    // Open MPI would refuse more ranks than cores.
    env: { OMPI_MCA_rmaps_base_oversubscribe: "1", ...process.env },
  });
  if (error !== undefined) {
    console.error("There is no `mpirun`: install Open MPI or MPICH (Debian: apt-get install openmpi-bin).");
  }
  process.exitCode = status ?? 1;
}

async function train(steps: number): Promise<void> {
  const comm = await connectMpi();
  if (MICRO_BATCHES % comm.size !== 0)
    throw new Error(`The ranks must divide ${MICRO_BATCHES} micro-batches.`);
  const count = MICRO_BATCHES / comm.size;
  const { train: images, test } = await loadMnist();
  const model = await Model.create();
  // The same on every rank: the initial parameters, and the order of the images.
  const parameters = initialValues(randomFor(0, 0, "parameters"));
  const order = shuffled(images.count, randomFor(0, 0, "order"));
  const optimizer = new MTAdam(
    PARAMETERS.map(({ name, shape }, k) => ({ name, shape, data: parameters[k]! })),
    {
      terms: TERMS,
      preset: "recommended",
      distributed: comm,
      shard: "state",
      reduction: "ordered",
    },
  );
  for (let step = 0; step < steps; ++step) {
    const ofRank: Values[][] = [];
    for (let k = 0; k < count; ++k) {
      const number = MICRO_BATCHES * step + comm.rank * count + k;
      ofRank.push(
        (await model.gradientOfEach(parameters, microBatch(images, order, number), WEIGHTS)).gradients,
      );
    }
    // A rank adds neighbours first, as the ranks do.
    for (let apart = 1; apart < count; apart *= 2) {
      for (let k = 0; k + apart < count; k += 2 * apart) {
        for (const [term, gradients] of ofRank[k]!.entries()) {
          optimizer.addGradients(gradients, ofRank[k + apart]![term]);
        }
      }
    }
    optimizer.step(ofRank[0]!, { gradientScale: count });
    if (comm.rank === 0 && (step + 1) % 20 === 0) console.log(`step ${step + 1} of ${steps}`);
  }
  await comm.barrier();
  if (comm.rank !== 0) return;
  const { all } = await new Accuracy(model, test).of(parameters);
  const digest = createHash("sha256");
  for (const { buffer, byteOffset, byteLength } of parameters) {
    digest.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  const recognised = `${(100 * all).toFixed(2)} % of the test images recognised`;
  console.log(
    `${comm.size} ranks, ${comm.library}: ${recognised}, parameters ${digest.digest("hex").slice(0, 16)}`,
  );
}

function microBatch(set: Dataset, order: Uint32Array, number: number): Batch {
  const start = (BATCH * number) % (set.count - BATCH);
  const indices = order.subarray(start, start + BATCH);
  const images = normalise(set, indices, new Float32Array(BATCH * PIXELS));
  return { size: BATCH, images, labels: Uint8Array.from(indices, (index) => set.labels[index]!) };
}
