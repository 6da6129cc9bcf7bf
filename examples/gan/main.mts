import { join } from "node:path";
import { openDevice, type Diagnostics } from "mtadam";
import { runProgram } from "../common/command-line.mjs";
import { Interrupt } from "../common/interrupt.mjs";
import { textTable } from "../common/table.mjs";
import { Checkpoints } from "./checkpoints.mjs";
import { ARMS, Gan, type Arm } from "./gan.mjs";
import { HELP, parseOptions, type Options } from "./options.mjs";
import type { Device, Player } from "./player.mjs";
import { qualityOf, qualityOfRing, type Quality } from "./ring.mjs";

const SAMPLE = 4000;
const SAVE_EVERY = 500;
const TELL_EVERY = 500;

async function train(arm: Arm, device: Device, options: Options, stop: AbortSignal): Promise<Quality[]> {
  console.log(`\n${arm.name}`);
  const gan = new Gan({ device, arm, seed: options.seed });
  const before = qualityOf(await gan.sample(SAMPLE));

  const checkpoints =
    options.checkpoints === undefined ? undefined : new Checkpoints(join(options.checkpoints, arm.key));
  const saved = await checkpoints?.latest();
  if (saved !== undefined) {
    await gan.load(saved);
    console.log(`  goes on after step ${gan.steps}`);
  }
  const save = () => checkpoints?.save(gan.steps, (folder) => gan.save(folder));

  if (arm.balanced) for (const player of [gan.generator, gan.discriminator]) tellOf(player);
  while (gan.steps < options.steps && !stop.aborted) {
    await gan.step();
    if (gan.steps % SAVE_EVERY === 0) await save();
    // Lets a signal arrive: on the CPU, no promise above waits for the event loop.
    await new Promise((resume) => setImmediate(resume));
  }
  await save();
  const after = qualityOf(await gan.sample(SAMPLE));
  gan.dispose();
  return [before, after];
}

/** Prints the scales of the terms' gradients now and then. The training does not wait for it. */
function tellOf({ name, optimizer }: Player): void {
  optimizer.onStats(
    (diagnostics) => {
      const scales = diagnostics.terms.map(
        (term, i) => `${term} × ${meanScale(diagnostics, i).toPrecision(2)}`,
      );
      console.log(`  step ${diagnostics.iteration}, ${name}: ${scales.join(", ")}`);
    },
    { every: TELL_EVERY },
  );
}

/** The geometric mean over the layers in which the term occurs. */
function meanScale({ scales, layers }: Diagnostics, term: number): number {
  const ofTerm = scales.subarray(term * layers.length, (term + 1) * layers.length);
  const logarithms = [...ofTerm].filter((scale) => scale > 0).map(Math.log);
  return Math.exp(logarithms.reduce((sum, value) => sum + value, 0) / logarithms.length);
}

function cells(name: string, quality: Quality | undefined): string[] {
  if (!quality) return [name, "–", "–", "–"];
  const { modes, near, distance } = quality;
  return [name, `${modes} of 8`, `${(100 * near).toFixed(0)} %`, distance.toFixed(3)];
}

await runProgram(async (args) => {
  const options = parseOptions(args);
  if (options.help) {
    console.log(HELP);
    return 0;
  }
  const start = performance.now();
  const device = openDevice(options.device);
  console.log(
    `A ring of eight Gaussians, ${options.steps} steps, seed ${options.seed}, optimizers on ${device.name}.`,
  );
  using interrupt = new Interrupt(() => undefined);
  const rows = [["", "modes covered", "near a mode", "mean distance"]];
  for (const arm of ARMS) {
    const [before, after] = interrupt.signal.aborted
      ? []
      : await train(arm, device, options, interrupt.signal);
    if (rows.length === 1) rows.push(cells("before training", before));
    rows.push(cells(arm.name, after));
  }
  rows.push(cells("the ring itself", qualityOfRing(options.seed)));
  console.log(`\n${textTable(rows)}\n`);
  console.log(`${SAMPLE} points; near means within three standard deviations of a centre.`);
  console.log(`Took ${((performance.now() - start) / 1000).toFixed(0)} s.`);
  return interrupt.signal.aborted ? 130 : 0;
});
