import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { openDevice, writeReport } from "mtadam";
import { runProgram } from "../common/command-line.mjs";
import { Interrupt } from "../common/interrupt.mjs";
import { textTable } from "../common/table.mjs";
import { Accuracy } from "./accuracy.mjs";
import { ARMS, type Trainee } from "./arms.mjs";
import { BATCH, batchCount, loadMnist } from "./data.mjs";
import { Model } from "./model.mjs";
import { HELP, parseOptions, type Options } from "./options.mjs";
import { Progress, clock } from "./progress.mjs";
import { notes } from "./notes.mjs";
import { countedRounds, summarise, type RoundResult } from "./results.mjs";
import { COLUMNS, cells } from "./table.mjs";
import { trainRound } from "./train.mjs";

/** Trains, prints the table, writes the report. Returns the exit code. */
async function demo(options: Options): Promise<number> {
  const start = performance.now();
  const device = openDevice(options.device);
  const [{ train, test }, model] = await Promise.all([loadMnist(), Model.create()]);
  const accuracy = new Accuracy(model, test);
  const steps = Math.min(options.steps ?? Infinity, batchCount(train, options.epochs));
  const { seed, epochs } = options;
  console.log(
    `MNIST, ten loss terms, ${ARMS.length} arms side by side: rounds of ${steps} steps of ${BATCH} images, ` +
      `${options.rounds} in all, seed ${seed}, optimizer on ${device.name}.`,
  );

  const progress = new Progress(options.rounds, steps);
  const onStep = (round: number, step: number, trainees: readonly Trainee[]) =>
    progress.update(
      round,
      step,
      trainees.map(({ arm, crossEntropy }) => ({ name: arm.short, value: crossEntropy })),
    );
  using interrupt = new Interrupt(() => progress.stop());
  const rounds: RoundResult[] = [];
  const folder = await mkdtemp(join(tmpdir(), "mtadam-demo-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  try {
    for (let round = 1; round <= options.rounds && !interrupt.signal.aborted; ++round) {
      const stop = interrupt.signal;
      const result = await trainRound(
        { train, model, accuracy, device, folder, seed, epochs, steps, stop, onStep },
        round,
      );
      if (result) rounds.push(result);
    }
  } finally {
    progress.stop();
  }

  if (rounds.length === 0) {
    console.log("\nStopped before the first step: nothing to report.");
    return 130;
  }
  const counted = countedRounds(rounds);
  const last = rounds.at(-1)!;
  const finished = last.round === options.rounds && last.steps === steps;
  const stopped = finished ? undefined : describeStop(last, counted, options.rounds);
  console.log(`\n${textTable([COLUMNS, ...summarise(counted).map(cells)])}\n`);
  console.log(
    `Accuracy on the ${test.count.toLocaleString("en")} test images, mean over ${plural(counted.length, "round")}; ` +
      "times are per step.",
  );
  if (stopped) console.log(stopped);
  const seconds = (performance.now() - start) / 1000;
  const files = rounds[0]!.arms.flatMap(({ monitored }) => monitored ?? []);
  const title = "MNIST: ten losses, wrongly weighted";
  await writeReport(files, options.report, {
    title,
    notes: notes({ rounds, options, device: device.name, stopped }),
  });
  console.log(`Took ${clock(seconds)}. Report: ${relative("", options.report)}`);
  return stopped ? 130 : 0;
}

function describeStop(last: RoundResult, counted: readonly RoundResult[], rounds: number): string {
  const where = `Stopped in round ${last.round} of ${rounds} after ${last.steps} of ${last.plannedSteps} steps`;
  const complete = counted[0]!.steps === last.plannedSteps;
  return complete
    ? `${where}; the figures are those of ${plural(counted.length, "complete round")}.`
    : `${where}.`;
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

await runProgram(async (args) => {
  const options = parseOptions(args);
  if (!options.help) return demo(options);
  console.log(HELP);
  return 0;
});
