import { BATCH } from "./data.mjs";
import type { Options } from "./options.mjs";
import { countedRounds, summarise, type RoundResult } from "./results.mjs";
import { cells } from "./table.mjs";

interface Facts {
  /** At least one. */
  rounds: readonly RoundResult[];
  options: Options;
  /** The name of the optimizer's device. */
  device: string;
  /** If the training was stopped: where. */
  stopped: string | undefined;
}

/** The paragraphs of the report. */
export function notes({ rounds, options, device, stopped }: Facts): string[] {
  const counted = countedRounds(rounds);
  const { steps } = counted[0]!;
  const which = counted.length === 1 ? "one round" : `${counted.length} rounds`;
  const results = summarise(counted).map((summary) => {
    const [name, accuracy, deviation] = cells(summary);
    return `${name}: ${accuracy}${counted.length === 1 ? "" : ` (s.d. ${deviation})`}`;
  });
  return [
    `Network 784-128-10, ${which} of ${steps} steps of ${BATCH} images, learning rate 0.001, seed ${options.seed}, ` +
      `optimizer on ${device}.`,
    ...(stopped === undefined ? [] : [stopped]),
    "The loss is split into ten terms, one for each digit, and each term is multiplied by an arbitrary weight: 1 for the " +
      "digit 0, up to 1000 for the others. Adam on their sum learns what the weights happen to favour. MTAdam scales " +
      "each term’s gradient by itself, so that the weights hardly matter: it should come close to Adam with equal weights.",
    `Test accuracy after the last step: ${results.join("; ")}. The charts show the first round.`,
  ];
}
